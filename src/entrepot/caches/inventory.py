"""What lies in the caches of every tool.

Found by scans and summed up for ``status``; which of them are meant is told in ``selection.py``.

Works on entries of ``ports/tool.py`` alone. Two entries of one place with the same
``extra["shares"]`` are made of the same file (the store's bodies, named by digest): removing one of
them gives nothing of it back, removing all of them gives it back once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from entrepot.cache_root import foreign, mount_points, mounted
from entrepot.caches.selection import version_order
from entrepot.names import normalize
from entrepot.ports.tool import (
    Block,
    BlockedBy,
    Entry,
    Kind,
    Place,
    Progress,
    Surroundings,
    Tool,
    texts_of,
)

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
            self._own_freeable += 0 if entry.block else entry.freeable
            return
        body = shared_disk(entry)
        self._own_disk += entry.disk - body
        self._own_freeable += 0 if entry.block else entry.disk - body
        seen, blocked = self._shared.get(shares, (body, 0))
        self._shared[shares] = (seen, blocked + bool(entry.block or entry.hard_linked))

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
            body for body, blocked in self._shared.values() if not blocked
        )


def share_key(entry: Entry) -> tuple[str, str, str] | None:
    """What names the file that this entry shares with others of its place.

    ``None`` when it shares nothing.
    """
    return (entry.tool, str(entry.place), entry.shared.key) if entry.shared else None


def shared_disk(entry: Entry) -> int:
    """Bytes of disk of the part that is shared."""
    return entry.shared.disk if entry.shared else 0


Inode = tuple[int, int]
"""Device and number."""


def linked_files(entry: Entry) -> Iterator[tuple[Inode, str, os.stat_result]]:
    """The plain files of an entry that have other names too, each with its path.

    What the store took over from pip's cache by a hard link is a file of both: two caches hold it
    once. Only looked for where the entry says so. Directories of unpacked files are not looked
    into: their tool has judged them.
    """
    if entry.kind is Kind.UNPACKED or entry.freeable >= entry.disk:
        return
    for path in entry.paths:
        try:
            found = os.lstat(path)
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            yield (found.st_dev, found.st_ino), str(path), found


@dataclass(frozen=True, slots=True)
class CacheTotal:
    """One cache directory and what lies in it."""

    place: Place
    total: Sum
    groups: Mapping[str, Sum]
    """By heading, those that occur."""
    removable: Mapping[str, Sum]
    """What plain ``clean`` would take, by reason."""
    counted: float | None = None
    """When it was counted, if that was not just now; seconds since the epoch."""
    linked: int = 0
    """Bytes of disk, in the total, of files that are another cache's as well."""
    overhead: int = 0
    """Bytes of disk, in the total, of what is no entry and no removal gives back: a catalogue,
    directories."""


def cache_total(place: Place, entries: Iterable[Entry]) -> CacheTotal:
    """Sum up the entries of one place."""
    total, groups, removable = Sum(), dict[str, Sum](), dict[str, Sum]()
    for entry in entries:
        total.add(entry)
        groups.setdefault(entry.kind.group, Sum()).add(entry)
        if entry.removable_because and not entry.block:
            removable.setdefault(entry.removable_because, Sum()).add(entry)
    return CacheTotal(
        place, total, {name: groups[name] for name in GROUPS if name in groups}, removable
    )


def packed(held: CacheTotal) -> str:
    """The sums of a cache as a line of text, for :func:`unpacked`."""
    import json  # noqa: PLC0415  (only for large caches)

    named = [
        {name: each.bare() for name, each in sums.items()} for sums in (held.groups, held.removable)
    ]
    return json.dumps([held.total.bare(), *named])


def unpacked(place: Place, text: str, counted: float) -> CacheTotal | None:
    """Sums from their text; ``None`` when it is none."""
    import json  # noqa: PLC0415

    def total(numbers: dict[str, Any]) -> Sum:
        whole = Sum()
        whole.add_bare(**numbers)
        return whole

    try:
        whole, groups, removable = json.loads(text)
        named = [{name: total(each) for name, each in sums.items()} for sums in (groups, removable)]
        return CacheTotal(place, total(whole), named[0], named[1], counted)
    except (ValueError, TypeError, AttributeError):
        return None


