"""Where rattler and pixi keep things and why.

See :mod:`entrepot.tools.condakit.rattler_dirs` for the rules.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from entrepot.ports.tool import Place, Surroundings
from entrepot.tools.condakit.rattler_dirs import Folder, folders, problems, rattler_default
from entrepot.tools.condakit.writable import may_write
from entrepot.tools.reading import is_dir

TOOL = "rattler"
NO_SIGN = ("PIXI_CACHE_DIR", "RATTLER_CACHE_DIR")


def places(around: Surroundings) -> Sequence[Place]:
    """Every folder in force, pixi's root first; without any sign of either nothing."""
    found = [_place(folder, around) for folder in folders(around)]
    found[0] = replace(found[0], notes=(*found[0].notes, *problems(around)))
    if any(place.exists for place in found) or any(around.environ.get(name) for name in NO_SIGN):
        return found
    return []


def _place(folder: Folder, around: Surroundings) -> Place:
    exists = is_dir(folder.path)
    usable = not exists or may_write(folder.path, around)
    label = folder.user if folder.part == "root" else f"{folder.user}: {folder.part}"
    if str(folder.path) == rattler_default(around):  # where both keep things unless it is set
        label = "rattler and pixi"
    notes = []
    if folder.part == "root" and os.path.isdir(folder.path / "uv-cache"):
        notes.append("pixi's PyPI part is a second uv cache inside it: uv-cache")
    if around.environ.get("CONDA_PKGS_DIRS"):
        notes.append("CONDA_PKGS_DIRS and pkgs_dirs are not read by rattler and pixi")
    why = "" if usable else "it may not be written to"
    return Place(
        TOOL,
        folder.path,
        folder.layers,
        label=label,
        exists=exists,
        usable=usable,
        why_not=why,
        notes=tuple(notes),
    )
