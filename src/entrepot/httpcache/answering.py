"""The answer to a client out of a stored response: whole, a part, 304, 412 or 416.

No decision about freshness.
"""

from __future__ import annotations

from dataclasses import dataclass

from entrepot.httpcache.conditional import (
    ORIGIN_ONLY,
    VALIDATION,
    is_not_modified,
    precondition_holds,
    range_applies,
)
from entrepot.httpcache.fields import hop_by_hop
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead, StoredResponse
from entrepot.httpcache.partial import Span, Unsatisfiable, content_range, requested_span

_CONDITIONS = (*ORIGIN_ONLY, *VALIDATION)
_NO_CONTENT = frozenset((204, 304))
_METADATA = frozenset(
    "content-type content-encoding content-language content-range content-digest content-md5".split()
)
"""Representation metadata that a 304 leaves out: it does not guide the update (RFC 9110 §15.4.5).
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the client is sent."""

    head: ResponseHead
    """Complete, with ``Age`` and, where there may be one, ``Content-Length``."""
    span: Span | None
    """The bytes of the stored body that follow, half-open; ``None``: no body."""


def reply(request: RequestHead, stored: StoredResponse, *, age: int, size: int) -> Reply:
    """The answer that a stored response gives to this request.

    The client's preconditions are evaluated in the order of RFC 9110 §13.2.2, and only where the
    stored answer is a 2xx; ranges only of a stored 200 to GET. Several ranges at once get the
    whole. Hop-by-hop fields are dropped. Freshness is not looked at: the caller has decided that
    this response answers the request.

    Args:
        request: the client's.
        stored: the response to answer with.
        age: seconds, for the ``Age`` field.
        size: bytes of the stored body.

    Source: RFC 9110 §13.2, §14.2, §15.3.7, §15.4.5, §15.5.17; RFC 9111 §4, §4.3.2.
    """
    status, span = stored.head.status, (0, size)
    if 200 <= status < 300 and any(name in request.headers for name in _CONDITIONS):
        if not precondition_holds(request, stored):
            return _bodiless(stored, 412, "Precondition Failed", age, length="0")
        if is_not_modified(request, stored):
            return _bodiless(stored, 304, "Not Modified", age)
    if request.method == "HEAD":
        return Reply(
            ResponseHead(status, _whole_fields(stored, age, size), stored.head.reason), None
        )
    if status == 200 and "range" in request.headers and range_applies(request, stored):
        wanted = requested_span(request.headers.get("range"), size)
        if isinstance(wanted, Unsatisfiable):
            return _bodiless(
                stored,
                416,
                "Range Not Satisfiable",
                age,
                length="0",
                part=content_range(None, size),
            )
        if wanted is not None:
            fields = _fields(
                stored, age, length=str(wanted[1] - wanted[0]), part=content_range(wanted, size)
            )
            return Reply(ResponseHead(206, fields, "Partial Content"), wanted)
    return Reply(
        ResponseHead(status, _whole_fields(stored, age, size), stored.head.reason),
        None if status in _NO_CONTENT else span,
    )


def _whole_fields(stored: StoredResponse, age: int, size: int) -> Headers:
    return _fields(stored, age, length=None if stored.head.status in _NO_CONTENT else str(size))


def _bodiless(
    stored: StoredResponse,
    status: int,
    reason: str,
    age: int,
    *,
    length: str | None = None,
    part: str | None = None,
) -> Reply:
    fields = _fields(stored, age, length=length, part=part, without=_METADATA)
    return Reply(ResponseHead(status, fields, reason), None)


def _fields(
    stored: StoredResponse,
    age: int,
    *,
    length: str | None,
    part: str | None = None,
    without: frozenset[str] = frozenset(),
) -> Headers:
    """The stored fields in their order and spelling.

    ``Age``, ``Content-Length`` and ``Content-Range`` made anew.
    """
    stale_names = (
        {"age", "content-length", *without}
        if part is None
        else {"age", "content-length", "content-range", *without}
    )
    gone = hop_by_hop(stored.head.headers) | stale_names
    lines = [line for line in stored.head.headers if line[0].lower() not in gone]
    if length is not None:
        lines.append(("Content-Length", length))
    if part is not None:
        lines.append(("Content-Range", part))
    lines.append(("Age", str(age)))
    return Headers(lines)
