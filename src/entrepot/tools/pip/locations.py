"""Where pip looks by default, by operating system and pip version.

Pure: strings in, strings out, in the style of the platform asked about.

Sources: pip's ``utils/appdirs.py`` and ``configuration.py`` with the vendored appdirs (up to 21.2)
and platformdirs (later), compared with real pips on Linux; the rows for macOS and Windows were
computed from those libraries and never run there.
"""

from __future__ import annotations

import ntpath
import os
import posixpath
from pathlib import Path
from types import ModuleType

from entrepot.ports.tool import Surroundings

APPDIRS_UNTIL = (21, 3)
"""First pip with platformdirs: an empty XDG variable is no longer taken at its word."""
XDG_ON_MACOS = (26, 2)
"""First pip that honours the XDG variables on macOS."""
STRICT_XDG = (26, 3)
"""First pip that ignores relative XDG paths and an empty HOME."""

Version = tuple[int, ...]


def paths_of(around: Surroundings) -> ModuleType:
    """``posixpath`` or ``ntpath``: the path rules of the platform asked about."""
    return ntpath if around.platform == "win32" else posixpath


def home(around: Surroundings, version: Version, *, strict: bool = True) -> str:
    """What pip takes for ``~``.

    An empty HOME is the root directory, until 26.3 for its default directories (``strict``).

    Source: ``os.path.expanduser``; platformdirs' ``_expand_user``.
    """
    if around.platform == "win32":
        return around.environ.get("USERPROFILE") or str(around.home)
    value = around.environ.get("HOME")
    if value is None:
        return str(around.home)
    if value == "" and strict and version >= STRICT_XDG:
        return str(around.home)
    return value.rstrip("/")


def expand_user(value: str, around: Surroundings, version: Version) -> str:
    """``~`` and ``~user`` at the start of an option's value.

    Variables are not expanded (pip never does).
    """
    if not value.startswith("~"):
        return value
    name, slash, rest = value[1:].partition("/")
    if around.platform == "win32":
        name, slash, rest = value[1:].replace("/", "\\").partition("\\")
    if not name:
        return (home(around, version, strict=False) + slash + rest) or "/"
    expanded = os.path.expanduser(value)  # another user's home is in the system's own database
    return value if expanded.startswith("~") else expanded


def absolute(path: str, around: Surroundings, version: Version) -> str:
    """A directory as pip takes it: ``~`` expanded, below the working directory, without ``..``."""
    rules = paths_of(around)
    return str(rules.normpath(rules.join(str(around.cwd), expand_user(path, around, version))))


def real(path: str, around: Surroundings) -> Path:
    """The directory that an absolute path leads to; on Windows the path itself."""
    return Path(os.path.realpath(path) if around.platform != "win32" else path)


def _xdg(name: str, around: Surroundings, version: Version) -> str | None:
    raw = around.environ.get(name)
    if version < APPDIRS_UNTIL:
        return raw
    if raw is None or not raw.strip():
        return None
    if version < STRICT_XDG:
        return raw
    return raw.strip() if posixpath.isabs(raw.strip()) else None


def default_cache(around: Surroundings, version: Version) -> tuple[str, str]:
    """Pip's cache directory by default, and the reason (``XDG_CACHE_HOME`` or ``default``).

    May be relative (a relative ``XDG_CACHE_HOME`` before 26.3): pip then takes it from the working
    directory.
    """
    join = paths_of(around).join
    if around.platform == "win32":
        override = (
            around.environ.get("WIN_PD_OVERRIDE_LOCAL_APPDATA", "").strip()
            if version >= STRICT_XDG
            else ""
        )
        if override:
            return join(override, "pip", "Cache"), "WIN_PD_OVERRIDE_LOCAL_APPDATA"
        local = around.environ.get("LOCALAPPDATA") or join(
            home(around, version), "AppData", "Local"
        )
        return join(local, "pip", "Cache"), "default"
    if around.platform == "darwin":
        xdg = _xdg("XDG_CACHE_HOME", around, version) if version >= XDG_ON_MACOS else None
        if xdg and posixpath.isabs(xdg.strip()):
            return join(xdg, "pip"), "XDG_CACHE_HOME"
        return join(home(around, version) or "/", "Library/Caches/pip"), "default"
    xdg = _xdg("XDG_CACHE_HOME", around, version)
    if xdg is not None:
        return join(xdg, "pip"), "XDG_CACHE_HOME"
    return join(home(around, version) or "/", ".cache/pip"), "default"


def global_files(around: Surroundings, version: Version) -> list[str]:
    """System-wide configuration files, weakest first.

    ``pip config --global`` writes the last one.
    """
    join = paths_of(around).join
    if around.platform == "win32":
        return [join(around.environ.get("PROGRAMDATA") or r"C:\ProgramData", "pip", "pip.ini")]
    if around.platform == "darwin":
        named = around.environ.get("XDG_DATA_DIRS", "") if version >= XDG_ON_MACOS else ""
        folders = [part.strip() for part in named.split(":") if posixpath.isabs(part.strip())]
        return [join(f, "pip", "pip.conf") for f in folders or ["/Library/Application Support"]]
    named = around.environ.get("XDG_CONFIG_DIRS", "")
    folders = named.split(":") if named.strip() else []
    if version < APPDIRS_UNTIL:
        folders = [expand_user(part.rstrip("/"), around, version) for part in folders if part]
    elif version >= STRICT_XDG:
        folders = [part.strip() for part in folders if posixpath.isabs(part.strip())]
    return [*(join(f, "pip", "pip.conf") for f in folders or ["/etc/xdg"]), "/etc/pip.conf"]


def user_files(
    around: Surroundings, version: Version, *, exists: frozenset[str] = frozenset()
) -> list[str]:
    """The user's configuration files, weakest first.

    The legacy one, then the one that ``pip config --user`` writes.

    Args:
        around: environment, home, working directory and platform.
        version: of pip.
        exists: directories known to exist; macOS takes ``~/Library/Application Support/pip`` only
            when it is there.
    """
    join = paths_of(around).join
    legacy_home = home(around, version, strict=False) or "/"
    if around.platform == "win32":
        roaming = around.environ.get("APPDATA") or join(home(around, version), "AppData", "Roaming")
        return [join(legacy_home, "pip", "pip.ini"), join(roaming, "pip", "pip.ini")]
    legacy = join(legacy_home, ".pip", "pip.conf")
    if around.platform == "darwin":
        xdg = _xdg("XDG_DATA_HOME", around, version) if version >= XDG_ON_MACOS else None
        data = (
            join(xdg, "pip")
            if xdg
            else join(home(around, version) or "/", "Library/Application Support/pip")
        )
        folder = data if data in exists else join(legacy_home, ".config/pip")
        return [legacy, join(folder, "pip.conf")]
    xdg = _xdg("XDG_CONFIG_HOME", around, version)
    base = xdg if xdg is not None else join(home(around, version) or "/", ".config")
    return [legacy, join(base, "pip", "pip.conf")]
