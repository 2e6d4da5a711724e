"""pip as the verbs see it: :func:`tool` makes the object behind ``ports/tool.py``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.fs import state_folder
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
    Tool,
    not_permitted,
)
from entrepot.tools._shared.defaults import default_index
from entrepot.tools.pip.interpreters import pips
from entrepot.tools.pip.locations import real
from entrepot.tools.pip.places import cache_of, foreign_owner, indexes, places

if TYPE_CHECKING:
    from entrepot.tools.pip.cache import ScanStats
    from entrepot.tools.pip.record import Record

# What reads a cache is imported where it is used: `where` and `status` ask every tool, and most are
# not there.

SEPARATE_BODIES = (23, 3)
"""First pip that writes ``http-v2`` and leaves ``http`` alone."""


class PipTool(Tool):
    """pip.

    Args:
        state: where to remember scans; ``None``: the user's state directory.
        now: the clock, seconds since the epoch.
    """

    name = "pip"

    def __init__(self, state: Path | None = None, now: Callable[[], float] = time.time) -> None:
        self._state = state
        self._now = now
        self.scan_stats: ScanStats | None = None
        """What the last scan did; ``None`` before there was one."""

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
        """What lies in one place; an absent or unreadable directory has no entries.

        Last uses may be those of an hour ago.
        """
        yield from self._blocked(place, around, self._scan(place, around, progress))

    def scan_named(
        self,
        place: Place,
        around: Surroundings,
        projects: Collection[str],
        *,
        progress: Progress | None = None,
    ) -> Iterator[Entry]:
        """As :meth:`scan`, but only what belongs to these projects (normalized names)."""
        entries = self._scan(place, around, progress, projects=projects)
        yield from self._blocked(place, around, entries)

    def scan_anew(
        self, place: Place, around: Surroundings, *, progress: Progress | None = None
    ) -> Iterator[Entry]:
        """As :meth:`scan`, but with last uses as they are."""
        yield from self._blocked(place, around, self._scan(place, around, progress, anew=True))

    def _blocked(
        self, place: Place, around: Surroundings, entries: Iterable[Entry]
    ) -> Iterable[Entry]:
        """Entries, blocked where the user may not remove them or a running pip needs them."""
        from entrepot.tools.pip.removal import not_removable  # noqa: PLC0415
        from entrepot.tools.pip.running import RunningPips  # noqa: PLC0415

        if place.path is None or not os.path.exists(place.path):
            return entries
        if (refusal := not_removable(place.path, around)) is not None:
            return (
                not_permitted(e, why)[0] if (why := refusal(e.paths[0].parent)) else e
                for e in entries
            )
        running, now = RunningPips(around.euid), self._now()
        if running.number(place.path) is None:
            return entries
        reasons = ((e, "" if e.block else running.why_not(e, e.used or 0.0, now)) for e in entries)
        return (replace(e, block=Block(BlockedBy.IN_USE, why)) if why else e for e, why in reasons)

    def _scan(
        self,
        place: Place,
        around: Surroundings,
        progress: Progress | None,
        *,
        projects: Collection[str] | None = None,
        anew: bool = False,
    ) -> Iterator[Entry]:
        import sqlite3  # noqa: PLC0415
        from contextlib import closing  # noqa: PLC0415

        from entrepot.tools.pip.cache import Scan  # noqa: PLC0415
        from entrepot.tools.pip.index import Index  # noqa: PLC0415
        from entrepot.tools.pip.record import as_entry  # noqa: PLC0415

        if place.path is None or not os.path.isdir(place.path):
            return
        path, root, now = place.path, str(place.path), self._now()
        records: list[Record] = []
        for file in (self._index_path(around), None):  # the second time nothing is remembered
            try:
                with closing(Index(file, root)) as index:
                    scan = Scan(root, self._bases(around), now, index, progress=progress, anew=anew)
                    self.scan_stats = scan.stats
                    records = scan.records(projects)
                    break
            except OSError:
                return
            except sqlite3.Error:
                continue
        superseded = is_superseded(path, around)
        for record in records:
            yield as_entry(record, path, root, now, superseded=superseded)

    def remove(
        self,
        entries: Sequence[Entry],
        around: Surroundings,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Removed:
        """Remove entries; ``force`` overrides a reason to stay only where it can be."""
        from entrepot.tools.pip.removal import PipRemoval  # noqa: PLC0415

        del around
        return PipRemoval(force=force, progress=progress, now=self._now()).run(entries)

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
        import sqlite3  # noqa: PLC0415
        from contextlib import closing, suppress  # noqa: PLC0415

        from entrepot.tools.pip.index import Index  # noqa: PLC0415
        from entrepot.tools.pip.verify import Verifier  # noqa: PLC0415

        if place.path is None or not os.path.isdir(place.path):
            return
        entries = list(self._scan(place, around, progress, anew=True))
        checker = Verifier(
            place.path, self._bases(around), repair=repair, full=full, progress=progress
        )
        yield from checker.findings(entries)
        with (
            suppress(sqlite3.Error),
            closing(Index(self._index_path(around), str(place.path))) as index,
        ):
            checker.remember(index)

    def settings(self, around: Surroundings) -> Settings | None:
        """Pip's configuration."""
        from entrepot.tools.pip.settings import PipSettings  # noqa: PLC0415

        return PipSettings(around)

    def _index_path(self, around: Surroundings) -> Path | None:
        """Where scans are remembered.

        Nowhere when that is another user's home: its owner could not write the file again.
        """
        folder = self._state or state_folder(around.environ, around.home, around.platform)
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
