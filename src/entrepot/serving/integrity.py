"""What happens on a wrong digest or length.

A download is refused and asked for once more (``fetch.py``), the end of a body is held back until
the whole is known to be right, and a stored body that a digest contradicts is not used.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import AsyncIterator, Iterable

from entrepot.digests import Digest, Hasher
from entrepot.errors import DigestMismatch, TruncatedBody
from entrepot.httpcache.messages import ResponseHead
from entrepot.redaction import redacted_url
from entrepot.serving.known_files import Expectation
from entrepot.serving.lookup import Entries
from entrepot.serving.policy import HELD_BACK, VERIFIED_STATUSES, agrees, confirmed
from entrepot.serving.resume import hash_partial
from entrepot.stored import Head


def is_file(response: ResponseHead) -> bool:
    """Whether the body is what is asked for, not an error's text or a redirect's."""
    return response.status in VERIFIED_STATUSES


def known_size(response: ResponseHead, expectation: Expectation) -> int | None:
    """Bytes that the index says the body has; of a coded body it says nothing."""
    return (
        expectation.size
        if is_file(response) and "content-encoding" not in response.headers
        else None
    )


def wrong_digest(response: ResponseHead, expectation: Expectation, hasher: Hasher) -> Digest | None:
    """The expected digest that the body does not match."""
    return expectation.mismatch(hasher) if is_file(response) else None


def check_digest(
    response: ResponseHead, expectation: Expectation, hasher: Hasher, *, url: str
) -> None:
    """Refuse a body that does not match the known digest.

    Raises:
        DigestMismatch: with both of them.
    """
    wrong = wrong_digest(response, expectation, hasher)
    if wrong is not None:
        actual = hasher.digest(wrong.algorithm)
        raise DigestMismatch(
            f"{url} has {actual}, its index says {wrong}",
            url=url,
            expected=str(wrong),
            actual=str(actual),
        )


def check_length(
    response: ResponseHead,
    expectation: Expectation,
    hasher: Hasher,
    *,
    announced: int | None,
    url: str,
) -> None:
    """Refuse a body of another size than is known, or else than is announced.

    But not where a known digest shows that the index errs.

    Raises:
        TruncatedBody: it is too short.
        DigestMismatch: it is too long.
    """
    have, wanted = hasher.size, known_size(response, expectation)
    wanted = announced if wanted is None else wanted
    if wanted is None or have == wanted:
        return
    if expectation.checks and is_file(response) and expectation.mismatch(hasher) is None:
        return
    if have < wanted:
        raise TruncatedBody(
            f"the body ended after {have} of {wanted} bytes", url=url, received=have
        )
    raise DigestMismatch(f"{url} is longer than the {wanted} bytes it should have", url=url)


def finished(draft: Head, expectation: Expectation, hasher: Hasher) -> Head:
    """The head of a body that is whole and right.

    Args:
        draft: made when it began.
        expectation: what was known of it.
        hasher: fed with all of it.
    """
    proven = expectation.proven_by(hasher) if is_file(draft.response.head) else ()
    return dataclasses.replace(
        draft,
        body=hasher.digest() if hasher.size else None,
        response=dataclasses.replace(draft.response, size=hasher.size),
        proven=proven,
    )


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


async def checked(
    entries: Entries, url: str, heads: Iterable[Head], expectation: Expectation
) -> list[Head]:
    """The stored heads of a URL without those whose bodies a digest contradicts.

    A digest that was not compared so far is compared now, by reading all of the body. What its
    head contradicts already stays: it is told apart by :func:`~entrepot.serving.policy.agrees`.
    """
    found = []
    for head in heads:
        if confirmed(head, expectation) or not agrees(head, expectation):
            found.append(head)
        elif (hashed := await _hashed(entries, url, head, expectation)) is not None:
            found.append(hashed)
    return found


async def _hashed(entries: Entries, url: str, head: Head, expectation: Expectation) -> Head | None:
    """The head of a stored body that has what a witness names; ``None`` when it has not."""
    blob = await entries.open_body(head)
    if blob is None:
        return None
    try:
        hasher = await asyncio.to_thread(hash_partial, blob, expectation.hasher(), blob.size)
    finally:
        blob.close()
    if expectation.mismatch(hasher) is not None:
        return None
    proven = tuple(dict.fromkeys((*head.proven, *expectation.proven_by(hasher))))
    if proven != head.proven:
        head = await entries.save(url, dataclasses.replace(head, proven=proven, reserve=False))
    if not proven:
        return head  # md5 makes nothing immutable, and what is immutable not less so
    right = next(each for each in expectation.named if hasher.mismatch(each) is None)
    return dataclasses.replace(head, proven=tuple(dict.fromkeys((*proven, *right))))
