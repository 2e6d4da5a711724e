"""What lies in the caches of every tool.

Summed up for ``status``, picked out and ordered for ``list`` and the rest.

Works on entries of ``ports/tool.py`` alone. Two entries of one place with the same
``extra["shares"]`` are made of the same file (the store's bodies, named by digest): removing one of
them gives nothing of it back, removing all of them gives it back once.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, TypeVar

from entrepot.cache_root import foreign, mount_points, mounted
from entrepot.caches.linked_files import linked_files
from entrepot.errors import UsageError
from entrepot.ports.tool import Entry, Kind, Place, Progress, Surroundings, Tool, texts_of

T = TypeVar("T")

GROUPS = ("downloads", "pages", "built", "unpacked", "logs", "temp", "other")
"""The headings that sizes are summed under, in the order in which they are shown."""


@dataclass(slots=True)
class Sum:
    """Sizes of some entries, files counted once however many entries share them.

    Fed by :meth:`add`.
    """

    entries: int = 0
    files: int = 0
    size: int = 0
    """Bytes of content, as the tools count them."""
    used: float | None = None
    """The latest use."""
    _own_disk: int = 0
    _own_freeable: int = 0
    _shared: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Count one more entry."""
        shares = share_key(entry)
        again = shares in self._shared if shares else False
        self.entries += 1
        self.files += entry.files - (1 if again else 0)
        self.size += 0 if again else entry.size
        if entry.used is not None:
            self.used = max(self.used or 0.0, entry.used)
        if shares is None:
            self._own_disk += entry.disk
            self._own_freeable += 0 if entry.pinned else entry.freeable
            return
        body = shared_disk(entry)
        self._own_disk += entry.disk - body
        self._own_freeable += 0 if entry.pinned else entry.disk - body
        seen, pinned = self._shared.get(shares, (body, 0))
        self._shared[shares] = (seen, pinned + bool(entry.pinned or has_other_names(entry)))

    def add_bare(
        self,
        entries: int,
        *,
        files: int,
        size: int,
        disk: int,
        used: float | None,
        freeable: int | None = None,
    ) -> None:
        """Count more entries, which share nothing with others, by their numbers alone.

        All of them may go unless it is said.
        """
        self.entries += entries
        self.files += files
        self.size += size
        self._own_disk += disk
        self._own_freeable += disk if freeable is None else freeable
        if used is not None:
            self.used = max(self.used or 0.0, used)

    def merge(self, other: Sum) -> None:
        """Count all that another sum has; the two must share no files."""
        self.add_bare(**other.bare())

    def bare(self) -> dict[str, Any]:
        """Its numbers alone, for :meth:`add_bare`."""
        return {
            "entries": self.entries,
            "files": self.files,
            "size": self.size,
            "disk": self.disk,
            "used": self.used,
            "freeable": self.freeable,
        }

    @property
    def disk(self) -> int:
        """Bytes of disk, shared files once."""
        return self._own_disk + sum(body for body, _ in self._shared.values())

    @property
    def freeable(self) -> int:
        """Bytes of disk that removing all of them would give back."""
        return self._own_freeable + sum(
            body for body, pinned in self._shared.values() if not pinned
        )


def share_key(entry: Entry) -> tuple[str, str, str] | None:
    """What names the file that this entry shares with others of its place.

    ``None`` when it shares nothing.
    """
    shares = entry.extra.get("shares")
    return (entry.tool, str(entry.place), shares) if shares else None


def shared_disk(entry: Entry) -> int:
    """Bytes of disk of the part that is shared."""
    return int(entry.extra.get("shared-disk", "0"))


def has_other_names(entry: Entry) -> bool:
    """Whether its body is a file of another cache as well, by a hard link.

    Removing it here alone gives nothing of it back.
    """
    return "linked" in entry.extra


@dataclass(frozen=True, slots=True)
class Holding:
    """One cache directory and what lies in it."""

    place: Place
    total: Sum
    groups: Mapping[str, Sum]
    """By heading, those that occur."""
    litter: Mapping[str, Sum]
    """What plain ``clean`` would take, by reason."""
    counted: float | None = None
    """When it was counted, if that was not just now; seconds since the epoch."""
    linked: int = 0
    """Bytes of disk, in the total, of files that are another cache's as well."""
    overhead: int = 0
    """Bytes of disk, in the total, of what is no entry and no removal gives back: a catalogue,
    directories."""


