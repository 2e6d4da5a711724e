"""Making files and folders: in one step, and in another user's home not as root's own.

``sudo`` without ``-H`` keeps the user's HOME: what root makes there with mode 0600 its owner could
not even read afterwards. So what root makes gets the owner of the folder it is made in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from entrepot.errors import ConfigError


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def leave_to_owner(fd: int, folder: Path | int) -> None:
    """As root, give an open file that was just made to the owner of its folder.

    By descriptor: in another user's folder a name could mean something else a moment later. The
    folder may be given by one as well.
    """
    if not _is_root():
        return
    with suppress(OSError):  # a file system that knows no owners, or a root that may not
        owner = os.stat(folder)
        if owner.st_uid:
            os.fchown(fd, owner.st_uid, owner.st_gid)


def open_or_make(path: str | Path, flags: int, mode: int) -> int:
    """Open a file; when it is not there, make it for the owner of its folder.

    Raises:
        OSError: as the system says.
    """
    while True:
        if not flags & os.O_EXCL:
            # First without making it: that would wait for others who make files in that folder.
            with suppress(FileNotFoundError):
                return os.open(path, flags)
        if not _is_root():
            return os.open(path, flags | os.O_CREAT, mode)
        try:
            # Exclusively, so never through a symbolic link to a file of root's.
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            if flags & os.O_EXCL or Path(path).is_symlink():
                raise
            continue  # another process was quicker
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
    """Replace a file's content in one step; mode, owner and a symbolic link stay.

    Args:
        path: where; missing folders are made.
        data: all of it.
        secret: a new file is for its owner alone.

    Raises:
        ConfigError: it may not be written.
    """
    import tempfile  # noqa: PLC0415 - late: most commands write nothing

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
        # Only root may give a file away; the group alone often can be kept.
        with suppress(PermissionError):
            os.fchown(fd, -1, about.st_gid)
            os.fchown(fd, about.st_uid, -1)
    path.chmod(stat.S_IMODE(about.st_mode))


def disk_of(info: os.stat_result) -> int:
    """Bytes of disk of one inode; its size where the system does not tell of blocks."""
    blocks: int | None = getattr(info, "st_blocks", None)
    return info.st_size if blocks is None else blocks * 512


def stamp(*infos: os.stat_result | None) -> str:
    """What changes when one of some files is replaced, or written to, or when names in it change.

    ``None`` stands for one that is not there.
    """
    return ";".join(
        f"{info.st_ino}:{info.st_mtime_ns}:{info.st_size}" if info else "-" for info in infos
    )


def state_folder(environ: Mapping[str, str], home: Path, platform: str) -> Path:
    """Where entrepot keeps what it knows of other tools' caches: the user's state directory.

    ``platformdirs`` would tell it of this process's environment alone.

    Source: XDG Base Directory Specification 0.8 (a relative path is ignored); platformdirs'
    ``user_state_dir`` for the other platforms.
    """
    if platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local", "entrepot")
    xdg = environ.get("XDG_STATE_HOME", "").strip()
    if xdg.startswith("/"):
        return Path(xdg, "entrepot")
    above = "Library/Application Support" if platform == "darwin" else ".local/state"
    return Path(home, above, "entrepot")
