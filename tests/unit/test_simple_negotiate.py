"""Content negotiation and content codings."""

import gzip
import zlib

import pytest
import zstandard

from entrepot.errors import FormatError
from entrepot.simple.negotiate import acceptable, decodable, decode, page_class

JSON = "application/vnd.pypi.simple.v1+json"
PIP = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"


@pytest.mark.parametrize(
    ("accept", "content_type", "taken"),
    [
        (None, JSON, True),
        ("", JSON, True),
        (PIP, JSON, True),
        (PIP, JSON + "; charset=utf-8", True),
        (PIP, "text/html; charset=utf-8", True),
        (PIP, "application/json", False),
        ("text/html", JSON, False),
        ("TEXT/HTML", "text/html", True),
        ("*/*", JSON, True),
        ("application/*", JSON, True),
        ("application/*", "text/html", False),
        ("text/html;q=0, */*", "text/html", False),
        ("*/*;q=0, text/html", "text/html", True),
        ("text/*;q=0, text/html;q=0.001", "text/html", True),
        ("text/html;q=0.000", "text/html", False),
        ("text/html;level=1;q=0, text/html", "text/html;level=1", False),
        ("text/html;level=1;q=0, text/html", "text/html", True),
        ("text/html;level=1", "text/html", False),
        ('text/html;a="x,y;z"', 'text/html; a="x,y;z"', True),
        ("text/html ; Q=0", "text/html", False),
        ("text/html;q=nonsense", "text/html", True),
        ("nonsense", JSON, True),
        ("nonsense, text/html", JSON, False),
        (",,text/html,", "text/html", True),
        ("text/html;q=0;ext=1", "text/html", False),
        ('"unclosed, text/html', JSON, True),
    ],
)
def test_what_a_client_takes_is_decided_by_the_most_specific_range(accept, content_type, taken):
    """RFC 9110 §12.5.1."""
    assert acceptable(accept, content_type) is taken


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        (JSON, "json"),
        ("application/vnd.pypi.simple.latest+html; charset=UTF-8", "html"),
        ("application/vnd.pypi.simple.v2+json", "json"),
        ("Application/JSON", "json"),
        ("text/html", "html"),
        ("application/xhtml+xml", "html"),
        ("application/vnd.pypi.simple.v1+xml", None),
        ("application/octet-stream", None),
        ("text/plain", None),
        ("", None),
    ],
)
def test_a_content_type_belongs_to_one_reader_or_none(content_type, form):
    assert page_class(content_type) == form


@pytest.mark.parametrize(
    ("accept_encoding", "coding", "can"),
    [
        (None, None, True),
        (None, "gzip", False),
        ("", None, True),
        ("", "gzip", False),
        ("gzip, deflate", "gzip", True),
        ("gzip, deflate", "x-gzip", True),
        ("x-gzip", "GZIP", True),
        ("gzip;q=0", "gzip", False),
        ("gzip; q=0.5", "gzip", True),
        ("*", "zstd", True),
        ("*, zstd;q=0", "zstd", False),
        ("gzip", "gzip, zstd", False),
        ("gzip, zstd", "gzip, zstd", True),
        ("identity", None, True),
        ("identity", "gzip", False),
        ("identity;q=0", None, False),
        ("*;q=0", "identity", False),
        ("*;q=0, identity", None, True),
        ("gzip", "identity", True),
    ],
)
def test_what_a_client_can_decode_is_what_it_named(accept_encoding, coding, can):
    """RFC 9110 §12.5.3, stricter without the field."""
    assert decodable(accept_encoding, coding) is can


BODY = b'{"files": []}' * 5000


def _raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


CODED = {
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY),
    "GZIP": gzip.compress(BODY[:100]) + gzip.compress(BODY[100:]) + b"\0\0",
    "deflate": zlib.compress(BODY),
    " deflate ": _raw_deflate(BODY),
    "zstd": zstandard.ZstdCompressor().compress(BODY),
    "Zstd": zstandard.ZstdCompressor().compress(BODY[:9])
    + zstandard.ZstdCompressor(write_checksum=True).compress(BODY[9:]),
    "identity": BODY,
    "": BODY,
    "gzip, zstd": zstandard.ZstdCompressor().compress(gzip.compress(BODY)),
}


@pytest.mark.parametrize("coding", CODED)
def test_every_known_coding_is_undone(coding):
    assert decode(CODED[coding], coding) == BODY


def test_a_body_without_a_coding_stays_as_it_is():
    assert decode(BODY, None) == BODY
    assert decode(b"", "gzip") == b""


@pytest.mark.parametrize("coding", [c for c in CODED if c not in {"", "identity"}])
def test_a_body_that_breaks_off_is_a_format_error(coding):
    with pytest.raises(FormatError):
        decode(CODED[coding][: len(CODED[coding]) // 4], coding)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize(
    "body", [b"\x00", b"x" * 3000, b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd" + b"\xff" * 50]
)
def test_damaged_data_is_a_format_error(coding, body):
    with pytest.raises(FormatError):
        decode(body, coding)


@pytest.mark.parametrize(
    "coding", ["br", "compress", "gzip, br", "x", "gzip, gzip, gzip, gzip", "\x00"]
)
def test_an_unknown_coding_is_a_format_error(coding):
    with pytest.raises(FormatError):
        decode(gzip.compress(BODY), coding)


@pytest.mark.parametrize(
    ("coding", "bomb"),
    [
        ("gzip", gzip.compress(bytes(1 << 24))),
        ("deflate", zlib.compress(bytes(1 << 24))),
        ("zstd", zstandard.ZstdCompressor().compress(bytes(1 << 24))),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(1 << 24)))),
        ("identity", bytes(1 << 17)),
    ],
    ids=["gzip", "deflate", "zstd", "twice", "plain"],
)
def test_no_more_than_the_limit_comes_out(coding, bomb):
    with pytest.raises(FormatError):
        decode(bomb, coding, limit=1 << 16)


def test_the_limit_itself_is_allowed():
    assert decode(gzip.compress(BODY), "gzip", limit=len(BODY)) == BODY
    with pytest.raises(FormatError):
        decode(gzip.compress(BODY), "gzip", limit=len(BODY) - 1)


def test_ten_thousand_empty_members_take_no_quadratic_time():
    assert decode(gzip.compress(b"") * 10_000 + gzip.compress(BODY), "gzip") == BODY
