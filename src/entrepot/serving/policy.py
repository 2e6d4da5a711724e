"""The policy for packages, on top of RFC 9111 and apart from it.

Pure rules: what a private cache of packages keeps although HTTP would not let it be *reused*, with
which head; what is fixed by its digest; which stored variant is the fallback when there is no
network; which failures are tried again. Reasons: docs/explanation/how-run-works.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from entrepot.channel.forms import tells_of_archives
from entrepot.httpcache.fields import http_date
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead, StoredResponse
from entrepot.httpcache.policy import can_reuse_for
from entrepot.names import classify, filename_of, normalize
from entrepot.redaction import has_secret, redacted_url
from entrepot.serving.known_files import Expectation
from entrepot.simple.negotiate import acceptable, decodable, is_simple_type
from entrepot.stored import Head
from entrepot.urls import authority_of, canonical_url, split_url

RETRIED = frozenset({408, 429, 500, 502, 503, 504, *range(520, 525)})
"""Statuses that a second try on a new connection may cure; 520 to 524 are a large delivery
network's own."""
NEGATIVES = frozenset({404, 410})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
KEPT = frozenset({200, 203}) | NEGATIVES | REDIRECTS
"""Statuses that a private store keeps for failure and offline."""
HELD_BACK = 1 << 16
"""Bytes at a body's end that nobody is sent until its digest is known to be right."""
BACKOFF_S = (0.1, 0.5)
"""Waits before the second and the third try."""
PATIENCE_S = 5.0
"""The longest ``Retry-After`` that is waited for; a longer one is the client's to wait for, with
the answer that says so."""
MAX_ATTEMPTS = 6
"""Tries that one transfer may take when each brings more of the body; without progress three,
silent ones two."""
REMEMBERED_S = 10.0
"""How long a URL whose digest was wrong twice is not asked again: clients repeat themselves at
once."""
VERIFIED_STATUSES = frozenset({200, 203})
"""Statuses under which the whole body comes, which must have the known digest."""
PRIVATE_FIELDS = (
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    "proxy-authenticate",
    "authentication-info",
)
"""Response fields that may carry a credential and that no later client needs."""
HARMLESS = frozenset(
    (
        "accept accept-charset accept-encoding accept-language cache-control host if-match "
        "if-modified-since if-none-match if-range if-unmodified-since pragma range user-agent"
    ).split()
)
"""Lower-case names of request fields without credentials. Nobody can list all that carry one
(``X-JFrog-Art-Api``, ``Private-Token``, ...), so every other field is taken for a credential."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How this proxy serves."""

    offline: bool = False
    refresh: bool = False
    no_store: bool = False
    shared: bool = False
    """Whether the store serves several users."""
    caches: Callable[[RequestHead], bool] = lambda _request: True
    """Whether a request is for a package host: others are passed on and nothing else."""


def credentials(request: RequestHead) -> list[tuple[str, str]]:
    """The fields that may carry a credential, their names in lower case, sorted."""
    return sorted(
        (name.lower(), value) for name, value in request.headers if name.lower() not in HARMLESS
    )


def has_credentials(request: RequestHead) -> bool:
    """Whether the request may carry credentials, in a field or in its URL."""
    return not request.headers.names() <= HARMLESS or has_secret(request.url)


def is_personal(head: Head) -> bool:
    """Whether credentials selected a stored variant (``Vary``)."""
    return any(
        name not in HARMLESS and (value is not None or name in {"authorization", "cookie"})
        for name, value in head.response.vary
    )


def sent_to(url: str, request: RequestHead) -> RequestHead:
    """The request with another URL. Nothing secret reaches another scheme, host or port.

    Across origins only :data:`HARMLESS` fields stay. A user and password that a redirect names for
    another origin are dropped as well.

    Source: RFC 9110 §15.4; RFC 6454 §4 for what an origin is.
    """
    headers = request.headers.without("host")
    scheme, _, authority, tail = split_url(url)
    origin = authority_of(url)  # empty where there is none: then it is never the same
    if origin and (scheme, origin) == (split_url(request.url)[0], authority_of(request.url)):
        return RequestHead(request.method, url, headers)
    harmless = Headers([line for line in headers if line[0].lower() in HARMLESS])
    return RequestHead(request.method, f"{scheme}://{authority}{tail}", harmless)


