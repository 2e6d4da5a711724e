"""The states of one client request; the only file that knows the transitions.

::

    lookup -> Hit                                     reply(...)
           -> Stale  -> send `forward` -> on_response Refresh | Store | Discard
                                       -> on_failure  the stale entry, or None
           -> Miss   -> send `forward` -> on_response Store | Discard
                                                      Refresh: another variant was picked
           -> Bypass -> send `forward` -> on_response Discard
                                                      `invalidates` after an unsafe method

Two rules: every value here is immutable and every function pure; and a decision that needs no
answer of upstream (``Hit``) must not be given one: that is our own mistake,
:class:`~entrepot.errors.ProtocolMisuse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

from entrepot.errors import ProtocolMisuse
from entrepot.httpcache.conditional import (
    VALIDATION,
    confirms,
    head_confirms,
    merged_fields,
    offering,
    precondition_holds,
    storable_fields,
    validating,
)
from entrepot.httpcache.directives import CacheControl, request_directives, response_directives
from entrepot.httpcache.fields import forwardable
from entrepot.httpcache.freshness import (
    current_age,
    date_value,
    freshness_lifetime,
    is_from_the_future,
)
from entrepot.httpcache.messages import RequestHead, ResponseHead, StoredResponse
from entrepot.httpcache.policy import (
    STAR,
    Reason,
    StaleUse,
    can_answer,
    can_reuse_for,
    is_storable,
    reuse_reason,
    selecting_values,
    stale_use,
)

SAFE_METHODS = frozenset("GET HEAD OPTIONS TRACE PROPFIND REPORT SEARCH QUERY".split())
"""Methods known to be safe (RFC 9110 §9.2.1, the registry); any other invalidates."""

FAILURES = frozenset((500, 502, 503, 504))
"""Statuses that are an error of upstream (RFC 5861 §4)."""


@dataclass(frozen=True, slots=True)
class Hit:
    """Answer with the stored response."""

    entry: StoredResponse
    age: int
    """Seconds."""
    reason: Reason
    ttl: int = 0
    """Seconds of freshness left; negative when the request allowed a stale answer."""


@dataclass(frozen=True, slots=True)
class Stale:
    """A stored response that must be validated."""

    entry: StoredResponse
    age: int
    """Seconds."""
    reason: Reason
    forward: RequestHead
    """What to send upstream: with the entry's validators, without the client's own conditions and
    range."""
    may_serve: StaleUse
    stale_for: int
    """Seconds since it stopped being fresh; 0 when it is fresh and the request wants validation all
    the same."""
    superseded: tuple[StoredResponse, ...] = ()
    """Older stored responses that the request selects too; a new one replaces them as well."""


@dataclass(frozen=True, slots=True)
class Miss:
    """Nothing stored answers; what comes back may be stored."""

    reason: Reason
    forward: RequestHead
    """What to send upstream: the client's request, with the entity tags of ``variants`` when there
    are any. To get the whole in any case, replace it by ``unconditional(request)``
    (``dataclasses.replace``): then no 304 can come."""
    variants: tuple[StoredResponse, ...] = ()
    """Stored responses to other selecting values that upstream was offered (RFC 9111 §4.3.1)."""
    superseded: tuple[StoredResponse, ...] = ()
    """Unusable stored responses that a new one replaces."""


@dataclass(frozen=True, slots=True)
class Bypass:
    """Pass the request on and store nothing."""

    reason: Reason
    forward: RequestHead
    """The client's request less hop-by-hop fields."""


@dataclass(frozen=True, slots=True)
class Store:
    """Keep the response, and drop what it replaces once it is whole."""

    entry: StoredResponse
    """``size`` and ``key`` are the caller's to fill in."""
    replaces: tuple[StoredResponse, ...] = ()


@dataclass(frozen=True, slots=True)
class Refresh:
    """Upstream confirmed a stored response: keep its body, write the new head."""

    entry: StoredResponse
    was: StoredResponse
    """What was confirmed. When ``entry.vary`` differs, ``entry`` is a further variant with the same
    body: keep ``was`` too."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Store nothing.

    ``VALIDATOR_MISMATCH``: a 304 (or an answer to HEAD) that does not fit what is stored. After a
    304 the client has no answer yet: mark the entry invalidated and send
    :func:`~entrepot.httpcache.conditional.unconditional` of the request. ``NOT_MODIFIED``: the
    client's own condition was answered, pass the 304 on. Otherwise pass the response on.
    """

    reason: Reason
    invalidates: bool = False
    """Mark what :func:`invalidated_urls` lists as invalidated (§4.4): after an unsafe method, or
    when the answer contradicts what is stored."""


Decision = Hit | Stale | Miss | Bypass
Action = Store | Refresh | Discard


