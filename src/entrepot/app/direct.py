"""Serving without a store: straight from upstream, but still never a complete wrong file.

Used when the store fails under a transfer. What a digest is known for is checked while it streams, its end held back in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

from entrepot.app.facts import Expectation
from entrepot.app.policy import HELD_BACK
from entrepot.digests import Hasher
from entrepot.errors import DigestMismatch, TruncatedBody
from entrepot.heads import redacted_url


async def verified(
    pieces: AsyncIterator[bytes], expectation: Expectation, *, url: str, hasher: Hasher | None = None
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
    if not expectation.proves:
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
            f"{shown} has {hasher.digest(wrong.algorithm)}, its index says {wrong}", url=shown, expected=str(wrong)
        )
    for piece in held:
        yield piece


async def without_start(pieces: AsyncIterator[bytes], count: int, *, url: str) -> AsyncIterator[bytes]:
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
