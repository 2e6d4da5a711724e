"""Rules of resuming and redirecting a transfer: pure functions of heads.

What a partial body may be continued with, and which fields may be sent to another address.

Source: RFC 9110 §13.1.5 (If-Range), §14 (ranges), §15.4 (redirects).
"""

from __future__ import annotations

import dataclasses
from urllib.parse import urljoin

from entrepot.digests import Hasher
from entrepot.httpcache.fields import entity_tag, http_date
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead, StoredResponse
from entrepot.httpcache.policy import selecting_values
from entrepot.ports.store import Blob, PartialFile
from entrepot.simple.negotiate import decodable_here
from entrepot.stored import Head
from entrepot.urls import authority_of

READ = 1 << 18
"""Bytes read from a growing file at a time."""
HARMLESS = frozenset(
    (
        "accept accept-charset accept-encoding accept-language cache-control if-match "
        "if-modified-since if-none-match if-range if-unmodified-since pragma range user-agent"
    ).split()
)
"""Lower-case names of request fields without credentials; all others stay with their origin."""


def as_kept(
    request: RequestHead, response: ResponseHead, sent: float, now: float
) -> StoredResponse:
    """A response that HTTP would not store, as the policy keeps it."""
    vary = selecting_values(response.headers.get("vary"), request.headers) or ()
    return StoredResponse(response, vary, sent, now)


def hash_partial(body: Blob | PartialFile, hasher: Hasher, size: int) -> Hasher:
    """Feed the first ``size`` bytes of a stored body, or of what an earlier process wrote."""
    while hasher.size < size and (piece := body.read(hasher.size, min(READ, size - hasher.size))):
        hasher.feed(piece)
    return hasher


def starts_alike(growing: PartialFile, blob: Blob) -> bool:
    """Whether a stored body begins with what was read of a growing file; reads both."""
    size, at = growing.size(), 0
    while at < size <= blob.size:
        piece = growing.read(at, min(READ, size - at))
        if not piece or piece != blob.read(at, len(piece)):
            return False
        at += len(piece)
    return at >= size


def range_validator(head: ResponseHead) -> str | None:
    """What If-Range may carry.

    A strong entity tag, else a Last-Modified that is strong (RFC 9110 §13.1.5, §8.8.2.2).
    """
    tag = entity_tag(head.headers.get("etag"))
    if tag is not None and not tag.weak:
        return head.headers.get("etag")
    modified = head.headers.get("last-modified")
    date, changed = (http_date(head.headers.get(name), 0) for name in ("date", "last-modified"))
    # "... a Date value that is at least one second after the Last-Modified value"
    return modified if date is not None and changed is not None and date > changed else None


def content_length(head: ResponseHead) -> int | None:
    """Bytes of content the head announces; ``None`` when it does not say (or says nonsense)."""
    text = (head.headers.get("content-length") or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def announced(head: ResponseHead, known: int | None) -> int | None:
    """Bytes that a client may be told to expect.

    Where upstream and the index contradict each other neither is believed: the body's end, or its
    digest, tells.

    Args:
        head: upstream's.
        known: what the index says of the whole.
    """
    length = content_length(head)
    return (
        (length if length is not None else known)
        if known is None or length in {None, known}
        else None
    )


def continues(head: ResponseHead, have: int, total: int | None, began: ResponseHead) -> bool:
    """Whether a 206 carries just what is missing of what ``began`` (RFC 9110 §14.4, §15.3.7.3)."""
    tags = [entity_tag(each.headers.get("etag")) for each in (began, head)]
    if tags[0] is not None and tags[1] is not None and tags[0] != tags[1]:
        return False  # If-Range was ignored, by a mirror that has another file
    text = (head.headers.get("content-range") or "").strip().lower()
    if not text.startswith(f"bytes {have}-"):
        return False
    whole = text.rpartition("/")[2]
    return total is None or whole in {"*", str(total)}


def as_it_is(request: RequestHead) -> RequestHead:
    """The request for the file itself.

    Digests are of that, not of what a server makes of it on the way (RFC 9110 §12.5.3).
    """
    return dataclasses.replace(
        request, headers=request.headers.replaced("Accept-Encoding", "identity")
    )


def as_readable(request: RequestHead) -> RequestHead:
    """The request for an index, in no coding that cannot be read here (``br``)."""
    asked = request.headers.get("accept-encoding")
    if asked is None:
        return request
    headers = request.headers.replaced("Accept-Encoding", decodable_here(asked))
    return dataclasses.replace(request, headers=headers)


def resuming(request: RequestHead, draft: Head, have: int) -> RequestHead:
    """The request for the rest (RFC 9110 §14.2), if it is still the same (§13.1.5)."""
    headers = request.headers.without("range", "if-range", "if-none-match", "if-modified-since")
    headers = headers.added("Range", f"bytes={have}-")
    validator = range_validator(draft.response.head)
    if validator:
        headers = headers.added("If-Range", validator)
    return dataclasses.replace(request, headers=headers)


def redirected(request: RequestHead, location: str) -> RequestHead:
    """The request that follows a redirect."""
    return sent_to(urljoin(request.url, location).partition("#")[0], request)


def sent_to(url: str, request: RequestHead) -> RequestHead:
    """The request with another URL. Nothing secret reaches another scheme, host or port.

    Across origins only :data:`HARMLESS` fields stay: nobody can list all that carry a credential
    (``X-JFrog-Art-Api``, ``Private-Token``, ...). A user and password that a redirect names for
    another origin are dropped as well.

    Source: RFC 9110 §15.4; RFC 6454 §4 for what an origin is.
    """
    if _is_same_origin(url, request.url):
        return RequestHead(request.method, url, request.headers.without("host"))
    headers = Headers([line for line in request.headers if line[0].lower() in HARMLESS])
    scheme, _, rest = url.partition("://")
    end = min((i for i in (rest.find(c) for c in "/?#") if i >= 0), default=len(rest))
    authority = rest[:end].rpartition("@")[2]
    return RequestHead(request.method, f"{scheme}://{authority}{rest[end:]}", headers)


def _is_same_origin(url: str, other: str) -> bool:
    """Whether scheme, host and port are equal; never so for a URL that has none."""
    authority = authority_of(url)
    schemes = [each.partition(":")[0].lower() for each in (url, other)]
    return authority != "" and authority == authority_of(other) and schemes[0] == schemes[1]
