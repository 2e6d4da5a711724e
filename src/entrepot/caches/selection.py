"""Which entries a person means: patterns, filters, the order of rows, and an environment's name.

Works on entries of ``ports/tool.py`` alone; what they add up to stands in ``inventory.py``.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from entrepot.errors import UsageError
from entrepot.names import normalize
from entrepot.ports.tool import Entry, Kind, Surroundings, Tool

_FILENAME = re.compile(r"\.(whl|zip|conda|metadata|json|tar\.\w+|tgz|bz2)$")
_PATTERN = re.compile(
    r"\s*([A-Za-z0-9._*?-]*[A-Za-z0-9*?])\s*(?:\[[^\]]*\])?\s*((?:===|[=!~<>]=|[<>]).*)?"
)
_CLAUSE = re.compile(r"\s*(===|[=!~<>]=|[<>])\s*([\w*][\w.!+*-]*)\s*")


def matcher(pattern: str) -> Callable[[Entry], bool]:
    """A test for entries, made from what people type.

    ``name``; ``name==1.*``; ``name>=2,<3``; a glob over project names; a file name or a glob over
    file names (anything that ends like one). Versions are compared by PEP 440 where they follow it,
    else only ``==`` and ``!=`` decide, as text.

    Raises:
        UsageError: none of these.
    """
    if _FILENAME.search(pattern):
        return lambda entry: (
            entry.filename is not None and fnmatch.fnmatchcase(entry.filename, pattern)
        )
    found = _PATTERN.fullmatch(pattern)
    if found is None or not found[1]:
        raise UsageError(
            f"invalid pattern {pattern!r}",
            hint="NAME, 'NAME==1.*', 'NAME>=2,<3', or a glob like 'torch*'",
        )
    name = normalize(found[1])
    fits = _version_test(found[2], pattern) if found[2] else None

    def matches(entry: Entry) -> bool:
        if entry.project is None or not fnmatch.fnmatchcase(normalize(entry.project), name):
            return False
        return fits is None or (entry.version is not None and fits(entry.version))

    return matches


def _version_test(text: str, pattern: str) -> Callable[[str], bool]:
    # imported here: `list` without a version must not pay for it
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415
    from packaging.version import InvalidVersion, Version  # noqa: PLC0415

    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    if not all(clauses):
        raise UsageError(
            f"invalid pattern {pattern!r}: {text!r} is not a version specifier",
            hint="write it like '>=2,<3' or '==1.*'",
        )
    try:
        specifiers: SpecifierSet | None = SpecifierSet(text)
    except InvalidSpecifier:
        specifiers = None
    pairs = [(clause[1], clause[2]) for clause in clauses if clause]

    def fits(version: str) -> bool:
        try:
            parsed = Version(version)
        except InvalidVersion:
            parsed = None
        if parsed is not None and specifiers is not None:
            return specifiers.contains(parsed, prereleases=True)
        return all(_as_text(sign, version, wanted) for sign, wanted in pairs)

    return fits


def _as_text(sign: str, version: str, wanted: str) -> bool:
    """One clause for a version that is not PEP 440's (conda allows more).

    An ordering never holds.
    """
    equal = version == wanted or (wanted.endswith(".*") and (version + ".").startswith(wanted[:-1]))
    return equal if sign in ("==", "===") else (not equal if sign == "!=" else False)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are meant; what is not set does not restrict."""

    patterns: tuple[str, ...] = ()
    kinds: frozenset[Kind] = frozenset()
    older_s: float | None = None
    """Unused for that many seconds; an entry whose last use is unknown is not older than anything.
    """
    stale: bool = False
    unused: bool = False
    used_by: frozenset[str] = frozenset()
    """The names that tools may have for one environment that needs it."""

    def names(self) -> frozenset[str] | None:
        """The normalized projects that the patterns name.

        ``None`` when one is a glob or a file name, or there is none.
        """
        found = [
            _PATTERN.fullmatch(pattern)
            for pattern in self.patterns
            if not _FILENAME.search(pattern)
        ]
        named = [each[1] for each in found if each and not re.search(r"[*?\[]", each[1])]
        return (
            frozenset(map(normalize, named)) if named and len(named) == len(self.patterns) else None
        )

    def apply(self, entries: Iterable[Entry], *, now: float) -> Iterator[Entry]:
        """Those of the entries that are meant.

        Raises:
            UsageError: a pattern that is none.
        """
        tests = [matcher(pattern) for pattern in self.patterns]
        for entry in entries:
            if self.kinds and entry.kind not in self.kinds:
                continue
            if self.older_s is not None and not is_older(entry, self.older_s, now=now):
                continue
            if self.stale and entry.state != "stale":
                continue
            if self.unused and not is_unused(entry):
                continue
            if self.used_by and self.used_by.isdisjoint(entry.used_by):
                continue
            if not tests or any(test(entry) for test in tests):
                yield entry


def without_match(patterns: Sequence[str], found: Sequence[Entry]) -> list[str]:
    """Those of several patterns that none of the entries which were found fits.

    A misspelt name must not go unnoticed.
    """
    tests = [(pattern, matcher(pattern)) for pattern in patterns] if len(patterns) > 1 else []
    return [pattern for pattern, fits in tests if not any(map(fits, found))]


