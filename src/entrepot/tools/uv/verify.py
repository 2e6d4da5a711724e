"""Checking what lies in uv's cache, and removing what is damaged so that uv fetches it again.

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
from dataclasses import dataclass
from pathlib import Path

from entrepot.ports.tool import Entry, Finding, Kind, Progress
from entrepot.tools._shared.noatime import open_quietly
from entrepot.tools.uv.pointers import has_whole_tail
from entrepot.tools.uv.rows import dist_info
from entrepot.tools.uv.trees import listed

CHUNK = 1 << 20
RECORD_LIMIT = 64 << 20
SHOWN = 3
"""Damaged files that a finding names."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with an entry."""

    problem: str
    text: str
    path: Path
    is_removable: bool = True


def damages(
    entries: Sequence[Entry], *, progress: Progress | None = None
) -> Iterator[tuple[Entry, Damage]]:
    """Every damaged entry with what is wrong.

    Reads all content; a byte is read once however many entries share it.
    """
    for number, entry in enumerate(entries):
        if progress:
            progress(number, len(entries), "entries")
        found = _damage(entry)
        if found is not None:
            yield entry, found


def finding(entry: Entry, damage: Damage, repaired: str = "") -> Finding:
    """The port's form."""
    return Finding("uv", entry, damage.problem, damage.text, damage.path, repaired)


def _damage(entry: Entry) -> Damage | None:
    problem, first = entry.problem, entry.paths[0] if entry.paths else entry.place
    title = " ".join(part for part in (entry.project, entry.version) if part) or entry.key
    if entry.kind is Kind.TEMP or (entry.block and entry.extra.get("archive") is None):
        return None
    if problem == "truncated-pointer":
        return Damage(
            problem, f"the pointer of {title} is cut short: uv will fetch it again", first
        )
    if problem == "missing-archive":
        return Damage(
            problem,
            f"{title} points to an archive that is not there: uv will fetch it again",
            first,
        )
    if problem == "orphan-archive" and entry.removable_because == "orphan":
        return Damage(
            problem, f"nothing points to the archive {entry.extra['archive']} ({title})", first
        )
    if entry.extra.get("environment"):
        return None
    try:
        return _content(entry, title)
    except OSError as exc:
        return Damage(
            "unreadable",
            f"{title} cannot be read: {exc.strerror}",
            Path(exc.filename or first),
            is_removable=False,
        )


def _content(entry: Entry, title: str) -> Damage | None:
    for archive in entry.extra.get("archive", "").split():
        folder = entry.place / "archive-v0" / archive
        if (damage := record_damage(folder, title)) is not None:
            return damage
    if entry.kind is Kind.BUILT:
        return _broken_wheel(entry, title)
    if (
        entry.kind is Kind.PAGE
        and entry.key.endswith(".rkyv")
        and not has_whole_tail(entry.paths[0])
    ):
        return Damage(
            "truncated-page",
            f"the index page of {title} is cut short: uv will ask for it again",
            entry.paths[0],
        )
    return None


def _broken_wheel(entry: Entry, title: str) -> Damage | None:
    for path in entry.paths:
        for folder in (
            path,
            *(Path(item.path) for item in listed(str(path)) if item.is_dir(follow_symlinks=False)),
        ):
            for item in listed(str(folder)):
                if (
                    item.name.endswith(".whl")
                    and item.is_file(follow_symlinks=False)
                    and not _is_zip(item.path)
                ):
                    text = f"the wheel built for {title} is no zip file: uv stops at it"
                    return Damage("broken-wheel", text, Path(item.path))
    return None


def _is_zip(path: str) -> bool:
    with os.fdopen(open_quietly(path), "rb") as file:
        return zipfile.is_zipfile(file)


def record_damage(folder: Path, title: str) -> Damage | None:
    """What is wrong with an unpacked wheel by its RECORD; ``None`` when all is well.

    Raises:
        OSError: a file cannot be read.
    """
    name = dist_info(str(folder))
    record = folder / (name or "") / "RECORD"
    if name is None or not record.is_file():
        return Damage(
            "missing-record", f"the archive of {title} has no RECORD: uv cannot install it", folder
        )
    wrong = list(_wrong(folder, record))
    if not wrong:
        return None
    shown = ", ".join(f"{path} ({what})" for path, what, _ in wrong[:SHOWN])
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    linked = any(links > 1 for _, _, links in wrong)
    hint = "; environments that link to it hold the same damage: reinstall there" if linked else ""
    return Damage(
        "digest-mismatch",
        f"files of {title} are not what its RECORD says: {shown}{more}{hint}",
        folder,
    )


def _wrong(folder: Path, record: Path) -> Iterator[tuple[str, str, int]]:
    """Path, what is wrong and the number of links of every file that is not what RECORD says."""
    with os.fdopen(open_quietly(record), "rb") as file:
        text = file.read(RECORD_LIMIT).decode("utf-8", "replace")
    for row in csv.reader(io.StringIO(text)):
        if len(row) < 3 or not row[1] or ".." in row[0].split("/") or row[0].startswith("/"):
            continue
        path = folder / row[0]
        try:
            info = path.lstat()
        except FileNotFoundError:
            yield row[0], "missing", 0
            continue
        if row[2].isdigit() and info.st_size != int(row[2]):
            yield row[0], f"{info.st_size} bytes instead of {row[2]}", info.st_nlink
        elif not _fits(path, row[1]):
            yield row[0], "other content", info.st_nlink


def _fits(path: Path, told: str) -> bool:
    """Whether a file has the digest that RECORD tells, ``sha256=`` and URL-safe base64.

    One of an unknown kind passes.
    """
    algorithm, _, value = told.partition("=")
    if algorithm not in ("sha256", "sha384", "sha512"):
        return True
    hasher = hashlib.new(algorithm)
    with os.fdopen(open_quietly(path), "rb") as file:
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
    return base64.urlsafe_b64encode(hasher.digest()).rstrip(b"=").decode() == value.rstrip("=")
