"""Packed indexes, unpacked piece by piece: memory grows neither with what comes in nor with what it swells to.

A frame of zstd may ask for a window of 128 MiB, which its own command line takes too and the largest channels use.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from entrepot.errors import InvalidRepodata, RepodataTooLarge

LARGEST = 2 << 30
"""Bytes an index may unpack to: several times the largest there is."""
WINDOW = 128 << 20
PIECE = 256 << 10
"""Bytes given out at a time."""


def unpacked(pieces: Iterable[bytes], codings: Sequence[str], *, limit: int = LARGEST) -> Iterator[bytes]:
    """The content of a packed file.

    Args:
        pieces: the file.
        codings: what it is packed with, the outermost first: ``zst``, ``bz2``, or a content coding of HTTP.
        limit: bytes; more are refused.

    Raises:
        InvalidRepodata: damaged or cut off, more than ``limit``, or packed by something unknown.
    """
    for coding in codings:
        unpack = _UNPACK.get(coding)
        if unpack is None:
            raise InvalidRepodata(f"coding {coding[:40]!r} is not understood", text=coding[:40])
        pieces = _within(unpack(pieces), limit)
    return _within(pieces, limit)


def content_codings(field: str | None) -> list[str]:
    """What a ``Content-Encoding`` field says was done to a body, the last first (RFC 9110 §8.4)."""
    names = [name.strip().lower() for name in (field or "").split(",")]
    return [name for name in reversed(names) if name not in {"", "identity"}][:_MOST]


_MOST = 4


def _within(pieces: Iterable[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise RepodataTooLarge(f"an index of more than {limit} bytes")
        yield piece


class _Source:
    """Pieces as the decompressor's source reads them."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[: size if size >= 0 else None], self._rest[size:] if size >= 0 else memoryview(b"")
        return bytes(taken)


def _unzstd(pieces: Iterable[bytes]) -> Iterator[bytes]:
    import zstandard  # noqa: PLC0415 - late: most runs read no channel

    context = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    try:
        with context.stream_reader(_Source(pieces), read_across_frames=True, closefd=False) as reader:  # type: ignore[arg-type]
            while piece := reader.read(PIECE):
                yield piece
    except (zstandard.ZstdError, MemoryError) as exc:
        raise InvalidRepodata(f"damaged compressed data: {exc}") from exc


def _bunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    decoder: bz2.BZ2Decompressor | None = None
    try:
        for piece in pieces:
            data = piece
            while data:
                decoder = decoder or bz2.BZ2Decompressor()
                yield decoder.decompress(data, PIECE)
                while not (decoder.eof or decoder.needs_input):
                    yield decoder.decompress(b"", PIECE)
                data = decoder.unused_data
                decoder = None if decoder.eof else decoder
    except (OSError, ValueError, EOFError) as exc:
        raise InvalidRepodata(f"damaged compressed data: {exc}") from exc
    if decoder is not None:
        raise InvalidRepodata("compressed data that breaks off")


def _inflate(pieces: Iterable[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # with gzip's frame or zlib's
    try:
        for piece in pieces:
            data = piece
            while data and not decoder.eof:
                yield decoder.decompress(data, PIECE)
                data = decoder.unconsumed_tail
        yield decoder.flush()
    except zlib.error as exc:
        raise InvalidRepodata(f"damaged compressed data: {exc}") from exc
    if not decoder.eof:
        raise InvalidRepodata("compressed data that breaks off")


_UNPACK: dict[str, Callable[[Iterable[bytes]], Iterator[bytes]]] = {
    "zst": _unzstd,
    "zstd": _unzstd,
    "bz2": _bunzip,
    "gzip": _inflate,
    "x-gzip": _inflate,
    "deflate": _inflate,
}
