"""The policy for packages, on top of RFC 9111 and apart from it (design.md §3).

Pure rules: what a private cache of packages keeps although HTTP would not let it be *reused*, what is fixed by its digest,
which stored variant may stand in when there is no network, which failures are tried again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from entrepot.app.facts import Expectation
from entrepot.heads import Head, has_secret
from entrepot.httpcache import can_reuse_for
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead
from entrepot.simple.negotiate import acceptable, decodable

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that a second try on a new connection may cure."""
NEGATIVES = frozenset({404, 410})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
KEPT = frozenset({200, 203}) | NEGATIVES | REDIRECTS
"""Statuses that a private store keeps for failure and offline."""
HELD_BACK = 1 << 16
"""Bytes at a body's end that nobody is sent until its digest is known to be right."""
BACKOFF_S = (0.1, 0.5)
"""Waits before the second and the third try."""
PRIVATE_FIELDS = ("set-cookie", "set-cookie2", "www-authenticate", "proxy-authenticate", "authentication-info")
"""Response fields that may carry a credential and that no later client needs."""


def keeps(request: RequestHead, response: ResponseHead, *, storable: bool, shared: bool, expectation: Expectation) -> bool:
    """Whether a response is worth keeping.

    A shared store keeps what RFC 9111 lets it, and what a digest proves if it was asked for without credentials. A private one
    keeps every file, page, absence and redirect of a package host, whatever ``Cache-Control`` says, for failure and offline;
    reuse without asking is another question, which the core and the digest answer.
    """
    if request.method != "GET" or "range" in request.headers:
        return False
    if response.status in REDIRECTS and has_secret(response.headers.get("location") or ""):
        return False  # signed or temporary: useless and a secret (design.md §3)
    if shared:
        return storable or (response.status == 200 and expectation.proves and not has_credentials(request))
    return storable or response.status in KEPT


def has_credentials(request: RequestHead) -> bool:
    """Whether the request carries credentials, in a field or in its URL."""
    return "authorization" in request.headers or "cookie" in request.headers or has_secret(request.url)


def without_private_fields(response: ResponseHead) -> ResponseHead:
    """The response as it is stored."""
    return dataclasses.replace(response, headers=response.headers.without(*PRIVATE_FIELDS))


def immutable(heads: Iterable[Head], expectation: Expectation) -> Head | None:
    """The stored body that a digest fixes for ever, unless a later word on that URL contradicts it."""
    for head in heads:
        if head.is_immutable and _agrees(head, expectation):
            return head
    return None


def provable(heads: Iterable[Head], expectation: Expectation) -> Head | None:
    """A body stored without proof whose own sha256 a digest that has become known confirms: it was right all along."""
    for head in heads:
        unproven = not head.proven and head.body is not None and head.response.head.status == 200
        if unproven and (head.body in expectation.digests or head.body in expectation.any_of):
            return head
    return None


def _agrees(head: Head, expectation: Expectation) -> bool:
    known = (head.body, *head.proven)
    for digest in expectation.digests:
        same = [d for d in known if d is not None and d.algorithm == digest.algorithm]
        if same and digest not in same:
            return False
    return (
        not expectation.any_of
        or any(d in known for d in expectation.any_of)
        or not any(d.algorithm == k.algorithm for d in expectation.any_of for k in known if k is not None)
    )


def stand_in(request: RequestHead, heads: Sequence[Head]) -> Head | None:
    """The stored variant to serve when upstream cannot be asked: one that ``Vary`` selects, else one the client can read.

    The newest of the best. A client that asks for JSON is content with HTML if it says so: an index page seen by one tool
    then serves another one offline.
    """
    mine = [h for h in heads if can_reuse_for(request, h.response)]
    readable = [h for h in heads if _readable(request, h)]
    for choice in (mine, readable):
        if choice:
            return max(choice, key=lambda h: h.response.response_time)
    return None


def _readable(request: RequestHead, head: Head) -> bool:
    if any(name in {"authorization", "cookie"} for name, _ in head.response.vary):
        return False
    headers = head.response.head.headers
    return (
        head.response.head.status != 200 or acceptable(request.headers.get("accept"), headers.get("content-type") or "")
    ) and decodable(request.headers.get("accept-encoding"), headers.get("content-encoding"))


def refreshing(request: RequestHead) -> RequestHead:
    """The request as ``--refresh`` has it looked up: nothing volatile is used without asking."""
    return dataclasses.replace(request, headers=Headers([*request.headers.without("cache-control"), ("Cache-Control", "no-cache")]))
