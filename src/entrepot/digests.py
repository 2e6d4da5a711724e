"""Digests: an algorithm with its value, and hashers fed with chunks.

No I/O, no policy about which one to trust.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

from entrepot.errors import FormatError

LENGTHS = {
    "md5": 32,
    "sha1": 40,
    "sha224": 56,
    "sha256": 64,
    "sha384": 96,
    "sha512": 128,
    "blake2b-256": 64,
}
"""Hex digits of each algorithm that is understood. ``blake2b-256`` is the default index's path
digest."""

STRONG = ("sha256", "sha512", "sha384", "sha224", "blake2b-256")
"""Algorithms whose match proves a body, best first; md5 and sha1 only corroborate."""

_HEX = re.compile("[0-9a-f]+").fullmatch


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """An algorithm and the lower-case hex value, both checked.

    >>> str(Digest.parse("sha256=" + "ab" * 32))[:12]
    'sha256:ababa'
    """

    algorithm: str
    value: str

    def __post_init__(self) -> None:
        length = LENGTHS.get(self.algorithm)
        if length is None:
            raise FormatError(
                f"{self.algorithm!r} is no digest algorithm entrepot knows", text=self.algorithm
            )
        if len(self.value) != length or not _HEX(self.value):
            raise FormatError(
                f"{self.value!r} is not a {self.algorithm} value: {length} hex digits",
                text=self.value,
            )

    @classmethod
    def parse(cls, text: str) -> Digest:
        """A digest written ``algorithm:value`` or ``algorithm=value``.

        Raises:
            FormatError: neither form, an unknown algorithm or a wrong length.
        """
        for separator in ":=":
            algorithm, found, value = text.partition(separator)
            if found:
                return cls(algorithm.strip().lower(), value.strip().lower())
        raise FormatError(f"{text!r} is not algorithm:value", text=text)

    @property
    def is_strong(self) -> bool:
        """Whether a match proves the body."""
        return self.algorithm in STRONG

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


class Hasher:
    """Several digests of one body at once, fed with chunks.

    Args:
        algorithms: names out of :data:`LENGTHS`; sha256 is always computed, because it names the
            body in the store.
    """

    __slots__ = ("_hashes", "size")

    def __init__(self, algorithms: Iterable[str] = ()) -> None:
        self._hashes = {name: _new(name) for name in {"sha256", *algorithms}}
        self.size = 0
        """Bytes fed so far."""

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next chunk."""
        self.size += len(data)
        for each in self._hashes.values():
            each.update(data)

    def digest(self, algorithm: str = "sha256") -> Digest:
        """The digest of all that was fed; the algorithm must be one of those asked for."""
        return Digest(algorithm, self._hashes[algorithm].hexdigest())

    def mismatch(self, known: Iterable[Digest]) -> Digest | None:
        """The first of ``known`` that does *not* match; ``None`` when all do."""
        for each in known:
            if not hmac.compare_digest(self.digest(each.algorithm).value, each.value):
                return each
        return None


def _new(algorithm: str) -> hashlib._Hash:
    if algorithm == "blake2b-256":
        return hashlib.blake2b(digest_size=32)  # type: ignore[return-value]
    return hashlib.new(algorithm, usedforsecurity=False)


def sha256_of(data: bytes) -> Digest:
    """The sha256 of some bytes."""
    return Digest("sha256", hashlib.sha256(data).hexdigest())
