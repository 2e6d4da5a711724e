"""What a channel's indexes are packed with.

Unpacked piece by piece, strictly and up to a bound, and packed again.

Memory grows neither with what comes in nor with what it swells to. Data that break off, and bytes
behind them, are refused: a cut index would hide packages. A frame of zstd may ask for a window of
128 MiB, unlike one of HTTP's content coding (``simple/negotiate.py``): its own command line takes
that too, and the largest channels use it.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from entrepot.errors import InvalidRepodata, RepodataTooLarge

if TYPE_CHECKING:
    import zstandard

LARGEST = 2 << 30
"""Bytes an index that is read piece by piece may unpack to: several times the largest there is."""
LARGEST_WHOLE = 1 << 30
"""Bytes of one that is held in memory; the largest known has a third of it."""
WINDOW = 128 << 20
"""The largest window of zstd: what it takes without being told to."""
PIECE = 256 << 10
"""Bytes given out at a time."""
_SLICE = 1 << 10
"""Bytes of zstd taken in at once: they may swell to 32 MiB, and only between slices is the size
looked at."""
_LEVEL = 9
"""Halfway between quick and small: a large repodata in seconds, a tenth above what upstream sends.
"""
_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
"""Bytes two to four of a frame that carries no data; the first is 50 to 5f."""
_MOST = 4
"""Content codings of one body."""


def unpacked(
    pieces: Iterable[bytes], codings: Sequence[str], *, limit: int = LARGEST
) -> Iterator[bytes]:
    """The content of a packed file.

    Args:
        pieces: the file.
        codings: what it is packed with, the outermost first: ``zst``, ``bz2``, or a content coding
            of HTTP.
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


def unzstd(data: bytes, *, limit: int = LARGEST_WHOLE) -> bytes:
    """What was compressed, as a whole.

    Args:
        data: one zstd frame or several, nothing else.
        limit: most bytes that may come out.

    Raises:
        InvalidRepodata: no zstd, damaged, broken off, more than ``limit``, or something else behind
            it.
    """
    return b"".join(unpacked([data], ["zst"], limit=limit))


def zstd(data: bytes) -> bytes:
    """The bytes as one frame that tells its size; the same bytes each time."""
    import zstandard  # noqa: PLC0415 - late: most runs see no channel

    return zstandard.ZstdCompressor(_LEVEL).compress(data)


def content_codings(field: str | None) -> list[str]:
    """What a ``Content-Encoding`` field says was done to a body, the last first (RFC 9110 §8.4)."""
    names = [name.strip().lower() for name in (field or "").split(",")]
    return [name for name in reversed(names) if name not in {"", "identity"}][:_MOST]


def can_unpack(codings: Iterable[str]) -> bool:
    """Whether all of them are understood."""
    return all(coding in _UNPACK for coding in codings)


def _within(pieces: Iterable[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise RepodataTooLarge(f"an index of more than {limit} bytes")
        yield piece


def _unzstd(pieces: Iterable[bytes]) -> Iterator[bytes]:
    import zstandard  # noqa: PLC0415 - late: most runs read no channel

    context = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    frame: zstandard.ZstdDecompressionObj | None = None
    data, position = b"", 0
    try:
        for piece in _sliced(pieces, _SLICE):
            data += piece
            while data and (frame is not None or len(data) >= len(_MAGIC)):
                frame = frame or _begun(context, data, position)
                yield from _sliced([frame.decompress(data)], PIECE)
                rest = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
                position += len(data) - len(rest)
                data = rest
    except (zstandard.ZstdError, MemoryError) as exc:
        raise InvalidRepodata(f"damaged zstd data: {exc}", position=position) from exc
    if frame is not None:
        raise InvalidRepodata("zstd data that breaks off", position=position)
    if data or not position:
        raise InvalidRepodata("not zstd data", text=repr(data), position=position)


def _begun(
    context: zstandard.ZstdDecompressor, data: bytes, position: int
) -> zstandard.ZstdDecompressionObj:
    """What decompresses the frame that these bytes begin."""
    magic = data[: len(_MAGIC)]
    if magic != _MAGIC and not (magic[1:] == _SKIPPABLE and magic[0] >> 4 == 5):
        raise InvalidRepodata("not zstd data", text=repr(data[:16]), position=position)
    return context.decompressobj(read_across_frames=False)


def _sliced(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    for piece in pieces:
        for at in range(0, len(piece), size):
            yield piece[at : at + size]


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
