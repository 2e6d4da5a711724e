"""Is it there? As pip asks: what may not be looked at counts as absent, where ``pathlib`` would raise."""

from __future__ import annotations

import os.path
from pathlib import Path


def exists(path: Path | str) -> bool:
    """Whether something is there and may be seen; symbolic links are followed."""
    return os.path.exists(path)  # noqa: PTH110  # never raises


def is_folder(path: Path | str) -> bool:
    """Whether a directory is there and may be seen."""
    return os.path.isdir(path)  # noqa: PTH112  # never raises


def is_file(path: Path | str) -> bool:
    """Whether a plain file is there and may be seen."""
    return os.path.isfile(path)  # noqa: PTH113  # never raises
