"""Paths as a platform's own Python would expand them, whatever platform this is.

Pure functions of :class:`Surroundings`.

No file is looked at here but the system's list of users, for ``~NAME``.
"""

from __future__ import annotations

import ntpath
import posixpath
import re
from types import ModuleType

from entrepot.ports.tool import Surroundings

_POSIX_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})", re.ASCII)
_ANY_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})|%([^%]+)%", re.ASCII)


def pathmod(around: Surroundings) -> ModuleType:
    """``ntpath`` or ``posixpath``."""
    return ntpath if around.platform == "win32" else posixpath


def expand_variables(text: str, around: Surroundings) -> str:
    """``$VAR`` and ``${VAR}`` (on Windows ``%VAR%`` too) replaced once.

    An unknown variable stays as it is written.

    Source: ``os.path.expandvars``, which conda uses for every item of ``pkgs_dirs``.
    """
    pattern = _ANY_VARIABLE if around.platform == "win32" else _POSIX_VARIABLE

    def value(match: re.Match[str]) -> str:
        name = (match[1] or (match[2] if match.re is _ANY_VARIABLE else "")).strip("{}")
        return around.environ.get(name, match[0])

    return pattern.sub(value, text)


def expand_user(text: str, around: Surroundings) -> str:
    """A leading ``~`` replaced by the home directory, ``~NAME`` by that user's.

    An unknown user's is left as it is written.

    Source: ``os.path.expanduser``.
    """
    if (
        text == "~"
        or text.startswith("~/")
        or (around.platform == "win32" and text.startswith("~\\"))
    ):
        return str(around.home) + text[1:]
    if text.startswith("~") and around.platform != "win32":
        name, slash, rest = text[1:].partition("/")
        return _home_of(name).rstrip("/") + slash + rest if _home_of(name) else text
    return text


def _home_of(user: str) -> str:
    try:
        import pwd  # noqa: PLC0415  # there is none on Windows

        return pwd.getpwnam(user).pw_dir
    except (ImportError, KeyError, ValueError):
        return ""


def expand(text: str, around: Surroundings) -> str:
    """Variables, ``~``, then absolute against the working directory and normalised.

    Symbolic links are not followed.

    Source: conda 26.7, ``common/path``: ``abspath(expanduser(expandvars(path)))``, of a value whose
    variables were expanded once before. Two traps are kept: an empty text and an unknown variable
    give something below the working directory.
    """
    flavour = pathmod(around)
    done = expand_user(expand_variables(expand_variables(text, around), around), around)
    absolute: str = flavour.normpath(flavour.join(str(around.cwd), done))
    return absolute
