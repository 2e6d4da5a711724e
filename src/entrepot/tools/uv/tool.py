"""uv as the verbs see it: :func:`tool` makes the object behind ``ports/tool.py``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.fs import state_folder
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
from entrepot.tools.uv.configuration import files
from entrepot.tools.uv.places import places

if TYPE_CHECKING:
    from entrepot.tools.uv.environments import References
    from entrepot.tools.uv.rows import UvEntry


class UvTool(Tool):
    """uv.

    Args:
        state: where to remember environments that link to the cache; ``None``: the user's state
            directory.
        now: the clock, seconds since the epoch.
        wait_s: how long to wait for a running uv.
    """

    name = "uv"

    def __init__(
        self,
        state: Path | None = None,
        now: Callable[[], float] = time.time,
        *,
        wait_s: float = 5.0,
    ) -> None:
        self._state = state
        self._now = now
        self._wait_s = wait_s

    def places(self, around: Surroundings, *, options: Sequence[str] = ()) -> Sequence[Place]:
        """The cache in use, and the default one when it is another and still holds something."""
        return places(around, options=options)

    def scan(
        self, place: Place, around: Surroundings, *, progress: Progress | None = None
    ) -> Iterator[UvEntry]:
        """What lies in one place; an absent or unreadable directory has no entries."""
        from entrepot.tools.uv.buckets import Scan  # noqa: PLC0415  # `where` does without
        from entrepot.tools.uv.rows import entries  # noqa: PLC0415

        if place.path is None or not is_dir(place.path):
            return
        needed = self._references(place.path, around)
        found = Scan(str(place.path), progress).run()
        symlinks = links_symbolically(around)
        yield from entries(found, needed, self._now(), links_symbolically=symlinks)

    def _references(self, root: Path, around: Surroundings) -> References:
        """What environments need of a cache; those that link to it are kept in mind."""
        from entrepot.tools.uv import environments as of  # noqa: PLC0415

        file, unread = self._memory(around), list[str]()
        memory = of.remembered(file)
        every = of.known_environments(around, memory, unread)
        real = Path(os.path.realpath(root))
        needed = of.references(str(root), [p for p in every if real not in (p, *p.parents)])
        needed.unknown[:0] = [*memory.unknown, *unread]
        of.remember(file, (name for names in needed.archives.values() for name in names))
        return needed

    def _memory(self, around: Surroundings) -> Path:
        state = self._state or state_folder(around.environ, around.home, around.platform)
        return state / "uv-environments.json"

    def remove(
        self,
        entries: Sequence[Entry],
        around: Surroundings,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Removed:
        """Remove entries under uv's lock.

        ``force`` does not wait for running uvs, and nothing that is linked to goes by it.
        """
        from entrepot.tools.uv.removal import UvRemoval  # noqa: PLC0415

        needed = partial(self._references, around=around)
        return UvRemoval(needed, force=force, progress=progress, wait_s=self._wait_s).run(entries)

    def verify(
        self,
        place: Place,
        around: Surroundings,
        *,
        repair: bool = False,
        full: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Finding]:
        """Check every entry's content; all digests are compared, with ``full`` or without."""
        from entrepot.tools.uv.verify import UNREADABLE, damages  # noqa: PLC0415

        del full
        for entry, found in damages(list(self.scan(place, around)), progress=progress):
            may_repair = repair and found.problem != UNREADABLE
            done = self.remove([entry], around) if may_repair else Removed()
            if done.entries:
                yield replace(found, repaired="removed: uv fetches or builds it again")
            elif done.kept:
                yield replace(found, text=f"{found.text}; it stays: {done.kept[0][1]}")
            else:
                yield found

    def environments(self, around: Surroundings) -> Sequence[tuple[str, Path]]:
        """Those near, and those that were seen to link here earlier."""
        from entrepot.tools.uv import environments as of  # noqa: PLC0415

        memory = of.remembered(self._memory(around))
        return [(of.name_of(path), path) for path in of.known_environments(around, memory, [])]

    def settings(self, around: Surroundings) -> Settings | None:
        """Uv's configuration."""
        from entrepot.tools.uv.settings import UvSettings  # noqa: PLC0415

        return UvSettings(around)


def links_symbolically(around: Surroundings) -> bool:
    """Whether a uv started here would link environments symbolically."""
    variable = around.environ.get("UV_LINK_MODE")
    if variable:
        return variable == "symlink"
    for file in files(around):
        for options in (file.options, file.options.get("pip", {})):
            if isinstance(options, dict) and options.get("link-mode") == "symlink":
                return True
    return False


def tool() -> Tool:
    """The tool, as ``cli/wiring.py`` asks for it."""
    return UvTool()
