"""Files of a store: written whole or not at all, read and removed by descriptor.

A removal tells the bytes of disk that it gives back.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.errors import Busy, StoreUnavailable
from entrepot.fs import leave_to_owner, open_or_make
from entrepot.ports.store import ObjectMeta
from entrepot.store import layout
from entrepot.store.layout import BootState, Modes, open_beneath, translated
from entrepot.store.locks import NoLocks, open_lock_file, try_lock, wait_lock
from entrepot.stored import is_body_key

if TYPE_CHECKING:
    from entrepot.store.catalogue import SqliteCatalogue

SHARED_WAIT_S = 2.0
"""How long a writer waits for a sweep: sweeps hold a prefix for the time of a few unlinks."""
EXCLUSIVE_WAIT_S = 0.2
"""How long a sweep waits for writers before it leaves that prefix for the next time."""

SMALL = 1 << 20
"""Bytes that are read of the store's own files at most."""

_PREFIX = re.compile(r"(.*?/[0-9a-f]{2})(?:/|$)")


class Disk:
    """One store's directory: files, stamps, locks and the boot marker.

    Objects, and whatever is removed, are reached by descriptors from the root on: no link that
    somebody puts in the place of a folder is followed. Where nothing else is said, methods raise
    OSError as the system says; ``NotADirectoryError`` where a link or a file is in the place of a
    folder.

    Args:
        root: an absolute path.
        create: make the store when there is none.
        now: seconds since the epoch.
        stamps: where stamps are kept; ``None``: in this object alone.

    Raises:
        StoreUnavailable: see :func:`~entrepot.store.layout.open_root`.
    """

    def __init__(
        self,
        root: Path,
        *,
        create: bool,
        now: Callable[[], float],
        stamps: SqliteCatalogue | None,
    ) -> None:
        self.root = root
        self.now = now
        self._root_fd = -1
        self._root_fd = layout.open_root(str(root), create=create)
        self.modes = Modes(stat.S_IMODE(os.fstat(self._root_fd).st_mode))
        self._kept_stamps = stamps
        self._stamps: dict[str, str] = {}
        self.locks = True
        """Whether files can be locked here; not known to be ``False`` before the first write."""
        self.partials = os.path.join(root, layout.PARTIALS)
        self._users = -1
        self._writing = False
        self._beginning = threading.Lock()
        self._boot: BootState | None = None

    def __del__(self) -> None:
        self._close_root()

    def _close_root(self) -> None:
        if self._root_fd >= 0:
            os.close(self._root_fd)
            self._root_fd = -1

    def _opened_root(self) -> int:
        """The descriptor of the root: that of the very directory whose marker was read."""
        if self._root_fd < 0:  # used again after it was closed
            self._root_fd = layout.open_root(str(self.root), create=False)
        return self._root_fd

    @contextmanager
    def at(self, key: str) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder that an object lies in, and the last segment of its key.

        Raises:
            FormatError: see :func:`~entrepot.store.layout.key_path`.
        """
        layout.key_path("", key)
        with self._in_folder(key) as place:
            yield place

    @contextmanager
    def _in_folder(self, path: str) -> Iterator[tuple[int, str]]:
        folder, _, name = path.rpartition("/")
        fd = open_beneath(self._opened_root(), folder)
        try:
            yield fd, name
        finally:
            os.close(fd)

    # -- writing -----------------------------------------------------------------------------------

    def begin(self, *, removing: bool = False) -> None:
        """Before the first write of this process.

        Note the boot, find out whether files can be locked.

        Args:
            removing: nothing will be written yet. Then a full disk is no obstacle: it is what
                removing is to help against, and the note vouches for what is written alone. The
                next write tries to note it again.

        Raises:
            StoreUnavailable, StoreFull: the store cannot be written.
        """
        if self._writing:
            return
        with self._beginning:
            if self._writing:
                return
            try:
                for folder in (layout.PARTIALS, layout.LOCKS):
                    self.make_folders(folder)
                if self._users < 0:
                    self._users = open_lock_file(self.lock_path("users"), self.modes.file)
                try:
                    # the last one to close holds this exclusively for an instant
                    wait_lock(self._users, exclusive=False, wait_s=SHARED_WAIT_S, what="the store")
                except NoLocks:
                    self.locks = False
                self._mark(clean=False)
            except Busy as exc:
                raise StoreUnavailable(exc.message, hint=exc.hint) from exc
            except OSError as exc:
                if removing and self._users >= 0 and exc.errno in layout.NO_ROOM:
                    return
                raise translated(exc, "it was opened for writing") from exc
            self._writing = True

    def temp(self) -> tuple[int, str]:
        """A new empty file on the same file system, and its path."""
        path = os.path.join(self.partials, f"put-{os.urandom(8).hex()}.tmp")
        return self.new_file(path, os.O_RDWR | os.O_EXCL), path

    def new_file(self, path: str, flags: int) -> int:
        """Open a file for the store's own use, made with its mode; a link is refused."""
        fd = open_or_make(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, self.modes.file)
        if self.modes.is_wide:
            with suppress(PermissionError):  # another user's
                os.fchmod(fd, self.modes.file)
        return fd

    def make_folders(self, folder: str) -> None:
        """Make a directory below the root, and those above it, with the store's mode."""
        above = ""
        for segment in folder.split("/"):
            path = f"{above}/{segment}" if above else segment
            with self._in_folder(path) as (parent, name), suppress(FileExistsError):
                os.mkdir(name, self.modes.folder, dir_fd=parent)
                fd = open_beneath(parent, name)
                try:
                    leave_to_owner(fd, parent)
                    if self.modes.is_wide:
                        os.fchmod(fd, self.modes.folder)
                finally:
                    os.close(fd)
            above = path

    def publish(self, fd: int, temp: str, key: str) -> ObjectMeta:
        """Give a finished file in ``flights/`` the name of its key, in place of its temporary one.

        The caller vouches for its bytes: a body is not hashed again while its file stays as it is.

        Args:
            fd: the file, open.
            temp: its path.
            key: of the object.
        """
        name = f"{layout.PARTIALS}/{os.path.basename(temp)}"
        for attempt in range(5):
            try:
                with self._in_folder(name) as old, self.at(key) as new:
                    os.replace(old[1], new[1], src_dir_fd=old[0], dst_dir_fd=new[0])
                    # rename(2) leaves both names when they are those of one file
                    with suppress(FileNotFoundError):
                        os.unlink(old[1], dir_fd=old[0])
            except FileNotFoundError:
                # the folder is missing, or was removed as empty at this moment by a delete
                if attempt == 4:
                    raise
                self.make_folders(key.rpartition("/")[0])
            else:
                break
        found = os.fstat(fd)  # afterwards: a rename sets the time of the file's last change
        self.note(key, found)
        return meta_of(key, found)

    # -- removing ----------------------------------------------------------------------------------

    def unlink(self, path: str) -> os.stat_result | None:
        """Remove a file's name, a path below the root; what it was, ``None`` when there was none.

        A directory stays.
        """
        try:
            with self._in_folder(path) as (folder, name):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    return None
                os.unlink(name, dir_fd=folder)
                return found
        except (FileNotFoundError, NotADirectoryError):
            return None

    def remove(self, path: str) -> int | None:
        """Remove a file below the root; bytes of disk given back, ``None`` when it was not there.

        A file that has other names gives nothing back.
        """
        try:
            found = self.unlink(path)
        except OSError as exc:
            raise translated(exc, "an object was removed") from exc
        if found is None:
            return None
        freed = found.st_blocks * 512 if found.st_nlink == 1 else 0
        folder = path.rpartition("/")[0]
        # a folder that may be empty now: a head's, when that was its last variant
        if folder not in {layout.PARTIALS, ""}:
            with suppress(OSError), self._in_folder(folder) as (above, name):
                about = os.stat(name, dir_fd=above, follow_symlinks=False)
                os.rmdir(name, dir_fd=above)
                freed += about.st_blocks * 512
        return freed

    # -- stamps ------------------------------------------------------------------------------------

    def is_as_noted(self, key: str, found: os.stat_result) -> bool:
        """Whether a body's file is unchanged since it was stored or last found right."""
        stamp = _stamp(found)
        if self._stamps.get(key) != stamp:
            if self._kept_stamps is None or self._kept_stamps.stamp(key) != stamp:
                return False
            self._stamps[key] = stamp  # another process noted it
        return True

    def note(self, key: str, found: os.stat_result) -> None:
        """Note what a body's file is like while its bytes are known to be right."""
        if is_body_key(key):
            self._stamps[key] = _stamp(found)
            if self._kept_stamps is not None:
                self._kept_stamps.note_stamp(key, self._stamps[key])

    def set_times(self, key: str, accessed: float | None, modified: float | None) -> None:
        """Set the times that are given, in seconds since the epoch; a file's stamp follows them."""
        with self.at(key) as (folder, name):
            before = os.stat(name, dir_fd=folder, follow_symlinks=False)
            times = (
                before.st_atime_ns if accessed is None else int(accessed * 1e9),
                before.st_mtime_ns if modified is None else int(modified * 1e9),
            )
            os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)
            if is_body_key(key) and self.is_as_noted(key, before):
                self.note(key, os.stat(name, dir_fd=folder, follow_symlinks=False))

    # -- looking -----------------------------------------------------------------------------------

    def stat(self, key: str) -> os.stat_result:
        """What the file system says of an object's file."""
        with self.at(key) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def lstat(self, path: str) -> os.stat_result | None:
        """What a path below the root is like; ``None`` when it is no file."""
        with suppress(OSError), self._in_folder(path) as (folder, name):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            return found if stat.S_ISREG(found.st_mode) else None
        return None

    def read(self, path: str) -> bytes | None:
        """A small file below the root; ``None`` when it cannot be read."""
        with (
            suppress(OSError),
            self._in_folder(path) as (folder, name),
            open(os.open(name, layout.READ, dir_fd=folder), "rb") as file,
        ):
            return file.read(SMALL)
        return None

    def open_fd(self, key: str) -> int:
        """A descriptor of an object's file, for reading; a link is refused."""
        with self.at(key) as (folder, name):
            return os.open(name, layout.READ, dir_fd=folder)

    def meta(self, key: str) -> ObjectMeta | None:
        """What the file system says of an object."""
        try:
            found = self.stat(key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise translated(exc, "an object was looked up") from exc
        return meta_of(key, found) if stat.S_ISREG(found.st_mode) else None

    def walk(self, prefix: str) -> Iterator[ObjectMeta]:
        """Every object below whole segments; what vanishes meanwhile is left out."""
        if prefix and (alone := self.meta(prefix)):
            yield alone
            return
        folders = [prefix]
        while folders:
            below = folders.pop()
            found: list[ObjectMeta] = []
            try:
                fd = open_beneath(self._opened_root(), below)
                try:
                    with os.scandir(fd) as entries:
                        for entry in entries:
                            if not layout.may_hold(below, entry.name):
                                continue
                            key = f"{below}/{entry.name}" if below else entry.name
                            with suppress(OSError):  # it went meanwhile
                                if entry.is_dir(follow_symlinks=False):
                                    folders.append(key)
                                elif entry.is_file(follow_symlinks=False):
                                    found.append(meta_of(key, entry.stat(follow_symlinks=False)))
                finally:
                    os.close(fd)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as exc:
                raise translated(exc, "it was listed") from exc
            yield from found

    # -- locks -------------------------------------------------------------------------------------

    @contextmanager
    def lock(self, name: str, *, exclusive: bool, wait_s: float) -> Iterator[None]:
        """Hold one of the store's lock files; nothing is held where there are no locks.

        Raises:
            Busy: another process has it for longer. StoreUnavailable: the store cannot be
                written.
        """
        self.begin(removing=exclusive)
        if not self.locks:
            yield
            return
        try:
            fd = open_lock_file(self.lock_path(name), self.modes.file)
        except OSError as exc:
            raise translated(exc, "a lock was taken") from exc
        try:
            with suppress(NoLocks):
                wait_lock(fd, exclusive=exclusive, wait_s=wait_s, what="this part of the store")
            yield
        finally:
            os.close(fd)

    def lock_path(self, name: str) -> str:
        """The path of a lock file."""
        return os.path.join(self.root, layout.LOCKS, name)

    @contextmanager
    def hold(self, key: str, *, exclusive: bool = False) -> Iterator[None]:
        """Lock the prefix of ``key``: up to its first segment of two hex digits, else the first.

        A shared hold also notes on the object, as its access time, that it is wanted: a sweep that
        listed heads before looks again and leaves it.

        Raises:
            Busy: it was not free within two seconds (exclusively: 0.2).
        """
        found = _PREFIX.match(layout.checked_key(key))
        name = (found[1] if found else key.partition("/")[0]).replace("/", "-")
        wait_s = EXCLUSIVE_WAIT_S if exclusive else SHARED_WAIT_S
        with self.lock(name, exclusive=exclusive, wait_s=wait_s):
            if not exclusive:
                with suppress(OSError):
                    self.set_times(key, time.time(), None)
            yield

    # -- boots -------------------------------------------------------------------------------------

    @property
    def boot(self) -> BootState:
        """How the store was left; read once."""
        if self._boot is None:
            self._boot = layout.read_boot(str(self.root), boot=layout.boot_id(), now=self.now())
        return self._boot

    def _mark(self, *, clean: bool) -> None:
        state = BootState(self.boot.boot, clean, self.boot.suspect_before)
        self._boot = state
        # An open marker is synced: were it lost, an older one would vouch for bytes that a power
        # cut has made zeros.
        layout.write_small(
            os.path.join(self.root, layout.BOOT), state.to_bytes(), self.modes.file, sync=not clean
        )

    def close(self) -> None:
        """The last of the processes that wrote notes that all is well."""
        self._close_root()
        if self._users < 0:
            return
        with suppress(OSError, NoLocks):
            if self.locks and try_lock(self._users, exclusive=True):
                # A mark that the store is clean vouches for partial downloads, those of killed
                # processes too, and nobody has synced them.
                for name in os.listdir(self.partials):
                    if name.endswith(layout.PART):
                        with suppress(FileNotFoundError):
                            fd = os.open(os.path.join(self.partials, name), layout.READ)
                            try:
                                os.fsync(fd)
                            finally:
                                os.close(fd)
                self._mark(clean=True)
        os.close(self._users)
        self._users = -1
        self._writing = False


def _stamp(found: os.stat_result) -> str:
    """What differs once a file was written to, replaced or copied.

    A program can set the other times, but not that of the last change.
    """
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def meta_of(key: str, found: os.stat_result) -> ObjectMeta:
    """An object's meta data from its file's."""
    return ObjectMeta(key, found.st_size, found.st_mtime, found.st_blocks * 512)


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        offset += done
        view = view[done:]


class FileBlob:
    """An open file of the store; it stays readable after its name is gone."""

    __slots__ = ("_fd", "_size")

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def read(self, start: int, count: int) -> bytes:
        try:
            return os.pread(self._fd, count, start)
        except OSError as exc:
            raise StoreUnavailable(
                f"the store failed while an object was read: {exc.strerror}"
            ) from exc

    def stat(self) -> os.stat_result:
        """What the file is like now."""
        return os.fstat(self._fd)

    def fileno(self) -> int | None:
        return self._fd if self._fd >= 0 else None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()
