"""Taking over what another tool's cache holds, in place of asking upstream for it once more.

Online only what a digest proves is taken; offline also pages, because a stale page that a tool has
seen beats none. What was found by its name alone is never taken without a digest.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence

from entrepot.digests import Hasher
from entrepot.errors import Busy, StoreError
from entrepot.httpcache import is_storable
from entrepot.httpcache.messages import RequestHead, StoredResponse
from entrepot.ports.reuse import Donation, Donor
from entrepot.serving.known_files import Expectation
from entrepot.serving.lookup import Entries
from entrepot.serving.new_entry import draft_head
from entrepot.stored import Head, body_key

CHUNK = 1 << 20


class Donations:
    """What is taken over from other tools' caches.

    Args:
        find: finds them; called once, in a thread.
        entries: where it is kept.
        shared: whether the store serves several users: then nothing that needed credentials is
            taken.
    """

    def __init__(
        self, find: Callable[[], Sequence[Donor]], entries: Entries, *, shared: bool
    ) -> None:
        self._find = find
        self._search: asyncio.Task[Sequence[Donor]] | None = None
        self._entries = entries
        self._shared = shared

    async def take_over(
        self, request: RequestHead, expectation: Expectation, *, unproven: bool = False
    ) -> Head | None:
        """The stored head of what a donor had for this URL; ``None`` when none had what is wanted.

        Args:
            request: a GET or HEAD of a client.
            expectation: what the body must be; when it proves nothing, any body will do.
            unproven: whether a donor is asked although nothing is known that would prove a body.
        """
        if not (expectation.proves or unproven):
            return None
        for donor in await asyncio.shield(self.sought()):
            donation = donor(request.url)
            if (
                donation is None
                or donation.head.status != 200
                or (self._shared and donation.credentialed)
            ):
                continue
            if donation.needs_proof and not expectation.proves:
                continue
            try:
                head = await _take(
                    request, self._entries, donation, expectation, shared=self._shared
                )
            except (StoreError, Busy) as exc:
                self._entries.failed(exc)
                return None
            if head is not None:
                return head
        return None

    def sought(self) -> asyncio.Task[Sequence[Donor]]:
        """The search for them, begun now if it was not before.

        It takes longer than many a download, so it is made once, however many ask at the same time,
        and is begun while the first page comes whose files may be asked for next.
        """
        if self._search is None:
            self._search = asyncio.create_task(asyncio.to_thread(self._find))
        return self._search


async def _take(
    request: RequestHead,
    entries: Entries,
    donation: Donation,
    expectation: Expectation,
    *,
    shared: bool,
) -> Head | None:
    hasher = expectation.hasher()
    if not await entries.adopt(donation, _checker(hasher, expectation)):
        return None
    head = _head(request, donation, expectation, hasher, shared=shared)
    return await entries.keep(request.url, head, None)


def _checker(
    hasher: Hasher, expectation: Expectation
) -> Callable[[Callable[[int, int], bytes], int], str | None]:
    def check(read: Callable[[int, int], bytes], size: int) -> str | None:
        while hasher.size < size and (piece := read(hasher.size, min(CHUNK, size - hasher.size))):
            hasher.feed(piece)
        right = (
            hasher.size == size
            and expectation.size in {None, size}
            and expectation.mismatch(hasher) is None
        )
        right = right and (bool(expectation.proven_by(hasher)) or not expectation.proves)
        return body_key(hasher.digest()) if right else None

    return check


def _head(
    request: RequestHead,
    donation: Donation,
    expectation: Expectation,
    hasher: Hasher,
    *,
    shared: bool,
) -> Head:
    stored = StoredResponse(
        donation.head, donation.vary, donation.stored, donation.stored, size=hasher.size
    )
    reserve = is_storable(request, donation.head, shared=shared) is not None
    head = draft_head(request, stored, expectation, shared=shared, reserve=reserve)
    return dataclasses.replace(
        head,
        body=hasher.digest(),
        proven=expectation.proven_by(hasher),
        credentialed=head.credentialed or donation.credentialed,
    )
