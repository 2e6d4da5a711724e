"""Flights: one upstream transfer shared by all who wait for it, in this process and in every other one of the host.

What waiters see of it stands in ``progress.py``, how upstream is asked in ``leading.py``. Here is
who leads: a lock in the store decides. Everybody else follows, and whoever gets the lock after
another process looks first whether there is anything left to do.
"""

from __future__ import annotations

import asyncio

from entrepot.digests import Digest
from entrepot.errors import StoreError, TruncatedBody, UpstreamError
from entrepot.httpcache import can_reuse_for
from entrepot.ports.store import PartialFile
from entrepot.serving.fetch import Leader
from entrepot.serving.fetch_request import Errand, Means, Note, State
from entrepot.serving.follow import Follower
from entrepot.serving.policy import agrees, immutable
from entrepot.serving.resume import starts_alike
from entrepot.serving.transfer_progress import NOTICED_S, Progress
from entrepot.stored import Head, canonical_url

FOLLOW_S = 0.01
"""Seconds between looks at a download that another process leads."""
LAG = 0.05
"""Once it is shown, looks come as much more seldom as this share of the time that it has taken so
far, which nobody notices, ..."""
LAG_MOST_S = NOTICED_S - FOLLOW_S
"""... but never further apart than this: ten processes that look at each piece of a network take
more time than their clients."""


class Flight(Progress):
    """One transfer. :meth:`fly` does the work.

    Everybody else reads the attributes and waits for :meth:`changed`.

    Args:
        means: what it works with.
        errand: what for.
        after: one of the same name in this process that came too early to answer this errand; it
            ends first.
    """

    def __init__(self, means: Means, errand: Errand, after: Flight | None = None) -> None:
        super().__init__(errand.expectation.hasher(), holds=errand.expectation.checks)
        self._means = means
        self._errand = errand
        self._after = after
        self._seat: PartialFile | None = None
        self._leader: Leader | None = None
        self._began = means.clock.now()

    @property
    def name(self) -> str:
        """What it is known under."""
        return self._errand.name

    @property
    def url(self) -> str:
        """What it fetches, as cache key."""
        return canonical_url(self._errand.request.url)

    @property
    def digests(self) -> tuple[Digest, ...]:
        """All that its body must have."""
        return self._errand.expectation.digests

    def serves(self, errand: Errand) -> bool:
        """Whether what it brings is what this errand of the same name wants, too."""
        if self.over or self._errand.expectation.digests != errand.expectation.digests:
            return False
        # An answer that has come is not one to a request that came after it, unless its digest
        # makes it right for ever.
        return errand.expectation.checks or not self.has_all

    def close(self) -> None:
        """Nobody reads any more."""
        super().close()
        if self._seat is not None:
            self._seat.close()

    async def fly(self) -> None:
        """Do it all. Never raises but for cancellation: what went wrong is in ``error``."""
        try:
            while self._after is not None and not self._after.finished:
                await self._after.changed()
            self._after = None
            seat = self._seat = await self._means.entries.open_partial(self._errand.name)
            await self._follow(seat)
            self._leader = Leader(self._means, self._errand, self, seat)
            if not await self._done_by_others():
                await self._leader.lead()
        except UpstreamError as exc:
            self.error, self.state = exc, State.FAILED
        except StoreError as exc:
            self._means.entries.failed(exc)
            self.error, self.state = exc, State.FAILED
        finally:
            self._end()

    def _end(self) -> None:
        """Say how it ended, and let the next one lead."""
        self.finished = True
        if not self.over_well:
            self.state = State.FAILED
            self.error = self.error or TruncatedBody(
                "the transfer was given up", url=self._errand.redacted
            )
        if self._leader is not None:
            self._leader.tidy()
        if self._seat is not None:
            self._seat.release()
        self.tell()

    async def _follow(self, seat: PartialFile) -> None:
        """While another process leads, show its progress to those who wait here."""
        follower: Follower | None = None
        while not seat.try_lock():
            follower = follower or Follower(self._means.entries.store, self._errand.name)
            while follower.look():  # as long as it grows its leader lives
                self._show(follower)
                await asyncio.sleep(self._lag())
            await asyncio.sleep(FOLLOW_S)

    def _lag(self) -> float:
        """Seconds until the next look at what grows."""
        return (
            max(FOLLOW_S, min(LAG_MOST_S, LAG * (self._means.clock.now() - self._began)))
            if self.mark
            else FOLLOW_S
        )

    def _show(self, follower: Follower) -> None:
        note = follower.note
        tell = self.tell_growth
        if note is not None and note.mark != self.mark:
            if not (self._errand.expectation.checks or self._came_since(note.head)):
                # Upstream was asked before we were: it is no answer to this request, and we ask
                # ourselves afterwards
                return
            self.begin(note)
            self.growing, tell = follower.view, self.tell
        if note is not None and self._is_right(note):
            self.state, self.total = State.VERIFIED, note.total
        tell()

    def _is_right(self, note: Note) -> bool:
        """Whether what another process has found whole and right is so for this errand, which may know another digest."""
        expectation = self._errand.expectation
        return note.whole and (
            immutable([note.head], expectation) is not None or not expectation.checks
        )

    async def _done_by_others(self) -> bool:
        """Look the entry up again now that nobody else is at it."""
        heads = await self._means.entries.load(self._errand.request.url)
        fixed = immutable(heads, self._errand.expectation)
        fresh = [
            h
            for h in heads
            if self._came_since(h) and can_reuse_for(self._errand.request, h.response)
        ]
        found = fixed or (fresh[0] if fresh else None)
        if found is None:
            # Whole, and not kept. Upstream's next answer may be another one, which could not be put
            # to what waiters here have.
            return self.state is State.VERIFIED
        if self.growing is not None and self.state is not State.VERIFIED:
            # Waiters here have read from the file that another process has finished; its body goes
            # on where they are.
            blob = await self._means.entries.open_body(found)
            if blob is None:
                return False
            if not await asyncio.to_thread(starts_alike, self.growing, blob):
                self.generation += 1
            self.blob = blob
        self.entry, self.state = found, State.LANDED
        return True

    def _came_since(self, head: Head) -> bool:
        """Whether upstream was asked after we were.

        Only then is it an answer to this request too.
        """
        if not agrees(head, self._errand.expectation) or (self._means.shared and head.credentialed):
            return False
        return head.response.response_time >= self._began and head.response not in self._errand.seen
