"""Records: what an index says of one archive, in so few bytes that a million of them can be kept at hand."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from entrepot.digests import Digest
from entrepot.errors import RepodataTooLarge
from entrepot.links import Link
from entrepot.names import classify

MOST = 4_000_000
"""Records of one index; the largest channels have about one million."""

_KEY, _MD5, _SHA256, _SIZE = 8, 16, 32, 8
_ROW = _KEY + _MD5 + _SHA256 + _SIZE
_NO_MD5, _NO_SHA256 = bytes(_MD5), bytes(_SHA256)


@dataclass(frozen=True, slots=True)
class Record:
    """The digests and the size of one archive, as far as its index gives them."""

    sha256: bytes = b""
    md5: bytes = b""
    size: int | None = None

    @classmethod
    def of(cls, said: dict[str, Any]) -> Record:
        """From a record of repodata (hex digits) or of a shard (bytes).

        What cannot be understood is left out.
        """
        size = said.get("size")
        known = isinstance(size, int) and not isinstance(size, bool) and 0 < size < 1 << 63
        return cls(
            _digest(said.get("sha256"), _SHA256),
            _digest(said.get("md5"), _MD5),
            size if known else None,
        )

    def link(self, url: str, filename: str, *, source: str = "") -> Link:
        """What it says of the archive at a URL; ``source``: who says so."""
        digests = []
        if self.sha256:
            digests.append(Digest("sha256", self.sha256.hex()))
        if self.md5:
            digests.append(Digest("md5", self.md5.hex()))
        named = classify(filename)
        project, version = (named.project, named.version) if named is not None else (None, None)
        return Link(
            url, tuple(digests), self.size, project, version, filename, "archive", source=source
        )


def _digest(value: object, size: int) -> bytes:
    if isinstance(value, bytes):
        return value if len(value) == size else b""
    if isinstance(value, str) and len(value) == 2 * size:
        try:
            raw = bytes.fromhex(value)
        except ValueError:
            return b""
        return raw if len(raw) == size else b""
    return b""


class Table:
    """The records of one index by file name: 64 bytes each.

    Fill it, then :meth:`close` it, then ask; closed it is one ``bytes`` that can be sent between
    processes. File names are kept as 64 bits of their hash. A channel that makes two names with the
    same one gains nothing: a client that was given the wrong record's digest would be refused an
    archive, never given a wrong one.
    """

    __slots__ = ("_rows", "_sorted")

    def __init__(self) -> None:
        self._rows: list[bytes] = []
        self._sorted = b""

    def __len__(self) -> int:
        return len(self._rows) or len(self._sorted) // _ROW

    def add(self, filename: str, record: Record) -> None:
        """Take one record; of two for one name the later counts.

        Raises:
            RepodataTooLarge: there are too many.
        """
        if len(self._rows) >= MOST:
            raise RepodataTooLarge(f"an index of more than {MOST} records")
        size = (record.size or 0).to_bytes(_SIZE, "little")
        digests = (record.md5 or _NO_MD5) + (record.sha256 or _NO_SHA256)
        self._rows.append(_key(filename) + digests + size)

    def close(self) -> None:
        """Put it in order; nothing is added afterwards."""
        self._rows.sort(key=itemgetter(slice(_KEY)))
        self._sorted = b"".join(self._rows)
        self._rows = []

    def find(self, filename: str) -> Record | None:
        """The record of a file; ``None`` when the index does not list it."""
        key, rows = _key(filename), self._sorted
        at = bisect_right(range(len(self)), key, key=lambda i: rows[i * _ROW : i * _ROW + _KEY])
        row = rows[(at - 1) * _ROW : at * _ROW] if at else b""
        if row[:_KEY] != key:
            return None
        md5, sha256, size = row[_KEY : _KEY + _MD5], row[_KEY + _MD5 : -_SIZE], row[-_SIZE:]
        return Record(
            b"" if sha256 == _NO_SHA256 else sha256,
            b"" if md5 == _NO_MD5 else md5,
            int.from_bytes(size, "little") or None,
        )


def _key(filename: str) -> bytes:
    name = filename.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(name, digest_size=_KEY, usedforsecurity=False).digest()
