"""Checking what lies in uv's cache.

uv never looks into an archive that it has unpacked once. Seen with 0.5.31, 0.8.24 and 0.13.8: a
changed or lost file is installed as it is, without a word; without RECORD, or with an empty built
wheel, every install stops with an error. RECORD's digests find it all. What uv repairs by
itself is told as well and is harmless: a cut or empty pointer, page or metadata file and a pointer
whose archive is gone make it fetch again.

A file that was edited through an environment's hard link is the environment's file, too: repairing
fixes the cache, not that.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from entrepot.ports.tool import Finding, Kind, Progress
from entrepot.tools._shared.noatime import open_quietly
from entrepot.tools.uv.pointers import dist_info, has_whole_tail, read_bytes, shard_files
from entrepot.tools.uv.rows import UvEntry

RECORD_LIMIT_BYTES = 64 << 20
SHOWN = 3
"""Damaged files that a finding names."""
UNREADABLE = "unreadable"
"""The problem of an entry that nothing is to be done about."""


def damages(
    entries: Sequence[UvEntry], *, progress: Progress | None = None
) -> Iterator[tuple[UvEntry, Finding]]:
    """What is wrong with every damaged entry; a byte is read once however many entries share it."""
    for number, entry in enumerate(entries):
        if progress:
            progress(number, len(entries), "entries")
        if entry.kind is Kind.TEMP or (entry.block and not entry.archives):
            continue
        first = entry.paths[0] if entry.paths else entry.place
        title = " ".join(part for part in (entry.project, entry.version) if part) or entry.key
        found: tuple[str, str, Path] | None = None
        if entry.problem == "truncated-pointer":
            text = f"the pointer of {title} is cut short: uv will fetch it again"
            found = entry.problem, text, first
        elif entry.problem == "missing-archive":
            text = f"{title} points to an archive that is not there: uv will fetch it again"
            found = entry.problem, text, first
        elif entry.problem == "orphan-archive" and entry.removable_because == "orphan":
            text = f"nothing points to the archive {entry.archives[0]} ({title})"
            found = entry.problem, text, first
        elif not entry.is_environment:
            try:
                found = _damage(entry, title)
            except OSError as exc:
                text = f"{title} cannot be read: {exc.strerror}"
                found = UNREADABLE, text, Path(exc.filename or first)
        if found:
            yield entry, Finding("uv", entry, *found)


def _damage(entry: UvEntry, title: str) -> tuple[str, str, Path] | None:
    for archive in entry.archives:
        if damage := record_damage(entry.place / "archive-v0" / archive, title):
            return damage
    if entry.kind is Kind.BUILT:
        for item in shard_files(entry.paths):
            if not (item.name.endswith(".whl") and item.is_file(follow_symlinks=False)):
                continue
            with os.fdopen(open_quietly(item.path), "rb") as file:
                if not zipfile.is_zipfile(file):
                    text = f"the wheel built for {title} is no zip file: uv stops at it"
                    return "broken-wheel", text, Path(item.path)
    if (
        entry.kind is Kind.PAGE
        and entry.key.endswith(".rkyv")
        and not has_whole_tail(entry.paths[0])
    ):
        text = f"the index page of {title} is cut short: uv will ask for it again"
        return "truncated-page", text, entry.paths[0]
    return None


def record_damage(folder: Path, title: str) -> tuple[str, str, Path] | None:
    """What is wrong with an unpacked wheel by its RECORD; ``None`` when all is well.

    Raises:
        OSError: a file cannot be read.
    """
    name = dist_info(str(folder))
    record = folder / (name or "") / "RECORD"
    if name is None or not record.is_file():
        text = f"the archive of {title} has no RECORD: uv cannot install it"
        return "missing-record", text, folder
    wrong, is_linked = [], False
    text = read_bytes(record, RECORD_LIMIT_BYTES).decode("utf-8", "replace")
    for row in csv.reader(io.StringIO(text)):
        if len(row) < 3 or not row[1] or ".." in row[0].split("/") or row[0].startswith("/"):
            continue
        path = folder / row[0]
        try:
            info = path.lstat()
        except FileNotFoundError:
            wrong.append(f"{row[0]} (missing)")
            continue
        if row[2].isdigit() and info.st_size != int(row[2]):
            wrong.append(f"{row[0]} ({info.st_size} bytes instead of {row[2]})")
        elif not _fits(path, row[1]):
            wrong.append(f"{row[0]} (other content)")
        else:
            continue
        is_linked = is_linked or info.st_nlink > 1
    if not wrong:
        return None
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    hint = "; environments that link to it hold the same damage: reinstall there"
    text = f"files of {title} are not what its RECORD says: {', '.join(wrong[:SHOWN])}{more}"
    return "digest-mismatch", f"{text}{hint if is_linked else ''}", folder


def _fits(path: Path, told: str) -> bool:
    """Whether a file has the digest that RECORD tells, ``sha256=`` and URL-safe base64.

    One of an unknown kind passes.
    """
    algorithm, _, value = told.partition("=")
    if algorithm not in ("sha256", "sha384", "sha512"):
        return True
    with os.fdopen(open_quietly(path), "rb") as file:
        digest = hashlib.file_digest(file, algorithm).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == value.rstrip("=")
