"""Serving without a store: straight from upstream, but still never a complete wrong file.

Used when the store fails under a transfer. What a digest is known for is checked while it streams,
its end held back in memory.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import AsyncIterator

from entrepot.digests import Hasher
from entrepot.errors import DigestMismatch, TruncatedBody
from entrepot.httpcache.messages import RequestHead
from entrepot.ports.upstream import Upstream
from entrepot.serving.known_files import Expectation
from entrepot.serving.policy import HELD_BACK
from entrepot.serving.resume import as_it_is, continues, range_validator
from entrepot.serving.transfer import Flight
from entrepot.stored import redacted_url


async def verified(
    pieces: AsyncIterator[bytes],
    expectation: Expectation,
    *,
    url: str,
    hasher: Hasher | None = None,
) -> AsyncIterator[bytes]:
    """The pieces, the last 64 KiB of them only once the whole is known to be right.

    Args:
        pieces: from where the client's copy ends.
        expectation: what the whole must be; when it knows no digest everything passes at once.
        url: for the message.
        hasher: fed with what the client has already.

    Raises:
        DigestMismatch: the whole is wrong; its end was not given out.
    """
    if not expectation.checks:
        async for piece in pieces:
            yield piece
        return
    hasher = hasher or expectation.hasher()
    held: deque[bytes] = deque()
    size = 0
    async for piece in pieces:
        hasher.feed(piece)
        held.append(piece)
        size += len(piece)
        while size - len(held[0]) >= HELD_BACK:
            size -= len(held[0])
            yield held.popleft()
    wrong = expectation.mismatch(hasher)
    if wrong is not None:
        shown = redacted_url(url)
        raise DigestMismatch(
            f"{shown} has {hasher.digest(wrong.algorithm)}, its index says {wrong}",
            url=shown,
            expected=str(wrong),
        )
    for piece in held:
        yield piece


async def rest_of(
    flight: Flight, request: RequestHead, expectation: Expectation, upstream: Upstream, at: int
) -> AsyncIterator[bytes]:
    """The body from ``at`` on, from upstream, when the store has failed and the client has the bytes before.

    Raises:
        UpstreamError: it cannot be had, or is not the rest of what the client has.
    """
    hasher = expectation.hasher()
    while hasher.size < at and (piece := flight.read(hasher.size, at - hasher.size)):
        hasher.feed(piece)
    began = flight.draft.response.head if flight.draft is not None else None
    headers = request.headers.added("Range", f"bytes={at}-")
    validator = range_validator(began) if began is not None else None
    if validator:
        headers = headers.added("If-Range", validator)
    asked = dataclasses.replace(request, headers=headers)
    answer = await upstream.send(
        as_it_is(asked) if expectation.checks else asked, fresh_connection=True
    )
    try:
        if (
            began is not None
            and answer.head.status == 206
            and continues(answer.head, at, flight.total, began)
        ):
            pieces = answer.chunks()
        elif answer.head.status == 200:
            pieces = without_start(answer.chunks(), at, url=request.url)
        else:
            shown = redacted_url(request.url)
            raise TruncatedBody(
                f"upstream answered {answer.head.status} for the rest", url=shown, received=at
            )
        async for piece in verified(pieces, expectation, url=request.url, hasher=hasher):
            yield piece
    finally:
        await answer.aclose()


async def without_start(
    pieces: AsyncIterator[bytes], count: int, *, url: str
) -> AsyncIterator[bytes]:
    """The pieces less their first ``count`` bytes, for an upstream that serves no ranges.

    Raises:
        TruncatedBody: there were not that many.
    """
    async for piece in pieces:
        rest = piece[count:]
        count = max(0, count - len(piece))
        if rest:
            yield rest
    if count:
        raise TruncatedBody("upstream's body is shorter than it was", url=redacted_url(url))
