"""Filling the store with conda packages.

What explicit lists, lock files and environment files ask for, and for which platform.

Explicit lists and lock files name every archive with its digest; an environment file must be solved
first (:mod:`.solving`).

Source: conda 26.7, ``list --explicit`` and ``env create``; conda-lock 3; pixi 0.60.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from entrepot.errors import UsageError
from entrepot.links import Link
from entrepot.lockfiles import read_lock, read_locked
from entrepot.ports.tool import Surroundings
from entrepot.tools.conda.platform_paths import expand_variables

LARGEST = 64 << 20
"""Bytes of a file that is read."""

_SUBDIR = re.compile(r"(?:linux|osx|win|freebsd|zos|emscripten|wasi)-[a-z0-9]+").fullmatch
_MACHINES = {"x86_64": "64", "amd64": "64", "i386": "32", "i686": "32"}
_SYSTEMS = {"linux": "linux", "darwin": "osx", "win32": "win"}
_EXPLICIT = re.compile(r"^@EXPLICIT\s*$", re.MULTILINE).search
_LOCK = re.compile(r"^(?:version:\s*\d|package:|packages:|environments:)", re.MULTILINE).search
_ENVIRONMENT = re.compile(r"^dependencies:", re.MULTILINE).search


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file to fetch."""

    link: Link
    unneeded: str = ""
    """Why it is not needed here; empty: it is."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What an environment file asks for."""

    path: Path
    channels: tuple[str, ...]
    """With variables replaced; ``nodefaults`` is one of them."""
    specs: tuple[str, ...]
    pip: tuple[str, ...] = ()
    """Lines of its ``pip:`` section, as in a requirement file; files that they name are absolute.
    """


def is_platform(text: str) -> bool:
    """Whether a word is conda's name of a platform (``linux-64``), and no wheel's tag.

    >>> is_platform("osx-arm64"), is_platform("manylinux_2_28_aarch64")
    (True, False)
    """
    return _SUBDIR(text) is not None


def this_platform(around: Surroundings, machine: str = "") -> str:
    """Name, in conda's words, of the platform that packages are installed for here.

    Source: conda 26.7: ``CONDA_SUBDIR``, else of the machine; every other processor goes by its own
    name.
    """
    named = around.environ.get("CONDA_SUBDIR", "").strip()
    machine = (machine or platform.machine()).lower()
    word = _MACHINES.get(machine, machine)
    if around.platform == "darwin" and word == "aarch64":
        word = "arm64"
    return named or f"{_SYSTEMS[around.platform]}-{word}"


def sort_of(path: Path) -> str:
    """What a file is, by its content: ``explicit``, ``lock``, ``env``.

    Empty when it is none of these.

    Raises:
        UsageError: it cannot be read.
    """
    text = _read(path)
    if _EXPLICIT(text):
        return "explicit"
    if path.name == "pixi.lock" or (_LOCK(text) and not _ENVIRONMENT(text)):
        return "lock"
    return "env" if _ENVIRONMENT(text) else ""


def explicit_items(path: Path, platforms: Iterable[str]) -> list[Wanted]:
    """The archives of an explicit list.

    It is for one platform, so only named ``platforms`` leave some out.

    Raises:
        UsageError: it cannot be read, or names nothing that can be fetched.
    """
    links = read_lock(_read(path), name=f"{path}.txt").links
    # one link a file: another spelling of its URL, which only pip would ask for, is left out
    once = {(link.url.rpartition("/")[0], link.filename): link for link in reversed(links)}
    wanted = frozenset(platforms)
    return _some(path, [_wanted(link, frozenset(), wanted) for link in reversed(once.values())])


def locked_items(path: Path, platforms: Iterable[str]) -> list[Wanted]:
    """The archives and wheels of a conda-lock.yml or pixi.lock.

    Those of other platforms are marked.

    Raises:
        UsageError: it cannot be read, or names nothing that can be fetched.
    """
    locked = read_locked(_read(path), str(path))
    return _some(
        path, [_wanted(each.link, each.platforms, frozenset(platforms)) for each in locked]
    )


def environment(path: Path, around: Surroundings) -> Environment:
    """What an environment.yml asks for.

    Variables in its channels are replaced, and nowhere else (conda 26.7, ``env/env.py``).

    Raises:
        UsageError: it cannot be read, or is none.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415 - late: heavy, and other files do without
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        data = YAML(typ="safe", pure=True).load(_read(path))
    except (YAMLError, ValueError, TypeError, RecursionError) as exc:
        raise UsageError(f"{path} is not YAML: {' '.join(str(exc).split())[:200]}") from exc
    if not isinstance(data, Mapping) or not isinstance(data.get("dependencies"), list):
        raise UsageError(
            f"{path} is no environment file: it has no list of dependencies",
            hint="entrepot warm --lock FILE for locks",
        )
    channels = data.get("channels") or []
    if not isinstance(channels, list):
        raise UsageError(f"{path}: channels is not a list")
    specs: list[str] = []
    pip: list[str] = []
    for each in data["dependencies"]:
        if isinstance(each, Mapping) and isinstance(each.get("pip"), list):
            pip += [_absolute(path, str(line)) for line in each["pip"]]
        elif isinstance(each, str | int | float):
            specs.append(str(each))
        else:
            what = str(each)[:80]
            raise UsageError(f"{path}: a dependency that is neither a text nor pip: {what}")
    for word in (*channels, *specs):
        if str(word).startswith("-"):
            raise UsageError(f"{path}: {str(word)[:80]!r} is no channel and no package")
    expanded = tuple(expand_variables(str(channel), around) for channel in channels)
    return Environment(path, expanded, tuple(specs), tuple(pip))


def _absolute(path: Path, line: str) -> str:
    """A ``pip:`` line with absolute paths: pip starts in the file's folder (conda 26.7)."""
    named = re.fullmatch(
        r"(-r|--requirement|-c|--constraint|-e|--editable)[\s=]+(\S+)", line.strip()
    )
    if named and "://" not in named[2]:
        return f"{named[1]} {path.parent / named[2]}"
    return str(path.parent / line) if re.match(r"\.{1,2}(/|$)", line) else line


def _wanted(link: Link, platforms: frozenset[str], wanted: frozenset[str]) -> Wanted:
    subdir = link.url.rpartition("/")[0].rpartition("/")[2]
    needing = platforms or (frozenset({subdir}) if is_platform(subdir) else frozenset())
    if not wanted or not needing or needing & wanted or "noarch" in needing:
        return Wanted(link)
    return Wanted(link, f"for {', '.join(sorted(needing))}")


def _some(path: Path, items: list[Wanted]) -> list[Wanted]:
    if not items:
        hint = (
            "conda-lock.yml, pixi.lock and @EXPLICIT lists are understood; for other tools: "
            "entrepot run -- COMMAND"
        )
        raise UsageError(f"{path} names no archive that could be fetched", hint=hint)
    return items


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path} is too large to be one of these files")
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