MANY = 20_000
"""Entries from which on a cache is not counted again each time."""
COUNTED_S = 3600.0
"""Seconds for which its sums are shown as they were counted."""
FEW = 5_000
"""Entries up to which :func:`stored_twice` looks."""


def summed_up(
    tool: Tool,
    place: Place,
    around: Surroundings,
    entries: list[Entry],
    *,
    now: float,
    again: bool = False,
    meter: Progress | None = None,
) -> CacheTotal:
    """What one place holds, in the cheapest way there is.

    By the tool itself where it needs no entries for it (``summary``), from the sums of a large
    cache that was counted within the hour, or by a scan.

    Args:
        tool: whose place it is.
        place: one that exists.
        around: the world.
        entries: those of a scan are added, while they are few.
        now: seconds since the epoch.
        again: count a large cache whenever it was counted last.
        meter: told now and then.
    """
    if summary := getattr(tool, "summary", None):
        held: CacheTotal = summary(place, around)
        return held
    sums = getattr(tool, "sums", None)
    found = sums(place, around) if sums and not again else None
    if found is not None and 0 <= now - found[0] <= COUNTED_S:
        remembered = unpacked(place, found[1], found[0])
        if remembered is not None:
            return remembered
    few: list[Entry] = []

    def kept(scanned: Iterable[Entry]) -> Iterator[Entry]:
        for entry in scanned:
            if len(few) <= FEW:
                few.append(entry)
            yield entry

    held = cache_total(
        place, withheld(place, around, kept(tool.scan(place, around, progress=meter)))
    )
    entries += few
    keep = getattr(tool, "keep_sums", None)
    if keep and held.total.entries >= MANY:
        keep(place, around, packed(held))
    return held


def stored_twice(
    tools: Iterable[Tool],
    around: Surroundings,
    holdings: Sequence[CacheTotal],
    entries: Sequence[Entry],
    *,
    complain: Callable[[str, OSError], None] | None = None,
) -> tuple[int, int, list[str]]:
    """Bytes of files that several caches hold, how many files, and whose; only among few entries.

    Args:
        tools: whose caches the holdings are.
        around: as the caches were looked at.
        holdings: of all caches.
        entries: of those that were scanned; what tools summed up themselves is scanned here.
        complain: as for :func:`scan_all`.
    """
    if len(holdings) < 2 or sum(h.total.entries for h in holdings) > FEW:
        return 0, 0, []
    unscanned = [tool for tool in tools if hasattr(tool, "summary")]
    groups = duplicates([*scan_all(unscanned, around, complain=complain), *entries])
    owners = sorted({entry.tool for same in groups for entry in same})
    return sum(wasted(same) for same in groups), len(groups), owners


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


def withheld(place: Place, around: Surroundings, entries: Iterable[Entry]) -> Iterable[Entry]:
    """The entries of a place; those that no removal takes are blocked.

    For root those are all of another user's cache; for everybody what has a mount in it or lies in
    one.
    """
    assert place.path is not None  # the caller looked
    if why := foreign(place.path, around.euid):
        block = Block(BlockedBy.NOT_PERMITTED, why)
        return (replace(entry, block=block) for entry in entries)
    points = [point for point in mount_points(place.path) if point != str(place.path)]
    return (_without(points, entry) for entry in entries) if points else entries


def _without(points: Sequence[str], entry: Entry) -> Entry:
    """The entry, blocked if one of its files lies in a mount or a mount in it."""
    for path in texts_of(entry.paths):
        for point in points:
            if f"{path}/".startswith(f"{point}/") or point.startswith(f"{path}/"):
                return replace(entry, block=Block(BlockedBy.NOT_PERMITTED, mounted(point)))
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


def duplicates(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Groups of entries that hold the same file more than once on disk, the largest waste first.

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
    """The files of some entries, each once however many names it has, with its bytes of disk."""
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
            by_project.setdefault(normalize(entry.project), []).append(entry)
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
