"""mamba and micromamba as the verbs see them.

:func:`tool` makes the object behind ``ports/tool.py``.
"""

from __future__ import annotations

import os
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
from entrepot.tools.conda.mamba_dirs import SCHEMES, nested_folders
from entrepot.tools.conda.mamba_places import TOOL, places
from entrepot.tools.conda.registered_environments import conda_caches


class MambaTool(Tool):
    """mamba.

    Args:
        now: the clock, seconds since the epoch.
    """

    name = TOOL

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now

    def places(self, around: Surroundings) -> Sequence[Place]:
        """Every cache of mamba's, the first writable one first."""
        return places(around)

    def scan(
        self, place: Place, around: Surroundings, *, progress: Progress | None = None
    ) -> Iterator[Entry]:
        """What lies in one cache: the nested folders, and the flat part unless conda lists that."""
        if place.path is not None and place.exists:
            # Only for caches that are there
            from entrepot.tools.conda.cache import scan_folders, world_of  # noqa: PLC0415

            world, known = world_of(around), frozenset(SCHEMES)
            folders = _folders(place.path, around)
            yield from scan_folders(
                TOOL,
                place.path,
                folders,
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
        """Check every folder with packages; see :mod:`entrepot.tools.conda.verify`."""
        # Heavy, and only this verb needs it
        from entrepot.tools.conda.verify import Verifier  # noqa: PLC0415

        for folder in (
            _folders(place.path, around) if place.path is not None and place.exists else ()
        ):
            verifier = Verifier(
                TOOL,
                folder,
                folder,
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
        """Its own files; condarc, which it reads too, is edited as conda's."""
        # Only for `config`
        from entrepot.tools.conda.mamba_settings import MambaSettings  # noqa: PLC0415

        return MambaSettings(around)


def _folders(path: Path, around: Surroundings) -> list[Path]:
    nested = list(nested_folders(path))
    is_condas = os.path.realpath(path) in {os.path.realpath(each) for each in conda_caches(around)}
    return nested if is_condas else [path, *nested]


def tool(now: Callable[[], float] = time.time) -> MambaTool:
    """The factory the verbs call."""
    return MambaTool(now)
