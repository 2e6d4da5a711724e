"""Where conda, mamba and rattler keep packages and why, as ``where`` tells it.

Of conda and mamba every entry of ``pkgs_dirs``, the first writable one marked, and what conda has
left. An entry adds to the list, it does not win over the others: so each place shows the source
that put it there as the winner, and below it what would hold without that source.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from entrepot.ports.tool import ORPHANED, Layer, Place, Surroundings
from entrepot.redaction import has_secret, redacted_url
from entrepot.tools._shared.disk_usage import listed
from entrepot.tools._shared.mounts import is_empty
from entrepot.tools._shared.safe_read import is_dir, is_file
from entrepot.tools.conda.environments import conda_answers, conda_caches, mamba_caches
from entrepot.tools.conda.indexes import holds_indexes
from entrepot.tools.conda.pkgs_dirs import (
    MAGIC,
    VARIABLE,
    Cache,
    Resolved,
    nested_folders,
    resolve_mamba,
    variable_traps,
)
from entrepot.tools.conda.proof import EMPTY, NO_CACHE, standing, why_never, why_no_cache
from entrepot.tools.conda.rattler_dirs import KINDS, Folder, folders, problems, rattler_default
from entrepot.tools.conda.roots import mamba_roots

NEW_PACKAGES = "new packages go here"
"""Label of the first cache in a tool's list that it can write to."""
_ORDINALS = ("", "first", "second", "third", "fourth", "fifth")
_UNMISTAKABLE = (
    "shards-v1",
    "run-exports",
    *sorted({name for _, name in KINDS.values()} - {"pkgs", "repodata"}),
)
"""Folders of a root of rattler's that no other program calls so."""


# -- what conda makes of one directory -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """What conda makes of one directory."""

    is_cache: bool
    """There is a ``urls.txt``."""
    why_not: str = ""
    """Why conda would not write to it."""
    trap: str = ""

    @property
    def writable(self) -> bool:
        """Conda would take it: ``urls.txt`` can be appended to, or it can be created."""
        return not self.why_not


def judge(path: Path) -> Verdict:
    """Conda's verdict: a ``urls.txt`` that can be appended to, or none, and one could be made.

    By ``access(2)``, which knows of read-only mounts and ACLs; nothing is created.

    Source: conda 26.7, ``core/package_cache_data.py``, ``_check_writable`` and ``first_writable``.
    """
    magic = path / MAGIC
    if not os.path.exists(path):
        above = next((each for each in path.parents if os.path.exists(each)), path)
        if above != path and not is_dir(above):
            return Verdict(is_cache=False, why_not=f"{above} is no directory")
        return Verdict(is_cache=False, why_not=_why_not_written(above))
    if not is_dir(path):
        return Verdict(is_cache=False, why_not=f"{path} is no directory")
    if not os.access(path, os.R_OK | os.X_OK):
        return Verdict(is_cache=False, why_not=f"{path} may not be looked into")
    if is_file(magic):
        why = _why_not_written(magic)
        more = ": conda takes packages from it and puts none in" if why else ""
        return Verdict(is_cache=True, why_not=why + more)
    has_packages = any(os.path.isfile(f"{each.path}/info/index.json") for each in listed(path))
    cure = f"cure: touch {shlex.quote(str(magic))}"
    trap = f"no urls.txt: conda stops at packages that lie here; {cure}" if has_packages else ""
    return Verdict(is_cache=False, why_not=_why_not_written(path), trap=trap)


def _why_not_written(path: Path) -> str:
    return "" if os.access(path, os.W_OK) else f"{path} may not be written to"


def first_writable(paths: Iterable[Path]) -> Path | None:
    """The cache that conda downloads into: the first that is writable or can be made."""
    return next((path for path in paths if judge(path).writable), None)


# -- conda and mamba -------------------------------------------------------------------------------


