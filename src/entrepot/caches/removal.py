"""Planning what ``remove`` and ``clean`` take, and doing it.

A plan changes nothing and its numbers are those of the disk.

Which entries may go is the tools' word (``block``, ``removable_because``, ``used_by``); which of
those *do* go is decided here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from entrepot.caches.inventory import Inode, linked_files
from entrepot.caches.selection import Filter, is_older, is_unused, version_order
from entrepot.fs import disk_of
from entrepot.names import normalize
from entrepot.ports.tool import (
    Entry,
    Kind,
    Progress,
    Removed,
    Sum,
    Surroundings,
    Tool,
    share_key,
    shared_disk,
)
from entrepot.sizes import show_size


@dataclass(frozen=True, slots=True)
class Requirement:
    """What ``clean`` was asked for; what its tool calls removable always goes."""

    everything: bool = False
    older_s: float | None = None
    unused: bool = False
    keep_latest: int | None = None
    """Versions of each project to keep in each cache."""
    to_bytes: int | None = None
    """Bytes of disk that all the caches together may hold afterwards, what environments link to
    included."""
    force: bool = False
    """Also what is blocked for a reason that force overrides: recent, most of the time."""
    kinds: frozenset[Kind] = frozenset()
    """Nothing but these; empty: all kinds."""


@dataclass(slots=True)
class Plan:
    """What goes and why, and what was meant but stays."""

    going: list[tuple[Entry, str]] = field(default_factory=list)
    staying: list[tuple[Entry, str]] = field(default_factory=list)
    freed: int = 0
    """Bytes of disk that doing it gives back; files that others share are counted only when all of
    those go."""
    left: int | None = None
    """Bytes of disk that the caches hold afterwards; only of a plan with a size to get down to."""

    @property
    def entries(self) -> list[Entry]:
        """The entries that go."""
        return [entry for entry, _ in self.going]

    @property
    def download(self) -> int:
        """Bytes to be fetched to get it all back: what was fetched and is of use."""
        again = Sum()
        for entry, _ in self.going:
            if not entry.removable_because and entry.kind not in (Kind.BUILT, Kind.TEMP, Kind.LOG):
                again.add(entry)
        return again.size

    @property
    def builds(self) -> int:
        """Wheels to be built to get it all back."""
        return sum(e.kind is Kind.BUILT and not e.removable_because for e, _ in self.going)

    def groups(self) -> list[tuple[str, str, Sum]]:
        """Tool, reason and sum of what goes, in the order of first mention."""
        return grouped(self.going)


def grouped(pairs: Iterable[tuple[Entry, str]]) -> list[tuple[str, str, Sum]]:
    """Tool, reason and sum of entries with their reasons, in the order of first mention."""
    sums: dict[tuple[str, str], Sum] = {}
    for entry, reason in pairs:
        sums.setdefault((entry.tool, reason), Sum()).add(entry)
    return [(tool, reason, total) for (tool, reason), total in sums.items()]


def plan_removal(
    entries: Sequence[Entry], wanted: Filter, *, now: float, force: bool = False
) -> Plan:
    """A plan for ``remove``: what matches, but for what is blocked.

    With ``force`` also what it overrides.

    Raises:
        UsageError: a pattern that is none.
    """
    plan = Plan()
    for entry in wanted.apply(entries, now=now):
        if not entry.is_removable(force=force):
            plan.staying.append((entry, entry.blocked))
        else:
            plan.going.append((entry, _title(entry)))
    plan.freed = freed_by(plan.entries, entries)
    return plan


def plan_cleaning(entries: Sequence[Entry], wanted: Requirement, *, now: float) -> Plan:
    """A plan for ``clean``: what is removable of itself, and what was asked for besides.

    ``to_bytes`` comes last: after all else the least recently used go until the rest fits; what
    nobody knows the last use of goes first.
    """
    plan = Plan()
    chosen: dict[int, str] = {}
    old_versions = _superseded(entries, wanted.keep_latest)
    for number, entry in enumerate(entries):
        reason = entry.removable_because or _reason(entry, wanted, number in old_versions, now=now)
        if not reason or not _is_meant(entry, wanted):
            continue
        if entry.is_removable(force=wanted.force):
            chosen[number] = reason
        else:
            plan.staying.append((entry, entry.blocked))
    account = _Account(entries).take(entries[number] for number in chosen)
    if wanted.to_bytes is not None:
        _shrink(entries, chosen, wanted, account)
        plan.left = account.held
    plan.going = [(entries[number], reason) for number, reason in chosen.items()]
    plan.freed = account.freed
    return plan


def _is_meant(entry: Entry, wanted: Requirement) -> bool:
    return not wanted.kinds or entry.kind in wanted.kinds


def _reason(entry: Entry, wanted: Requirement, is_old_version: bool, *, now: float) -> str:
    if wanted.everything:
        return entry.kind.group
    if wanted.older_s is not None and is_older(entry, wanted.older_s, now=now):
        return f"{entry.kind.group} unused for {max(1, round(wanted.older_s / 86_400))} days"
    # what is blocked stays, and is shown with its reason
    if wanted.unused and is_unused(replace(entry, block=None)):
        return "unpacked, no environment links to it"
    return "older versions" if is_old_version else ""


def _superseded(entries: Sequence[Entry], keep: int | None) -> frozenset[int]:
    """Positions of entries not among the ``keep`` newest versions of their project and cache."""
    versions: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    for number, entry in enumerate(entries if keep is not None else ()):
        if entry.project and entry.version:
            project = entry.tool, str(entry.place), normalize(entry.project)
            versions.setdefault(project, {}).setdefault(entry.version, []).append(number)
    return frozenset(
        number
        for of in versions.values()
        for version in sorted(of, key=version_order)[: max(0, len(of) - (keep or 0))]
        for number in of[version]
    )


class _Account:
    """What the caches hold and what the disk gets back, while entries go one by one.

    What an environment has a hard link to is held no more and frees nothing; what another cache has
    a name of is held still.

    Args:
        entries: all there are.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        total = Sum()
        self._sharers: dict[tuple[str, str, str], int] = {}
        self._names: dict[Inode, set[str]] = {}
        """The names that a file has in the entries, and of these the ones that went."""
        self._gone: dict[Inode, set[str]] = {}
        twice = 0
        for entry in entries:
            total.add(entry)
            if key := share_key(entry):
                self._sharers[key] = self._sharers.get(key, 0) + 1
            for inode, path, found in linked_files(entry):
                names = self._names.setdefault(inode, set())
                twice += disk_of(found) if names and path not in names else 0
                names.add(path)
        self.held = total.disk - twice
        """Bytes of disk that the caches hold, as ``status`` counts them, a store's ``overhead``
        left out."""
        self.freed = 0
        """Bytes of disk that are given back; what several share only when all of them have gone."""

    def take(self, going: Iterable[Entry]) -> Self:
        """Let entries go; itself."""
        for entry in going:
            self.held -= entry.disk
            self.freed += entry.freeable
            if key := share_key(entry):
                self._sharers[key] -= 1
                if self._sharers[key]:
                    self.held += shared_disk(entry)
                    continue
                self.freed += 0 if entry.hard_linked else shared_disk(entry)
            for inode, path, found in linked_files(entry):
                gone = self._gone.setdefault(inode, set())
                if path not in gone:
                    gone.add(path)
                    freed, held = self._of_linked(inode, found)
                    self.freed += freed
                    self.held += held
        return self

    def _of_linked(self, inode: Inode, found: os.stat_result) -> tuple[int, int]:
        """Bytes of disk of a linked file: freed if every name went, held if the caches have one."""
        gone, disk = self._gone.get(inode, set()), disk_of(found)
        return (
            disk if len(gone) == found.st_nlink else 0,
            disk if self._names.get(inode, set()) - gone else 0,
        )

    def share_of(self, entry: Entry) -> tuple[int, int]:
        """What an entry that has gone gave back, alone or with others: bytes of disk.

        And the bytes by which the caches hold less.
        """
        key, body = share_key(entry), shared_disk(entry)
        if key and self._sharers[key]:
            return entry.freeable, entry.disk - body
        files = [self._of_linked(inode, found) for inode, _, found in linked_files(entry)]
        freed = entry.freeable + sum(freed for freed, _ in files)
        freed += body if key and not entry.hard_linked else 0
        return freed, entry.disk - sum(held for _, held in files)