def holding(place: Place, entries: Iterable[Entry]) -> Holding:
    """Sum up the entries of one place."""
    total, groups, litter = Sum(), dict[str, Sum](), dict[str, Sum]()
    for entry in entries:
        total.add(entry)
        groups.setdefault(entry.kind.group, Sum()).add(entry)
        if entry.litter and not entry.pinned:
            litter.setdefault(entry.litter, Sum()).add(entry)
    return Holding(place, total, {name: groups[name] for name in GROUPS if name in groups}, litter)


def packed(held: Holding) -> str:
    """The sums of a holding as a line of text, for :func:`unpacked`."""
    import json  # noqa: PLC0415  (only for large caches)

    def numbers(total: Sum) -> list[float | None]:
        return [total.entries, total.files, total.size, total.disk, total.freeable, total.used]

    named = [
        {name: numbers(each) for name, each in sums.items()} for sums in (held.groups, held.litter)
    ]
    return json.dumps([numbers(held.total), *named])


def unpacked(place: Place, text: str, counted: float) -> Holding | None:
    """A holding from its text; ``None`` when it is none."""
    import json  # noqa: PLC0415

    def total(numbers: list[Any]) -> Sum:
        entries, files, size, disk, freeable, used = numbers
        whole = Sum()
        whole.add_bare(entries, files=files, size=size, disk=disk, freeable=freeable, used=used)
        return whole

    try:
        whole, groups, litter = json.loads(text)
        named = [{name: total(each) for name, each in sums.items()} for sums in (groups, litter)]
        return Holding(place, total(whole), named[0], named[1], counted)
    except (ValueError, TypeError, AttributeError):
        return None


def scan_all(
    tools: Iterable[Tool],
    around: Surroundings,
    *,
    names: Collection[str] | None = None,
    progress: Progress | None = None,
    complain: Callable[[str, OSError], None] | None = None,
    anew: bool = False,
) -> Iterator[Entry]:
    """Every entry of every existing place of some tools, each place once.

    Args:
        tools: whose.
        around: the world.
        names: normalized projects that are all that matters: a tool that can (``scan_named``) then
            reads no more than these.
        progress: told now and then.
        anew: last uses decide over removal: a tool that remembers them looks again (``scan_anew``).
        complain: told the tool and the reason of a place that may not be looked into; without it
            that ends the scan.

    Raises:
        OSError: a place may not be looked into, and there is nobody to tell.
    """
    around = around.for_one_look()
    for tool, place in existing(tools, around):
        named = getattr(tool, "scan_named", None) if names is not None else None
        scan = getattr(tool, "scan_anew", tool.scan) if anew else tool.scan
        found = (
            named(place, around, names, progress=progress)
            if named
            else scan(place, around, progress=progress)
        )
        yield from _heard(tool, withheld(place, around, found), complain)


def scan_in_parts(
    tools: Iterable[Tool],
    around: Surroundings,
    work: Callable[[Iterable[Entry]], T],
    *,
    progress: Progress | None = None,
    complain: Callable[[str, OSError], None] | None = None,
) -> list[T]:
    """What some work makes of all entries.

    Of each place's, and of each half of a large cache's, in a process of its own.

    Args:
        tools: whose.
        around: the world.
        work: gives plain values (numbers, text, lists, tuples, dictionaries) and does no more than
            that.
        progress: told now and then.
        complain: as for :func:`scan_all`.

    Raises:
        OSError: as :func:`scan_all`.
    """
    found: list[T] = []
    around = around.for_one_look()
    for tool, place in existing(tools, around):
        in_parts = getattr(tool, "scan_in_parts", None)
        if in_parts is None:
            scanned = withheld(place, around, tool.scan(place, around, progress=progress))
            found.append(work(_heard(tool, scanned, complain)))
            continue
        try:
            found += in_parts(place, around, work, progress=progress)
        except OSError as exc:
            if complain is None:
                raise
            complain(tool.name, exc)
    return found


def withheld(place: Place, around: Surroundings, entries: Iterable[Entry]) -> Iterable[Entry]:
    """The entries of a place; those that no removal takes are pinned.

    For root those are all of another user's cache; for everybody what has a mount in it or lies in
    one.
    """
    assert place.path is not None  # the caller looked
    if why := foreign(place.path, around.euid):
        return (replace(entry, pinned=why, yields=False, barred=True) for entry in entries)
    points = [point for point in mount_points(place.path) if point != str(place.path)]
    return (_without(points, entry) for entry in entries) if points else entries


