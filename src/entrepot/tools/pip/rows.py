"""Rows: an entry as a flat list, quick to store and to turn into an :class:`Entry`.

Positions have names here; nothing else counts them.
"""

from __future__ import annotations

import os
import re
from math import inf
from pathlib import Path
from typing import Any, Literal

from entrepot.digests import Digest
from entrepot.fs import disk_of
from entrepot.ports.tool import Block, BlockedBy, Entry, Kind, Paths
from entrepot.tools.pip.index import Row

KEY, PATHS, STAMP, SIZE, DISK, FREEABLE, FILES, USED, USED_FROM = range(9)
KIND, PROJECT, VERSION, FILENAME, CERTAINTY, TAGS, ORIGIN = range(9, 16)
FRESH_UNTIL, DIGEST, TRUST, LITTER, PINNED, EXTRA, LAYOUT, NEWEST = range(16, 24)
WIDTH = 24
MEASURES = slice(STAMP, KIND)
"""What ``stat`` says, but for the time of the newest change."""

RECENT = "made or used less than ten minutes ago (--force takes it)"
STALE_TEMPORARY_S = 3600.0
"""Seconds after which a temporary file is abandoned; pip never says when it is done."""
BUSY_WHEEL_S = 600.0
"""Seconds for which a built wheel is left alone: pip takes no lock while it installs from it."""
EXPIRED_PAGE_S = 7 * 86400.0
"""Seconds past its freshness after which a page is removable: younger ones still serve offline."""
SELFCHECK_S = 7 * 86400.0
"""Seconds for which pip believes its own version check."""

NAME = re.compile(r"[0-9a-f]{56}")
TEMPORARY = re.compile(r"(?P<name>[0-9a-f]{56})(?:\.body)?[a-z0-9_]{8}\.tmp")


_HAS_BLOCKS = hasattr(os.stat_result, "st_blocks")


def stamp(info: os.stat_result) -> str:
    """What changes whenever a file's content is replaced or written to."""
    return f"{info.st_ino}:{info.st_mtime_ns}:{info.st_size}"


def blank(key: str, layout: str, files: list[tuple[str, os.stat_result]]) -> Row:
    """A row of which only the files are known.

    Relative paths in the order in which they must be removed.
    """
    row: Row = [None] * WIDTH
    row[KEY], row[LAYOUT] = key, layout
    row[PATHS] = [path for path, _ in files]
    row[KIND], row[CERTAINTY], row[EXTRA], row[TAGS] = _OTHER, "unknown", {}, ""
    row[MEASURES], row[NEWEST] = measured([info for _, info in files])
    return row


def measured(infos: list[os.stat_result]) -> tuple[list[Any], float]:
    """What ``stat`` says of an entry's files: :data:`MEASURES`, and when they were changed last.

    One walk over them, because there are hundreds of thousands. Reading moves the access time
    alone, and that not on every file system.
    """
    stamps, size, disk, several = [], 0, 0, False
    read = written = changed = -inf
    for info in infos:
        stamps.append(
            f"{info.st_ino}:{info.st_mtime_ns}:{info.st_size}"
        )  # as stamp, without the call
        size += info.st_size
        disk += info.st_blocks * 512 if _HAS_BLOCKS else info.st_size  # as disk_of
        if info.st_nlink > 1:
            several = True
        read = max(read, info.st_atime)
        written = max(written, info.st_mtime)
        changed = max(changed, info.st_ctime)
    disk, freeable = _linked(infos) if several else (disk, disk)
    used = (read, "atime") if read > written else (written, "mtime")
    return [";".join(stamps), size, disk, freeable, len(infos), *used], max(written, changed)


def _linked(infos: list[os.stat_result]) -> tuple[int, int]:
    """Bytes of disk of files that have several names, here or elsewhere, each once.

    And of those that have no other name.
    """
    links: dict[tuple[int, int], list[os.stat_result]] = {}
    for info in infos:
        links.setdefault((info.st_dev, info.st_ino), []).append(info)
    alone = [same[0] for same in links.values() if same[0].st_nlink <= len(same)]
    return sum(disk_of(same[0]) for same in links.values()), sum(map(disk_of, alone))


_OTHER = str(Kind.OTHER)
_KINDS = {str(kind): kind for kind in Kind}


def entry(row: Row, place: Path, root: str, now: float, *, superseded: bool) -> Entry:
    """The port's form of a row, with what depends on the moment.

    Freshness, whether it is removable, why it may not go yet.
    """
    kind = _KINDS[row[KIND]]
    until = row[FRESH_UNTIL]
    state: Literal["fresh", "stale", ""] = (
        "" if until is None else "fresh" if now < until else "stale"
    )
    litter = row[LITTER] or ""
    block = Block(BlockedBy.NOT_OURS, row[PINNED]) if row[PINNED] else None
    if row[LAYOUT] == "http" and superseded:
        litter = "superseded layout"
    if kind is Kind.TEMP or litter == "orphan":
        age = now - row[NEWEST]
        if age < STALE_TEMPORARY_S:
            litter = ""
            block = block or Block(BlockedBy.BEING_WRITTEN, "it may still be written to")
        elif kind is Kind.TEMP:
            litter = "stale temporary"
    elif kind is Kind.PAGE and not litter and until is not None and now - until > EXPIRED_PAGE_S:
        litter = "expired page"
    elif kind is Kind.BUILT and now - max(row[NEWEST], row[USED]) < BUSY_WHEEL_S:
        block = Block(BlockedBy.RECENT, RECENT)
    elif row[LAYOUT] == "selfcheck" and now - row[NEWEST] > SELFCHECK_S:
        litter = "stale self-check"
    extra = row[EXTRA]
    problem = extra.get("problem", "")
    if problem:
        extra = {key: value for key, value in extra.items() if key != "problem"}
    return Entry(
        "pip",
        place,
        row[KEY],
        kind,
        row[SIZE],
        row[DISK],
        row[FREEABLE],
        row[FILES],
        row[PROJECT] or None,
        row[VERSION] or None,
        row[FILENAME] or None,
        row[CERTAINTY],
        row[USED],
        row[USED_FROM],
        (),
        block,
        litter,
        row[ORIGIN] or "",
        Digest("sha256", row[DIGEST]) if row[DIGEST] else None,
        state,
        row[TRUST] or "",
        row[TAGS],
        Paths([f"{root}/{path}" for path in row[PATHS]]),
        extra,
        row[STAMP],
        problem,
    )
