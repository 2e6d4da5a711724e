"""Downloads of the store that did not end, and files of writers that died, as entries.

They are no objects of the store, so its directory tells of them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.cache_root import Root
from entrepot.fs import disk_of
from entrepot.ownership import flight_file
from entrepot.ports.tool import Entry, Kind, Place

if TYPE_CHECKING:
    from entrepot.ports.store import Store


@dataclass(frozen=True, slots=True)
class _Means:
    """What an unfinished file is called, and from which age in seconds it may go where no lock tells, and goes by itself."""

    fresh_s: float
    litter_s: float
    busy: str
    litter: str


PARTIAL = _Means(600, 7 * 86_400, "a download in progress", "unfinished download")
"""A later run would resume it: for a week it goes only when it is asked for."""

TEMPORARY = _Means(3_600, 3_600, "being written", "stale temporary")


def unfinished(root: Path, place: Place, store: Store, now: float) -> Iterator[Entry]:
    """One entry a partial download, with its note, and one a temporary file.

    Args:
        root: the store's directory.
        place: the same, as the verbs know it.
        store: knows who leads a download.
        now: seconds since the epoch.
    """
    try:
        found = sorted(os.scandir(root / "flights"), key=lambda f: f.name)
    except OSError:
        return
    for each in found:
        file = flight_file(each.name)
        if file is None or file.kind in {"note", "lock"} or not each.is_file(follow_symlinks=False):
            continue  # not ours; notes go with their part, locks are empty
        partial = file.kind == "part"
        with contextlib.suppress(OSError):
            seen, path = each.stat(follow_symlinks=False), Path(each.path)
            means, age = PARTIAL if partial else TEMPORARY, now - seen.st_mtime
            busy = means.busy if _is_busy(path, age, means, store) else ""
            yield _entry(
                place, path, seen, busy=busy, litter=means.litter if age > means.litter_s else ""
            )


def _is_busy(path: Path, age: float, means: _Means, store: Store) -> bool:
    """Whether somebody works at an unfinished file.

    Its lock knows, if it has one, else its age has to do.
    """
    led = store.is_locked(path.stem) if means is PARTIAL else None
    return age < means.fresh_s if led is None else led


def _entry(place: Place, path: Path, seen: os.stat_result, *, busy: str, litter: str) -> Entry:
    note = path.with_suffix(".note")
    disk = disk_of(seen)
    filename: str | None = None
    paths: tuple[Path, ...] = (path,)
    if path.suffix == ".part" and note.exists():
        disk, paths = disk + disk_of(note.stat()), (note, path)
        filename = _noted_name(note)
    return Entry(
        tool=place.tool,
        place=place.path or path.parent.parent,
        key=f"flights/{path.name}",
        kind=Kind.TEMP,
        size=seen.st_size,
        disk=disk,
        freeable=disk,
        files=len(paths),
        filename=filename,
        used=seen.st_mtime,
        used_from="mtime",
        pinned=busy,
        yields=True,
        litter=litter,
        paths=paths,
    )


def _noted_name(note: Path) -> str | None:
    """What a download was to become, by the note beside it.

    Project and version are not told: it is neither yet.
    """
    from entrepot.serving.fetch_request import Note  # noqa: PLC0415

    told = Note.from_bytes(note.read_bytes())
    return told.head.filename if told else None


def remove_unfinished(store: Store, entry: Entry, *, force: bool) -> tuple[int, int] | str:
    """Drop an unfinished download under its own lock; a dead writer's file has none and is old.

    Returns:
        Bytes of disk given back, and files; or why it stays.
    """
    path = entry.paths[-1]
    with Root(entry.place) as root, root.folder(path.parent) as folder:  # refused if it is a link
        if path.suffix != ".part":
            with contextlib.suppress(FileNotFoundError):
                folder.unlink(path.name)
            return root.freed.bytes, root.freed.files
    flight = store.open_partial(path.name.removesuffix(".part"))
    try:
        if not flight.try_lock():
            return PARTIAL.busy
        if flight.size() != entry.size and not force:
            return "it grew meanwhile"
        flight.discard()
    finally:
        flight.close()
    return entry.disk, entry.files
