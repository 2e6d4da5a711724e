"""A record: what is known of one entry of a pip cache, and the :class:`Entry` that it makes now."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from entrepot.digests import Digest
from entrepot.fs import disk_of, stamp
from entrepot.ports.tool import Block, BlockedBy, Entry, Kind

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

Files = list[tuple[str, os.stat_result]]
"""Files of one directory, by name."""


Trust = Literal["proven", "unproven", "bad", ""]
"""As :attr:`Entry.trust`."""


@dataclass(slots=True)
class Record:
    """One entry: the columns of its row in :mod:`.index`, in their order.

    Sizes are in bytes and times in seconds since the epoch, as in :class:`Entry`.
    """

    folder: str
    """Its directory below the cache's root, empty for the root."""
    key: str
    layout: str
    """``http-v2``, ``http``, ``wheels``, ``selfcheck`` or ``other``."""
    names: str
    """Its files in that directory with ``/`` between them, in the order of their removal."""
    stamp: str = ""
    size: int = 0
    disk: int = 0
    freeable: int = 0
    files: int = 0
    used: float = 0.0
    used_from: Literal["mtime", "atime"] = "mtime"
    newest: float = 0.0
    """When its files were changed last. Reading moves the access time alone."""
    kind: str = ""
    """Empty until its content has been looked at."""
    project: str = ""
    version: str = ""
    filename: str = ""
    certainty: Literal["proven", "hash", "content", "unknown"] = "unknown"
    tags: str = ""
    origin: str = ""
    """Redacted."""
    fresh_until: float | None = None
    digest: str = ""
    """The sha256 of the body."""
    trust: Trust = ""
    is_orphan: bool = False
    """Whether pip can never use it, because what belongs to it is missing or it lies elsewhere."""
    not_ours: str = ""
    """Why it is not pip's; empty: it is."""
    problem: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The 56 digits of an HTTP entry."""
        return self.key[-56:]

    def measure(self, infos: Sequence[os.stat_result]) -> None:
        """Note what ``stat`` says of its files."""
        self.stamp = stamp(*infos)
        self.size, self.files = sum(i.st_size for i in infos), len(infos)
        self.disk = self.freeable = sum(map(disk_of, infos))
        if any(i.st_nlink > 1 for i in infos):
            links: dict[tuple[int, int], list[os.stat_result]] = {}
            for info in infos:
                links.setdefault((info.st_dev, info.st_ino), []).append(info)
            self.disk = sum(disk_of(same[0]) for same in links.values())
            self.freeable = sum(
                disk_of(same[0]) for same in links.values() if same[0].st_nlink <= len(same)
            )
        read, written = max(i.st_atime for i in infos), max(i.st_mtime for i in infos)
        self.used, self.used_from = (read, "atime") if read > written else (written, "mtime")
        self.newest = max(written, *(i.st_ctime for i in infos))

    def learn(self, before: Record) -> None:
        """Take over what was learnt of the same entry while its files have not changed."""
        for column in _LEARNT:
            setattr(self, column, getattr(before, column))


_LEARNT = (
    "kind project version filename certainty tags origin fresh_until digest trust is_orphan "
    "not_ours problem extra"
).split()


def found(folder: str, files: Files, layout: str, *, key: str = "", **known: Any) -> Record:
    """A record of some files of a directory; by default its key is the path of the first."""
    names = "/".join(name for name, _ in files)
    first = f"{folder}/{files[0][0]}" if folder else files[0][0]
    record = Record(folder, key or first, layout, names, **known)
    record.measure([info for _, info in files])
    return record


def as_entry(record: Record, place: Path, root: str, now: float, *, superseded: bool) -> Entry:
    """The port's form, with what depends on the moment.

    Freshness, whether it is removable, why it may not go yet.

    Args:
        record: all that is known of it.
        place: the cache directory.
        root: the same as text.
        now: seconds since the epoch.
        superseded: whether no pip uses the layout ``http`` any more.
    """
    kind, until = _KINDS[record.kind], record.fresh_until
    removable = "orphan" if record.is_orphan else ""
    block = Block(BlockedBy.NOT_OURS, record.not_ours) if record.not_ours else None
    if record.layout == "http" and superseded:
        removable = "superseded layout"
    if kind is Kind.TEMP or removable == "orphan":
        if now - record.newest < STALE_TEMPORARY_S:
            removable = ""
            block = block or Block(BlockedBy.BEING_WRITTEN, "it may still be written to")
        elif kind is Kind.TEMP:
            removable = "stale temporary"
    elif kind is Kind.PAGE and not removable and until is not None and now - until > EXPIRED_PAGE_S:
        removable = "expired page"
    elif kind is Kind.BUILT and now - max(record.newest, record.used) < BUSY_WHEEL_S:
        block = Block(BlockedBy.RECENT, RECENT)
    elif record.layout == "selfcheck" and now - record.newest > SELFCHECK_S:
        removable = "stale self-check"
    folder = f"{root}/{record.folder}" if record.folder else root
    return Entry(
        tool="pip",
        place=place,
        key=record.key,
        kind=kind,
        size=record.size,
        disk=record.disk,
        freeable=record.freeable,
        files=record.files,
        project=record.project or None,
        version=record.version or None,
        filename=record.filename or None,
        certainty=record.certainty,
        used=record.used,
        used_from=record.used_from,
        block=block,
        removable_because=removable,
        origin=record.origin,
        digest=Digest("sha256", record.digest) if record.digest else None,
        state="" if until is None else "fresh" if now < until else "stale",
        trust=record.trust,
        tags=record.tags,
        locations=tuple(f"{folder}/{name}" for name in record.names.split("/")),
        extra=record.extra,
        stamp=record.stamp,
        problem=record.problem,
    )


_KINDS = {str(kind): kind for kind in Kind}