def keeps(
    request: RequestHead,
    response: ResponseHead,
    *,
    storable: bool,
    shared: bool,
    expectation: Expectation,
) -> bool:
    """Whether a response is worth keeping. No error is, but for absences.

    A shared store keeps what RFC 9111 lets it, and what a digest proves if it was asked for without
    credentials. A private one keeps every file, page, absence and redirect of a package host,
    whatever ``Cache-Control`` says, for failure and offline; reuse without asking is another
    question, which the core and the digest answer.
    """
    if request.method != "GET" or "range" in request.headers:
        return False
    if response.status >= 400 and response.status not in NEGATIVES:
        # A refusal or a failure is of this moment and this client, whatever it says of itself
        return False
    if response.status in REDIRECTS and has_secret(response.headers.get("location") or ""):
        return False  # signed or temporary: useless and a secret
    if shared:
        return storable or (
            response.status == 200 and expectation.checks and not has_credentials(request)
        )
    return storable or response.status in KEPT


def without_private_fields(response: ResponseHead) -> ResponseHead:
    """The response as it is stored."""
    return dataclasses.replace(response, headers=response.headers.without(*PRIVATE_FIELDS))


def immutable(heads: Iterable[Head], expectation: Expectation) -> Head | None:
    """The stored body that a digest fixes, unless something newer on that URL contradicts it."""
    for head in heads:
        if head.is_immutable and confirmed(head, expectation):
            known = {d for d in (head.body, *head.proven) if d is not None}
            algorithms = {d.algorithm for d in known}
            compared = [d for d in expectation.any_of if d.algorithm in algorithms]
            if not compared or not known.isdisjoint(compared):
                return head
    return None


def provable(heads: Iterable[Head], expectation: Expectation) -> Head | None:
    """The head, now proven, of a body whose own sha256 a digest that has become known confirms."""
    for head in heads:
        if head.proven or head.body is None or head.response.head.status != 200:
            continue
        if (head.body,) in expectation.named or head.body in expectation.any_of:
            return dataclasses.replace(head, proven=(head.body,), reserve=False)
    return None


def agrees(head: Head, expectation: Expectation) -> bool:
    """Whether what is stored may be what one witness names.

    An absence or a redirect has no digest.
    """
    if not expectation.named or head.response.head.status not in VERIFIED_STATUSES:
        return True
    known = {d.algorithm: d for d in (head.body, *head.proven) if d is not None}
    return any(all(known.get(d.algorithm, d) == d for d in each) for each in expectation.named)


def confirmed(head: Head, expectation: Expectation) -> bool:
    """Whether what is stored certainly is what one witness names.

    What merely may be must be hashed before it is served.
    """
    if not expectation.named or head.response.head.status not in VERIFIED_STATUSES:
        return True
    return any({head.body, *head.proven}.issuperset(each) for each in expectation.named)


def usable(heads: Iterable[Head], expectation: Expectation, *, shared: bool) -> list[Head]:
    """The stored responses that RFC 9111 alone may reuse.

    Not what is kept for failure only; not what a digest contradicts, or could prove and has not;
    and in a shared store nothing that needed credentials, because upstream has not seen this
    client's (see :func:`to_be_admitted`).
    """
    provable_only = VERIFIED_STATUSES if expectation.checks and expectation.proves else ()
    return [
        head
        for head in heads
        if not (head.reserve or (shared and head.credentialed))
        and (head.proven or head.response.head.status not in provable_only)
        and agrees(head, expectation)
    ]


def to_be_admitted(
    request: RequestHead, heads: Iterable[Head], expectation: Expectation
) -> Head | None:
    """What needed credentials in a shared store: used once upstream has accepted this client's."""
    if not has_credentials(request):
        return None
    mine = (h for h in heads if h.credentialed and agrees(h, expectation))
    return _newest(h for h in mine if can_reuse_for(request, h.response))


def pause_s(attempt: int, response: ResponseHead, now: float) -> float | None:
    """Seconds to wait before asking again after an answer with a status of :data:`RETRIED`.

    ``None``: not again, upstream wants to be left alone. ``attempt`` is 0 for the first; ``now`` is
    in seconds since the epoch. Only 429 and 503 are believed about ``Retry-After``.

    Source: RFC 9110 §10.2.3, RFC 6585 §4.
    """
    own = BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]
    value = (
        (response.headers.get("retry-after") or "").strip() if response.status in {429, 503} else ""
    )
    if not value:
        return own
    if value.isascii() and value.isdigit():
        wanted: float = min(int(value[:9]), 1 << 30)
    else:
        at = http_date(value, now)
        wanted = at - now if at is not None else 0
    return max(own, wanted) if wanted <= PATIENCE_S else None


