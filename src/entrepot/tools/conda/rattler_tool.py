"""rattler and pixi as the verbs see them.

:func:`tool` makes the object behind ``ports/tool.py``.
"""

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
from entrepot.tools._shared.safe_read import is_dir
from entrepot.tools.conda.rattler_places import TOOL, places


class RattlerTool(Tool):
    """rattler, pixi and programs that use py-rattler.

    Args:
        now: the clock, seconds since the epoch.
    """

    name = TOOL

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now

    def places(self, around: Surroundings) -> Sequence[Place]:
        """Every cache folder, pixi's first."""
        return places(around)

    def scan(
        self, place: Place, around: Surroundings, *, progress: Progress | None = None
    ) -> Iterator[Entry]:
        """What lies in one folder."""
        if place.path is not None and place.exists:
            # Only for caches that are there
            from entrepot.tools.conda.rattler_cache import scan  # noqa: PLC0415

            yield from scan(TOOL, place, around, self._now(), progress)

    def remove(
        self,
        entries: Sequence[Entry],
        around: Surroundings,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Removed:
        """Remove entries while no installation holds rattler's lock.

        ``force`` takes what was unpacked within ten minutes.
        """
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
        """Check the unpacked packages.

        There are no archives to repair them from, so damaged ones are removed.
        """
        # Heavy, and only this verb needs it
        from entrepot.tools.conda.rattler_cache import package_folder  # noqa: PLC0415
        from entrepot.tools.conda.verify import Verifier  # noqa: PLC0415

        folder = package_folder(place, around) if place.exists else None
        if folder is not None and is_dir(folder):
            now = self._now()
            check = Verifier(
                TOOL,
                folder,
                folder,
                around,
                now,
                with_records=False,
                repair=repair,
                full=full,
                progress=progress,
            )
            yield from check.findings()

    def environments(self, around: Surroundings) -> Sequence[tuple[str, Path]]:
        """Prefixes of conda, mamba, rattler and pixi.

        Each may have packages of any of their caches.
        """
        # `where` does without
        from entrepot.tools.conda.registered_environments import named_environments  # noqa: PLC0415

        return named_environments(around)

    def settings(self, around: Surroundings) -> Settings | None:
        """None: pixi's configuration is not edited."""
        del around
        return None  # an answer, not the lack of one


def tool(now: Callable[[], float] = time.time) -> RattlerTool:
    """The factory the verbs call."""
    return RattlerTool(now)
