"""Where conda keeps packages and why.

Every entry of ``pkgs_dirs``, the first writable one marked, and what conda has left.

An entry adds to the list, it does not win over the others: so each place shows the source that put
it there as the winner, and below it what would hold without that source.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from entrepot.ports.tool import ORPHANED, Layer, Place, Surroundings
from entrepot.redaction import has_secret, redacted_url
from entrepot.tools._shared.safe_read import is_dir, is_file
from entrepot.tools.conda.pkgs_dirs import VARIABLE, Cache, Resolved, variable_traps
from entrepot.tools.conda.proof import standing
from entrepot.tools.conda.registered_environments import conda_answers, mamba_caches
from entrepot.tools.conda.roots import Root
from entrepot.tools.conda.writable import (
    NEW_PACKAGES,
    first_writable,
    judge,
    order_label,
)

TOOL = "conda"


def places(around: Surroundings) -> Sequence[Place]:
    """Every cache of every conda that was found.

    The one that the conda in use downloads into comes first.

    Without a conda only what is configured, or lies in ``~/.conda/pkgs``, is said.
    """
    answers = conda_answers(around)
    found: dict[str, Place] = {}
    for number, (root, answer) in enumerate(answers):
        if (
            root is None
            and answer.is_default
            and not any(is_dir(cache.path) for cache in answer.caches)
        ):
            continue
        for place in _listed(root, answer, around, several=len(answers) > 1, notes=number == 0):
            found.setdefault(os.path.realpath(place.path or ""), place)
    for _, answer in answers:
        for cache in answer.defaults:
            key = os.path.realpath(cache.path)
            if (
                key not in found
                and _holds_packages(Path(cache.path), around)
                and not _is_mambas(cache.path, around)
            ):
                found[key] = _orphan(cache, answer, around)
    ranked = [replace(place, rank=number) for number, place in enumerate(found.values(), 1)]
    return sorted(
        ranked,
        key=lambda place: (place.label == ORPHANED, not place.label.startswith(NEW_PACKAGES)),
    )


def _listed(
    root: Root | None, answer: Resolved, around: Surroundings, *, several: bool, notes: bool
) -> list[Place]:
    paths = [Path(cache.path) for cache in answer.caches]
    first = first_writable(paths, around)
    of_root = f" ({root.path})" if root and several else ""
    found = []
    for number, (cache, path) in enumerate(zip(answer.caches, paths, strict=True), start=1):
        place = _place(
            cache,
            answer,
            around,
            label=f"{order_label(number, first=path == first)}{of_root}",
            notes=notes,
        )
        twins = [
            each
            for each in answer.caches
            if each != cache and os.path.realpath(each.path) == os.path.realpath(cache.path)
        ]
        told = [f"{twin.source} names the same folder once more, as {twin.text}" for twin in twins]
        found.append(replace(place, notes=(*place.notes, *told)))
    return found


def _place(
    cache: Cache, answer: Resolved, around: Surroundings, *, label: str, notes: bool
) -> Place:
    verdict = judge(Path(cache.path), around)
    is_cache, no_cache = standing(Path(cache.path), around, _written(cache))
    told = [verdict.why_not] if verdict.is_cache and not verdict.writable else []
    told += _path_notes(cache, around)
    if notes and cache == answer.caches[0]:
        told += [*answer.problems, *variable_traps(around), *_list_notes(answer, around)]
    return Place(
        TOOL,
        Path(cache.path),
        tuple(_layers(cache, answer)),
        label=label,
        exists=is_cache,
        usable=(verdict.writable or verdict.is_cache) and not verdict.trap and not no_cache,
        why_not=no_cache or verdict.trap or verdict.why_not,
        notes=tuple(told),
        sources=_channels(answer),
    )


def _written(cache: Cache) -> str:
    return cache.path if cache.source == "default" else cache.text


def _layers(cache: Cache, answer: Resolved) -> list[Layer]:
    note = f"#!{cache.flag}" if cache.flag else ""
    layers = [Layer(_kind(cache.source), cache.source, cache.text, wins=True, note=note)]
    if cache.source != "default":
        layers += [
            Layer("default", "default", each.text, note="pkgs_dirs is set")
            for each in answer.defaults
        ]
    layers += [
        Layer(_kind(cut.source), cut.source, cut.text, note="cut off by #!final")
        for cut in answer.cut
    ]
    return layers


def _kind(source: str) -> Literal["default", "environment", "file"]:
    return (
        "default"
        if source == "default"
        else "environment"
        if source.startswith("CONDA_")
        else "file"
    )


def _path_notes(cache: Cache, around: Surroundings) -> list[str]:
    """The traps of an entry as it is written."""
    text = cache.text
    if cache.source == "default":
        return []
    if not text:
        return [f"{cache.source} holds an empty entry: conda takes the directory it was started in"]
    start = os.path.normpath(str(around.cwd))
    if not text.startswith(("/", "~", "$", "%")) and not (
        around.platform == "win32" and text[1:2] == ":"
    ):
        return [
            (
                f"{cache.source}: {text!r} is relative: another cache for every directory that "
                "conda is started in"
            )
        ]
    if around.platform != "win32" and ":/" in text and _kind(cache.source) == "file":
        return [
            (
                f"{cache.source}: {text!r} is one directory with a colon in its name: each "
                "directory is an entry of its own"
            )
        ]
    if "$" in cache.path and cache.path.startswith(start) and text.startswith("$"):
        return [
            (
                f"{cache.source}: {text!r} names a variable that is not set: conda makes a "
                "directory of that name"
            )
        ]
    return []


def _list_notes(answer: Resolved, around: Surroundings) -> list[str]:
    told = [text for document in answer.documents for text in document.hidden]
    files = [cache for cache in answer.caches if _kind(cache.source) == "file"]
    if around.environ.get(VARIABLE) and files:
        told.append(
            f"{VARIABLE} does not replace pkgs_dirs of {files[0].source}: it stands in front of it"
        )
    if around.environ.get(VARIABLE) and any(cut.source == VARIABLE for cut in answer.cut):
        told.append(f"{VARIABLE} has no effect: a #!final cuts it off")
    if not answer.is_default:
        gone = [
            cache.path
            for cache in answer.defaults
            if cache.path not in {each.path for each in answer.caches}
        ]
        full = [path for path in gone if _holds_packages(Path(path), around)]
        if full:
            told.append(
                f"still full but out of conda's sight since pkgs_dirs is set: {', '.join(full)}"
            )
    if first_writable([Path(cache.path) for cache in answer.caches], around) is None:
        told.append(
            "none of its caches may be written to: conda stops as soon as it has to download "
            "something"
        )
    if answer.stops:
        told.append(
            "conda itself stops at this configuration; shown is what it would do without the "
            "broken part"
        )
    return told


def _orphan(cache: Cache, answer: Resolved, around: Surroundings) -> Place:
    winner = answer.caches[0]
    layers = (
        Layer("default", "default", cache.text),
        Layer(_kind(winner.source), winner.source, winner.text, wins=True),
    )
    why = "conda does not look here any more, and conda clean does not either: pkgs_dirs is set"
    verdict = judge(Path(cache.path), around)
    return Place(
        TOOL,
        Path(cache.path),
        layers,
        label=ORPHANED,
        exists=True,
        usable=False,
        why_not=why,
        notes=((verdict.trap,) if verdict.trap else ()),
    )


def _holds_packages(path: Path, around: Surroundings) -> bool:
    """Whether a cache holds more than what makes it one."""
    if not standing(path, around)[0]:
        return False
    try:
        with os.scandir(path) as found:
            return any(each.name not in {"urls", "urls.txt"} for each in found)
    except OSError:
        return False


def _is_mambas(path: str, around: Surroundings) -> bool:
    """Whether mamba still uses a folder that conda has left."""
    return os.path.realpath(path) in {
        os.path.realpath(each) for each in mamba_caches(around)
    } and not is_file(f"{path}/urls.txt")


def _channels(answer: Resolved) -> tuple[str, ...]:
    """Channels of the strongest file that names some; names and URLs, secrets masked."""
    for document in reversed(answer.documents):
        value = document.lists.get("channels")
        if value and value.items:
            return tuple(
                redacted_url(i.text) if "://" in i.text and has_secret(i.text) else i.text
                for i in value.items
            )
    return ()
