"""Records: what an index says of one archive, in so few bytes that a million of them can be kept at hand."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from entrepot.digests import Digest
from entrepot.errors import RepodataTooLarge
from entrepot.links import Link
from entrepot.names import classify

MOST = 8_000_000
"""Records of one index; the largest channels have about one million."""

_MD5, _SHA256, _SIZE = 16, 32, 8
_ROW = _MD5 + _SHA256 + _SIZE
_NO_MD5, _NO_SHA256, _NO_SIZE = bytes(_MD5), bytes(_SHA256), bytes(_SIZE)


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

    Fill it, then :meth:`close` it, then ask.

    File names are kept as 64 bits of their hash: two names of one index with the same are as
    unlikely as a digest found by chance, and a client that was given the wrong record's digest
    would be refused an archive, never given a wrong one.
    """

    def __init__(self) -> None:
        self._keys = array("q")
        self._rows = bytearray()

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, filename: str, record: Record) -> None:
        """Take one record; of two for one name the later counts.

        Raises:
            RepodataTooLarge: there are too many.
        """
        if len(self._keys) >= MOST:
            raise RepodataTooLarge(f"an index of more than {MOST} records")
        self._keys.append(hash(filename))
        size = (record.size or 0).to_bytes(_SIZE, "little")
        self._rows += (record.md5 or _NO_MD5) + (record.sha256 or _NO_SHA256) + size

    def close(self) -> None:
        """Put it in order; nothing is added afterwards."""
        order = sorted(range(len(self._keys)), key=self._keys.__getitem__)
        rows, self._rows = self._rows, bytearray()
        for i in order:
            self._rows += rows[i * _ROW : (i + 1) * _ROW]
        self._keys = array("q", (self._keys[i] for i in order))

    def find(self, filename: str) -> Record | None:
        """The record of a file; ``None`` when the index does not list it."""
        key = hash(filename)
        at = bisect_left(self._keys, key)
        if at == len(self._keys) or self._keys[at] != key:
            return None
        while at + 1 < len(self._keys) and self._keys[at + 1] == key:
            at += 1
        row = bytes(self._rows[at * _ROW : (at + 1) * _ROW])
        md5, sha256, size = row[:_MD5], row[_MD5:-_SIZE], row[-_SIZE:]
        return Record(
            b"" if sha256 == _NO_SHA256 else sha256,
            b"" if md5 == _NO_MD5 else md5,
            None if size == _NO_SIZE else int.from_bytes(size, "little"),
        )
