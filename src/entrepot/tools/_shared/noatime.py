"""Reading files of a cache without a trace in their access times."""

from __future__ import annotations

import os
from pathlib import Path

_NOATIME = getattr(os, "O_NOATIME", 0)
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_quietly(path: Path | str) -> int:
    """A read descriptor that follows no final link and keeps the access time where it can.

    Opening a pipe does not wait; what is read from one is empty.

    Raises:
        OSError: as ``os.open``.
    """
    try:
        return os.open(path, os.O_RDONLY | _SAFE | _NOATIME)
    except PermissionError:
        if not _NOATIME:
            raise
        return os.open(path, os.O_RDONLY | _SAFE)  # only the owner may read without leaving a trace
