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
from typing import Any

from entrepot.ports.tool import Entry, Kind
from entrepot.redaction import redacted_url
from entrepot.tools.condakit.census import Tree, measure
from entrepot.tools.condakit.environments import load_json
from entrepot.tools.condakit.locked import is_locked

_INDEX = re.compile(
    r"([0-9a-f]{8}1?)\.(?:json|info\.json|state\.json|solv|msgpack\.zst|shards-cache-v1|lock|q|csh)(?:\..+)?"
)
_MAX_AGE = re.compile(r"max-age=(\d+)")


def is_index_file(name: str) -> bool:
    """Whether a file belongs to an index cache."""
    return _INDEX.fullmatch(name) is not None or name.startswith("repodata_shards.db")


def index_entries(tool: str, place: Path, folder: Path, now: float) -> Iterator[Entry]:
    """The entries of one folder of indexes.

    Files of one stem together, folders of shards as a whole; unknown ones by size.
    """
    groups: dict[str, list[str]] = {}
    try:
        names = sorted(os.listdir(folder))  # names are what is wanted
    except OSError:
        return
    for name in names:
        match = _INDEX.fullmatch(name)
        key = (
            match[1]
            if match
            else "repodata_shards.db"
            if name.startswith("repodata_shards.db")
            else name
        )
        if match or key != name or name in {"shards", "shards-v1", "repodata_shards.db"}:
            groups.setdefault(key, []).append(name)
        elif not (folder / name).is_dir() or name in {"run-exports", "run_exports"}:
            groups.setdefault(name, []).append(name)
    for key, members in groups.items():
        yield _entry(tool, place, folder, key, members, now=now)


def _entry(
    tool: str, place: Path, folder: Path, key: str, members: list[str], *, now: float
) -> Entry:
    # the state first: an index without a state is fetched whole, a state without an index would be
    # believed
    paths = sorted(
        (folder / name for name in members),
        key=lambda path: (not path.name.endswith((".info.json", ".state.json")), path.name),
    )
    trees = [measure(str(path)) for path in paths]
    state = next(
        (load_json(path) for path in paths if path.name.endswith((".info.json", ".state.json"))), {}
    )
    known = _INDEX.fullmatch(members[0]) or key in {
        "shards",
        "shards-v1",
        "repodata_shards.db",
        "run-exports",
        "run_exports",
    }
    busy = any(path.name.endswith(".info.json") and is_locked(path) for path in paths)
    url = state.get("url")
    return Entry(
        tool,
        place,
        (folder.relative_to(place) / key).as_posix(),
        Kind.PAGE if known else Kind.OTHER,
        size=sum(tree.size for tree in trees),
        disk=sum(tree.disk for tree in trees),
        freeable=sum(tree.freeable for tree in trees) if known else 0,
        files=sum(tree.files for tree in trees),
        used=max((tree.changed for tree in trees), default=None),
        used_from="mtime",
        pinned="being written" if busy else "" if known else "unknown layout: sizes only",
        origin=redacted_url(url) if isinstance(url, str) else "",
        state=freshness(state, trees, now),
        paths=tuple(paths),
        extra={"index": "yes"},
    )


def freshness(state: dict[str, Any], trees: list[Tree], now: float) -> Any:
    """``fresh`` or ``stale`` by the answer's own ``max-age``; empty without a state.

    Source: conda 26.7: ``local_repodata_ttl`` 1 obeys ``Cache-Control``; no header is 0 seconds.
    """
    if not state or not trees:
        return ""
    match = _MAX_AGE.search(str(state.get("cache_control") or state.get("_cache_control") or ""))
    checked = state.get("refresh_ns")
    since = checked / 1e9 if isinstance(checked, int) else max(tree.changed for tree in trees)
    return "fresh" if now - since < (int(match[1]) if match else 0) else "stale"
