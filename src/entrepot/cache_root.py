"""Removing and replacing what lies in a cache, by descriptor, and counting what the disk gets back.

What may go is decided before. Everything is reached from one descriptor of the cache's root. Links
on the way to the root are resolved once; below it no link is followed and no other mount is
entered. When somebody swaps folders for links meanwhile, nothing outside the cache changes. Root
changes nothing in a cache of another user.

A tree is walked with three descriptors however deep it is: the way back up is ``..``, and its inode
must be the one that was seen on the way down.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from entrepot.fs import disk_of

BY_DESCRIPTOR = {os.open, os.stat, os.unlink, os.rmdir, os.rename, os.mkdir} <= os.supports_dir_fd
"""Whether the system has ``openat`` and the like. Windows does not: paths are used there."""
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NOFOLLOW
_PASS = _READ | getattr(os, "O_PATH", 0)
"""For a folder on the way: with ``O_PATH`` it need not be readable."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | getattr(os, "O_BINARY", 0)
_NO_FOLDER = (errno.ELOOP, errno.ENOTDIR)
"""What opening a folder fails with when a link or a file is there."""


class Refused(OSError):
    """Kept by a rule of ours, not by the system; ``strerror`` is the reason as a sentence."""


@dataclass(slots=True)
class Freed:
    """What was given back, by inode: a file's blocks count when its last link goes."""

    bytes: int = 0
    files: int = 0


