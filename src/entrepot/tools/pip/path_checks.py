"""Is it there, and where does it lead? As pip asks.

What may not be looked at counts as absent, where ``pathlib`` would raise.
"""

from __future__ import annotations

import os.path
from pathlib import Path

from entrepot.ports.tool import Surroundings


def exists(path: Path | str) -> bool:
    """Whether something is there and may be seen; symbolic links are followed."""
    return os.path.exists(path)  # never raises


def is_folder(path: Path | str) -> bool:
    """Whether a directory is there and may be seen."""
    return os.path.isdir(path)  # never raises


def is_file(path: Path | str) -> bool:
    """Whether a plain file is there and may be seen."""
    return os.path.isfile(path)  # never raises


def real(path: str, around: Surroundings) -> Path:
    """The directory that an absolute path leads to; on Windows the path itself."""
    return Path(os.path.realpath(path) if around.platform != "win32" else path)
