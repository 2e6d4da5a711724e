"""Byte ranges: which part of a whole is meant, and the head that sends it.

Joining parts is declined (docs/http-support.md).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from entrepot.httpcache.fields import number

Span = tuple[int, int]
"""Half-open, ``[start, end)``, in bytes."""


class Unsatisfiable(Enum):
    """The one answer that is neither a span nor "send it whole"."""

    UNSATISFIABLE = "unsatisfiable"


UNSATISFIABLE: Final = Unsatisfiable.UNSATISFIABLE
"""No byte of the representation is asked for: 416."""


def requested_span(value: str | None, size: int) -> Span | Unsatisfiable | None:
    """The part of ``size`` bytes that a ``Range`` value asks for; ``None``: send the whole.

    The whole is the answer to an absent or malformed value, to another unit than bytes, and to more
    than one satisfiable range (which a server may ignore, RFC 9110 §14.2).

    Source: RFC 9110 §14.1.2.

    >>> requested_span("bytes=0-1", 10), requested_span("bytes=-3", 10), requested_span("bytes=10-", 10)
    ((0, 2), (7, 10), <Unsatisfiable.UNSATISFIABLE: 'unsatisfiable'>)
    """
    if value is None:
        return None
    unit, found, ranges = value.partition("=")
    if not found or unit.strip(" \t").lower() != "bytes":
        return None
    spans = []
    for spec in ranges.split(","):
        text = spec.strip(" \t")
        if not text:
            continue
        bounds = _bounds(text, size)
        if bounds is None:
            return None
        spans.append(bounds)
    if not spans:
        return None
    wanted = [span for span in spans if span[0] < span[1]]
    if not wanted:
        return UNSATISFIABLE
    return wanted[0] if len(wanted) == 1 else None


def _bounds(spec: str, size: int) -> Span | None:
    """One ``first-last``, ``first-`` or ``-length``.

    An empty span is not satisfiable; ``None``: malformed.
    """
    first, dash, last = spec.partition("-")
    if not dash:
        return None
    start, end = number(first), number(last)
    if not first:
        return None if end is None else (max(0, size - end), size)
    if start is None or (last and (end is None or end < start)):
        return None
    return start, size if end is None else min(end + 1, size)


def content_range(span: Span | None, size: int) -> str:
    """``Content-Range``: of a part, or of a 416 (RFC 9110 §14.4)."""
    return f"bytes */{size}" if span is None else f"bytes {span[0]}-{span[1] - 1}/{size}"
