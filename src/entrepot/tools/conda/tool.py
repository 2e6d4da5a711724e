"""conda, mamba (and micromamba) and rattler (and pixi) as the verbs see them.

One class and a row each; what they share and where they differ is told by the row.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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
from entrepot.tools.conda import places
from entrepot.tools.conda.environments import conda_caches
from entrepot.tools.conda.pkgs_dirs import nested_folders
from entrepot.tools.conda.rattler_dirs import package_folders, part_of


def _rattlers_folders(place: Path, around: Surroundings) -> list[Path]:
    return [folder for folder in package_folders(around, place) if is_dir(folder)]


def _mambas_folders(place: Path, around: Surroundings) -> list[Path]:
    """The nested folders, and the flat part unless conda lists that."""
    nested = list(nested_folders(place))
    condas = {os.path.realpath(each) for each in conda_caches(around)}
    return nested if os.path.realpath(place) in condas else [place, *nested]


def _condas_settings(around: Surroundings) -> Settings:
    # Only for `config`
    from entrepot.tools.conda.settings import CondaSettings  # noqa: PLC0415

    return CondaSettings(around)


def _mambas_settings(around: Surroundings) -> Settings:
    from entrepot.tools.conda.settings import MambaSettings  # noqa: PLC0415

    return MambaSettings(around)


@dataclass(frozen=True, slots=True)
class Row:
    """What sets one tool of the family apart."""

    name: str
    places: Callable[[Surroundings], Sequence[Place]]
    folders: Callable[[Path, Surroundings], list[Path]]
    """Where packages lie side by side in a place."""
    settings: Callable[[Surroundings], Settings | None]
    """What edits its configuration; ``None``: it is not edited."""
    keeps_records: bool = True
    """Whether it keeps archives, records and ``urls.txt``, and locks single files; rattler keeps
    unpacked packages and indexes, and locks a whole folder."""


ROWS = {
    row.name: row
    for row in (
        Row("conda", places.conda_places, lambda place, _: [place], _condas_settings),
        Row("mamba", places.mamba_places, _mambas_folders, _mambas_settings),
        Row(
            "rattler",
            places.rattler_places,
            _rattlers_folders,
            lambda _: None,
            keeps_records=False,
        ),
    )
}


class CondaTool(Tool):
    """One tool of the family.

    Args:
        name: ``conda``, ``mamba`` or ``rattler``.
        now: the clock, seconds since the epoch.
    """

    def __init__(self, name: str, now: Callable[[], float] = time.time) -> None:
        self.name = name
        self._row = ROWS[name]
        self._now = now

    def places(self, around: Surroundings) -> Sequence[Place]:
        """Every cache, the first that it can write to first; then caches not in use."""
        return self._row.places(around)

    def scan(
        self, place: Place, around: Surroundings, *, progress: Progress | None = None
    ) -> Iterator[Entry]:
        """What lies in one cache; mamba's nested folders in a cache of conda's are mamba's."""
        if place.path is None or not place.exists:
            return
        # Only for caches that are there
        from entrepot.tools.conda.scan import FolderScan, scan_rest  # noqa: PLC0415

        os.scandir(place.path).close()  # what may not be looked into is told, not taken for empty
        now, keeps_records = self._now(), self._row.keeps_records
        for folder in self._row.folders(place.path, around):
            yield from FolderScan(
                self.name, place.path, folder, around, now, keeps_records, progress
            ).entries()
        if not keeps_records:
            yield from scan_rest(self.name, place.path, part_of(place.path, around), now)

    def remove(
        self,
        entries: Sequence[Entry],
        around: Surroundings,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Removed:
        """Remove entries; ``force`` overrides only "unpacked or downloaded within ten minutes"."""
        from entrepot.tools.conda.removal import CondaRemoval  # noqa: PLC0415

        return CondaRemoval(around, force=force, progress=progress).run(entries)

    def verify(
        self,
        place: Place,
        around: Surroundings,
        *,
        repair: bool = False,
        full: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Finding]:
        """Check archives, unpacked packages, records and indexes of every folder with packages.

        rattler keeps no archives to repair from: there damaged packages are removed.
        """
        # Heavy, and only this verb needs it
        from entrepot.tools.conda.verify import Verifier  # noqa: PLC0415

        if place.path is None or not place.exists:
            return
        for folder in self._row.folders(place.path, around):
            yield from Verifier(
                self.name,
                folder,
                around,
                self._now(),
                keeps_records=self._row.keeps_records,
                repair=repair,
                full=full,
                progress=progress,
            ).findings()

    def environments(self, around: Surroundings) -> Sequence[tuple[str, Path]]:
        """Prefixes of the whole family: each may have packages of any of its caches."""
        # `where` does without
        from entrepot.tools.conda.environments import named_environments  # noqa: PLC0415

        return named_environments(around)

    def settings(self, around: Surroundings) -> Settings | None:
        """Its own files; ``None`` for rattler: pixi's configuration is not edited."""
        return self._row.settings(around)


conda, mamba, rattler = (partial(CondaTool, name) for name in ROWS)
"""The factories that the verbs call, with the clock if it is another."""
