"""Where rattler and pixi keep things and why.

See :mod:`entrepot.tools.conda.rattler_dirs` for the rules.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from entrepot.ports.tool import Place, Surroundings
from entrepot.tools._shared.mounts import is_empty
from entrepot.tools._shared.safe_read import is_dir
from entrepot.tools.conda.indexes import holds_indexes
from entrepot.tools.conda.proof import EMPTY, NO_CACHE, standing, why_never, why_no_cache
from entrepot.tools.conda.rattler_dirs import KINDS, Folder, folders, problems, rattler_default
from entrepot.tools.conda.writable import may_write

TOOL = "rattler"
_UNMISTAKABLE = (
    "shards-v1",
    "run-exports",
    *sorted({name for _, name in KINDS.values()} - {"pkgs", "repodata"}),
)
"""Folders of a root that no other program calls so."""
NO_SIGN = ("PIXI_CACHE_DIR", "RATTLER_CACHE_DIR")


def places(around: Surroundings) -> Sequence[Place]:
    """Every folder in force, pixi's root first; without any sign of either nothing."""
    found = [_place(folder, around) for folder in folders(around)]
    found[0] = replace(found[0], notes=(*found[0].notes, *problems(around)))
    if any(place.exists or place.why_not for place in found) or any(
        around.environ.get(name) for name in NO_SIGN
    ):
        return found
    return []


def _place(folder: Folder, around: Surroundings) -> Place:
    no_cache = _why_no_cache(folder, around) if is_dir(folder.path) else EMPTY
    may = not is_dir(folder.path) or may_write(folder.path, around)
    label = folder.user if folder.part == "root" else f"{folder.user}: {folder.part}"
    if str(folder.path) == rattler_default(around):  # where both keep things unless it is set
        label = "rattler and pixi"
    notes = []
    if folder.part == "root" and os.path.isdir(folder.path / "uv-cache"):
        notes.append("pixi's PyPI part is a second uv cache inside it: uv-cache")
    if around.environ.get("CONDA_PKGS_DIRS"):
        notes.append("CONDA_PKGS_DIRS and pkgs_dirs are not read by rattler and pixi")
    why = (
        f"{NO_CACHE}: {no_cache}"
        if no_cache not in ("", EMPTY)
        else ""
        if may
        else "it may not be written to"
    )
    exists = not no_cache
    return Place(
        TOOL,
        folder.path,
        folder.layers,
        label=label,
        exists=exists,
        usable=not why,
        why_not=why,
        notes=tuple(notes),
    )


def _why_no_cache(folder: Folder, around: Surroundings) -> str:
    """Why an existing directory is none of rattler's or pixi's; empty when it is one."""
    layer = next(layer for layer in folder.layers if layer.wins)
    text = os.sep if layer.kind == "default" else layer.value
    if folder.part == "conda-packages":
        return why_no_cache(folder.path, around, text)
    if (why := why_never(folder.path, around, text)) or layer.kind == "default":
        return why
    if is_empty(folder.path):
        return EMPTY
    if folder.part == "repodata":
        return "" if holds_indexes(folder.path) else "there is no index in it"
    if folder.part != "root" or any(is_dir(folder.path / name) for name in _UNMISTAKABLE):
        return ""
    packages, indexes = folder.path / "pkgs", (folder.path, folder.path / "repodata")
    holds_some = standing(packages, around)[0] or any(map(holds_indexes, indexes))
    return "" if holds_some else "there is neither a package nor an index in it"
