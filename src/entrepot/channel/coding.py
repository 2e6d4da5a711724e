"""zstd as channels use it: whole files decompressed up to a bound, and compressed again. Bytes in, bytes out.

Unlike the content coding of HTTP (``simple/negotiate.py``) a channel's file may use a window of 128 MiB, as ``zstd --ultra``
and the makers of large channels do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from entrepot.errors import InvalidRepodata

if TYPE_CHECKING:
    import zstandard

LARGEST = 1 << 30
"""Bytes that any index of a channel may have once decompressed; the largest known has a third of it."""

WINDOW = 1 << 27
"""The largest window: what zstd itself takes without being told to."""

_LEVEL = 9
"""Halfway between quick and small: a large repodata in seconds, a tenth above what upstream sends."""
_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
"""Bytes two to four of a frame that carries no data; the first is 50 to 5f."""
_SLICE = 1 << 10
"""Compressed bytes fed at once: they may swell to 32 MiB, and only between slices is the size looked at."""


def unzstd(data: bytes, *, limit: int = LARGEST) -> bytes:
    """What was compressed.

    Args:
        data: one zstd frame or several, nothing else.
        limit: most bytes that may come out.

    Raises:
        InvalidRepodata: no zstd, damaged, broken off, more than ``limit``, or something else behind it.
    """
    import zstandard  # noqa: PLC0415 - late: most runs see no channel

    context = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    out = bytearray()
    position = 0
    try:
        while position < len(data) or not position:
            if not _is_frame(data[position : position + 4]):
                raise InvalidRepodata("not zstd data", text=repr(data[position : position + 16]), position=position)
            position = _one_frame(context, data, position, out, limit)
    except zstandard.ZstdError as exc:
        raise InvalidRepodata(f"damaged zstd data: {exc}", position=position) from exc
    return bytes(out)


def zstd(data: bytes) -> bytes:
    """The bytes as one frame that tells its size; the same bytes each time."""
    import zstandard  # noqa: PLC0415 - late: most runs see no channel

    return zstandard.ZstdCompressor(_LEVEL).compress(data)


def _one_frame(context: zstandard.ZstdDecompressor, data: bytes, position: int, out: bytearray, limit: int) -> int:
    """Decompress the frame that starts at ``position`` into ``out``; where it ends."""
    frame = context.decompressobj(read_across_frames=False)
    while not frame.eof:
        piece = data[position : position + _SLICE]
        if not piece:
            raise InvalidRepodata("zstd data that breaks off", position=position)
        out += frame.decompress(piece)
        position += len(piece)
        if len(out) > limit:
            raise InvalidRepodata(f"zstd data of more than {limit} bytes", position=position)
    return position - len(frame.unused_data)


def _is_frame(start: bytes) -> bool:
    return start == _MAGIC or (start[1:] == _SKIPPABLE and start[:1] in b"PQRSTUVWXYZ[\\]^_")
