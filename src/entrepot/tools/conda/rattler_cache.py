"""What lies in rattler's and pixi's folders.

Unpacked packages without archives, indexes, and parts that are only measured.

rattler keeps no record of a package's origin; what the environments' records say of it is shown.

Source: py-rattler 0.28, by experiment: ``NAME.lock`` is 8 bytes of revision and 32 of the archive's
sha256, or empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from entrepot.digests import Digest
from entrepot.ports.tool import Block, BlockedBy, Entry, Kind, Place, Progress, Surroundings
from entrepot.redaction import redacted_url
from entrepot.tools._shared.disk_usage import measure
from entrepot.tools._shared.safe_read import read_regular
from entrepot.tools.conda.cache import World, scan_folders, world_of
from entrepot.tools.conda.environments import load_json
from entrepot.tools.conda.indexes import index_entries, is_index_file
from entrepot.tools.conda.rattler_dirs import folders

_INDEX_FOLDERS = frozenset(("repodata", "run-exports", "shards-v1"))
_OTHERS = {"uv-cache": "uv's cache inside pixi's", "pkgs": ""}
_REVISION_BYTES, _SHA256_BYTES = 8, 32


def package_folder(place: Place, around: Surroundings) -> Path | None:
    """The folder with packages of a place.

    Its ``pkgs``, or the place itself where pixi was told so.
    """
    part = part_of(place, around)
    if place.path is None or part not in {"root", "conda-packages"}:
        return None
    return place.path / "pkgs" if part == "root" else place.path


def part_of(place: Place, around: Surroundings) -> str:
    """What a place is for: ``root`` or one of pixi's parts."""
    return next((folder.part for folder in folders(around) if folder.path == place.path), "root")


def scan(
    tool: str, place: Place, around: Surroundings, now: float, progress: Progress | None
) -> Iterator[Entry]:
    """Every entry of one place."""
    assert place.path is not None  # the caller looked
    packages = package_folder(place, around)
    if packages is not None and packages.is_dir():
        world = world_of(around)
        # Packages do not stay for a client that runs: rattler takes a lock, see removal.
        for entry in scan_folders(
            tool, place.path, [packages], world, now, block=None, progress=progress
        ):
            yield _told(entry, world) if entry.kind is Kind.UNPACKED else entry
    part = part_of(place, around)
    if part == "repodata":
        yield from index_entries(tool, place.path, place.path, now, is_proven=False)
    elif part != "conda-packages":
        yield from _rest(tool, place.path, now)


def _told(entry: Entry, world: World) -> Entry:
    """The entry with its lock file's digest and the origin that an environment records."""
    digest = lock_digest(entry.paths[0].with_name(entry.paths[0].name + ".lock"))
    for mention in world.mentions.of(entry.paths[0].name)[:1]:
        record = load_json(mention.record)
        url, channel = str(record.get("url") or ""), str(record.get("channel") or "")
        if url:
            facts = {
                **entry.extra,
                **(
                    {"channel": redacted_url(channel) if "://" in channel else channel}
                    if channel
                    else {}
                ),
            }
            filename = str(record.get("fn") or "") or entry.filename
            entry = replace(
                entry, origin=redacted_url(url), filename=filename, extra=facts, certainty="hash"
            )
    return replace(entry, digest=digest or entry.digest)


def lock_digest(path: Path) -> Digest | None:
    """The sha256 of the archive a package came from, out of its lock file.

    ``None`` when it was not noted.
    """
    try:
        raw = read_regular(path)
    except OSError:
        return None
    if len(raw) < _REVISION_BYTES + _SHA256_BYTES:
        return None
    return Digest("sha256", raw[_REVISION_BYTES : _REVISION_BYTES + _SHA256_BYTES].hex())


def _rest(tool: str, root: Path, now: float) -> Iterator[Entry]:
    """Indexes, wherever the tools of the family put them, and everything else by its size."""
    loose = False
    try:
        names = sorted(os.listdir(root))  # names are what is wanted
    except OSError:
        return
    for name in names:
        if name == "pkgs":
            continue
        if name in _INDEX_FOLDERS and name != "shards-v1":
            yield from index_entries(tool, root, root / name, now, is_proven=False)
        elif is_index_file(name) or name == "shards-v1":
            loose = True
        else:
            yield _measured(tool, root, root / name)
    if loose:
        found = index_entries(tool, root, root, now, is_proven=False)
        yield from (
            entry
            for entry in found
            if is_index_file(entry.paths[0].name) or entry.key == "shards-v1"
        )


def _measured(tool: str, root: Path, path: Path) -> Entry:
    tree = measure(str(path))
    why = _OTHERS.get(path.name) or "unknown layout: sizes only"
    return Entry(
        tool,
        root,
        path.name,
        Kind.OTHER,
        size=tree.size,
        disk=tree.disk,
        freeable=0,
        files=tree.files,
        block=Block(BlockedBy.NOT_OURS, why),
        paths=(path,),
    )
