"""What explicit lists, lock files and environment files ask for, and for which platform.

Lists and lock files name every archive with its digest. An environment file must be solved first,
by the user's own tool: mamba, micromamba and conda say as JSON what they would install (``create
--dry-run``), pixi writes a lock. Without any of them py-rattler does, where it is there. Nothing is
installed; their caches are put aside, so that they ask for every index and the store gets it.

Source: conda 26.7 (``list --explicit``, ``env create``, ``actions`` of ``--json``: FETCH are whole
records, LINK may lack the URL) and py-rattler 0.28, both run; conda-lock 3; mamba 2.8 (both are
whole) and pixi 0.60 (``init --import`` and ``lock``), by their sources alone.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrepot.errors import UsageError
from entrepot.links import Link
from entrepot.lockfiles import read_lock, read_locked
from entrepot.lockfiles.pins import digest_or_none
from entrepot.names import classify, filename_of
from entrepot.ports.tool import Surroundings
from entrepot.redaction import redacted_words
from entrepot.tools.conda.platform_paths import expand_variables
from entrepot.urls import canonical_url

LARGEST = 64 << 20
"""Bytes of a file that is read."""
CLASSIC = ("mamba", "micromamba", "conda")
"""The quickest first; all take the same words."""

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


# -- solving ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Solver:
    """A program that can solve."""

    name: str
    """``mamba``, ``micromamba``, ``conda``, ``pixi`` or ``py-rattler``."""
    program: str

    def commands(self, wanted: Environment, platform: str, folder: Path) -> list[list[str]]:
        """What to run, one after another.

        All work happens in ``folder``, which is there and empty.
        """
        program, project = self.program, folder / "project"
        if self.name == "pixi":
            start = [program, "init", "--import", str(wanted.path), "--platform", platform]
            lock = [program, "lock", "--manifest-path", str(project / "pixi.toml")]
            return [[*start, str(project)], lock]
        named = [channel for channel in wanted.channels if channel != "nodefaults"]
        channels = [word for channel in named for word in ("-c", channel)]
        if self.name == "py-rattler":
            words = [program, "-m", "entrepot.tools.conda.rattler_solving", "--platform", platform]
            return [[*words, "--cache", str(folder / "cache"), *channels, "--", *wanted.specs]]
        words = [program, "create", "--yes", "--json", "--dry-run", "--prefix"]
        alone = ["--override-channels"] if "nodefaults" in wanted.channels else []
        return [[*words, str(folder / "prefix"), *alone, *channels, *wanted.specs]]

    def environment(self, platform: str, folder: Path) -> dict[str, str]:
        """Variables on top of those that lead it through the proxy."""
        cache = str(folder / "pkgs")
        return {
            "CONDA_PKGS_DIRS": cache,
            "CONDA_SUBDIR": platform,
            "CONDA_NUMBER_CHANNEL_NOTICES": "0",
            "PIXI_CACHE_DIR": cache,
            "RATTLER_CACHE_DIR": cache,
        }

    def links(
        self, answer: str, folder: Path, record_of: Callable[[str], Mapping[str, Any]]
    ) -> list[Link]:
        """The archives that it has chosen.

        Args:
            answer: what it wrote to its standard output.
            folder: where it worked.
            record_of: the record of a package by ``NAME-VERSION-BUILD``, out of any known cache;
                empty when there is none.

        Raises:
            UsageError: it did not say.
        """
        if self.name == "pixi":
            lock = (folder / "project/pixi.lock").read_text("utf-8")
            return [each.link for each in read_locked(lock, "pixi.lock")]
        try:
            told = json.loads(answer[answer.index("{") :])
            return list(_links(told, record_of))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise UsageError(
                f"{self.name} did not say which archives it would install: {exc}"
            ) from exc


def solver(around: Surroundings, *, has_rattler: bool) -> Solver:
    """Who solves.

    Args:
        around: PATH is looked at.
        has_rattler: whether py-rattler is installed beside entrepot.

    Raises:
        UsageError: there is none.
    """
    for name in (*CLASSIC, "pixi"):
        for folder in around.environ.get("PATH", "").split(os.pathsep):
            program = Path(folder) / (f"{name}.exe" if around.platform == "win32" else name)
            if folder and os.access(program, os.X_OK) and program.is_file():
                return Solver(name, str(program))
    if has_rattler:
        return Solver("py-rattler", sys.executable)
    raise UsageError(
        "environment.yml needs a solver: no conda, mamba, micromamba or pixi on PATH, "
        "and py-rattler is not installed",
        hint="pip install 'entrepot[conda]', or fetch what a lock file names: "
        "entrepot warm --lock conda-lock.yml",
    )


def reason(name: str, answer: str, log: str) -> str:
    """The sentence that says why it could not be solved.

    Of its JSON, else the last lines that it wrote; no credential in it.
    """
    try:
        told = json.loads(answer[answer.index("{") :])
    except ValueError:
        told = {}
    said = next(
        (str(told[key]) for key in ("message", "error", "solver_problems") if told.get(key)), ""
    )
    lines = [line.strip() for line in (said or log).splitlines() if line.strip()]
    (text,) = redacted_words([" ".join(lines[-3:])[:500] if lines else "it said nothing"])
    return f"{name}: {text}"


def _links(
    told: Mapping[str, Any], record_of: Callable[[str], Mapping[str, Any]]
) -> Iterator[Link]:
    actions = told["actions"]
    fetched: dict[str, Mapping[str, Any]] = {}
    linked: list[str] = []
    for action in actions if isinstance(actions, list) else [actions]:
        fetched.update((_stem(record), record) for record in action.get("FETCH") or ())
        for record in action.get("LINK") or ():
            linked.append(_stem(record))
            if record.get("url"):
                fetched.setdefault(linked[-1], record)
    for stem in dict.fromkeys([*linked, *fetched]):
        record = fetched.get(stem) or record_of(stem)
        if not str(record.get("url", "")).startswith(("http://", "https://")):
            raise UsageError(f"no address is known for {stem}")
        url, size = canonical_url(str(record["url"])), record.get("size")
        filename = filename_of(url)
        name = classify(filename)
        digests = (digest_or_none(record.get(key)) for key in ("sha256", "md5"))
        yield Link(
            url,
            tuple(digest for digest in digests if digest),
            size if isinstance(size, int) and size > 0 else None,
            name.project if name else None,
            name.version if name else None,
            filename or None,
            "archive",
            source="solved",
        )


def _stem(record: Mapping[str, Any]) -> str:
    if named := record.get("dist_name"):
        return str(named)
    return f"{record['name']}-{record['version']}-{record.get('build') or record['build_string']}"
