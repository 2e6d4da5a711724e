"""zstd files of channels: bounded, whole, and nothing behind them."""

import pytest
import zstandard

from entrepot.channel.coding import PIECE, unpacked, unzstd, zstd
from entrepot.channel.repodata import read_repodata
from entrepot.errors import InvalidRepodata

TEXT = b'{"packages": {}}' * 500
NO_DATA = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (zstd(TEXT), TEXT),
        (zstd(b""), b""),
        (zstd(TEXT) + zstd(b"more"), TEXT + b"more"),
        (NO_DATA + zstd(TEXT) + NO_DATA, TEXT),
        (zstandard.ZstdCompressor(write_content_size=False).compress(TEXT), TEXT),
        (
            zstandard.ZstdCompressor(
                compression_params=zstandard.ZstdCompressionParameters(window_log=27)
            ).compress(TEXT),
            TEXT,
        ),
    ],
    ids=[
        "one frame",
        "empty",
        "two frames",
        "frames without data",
        "no size told",
        "the largest window",
    ],
)
def test_what_was_compressed_comes_out_again(data, plain):
    assert unzstd(data) == plain


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not zstd"),
        (b"plain", "not zstd"),
        (zstd(TEXT)[:-1], "breaks off"),
        (zstd(TEXT) + b"x", "not zstd"),
        (zstd(TEXT) + zstd(TEXT)[:9], "breaks off"),
        (zstd(TEXT)[:6] + b"\xff" * 20, "damaged"),
        (NO_DATA[:-1], "breaks off"),
    ],
    ids=[
        "nothing",
        "something else",
        "cut",
        "padded",
        "second frame cut",
        "damaged",
        "frame without data cut",
    ],
)
def test_what_is_not_whole_is_refused(data, why):
    with pytest.raises(InvalidRepodata, match=why):
        unzstd(data)


def test_what_swells_beyond_the_bound_is_refused():
    with pytest.raises(InvalidRepodata, match="more than 1000 bytes"):
        unzstd(zstd(bytes(1 << 26)), limit=1000)


def test_a_window_larger_than_clients_take_is_refused():
    """A frame with one raw block; the byte after the flags is the window's logarithm."""
    small, large = (
        b"\x28\xb5\x2f\xfd\x00" + bytes([(log - 10) << 3]) + b"\x09\0\0x" for log in (27, 28)
    )
    assert unzstd(small) == b"x"
    with pytest.raises(InvalidRepodata, match="damaged"):
        unzstd(large)


PACKED = zstd(bytes(range(256)) * 3000) + NO_DATA + zstd(b"more")


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_pieces_may_end_anywhere(size):
    pieces = [PACKED[at : at + size] for at in range(0, len(PACKED), size)]
    out = list(unpacked(pieces, ["zst"]))
    assert b"".join(out) == unzstd(PACKED)
    assert max(map(len, out)) <= PIECE


def test_an_index_with_bytes_behind_it_is_refused():
    with pytest.raises(InvalidRepodata, match="not zstd"):
        read_repodata(
            [zstd(TEXT[:16]), b"trailing"], url="https://channel.test/noarch/repodata.json.zst"
        )