class Root:
    """A cache's directory, held open. Paths given to it are absolute and begin with its own path.

    Args:
        path: the directory.
        freed: where to count; ``None``: a count of its own.

    Raises:
        Refused: this is root, and the cache is another user's.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path | str, freed: Freed | None = None) -> None:
        self.path = os.fspath(path)
        self.freed = Freed() if freed is None else freed
        self._real = os.path.realpath(self.path)
        self._fd: int | None = None
        euid = os.geteuid() if hasattr(os, "geteuid") else -1
        if why := foreign(self.path, euid):
            raise Refused(errno.EPERM, why, self.path)
        if not BY_DESCRIPTOR:
            return
        self._fd = os.open(self._real, _READ)
        self._mount = _mount_of(self._fd)
        owner = os.fstat(self._fd).st_uid
        if euid == 0 and owner:  # asked of what is open: the path may lead elsewhere by now
            self.close()
            raise Refused(errno.EPERM, _run_as(owner), self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @contextmanager
    def folder(self, path: Path | str) -> Iterator[Folder]:
        """Open a directory of the cache.

        Raises:
            Refused: a link leads there, or it lies in another mount or outside the root.
            OSError: it cannot be opened.
        """
        text = os.fspath(path)
        names = self._names(text)
        fds = [] if self._fd is None else [self._fd]
        try:
            for name in names if fds else ():
                fds.append(_open(name, _PASS, fds[-1], text))
            if len(fds) > 1:  # below a mount everything is in it: the last folder tells for all
                self._stay_in(fds[-1], text)
            yield Folder(self, text, names, fds)
        finally:
            for fd in fds[1:]:
                os.close(fd)

    def _names(self, path: str) -> list[str]:
        if path == self.path:
            return []
        names = path[len(self.path) :].strip(os.sep).split(os.sep)
        if not path.startswith(self.path.rstrip(os.sep) + os.sep) or {"", ".", ".."} & set(names):
            raise Refused(errno.EXDEV, f"{path} lies outside {self.path}", path)
        return names

    def _stay_in(self, fd: int, path: str) -> None:
        if _mount_of(fd) != self._mount:
            raise Refused(errno.EXDEV, f"{path} lies in another mount", path)

    def unlink(self, path: Path | str) -> None:
        """Remove one file or link; one that is gone counts nothing."""
        with suppress(FileNotFoundError), self._around(path) as (folder, name):
            folder.unlink(name)

    def rmdir(self, path: Path | str) -> None:
        """Remove an empty directory."""
        with self._around(path) as (folder, name):
            folder.rmdir(name)

    def remove(self, path: Path | str) -> None:
        """Remove a file, a link, or a directory with its content; what is gone counts nothing.

        Raises:
            Refused: something is mounted in it.
            OSError: something could not be removed; the rest may be gone.
        """
        with suppress(FileNotFoundError), self._around(path) as (folder, name):
            folder.remove(name)

    def move(self, path: Path | str, to: Path | str) -> None:
        """Rename something within the cache.

        Raises:
            Refused: something is mounted in it, which would move along.
            OSError: it could not be renamed.
        """
        with self._around(path) as (old, name), self._around(to) as (new, other):
            if stat.S_ISDIR(
                old.stat(name).st_mode
            ):  # a file that is mounted cannot be renamed anyway
                self._without_mounts(os.fspath(path))
            os.rename(old.at(name), new.at(other), src_dir_fd=old.fd, dst_dir_fd=new.fd)

    def make_folder(self, path: Path | str, mode: int = 0o777) -> None:
        """Make a directory and those above it that are missing, below the root."""
        at = self.path
        for name in self._names(os.fspath(path)):
            with self.folder(at) as folder, suppress(FileExistsError):
                os.mkdir(folder.at(name), mode, dir_fd=folder.fd)
            at = os.path.join(at, name)  # strings are quicker

    @contextmanager
    def _around(self, path: Path | str) -> Iterator[tuple[Folder, str]]:
        above, name = os.path.split(os.fspath(path))
        try:
            with self.folder(above) as folder:
                yield folder, name
        except OSError as exc:
            if not (isinstance(exc.filename, str) and os.path.isabs(exc.filename)):
                exc.filename = os.fspath(path)
            raise

    def _without_mounts(self, path: str) -> None:
        """Refuse what something is mounted in before any of it is touched."""
        for point in _mounted_at(self._real + path[len(self.path) :]):
            shown = self.path + point[len(self._real) :]
            raise Refused(errno.EBUSY, mounted(shown), path)


class Folder:
    """A directory of a cache, held open with those above it, made by :meth:`Root.folder`.

    Every name is of something that lies directly in it.
    """

    def __init__(self, root: Root, path: str, names: Sequence[str], fds: Sequence[int]) -> None:
        self._root = root
        self._names = names
        self._fds = fds
        self.path = path
        self.fd: int | None = fds[-1] if fds else None
        """``None`` where paths are used."""

    def at(self, name: str) -> str:
        """A name as calls with :attr:`fd` take it."""
        return name if self.fd is not None else os.path.join(self.path, name)

    def stat(self, name: str) -> os.stat_result:
        """``lstat`` of a name."""
        return os.stat(self.at(name), dir_fd=self.fd, follow_symlinks=False)

    def names(self) -> list[str]:
        """The names of its content."""
        if self.fd is None:
            return os.listdir(self.path)
        fd = os.open(".", _READ, dir_fd=self.fd)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def unlink(self, name: str, about: os.stat_result | None = None) -> None:
        """Remove one file or link.

        Args:
            name: of it.
            about: its ``lstat`` if that is known.

        Raises:
            OSError: it could not be removed, or is gone.
        """
        _unlink(self.at(name), self.fd, self._root.freed, about)

    def rmdir(self, name: str, *, ours: bool = False) -> None:
        """Remove an empty directory; one that we made for the removal counts nothing."""
        about = self.stat(name)
        os.rmdir(self.at(name), dir_fd=self.fd)
        self._root.freed.bytes += 0 if ours else disk_of(about)

    def rmdir_upwards(self, keep: int) -> None:
        """Remove this directory and its parents while empty; the first ``keep`` stay."""
        for number in range(len(self._names), keep, -1):
            name, above = self._names[number - 1], None
            if self.fd is None:
                name = os.path.join(self._root.path, *self._names[:number])
            else:
                above = self._fds[number - 1]
            try:
                about = os.stat(name, dir_fd=above, follow_symlinks=False)
                os.rmdir(name, dir_fd=above)
            except OSError:
                return
            self._root.freed.bytes += disk_of(about)

    def remove(self, name: str) -> None:
        """Remove a file, a link, or a directory with its content.

        Raises:
            Refused: something is mounted in it.
            OSError: something could not be removed; the rest may be gone.
        """
        if not stat.S_ISDIR(self.stat(name).st_mode):
            self.unlink(name)
            return
        path = os.path.join(self.path, name)
        self._root._without_mounts(path)  # noqa: SLF001  # the two classes are one
        if self.fd is None:
            _remove_by_path(path, self._root.freed)
        else:
            _remove_tree(self._root, self.fd, name, path)

    def open(self, name: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        """A descriptor of a regular file.

        Raises:
            Refused: it is a link, a pipe or anything else.
            OSError: it cannot be opened.
        """
        path = os.path.join(self.path, name)
        flags |= _NOFOLLOW | getattr(os, "O_NONBLOCK", 0)  # a pipe must not be waited for
        fd = _open(self.at(name), flags, self.fd, path, mode)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Refused(errno.EINVAL, f"{path} is no regular file", path)
        return fd

    def replace(
        self,
        name: str,
        data: bytes,
        *,
        temporary: str,
        mode: int | None = None,
    ) -> None:
        """Write a new file in place of an old one, in one step.

        Args:
            name: of the file.
            data: its content.
            temporary: its name until it is whole; ``{}`` in it stands for random digits.
            mode: for a file that need not be there yet; ``None``: the old file's, with its owner.

        Raises:
            Refused: what is there is no regular file. With a mode a link is replaced, not followed.
            OSError: it could not be written; nothing has changed then.
        """
        old: os.stat_result | None = None
        try:
            old = self.stat(name)
        except FileNotFoundError:
            if mode is None:
                raise
        is_link = old is not None and stat.S_ISLNK(old.st_mode) and mode is not None
        if old is not None and not is_link and not stat.S_ISREG(old.st_mode):
            raise Refused(errno.EINVAL, f"{self.path}{os.sep}{name} is no regular file", name)
        like = self.stat(".") if old is None or mode is not None else old
        wanted = (like.st_mode if mode is None else mode) & 0o777
        new = self.at(temporary.replace("{}", os.urandom(4).hex()))
        fd = os.open(new, _NEW, 0o600, dir_fd=self.fd)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
                if hasattr(os, "fchown"):
                    with suppress(PermissionError):  # only root may give a file away
                        os.fchown(fd, like.st_uid, like.st_gid)
                    os.fchmod(fd, wanted)
            os.replace(new, self.at(name), src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(new, dir_fd=self.fd)
            raise


class _Level(NamedTuple):
    """One directory on the way down through a tree."""

    name: str
    inode: tuple[int, int]
    left: list[str]
    """Directories in it that are still to go."""


def _remove_tree(root: Root, outer: int, top: str, path: str) -> None:
    """Remove the directory ``top`` of the open directory ``outer``, called ``path`` in errors."""
    here = os.dup(outer)
    levels = [_Level("", _inode(here), [top])]
    at = ""
    try:
        while True:
            if levels[-1].left:
                at = levels[-1].left.pop()
                below = _enter(root, here, at, path)
                if below is not None:
                    os.close(here)
                    here = below
                    levels.append(_Level(at, _inode(here), _unlink_files(here, root.freed)))
                continue
            at = levels.pop().name
            if not levels:
                return
            disk = disk_of(os.fstat(here))
            above = os.open("..", _PASS, dir_fd=here)
            os.close(here)
            here = above
            if _inode(here) != levels[-1].inode:
                text = f"a folder in {path} was moved while it was removed"
                raise Refused(errno.ESTALE, text, path)
            with suppress(FileNotFoundError):
                os.rmdir(at, dir_fd=here)
                root.freed.bytes += disk
    except OSError as exc:
        if not isinstance(exc, Refused):
            inside = [level.name for level in levels[2:]]
            exc.filename = os.path.join(path, *inside)
        raise
    finally:
        os.close(here)


def _enter(root: Root, above: int, name: str, path: str) -> int | None:
    """Open a directory that is to go; ``None`` when it is gone, or was no directory and went.

    A package may bring folders that not even their owner may write to: the mode is changed first.

    Raises:
        Refused: it is in another mount.
        OSError: it cannot be opened.
    """
    try:
        fd = os.open(name, _PASS, dir_fd=above)
    except FileNotFoundError:
        return None
    except OSError as exc:
        if exc.errno not in _NO_FOLDER:
            raise
        with suppress(FileNotFoundError):  # a link or a file came in its place, and goes instead
            _unlink(name, above, root.freed)
        return None
    try:
        root._stay_in(fd, os.path.join(path, name))  # noqa: SLF001  # a part of it
        about = os.fstat(fd)
        if about.st_mode & stat.S_IRWXU != stat.S_IRWXU and about.st_uid == os.geteuid():
            mode = stat.S_IMODE(about.st_mode) | stat.S_IRWXU
            with suppress(OSError):
                if hasattr(os, "O_PATH"):  # refused by fchmod; the name in /proc is that very inode
                    os.chmod(f"/proc/self/fd/{fd}", mode)
                else:
                    os.fchmod(fd, mode)
        return os.open(".", _READ, dir_fd=fd)
    finally:
        os.close(fd)


def _unlink_files(fd: int, freed: Freed) -> list[str]:
    """Remove all files and links of an open directory; the directories in it."""
    with os.scandir(fd) as found:
        inside = [(each.name, each.is_dir(follow_symlinks=False)) for each in found]
    for name, is_folder in inside:
        if not is_folder:
            with suppress(FileNotFoundError):
                _unlink(name, fd, freed)
    return [name for name, is_folder in inside if is_folder]


def _unlink(
    name: str,
    fd: int | None,
    freed: Freed,
    about: os.stat_result | None = None,
) -> None:
    if about is None:
        about = os.stat(name, dir_fd=fd, follow_symlinks=False)
    os.unlink(name, dir_fd=fd)
    freed.files += 1
    if about.st_nlink <= 1:
        freed.bytes += disk_of(about)


def _remove_by_path(path: str, freed: Freed) -> None:
    """As :func:`_remove_tree` where the system has no ``openat``."""
    with os.scandir(path) as found:
        inside = [(each.path, each.is_dir(follow_symlinks=False)) for each in found]
    for each, is_folder in inside:
        if is_folder:
            _remove_by_path(each, freed)
        else:
            _unlink(each, None, freed)
    freed.bytes += disk_of(os.lstat(path))
    os.rmdir(path)


def _open(name: str, flags: int, fd: int | None, path: str, mode: int = 0o777) -> int:
    """As ``os.open``; a link in the way is named as one."""
    try:
        return os.open(name, flags, mode, dir_fd=fd)
    except OSError as exc:
        exc.filename = path
        if exc.errno not in _NO_FOLDER:
            raise
        what = "not a folder"
        with suppress(OSError):
            if stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                what = "a symbolic link: it is not followed"
        raise Refused(exc.errno, f"{name} in {path} is {what}", path) from None


def _inode(fd: int) -> tuple[int, int]:
    about = os.fstat(fd)
    return about.st_dev, about.st_ino


# -- mounts and owners ---------------------------------------------------------------


def _mount_of(fd: int) -> bytes | int:
    """Identifies the mount that an open directory lies in.

    By ``/proc``: a bind mount has the device of what it shows, and a btrfs subvolume has a device
    of its own without being mounted. Where ``/proc`` does not tell, by the device.
    """
    try:
        info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY)
    except OSError:
        return os.fstat(fd).st_dev
    try:
        _, _, told = os.read(info, 1024).partition(b"mnt_id:")
    finally:
        os.close(info)
    return told.split(None, 1)[0] if told.strip() else os.fstat(fd).st_dev


def mount_points(path: Path | str) -> list[str]:
    """Mount points at a path or below it, as paths that begin with it; empty if unknown."""
    given, real = os.fspath(path), os.path.realpath(path)
    return [given + point[len(real) :] for point in _mounted_at(real)]


def _mounted_at(real: str) -> list[str]:
    """Mount points at or below a path without links.

    Source: proc_pid_mountinfo(5): the fifth field, with blanks and backslashes as octal numbers.
    """
    found = []
    with suppress(OSError), open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            point = unescaped(line.split()[4])
            if point == real or point.startswith(real.rstrip(os.sep) + os.sep):
                found.append(point)
    return found


def unescaped(field: bytes) -> str:
    """A path as tables of mounts write it: with blanks and backslashes as octal numbers."""
    return os.fsdecode(_OCTAL.sub(lambda octal: bytes([int(octal[1], 8)]), field))


_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")


def mounted(point: str) -> str:
    """The reason why something with a mount in it stays."""
    return f"{point} is a mount point: what is mounted there is not part of the cache"


def other_owner(path: Path | str, euid: int) -> int:
    """The owner of a cache when we are root and it is not root's; else 0.

    For a path that does not exist the nearest directory above it counts. So does a link on the way:
    with one in their home, users could make root take any directory of root's for a cache.
    """
    if euid:
        return 0
    if link := others_link(path):
        return link[1]
    for each in (Path(path), *Path(path).parents):
        with suppress(OSError):
            return each.stat().st_uid
    return 0


def others_link(path: Path | str) -> tuple[Path, int] | None:
    """The first symbolic link of a user other than root on the way to a path, and its owner."""
    for each in (Path(path), *Path(path).parents):
        with suppress(OSError):
            if each.is_symlink() and (owner := each.lstat().st_uid):
                return each, owner
    return None


def foreign(path: Path | str, euid: int) -> str:
    """Why root changes nothing in another user's cache, with the cure; empty when it may.

    A mistaken ``sudo`` would leave files of root's among the user's own, and the user could change
    what root is looking at meanwhile.
    """
    owner = other_owner(path, euid)
    return _run_as(owner) if owner else ""


def _run_as(uid: int) -> str:
    name = user_name(uid)
    words = f"'#{uid}'" if " " in name else shlex.quote(name)  # a nameless one by number
    return f"it belongs to {name}: run entrepot as that user (sudo -u {words} -H entrepot ...)"


def user_name(uid: int) -> str:
    """The name of a user, or its number when it has none."""
    try:
        import pwd  # noqa: PLC0415  # there is none on Windows

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return f"uid {uid}"
