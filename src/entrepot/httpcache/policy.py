"""May it be stored? May it be reused? Every answer comes with its reason.

No transitions here: see ``exchange.py``.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from functools import lru_cache

from entrepot.httpcache.conditional import is_bodiless
from entrepot.httpcache.directives import CacheControl, request_directives, response_directives
from entrepot.httpcache.fields import list_members
from entrepot.httpcache.freshness import HEURISTIC_STATUSES, has_explicit_freshness
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead, StoredResponse


class Reason(StrEnum):
    """Why a decision is what it is; the value is stable and may be logged, counted and sent."""

    FRESH = "fresh"
    """The stored response is fresh."""
    MAX_STALE = "max-stale"
    """It is stale, and the request allows that much."""
    EXPIRED = "expired"
    """Its age has reached its freshness lifetime."""
    NO_FRESHNESS = "no-freshness"
    """It states no lifetime (and, when it is to be stored, has no validator either)."""
    NO_CACHE = "no-cache"
    """It must be validated before each use."""
    MUST_REVALIDATE = "must-revalidate"
    """It has expired and says that it must not be used stale (must-revalidate, proxy-revalidate,
    s-maxage)."""
    REQUEST_NO_CACHE = "request-no-cache"
    """The request wants a validated answer."""
    REQUEST_MAX_AGE = "request-max-age"
    """It is older than the request wants, or the request wants age 0: a validated answer."""
    MIN_FRESH = "min-fresh"
    """It will not stay fresh as long as the request wants."""
    INVALIDATED = "invalidated"
    """An unsafe request, or an answer that contradicts it, has made it invalid (RFC 9111 §4.4,
    §4.3.5)."""
    URI_MISS = "uri-miss"
    """Nothing is stored for this URL."""
    VARY_MISS = "vary-miss"
    """Only other variants are stored."""
    INCOMPLETE = "incomplete"
    """What is stored has no body, or the response is a part: parts are not stored."""
    RANGE = "range"
    """A part is asked for and nothing complete is stored."""
    PRECONDITION = "precondition"
    """If-Match or If-Unmodified-Since is for the origin to judge."""
    METHOD = "method"
    """Neither GET nor HEAD; or, when it is to be stored, not GET."""
    ONLY_IF_CACHED = "only-if-cached"
    """The request forbids asking upstream and nothing usable is stored: answer 504."""
    NO_STORE = "no-store"
    """The request or the response forbids storing."""
    PRIVATE = "private"
    """Meant for one user, and this cache is shared."""
    AUTHORIZATION = "authorization"
    """The request carried credentials, this cache is shared, and the response does not allow it."""
    VARY_STAR = "vary-star"
    """``Vary: *``: no other request can be known to select it."""
    STATUS = "status"
    """Not a status that is stored."""
    NOT_MODIFIED = "not-modified"
    """A 304 to the client's own preconditions: pass it on."""
    VALIDATOR_MISMATCH = "validator-mismatch"
    """A 304, or an answer to HEAD, that does not fit what is stored."""


class StaleUse(StrEnum):
    """May a stale answer be used?"""

    NEVER = "never"
    """Not at all."""
    WHILE_REVALIDATE = "while-revalidate"
    """Now, while it is validated in the background (RFC 5861 §3); and when that fails."""
    IF_ERROR = "if-error"
    """Only when upstream fails (RFC 9111 §4.2.4, RFC 5861 §4)."""


UNDERSTOOD = frozenset(
    (
        200,
        201,
        202,
        203,
        204,
        205,
        300,
        301,
        302,
        303,
        307,
        308,
        *range(400, 416),
        417,
        422,
        423,
        424,
        426,
        451,
        *range(500, 506),
    )
)
"""Final statuses whose caching rules are implemented: what ``must-understand`` asks for (RFC 9111
§5.2.2.3)."""

NEVER_STORED = frozenset((206, 304, 401, 407, 412, 416, 421, 425, 428, 429, 431, 511))
"""428, 429, 431 and 511 by RFC 6585; parts; and those that belong to one request's credentials,
conditions, range or connection."""

CREDENTIAL_FIELDS = frozenset(("authorization", "cookie", "proxy-authorization"))
"""Request fields whose values are kept as digests only."""

