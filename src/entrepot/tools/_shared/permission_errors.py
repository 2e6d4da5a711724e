"""Why something in a cache could not be removed, in sentences.

Permissions, owners, read-only file systems.
"""

from __future__ import annotations

import errno
import stat
from pathlib import Path

from entrepot.cache_root import Refused, user_name


def reason(exc: OSError, folder: Path) -> str:
    """Why something in a directory could not be removed."""
    if isinstance(exc, Refused):
        return exc.strerror or ""
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"no permission to remove it: {described(folder)}"
    if exc.errno == errno.EROFS:
        return "the file system is read-only"
    return f"it could not be removed: {exc.strerror}"


def described(folder: Path) -> str:
    """A directory with its owner and mode, as far as they can be seen."""
    try:
        info = folder.lstat()
    except OSError:
        return str(folder)
    return f"{folder} belongs to {user_name(info.st_uid)} ({stat.filemode(info.st_mode)})"
