"""The index cache: repodata, its state files and shards, in the shapes of conda, mamba and rattler.

One entry an index.

Source: conda 26.7 and py-rattler 0.28, by experiment: the name is eight hex digits of the md5 of
the channel's URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from entrepot.ports.tool import Kind
from entrepot.redaction import redacted_url
from entrepot.tools._shared.disk_usage import Tree, listed, measure
from entrepot.tools.conda.entry import BEING_WRITTEN, UNKNOWN_LAYOUT, CondaEntry, load_json
from entrepot.tools.conda.locks import is_locked

_INDEX = re.compile(
    r"([0-9a-f]{8}1?)\.(?:json|info\.json|state\.json|solv|msgpack\.zst|shards-cache-v1|lock|q|csh)"
    r"(?:\.(?:lock|tmp|zst|bz2))?"
)
_DATABASE = re.compile(r"(repodata_shards\.db)(?:-wal|-shm|-journal)?")
_MEMBERS = {
    "shards": re.compile(r"[0-9a-f]{8,64}\.msgpack(?:\.zst)?|[0-9a-f]{1,4}"),
    "shards-v1": re.compile(r"[0-9a-f]{64}\.msgpack(?:\.zst)?"),
    "run-exports": re.compile(r".+-[^-]+-[^-]+\.(?:json|lock)"),
    "run_exports": re.compile(r".+-[^-]+-[^-]+\.(?:json|lock)"),
}
"""What may lie in the folders of an index cache; one with anything else in it is not its."""
_STATE = frozenset("url _url etag _etag cache_control _cache_control mod _mod blake2_hash".split())
_STATE_FILES = (".info.json", ".state.json")
_MAX_AGE = re.compile(r"max-age=(\d+)")


def is_index_file(name: str) -> bool:
    """Whether a file's name is one of an index cache's."""
    return _INDEX.fullmatch(name) is not None or _DATABASE.fullmatch(name) is not None


def index_entries(
    tool: str, place: Path, folder: Path, now: float, *, owner: Path, is_proven: bool
) -> Iterator[CondaEntry]:
    """The entries of a folder of indexes.

    Files of one stem, shards as a whole, unknown ones by size.

    Args:
        tool: whose they are.
        place: the place's directory; keys are relative to it.
        folder: where they lie.
        now: seconds since the epoch.
        owner: the folder that they belong to.
        is_proven: the folder is part of a proven cache, so that names are enough. Elsewhere
            ``20240101.json`` is anybody's: a group counts with a state file in it.
    """
    groups: dict[str, list[str]] = {}
    for item in listed(folder):
        name = item.name
        match = _INDEX.fullmatch(name) or _DATABASE.fullmatch(name)
        if match or name in _MEMBERS or not os.path.isdir(item.path):
            groups.setdefault(match[1] if match else name, []).append(name)
    for key, members in groups.items():
        # the state first: an index without a state is fetched whole, a state without an index
        # would be believed
        members.sort(key=lambda name: (not name.endswith(_STATE_FILES), name))
        paths = [folder / name for name in members]
        tree = Tree()
        for path in paths:
            tree.merge(measure(str(path)))
        state = load_json(paths[0]) if members[0].endswith(_STATE_FILES) else {}
        known = _is_index(folder, key, members, state, is_proven=is_proven)
        block = None if known else UNKNOWN_LAYOUT
        if any(path.name.endswith(".info.json") and is_locked(path) for path in paths):
            block = BEING_WRITTEN
        url = state.get("url")
        yield CondaEntry(
            tool,
            place,
            (folder.relative_to(place) / key).as_posix(),
            Kind.PAGE if known else Kind.OTHER,
            size=tree.size,
            disk=tree.disk,
            freeable=tree.freeable if known else 0,
            files=tree.files,
            used=tree.changed,
            used_from="mtime",
            block=block,
            origin=redacted_url(url) if isinstance(url, str) else "",
            state=_freshness(state, tree, now) if state else "",
            locations=tuple(map(str, paths)),
            folder=owner,
        )


def holds_indexes(folder: Path) -> bool:
    """Whether a folder is an index cache: there are files with their state in it, or shards."""
    found = index_entries("", folder, folder, 0, owner=folder, is_proven=False)
    return any(entry.kind is Kind.PAGE for entry in found)


def _is_index(
    folder: Path, key: str, members: list[str], state: dict[str, Any], *, is_proven: bool
) -> bool:
    """Whether the files of a group are an index cache's."""
    if key in _MEMBERS:
        return _holds_only(folder / key, _MEMBERS[key])
    if not is_index_file(members[0]) or any((folder / name).is_dir() for name in members):
        return False
    unmistakable = any(
        name.endswith(".shards-cache-v1") or _DATABASE.fullmatch(name) for name in members
    )
    return is_proven or unmistakable or not _STATE.isdisjoint(state)


def _holds_only(folder: Path, wanted: re.Pattern[str]) -> bool:
    """Whether there are names below a folder, all of one form; a symbolic link is of none."""
    waiting, seen = [os.fspath(folder)], False
    if not folder.is_dir() or folder.is_symlink():
        return False
    while waiting:
        unread: list[str] = []
        for each in listed(waiting.pop(), unread):
            if each.is_symlink() or not wanted.fullmatch(each.name):
                return False
            seen = True
            if each.is_dir(follow_symlinks=False):
                waiting.append(each.path)
        if unread:
            return False
    return seen


def _freshness(state: dict[str, Any], tree: Tree, now: float) -> Literal["fresh", "stale"]:
    """By the answer's own ``max-age``.

    Source: conda 26.7: ``local_repodata_ttl`` 1 obeys ``Cache-Control``; no header is 0 seconds.
    """
    match = _MAX_AGE.search(str(state.get("cache_control") or state.get("_cache_control") or ""))
    checked = state.get("refresh_ns")
    since = checked / 1e9 if isinstance(checked, int) else tree.changed
    return "fresh" if now - since < (int(match[1]) if match else 0) else "stale"