_UNORDERED = frozenset(("accept-encoding", "accept-language"))
_LONGEST_CACHED = 512
"""Characters; longer values are evened out each time, so that hostile ones cannot fill the memory.
"""

STAR = (("*", "\n"),)
"""Selecting values that no request can have: of a stored response whose 304 brought ``Vary: *``."""


def is_storable(request: RequestHead, response: ResponseHead, *, shared: bool) -> Reason | None:
    """``None`` when the response may be stored and is worth it, else why not.

    Worth it are responses that state their freshness, and heuristically cacheable ones (by status
    or ``public``) with a validator.

    Args:
        request: as it was sent to upstream.
        response: the final response.
        shared: whether this cache serves more than one user.

    Source: RFC 9111 §3, §3.5, §5.2.1.5, §5.2.2.
    """
    if request.method != "GET":
        return Reason.METHOD
    cc = response_directives(response.headers)
    reason = _status_reason(response.status, cc)
    if reason is not None:
        return reason
    # "When a cache that implements the must-understand directive receives a response that includes
    # it, the cache SHOULD ignore the no-store directive if it understands and implements the status
    # code's caching requirements."
    if request_directives(request.headers).no_store or (cc.no_store and not cc.must_understand):
        return Reason.NO_STORE
    if shared and cc.private:
        return Reason.PRIVATE
    if (
        shared
        and "authorization" in request.headers
        and not (cc.public or cc.must_revalidate or cc.s_maxage is not None)
    ):
        return Reason.AUTHORIZATION
    if _vary_names(response.headers.get("vary")) is None:
        return Reason.VARY_STAR
    if has_explicit_freshness(response, cc, shared=shared):
        return None
    heuristic = response.status in HEURISTIC_STATUSES or cc.public
    has_validator = "etag" in response.headers or "last-modified" in response.headers
    return None if heuristic and has_validator else Reason.NO_FRESHNESS


def _status_reason(status: int, cc: CacheControl) -> Reason | None:
    if status == 206:
        return Reason.INCOMPLETE
    if not 200 <= status <= 599 or status in NEVER_STORED:
        return Reason.STATUS
    return Reason.STATUS if cc.must_understand and status not in UNDERSTOOD else None


def can_reuse_for(request: RequestHead, stored: StoredResponse) -> bool:
    """Whether the request has the values that ``Vary`` nominated when ``stored`` was stored (RFC 9111 §4.1)."""
    return all(_selecting(name, request.headers.get(name)) == value for name, value in stored.vary)


def selecting_values(
    vary_value: str | None, headers: Headers
) -> tuple[tuple[str, str | None], ...] | None:
    """The request's values of the fields that ``Vary`` names, sorted by name.

    ``None`` when it has a ``*`` anywhere.

    Lines are joined, spaces around commas evened out, and the members of Accept-Encoding and
    Accept-Language sorted without regard to case: their order means nothing (RFC 9110 §12.5).
    Credentials (:data:`CREDENTIAL_FIELDS`) become ``sha256:`` and the hex digest of the value.

    >>> selecting_values("Accept, Foo", Headers({"accept": "a ,b"}))
    (('accept', 'a, b'), ('foo', None))
    """
    names = _vary_names(vary_value)
    if names is None:
        return None
    return tuple((name, _selecting(name, headers.get(name))) for name in names)


def _vary_names(value: str | None) -> tuple[str, ...] | None:
    """Lower-case, each once, sorted; ``None`` for a ``*`` among them."""
    if value is None:
        return ()
    return _nominated(value) if len(value) <= _LONGEST_CACHED else _nominated.__wrapped__(value)


@lru_cache(maxsize=256)
def _nominated(value: str) -> tuple[str, ...] | None:
    names = {member.lower() for member in list_members(value)}
    return None if "*" in names else tuple(sorted(names))


def _selecting(name: str, value: str | None) -> str | None:
    if value is None:
        return None
    if name in CREDENTIAL_FIELDS:
        return f"sha256:{hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()}"
    evened = _evened if len(value) <= _LONGEST_CACHED else _evened.__wrapped__
    return evened(name, value)


