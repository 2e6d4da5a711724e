"""conda as the verbs see it: :func:`tool` makes the object behind ``ports/tool.py``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from entrepot.ports.tool import (
    Entry,
    Finding,
    Place,
    Progress,
    Removed,
    Settings,
    Surroundings,
    Tool,
)
from entrepot.tools.conda.conda_places import TOOL, places


class CondaTool(Tool):
    """conda.

    Args:
        now: the clock, seconds since the epoch.
    """

    name = TOOL

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now

    def places(self, around: Surroundings) -> Sequence[Place]:
        """``pkgs_dirs`` of every conda found, the first writable first; then caches not in use."""
        return places(around)

    def scan(
        self, place: Place, around: Surroundings, *, progress: Progress | None = None
    ) -> Iterator[Entry]:
        """What lies in one cache, its first level; mamba's nested folders are mamba's."""
        if place.path is not None and place.exists:
            # Only for caches that are there
            from entrepot.tools.conda.cache import scan_folders, world_of  # noqa: PLC0415
            from entrepot.tools.conda.mamba_dirs import SCHEMES  # noqa: PLC0415

            world, known = world_of(around), frozenset(SCHEMES)
            yield from scan_folders(
                TOOL,
                place.path,
                [place.path],
                world,
                self._now(),
                block=world.block,
                known=known,
                progress=progress,
            )

    def remove(
        self,
        entries: Sequence[Entry],
        around: Surroundings,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Removed:
        """Remove entries; ``force`` overrides only "unpacked or downloaded within ten minutes"."""
        from entrepot.tools.conda.removal import remove  # noqa: PLC0415

        return remove(entries, around, force=force, progress=progress)

    def verify(
        self,
        place: Place,
        around: Surroundings,
        *,
        repair: bool = False,
        full: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Finding]:
        """Check archives, unpacked packages and records.

        See :mod:`entrepot.tools.conda.verify`.
        """
        # Heavy, and only this verb needs it
        from entrepot.tools.conda.verify import Verifier  # noqa: PLC0415

        if place.path is not None and place.exists:
            verifier = Verifier(
                TOOL,
                place.path,
                place.path,
                around,
                self._now(),
                repair=repair,
                full=full,
                progress=progress,
            )
            yield from verifier.findings()

    def environments(self, around: Surroundings) -> Sequence[tuple[str, Path]]:
        """Prefixes of conda, mamba, rattler and pixi.

        Each may have packages of any of their caches.
        """
        # `where` does without
        from entrepot.tools.conda.registered_environments import named_environments  # noqa: PLC0415

        return named_environments(around)

    def settings(self, around: Surroundings) -> Settings | None:
        """Condarc."""
        # Only for `config`
        from entrepot.tools.conda.conda_settings import CondaSettings  # noqa: PLC0415

        return CondaSettings(around)


def tool(now: Callable[[], float] = time.time) -> CondaTool:
    """The factory the verbs call."""
    return CondaTool(now)