def _without(points: Sequence[str], entry: Entry) -> Entry:
    """The entry, pinned if one of its files lies in a mount or a mount in it."""
    for path in texts_of(entry.paths):
        for point in points:
            if f"{path}/".startswith(f"{point}/") or point.startswith(f"{path}/"):
                return replace(entry, pinned=mounted(point), yields=False, barred=True)
    return entry


def _heard(
    tool: Tool, entries: Iterable[Entry], complain: Callable[[str, OSError], None] | None
) -> Iterator[Entry]:
    """The entries up to where the place may not be looked into any further."""
    try:
        yield from entries
    except OSError as exc:
        if complain is None:
            raise
        complain(tool.name, exc)


def existing(tools: Iterable[Tool], around: Surroundings) -> Iterator[tuple[Tool, Place]]:
    """Every existing place of some tools, each place once."""
    for tool in tools:
        seen = set()
        for place in tool.places(around):
            if place.path is not None and place.exists and place.path not in seen:
                seen.add(place.path)
                yield tool, place


# -- picking ---------------------------------------------------------------------------------------

_FILENAME = re.compile(r"\.(whl|zip|conda|metadata|json|tar\.\w+|tgz|bz2)$")
_PATTERN = re.compile(
    r"\s*([A-Za-z0-9._*?-]*[A-Za-z0-9*?])\s*(?:\[[^\]]*\])?\s*((?:===|[=!~<>]=|[<>]).*)?"
)
_CLAUSE = re.compile(r"\s*(===|[=!~<>]=|[<>])\s*([\w*][\w.!+*-]*)\s*")


def normalized(name: str) -> str:
    """A project's name with runs of ``-``, ``_`` and ``.`` as one ``-``, in lower case (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


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
            f"{pattern!r} is no pattern",
            hint="NAME, 'NAME==1.*', 'NAME>=2,<3', or a glob like 'torch*'",
        )
    name = normalized(found[1])
    fits = _version_test(found[2], pattern) if found[2] else None

    def matches(entry: Entry) -> bool:
        if entry.project is None or not fnmatch.fnmatchcase(normalized(entry.project), name):
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
            f"{pattern!r}: {text!r} is no version specifier",
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
            frozenset(map(normalized, named))
            if named and len(named) == len(self.patterns)
            else None
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
    return entry.kind is Kind.UNPACKED and not entry.used_by and not entry.pinned


Order = Literal["name", "size", "age"]


def ordered(entries: Iterable[Entry], by: Order) -> list[Entry]:
    """By name and version, by disk from the largest, or by last use from the longest ago (unknown first)."""
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


def duplicates(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Groups of entries that hold the same distribution or archive more than once on disk, the largest waste first.

    The same: an equal file name of a wheel, sdist or archive, or an equal digest where the name is
    not known. Entries that share one file are not two.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.kind in (Kind.WHEEL, Kind.SDIST, Kind.ARCHIVE) and (
            name := entry.filename or (entry.digest and str(entry.digest))
        ):
            groups.setdefault(name, []).append(entry)
    several = [same for same in groups.values() if len(same) > 1 and len(_distinct(same)) > 1]
    return sorted(several, key=lambda same: (-wasted(same), same[0].filename or ""))


def wasted(same: Sequence[Entry]) -> int:
    """Bytes of disk that all but the largest of these take."""
    distinct = _distinct(same)
    return sum(distinct.values()) - max(distinct.values(), default=0)


def _distinct(same: Iterable[Entry]) -> dict[object, int]:
    """The files that some entries are, each once whatever names it has, and the bytes of disk that they are listed with."""
    found: dict[object, int] = {}
    for entry in same:
        inode = next((inode for inode, _, _ in linked_files(entry)), None)
        found.setdefault(
            inode or share_key(entry) or (entry.tool, str(entry.place), entry.key), entry.disk
        )
    return found


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of one project that lie in the caches."""

    project: str
    versions: tuple[str, ...]
    """Oldest first."""
    total: Sum


def versions(entries: Iterable[Entry]) -> list[Versions]:
    """One row a project, by name; entries without project or version are left out."""
    by_project: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.project and entry.version:
            by_project.setdefault(normalized(entry.project), []).append(entry)
    rows = []
    for project, mine in sorted(by_project.items()):
        total = Sum()
        for entry in mine:
            total.add(entry)
        rows.append(
            Versions(
                project, tuple(sorted({e.version or "" for e in mine}, key=version_order)), total
            )
        )
    return rows
