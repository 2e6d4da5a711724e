"""One transfer, the download that all who wait for it share: its request, its phases, its state.

::

    ASKING --200, kept--> STREAMING --digest right--> VERIFIED --durable--> LANDED
       |                     |  ^ cut, stalled, 5xx: resumed on a new connection
       |                     +--+ digest wrong: once more from the start, then FAILED
       +--304--> LANDED      +--no more tries--> FAILED
       +--not kept--> PASSED (one waiter has the answer, the others ask for themselves)

``fetch.py`` makes these steps in the process that holds the write lock, ``transfers.py`` follows
them in others, ``respond.py`` answers clients meanwhile.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from entrepot.digests import Hasher
from entrepot.errors import StoreError, UpstreamError
from entrepot.httpcache.conditional import unconditional
from entrepot.httpcache.exchange import Decision, Hit, Miss
from entrepot.httpcache.messages import RequestHead, ResponseHead, StoredResponse
from entrepot.ports.clock import Clock
from entrepot.ports.store import Blob, PartialFile
from entrepot.ports.upstream import Answer, Upstream
from entrepot.redaction import redacted_url
from entrepot.serving.known_files import Expectation, KnownFiles
from entrepot.serving.lookup import READ, Entries
from entrepot.serving.pages import PageReader, wants
from entrepot.serving.policy import HELD_BACK, Rules, credentials
from entrepot.serving.run_stats import RunStats
from entrepot.simple.negotiate import decodable_here
from entrepot.stored import Head, TransferState
from entrepot.urls import canonical_url


class Phase(Enum):
    """Where a transfer is."""

    ASKING = "asking"
    STREAMING = "streaming"
    VERIFIED = "verified"
    LANDED = "landed"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Resources:
    """What everything that answers requests shares in one service."""

    entries: Entries
    upstream: Upstream
    clock: Clock
    known_files: KnownFiles
    pages: PageReader
    rules: Rules
    stats: RunStats
    grown: Callable[[int], None]

    def downloaded(self, count: int) -> None:
        """So many bytes came from upstream."""
        self.stats.bytes_downloaded += count
        self.grown(count)

    async def expect(
        self, url: str, *, prefetch: bool = False, settled: bool = False
    ) -> Expectation:
        """What the body of this URL must be; see :meth:`KnownFiles.expect`."""
        known = await self.known_files.expect(url, prefetch=prefetch, settled=settled)
        return await self.pages.channels.expect(url, known)


SELECTING = "accept accept-encoding accept-language if-none-match if-modified-since".split()


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What upstream is asked for, and what is known of it."""

    request: RequestHead
    """As the client asked."""
    forward: RequestHead
    """As it goes upstream: with validators, without the client's own conditions and range."""
    decision: Decision
    expectation: Expectation
    seen: tuple[StoredResponse, ...] = ()
    """What was stored when it was decided."""

    @property
    def name(self) -> str:
        """Equal for requests that one transfer can serve.

        URL, what may select a variant, validators and credentials. A body that a digest fixes has
        no variants.
        """
        headers, fields = self.forward.headers, credentials(self.forward)
        if not self.expectation.checks:
            fields += [(name, str(headers.get(name))) for name in SELECTING]
        parts = [canonical_url(self.request.url), *(f"{name}={value}" for name, value in fields)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]

    @property
    def redacted(self) -> str:
        """The URL as it may be shown and stored."""
        return redacted_url(canonical_url(self.request.url))


def fetch_request(
    request: RequestHead, decision: Decision, heads: Iterable[Head], expectation: Expectation
) -> FetchRequest:
    """What upstream is asked for on behalf of this request, and of all who ask the same."""
    assert not isinstance(decision, Hit)
    if isinstance(decision, Miss) and not decision.variants:
        # What the client has of its own does not help the next one, nor this one without a network:
        # ask for the whole. Its condition is evaluated against what is stored then.
        decision = dataclasses.replace(decision, forward=unconditional(decision.forward))
    forward, coding = decision.forward, decision.forward.headers.get("accept-encoding")
    if expectation.checks:
        forward = as_it_is(forward)
    elif coding is not None and wants(request):  # an index: in no coding that cannot be read here
        headers = forward.headers.replaced("Accept-Encoding", decodable_here(coding))
        forward = dataclasses.replace(forward, headers=headers)
    return FetchRequest(request, forward, decision, expectation, tuple(h.response for h in heads))


