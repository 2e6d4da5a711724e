"""Age and lifetime: pure functions of a stored response and ``now``.

Whether a stale one may be used is policy's business.
"""

from __future__ import annotations

from entrepot.httpcache.directives import CacheControl, response_directives
from entrepot.httpcache.fields import age_value, http_date
from entrepot.httpcache.messages import ResponseHead, StoredResponse

HEURISTIC_STATUSES = frozenset((200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501))
"""Heuristically cacheable by their definition (RFC 9110 §15.1)."""

LONGEST_HEURISTIC = 86_400
"""Seconds; no guess is longer than a day."""


CLOCK_TOLERANCE_S = 5.0
"""By how much ``now`` may be before a response's time: it was read before another process stored
the response, or the clock was adjusted."""


def is_from_the_future(stored: StoredResponse, now: float) -> bool:
    """Whether it was received later than now: the clock was wrong then, or is now.

    Its age cannot be known until the clock has caught up, which may take years, so it is not fresh.
    """
    return stored.response_time > now + CLOCK_TOLERANCE_S


def date_value(stored: StoredResponse) -> float:
    """``Date``, else (absent, invalid) when the response was received; seconds since the epoch."""
    seconds = http_date(stored.head.headers.get("date"), stored.response_time)
    return stored.response_time if seconds is None else seconds


def current_age(stored: StoredResponse, now: float) -> int:
    """Whole seconds since the origin generated or validated the response, as far as is known.

    Never less than 0, and never falls while ``now`` grows; a clock that was set back stands still
    until it has caught up.

    Source: RFC 9111 §4.2.3, with the names used there.
    """
    apparent_age = stored.response_time - date_value(stored)
    response_delay = max(0.0, stored.response_time - stored.request_time)
    corrected_age_value = age_value(stored.head.headers.get("age")) + response_delay
    resident_time = max(0.0, now - stored.response_time)
    return int(max(apparent_age, corrected_age_value) + resident_time)


def freshness_lifetime(
    stored: StoredResponse,
    *,
    shared: bool,
    heuristic: float = 0.0,
    directives: CacheControl | None = None,
) -> int | None:
    """Seconds the response stays fresh, counted from its generation; ``None`` when nothing says so.

    The first present of ``s-maxage`` (shared caches only), ``max-age``, and ``Expires`` minus
    ``Date`` decides; an invalid ``Expires`` is in the past. It is fresh while its age is *less*
    than this.

    Args:
        stored: the stored response.
        shared: whether this cache serves more than one user.
        heuristic: the part of the time since ``Last-Modified`` that counts as fresh when nothing
            explicit is there; 0: none.
        directives: the response's, when the caller has them parsed already.

    Source: RFC 9111 §4.2.1, §4.2.2, §5.3.
    """
    cc = response_directives(stored.head.headers) if directives is None else directives
    if shared and cc.s_maxage is not None:
        return cc.s_maxage
    if cc.max_age is not None:
        return cc.max_age
    expires = stored.head.headers.get("expires")
    if expires is not None:
        seconds = http_date(expires, stored.response_time)
        return 0 if seconds is None else max(0, int(seconds - date_value(stored)))
    return _heuristic_lifetime(stored, cc, heuristic) if heuristic > 0 else None


def _heuristic_lifetime(stored: StoredResponse, cc: CacheControl, fraction: float) -> int | None:
    modified = http_date(stored.head.headers.get("last-modified"), stored.response_time)
    if modified is None or not (stored.head.status in HEURISTIC_STATUSES or cc.public):
        return None
    return max(0, min(LONGEST_HEURISTIC, int((date_value(stored) - modified) * fraction)))


def has_explicit_freshness(head: ResponseHead, cc: CacheControl, *, shared: bool) -> bool:
    """Whether the response states a lifetime, be it 0 (RFC 9111 §3)."""
    return (
        cc.max_age is not None or (shared and cc.s_maxage is not None) or "expires" in head.headers
    )
