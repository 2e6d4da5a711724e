"""Mount points: of what is mounted, and of what may be missing while nothing is."""

from __future__ import annotations

import os
import re
from pathlib import Path

from entrepot.tools.reading import is_dir

_ESCAPED = re.compile(rb"\\([0-7]{3})")
_FOR_MOUNTS = tuple(map(Path, ("/mnt", "/media", "/run/media", "/Volumes", "/net")))
"""Folders that hold mount points and little else."""


def is_mount(path: Path) -> bool:
    """Whether something is mounted at a directory, by a bind mount of the same file system too."""
    real = os.path.realpath(path)
    return os.path.ismount(real) or real in _listed(Path("/proc/self/mountinfo"), 4)


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
    if str(real) in _listed(Path("/etc/fstab"), 1) or any(
        each in (real, real.parent) for each in _FOR_MOUNTS
    ):
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


def _listed(table: Path, column: int) -> set[str]:
    r"""The paths in one column of a table of mounts; none where there is no such table.

    Source: proc(5), fstab(5): fields are separated by blanks; a blank in a path is written as
    ``\040``.
    """
    try:
        lines = table.read_bytes().splitlines()
    except OSError:
        return set()
    words = (line.split() for line in lines if not line.lstrip().startswith(b"#"))
    named = (found[column] for found in words if len(found) > column)
    return {
        os.fsdecode(_ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), name))
        for name in named
    }


def is_empty(folder: Path) -> bool:
    """Whether a directory is there and holds nothing."""
    if not is_dir(folder):
        return False
    try:
        with os.scandir(folder) as found:
            return next(found, None) is None
    except OSError:
        return False
