"""Making files and folders where somebody else's may lie.

Written in one step, and never left to root in another user's place.

``sudo`` without ``-H`` keeps the user's HOME: what root makes there with mode 0600 its owner could
not even read afterwards. So what root makes gets the owner of the folder it is made in. For
everybody else nothing happens here but a look at their number.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from entrepot.errors import ConfigError


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def leave_to_owner(fd: int, folder: Path | int) -> None:
    """Give an open file that was just made to the owner of its folder, if we are root and the folder is another user's.

    By descriptor: a name in somebody else's folder could mean something else a moment later. The
    folder may be given by one as well.
    """
    if not _is_root():
        return
    with suppress(OSError):  # a file system that knows no owners, or a root that may not
        owner = os.stat(folder)
        if owner.st_uid:
            os.fchown(fd, owner.st_uid, owner.st_gid)


def open_or_make(path: str | Path, flags: int, mode: int) -> int:
    """Open a file, making it for the owner of its folder when it is not there.

    One that is there stays whose it is.

    Raises:
        OSError: as the system says.
    """
    while True:
        if not flags & os.O_EXCL:
            with suppress(FileNotFoundError):
                return os.open(
                    path, flags
                )  # asking for it to be made, too, waits for whoever makes another in that folder
        if not _is_root():
            return os.open(path, flags | os.O_CREAT, mode)
        try:
            fd = os.open(
                path, flags | os.O_CREAT | os.O_EXCL, mode
            )  # never through a symbolic link to a file of root's
        except FileExistsError:
            if flags & os.O_EXCL or Path(path).is_symlink():
                raise
            continue  # somebody else was quicker
        leave_to_owner(fd, Path(path).parent)
        return fd


def unlink_in(folder: str | Path, name: str) -> None:
    """Remove a file's name from a directory that is no link itself.

    Raises:
        OSError: as the system says; also when the directory is a link.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.unlink(name, dir_fd=fd)
    finally:
        os.close(fd)


def make_folder(folder: str | Path, mode: int = 0o777) -> None:
    """Make one directory for the owner of the one it lies in.

    Raises:
        OSError: as the system says; also when it is there.
    """
    path = Path(folder)
    path.mkdir(mode)
    if not _is_root():
        return
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            leave_to_owner(fd, path.parent)
        finally:
            os.close(fd)


def make_folders(folder: str | Path, mode: int = 0o777) -> None:
    """Make a directory and those above it that are missing; ``mode`` is for the last one.

    Raises:
        OSError: as the system says.
    """
    path = Path(folder)
    if path.is_dir():
        return
    make_folders(path.parent)
    try:
        make_folder(path, mode)
    except FileExistsError:
        if not path.is_dir():
            raise


def write_atomically(path: Path, data: bytes, *, secret: bool = False) -> None:
    """Replace a file's content in one step.

    Mode and owner stay, a symbolic link stays one and its target is written.

    Args:
        path: where; missing folders are made.
        data: all of it.
        secret: a new file is for its owner alone.

    Raises:
        ConfigError: it may not be written.
    """
    import tempfile  # noqa: PLC0415  (not for those who only read)

    target = Path(os.path.realpath(path))
    try:
        make_folders(target.parent)
        about = target.stat() if target.exists() else None
        fd, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
                leave_to_owner(fd, target.parent)
                _like(Path(name), fd, about, secret=secret)
            Path(name).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as exc:
        raise ConfigError(
            f"{target} cannot be written: {exc.strerror}", source=str(target)
        ) from exc


def _like(path: Path, fd: int, about: os.stat_result | None, *, secret: bool) -> None:
    if about is None:
        umask = os.umask(0)
        os.umask(umask)
        path.chmod(0o600 if secret else 0o666 & ~umask)
        return
    if hasattr(os, "fchown"):
        with suppress(
            PermissionError
        ):  # only root may give a file away; the group alone often can be kept
            os.fchown(fd, -1, about.st_gid)
            os.fchown(fd, about.st_uid, -1)
    path.chmod(stat.S_IMODE(about.st_mode))


def disk_of(info: os.stat_result) -> int:
    """Bytes of disk of one inode; its size where the system does not tell of blocks."""
    blocks: int | None = getattr(info, "st_blocks", None)
    return info.st_size if blocks is None else blocks * 512
