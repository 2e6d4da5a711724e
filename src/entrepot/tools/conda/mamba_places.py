"""Where mamba and micromamba keep packages and why.

The flat part of a cache that conda uses too is listed by conda.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from entrepot.ports.tool import Layer, Place, Surroundings
from entrepot.tools._shared.safe_read import is_dir
from entrepot.tools.conda.mamba_dirs import Resolved, nested_folders, resolve
from entrepot.tools.conda.pkgs_dirs import Cache
from entrepot.tools.conda.proof import standing, why_never
from entrepot.tools.conda.registered_environments import conda_caches
from entrepot.tools.conda.roots import Root, mamba_roots
from entrepot.tools.conda.writable import (
    NEW_PACKAGES,
    first_writable,
    judge,
    order_label,
)

TOOL = "mamba"


def places(around: Surroundings) -> Sequence[Place]:
    """Every cache of every root prefix that mamba uses, the first writable one first.

    Nothing when there is no sign of mamba.
    """
    roots = mamba_roots(around)
    found: dict[str, Place] = {}
    for root in roots:
        for place in _listed(root, resolve(around, str(root.path)), around):
            found.setdefault(os.path.realpath(place.path or ""), place)
    if not roots:
        answer = resolve(around, "")
        own = answer.defaults[0]
        if is_dir(own.path):
            found[own.path] = _place(own, answer, around, label="")
    for path in _shared_with_conda(around):
        if os.path.realpath(path) not in found:
            layer = Layer("default", "default", str(path), wins=True)
            notes = ("mamba's nested folders lie in a cache of conda's",)
            found[os.path.realpath(path)] = Place(
                TOOL, path, (layer,), label="nested", exists=True, notes=notes
            )
    ranked = [replace(place, rank=number) for number, place in enumerate(found.values(), 1)]
    return sorted(ranked, key=lambda place: not place.label.startswith(NEW_PACKAGES))


def _shared_with_conda(around: Surroundings) -> list[Path]:
    return [
        path
        for path in conda_caches(around)
        if not why_never(path, around) and _nested(path, around)
    ]


def _nested(cache: Path, around: Surroundings) -> list[Path]:
    return [folder for folder in nested_folders(cache) if standing(folder, around)[0]]


def _listed(root: Root, answer: Resolved, around: Surroundings) -> list[Place]:
    paths = [Path(cache.path) for cache in answer.caches]
    first = first_writable(paths, around)
    labels = [
        f"{order_label(n, first=path == first)} ({root.path})" for n, path in enumerate(paths, 1)
    ]
    return [
        _place(cache, answer, around, label=label)
        for cache, label in zip(answer.caches, labels, strict=True)
    ]


def _place(cache: Cache, answer: Resolved, around: Surroundings, *, label: str) -> Place:
    verdict = judge(Path(cache.path), around)
    kind = (
        "default"
        if cache.source == "default"
        else "environment"
        if cache.source.startswith("CONDA_")
        else "file"
    )
    # One of the words
    layers = [Layer(kind, cache.source, cache.text, wins=True)]  # type: ignore[arg-type]
    if cache.source != "default":
        layers += [
            Layer("default", "default", each.text, note="pkgs_dirs is set")
            for each in answer.defaults
        ]
    notes = list(answer.problems) if cache == answer.caches[0] else []
    text = cache.path if cache.source == "default" else cache.text
    is_cache, no_cache = standing(Path(cache.path), around, text)
    nested = (
        0 if why_never(Path(cache.path), around, text) else len(_nested(Path(cache.path), around))
    )
    if nested:
        notes.append(
            f"nested layout of mamba 2.6 and later: {nested} folder{'' if nested == 1 else 's'}, "
            "which conda does not see"
        )
    if verdict.exists and not is_dir(cache.path):
        notes.append("it exists and is no directory: mamba stops at it")
    return Place(
        TOOL,
        Path(cache.path),
        tuple(layers),
        label=label,
        exists=is_cache or nested > 0,
        usable=(verdict.writable or verdict.is_cache) and (nested > 0 or not no_cache),
        why_not=("" if nested else no_cache) or verdict.why_not,
        notes=tuple(notes),
    )
