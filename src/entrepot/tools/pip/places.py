"""Where pip's cache is, why it is there, and whether pip would use it: the answer to ``where pip``.

The rules (``spec`` of pip 20.3 to 26.3, checked against real ones): the command line beats
everything and its last word counts; then any "no cache" switch, wherever it stands; then
``PIP_CACHE_DIR``; then the running command's section over ``[global]``; then the default. Reads
configuration and asks for ownership; starts nothing, changes nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from entrepot.cache_root import other_owner, user_name
from entrepot.ports.tool import ORPHANED, Layer, Place, Surroundings
from entrepot.redaction import redacted_url
from entrepot.tools._shared.defaults import default_index
from entrepot.tools.pip.configuration import Configuration, Value, load
from entrepot.tools.pip.interpreters import Pip, pips
from entrepot.tools.pip.locations import absolute, default_cache, real

TRUE = frozenset("y yes t true on 1".split())
TRUTH = TRUE | frozenset("n no f false off 0".split())
"""What pip takes for a truth value; for ``no-cache-dir`` every one of them means *off*, ``0`` and
``false`` too."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """The directory that one pip command would use and every layer that was considered."""

    path: str | None
    """As pip computes it, before symbolic links are resolved; ``None``: caching is off, or pip
    would not start."""
    layers: tuple[Layer, ...]
    error: str = ""
    """Why pip itself would stop, in a sentence."""
    notes: tuple[str, ...] = ()


def resolve(
    around: Surroundings, pip: Pip, *, command: str = "install", options: Sequence[str] = ()
) -> Resolution:
    """What ``pip COMMAND OPTIONS`` would take for its cache directory.

    Args:
        around: environment, home, working directory and platform.
        pip: whose rules.
        command: the section beside ``[global]`` that counts.
        options: the command line, of which ``--cache-dir`` and ``--no-cache-dir`` are looked at.
    """
    config = load(around, pip)
    flags = _flags(options)
    switches = [v for group in config.strongest("no-cache-dir", command) for v in group]
    values = [v for group in config.strongest("cache-dir", command) for v in group]
    decisive = {
        id(group[0])
        for key in ("no-cache-dir", "cache-dir")
        for group in config.strongest(key, command)
        if group[0].value
    }
    default, reason = default_cache(around, pip.version)
    layers: list[Layer] = []
    path: str | None = None
    won = False
    for flag, given in reversed(flags):
        layers.append(Layer("option", flag, given or "off", wins=not won))
        path, won = (path, True) if won else (given or None, True)
    for switch in switches:
        counts = id(switch) in decisive
        note = _switch_note(switch) if counts else "another setting is stronger"
        note = note if switch.value else "empty: ignored"
        layers.append(_layer(switch, wins=counts and not won, note=note))
        won = won or counts
    for value in values:
        counts = id(value) in decisive
        note = "" if value.value else "empty: ignored"
        layers.append(_layer(value, wins=counts and not won, note=note))
        if counts and not won:
            path, won = value.value, True
    if reason == "default":
        layers.append(Layer("default", reason, default, wins=not won))
    else:
        layers.append(Layer("environment", reason, around.environ.get(reason, ""), wins=not won))
    path = path if won else default
    return Resolution(
        None if path is None else absolute(path, around, pip.version),
        tuple(layers),
        _error(config, switches, decisive),
        _notes(switches, values, decisive),
    )


def _flags(options: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for number, word in enumerate(options):
        if word == "--no-cache-dir":
            found.append((word, ""))
        elif word == "--cache-dir" and number + 1 < len(options):
            found.append((word, options[number + 1]))
        elif word.startswith("--cache-dir="):
            found.append(("--cache-dir", word.partition("=")[2]))
    return found


def _layer(value: Value, *, wins: bool, note: str) -> Layer:
    if value.level == "variable":
        return Layer("environment", value.source, value.value, wins=wins, note=note)
    return Layer(
        "file", value.source, f"[{value.section}] {value.key} = {value.value}", wins=wins, note=note
    )


def _switch_note(switch: Value) -> str:
    if switch.value.lower() not in TRUTH - TRUE:
        return ""
    is_variable = switch.level == "variable"
    name, cure = (switch.source, "unset it") if is_variable else (switch.key, "take it out")
    return (
        f"{name}={switch.value} turns the cache off, as every truth value does; {cure} to have one"
    )


def _error(config: Configuration, switches: list[Value], decisive: set[int]) -> str:
    if config.broken:
        path, text = config.broken[0]
        edit = "entrepot config --tool pip edit"
        return f"pip stops with an error: {path}: {text}; to correct it: {edit}"
    for switch in switches:
        if id(switch) in decisive and switch.value.lower() not in TRUTH:
            what = f"invalid truth value {switch.value!r} for no-cache-dir ({switch.source})"
            return f"pip stops with an error: {what}: write yes, or take it out"
    return ""


def _notes(switches: list[Value], values: list[Value], decisive: set[int]) -> tuple[str, ...]:
    notes = [note for s in switches if id(s) in decisive and (note := _switch_note(s))]
    for value in values:
        if id(value) in decisive and value.value.lower() in TRUTH:
            notes.append(
                f"cache-dir = {value.value} ({value.source}) is a directory of that name, not a "
                "switch; use no-cache-dir"
            )
        if id(value) in decisive and ("$" in value.value or value.value[:1] in "\"'"):
            notes.append(
                f"pip takes {value.value} ({value.source}) literally: variables and quotes are "
                "part of the name"
            )
    return tuple(notes)


def places(
    around: Surroundings, *, command: str = "install", options: Sequence[str] = ()
) -> list[Place]:
    """Every cache of every pip found, the one in use first, unused default ones last.

    Pips that agree on a directory share one place.
    """
    found: dict[str, tuple[Place, list[str]]] = {}
    known_pips = pips(around)
    for pip in known_pips:
        place = place_of(around, pip, command=command, options=options)
        known = found.get(str(place.path))
        if known is None:
            found[str(place.path)] = (place, [])
        else:
            known[1].append(pip.label)
    used = []
    for place, others in found.values():
        text = f"{', '.join(others)} {'uses' if len(others) == 1 else 'use'} it too"
        used.append(replace(place, notes=(*place.notes, text)) if others else place)
    return used if around.python is not None else _with_orphaned(used, known_pips, around)


def cache_of(
    around: Surroundings, pip: Pip, *, command: str = "install", options: Sequence[str] = ()
) -> Path | None:
    """The directory that a pip would use, symbolic links resolved; ``None``: none."""
    path = resolve(around, pip, command=command, options=options).path
    return None if path is None else real(path, around)


def place_of(
    around: Surroundings, pip: Pip, *, command: str = "install", options: Sequence[str] = ()
) -> Place:
    """The cache of one pip."""
    answer = resolve(around, pip, command=command, options=options)
    path = None if answer.path is None else real(answer.path, around)
    notes = list(answer.notes)
    printed = resolve(around, pip, command="cache", options=options)
    if command != "cache" and printed.path != answer.path:
        said = printed.path or "that the cache is off"
        notes.append(
            f"`pip cache dir` says {said}: it reads [cache] where `pip {command}` reads [{command}]"
        )
    why_not = answer.error or ("" if path is None else ownership_problem(path, around))
    return Place(
        tool="pip",
        path=path,
        layers=answer.layers,
        label=pip.label,
        exists=path is not None and os.path.isdir(path),
        usable=path is not None and not why_not,
        why_not=why_not or ("" if path is not None else "caching is turned off"),
        notes=tuple(notes),
        sources=tuple(sources(around, pip, command=command)),
    )


def ownership_problem(path: Path, around: Surroundings) -> str:
    """Why pip would turn its cache off for this directory; empty when it would use it.

    Only the first path upwards that exists is looked at: root wants it owned by root whatever its
    mode, others want to be able to write to it. On Windows pip never asks.

    Source: pip's ``utils/filesystem.py``, ``check_path_owner``.
    """
    if around.platform == "win32" or around.euid < 0:
        return ""
    for folder in (path, *path.parents):
        try:
            info = folder.lstat()
        except OSError:
            continue
        mode = stat.filemode(info.st_mode)
        if around.euid == 0:
            if info.st_uid == 0:
                return ""
            return (
                f"pip run by root uses only what root owns, and {folder} belongs to "
                f"{user_name(info.st_uid)}; run pip as that user, or set another cache-dir for root"
            )
        if _writable(folder, info, around.euid):
            return ""
        return (
            f"{folder} belongs to {user_name(info.st_uid)} ({mode}) and {user_name(around.euid)} "
            "may not write to it: pip neither reads nor writes the cache; `sudo chown "
            f"{user_name(around.euid)} {folder}` or set another cache-dir"
        )
    return f"nothing above {path} exists"


def _writable(folder: Path, info: os.stat_result, euid: int) -> bool:
    if not hasattr(os, "getuid") or euid == os.getuid():
        return os.access(folder, os.W_OK)
    if info.st_uid == euid:
        return bool(info.st_mode & stat.S_IWUSR)
    return bool(info.st_mode & stat.S_IWOTH)


def indexes(around: Surroundings, pip: Pip, *, command: str = "install") -> list[str]:
    """URLs of the indexes in force, with credentials: never show or keep them."""
    config = load(around, pip)
    switch = config.get("no-index", command)
    if switch is not None and switch.value.lower() in TRUE:
        return []
    first = config.get("index-url", command)
    more = config.get("extra-index-url", command)
    urls = [first.value] if first else list(default_index()[:1])
    urls += more.value.split() if more else []
    return [url.rstrip("/") for url in urls if url]


def sources(around: Surroundings, pip: Pip, *, command: str = "install") -> list[str]:
    """Indexes and find-links in force, without credentials."""
    links = load(around, pip).get("find-links", command)
    shown = [redacted_url(url) for url in indexes(around, pip, command=command)]
    return shown + [
        redacted_url(word) if "://" in word else word
        for word in (links.value.split() if links else [])
    ]


def foreign_owner(path: Path, around: Surroundings) -> str:
    """For root: the other user who owns a path or its nearest existing parent; else empty."""
    owner = other_owner(path, around.euid)
    return user_name(owner) if owner else ""


# -- default caches that no pip found here uses any more -------------------------------------------


def _with_orphaned(used: Sequence[Place], pips: Sequence[Pip], around: Surroundings) -> list[Place]:
    """The places of all pips, the first with notes on unused default caches, then the orphaned.

    A setting moved pip's cache, or turned it off, and the old one stayed. Where a file did that, or
    a switch, the old cache is a place of its own, *orphaned*, for every verb. A variable may hold
    for this shell alone, and other programs may go on without it: then the old cache is only told
    of. To clean what others use would be a guess.
    """
    orphans, notes = list[Place](), list[str]()
    winner = tuple(layer for layer in used[0].layers if layer.wins)[:1]
    for folder, variable in _unused_defaults(used, pips, around):
        if variable:
            notes.append(
                f"{folder} is not in use here and still holds a cache: `{variable}= entrepot "
                "status` shows it"
            )
        else:
            layers = (Layer("default", "default", str(folder)), *winner)
            note = "no pip found here uses this cache any more"
            orphans.append(Place("pip", folder, layers, ORPHANED, exists=True, notes=(note,)))
    return [replace(used[0], notes=(*used[0].notes, *notes)), *used[1:], *orphans]


def _unused_defaults(
    used: Sequence[Place], pips: Sequence[Pip], around: Surroundings
) -> Iterator[tuple[Path, str]]:
    """Each default place that holds a cache and is no pip's, with the variable that moved it."""
    seen = {place.path for place in used}
    environ = {name: value for name, value in around.environ.items() if name != "XDG_CACHE_HOME"}
    # The variable that says where a cache is, if one does; not those that turn it off.
    layers = (layer for place in used if place.path for layer in place.layers)
    moved = next((x.source for x in layers if x.wins and x.kind == "environment"), "")
    for other, variable in (
        (around, moved),
        (replace(around, environ=environ), "XDG_CACHE_HOME"),
    ):
        for pip in pips:
            default = default_cache(other, pip.version)[0]
            folder = real(absolute(default, around, pip.version), around)
            if folder not in seen and _holds_cache(folder):
                seen.add(folder)
                yield folder, variable


def _holds_cache(folder: Path) -> bool:
    for part in ("http-v2", "http", "wheels"):
        try:
            with os.scandir(folder / part) as found:
                if next(found, None) is not None:
                    return os.path.isdir(folder)
        except OSError:
            continue
    return False