def conda_places(around: Surroundings) -> Sequence[Place]:
    """Every cache of every conda that was found.

    The one that the conda in use downloads into comes first; those that it has left come last.
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
        of_root = f" ({root.path})" if root and len(answers) > 1 else ""
        for place in _listed("conda", answer, around, of_root, notes=number == 0):
            found.setdefault(os.path.realpath(place.path or ""), place)
    for _, answer in answers:
        for cache in answer.defaults:
            key = os.path.realpath(cache.path)
            if key in found or not _holds_packages(cache.path, around):
                continue
            mambas = {os.path.realpath(each) for each in mamba_caches(around)}
            if key not in mambas or is_file(f"{cache.path}/{MAGIC}"):
                found[key] = _orphan(cache, answer)
    return _ranked(found.values())


def mamba_places(around: Surroundings) -> Sequence[Place]:
    """Every cache of every root prefix that mamba uses, the first writable one first.

    The flat part of a cache that conda uses too is listed by conda. Nothing when there is no sign
    of mamba.
    """
    roots = mamba_roots(around)
    found: dict[str, Place] = {}
    for root in roots:
        answer = resolve_mamba(around, str(root.path))
        for place in _listed("mamba", answer, around, f" ({root.path})", notes=True):
            found.setdefault(os.path.realpath(place.path or ""), place)
    if not roots:
        answer = resolve_mamba(around, "")
        own = answer.defaults[0]
        if is_dir(own.path):
            found[own.path] = _place("mamba", own, answer, around, "", notes=True)
    for path in conda_caches(around):
        key = os.path.realpath(path)
        if key not in found and not why_never(path, around) and _nested(path, around):
            layer = Layer("default", "default", str(path), wins=True)
            notes = ("mamba's nested folders lie in a cache of conda's",)
            found[key] = Place("mamba", path, (layer,), label="nested", exists=True, notes=notes)
    return _ranked(found.values())


def _ranked(found: Iterable[Place]) -> list[Place]:
    ranked = [replace(place, rank=number) for number, place in enumerate(found, 1)]
    return sorted(
        ranked,
        key=lambda place: (place.label == ORPHANED, not place.label.startswith(NEW_PACKAGES)),
    )


def _nested(cache: Path, around: Surroundings) -> list[Path]:
    return [folder for folder in nested_folders(cache) if standing(folder, around)[0]]


def _listed(
    tool: str, answer: Resolved, around: Surroundings, of_root: str, *, notes: bool
) -> list[Place]:
    first = first_writable(Path(cache.path) for cache in answer.caches)
    found = []
    for number, cache in enumerate(answer.caches, start=1):
        ordinal = _ORDINALS[number] if number < len(_ORDINALS) else f"as number {number}"
        label = NEW_PACKAGES if Path(cache.path) == first else f"searched {ordinal}"
        found.append(_place(tool, cache, answer, around, label + of_root, notes=notes))
    return found


def _place(
    tool: str, cache: Cache, answer: Resolved, around: Surroundings, label: str, *, notes: bool
) -> Place:
    path = Path(cache.path)
    text = cache.path if cache.source == "default" else cache.text
    verdict = judge(path)
    is_cache, no_cache = standing(path, around, text)
    told: list[str] = []
    if tool == "mamba":
        told += answer.problems if cache == answer.caches[0] else ()
        nested = 0 if why_never(path, around, text) else len(_nested(path, around))
        if nested:
            is_cache, no_cache = True, ""
            told.append(
                f"nested layout of mamba 2.6 and later: {nested} folder{'' if nested == 1 else 's'}"
                ", which conda does not see"
            )
        if os.path.exists(path) and not is_dir(path):
            told.append("it exists and is no directory: mamba stops at it")
        verdict = replace(verdict, trap="")
    else:
        told += [verdict.why_not] if verdict.is_cache and not verdict.writable else ()
        told += _path_notes(cache, around)
        if notes and cache == answer.caches[0]:
            told += [*answer.problems, *variable_traps(around), *_list_notes(answer, around)]
        told += [
            f"{twin.source} names the same folder once more, as {twin.text}"
            for twin in answer.caches
            if twin != cache and os.path.realpath(twin.path) == os.path.realpath(path)
        ]
    return Place(
        tool,
        path,
        tuple(_layers(cache, answer)),
        label=label,
        exists=is_cache,
        usable=(verdict.writable or verdict.is_cache) and not verdict.trap and not no_cache,
        why_not=no_cache or verdict.trap or verdict.why_not,
        notes=tuple(told),
        sources=_channels(answer) if tool == "conda" else (),
    )


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
    if source == "default":
        return "default"
    return "environment" if source.startswith("CONDA_") else "file"


def _path_notes(cache: Cache, around: Surroundings) -> list[str]:
    """The traps of an entry as it is written."""
    text, windows = cache.text, around.platform == "win32"
    if cache.source == "default":
        return []
    if not text:
        return [f"{cache.source} holds an empty entry: conda takes the directory it was started in"]
    why = ""
    if not text.startswith(("/", "~", "$", "%")) and not (windows and text[1:2] == ":"):
        why = "is relative: another cache for every directory that conda is started in"
    elif not windows and ":/" in text and _kind(cache.source) == "file":
        why = "is one directory with a colon in its name: each directory is an entry of its own"
    elif (
        text.startswith("$")
        and "$" in cache.path
        and cache.path.startswith(os.path.normpath(around.cwd))
    ):
        why = "names a variable that is not set: conda makes a directory of that name"
    return [f"{cache.source}: {text!r} {why}"] if why else []


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
        kept = {each.path for each in answer.caches}
        gone = [cache.path for cache in answer.defaults if cache.path not in kept]
        full = [path for path in gone if _holds_packages(path, around)]
        if full:
            told.append(
                f"still full but out of conda's sight since pkgs_dirs is set: {', '.join(full)}"
            )
    if first_writable(Path(cache.path) for cache in answer.caches) is None:
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


def _orphan(cache: Cache, answer: Resolved) -> Place:
    winner = answer.caches[0]
    layers = (
        Layer("default", "default", cache.text),
        Layer(_kind(winner.source), winner.source, winner.text, wins=True),
    )
    why = "conda does not look here any more, and conda clean does not either: pkgs_dirs is set"
    trap = judge(Path(cache.path)).trap
    return Place(
        "conda",
        Path(cache.path),
        layers,
        label=ORPHANED,
        exists=True,
        usable=False,
        why_not=why,
        notes=(trap,) if trap else (),
    )


def _holds_packages(path: str, around: Surroundings) -> bool:
    """Whether a cache holds more than what makes it one."""
    return standing(Path(path), around)[0] and any(
        each.name not in {"urls", MAGIC} for each in listed(path)
    )


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


# -- rattler and pixi ------------------------------------------------------------------------------


def rattler_places(around: Surroundings) -> Sequence[Place]:
    """Every folder in force, pixi's root first; without any sign of either nothing."""
    found = [_rattler_place(folder, around) for folder in folders(around)]
    found[0] = replace(found[0], notes=(*found[0].notes, *problems(around)))
    named = any(around.environ.get(name) for name in ("PIXI_CACHE_DIR", "RATTLER_CACHE_DIR"))
    return found if named or any(place.exists or place.why_not for place in found) else []


def _rattler_place(folder: Folder, around: Surroundings) -> Place:
    no_cache = _why_not_rattlers(folder, around) if is_dir(folder.path) else EMPTY
    why = ""
    if no_cache not in ("", EMPTY):
        why = f"{NO_CACHE}: {no_cache}"
    elif is_dir(folder.path) and not os.access(folder.path, os.W_OK):
        why = "it may not be written to"
    label = folder.user if folder.part == "root" else f"{folder.user}: {folder.part}"
    if str(folder.path) == rattler_default(around):  # where both keep things unless it is set
        label = "rattler and pixi"
    notes = []
    if folder.part == "root" and os.path.isdir(folder.path / "uv-cache"):
        notes.append("pixi's PyPI part is a second uv cache inside it: uv-cache")
    if around.environ.get(VARIABLE):
        notes.append("CONDA_PKGS_DIRS and pkgs_dirs are not read by rattler and pixi")
    return Place(
        "rattler",
        folder.path,
        folder.layers,
        label=label,
        exists=not no_cache,
        usable=not why,
        why_not=why,
        notes=tuple(notes),
    )


def _why_not_rattlers(folder: Folder, around: Surroundings) -> str:
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
