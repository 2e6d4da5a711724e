"""Zip, tar and compressed bytes of unknown honesty, read within bounds.

Nothing is ever written out; what is too large is not looked at.

A hostile archive yields ``None`` or stops early; it never costs more than the bounds below.
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

DIRECTORY_LIMIT = 64 << 20
"""Bytes of a zip's central directory."""
MEMBER_LIMIT = 1 << 20
"""Bytes of one small member (``WHEEL``, ``PKG-INFO``) after decompression."""
TAR_LIMIT = 256 << 20
"""Bytes of a tar that are decompressed in search of ``PKG-INFO``."""
MEMBERS_LIMIT = 200_000
XZ_MEMORY = 256 << 20

_CENTRAL = b"PK\x01\x02"
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


def _xz() -> Any:
    return lzma.LZMADecompressor(memlimit=XZ_MEMORY)


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "deflate": zlib.decompressobj,
    "bz2": bz2.BZ2Decompressor,
    "xz": _xz,
}


def decompressed(source: BinaryIO, kind: str, limit: int) -> io.BufferedReader:
    """``source`` decompressed: ``gzip``, ``deflate``, ``bz2`` or ``xz``."""
    return io.BufferedReader(Decompressed(source, kind, limit), 1 << 16)


def wheel_members(source: BinaryIO, size: int) -> list[tuple[str, int]] | None:
    """``(dist-info directory, offset of its WHEEL's local header)`` for every top-level one of a zip.

    Read from the central directory's bytes alone.

    ``None`` when the bytes are no zip that this fast way can read (zip64, a damaged end).
    """
    tail_size = min(size, 22 + 65535)
    source.seek(size - tail_size)
    tail = source.read(tail_size)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        return None
    length, start = struct.unpack_from("<II", tail, at + 12)
    if 0xFFFFFFFF in (length, start) or length > DIRECTORY_LIMIT or start + length > size:
        return None
    source.seek(start)
    directory = source.read(length)
    # A list is what the type says
    return [found for found in _wheel_records(directory)]  # noqa: C416


def _wheel_records(directory: bytes) -> Iterator[tuple[str, int]]:
    mark = b".dist-info/WHEEL"
    at = directory.find(mark)
    while at >= 0:
        end = at + len(mark)
        head = directory.rfind(_CENTRAL, max(0, end - 46 - 512), end)
        if (
            head >= 0
            and end - head > 46
            and struct.unpack_from("<H", directory, head + 28)[0] == end - head - 46
        ):
            name = directory[head + 46 : end].decode("utf-8", "replace")
            if name.count("/") == 1:
                yield (
                    name.partition("/")[0].removesuffix(".dist-info"),
                    struct.unpack_from("<I", directory, head + 42)[0],
                )
        at = directory.find(mark, end)


def local_member(source: BinaryIO, offset: int) -> bytes | None:
    """A small member of a zip by the offset of its local header.

    ``None`` when it is too large or oddly packed.
    """
    source.seek(offset)
    head = source.read(30)
    if len(head) < 30 or head[:4] != b"PK\x03\x04":
        return None
    flags, method = struct.unpack_from("<HH", head, 6)
    packed, _, name, extra = struct.unpack_from("<IIHH", head, 18)
    source.seek(offset + 30 + name + extra)
    if flags & 1 or method not in (0, 8):
        return None
    if method == 0:
        return source.read(packed) if packed <= MEMBER_LIMIT and not flags & 8 else None
    data = source.read(min(packed, MEMBER_LIMIT) if packed else MEMBER_LIMIT)
    try:
        return zlib.decompressobj(-15).decompress(data, MEMBER_LIMIT)
    except zlib.error:
        return None


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
    """One small member; ``None`` when it is absent, too large or broken."""
    try:
        with archive.open(name) as member:
            return member.read(MEMBER_LIMIT)
    except BROKEN_ZIP:
        return None


def tar_root(
    source: BinaryIO, kind: str, *, enough: int = TAR_LIMIT
) -> tuple[str, bytes | None] | None:
    """The one top directory of a compressed tar and its ``PKG-INFO``.

    ``None`` when it is no such tar.

    Reading stops at the first ``ROOT/PKG-INFO``, so the rest of the members is not known to lie
    under the same root.
    """
    root = ""
    try:
        with tarfile.open(fileobj=decompressed(source, kind, enough), mode="r|") as archive:
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
        return (root, None) if root else None
    return (root, None) if root else None
