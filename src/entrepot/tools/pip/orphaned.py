"""Default caches that no pip found here uses any more.

A setting moved pip's cache, or turned it off, and the old one stayed.

Where a file did that, or a switch, the old cache is a place of its own, *orphaned*, for every verb.
A variable may hold for this shell alone, and other programs may go on without it: then the old
cache is only told of. To clean what others use would be a guess.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from entrepot.ports.tool import ORPHANED, Layer, Place, Surroundings
from entrepot.tools.pip.interpreters import Pip
from entrepot.tools.pip.locations import absolute, default_cache
from entrepot.tools.pip.path_checks import is_folder, real

PARTS = ("http-v2", "http", "wheels")


def with_left_behind(
    used: Sequence[Place], pips: Sequence[Pip], around: Surroundings
) -> list[Place]:
    """The places of all pips, the first with notes on unused default caches, then the orphaned."""
    orphans, notes = list[Place](), list[str]()
    for folder, variable in _left(used, pips, around):
        if variable:
            notes.append(
                f"{folder} is not in use here and still holds a cache: `{variable}= entrepot "
                "status` shows it"
            )
        else:
            orphans.append(_orphan(folder, used[0]))
    return [
        *(
            replace(place, notes=(*place.notes, *notes) if not n else place.notes)
            for n, place in enumerate(used)
        ),
        *orphans,
    ]


def _left(
    used: Sequence[Place], pips: Sequence[Pip], around: Surroundings
) -> Iterator[tuple[Path, str]]:
    """Each default place that holds a cache and is no pip's, with the variable that moved it."""
    seen = {place.path for place in used}
    plain = replace(
        around,
        environ={name: value for name, value in around.environ.items() if name != "XDG_CACHE_HOME"},
    )
    for world, xdg in ((around, ""), (plain, "XDG_CACHE_HOME")):
        for pip in pips:
            folder = real(
                absolute(default_cache(world, pip.version)[0], around, pip.version), around
            )
            if folder not in seen and _holds_cache(folder):
                seen.add(folder)
                yield folder, xdg or _variable(used)


def _variable(used: Sequence[Place]) -> str:
    """The variable that says where a cache is, if one does; not those that turn it off."""
    return next(
        (
            layer.source
            for place in used
            if place.path
            for layer in place.layers
            if _is_variable(layer)
        ),
        "",
    )


def _is_variable(layer: Layer) -> bool:
    return layer.wins and layer.kind == "environment"


def _orphan(folder: Path, used: Place) -> Place:
    winner = next((layer for layer in used.layers if layer.wins), None)
    layers = (Layer("default", "default", str(folder)), *((winner,) if winner else ()))
    return Place(
        "pip",
        folder,
        layers,
        ORPHANED,
        exists=True,
        notes=("no pip found here uses this cache any more",),
    )


def _holds_cache(folder: Path) -> bool:
    for part in PARTS:
        try:
            with os.scandir(folder / part) as found:
                if next(found, None) is not None:
                    return is_folder(folder)
        except OSError:
            continue
    return False
