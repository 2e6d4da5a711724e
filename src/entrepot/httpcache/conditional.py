"""Validators: conditional requests to upstream, what a 304 or a HEAD answer updates, and the client's own preconditions.

No ranges here but ``If-Range`` (a precondition), and no decision about freshness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from entrepot.httpcache.directives import response_directives
from entrepot.httpcache.fields import (
    entity_tag,
    entity_tags,
    format_date,
    forwardable,
    http_date,
    number,
)
from entrepot.httpcache.freshness import date_value
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead, StoredResponse

VALIDATION = ("if-none-match", "if-modified-since")
"""Preconditions by which a client validates its own copy; a cache answers them from what it has
(RFC 9111 §4.3.2)."""

ORIGIN_ONLY = ("if-match", "if-unmodified-since")
"""Preconditions that are meant for the origin (RFC 9110 §13.1.1, §13.1.4)."""

KEPT_ON_UPDATE = frozenset(
    "content-length content-encoding content-type content-range content-digest content-md5".split()
)
"""Fields that describe the stored body and are not taken from a 304 or a HEAD answer (RFC 9111
§3.2)."""

_CLOCK_DOUBT = 60
"""Seconds that ``Date`` must be after ``Last-Modified`` for the latter to be a strong validator
(RFC 9110 §8.8.2.2)."""


def unconditional(request: RequestHead) -> RequestHead:
    """The request without ``Range`` and without any precondition, hop-by-hop fields removed.

    A plain request for the whole.
    """
    return replace(
        request,
        headers=forwardable(request.headers).without(
            "range", "if-range", *VALIDATION, *ORIGIN_ONLY
        ),
    )


def validating(request: RequestHead, stored: StoredResponse) -> RequestHead:
    """The request that asks upstream whether ``stored`` is still right.

    Both validators are sent where both are there (RFC 9111 §4.3.1). Without any, or without a body
    to confirm, it is a plain request. The client's own preconditions and ``Range`` are not in it:
    what comes back must fit the stored whole.
    """
    plain = unconditional(request)
    if is_bodiless(stored):
        return plain
    lines = list(plain.headers)
    tag = stored.head.headers.get("etag")
    if tag:
        lines.append(("If-None-Match", tag))
    modified = stored.head.headers.get("last-modified")
    if modified is not None and http_date(modified, stored.response_time) is not None:
        lines.append(("If-Modified-Since", modified))
    return replace(plain, headers=Headers(lines))


def offering(
    request: RequestHead, variants: Sequence[StoredResponse]
) -> tuple[RequestHead, tuple[StoredResponse, ...]]:
    """The request with the entity tags of other variants, of which upstream may pick one, and the variants so offered.

    Only strong tags that no two variants share are offered, and none when the client sent
    preconditions of its own. ``Last-Modified`` never tells variants apart (RFC 9111 §4.3.1).
    """
    forward = replace(request, headers=forwardable(request.headers))
    if request.method != "GET" or any(
        name in request.headers for name in (*VALIDATION, *ORIGIN_ONLY)
    ):
        return forward, ()
    by_tag: dict[str, list[StoredResponse]] = {}
    for stored in variants:
        tag = entity_tag(stored.head.headers.get("etag"))
        if tag is not None and not tag.weak and not is_bodiless(stored):
            by_tag.setdefault(tag.opaque, []).append(stored)
    offered = {tag: found[0] for tag, found in by_tag.items() if len(found) == 1}
    if not offered:
        return forward, ()
    return replace(
        forward, headers=forward.headers.added("If-None-Match", ", ".join(offered))
    ), tuple(offered.values())


def is_bodiless(stored: StoredResponse) -> bool:
    """Whether a body that belongs to the response is not there: it can answer HEAD at most."""
    return stored.size is None and stored.head.status in (200, 203)


def confirms(stored: StoredResponse, answer: ResponseHead, *, offered: bool = False) -> bool:
    """Whether a 304 means this stored response.

    An entity tag in the 304 must be the stored one (compared strongly if both are strong); failing
    a tag on one side, equal ``Last-Modified`` fields will do; a 304 without any validator means the
    one response that was asked about.

    Args:
        stored: what was asked about.
        answer: the 304.
        offered: it was one of several variants, so only an entity tag can say that it is meant.

    Source: RFC 9111 §4.3.4.
    """
    new, old = entity_tag(answer.headers.get("etag")), entity_tag(stored.head.headers.get("etag"))
    if new is not None and old is not None:
        return new.matches(old)
    if offered:
        return False
    new_date, old_date = (
        answer.headers.get("last-modified"),
        stored.head.headers.get("last-modified"),
    )
    if new_date is None and new is None:
        return True
    return new_date is not None and new_date == old_date


def head_confirms(stored: StoredResponse, answer: ResponseHead) -> bool:
    """Whether a 200 to HEAD describes this stored response.

    Every validator and length in it is the stored one (§4.3.5).
    """
    new, old = entity_tag(answer.headers.get("etag")), entity_tag(stored.head.headers.get("etag"))
    if new is not None and (old is None or not new.matches(old)):
        return False
    modified = answer.headers.get("last-modified")
    if modified is not None and modified != stored.head.headers.get("last-modified"):
        return False
    length = answer.headers.get("content-length")
    return (
        length is None
        or number(length) == stored.size
        or length == stored.head.headers.get("content-length")
    )


def storable_fields(headers: Headers, *, shared: bool, received: float) -> Headers:
    """The fields of a response that are kept.

    Left out are hop-by-hop fields, those that ``no-cache="..."`` and, in a shared cache,
    ``private="..."`` name. "A recipient with a clock that receives a response message without a
    Date header field MUST record the time it was received and append a corresponding Date header
    field" (RFC 9110 §6.6.1).

    Source: RFC 9111 §3.1, §5.2.2.4, §5.2.2.7.
    """
    cc = response_directives(headers)
    gone = cc.no_cache_fields | cc.private_fields if shared else cc.no_cache_fields
    kept = forwardable(headers)
    if gone:
        kept = kept.without(*gone)
    return kept if "date" in kept else kept.added("Date", format_date(received))


def merged_fields(stored: Headers, update: Headers, *, shared: bool, received: float) -> Headers:
    """The stored fields with those of a 304 or a HEAD answer in their place.

    Kept are those that describe the stored body (:data:`KEPT_ON_UPDATE`). ``Age`` and ``Date`` are
    always the answer's.

    Source: RFC 9111 §3.2.
    """
    new = Headers(line for line in forwardable(update) if line[0].lower() not in KEPT_ON_UPDATE)
    kept = stored.without("age", "date", *new.names())
    return storable_fields(Headers([*kept, *new]), shared=shared, received=received)


def precondition_holds(request: RequestHead, stored: StoredResponse) -> bool:
    """Whether ``If-Match`` or else ``If-Unmodified-Since`` is true of the stored response, or absent (RFC 9110 §13.2.2)."""
    wanted = request.headers.get("if-match")
    if wanted is not None:
        tags, own = entity_tags(wanted), entity_tag(stored.head.headers.get("etag"))
        return tags is None or (own is not None and any(tag.matches_strongly(own) for tag in tags))
    since = http_date(request.headers.get("if-unmodified-since"), stored.response_time)
    modified = http_date(stored.head.headers.get("last-modified"), stored.response_time)
    return since is None or modified is None or modified <= since


def is_not_modified(request: RequestHead, stored: StoredResponse) -> bool:
    """Whether the client's own copy is the stored one.

    ``If-None-Match``, or else ``If-Modified-Since``.

    A response without ``Last-Modified`` was modified at its ``Date``, or when it was received (RFC
    9111 §4.3.2).
    """
    wanted = request.headers.get("if-none-match")
    if wanted is not None:
        tags, own = entity_tags(wanted), entity_tag(stored.head.headers.get("etag"))
        return tags is None or (own is not None and any(tag.matches(own) for tag in tags))
    since = http_date(request.headers.get("if-modified-since"), stored.response_time)
    if since is None:
        return False
    modified = http_date(stored.head.headers.get("last-modified"), stored.response_time)
    return (date_value(stored) if modified is None else modified) <= since


def range_applies(request: RequestHead, stored: StoredResponse) -> bool:
    """Whether ``If-Range`` is absent or names exactly the stored response, by a strong validator (RFC 9110 §13.1.5)."""
    value = request.headers.get("if-range")
    if value is None:
        return True
    tag = entity_tag(value)
    if tag is None or tag.opaque.startswith(('"', "W/")):
        own = entity_tag(stored.head.headers.get("etag"))
        return tag is not None and own is not None and tag.matches_strongly(own)
    wanted, modified = (
        http_date(value, stored.response_time),
        stored.head.headers.get("last-modified"),
    )
    known = http_date(modified, stored.response_time)
    return wanted is not None and wanted == known and date_value(stored) - wanted >= _CLOCK_DOUBT
