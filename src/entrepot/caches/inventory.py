"""What lies in the caches of every tool.

Found by scans and summed up for ``status``; which of them are meant is told in ``selection.py``.

Works on entries of ``ports/tool.py`` alone. Two entries of one place with the same
``shared`` are made of the same file (the store's bodies, named by digest): removing one of
them gives nothing of it back, removing all of them gives it back once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from entrepot.cache_root import foreign, mount_points, mounted
from entrepot.caches.selection import version_order
from entrepot.names import normalize
from entrepot.ports.tool import (
    Block,
    BlockedBy,
    CacheTotal,
    Entry,
    Kind,
    Place,
    Progress,
    Sum,
    Surroundings,
    Tool,
    share_key,
)

GROUPS = ("downloads", "pages", "built", "unpacked", "logs", "temp", "other")
"""The headings that sizes are summed under, in the order in which they are shown."""


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
    for path in entry.locations:
        try:
            found = os.lstat(path)
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            yield (found.st_dev, found.st_ino), path, found


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


FEW = 5_000
"""Entries up to which :func:`stored_twice` looks."""


def summed_up(
    tool: Tool,
    place: Place,
    around: Surroundings,
    *,
    progress: Progress | None = None,
) -> tuple[CacheTotal, list[Entry] | None]:
    """What one place, which exists, holds; and its entries, while they are few.

    ``None`` in place of entries when the tool could say it without a scan.
    """
    if (known := tool.summary(place, around)) is not None:
        return known, None
    few: list[Entry] = []

    def kept(scanned: Iterable[Entry]) -> Iterator[Entry]:
        for entry in scanned:
            if len(few) <= FEW:
                few.append(entry)
            yield entry

    scanned = tool.scan(place, around, progress=progress)
    return cache_total(place, withheld(place, around, kept(scanned))), few


def stored_twice(
    unscanned: Iterable[Tool],
    around: Surroundings,
    totals: Sequence[CacheTotal],
    entries: Sequence[Entry],
    *,
    complain: Callable[[str, OSError], None] | None = None,
) -> tuple[int, int, list[str]]:
    """Bytes of files that several caches hold, how many files, and whose; only among few entries.

    Args:
        unscanned: tools that summed up their caches without a scan: they are scanned here.
        around: as the caches were looked at.
        totals: of all caches.
        entries: of those that were scanned.
        complain: as for :func:`scan_all`.
    """
    if len(totals) < 2 or sum(each.total.entries for each in totals) > FEW:
        return 0, 0, []
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
        around: environment, home, working directory and platform.
        names: normalized projects that are all that matters.
        progress: told now and then.
        complain: told the tool and the reason of a place that may not be looked into; without it
            that ends the scan.
        anew: last uses decide over removal, so they are not those of an earlier scan.

    Raises:
        OSError: a place may not be looked into, and there is nobody to tell.
    """
    around = around.for_one_look()
    for tool, place in existing(tools, around):
        if names is not None:
            found = tool.scan_named(place, around, names, progress=progress)
        else:
            scan = tool.scan_anew if anew else tool.scan
            found = scan(place, around, progress=progress)
        try:
            yield from withheld(place, around, found)
        except OSError as exc:
            if complain is None:
                raise
            complain(tool.name, exc)


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
    for path in entry.locations:
        for point in points:
            if f"{path}/".startswith(f"{point}/") or point.startswith(f"{path}/"):
                return replace(entry, block=Block(BlockedBy.NOT_PERMITTED, mounted(point)))
    return entry


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
