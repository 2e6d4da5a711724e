"""uv as the verbs see it: :func:`tool` makes the object behind ``ports/tool.py``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

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
    ) -> Iterator[Entry]:
        """What lies in one place; an absent or unreadable directory has no entries."""
        from entrepot.tools.uv.cache import Scan  # noqa: PLC0415  # `where` does without
        from entrepot.tools.uv.rows import Rows  # noqa: PLC0415

        if place.path is None or not is_dir(place.path):
            return
        needed = self._references(place.path, around)
        found = Scan(str(place.path), progress).run()
        yield from Rows(
            found, needed, self._now(), links_symbolically=links_symbolically(around)
        ).entries()

    def _references(self, root: Path, around: Surroundings) -> References:
        """What environments need of a cache; those that link to it are kept in mind."""
        from entrepot.tools.uv.environments import (  # noqa: PLC0415
            known_environments,
            references,
            remember,
            remembered,
        )

        memory, unread = self._memory(around), list[str]()
        known = remembered(memory)
        every = dict.fromkeys([*known_environments(around, unread), *known.there])
        real = Path(os.path.realpath(root))
        outside = [path for path in every if real not in (path, *path.parents)]
        needed = references(str(root), outside)
        needed.unknown[:0] = [*known.unknown, *unread]
        remember(memory, (name for names in needed.archives.values() for name in names))
        return needed

    def _memory(self, around: Surroundings) -> Path:
        return (self._state or state_folder(around)) / "uv-environments.json"

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
        from entrepot.tools.uv.removal import remove  # noqa: PLC0415

        done = Removed()
        for root in dict.fromkeys(entry.place for entry in entries):
            mine = [entry for entry in entries if entry.place == root]
            needed = self._references(root, around)
            part = remove(root, mine, needed, force=force, progress=progress, wait_s=self._wait_s)
            done = Removed(
                (*done.entries, *part.entries),
                done.freed + part.freed,
                done.files + part.files,
                (*done.kept, *part.kept),
            )
        return done

    def verify(
        self,
        place: Place,
        around: Surroundings,
        *,
        repair: bool = False,
        full: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Finding]:
        """Check every entry's content; see :mod:`.verify`.

        All digests are compared, with ``full`` or without.
        """
        from entrepot.tools.uv.verify import damages, finding  # noqa: PLC0415

        del full
        entries = list(self.scan(place, around))
        for entry, damage in damages(entries, progress=progress):
            done = self.remove([entry], around) if repair and damage.is_removable else Removed()
            told = (
                replace(damage, text=f"{damage.text}; it stays: {done.kept[0][1]}")
                if done.kept
                else damage
            )
            yield finding(
                entry, told, "removed: uv fetches or builds it again" if done.entries else ""
            )

    def environments(self, around: Surroundings) -> Sequence[tuple[str, Path]]:
        """Those near, and those that were seen to link here earlier."""
        from entrepot.tools.uv.environments import (  # noqa: PLC0415
            known_environments,
            name_of,
            remembered,
        )

        every = dict.fromkeys(
            [*known_environments(around), *remembered(self._memory(around)).there]
        )
        return [(name_of(path), path) for path in every]

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


def state_folder(around: Surroundings) -> Path:
    """Where entrepot keeps what it knows of other tools' caches.

    The platform's user state directory.
    """
    if around.platform == "win32":
        return Path(
            around.environ.get("LOCALAPPDATA") or Path(around.home, "AppData", "Local"), "entrepot"
        )
    xdg = around.environ.get("XDG_STATE_HOME", "").strip()
    if xdg.startswith("/"):
        return Path(xdg, "entrepot")
    return Path(
        around.home,
        "Library/Application Support" if around.platform == "darwin" else ".local/state",
        "entrepot",
    )


def tool() -> Tool:
    """The tool, as ``cli/wiring.py`` asks for it."""
    return UvTool()