@lru_cache(maxsize=1024)
def _evened(name: str, value: str) -> str:
    """A value with the spaces around its commas made the same.

    Where order means nothing its members sorted, in lower case.
    """
    unordered = name in _UNORDERED
    if '"' in value:  # a comma or space may be part of a quoted string
        return value.strip(" \t")
    members = list_members(value.lower() if unordered else value)
    return ", ".join(sorted(members) if unordered else members)


def must_not_be_stale(cc: CacheControl, *, shared: bool) -> bool:
    """Whether the response forbids its use when stale, disconnected or not.

    "A cache MUST NOT generate a stale response if it is prohibited by an explicit in-protocol
    directive (e.g., by a no-cache response directive, a must-revalidate response directive, or an
    applicable s-maxage or proxy-revalidate response directive)."

    Source: RFC 9111 §4.2.4.
    """
    return (
        cc.must_revalidate
        or cc.no_cache
        or cc.no_store
        or (shared and (cc.proxy_revalidate or cc.private or cc.s_maxage is not None))
    )


def reuse_reason(
    stored: StoredResponse,
    wants: CacheControl,
    cc: CacheControl,
    *,
    age: int,
    lifetime: int | None,
    shared: bool,
) -> Reason:
    """FRESH or MAX_STALE when the stored response may be used as it is.

    Else why it must be validated first.

    Args:
        stored: a response that the request selects.
        wants: the request's directives.
        cc: the stored response's.
        age: its age, in seconds.
        lifetime: its freshness lifetime, in seconds.
        shared: whether this cache serves more than one user.

    Source: RFC 9111 §4, §5.2.1.
    """
    if stored.invalidated:
        return Reason.INVALIDATED
    if wants.no_cache:
        return Reason.REQUEST_NO_CACHE
    # Neither would have been stored by the core; whoever stored it all the same wants it for
    # failures only.
    if cc.no_store and not cc.must_understand:
        return Reason.NO_STORE
    if shared and cc.private:
        return Reason.PRIVATE
    if cc.no_cache:
        return Reason.NO_CACHE
    # Age 0 could be "not older than 0", but everybody who sends max-age=0 asks for validation.
    if wants.max_age is not None and (age > wants.max_age or wants.max_age == 0):
        return Reason.REQUEST_MAX_AGE
    if lifetime is None or age >= lifetime:
        return _expired_reason(
            wants, cc, stale_for=age - (lifetime or 0), lifetime=lifetime, shared=shared
        )
    if wants.min_fresh is not None and lifetime - age < wants.min_fresh:
        return Reason.MIN_FRESH
    return Reason.FRESH


def _expired_reason(
    wants: CacheControl, cc: CacheControl, *, stale_for: int, lifetime: int | None, shared: bool
) -> Reason:
    if must_not_be_stale(cc, shared=shared):
        return Reason.MUST_REVALIDATE
    if wants.max_stale is not None and wants.min_fresh is None and stale_for <= wants.max_stale:
        return Reason.MAX_STALE
    return Reason.NO_FRESHNESS if lifetime is None else Reason.EXPIRED


def stale_use(
    reason: Reason, wants: CacheControl, cc: CacheControl, *, stale_for: int, shared: bool
) -> StaleUse:
    """What may be done with a response that must be validated, until or unless that succeeds.

    Without ``stale-if-error`` a failing upstream is enough (RFC 9111 §4.2.4, §4.3.3); with it, in
    the response or the request, the longest window named is the limit (RFC 5861 §4).
    """
    if reason in (Reason.INVALIDATED, Reason.REQUEST_NO_CACHE) or must_not_be_stale(
        cc, shared=shared
    ):
        return StaleUse.NEVER
    window = cc.stale_while_revalidate
    if reason is Reason.EXPIRED and window is not None and stale_for <= window:
        return StaleUse.WHILE_REVALIDATE
    limits = [limit for limit in (cc.stale_if_error, wants.stale_if_error) if limit is not None]
    return StaleUse.NEVER if limits and stale_for > max(limits) else StaleUse.IF_ERROR


def can_answer(request: RequestHead, stored: StoredResponse) -> bool:
    """Whether what is stored is enough for the method: HEAD needs no body."""
    return request.method == "HEAD" or not is_bodiless(stored)
