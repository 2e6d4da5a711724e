"""One cache as the tool port wants it.

The folders in it, scanned against all known caches and environments.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from entrepot.ports.tool import Entry, Progress, Surroundings
from entrepot.tools.condakit import running
from entrepot.tools.condakit.census import Census
from entrepot.tools.condakit.environments import Mentions, mentions
from entrepot.tools.condakit.folder import Look, entries
from entrepot.tools.condakit.known import environments, package_folders


class World:
    """What is known of all caches and environments, worked out once for a scan of several places."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._mentions: Mentions | None = None
        self._census: Census | None = None
        self.busy = ""
        """Why packages stay for now: a client is running."""
        if (number := running.client(around.euid)) is not None:
            self.busy = running.reason(number)

    @property
    def census(self) -> Census:
        """Links counted by inode.

        Folders that were not scanned are walked when a question needs them.
        """
        if self._census is None:
            self._census = Census(package_folders(self._around))
        return self._census

    @property
    def mentions(self) -> Mentions:
        """Records of all known environments."""
        if self._mentions is None:
            self._mentions = mentions(environments(self._around))
        return self._mentions


def scan_folders(
    tool: str,
    place: Path,
    folders: Iterable[Path],
    world: World,
    now: float,
    *,
    known: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Iterator[Entry]:
    """Entries of some folders of one place, in the folders' order.

    Args:
        tool: whose they are.
        place: the place's directory; keys are relative to it.
        folders: where packages lie side by side.
        world: what else there is.
        now: seconds since the epoch.
        known: top-level names that another part of the place takes care of.
        progress: told now and then.

    Raises:
        OSError: the place itself may not be looked into.
    """
    os.scandir(place).close()
    for folder in folders:
        mine = known if folder == place else frozenset()
        look = Look(
            tool, place, folder, now, world.census, world.mentions, mine, progress, busy=world.busy
        )
        yield from entries(look)
