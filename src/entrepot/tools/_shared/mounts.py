"""Mount points: of what is mounted, and of what may be missing while nothing is."""

from __future__ import annotations

import os
from pathlib import Path

from entrepot.cache_root import mount_points, unescaped
from entrepot.tools._shared.safe_read import is_dir

_FOR_MOUNTS = tuple(map(Path, ("/mnt", "/media", "/run/media", "/Volumes", "/net")))
"""Folders that hold mount points and little else."""


def is_mount(path: Path) -> bool:
    """Whether something is mounted at a directory, by a bind mount of the same file system too."""
    real = os.path.realpath(path)
    return os.path.ismount(real) or real in mount_points(real)


def may_be_unmounted(folder: Path, since: float) -> bool:
    """Whether a directory may be a mount point without a mount: what lay in it is then not gone.

    It may where fstab says so, where mount points usually are, and where it is empty and nothing in
    it was made or removed since: removing the last thing in a directory changes its time,
    unmounting a file system does not.

    Args:
        folder: a directory that is there.
        since: when something that was in it was noted; seconds since the epoch.
    """
    real = Path(os.path.realpath(folder))
    if str(real) in _planned() or any(each in (real, real.parent) for each in _FOR_MOUNTS):
        return True
    try:
        with os.scandir(real) as found:
            return next(found, None) is None and real.stat().st_mtime <= since
    except OSError:
        return True


def why_not_gone(path: Path, since: float) -> str:
    """Why an absent directory that was noted once may still be somewhere; empty when it is gone.

    It is gone where the directory that it was in is there, and nothing else could be mounted at
    either of them.

    Args:
        path: what was noted; nothing is there, or an empty directory, or a symbolic link that leads
            nowhere.
        since: when it was noted; seconds since the epoch.
    """
    if path.is_symlink():
        return "the symbolic link leads nowhere"
    if is_dir(path):
        return "nothing is in it: a file system may not be mounted there"
    if not is_dir(path.parent):
        return "neither it nor the directory that it was in is there"
    if is_mount(path.parent) or may_be_unmounted(path.parent, since):
        return f"it is not there, and another file system may have been mounted at {path.parent}"
    return ""


def _planned() -> set[str]:
    r"""Where fstab says that something is mounted; empty where there is none.

    Source: fstab(5): the second field; a blank in a path is written as ``\040``.
    """
    try:
        lines = Path("/etc/fstab").read_bytes().splitlines()
    except OSError:
        return set()
    words = (line.split() for line in lines if not line.lstrip().startswith(b"#"))
    return {unescaped(found[1]) for found in words if len(found) > 1}


def is_empty(folder: Path) -> bool:
    """Whether a directory is there and holds nothing."""
    if not is_dir(folder):
        return False
    try:
        with os.scandir(folder) as found:
            return next(found, None) is None
    except OSError:
        return False
