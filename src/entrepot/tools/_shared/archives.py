"""Zip, tar and compressed bytes of unknown honesty, read within bounds and checked.

Nothing is ever written out; what is too large is not looked at. A hostile archive yields ``None``
or stops early; it never costs more than the bounds below.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import csv
import hashlib
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

DIRECTORY_LIMIT = 64 << 20
"""Bytes of a zip's central directory."""
MEMBER_LIMIT = 1 << 20
"""Bytes of one small member (``WHEEL``, ``PKG-INFO``) after decompression."""
TAR_LIMIT = 256 << 20
"""Bytes of a tar that are decompressed in search of ``PKG-INFO``."""
TOTAL_LIMIT = 64 << 30
"""Bytes that are decompressed of one archive at most, to check it."""
RECORD_LIMIT = 64 << 20
RATIO_LIMIT = 1100
"""Deflate cannot do better than about 1030 to 1: more means a lie in the directory."""
MEMBERS_LIMIT = 200_000
XZ_MEMORY = 256 << 20
CHUNK = 1 << 18

BROKEN = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    struct.error,
)
"""What damaged or hostile archives make the standard library raise; NotImplementedError and
RuntimeError come from odd zips."""
BROKEN_ZIP = (*BROKEN, NotImplementedError, RuntimeError, KeyError, IndexError, OverflowError)

_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "deflate": zlib.decompressobj,
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY),
}


class Decompressed(io.RawIOBase):
    """The decompressed form of a stream, for reading once.

    Ends with ``ValueError`` after ``limit`` bytes.
    """

    def __init__(self, source: BinaryIO, kind: str, limit: int) -> None:
        super().__init__()
        self._source = source
        self._make = _DECOMPRESSORS[kind]
        self._engine = self._make()
        self._left = limit
        self._ready = b""
        self._held = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what fits; at most 64 KiB are made at a time, whatever the compression ratio."""
        while not self._ready:
            if not self._fill():
                return 0
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        self._left -= count
        if self._left < 0:
            raise ValueError("more data than is reasonable")
        return count

    def _fill(self) -> bool:
        data = self._held or (self._source.read(1 << 14) if self._engine_wants_input() else b"")
        self._held = b""
        if getattr(self._engine, "eof", False):
            rest = self._engine.unused_data + data
            if not rest.strip(b"\0"):
                return False
            self._engine = self._make()  # gzip and xz files may be several, one after the other
            data = rest
        if not data and self._engine_wants_input():
            raise EOFError("the compressed data ends early")
        self._ready = self._engine.decompress(data, 1 << 16)
        self._held = getattr(self._engine, "unconsumed_tail", b"")
        return True

    def _engine_wants_input(self) -> bool:
        return bool(getattr(self._engine, "needs_input", not self._held))


def decompressed(source: BinaryIO, kind: str, limit: int) -> io.BufferedReader:
    """``source`` decompressed: ``gzip``, ``deflate``, ``bz2`` or ``xz``."""
    return io.BufferedReader(Decompressed(source, kind, limit), 1 << 16)


def open_zip(source: BinaryIO, size: int) -> zipfile.ZipFile | None:
    """A zip for walking through, when its directory is of a reasonable size.

    ``None`` when it cannot be opened.
    """
    source.seek(max(0, size - 22 - 65535))
    tail = source.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        return None
    length = struct.unpack_from("<I", tail, at + 12)[0]
    if length > DIRECTORY_LIMIT and length != 0xFFFFFFFF:
        return None
    try:
        source.seek(0)
        archive = zipfile.ZipFile(source)
    except BROKEN_ZIP:
        return None
    return archive if len(archive.infolist()) <= MEMBERS_LIMIT else None


def zip_member(archive: zipfile.ZipFile, name: str) -> bytes | None:
    """One small member; ``None`` when it is absent or broken. What is too large is cut."""
    try:
        with archive.open(name) as member:
            return member.read(MEMBER_LIMIT)
    except BROKEN_ZIP:
        return None


def tar_root(source: BinaryIO, kind: str) -> tuple[str, bytes | None] | None:
    """The one top directory of a compressed tar and its ``PKG-INFO``; ``None`` when it has none.

    Reading stops at the first ``ROOT/PKG-INFO``, so the rest of the members is not known to lie
    under the same root.
    """
    root = ""
    try:
        with tarfile.open(fileobj=decompressed(source, kind, TAR_LIMIT), mode="r|") as archive:
            for number, member in enumerate(archive):
                first, _, rest = member.name.removeprefix("./").partition("/")
                if not first or first == "pax_global_header":
                    continue
                if (root and first != root) or number > MEMBERS_LIMIT:
                    return None
                root = first
                if rest == "PKG-INFO" and member.isfile():
                    handle = archive.extractfile(member)
                    return root, handle.read(MEMBER_LIMIT) if handle else None
    except BROKEN:
        pass
    return (root, None) if root else None


def stream_problem(source: BinaryIO, kind: str) -> str:
    """What is wrong with a compressed stream (its own check sum, an early end).

    Empty when it is whole.
    """
    try:
        stream = decompressed(source, kind, TOTAL_LIMIT)
        while stream.read(CHUNK):
            pass
    except BROKEN as exc:
        return f"it cannot be unpacked: {exc}"
    return ""


def zip_problem(source: BinaryIO, size: int) -> str:
    """What is wrong with a zip, in a few words: its members' check sums, and a wheel's ``RECORD``.

    Empty when all of it is whole.
    """
    archive = open_zip(source, size)
    if archive is None:
        return "it is no readable zip archive"
    infos = archive.infolist()
    if sum(i.file_size for i in infos) > min(TOTAL_LIMIT, max(size, 1) * RATIO_LIMIT):
        return "it claims to unpack to more than a zip of its size can hold"
    try:
        wanted = _record(archive)
        for info in infos:
            algorithm, digest = wanted.get(info.filename, ("", b""))
            hasher = hashlib.new(algorithm) if algorithm else None
            with archive.open(info) as member:  # reading to the end checks the CRC
                while data := member.read(CHUNK):
                    if hasher:
                        hasher.update(data)
            if hasher and hasher.digest() != digest:
                return f"{info.filename} is not what RECORD says"
    except BROKEN_ZIP as exc:
        return f"it cannot be unpacked: {exc}"
    missing = set(wanted) - {i.filename for i in infos}
    return f"{min(missing)} is named in RECORD and missing" if missing else ""


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
                digest = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
            except (binascii.Error, ValueError):
                continue
            found[row[0]] = algorithm, digest
    return found
