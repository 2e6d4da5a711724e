"""Whether an archive is whole in itself.

Checksums of its members and, in a wheel, the digests of ``RECORD``.

Decompresses, never extracts.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import zipfile
from typing import BinaryIO

from entrepot.tools.pip.archives import BROKEN, BROKEN_ZIP, decompressed, open_zip

TOTAL_LIMIT = 64 << 30
"""Bytes that are decompressed of one archive at most."""
RECORD_LIMIT = 64 << 20
RATIO_LIMIT = 1100
"""Deflate cannot do better than about 1030 to 1: more means a lie in the directory."""


def zip_problem(source: BinaryIO, size: int, *, record: bool) -> str:
    """What is wrong with a zip, in a few words.

    Empty when every member is whole (with ``record``: and what ``RECORD`` says).
    """
    archive = open_zip(source, size)
    if archive is None:
        return "it is no readable zip archive"
    infos = archive.infolist()
    if sum(i.file_size for i in infos) > min(TOTAL_LIMIT, max(size, 1) * RATIO_LIMIT):
        return "it claims to unpack to more than a zip of its size can hold"
    try:
        wanted = _record(archive) if record else {}
        for info in infos:
            text = _member_problem(archive, info, wanted.get(info.filename))
            if text:
                return text
        missing = set(wanted) - {i.filename for i in infos}
    except BROKEN_ZIP as exc:
        return f"it cannot be unpacked: {exc}"
    return f"{min(missing)} is named in RECORD and missing" if missing else ""


def _member_problem(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, wanted: tuple[str, bytes] | None
) -> str:
    hasher = hashlib.new(wanted[0]) if wanted else None
    with archive.open(info) as member:  # reading to the end checks the CRC
        while data := member.read(1 << 18):
            if hasher:
                hasher.update(data)
    if hasher and wanted and hasher.digest() != wanted[1]:
        return f"{info.filename} is not what RECORD says"
    return ""


def _record(archive: zipfile.ZipFile) -> dict[str, tuple[str, bytes]]:
    """``RECORD`` of a wheel (PEP 376, the wheel format): path -> algorithm and digest.

    What has none is left out.
    """
    names = [n for n in archive.namelist() if n.endswith(".dist-info/RECORD") and n.count("/") == 1]
    if len(names) != 1 or archive.getinfo(names[0]).file_size > RECORD_LIMIT:
        return {}
    text = archive.read(names[0]).decode("utf-8", "replace")
    found: dict[str, tuple[str, bytes]] = {}
    for row in csv.reader(io.StringIO(text)):
        if len(row) < 2 or "=" not in row[1]:
            continue
        algorithm, _, value = row[1].partition("=")
        if algorithm in ("sha256", "sha384", "sha512"):
            try:
                found[row[0]] = (
                    algorithm,
                    base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)),
                )
            except (binascii.Error, ValueError):
                continue
    return found


def stream_problem(source: BinaryIO, kind: str) -> str:
    """What is wrong with a compressed stream (its own check sum, an early end).

    Empty when it is whole.
    """
    try:
        stream = decompressed(source, kind, TOTAL_LIMIT)
        while stream.read(1 << 18):
            pass
    except BROKEN as exc:
        return f"it cannot be unpacked: {exc}"
    return ""
