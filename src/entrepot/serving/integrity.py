"""Checks of a body against what its head announced and what is known of it: pure functions."""

from __future__ import annotations

import dataclasses

from entrepot.digests import Digest, Hasher
from entrepot.errors import DigestMismatch, TruncatedBody
from entrepot.httpcache.messages import ResponseHead
from entrepot.serving.known_files import Expectation
from entrepot.serving.policy import VERIFIED_STATUSES
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
    """A digest that the body should have had and has not."""
    return expectation.mismatch(hasher) if is_file(response) else None


def check_digest(
    response: ResponseHead, expectation: Expectation, hasher: Hasher, *, url: str
) -> None:
    """Refuse a body that has not the known digest.

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
    """Refuse a body of another size than is known, else than announced, unless a digest says that it is the index that errs.

    Raises:
        TruncatedBody: it is too short.
        DigestMismatch: it is too long.
    """
    have, wanted = hasher.size, known_size(response, expectation)
    if wanted is None:
        wanted = announced
    right = (
        expectation.checks
        and is_file(response)
        and wrong_digest(response, expectation, hasher) is None
    )
    if wanted is None or have == wanted or right:
        return
    if have < wanted:
        raise TruncatedBody(
            f"the body ended after {have} of {wanted} bytes", url=url, received=have
        )
    raise DigestMismatch(f"{url} is longer than the {wanted} bytes it should have", url=url)


def finished(draft: Head, expectation: Expectation, hasher: Hasher, *, elsewhere: bool) -> Head:
    """The head of a body that is whole and right.

    Args:
        draft: made when it began.
        expectation: what was known of it.
        hasher: fed with all of it.
        elsewhere: whether another address than the head's sent it; its freshness is not this one's.
    """
    proven = expectation.proven_by(hasher) if is_file(draft.response.head) else ()
    return dataclasses.replace(
        draft,
        body=hasher.digest() if hasher.size else None,
        response=dataclasses.replace(draft.response, size=hasher.size),
        proven=proven,
        reserve=draft.reserve or (elsewhere and not proven),
    )
