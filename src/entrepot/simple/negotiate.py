"""Content negotiation for index pages.

Which form a client takes, and bodies out of their content codings. Pure.

Source: RFC 9110 §12.4.2 (quality values), §12.5.1 (Accept), §12.5.3 (Accept-Encoding), §8.4
(codings); PEP 691.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Literal, Protocol

from entrepot.errors import FormatError

LARGEST = 128 << 20
"""Bytes a page may decode to: several times the largest list of projects there is."""

_MOST_CODINGS = 3
"""Codings on top of each other; nobody sends more than one on purpose."""


def acceptable(accept: str | None, content_type: str) -> bool:
    """Whether a client that sent this ``Accept`` takes this content type.

    Without the field, or with nothing readable in it, everything is taken. The most specific range
    decides, also when it forbids with ``q=0``.

    Source: RFC 9110 §12.5.1.

    >>> acceptable("text/html, */*;q=0", "application/json"), acceptable(None, "text/html")
    (False, True)
    """
    if accept is None:
        return True
    ranges = [found for item in _split(accept, ",") if (found := _media_range(item))]
    if not ranges:
        return True
    wanted, wanted_parameters = _media_type(content_type)
    matching = [
        (len(parameters) if rank == _EXACT else 0, rank, quality)
        for kind, rank, parameters, quality in ranges
        if _covers(kind, rank, wanted) and parameters <= wanted_parameters
    ]
    return bool(matching) and max(matching, key=lambda match: (match[1], match[0]))[2] > 0


def page_class(content_type: str) -> Literal["json", "html"] | None:
    """Which reader a content type belongs to; ``None`` when it is no index page's type.

    >>> page_class("application/vnd.pypi.simple.latest+html"), page_class("text/plain")
    ('html', None)
    """
    kind = media_type(content_type)
    if kind in {"text/html", "application/xhtml+xml"}:
        return "html"
    is_simple = is_simple_type(content_type)
    if kind in {"application/json", "text/json"} or (is_simple and kind.endswith("json")):
        return "json"
    return "html" if is_simple else None


def is_simple_type(content_type: str) -> bool:
    """Whether a content type is one of the simple repository API's own, so not ``text/html``.

    >>> is_simple_type("application/vnd.pypi.simple.v1+json; charset=utf-8")
    True
    """
    return _SIMPLE_TYPE(media_type(content_type)) is not None


def media_type(content_type: str) -> str:
    """A content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


_SIMPLE_TYPE = re.compile(r"application/vnd\.pypi\.simple\.(v\d+|latest)\+(json|html)").fullmatch


def decodable(accept_encoding: str | None, content_encoding: str | None) -> bool:
    """Whether a client that sent this ``Accept-Encoding`` can take a body in this coding.

    Stricter than RFC 9110 §12.5.3 in one point: without the field any coding "is considered
    acceptable", but clients that send none decode none, so here only an uncoded body is.

    >>> decodable("gzip, br;q=0", "gzip"), decodable("gzip, br;q=0", "br"), decodable(None, "gzip")
    (True, False, False)
    """
    codings = _codings(content_encoding)
    if accept_encoding is None:
        return not codings
    weights: dict[str, float] = {}
    for item in _split(accept_encoding, ","):
        name, quality = _weighted(item)
        if name:
            weights.setdefault(_plain_coding(name), quality)
    if not codings:
        # Uncoded is always acceptable unless excluded by "identity;q=0" or "*;q=0" without a word
        # on identity.
        return weights.get("identity", weights.get("*", 1.0)) > 0
    return all(weights.get(coding, weights.get("*", 0.0)) > 0 for coding in codings)


def decode(body: bytes, content_encoding: str | None, *, limit: int = LARGEST) -> bytes:
    """A body with its content codings undone.

    Args:
        body: as transferred.
        content_encoding: the field's value; gzip, deflate (with and without zlib's frame), zstd and
            identity are known.
        limit: bytes; no step may give more.

    Raises:
        FormatError: an unknown coding (``br`` among them), damaged or cut-off data, or more bytes
            than ``limit``.
    """
    codings = _codings(content_encoding)
    if len(codings) > _MOST_CODINGS:
        raise FormatError(
            f"{len(codings)} content codings on top of each other", text=content_encoding or ""
        )
    for coding in reversed(codings):
        body = _decode_one(body, coding, limit)
    if len(body) > limit:
        raise FormatError(f"a body of {len(body)} bytes; at most {limit} are read")
    return body


def can_decode(content_encoding: str | None) -> bool:
    """Whether :func:`decode` knows all codings of a body."""
    codings = _codings(content_encoding)
    return len(codings) <= _MOST_CODINGS and _DECODED.issuperset(codings)


def decodable_here(accept_encoding: str) -> str:
    """An ``Accept-Encoding`` without codings that :func:`decode` does not know.

    >>> decodable_here("gzip, deflate, br"), decodable_here("br")
    ('gzip, deflate', 'identity')
    """
    items = [item.strip() for item in _split(accept_encoding, ",")]
    kept = [item for item in items if _plain_coding(_weighted(item)[0]) in _DECODED | {"identity"}]
    if len(kept) == len(items):
        return accept_encoding
    narrowed = ", ".join(kept) or "identity"
    if not any(decodable(accept_encoding, coding) for coding in ("", *_DECODED)):
        return accept_encoding
    return narrowed