def fallback_variant(request: RequestHead, heads: Sequence[Head]) -> Head | None:
    """The stored variant to serve when upstream cannot be asked.

    One that ``Vary`` selects, else one the client can read; the newest of these. A client that asks
    for JSON is content with HTML if it says so: an index page seen by one tool then serves another
    one offline.
    """
    mine = _newest(h for h in heads if can_reuse_for(request, h.response))
    readable = _newest(h for h in heads if _readable(request, h))
    if mine is None or readable is None:
        return mine or readable
    # an absence that was cured since, as another tool has seen
    cured = (
        mine.response.head.status in NEGATIVES
        and readable.response.response_time > mine.response.response_time
    )
    return readable if cured else mine


def _newest(heads: Iterable[Head]) -> Head | None:
    return max(heads, key=lambda h: h.response.response_time, default=None)


def _readable(request: RequestHead, head: Head) -> bool:
    headers = head.response.head.headers
    return (
        not is_personal(head)
        and (
            head.response.head.status != 200
            or acceptable(request.headers.get("accept"), headers.get("content-type") or "")
        )
        and decodable(request.headers.get("accept-encoding"), headers.get("content-encoding"))
    )


def refreshing(request: RequestHead) -> RequestHead:
    """The request as ``--refresh`` has it looked up: nothing volatile is used without asking."""
    return dataclasses.replace(
        request,
        headers=Headers([*request.headers.without("cache-control"), ("Cache-Control", "no-cache")]),
    )


def draft_head(
    request: RequestHead,
    stored: StoredResponse,
    expectation: Expectation,
    *,
    shared: bool,
    reserve: bool,
) -> Head:
    """The head of a response whose body is not known yet.

    What the page said of the file goes before what its name says. ``reserve`` is whether it is kept
    for failure and offline alone.
    """
    link, named = expectation.link, classify(filename_of(request.url))
    kind = named.kind if named is not None else (link.kind if link is not None else "other")
    project = (link and link.project) or (named and named.project) or None
    if kind == "other" and tells_of_archives(request.url):
        kind = "page"
    elif kind == "other" and (
        is_index_page(request.url, stored.head.headers.get("content-type") or "")
        or (stored.head.status in NEGATIVES and asks_for_index_page(request))
    ):
        kind, project = "page", project or page_project(request.url)
    return Head(
        url=redacted_url(canonical_url(request.url)),
        method="GET",
        response=dataclasses.replace(stored, head=without_private_fields(stored.head)),
        body=None,
        shared=shared,
        credentialed=has_credentials(request),
        reserve=reserve,
        project=project,
        version=(link and link.version) or (named and named.version) or None,
        filename=(link and link.filename) or (named and named.filename) or None,
        kind=kind,
        upload_time=link.upload_time if link is not None else None,
    )


def is_index_page(url: str, content_type: str) -> bool:
    """Whether a response is an index page: by its type, or as HTML below ``/simple/`` (PEP 503)."""
    return is_simple_type(content_type) or (
        "html" in content_type.lower() and "/simple/" in urlsplit(url).path
    )


def asks_for_index_page(request: RequestHead) -> bool:
    """Whether a client asks for a project's index page.

    What an index answers that has no such project may be of any type.

    By what it accepts (PEP 691), or by where indexes keep their pages; their URLs end with a slash
    (PEP 503).
    """
    path = urlsplit(request.url).path
    accepted = request.headers.get("accept") or ""
    return path.endswith("/") and ("application/vnd.pypi.simple" in accepted or "/simple/" in path)


def page_project(url: str) -> str | None:
    """The project whose page a URL is, by the last segment of its path (PEP 503).

    ``None`` for the list of all projects.

    >>> page_project("https://index.test/simple/Some_Project/")
    'some-project'
    """
    segments = [segment for segment in urlsplit(url).path.split("/") if segment]
    return normalize(segments[-1]) if len(segments) > 1 and segments[-1] != "simple" else None
