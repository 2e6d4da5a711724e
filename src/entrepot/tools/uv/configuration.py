"""The configuration files that a uv started here would read, strongest first, and what they say.

``UV_CONFIG_FILE`` names one and then no other counts; ``UV_NO_CONFIG`` turns all off. Else the
project's: the nearest directory upwards with a ``uv.toml`` or with a ``pyproject.toml`` that has
``[tool.uv]`` (a ``uv.toml`` hides the table beside it; of a workspace the search starts at its
root); then the user's and the system's. Keys are combined: each comes from the strongest file that
sets it. Relative paths count from the working directory, ``~`` and variables are not expanded.

Source: uv 0.5.31, 0.8.24, 0.13.8 by experiment (``uv cache dir``); ``uv-settings/src/lib.rs``,
``uv-dirs/src/lib.rs``.
"""

from __future__ import annotations

import fnmatch
import ntpath
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from entrepot.edits import toml_line
from entrepot.ports.tool import Surroundings
from entrepot.tools._shared.safe_read import is_file, read_text, table

Level = Literal["named", "project", "user", "system"]
TRUE = frozenset("y yes t true on 1".split())
FALSE = frozenset("n no f false off 0".split())


@dataclass(frozen=True, slots=True)
class File:
    """One file in force."""

    level: Level
    path: Path
    options: Mapping[str, Any]
    """uv's settings in it; of a ``pyproject.toml`` those under ``[tool.uv]``."""
    error: str = ""
    """Why uv itself would stop at it."""

    @property
    def prefix(self) -> tuple[str, ...]:
        """Where uv's settings stand in it."""
        return ("tool", "uv") if self.path.name == "pyproject.toml" else ()


def files(around: Surroundings) -> list[File]:
    """Every file in force, strongest first."""
    named = around.environ.get("UV_CONFIG_FILE")
    if named:
        return [read("named", Path(around.cwd) / named)]
    if around.environ.get("UV_NO_CONFIG", "").lower() in TRUE:
        return []
    found = [project(around)]
    user = user_file(around)
    found.append(read("user", user) if is_file(user) else None)
    if around.environ.get("UV_NO_SYSTEM_CONFIG", "").lower() not in TRUE:
        system = system_file(around)
        found.append(read("system", system) if system else None)
    return [file for file in found if file is not None]


def read(level: Level, path: Path) -> File:
    """One file; what is wrong with it is its ``error``."""
    text = read_text(path)
    if not text and not is_file(path):
        return File(level, path, {}, f"{path} is not there")
    data = _parsed(text)
    if isinstance(data, str):
        return File(level, path, {}, f"{path} cannot be read: {data}")
    return File(level, path, table(data, "tool", "uv") if path.name == "pyproject.toml" else data)


def _parsed(text: str) -> dict[str, Any] | str:
    """The tables of a TOML text, or why it is none."""
    import tomllib  # noqa: PLC0415  # 8 ms that a start without such files does not pay

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        return str(exc)


def project(around: Surroundings) -> File | None:
    """The project's file: the nearest upwards."""
    start = workspace(Path(around.cwd)) or Path(around.cwd)
    for folder in (start, *start.parents):
        path = folder / "uv.toml"
        if is_file(path):
            return read("project", path)
        path = folder / "pyproject.toml"
        if (options := _tool_table(path)) is not None:
            return File("project", path, options)
    return None


def _tool_table(path: Path) -> dict[str, Any] | None:
    """``[tool.uv]``, even an empty one; ``None`` without it.

    A broken ``pyproject.toml`` uv warns of and passes by.
    """
    text = read_text(path)
    data = _parsed(text) if "uv" in text else ""
    tool = {} if isinstance(data, str) else table(data, "tool")
    return table(tool, "uv") if isinstance(tool.get("uv"), dict) else None


def workspace(cwd: Path) -> Path | None:
    """The root of the workspace whose member lies here or above; ``None`` when there is none."""
    above = (cwd, *cwd.parents)
    member = next((folder for folder in above if is_file(folder / "pyproject.toml")), None)
    if member is None:
        return None
    for folder in (member, *member.parents):
        options = _tool_table(folder / "pyproject.toml")
        if options is None or not isinstance(options.get("workspace"), dict):
            continue
        inside, found = member.relative_to(folder).as_posix(), table(options, "workspace")
        fits = _fits(inside, found.get("members")) and not _fits(inside, found.get("exclude"))
        return folder if inside == "." or fits else None
    return None


def _fits(path: str, patterns: Any) -> bool:
    return isinstance(patterns, list) and any(
        isinstance(pattern, str)
        and pattern.count("/") == path.count("/")
        and fnmatch.fnmatchcase(path, pattern.rstrip("/"))
        for pattern in patterns
    )


def user_file(around: Surroundings) -> Path:
    """``uv/uv.toml`` in ``$XDG_CONFIG_HOME`` or ``~/.config`` (macOS too), or ``%APPDATA%``."""
    if around.platform == "win32":
        roaming = around.environ.get("APPDATA")
        roaming = roaming or ntpath.join(str(around.home), "AppData", "Roaming")
        return Path(ntpath.join(roaming, "uv", "uv.toml"))
    xdg = around.environ.get("XDG_CONFIG_HOME", "")
    return Path(xdg if xdg.startswith("/") else f"{around.home}/.config", "uv", "uv.toml")


def system_file(around: Surroundings) -> Path | None:
    """The first there is in ``$XDG_CONFIG_DIRS`` (else ``/etc/xdg``), then ``/etc/uv``.

    On Windows that in ``ProgramData``.
    """
    if around.platform == "win32":
        drive = around.environ.get("SYSTEMDRIVE")
        path = Path(ntpath.join(f"{drive}\\", "ProgramData", "uv", "uv.toml"))
        return path if drive and is_file(path) else None
    folders = (around.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    places = [Path(folder, "uv", "uv.toml") for folder in folders if folder]
    return next((path for path in [*places, Path("/etc/uv/uv.toml")] if is_file(path)), None)


def flat(options: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Settings with dotted names; arrays whole."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def line_of(file: File, key: str) -> str:
    """``PATH:LINE`` of a setting (``pip.index-url``); ``PATH`` when it cannot be told."""
    line = toml_line(read_text(file.path), ".".join((*file.prefix, key)))
    return f"{file.path}:{line}" if line else str(file.path)


def resolved(path: str, around: Surroundings) -> Path:
    """A path as uv takes it: relative ones from the working directory."""
    if around.platform == "win32":
        return Path(ntpath.normpath(ntpath.join(str(around.cwd), path)))
    return Path(os.path.normpath(os.path.join(str(around.cwd), path)))
