"""Rules of resuming and redirecting a transfer: pure functions of heads. What a partial body may be continued with.

Source: RFC 9110 §13.1.5 (If-Range), §14 (ranges), §15.4 (redirects).
"""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from entrepot.digests import Hasher
from entrepot.httpcache import selecting_values
from entrepot.httpcache.messages import RequestHead, ResponseHead, StoredResponse
from entrepot.ports.store import Growing

READ = 1 << 18
"""Bytes read from a growing file at a time."""


def as_kept(request: RequestHead, response: ResponseHead, sent: float, now: float) -> StoredResponse:
    """A response that HTTP would not store, as the policy keeps it."""
    vary = selecting_values(response.headers.get("vary"), request.headers) or ()
    return StoredResponse(response, vary, sent, now)


def hash_partial(growing: Growing, hasher: Hasher, size: int) -> Hasher:
    """Feed the first ``size`` bytes of what an earlier leader wrote."""
    while hasher.size < size and (piece := growing.read(hasher.size, min(READ, size - hasher.size))):
        hasher.feed(piece)
    return hasher


def range_validator(head: ResponseHead) -> str | None:
    """What If-Range may carry: a strong entity tag, else Last-Modified (RFC 9110 §13.1.5)."""
    tag = head.headers.get("etag")
    return tag if tag and not tag.startswith("W/") else head.headers.get("last-modified")


def content_length(head: ResponseHead) -> int | None:
    """Bytes of content the head announces; ``None`` when it does not say (or says nonsense)."""
    text = (head.headers.get("content-length") or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def continues(head: ResponseHead, have: int, total: int | None) -> bool:
    """Whether a 206 carries exactly what is missing (RFC 9110 §14.4)."""
    text = (head.headers.get("content-range") or "").strip().lower()
    if not text.startswith(f"bytes {have}-"):
        return False
    whole = text.rpartition("/")[2]
    return total is None or whole in {"*", str(total)}


def redirected(request: RequestHead, location: str) -> RequestHead:
    """The request that follows a redirect."""
    url = urljoin(request.url, location).partition("#")[0]
    headers = request.headers
    if urlsplit(url).netloc != urlsplit(request.url).netloc:
        # Credentials are for the host they were given for (RFC 9110 §15.4).
        headers = headers.without("authorization", "cookie", "host")
    return RequestHead(request.method, url, headers)
