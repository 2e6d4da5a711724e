"""Paths as a platform's own Python would expand them, whatever platform this is: pure functions of :class:`Surroundings`.

No file is looked at here.
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
    """``$VAR`` and ``${VAR}`` (on Windows ``%VAR%`` too) replaced once; an unknown variable stays as it is written.

    Source: ``os.path.expandvars``, which conda uses for every item of ``pkgs_dirs``.
    """
    pattern = _ANY_VARIABLE if around.platform == "win32" else _POSIX_VARIABLE

    def value(match: re.Match[str]) -> str:
        name = (match[1] or (match[2] if match.re is _ANY_VARIABLE else "")).strip("{}")
        return around.environ.get(name, match[0])

    return pattern.sub(value, text)


def expand_user(text: str, around: Surroundings) -> str:
    """A leading ``~`` replaced by the home directory; ``~other`` is left alone."""
    if text == "~" or text.startswith("~/") or (around.platform == "win32" and text.startswith("~\\")):
        return str(around.home) + text[1:]
    return text


def expand(text: str, around: Surroundings) -> str:
    """Variables, ``~``, then absolute against the working directory and normalised; symbolic links are not followed.

    Source: conda 26.7, ``common/path``: ``abspath(expanduser(expandvars(path)))``. Two traps are kept: an empty text and an
    unknown variable give something below the working directory.
    """
    flavour = pathmod(around)
    done = expand_user(expand_variables(text, around), around)
    absolute: str = flavour.normpath(flavour.join(str(around.cwd), done))

    return absolute