def as_it_is(request: RequestHead) -> RequestHead:
    """The request for the file itself.

    Digests are of that, not of what a server makes of it on the way (RFC 9110 §12.5.3).
    """
    headers = request.headers.replaced("Accept-Encoding", "identity")
    return dataclasses.replace(request, headers=headers)


PACE_S = 0.01
"""Seconds between two times that a waiter or a few are told of growth."""
NOTICED_S = 0.05
"""Seconds in which those who follow in another process certainly notice a change."""
WAITERS = 25
"""For each so many waiters they are told a :data:`PACE_S` later: what each is sent is larger then,
and waking them costs less."""
PIECES = 4
"""Pieces of the growing file that are kept for those who read the same a moment later."""


class Progress:
    """What is seen of one transfer; ``hasher`` is to be fed with all that arrives here."""

    def __init__(self, hasher: Hasher, *, holds: bool) -> None:
        self.hasher = hasher
        self.holds = holds
        self.mark = ""
        """Of the beginning that is shown; see :class:`TransferState`."""
        self.growing: PartialFile | None = None
        """What waiters read from, until there is :attr:`blob`."""
        self.blob: Blob | None = None
        """The stored body that another process has made of the file that was followed."""
        self.finished = False
        """Whether nobody works at it any more."""
        self.answer: Answer | None = None
        """An answer that is not kept, for the first who claims it."""
        self.phase = Phase.ASKING
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
        """Wait until something about the transfer is new."""
        await self._change.wait()

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.finished or self.phase in {Phase.LANDED, Phase.PASSED, Phase.FAILED}

    @property
    def has_all(self) -> bool:
        """Whether every byte has arrived, so that only checking and keeping are left."""
        return self.phase is Phase.VERIFIED or (
            self.total is not None and self.hasher.size >= self.total > 0
        )

    def available(self) -> int:
        """Bytes from the start that may be sent now."""
        if self.blob is not None:
            return self.blob.size
        if self.growing is None or self.draft is None or self.phase is Phase.ASKING:
            return 0
        if self.phase in {Phase.VERIFIED, Phase.LANDED}:
            return self.total or 0
        # Also after a failure. Without a digest too the last byte waits: who has it may ask for
        # what this page names, which must be known then; and a body that failed must not have been
        # whole.
        return max(0, self.growing.size() - (HELD_BACK if self.holds else 1))

    def read(self, start: int, count: int) -> bytes:
        """At most ``count`` of the available bytes from ``start``; some, if there are any.

        Many waiters read the same bytes at nearly the same time: they share one read of the file,
        and one copy in memory.
        """
        if self.blob is not None:
            return self.blob.read(start, count)
        if self.growing is None:
            return b""
        for at, piece in self._pieces:
            if at <= start < at + len(piece):
                return piece[start - at : start - at + count]
        # Up to the next of the file's own marks: a reader that has fallen behind comes to read what
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

    def begin(self, state: TransferState) -> None:
        """Show bytes of another beginning than those that were shown so far, if any."""
        if self.draft is not None and state.mark != self.mark:
            self.generation += 1
        self.draft, self.total, self.mark = state.head, state.total, state.mark
        self.holds, self.phase = state.holds, Phase.STREAMING
        self._pieces.clear()

    def forget(self, hasher: Hasher, *, holds: bool) -> None:
        """What was shown so far is worth nothing: who has sent any of it must stop."""
        if self.draft is not None:
            self.generation += 1
        self.hasher, self.mark, self.holds = hasher, "", holds
        self.draft, self.total, self.phase = None, None, Phase.ASKING
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
        """Wake those who wait for more, but not fifty of them for every piece of a network."""
        loop = asyncio.get_running_loop()
        pace = PACE_S * (1 + self.waiters // WAITERS)
        if loop.time() - self._told >= pace:
            self.tell()
        elif self._tell_later is None:
            self._tell_later = loop.call_later(pace, self.tell)
