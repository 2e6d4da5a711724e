"""Whether the current user may remove what lies in a cache.

Foreign directories, permissions, read-only file systems.

pip run by root uses no cache that root does not own, and neither do we change one
(:func:`entrepot.cache_root.foreign`). Only looks, changes nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from entrepot.cache_root import foreign, other_owner, user_name
from entrepot.ports.tool import Surroundings
from entrepot.tools._shared.permission_errors import reason


def locked(place: Path, around: Surroundings) -> Callable[[Path], str] | None:
    """What tells of a folder below a cache directory why nothing in it may be removed.

    ``None`` when all of it may.
    """
    if around.platform == "win32":
        return None
    if why := foreign(place, around.euid):
        return lambda _folder: why
    if os.access(place, os.W_OK):
        return None
    return lambda folder: "" if os.access(folder, os.W_OK | os.X_OK) else refusal(folder)


def foreign_owner(path: Path, around: Surroundings) -> str:
    """For root: the other user who owns a path or its nearest existing parent; else empty."""
    owner = other_owner(path, around.euid)
    return user_name(owner) if owner else ""


def refusal(folder: Path) -> str:
    """Why this directory may not be written, in a sentence."""
    try:
        read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        read_only = False
    return reason(OSError(errno.EROFS if read_only else errno.EACCES, ""), folder)