def lookup(
    request: RequestHead,
    candidates: Sequence[StoredResponse],
    *,
    now: float,
    shared: bool,
    heuristic: float = 0.0,
) -> Decision:
    """What to do with a request, given what is stored for its URL.

    Args:
        request: the client's; its method decides as well as its URL, GET's responses answer HEAD.
        candidates: everything stored under the URL, in any order.
        now: seconds since the epoch.
        shared: whether this cache serves more than one user.
        heuristic: see :func:`~entrepot.httpcache.freshness.freshness_lifetime`; 0: no guesses.

    Returns:
        The decision. ``Miss`` with ``ONLY_IF_CACHED`` is to be answered with 504.

    Source: RFC 9111 §4.
    """
    if request.method not in ("GET", "HEAD"):
        return Bypass(Reason.METHOD, _passed_on(request))
    wants = request_directives(request.headers)
    entry = _selected(request, candidates)
    if entry is None:
        return _miss(request, candidates, wants)
    cc = response_directives(entry.head.headers)
    age = current_age(entry, now)
    lifetime = freshness_lifetime(entry, shared=shared, heuristic=heuristic, directives=cc)
    if is_from_the_future(entry, now):
        lifetime = 0
    reason = reuse_reason(entry, wants, cc, age=age, lifetime=lifetime, shared=shared)
    blocked = _blocked(request, entry)
    if blocked is None and (reason is Reason.FRESH or reason is Reason.MAX_STALE):
        return Hit(entry, age, reason, (lifetime or 0) - age)
    if wants.only_if_cached:
        return Miss(Reason.ONLY_IF_CACHED, _passed_on(request))
    if blocked is None and wants.no_store:
        # The answer to validation must not be stored, so let the origin answer the client.
        blocked = Reason.NO_STORE
    if blocked is not None:
        return Bypass(blocked, _passed_on(request))
    others = tuple(
        other for other in candidates if other is not entry and can_reuse_for(request, other)
    )
    return _stale(
        request,
        entry,
        wants,
        cc,
        reason,
        age=age,
        lifetime=lifetime,
        shared=shared,
        superseded=others,
    )


def revalidation(
    request: RequestHead,
    entry: StoredResponse,
    *,
    now: float,
    shared: bool,
    reason: Reason = Reason.REQUEST_NO_CACHE,
) -> Stale:
    """The decision to validate an entry that the request itself would not validate."""
    cc = response_directives(entry.head.headers)
    age, lifetime = current_age(entry, now), freshness_lifetime(entry, shared=shared, directives=cc)
    wants = request_directives(request.headers)
    return _stale(
        request, entry, wants, cc, reason, age=age, lifetime=lifetime, shared=shared, superseded=()
    )


def on_response(
    decision: Decision,
    request: RequestHead,
    response: ResponseHead,
    *,
    request_time: float,
    response_time: float,
    shared: bool,
) -> Action:
    """What to do with upstream's answer.

    Args:
        decision: what :func:`lookup` said; its ``forward`` is what was sent.
        request: the client's request.
        response: the final response's head.
        request_time: when ``forward`` was sent, seconds since the epoch.
        response_time: when the head arrived.
        shared: whether this cache serves more than one user.

    Raises:
        ProtocolMisuse: for a :class:`Hit`.
    """
    if isinstance(decision, Hit):
        raise ProtocolMisuse("a hit needs no answer of upstream")
    if request.method not in SAFE_METHODS:
        return Discard(Reason.METHOD, invalidates=200 <= response.status < 400)
    if isinstance(decision, Bypass):
        return Discard(decision.reason)
    made = _Arrival(decision.forward, response, request_time, response_time, shared)
    if response.status == 304:
        return _on_not_modified(decision, made)
    if request.method == "HEAD":
        return _on_head(decision, made)
    reason = is_storable(decision.forward, response, shared=shared)
    if reason is not None:
        return Discard(reason)
    replaces = (
        decision.superseded
        if isinstance(decision, Miss)
        else (decision.entry, *decision.superseded)
    )
    return Store(made.stored(), replaces)


def on_failure(decision: Decision, *, status: int | None) -> StoredResponse | None:
    """The stale entry that may be served instead, now that upstream failed.

    ``None``: pass the failure on.

    Args:
        decision: what :func:`lookup` said.
        status: upstream's status; ``None`` when there was no response. Only 500, 502, 503 and 504
            are failures.

    Source: RFC 9111 §4.2.4, §4.3.3; RFC 5861 §4.
    """
    if not isinstance(decision, Stale) or decision.may_serve is StaleUse.NEVER:
        return None
    return decision.entry if status is None or status in FAILURES else None


def invalidated_urls(request: RequestHead, response: ResponseHead) -> list[str]:
    """The URLs whose stored responses a ``Discard`` with ``invalidates`` marks invalidated.

    The target; after an unsafe method also ``Location`` and ``Content-Location`` of the same
    origin. None when it failed.

    Source: RFC 9111 §4.4.
    """
    if request.method in SAFE_METHODS:
        return [request.url]
    if not 200 <= response.status < 400:
        return []
    urls = [request.url]
    for name in ("location", "content-location"):
        value = response.headers.get(name)
        url = None if value is None else _same_origin(request.url, value)
        if url is not None and url not in urls:
            urls.append(url)
    return urls


