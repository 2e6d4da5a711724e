"""How far a transfer is, as those see it who wait for it.

What may be read now, and what has become of it.

Whoever does the work (``flight.py``, ``leading.py``) writes the attributes and tells; everybody
else reads and waits for :meth:`Progress.changed`. Waiters read the growing file, not a queue:
memory grows neither with the body nor with their number.
"""

from __future__ import annotations

import asyncio
from collections import deque

from entrepot.digests import Hasher
from entrepot.errors import StoreError, UpstreamError
from entrepot.httpcache.messages import ResponseHead
from entrepot.ports.store import Blob, PartialFile
from entrepot.ports.upstream import Answer
from entrepot.serving.fetch_request import Note, State
from entrepot.serving.policy import HELD_BACK
from entrepot.serving.resume import READ
from entrepot.stored import Head

PACE_S = 0.01
"""Seconds between two times that a waiter or a few are told of growth."""
NOTICED_S = 0.05
"""Seconds in which those who follow in another process certainly notice a change."""
WAITERS = 25
"""So many waiters more are told a :data:`PACE_S` more seldom: what each is sent is larger then, and
waking them costs less."""
PIECES = 4
"""Pieces of the growing file that are kept for those who read the same a moment later."""


class Progress:
    """One transfer's.

    Args:
        hasher: to be fed with all that arrives here.
        holds: whether the end is held back until the digest is known to be right.
    """

    def __init__(self, hasher: Hasher, *, holds: bool) -> None:
        self.hasher = hasher
        self.holds = holds
        self.mark = ""
        """Of the beginning that is shown; see :class:`~entrepot.serving.fetch_request.Note`."""
        self.growing: PartialFile | None = None
        """What waiters read from, until there is :attr:`blob`."""
        self.blob: Blob | None = None
        """The stored body that another process has made of the file that was followed."""
        self.finished = False
        """Whether nobody works at it any more."""
        self.answer: Answer | None = None
        """An answer that is not kept, for the first who claims it."""
        self.state = State.ASKING
        self.draft: Head | None = None
        """The head of what is streaming, before its body is complete."""
        self.total: int | None = None
        """Bytes the body will have, once that is known."""
        self.generation = 0
        """Raised when the bytes written so far turned out to be worthless: who has sent any of them
        must stop."""
        self.entry: Head | None = None
        """The stored head, once landed."""
        self.refreshed = False
        """Landed by a 304."""
        self.error: UpstreamError | StoreError | None = None
        self.failed_status: ResponseHead | None = None
        """The last answer of an upstream that kept failing with a status."""
        self.troubled = False
        """Whether a try has failed; others follow."""
        self.waiters = 0
        self._pieces: deque[tuple[int, bytes]] = deque(maxlen=PIECES)
        self._change = asyncio.Event()
        self._tell_later: asyncio.TimerHandle | None = None
        self._told = 0.0

    # for those who wait

    async def changed(self) -> None:
        """Wait until something about the flight is new."""
        await self._change.wait()

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.finished or self.state in {State.LANDED, State.PASSED, State.FAILED}

    @property
    def over_well(self) -> bool:
        """Whether it ended with something to give."""
        return self.state in {State.VERIFIED, State.LANDED, State.PASSED}

    @property
    def has_all(self) -> bool:
        """Whether every byte has arrived, so that only checking and keeping are left."""
        return self.state is State.VERIFIED or (
            self.total is not None and self.hasher.size >= self.total > 0
        )

    def available(self) -> int:
        """Bytes from the start that may be sent now."""
        if self.blob is not None:
            return self.blob.size
        if self.growing is None or self.draft is None or self.state is State.ASKING:
            return 0
        if self.state in {State.VERIFIED, State.LANDED}:
            return self.total or 0
        # Also after a failure. Without a digest too the last byte waits: who has it may ask for
        # what this page names, which must be known then; and a body that failed must not have been
        # whole.
        return max(0, self.growing.size() - (HELD_BACK if self.holds else 1))

    def read(self, start: int, count: int) -> bytes:
        """At most ``count`` of the bytes that are available, from ``start``.

        Some, if there are any.

        A crowd reads the same bytes at nearly the same time: it shares one read of the file, and
        one copy in memory.
        """
        if self.blob is not None:
            return self.blob.read(start, count)
        if self.growing is None:
            return b""
        for at, piece in self._pieces:
            if at <= start < at + len(piece):
                return (
                    piece
                    if at == start and len(piece) <= count
                    else piece[start - at : start - at + count]
                )
        # Up to the next of the file's own marks: whoever has fallen behind comes to read what
        # others read, too.
        piece = self.growing.read(start, min(count, READ - start % READ))
        if piece and self.waiters > 1:
            self._pieces.append((start, piece))
        return piece

    def close(self) -> None:
        """Nobody reads any more."""
        for each in (self.growing, self.blob):
            if each is not None:
                each.close()

    def claim(self) -> Answer | None:
        """The answer that is not kept, for the first who asks."""
        answer, self.answer = self.answer, None
        return answer

    # for who does the work

    def begin(self, note: Note) -> None:
        """Show bytes of another beginning than those that were shown so far, if any."""
        if self.draft is not None and note.mark != self.mark:
            self.generation += 1
        self.draft, self.total, self.mark, self.state = (
            note.head,
            note.total,
            note.mark,
            State.STREAMING,
        )
        self.holds = note.holds
        self._pieces.clear()

    def forget(self, hasher: Hasher, *, holds: bool) -> None:
        """What was shown so far is worth nothing: who has sent any of it must stop."""
        if self.draft is not None:
            self.generation += 1
        self.hasher, self.mark, self.holds = hasher, "", holds
        self.draft, self.total, self.state = None, None, State.ASKING
        self._pieces.clear()

    def tell(self) -> None:
        """Wake those who wait: something is new."""
        if self._tell_later is not None:
            self._tell_later.cancel()
            self._tell_later = None
        self._told = asyncio.get_running_loop().time()
        change, self._change = self._change, asyncio.Event()
        change.set()

    def tell_growth(self) -> None:
        """Wake those who wait for more, but not fifty of them for every piece that a network delivers."""
        loop = asyncio.get_running_loop()
        pace = PACE_S * (1 + self.waiters // WAITERS)
        if loop.time() - self._told >= pace:
            self.tell()
        elif self._tell_later is None:
            self._tell_later = loop.call_later(pace, self.tell)
