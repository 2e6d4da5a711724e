"""Which pips there are and of which version, found by reading files.

No interpreter is started, because that costs 0.4 s.

A pip is named by the interpreter it belongs to. Its version decides which rules of :mod:`.places`
hold for it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from entrepot.ports.tool import Surroundings

LATEST = (99,)
"""Stands for a pip whose version cannot be read: the newest rules are taken."""

_VERSION = re.compile(r"""^__version__\s*(?::\s*str)?\s*=\s*["']([^"']+)["']""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pip:
    """One pip and the interpreter it runs in."""

    version: tuple[int, ...]
    """The release numbers, ``(26, 3)``; :data:`LATEST` when they cannot be read."""
    text: str
    """The version as written; ``?`` when it cannot be read."""
    python: Path
    prefix: Path
    """``sys.prefix`` of the interpreter: where its site-level configuration file lies."""

    @property
    def label(self) -> str:
        """For people: ``pip 26.3 (/usr/bin/python3)``."""
        return f"pip {self.text} ({self.python})"


def parse_release(text: str) -> tuple[int, ...]:
    """The leading numbers of a version.

    >>> parse_release("26.0.1.dev2"), parse_release("24.1b2"), parse_release("?")
    ((26, 0, 1), (24, 1), (99,))
    """
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else LATEST


def pips(around: Surroundings) -> list[Pip]:
    """Every pip that can be met here, the one meant by a bare ``pip`` first.

    Only the named one with ``around.python``.

    Looked at, in this order: the interpreter behind ``pip`` on PATH, ``python3`` and ``python`` on
    PATH and the other ``pip`` scripts there, then the interpreter that runs this program. The list
    is never empty: without any pip the newest rules are taken for our own interpreter.
    """
    if around.python is not None:
        return [pip_of(around.python, around)]
    found: dict[Path, Pip] = {}
    for python in _candidates(around):
        pip = pip_of(python, around)
        if pip.text != "?":
            found.setdefault(pip.prefix, pip)
    return list(found.values()) or [pip_of(Path(sys.executable), around)]


def pip_of(python: Path, around: Surroundings) -> Pip:
    """The pip of one interpreter, read from its site-packages."""
    prefix, base = prefixes(python)
    for folder in site_folders(python, prefix, base, around):
        text = installed_version(folder)
        if text is not None:
            return Pip(parse_release(text), text, python, prefix)
    return Pip(LATEST, "?", python, prefix)


def prefixes(python: Path) -> tuple[Path, Path | None]:
    """``sys.prefix``, and the base prefix in a virtual environment with system site packages.

    Source: PEP 405 (``pyvenv.cfg`` beside the interpreter or one level up).
    """
    for folder in (python.parent, python.parent.parent):
        marker = folder / "pyvenv.cfg"
        try:
            lines = marker.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        pairs = (line.partition("=") for line in lines)
        values = {key.strip().lower(): value.strip() for key, found, value in pairs if found}
        if values.get("include-system-site-packages", "").lower() == "true" and values.get("home"):
            return folder, _real_prefix(Path(values["home"]) / python.name)
        return folder, None
    return _real_prefix(python), None


def _real_prefix(python: Path) -> Path:
    real = Path(os.path.realpath(python))
    return real.parent.parent if real.parent.name in ("bin", "Scripts") else real.parent


def site_folders(
    python: Path, prefix: Path, base: Path | None, around: Surroundings
) -> Iterator[Path]:
    """The folders in which an interpreter looks for packages, in its order, read from disk.

    The user's folder is seen by base interpreters only; Debian keeps pip in ``dist-packages``.
    """
    if not os.path.exists(prefix / "pyvenv.cfg"):
        user = around.environ.get("PYTHONUSERBASE") or str(around.home / ".local")
        yield from _libraries(Path(user), python)
    for root in (prefix, base):
        if root is None:
            continue
        yield root / "Lib" / "site-packages"
        yield from _libraries(root / "local", python)
        yield from _libraries(root, python)
        yield root / "lib" / "python3" / "dist-packages"


def _libraries(root: Path, python: Path) -> Iterator[Path]:
    version = re.search(r"python(3\.\d+)", Path(os.path.realpath(python)).name)
    for library in _names(root, "lib"):
        for name in _names(root / library, "python3."):
            if version is None or name == f"python{version[1]}":
                yield root / library / name / "site-packages"
                yield root / library / name / "dist-packages"


def _names(folder: Path, start: str) -> list[str]:
    """Names in a directory that begin so; none when it may not be listed."""
    try:
        return sorted(name for name in os.listdir(folder) if name.startswith(start))
    except OSError:
        return []


def installed_version(folder: Path) -> str | None:
    """The version of the pip in one site-packages folder; ``None`` when there is none.

    ``pip/__init__.py`` is asked first: after a broken upgrade several ``pip-*.dist-info`` may be
    left.
    """
    try:
        found = _VERSION.search((folder / "pip" / "__init__.py").read_text("utf-8", "replace"))
    except OSError:
        return None
    if found:
        return found[1]
    names = [name for name in _names(folder, "pip-") if name.endswith(".dist-info")]
    return names[-1][len("pip-") : -len(".dist-info")] if names else "?"


def _candidates(around: Surroundings) -> Iterator[Path]:
    folders = [Path(part) for part in around.environ.get("PATH", "").split(os.pathsep) if part]
    for name in ("pip", "pip3"):
        for folder in folders:
            python = _interpreter_of_script(folder / name)
            if python is not None:
                yield python
                break
    for folder in folders:
        for name in ("python3", "python", "python.exe"):
            if os.path.isfile(folder / name) and not _is_script(folder / name):
                yield folder / name
        for script in ("pip", "pip3"):
            python = _interpreter_of_script(folder / script)
            if python is not None:
                yield python
    yield Path(sys.executable)


def _is_script(path: Path) -> bool:
    return _start(path, 2) in (None, b"#!")


def _start(path: Path, count: int) -> bytes | None:
    """The first bytes of a file; ``None`` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return None


def _interpreter_of_script(script: Path) -> Path | None:
    """The interpreter named by a ``pip`` script's first lines.

    ``None`` for shims, which only a shell could follow.
    """
    lines = (_start(script, 1024) or b"").decode("utf-8", "replace").splitlines()
    if not lines or not lines[0].startswith("#!"):
        return None
    command = lines[0][2:].strip()
    # the form for interpreters whose path is too long for a first line
    if command == "/bin/sh" and len(lines) > 1:
        found = re.match(r"'''exec' (?:\"([^\"]+)\"|(\S+))", lines[1])
        command = (found[1] or found[2]) if found else ""
    path = Path(command.strip('"'))
    return path if "python" in path.name and os.path.isfile(path) else None
