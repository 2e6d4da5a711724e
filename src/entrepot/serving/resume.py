"""Rules of resuming and redirecting a transfer: pure functions of heads.

What a partial body may be continued with.

Source: RFC 9110 §13.1.5 (If-Range), §14 (ranges), §15.4 (redirects).
"""

from __future__ import annotations

import dataclasses
from urllib.parse import urljoin, urlsplit

from entrepot.digests import Hasher
from entrepot.httpcache.fields import entity_tag, http_date
from entrepot.httpcache.messages import RequestHead, ResponseHead, StoredResponse
from entrepot.httpcache.policy import selecting_values
from entrepot.ports.store import Blob, Growing
from entrepot.stored import Head

READ = 1 << 18
"""Bytes read from a growing file at a time."""


def as_kept(
    request: RequestHead, response: ResponseHead, sent: float, now: float
) -> StoredResponse:
    """A response that HTTP would not store, as the policy keeps it."""
    vary = selecting_values(response.headers.get("vary"), request.headers) or ()
    return StoredResponse(response, vary, sent, now)


def hash_partial(growing: Growing, hasher: Hasher, size: int) -> Hasher:
    """Feed the first ``size`` bytes of what an earlier leader wrote."""
    while hasher.size < size and (
        piece := growing.read(hasher.size, min(READ, size - hasher.size))
    ):
        hasher.feed(piece)
    return hasher


def starts_alike(growing: Growing, blob: Blob) -> bool:
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
    """Whether a 206 carries exactly what is missing of what ``began`` (RFC 9110 §14.4, §15.3.7.3)."""
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


def resuming(request: RequestHead, draft: Head, have: int) -> RequestHead:
    """The request for the rest (RFC 9110 §14.2), on condition that it is still the same (§13.1.5)."""
    headers = request.headers.without("range", "if-range", "if-none-match", "if-modified-since")
    headers = headers.added("Range", f"bytes={have}-")
    validator = range_validator(draft.response.head)
    if validator:
        headers = headers.added("If-Range", validator)
    return dataclasses.replace(request, headers=headers)


def redirected(request: RequestHead, location: str) -> RequestHead:
    """The request that follows a redirect."""
    url = urljoin(request.url, location).partition("#")[0]
    headers = request.headers
    if urlsplit(url).netloc != urlsplit(request.url).netloc:
        # Credentials are for the host they were given for (RFC 9110 §15.4).
        headers = headers.without("authorization", "cookie", "host")
    return RequestHead(request.method, url, headers)
