"""Writing a configuration file in one step."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from entrepot.errors import ConfigError


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file's content in one step; mode and owner stay, a symbolic link stays one and its target is written.

    Args:
        path: where; missing folders are made.
        data: all of it.

    Raises:
        ConfigError: it may not be written.
    """
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        about = target.stat() if target.exists() else None
        number, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _like(Path(name), about)
            Path(name).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as exc:
        raise ConfigError(f"{target} cannot be written: {exc.strerror}", source=str(target)) from exc


def _like(path: Path, about: os.stat_result | None) -> None:
    if about is None:
        umask = os.umask(0)
        os.umask(umask)
        path.chmod(0o666 & ~umask)
        return
    if hasattr(os, "chown"):
        with suppress(PermissionError):  # only root may give a file away
            os.chown(path, about.st_uid, about.st_gid)
    path.chmod(stat.S_IMODE(about.st_mode))
