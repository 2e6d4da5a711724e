"""pip as the verbs see it: :func:`tool` makes the object behind ``ports/tool.py``."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from entrepot.ports.tool import (
    Block,
    BlockedBy,
    Entry,
    Finding,
    Place,
    Progress,
    Removed,
    Settings,
    Surroundings,
    not_permitted,
)
from entrepot.tools._shared.defaults import default_index
from entrepot.tools.pip.access import foreign_owner, locked
from entrepot.tools.pip.interpreters import pips
from entrepot.tools.pip.locations import state_folder
from entrepot.tools.pip.path_checks import exists, is_folder, real
from entrepot.tools.pip.places import cache_of, indexes, places

if TYPE_CHECKING:
    from entrepot.tools.pip.cache import Scan, Tally
    from entrepot.tools.pip.donor import ReusableResponse
    from entrepot.tools.pip.index import Row

T = TypeVar("T")
# What reads a cache is imported where it is used: `where` and `status` ask every tool, and most are
# not there.

SEPARATE_BODIES = (23, 3)
"""First pip that writes ``http-v2`` and leaves ``http`` alone."""


class PipTool:
    """pip.

    Args:
        state: where to remember scans; ``None``: the user's state directory.
        now: the clock, seconds since the epoch.
    """

    name = "pip"

    def __init__(self, state: Path | None = None, now: Callable[[], float] = time.time) -> None:
        self._state = state
        self._now = now
        self._marks: dict[Path | None, str] = {}
        self._looked: dict[Path, Scan] = {}
        self.tally: Tally | None = None
        """What the last scan had to do; ``None`` before there was one."""

    def places(
        self, around: Surroundings, *, command: str = "install", options: Sequence[str] = ()
    ) -> Sequence[Place]:
        """Every cache of every pip found, the one in use first.

        Caching turned off gives a place without a path.
        """
        return places(around, command=command, options=options)

    def scan(
        self, place: Place, around: Surroundings, *, progress: Progress | None = None
    ) -> Iterator[Entry]:
        """What lies in one place; an absent or unreadable directory has no entries."""
        yield from self._held(place, around, self._scan(place, around, progress, recheck=False))

    def scan_named(
        self,
        place: Place,
        around: Surroundings,
        projects: Collection[str],
        *,
        progress: Progress | None = None,
    ) -> Iterator[Entry]:
        """As :meth:`scan`, but only what belongs to these projects (normalized names).

        Little of what is remembered is read.
        """
        yield from self._held(
            place, around, self._scan(place, around, progress, recheck=False, projects=projects)
        )

    def scan_anew(
        self, place: Place, around: Surroundings, *, progress: Progress | None = None
    ) -> Iterator[Entry]:
        """As :meth:`scan`, but with last uses as they are.

        A scan may have them from an hour ago.
        """
        yield from self._held(place, around, self._scan(place, around, progress, recheck=True))

    def scan_in_parts(
        self,
        place: Place,
        around: Surroundings,
        work: Callable[[Iterable[Entry]], T],
        *,
        progress: Progress | None = None,
    ) -> list[T]:
        """As :meth:`scan`, but what some work makes of the entries.

        Half of a large cache's are worked on in a second process.

        Args:
            place: where.
            around: the world.
            work: gives plain values (numbers, text, lists, tuples) and does no more than that.
            progress: told now and then.
        """
        if place.path is None or not is_folder(place.path):
            return []
        from entrepot.tools._shared.noatime import quick_allocation  # noqa: PLC0415

        entries = self._as_entries(place.path, around)
        with self._looking(place.path, around, progress, recheck=False) as scan, quick_allocation():
            try:
                return scan.in_parts(lambda rows: work(self._held(place, around, entries(rows))))
            except OSError:
                return []

    def _held(
        self, place: Place, around: Surroundings, entries: Iterable[Entry]
    ) -> Iterable[Entry]:
        """Entries, blocked where the user may not remove them or a running pip needs them."""
        why_not = (
            locked(place.path, around) if place.path is not None and exists(place.path) else None
        )
        if why_not is None:
            return self._spared(place.path, entries, around) if place.path is not None else entries
        return (
            not_permitted(e, why)[0] if (why := why_not(e.paths[0].parent)) else e for e in entries
        )

    def _spared(
        self, root: Path, entries: Iterable[Entry], around: Surroundings
    ) -> Iterable[Entry]:
        from entrepot.tools.pip.running import Watch  # noqa: PLC0415

        watch, now = Watch(around.euid), self._now()
        if watch.number(root) is None:
            return entries
        reasons = ((e, "" if e.block else watch.why_not(e, e.used or 0.0, now)) for e in entries)
        return (replace(e, block=Block(BlockedBy.IN_USE, why)) if why else e for e, why in reasons)

    def _scan(
        self,
        place: Place,
        around: Surroundings,
        progress: Progress | None,
        *,
        recheck: bool,
        projects: Collection[str] | None = None,
    ) -> Iterator[Entry]:
        if place.path is None or not is_folder(place.path):
            return
        from entrepot.tools._shared.noatime import quick_allocation  # noqa: PLC0415

        with self._looking(place.path, around, progress, recheck=recheck) as scan:
            try:
                rows = scan.rows(projects)
            except OSError:
                return
        with quick_allocation():
            entries = self._as_entries(place.path, around)(rows)
        yield from entries

    def _as_entries(self, path: Path, around: Surroundings) -> Callable[[list[Row]], list[Entry]]:
        """What makes entries of rows, as things are now."""
        from entrepot.tools.pip.rows import entry  # noqa: PLC0415

        root, now, superseded = str(path), self._now(), is_superseded(path, around)
        return lambda rows: [entry(row, path, root, now, superseded=superseded) for row in rows]

    @contextmanager
    def _looking(
        self, path: Path, around: Surroundings, progress: Progress | None, *, recheck: bool
    ) -> Iterator[Scan]:
        from entrepot.tools.pip.cache import Scan, Scope  # noqa: PLC0415
        from entrepot.tools.pip.index import Index  # noqa: PLC0415

        looked = self._looked.pop(path, None)
        if looked is None or recheck:
            scope = Scope(str(path), self._bases(around), self._now(), recheck)
            looked = Scan(scope, Index(self._index_path(around)), progress)
        try:
            yield looked
        finally:
            if path not in self._looked:
                looked.index.close()
            self.tally = looked.tally

    def lines(
        self, place: Place, around: Surroundings, *, progress: Progress | None = None
    ) -> bytes | None:
        """What :meth:`keep_lines` was given, when nothing has changed since.

        Else the look at it is for the next :meth:`scan`.
        """
        if place.path is None or not is_folder(place.path):
            return None
        with self._looking(place.path, around, progress, recheck=False) as scan:
            try:
                changed = scan.look()
            except OSError:
                return None
            mark = f"{around.euid}\n{scan.mark}"  # who may remove what differs with who asks
            self._marks[place.path] = mark
            found = None if changed else scan.index.lines(str(place.path), mark, self._now())
            if found is None:
                self._looked[place.path] = scan
            return found

    def keep_lines(self, place: Place, around: Surroundings, until: float, data: bytes) -> None:
        """Keep a listing of what was seen since :meth:`lines`, for as long as nothing changes.

        ``data`` is the caller's own.
        """
        from entrepot.tools.pip.index import Index  # noqa: PLC0415

        index = Index(self._index_path(around))
        index.keep_lines(str(place.path), self._marks.get(place.path, ""), until, data)
        index.close()

    def remembered(self, place: Place, around: Surroundings) -> list[Entry]:
        """What the last scan saw, without a look at the cache: for totals that must come at once.

        Empty without a scan.
        """
        if place.path is None:
            return []
        from entrepot.tools._shared.noatime import quick_allocation  # noqa: PLC0415
        from entrepot.tools.pip.index import Index  # noqa: PLC0415

        index = Index(self._index_path(around))
        with quick_allocation():
            rows = [row for shard in index.load(str(place.path)).values() for row in shard.rows]
            index.close()
            return self._as_entries(place.path, around)(rows)

    def sums(self, place: Place, around: Surroundings) -> tuple[float, str] | None:
        """When a place was summed up last, and the text of :meth:`keep_sums`.

        Forgotten as soon as a look saw a change.
        """
        from entrepot.tools.pip.index import Index  # noqa: PLC0415

        index = Index(self._index_path(around))
        try:
            return index.sums(str(place.path))
        finally:
            index.close()

    def keep_sums(self, place: Place, around: Surroundings, text: str) -> None:
        """Keep what a place came to, for a ``status`` that must be quick."""
        from entrepot.tools.pip.index import Index  # noqa: PLC0415

        index = Index(self._index_path(around))
        index.keep_sums(str(place.path), self._now(), text)
        index.close()

    def remove(
        self,
        entries: Sequence[Entry],
        around: Surroundings,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Removed:
        """Remove entries; ``force`` overrides a reason to stay only where it can be."""
        from entrepot.tools.pip import removal  # noqa: PLC0415

        done = removal.remove(entries, force=force, progress=progress, now=self._now())
        if done.entries:
            from entrepot.tools.pip.index import Index  # noqa: PLC0415

            index = Index(self._index_path(around))
            for place in {entry.place for entry in done.entries}:
                index.keep_sums(str(place), 0.0, "")  # they are of what was there before
            index.close()
        return done

    def emptied(self, entries: Sequence[Entry], *, progress: Progress | None = None) -> int:
        """Disk bytes of the directories that removing these entries empties and removes."""
        from entrepot.tools.pip import removal  # noqa: PLC0415

        return removal.emptied(entries, progress=progress)

    def verify(
        self,
        place: Place,
        around: Surroundings,
        *,
        repair: bool = False,
        full: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Finding]:
        """Check every entry; see :mod:`.verify`."""
        from entrepot.tools.pip.index import Index  # noqa: PLC0415
        from entrepot.tools.pip.verify import Verifier  # noqa: PLC0415

        if place.path is None or not is_folder(place.path):
            return
        entries = list(self._scan(place, around, progress, recheck=True))
        index = Index(self._index_path(around))
        try:
            checker = Verifier(
                place.path, self._bases(around), repair=repair, full=full, progress=progress
            )
            yield from checker.findings(entries)
            checker.remember(index)
        finally:
            index.close()

    def settings(self, around: Surroundings) -> Settings | None:
        """Pip's configuration."""
        from entrepot.tools.pip.settings import PipSettings  # noqa: PLC0415

        return PipSettings(around)

    def donor(self, url: str, around: Surroundings) -> ReusableResponse | None:
        """Pip's stored response for a URL, out of the cache in use.

        Its digest is for the caller to check.
        """
        from entrepot.tools.pip.donor import donor  # noqa: PLC0415

        for root in self._roots(around):
            found = donor(url, root)
            if found is not None:
                return found
        return None

    def _roots(self, around: Surroundings) -> Iterable[Path]:
        return [p.path for p in self.places(around) if p.path is not None]

    def _index_path(self, around: Surroundings) -> Path | None:
        """Where scans are remembered.

        Nowhere when that is another user's home: its owner could not write the file again.
        """
        folder = self._state or Path(state_folder(around))
        return None if foreign_owner(folder, around) else folder / "pip.sqlite"

    def _bases(self, around: Surroundings) -> tuple[str, ...]:
        found = dict.fromkeys(url for pip in pips(around) for url in indexes(around, pip))
        found.update(dict.fromkeys(default_index()[:1]))
        return tuple(found)


def is_superseded(root: Path, around: Surroundings) -> bool:
    """Whether every pip found that uses this cache has left the old layout ``http`` behind."""
    found = pips(around)
    users = [pip for pip in found if cache_of(around, pip) == real(str(root), around)]
    return all(pip.version >= SEPARATE_BODIES for pip in (users or found))


def tool(state: Path | None = None, now: Callable[[], float] = time.time) -> PipTool:
    """The factory the verbs call."""
    return PipTool(state, now)
