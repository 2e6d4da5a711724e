"""What happens on a wrong digest or length.

A download is refused and asked for once more (``fetch.py``), the end of a body is held back until
the whole is known to be right, and a stored body that a digest contradicts is not used.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable

from entrepot.digests import Digest, Hasher
from entrepot.errors import DigestMismatch, TruncatedBody
from entrepot.httpcache.messages import ResponseHead
from entrepot.redaction import redacted_url
from entrepot.serving.known_files import Expectation
from entrepot.serving.lookup import READ, Entries
from entrepot.serving.policy import HELD_BACK, VERIFIED_STATUSES, agrees, confirmed
from entrepot.stored import Head


def is_file(response: ResponseHead) -> bool:
    """Whether the body is what is asked for, not an error's text or a redirect's."""
    return response.status in VERIFIED_STATUSES


def fed(hasher: Hasher, read: Callable[[int, int], bytes], size: int) -> Hasher:
    """The hasher, fed with what ``read(start, count)`` gives of a body's first ``size`` bytes."""
    while hasher.size < size and (piece := read(hasher.size, min(READ, size - hasher.size))):
        hasher.feed(piece)
    return hasher


def content_length(head: ResponseHead) -> int | None:
    """Bytes of content the head announces; ``None`` when it does not say (or says nonsense)."""
    text = (head.headers.get("content-length") or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def known_size(response: ResponseHead, expectation: Expectation) -> int | None:
    """Bytes that the index says the body has; of a coded body it says nothing."""
    is_plain = is_file(response) and "content-encoding" not in response.headers
    return expectation.size if is_plain else None


def wrong_digest(response: ResponseHead, expectation: Expectation, hasher: Hasher) -> Digest | None:
    """The expected digest that the body does not match."""
    return expectation.mismatch(hasher) if is_file(response) else None


def digest_mismatch(url: str, wrong: Digest, hasher: Hasher) -> DigestMismatch:
    """The error of a body that does not match; ``url`` is redacted."""
    actual = hasher.digest(wrong.algorithm)
    text = f"{url} has {actual}, its index says {wrong}"
    return DigestMismatch(text, url=url, expected=str(wrong), actual=str(actual))


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


async def verified(
    pieces: AsyncIterator[bytes],
    expectation: Expectation,
    *,
    url: str,
    hasher: Hasher | None = None,
) -> AsyncIterator[bytes]:
    """The pieces, the last 64 KiB of them only once the whole is known to be right.

    ``hasher`` was fed with what the client has already. Where no digest is known all passes at
    once.

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
        raise digest_mismatch(redacted_url(url), wrong, hasher)
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
            continue
        hasher = await entries.read_body(
            head, lambda blob: fed(expectation.hasher(), blob.read, blob.size)
        )
        if hasher is None or expectation.mismatch(hasher) is not None:
            continue
        proven = tuple(dict.fromkeys((*head.proven, *expectation.proven_by(hasher))))
        if proven != head.proven:
            head = await entries.save(  # noqa: PLW2901
                url, dataclasses.replace(head, proven=proven, reserve=False)
            )
        if proven:  # md5 makes nothing immutable, and what is immutable not less so
            right = next(each for each in expectation.named if hasher.mismatch(each) is None)
            proven = tuple(dict.fromkeys((*proven, *right)))
        found.append(dataclasses.replace(head, proven=proven))
    return found