def is_older(entry: Entry, age_s: float, *, now: float) -> bool:
    """Whether it was last used more than ``age_s`` seconds ago.

    Never when its last use is not known.
    """
    return entry.used is not None and now - entry.used > age_s


def is_unused(entry: Entry) -> bool:
    """Whether it is something that environments link to, and none does."""
    return entry.kind is Kind.UNPACKED and not entry.used_by and not entry.block


Order = Literal["name", "size", "age"]


def ordered(entries: Iterable[Entry], by: Order) -> list[Entry]:
    """By name and version, by disk (largest first) or last use (oldest first)."""
    return sorted(entries, key=order_key(by))


def order_key(by: Order) -> Callable[[Entry], tuple[Any, ...]]:
    """What :func:`ordered` compares; plain values."""
    if by == "size":
        return lambda e: (-e.disk, e.project or "~", e.key)
    if by == "age":
        return lambda e: (e.used is not None, e.used or 0.0, e.project or "~", e.key)
    return lambda e: (
        e.project is None,
        e.project or e.origin,
        version_order(e.version),
        e.tool,
        e.filename or e.key,
    )


_WORDS = {
    "dev": (0, 0, ""),
    "c": (0, 1, "rc"),
    "pre": (0, 1, "rc"),
    "post": (2, 0, ""),
    "r": (2, 0, ""),
    "rev": (2, 0, ""),
}
"""Where a word stands to the end of a version, ``(1, ...)``, and to a further number, ``(3, ...)``.
"""


@lru_cache(maxsize=1 << 14)
def version_order(version: str | None) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts versions the way people expect, pre-releases before their release.

    No version comes first.

    Good enough to order rows and to keep the newest: numbers compare as numbers, words as words.

    >>> sorted(["1.10", "1.9", "1.10rc1", "2", "1.10.post1"], key=version_order)
    ['1.9', '1.10rc1', '1.10', '1.10.post1', '2']
    """
    if version is None:
        return ()
    epoch, found, rest = version.lower().partition("+")[0].partition("!")
    ranked: list[tuple[int, int, str]] = [(3, int(epoch) if found and epoch.isdigit() else 0, "")]
    for piece in re.findall(r"\d+|[a-z]+", rest if found else epoch):
        if piece.isdigit():
            ranked.append((3, int(piece), ""))
        else:
            ranked.append(_WORDS.get(piece, (0, 1, piece)))
    return (*ranked, (1, 0, version))


# -- environments ----------------------------------------------------------------------------------

WITHIN = ("", ".venv", ".pixi/envs/default")
"""Where the environment of a project's folder is, after the folder itself."""
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Found:
    """One environment."""

    path: Path
    spellings: frozenset[str]
    """Its path as tools may write it: as they found it, and with links resolved."""


def find_environment(tools: Iterable[Tool], around: Surroundings, text: str) -> Found:
    """The environment that is meant.

    Args:
        tools: whose environments are known.
        around: the world; relative paths are its working directory's.
        text: a name, or the path of an environment or of a project that has one.

    Raises:
        UsageError: there is none, or several have that name.
    """
    known = list(dict.fromkeys(each for tool in tools for each in tool.environments(around)))
    if os.sep not in text and text not in {"", ".", ".."}:
        paths = {os.path.realpath(path) for name, path in known if name == text}
        if len(paths) > 1:
            raise UsageError(
                f"several environments are called {text}",
                hint=f"name one by its path: {', '.join(sorted(paths))}",
            )
        if paths:
            return _found(Path(paths.pop()), known)
    folder = around.home / text[2:] if text.startswith("~/") else around.cwd / text
    for part in WITHIN if text else ():
        if is_environment(folder / part):
            return _found(folder / part, known)
    if folder.is_dir() and text:
        raise UsageError(f"{folder} is no environment: it has neither conda-meta nor pyvenv.cfg")
    raise UsageError(f"there is no environment {text!r}", hint=_hint(known, text))


def is_environment(path: Path) -> bool:
    """Whether a folder is an environment of conda's kind or a virtual environment."""
    return (path / "conda-meta").is_dir() or (path / "pyvenv.cfg").is_file()


def _found(path: Path, known: Iterable[tuple[str, Path]]) -> Found:
    real = os.path.realpath(path)
    same = {str(each) for _, each in known if os.path.realpath(each) == real}
    return Found(Path(real), frozenset({real, str(path), *same}))


def _hint(known: list[tuple[str, Path]], text: str) -> str:
    import difflib  # noqa: PLC0415 - only for mistakes

    spelled = {name: name for name, _ in known} | {str(path): str(path) for _, path in known}
    close = difflib.get_close_matches(text, spelled, n=3, cutoff=0.5)
    names = close or list(dict.fromkeys(name for name, _ in known))[:SHOWN]
    if not names:
        return "no environment is known here: give its path"
    return f"{'did you mean' if close else 'known are'} {', '.join(names)}; or give its path"