_DECODED = frozenset({"gzip", "deflate", "zstd"})
_EXACT = 2


def _split(text: str, separator: str) -> list[str]:
    """The parts between separators that stand outside quotes; linear in the text."""
    if '"' not in text:
        return text.split(separator)
    parts, quoted, start, i = [], False, 0, 0
    while i < len(text):
        if quoted and text[i] == "\\":
            i += 1
        elif text[i] == '"':
            quoted = not quoted
        elif text[i] == separator and not quoted:
            parts.append(text[start:i])
            start = i + 1
        i += 1
    return [*parts, text[start:]]


_QUALITY = re.compile(r"(0(\.\d{0,3})?|1(\.0{0,3})?)", re.ASCII).fullmatch


def _quality(text: str) -> float:
    """A weight; one that cannot be read counts as 1, as if it were not there."""
    return float(text) if _QUALITY(text) else 1.0


def _weighted(item: str) -> tuple[str, float]:
    name, _, rest = item.partition(";")
    key, _, value = rest.partition("=")
    return name.strip().lower(), _quality(value.strip()) if key.strip().lower() == "q" else 1.0


def _media_type(text: str) -> tuple[str, frozenset[str]]:
    kind, *parameters = (part.strip() for part in _split(text, ";"))
    return kind.lower(), frozenset(
        p.replace('"', "").replace(" ", "").lower() for p in parameters if p
    )


def _media_range(item: str) -> tuple[str, int, frozenset[str], float] | None:
    """Its type, how specific it is (0 to 2), its parameters before ``q``, and its weight."""
    kind, *parameters = (part.strip() for part in _split(item, ";"))
    kind = kind.lower()
    if not _MEDIA_RANGE(kind):
        return None
    quality, own = 1.0, []
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            quality = _quality(value.strip())
            break  # what follows is an extension of Accept, not of the type
        if parameter:
            own.append(parameter.replace('"', "").replace(" ", "").lower())
    return (
        kind,
        0 if kind == "*/*" else 1 if kind.endswith("/*") else _EXACT,
        frozenset(own),
        quality,
    )


_MEDIA_RANGE = re.compile(r"[\w!#$%&'*+.^`|~-]+/[\w!#$%&'*+.^`|~-]+", re.ASCII).fullmatch


def _covers(kind: str, rank: int, wanted: str) -> bool:
    return rank == 0 or (wanted.startswith(kind[:-1]) if rank == 1 else kind == wanted)


def _codings(content_encoding: str | None) -> list[str]:
    names = (_plain_coding(name.strip().lower()) for name in (content_encoding or "").split(","))
    return [name for name in names if name not in {"", "identity"}]


def _plain_coding(name: str) -> str:
    """RFC 9110 §8.4.1.3: a recipient takes ``x-gzip`` for ``gzip``."""
    return "gzip" if name == "x-gzip" else name


def _decode_one(body: bytes, coding: str, limit: int) -> bytes:
    if coding == "gzip":
        return _inflate(body, zlib.MAX_WBITS | 16, limit)
    if coding == "deflate":
        # RFC 9110 §8.4.1.2: some send the bare data without zlib's frame, whose first byte ends in
        # 8.
        framed = (
            len(body) > 1
            and body[0] & 15 == zlib.DEFLATED
            and int.from_bytes(body[:2], "big") % 31 == 0
        )
        return _inflate(body, zlib.MAX_WBITS if framed else -zlib.MAX_WBITS, limit)
    if coding == "zstd":
        return _unzstd(body, limit)
    raise FormatError(f"content coding {coding[:40]!r} is not understood", text=coding[:40])


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _inflate(body: bytes, window: int, limit: int) -> bytes:
    has_members = window > zlib.MAX_WBITS
    try:
        return _frames(
            body, lambda: zlib.decompressobj(window), limit, b"\x1f\x8b" if has_members else None
        )
    except zlib.error as exc:
        raise FormatError(f"damaged compressed data: {exc}") from exc


def _unzstd(body: bytes, limit: int) -> bytes:
    import zstandard  # noqa: PLC0415 - late: few pages need it

    # 8 MiB is what RFC 9659 allows for the coding; the library's own bound is far above it.
    context = zstandard.ZstdDecompressor(max_window_size=8 << 20)
    try:
        return _frames(
            body,
            lambda: context.decompressobj(read_across_frames=False),
            limit,
            b"\x28\xb5\x2f\xfd",
        )
    except zstandard.ZstdError as exc:
        raise FormatError(f"damaged compressed data: {exc}") from exc


def _frames(body: bytes, make: Callable[[], _Decoder], limit: int, magic: bytes | None) -> bytes:
    """Decode frames that follow each other, in time linear in what comes in and goes out.

    What stands behind a frame and does not start with ``magic`` is padding and ignored.
    """
    out: list[bytes] = []
    size = position = 0
    while position < len(body):
        decoder = make()
        while not decoder.eof:
            data = body[position : position + _SLICE]
            if not data:
                raise FormatError("compressed data that breaks off")
            out.append(decoder.decompress(data))
            position += len(data)
            size += len(out[-1])
            if size > limit:
                raise FormatError(f"compressed data of more than {limit} bytes")
        position -= len(decoder.unused_data)
        if magic is None or not body.startswith(magic, position):
            break
    return b"".join(out)


_SLICE = 512
"""Compressed bytes fed at once: they may swell to 16 MiB (zstd), and only between slices is the
size looked at."""
