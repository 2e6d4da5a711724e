"""One cache as the tool port wants it.

The folders in it, scanned against all known caches and environments.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from entrepot.ports.tool import Block, BlockedBy, Entry, Progress, Surroundings
from entrepot.tools._shared.disk_usage import KnownLinks
from entrepot.tools.conda import running
from entrepot.tools.conda.environments import Mentions, mentions
from entrepot.tools.conda.folder import Look, entries
from entrepot.tools.conda.proof import why_no_cache
from entrepot.tools.conda.registered_environments import package_folders, survey


class World:
    """What is known of all caches and environments, each part computed on first use."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    @cached_property
    def block(self) -> Block | None:
        """Why packages of conda and mamba stay for now: a client is running."""
        number = running.client(self._around.euid)
        return None if number is None else Block(BlockedBy.IN_USE, running.reason(number))

    @cached_property
    def known_links(self) -> KnownLinks:
        """Links counted by inode.

        Folders that were not scanned are walked when a question needs them.
        """
        return KnownLinks(package_folders(self._around))

    @cached_property
    def mentions(self) -> Mentions:
        """Records of all known environments, and what of them could not be read."""
        found = survey(self._around)
        result = mentions(found.prefixes)
        result.unknown[:0] = found.unknown
        return result

    def look(
        self,
        tool: str,
        place: Path,
        folder: Path,
        now: float,
        *,
        known: frozenset[str] = frozenset(),
        progress: Progress | None = None,
        block: Block | None = None,
    ) -> Look:
        """What a scan of one folder is asked; arguments as for :func:`scan_folders`."""
        if why_no_cache(folder, self._around):
            return Look(tool, place, folder, now, KnownLinks(()), Mentions(), is_cache=False)
        return Look(
            tool, place, folder, now, self.known_links, self.mentions, known, progress, block=block
        )


def world_of(around: Surroundings) -> World:
    """The world of this look, the same for the places of all tools of the family.

    A new one for a scan by itself.
    """
    if around.shared is None:
        return World(around)
    world: World = around.shared.setdefault(World.__module__, World(around))
    return world


def scan_folders(
    tool: str,
    place: Path,
    folders: Iterable[Path],
    world: World,
    now: float,
    *,
    block: Block | None,
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
        block: why packages stay for now.
        known: top-level names that another part of the place takes care of.
        progress: told now and then.

    Raises:
        OSError: the place itself may not be looked into.
    """
    os.scandir(place).close()
    for folder in folders:
        mine = known if folder == place else frozenset()
        yield from entries(
            world.look(tool, place, folder, now, known=mine, progress=progress, block=block)
        )