def freed_by(going: Sequence[Entry], everything: Sequence[Entry]) -> int:
    """Bytes of disk that removing ``going`` gives back, when ``everything`` is all there is."""
    return _Account(everything).take(going).freed


def _shrink(
    entries: Sequence[Entry], chosen: dict[int, str], wanted: Requirement, account: _Account
) -> None:
    """Choose least recently used entries until the caches hold at most ``wanted.to_bytes``.

    What frees at least half of its size goes first. The rest, what environments hold by hard links
    most of all, costs a download and gives the disk little or nothing back: it goes only where the
    size is reached by that.
    """
    to_bytes = wanted.to_bytes or 0
    reason = f"least recently used, to get down to {show_size(to_bytes)}"
    able = [
        n
        for n, entry in enumerate(entries)
        if n not in chosen and _is_meant(entry, wanted) and entry.is_removable(force=wanted.force)
    ]
    lowest = _Account(entries).take(entries[number] for number in (*chosen, *able))

    def rank(number: int) -> int:
        """0: it frees at least half of its size when all goes that may; 1: less; 2: nothing."""
        freed, _ = lowest.share_of(entries[number])
        return 0 if freed * 2 >= entries[number].disk else 1 if freed else 2

    order = [(rank(n), entries[n].used or 0.0, entries[n].key, n) for n in able]
    for level, _, _, number in sorted(order):
        if account.held <= to_bytes or (level and lowest.held > to_bytes):
            return
        if lowest.share_of(entries[number])[1] > 0:
            chosen[number] = reason
            account.take([entries[number]])


def count_emptied(plan: Plan, tools: Iterable[Tool], progress: Progress | None = None) -> None:
    """Count the directories that go with the last of their files, where a tool knows them."""
    for tool in tools:
        mine = [entry for entry in plan.entries if entry.tool == tool.name]
        plan.freed += tool.emptied(mine, progress=progress)


def _title(entry: Entry) -> str:
    name = " ".join(part for part in (entry.project, entry.version) if part)
    return f"{name or entry.filename or entry.origin or entry.key} ({entry.kind})"


def carry_out(
    plan: Plan,
    tools: Iterable[Tool],
    around: Surroundings,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Mapping[str, Removed]:
    """Do what the plan says, tool by tool; what each tool really removed."""
    results: dict[str, Removed] = {}
    for tool in tools:
        mine = [entry for entry in plan.entries if entry.tool == tool.name]
        if mine:
            results[tool.name] = tool.remove(mine, around, force=force, progress=progress)
    return results