def _selected(request: RequestHead, candidates: Sequence[StoredResponse]) -> StoredResponse | None:
    """The most recent, by ``Date``, of those that the request selects and that can answer it.

    Source: RFC 9111 §4.1.
    """
    usable = [
        each for each in candidates if can_reuse_for(request, each) and can_answer(request, each)
    ]
    if len(usable) < 2:
        return usable[0] if usable else None
    return max(usable, key=lambda each: (date_value(each), each.response_time))


def _miss(
    request: RequestHead, candidates: Sequence[StoredResponse], wants: CacheControl
) -> Miss | Bypass:
    if wants.only_if_cached:
        return Miss(Reason.ONLY_IF_CACHED, _passed_on(request))
    if request.method == "GET" and "range" in request.headers:
        return Bypass(Reason.RANGE, _passed_on(request))
    unusable = tuple(each for each in candidates if can_reuse_for(request, each))
    if unusable or not candidates:
        return Miss(
            Reason.INCOMPLETE if unusable else Reason.URI_MISS,
            _passed_on(request),
            superseded=unusable,
        )
    forward, offered = offering(request, [each for each in candidates if not each.invalidated])
    return Miss(Reason.VARY_MISS, forward, offered)


def _blocked(request: RequestHead, entry: StoredResponse) -> Reason | None:
    """Why the origin has to answer this request itself, fresh entry or not."""
    headers = request.headers
    # "A cache MUST NOT evaluate conditional header fields that only apply to an origin server":
    # where the entry shows the condition to be true it may answer, a 412 is the origin's to give.
    if ("if-match" in headers or "if-unmodified-since" in headers) and not precondition_holds(
        request, entry
    ):
        return Reason.PRECONDITION
    return None


def _stale(
    request: RequestHead,
    entry: StoredResponse,
    wants: CacheControl,
    cc: CacheControl,
    reason: Reason,
    *,
    age: int,
    lifetime: int | None,
    shared: bool,
    superseded: tuple[StoredResponse, ...],
) -> Stale:
    stale_for = max(0, age - (lifetime or 0))
    may_serve = stale_use(reason, wants, cc, stale_for=stale_for, shared=shared)
    return Stale(entry, age, reason, validating(request, entry), may_serve, stale_for, superseded)


def _passed_on(request: RequestHead) -> RequestHead:
    return replace(request, headers=forwardable(request.headers))


@dataclass(slots=True)  # not frozen: it lives for one decision, and that costs half a microsecond
class _Arrival:
    """A response with the request that brought it and its times."""

    sent: RequestHead
    response: ResponseHead
    request_time: float
    response_time: float
    shared: bool

    def stored(self) -> StoredResponse:
        """The response as it is kept."""
        headers = storable_fields(
            self.response.headers, shared=self.shared, received=self.response_time
        )
        vary = selecting_values(self.response.headers.get("vary"), self.sent.headers)
        assert vary is not None
        head = ResponseHead(self.response.status, headers, self.response.reason)
        return StoredResponse(head, vary, self.request_time, self.response_time)

    def refreshed(self, was: StoredResponse) -> Refresh:
        """A stored response with this one's fields and times."""
        headers = merged_fields(
            was.head.headers, self.response.headers, shared=self.shared, received=self.response_time
        )
        vary = selecting_values(headers.get("vary"), self.sent.headers)
        entry = replace(
            was,
            head=replace(was.head, headers=headers),
            vary=STAR if vary is None else vary,
            request_time=self.request_time,
            response_time=self.response_time,
            invalidated=False,
            key=was.key if vary == was.vary else "",
        )
        return Refresh(entry, was)


def _on_not_modified(decision: Stale | Miss, made: _Arrival) -> Action:
    if isinstance(decision, Stale):
        asked = any(name in decision.forward.headers for name in VALIDATION)
        if asked and confirms(decision.entry, made.response):
            return made.refreshed(decision.entry)
        return Discard(Reason.VALIDATOR_MISMATCH, invalidates=True)
    if not decision.variants and any(name in decision.forward.headers for name in VALIDATION):
        return Discard(Reason.NOT_MODIFIED)
    for stored in decision.variants:
        if confirms(stored, made.response, offered=True):
            return made.refreshed(stored)
    return Discard(Reason.VALIDATOR_MISMATCH)


def _on_head(decision: Stale | Miss, made: _Arrival) -> Action:
    """A HEAD answer stores nothing.

    A 200 renews the stored GET it describes, or shows it to be outdated (RFC 9111 §4.3.5).
    """
    if (
        isinstance(decision, Miss)
        or made.response.status != 200
        or decision.entry.head.status != 200
    ):
        return Discard(Reason.METHOD)
    if head_confirms(decision.entry, made.response):
        return made.refreshed(decision.entry)
    return Discard(Reason.VALIDATOR_MISMATCH, invalidates=True)


def _same_origin(base: str, reference: str) -> str | None:
    """The absolute URL of a reference, less its fragment.

    ``None`` when it is no URL or of another origin.
    """
    try:
        url = urljoin(base, reference).partition("#")[0]
        return url if _origin(url) == _origin(base) else None
    except ValueError:
        return None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
