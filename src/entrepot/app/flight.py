"""Flights: one upstream transfer shared by all who wait for it, in this process and in every other one of the host.

::

    ASKING --200, kept--> STREAMING --digest right--> VERIFIED --durable--> LANDED
       |                     |  ^ cut, stalled, 5xx: resumed on a new connection
       |                     +--+ digest wrong: once more from the start, then FAILED
       +--304--> LANDED      +--no more tries--> FAILED
       +--not kept--> PASSED (one waiter has the answer, the others ask for themselves)

Waiters read the growing file, not a queue: memory grows neither with the body nor with the number of waiters. The lead is a
lock in the store; whoever gets it after another process looks first whether there is anything left to do.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from contextlib import suppress
from urllib.parse import urlsplit

from entrepot.app.asking import NO_ANSWER, ask
from entrepot.app.checks import check_digest, check_length, finished, is_file, known_size
from entrepot.app.drafts import draft_head
from entrepot.app.errand import Errand, Means, Note, State
from entrepot.app.following import Follower
from entrepot.app.pages import holds_secrets, page_reader
from entrepot.app.partials import (
    announced,
    as_kept,
    content_length,
    continues,
    hash_partial,
    range_validator,
    resuming,
    starts_alike,
)
from entrepot.app.policy import (
    BACKOFF_S,
    HELD_BACK,
    MAX_ATTEMPTS,
    RETRIED,
    agrees,
    immutable,
    keeps,
    pause_s,
    without_private_fields,
)
from entrepot.digests import Digest, Hasher
from entrepot.errors import (
    Busy,
    DigestMismatch,
    StoreError,
    TruncatedBody,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from entrepot.heads import Head, canonical_url, redacted_url
from entrepot.httpcache import (
    Action,
    Discard,
    Reason,
    Refresh,
    Store,
    can_reuse_for,
    on_response,
    unconditional,
)
from entrepot.httpcache.messages import ResponseHead, StoredResponse
from entrepot.ports.store import Blob, Growing
from entrepot.ports.upstream import Answer as UpstreamAnswer

FOLLOW_S = 0.01
"""Seconds between looks at a download that another process leads."""
PACE_S = 0.01
"""Seconds between two times that waiters are told of growth."""


class Flight:
    """One transfer. :meth:`fly` does the work; everybody else reads the attributes and waits for :meth:`changed`."""

    def __init__(self, means: Means, errand: Errand) -> None:
        self._means = means
        self._errand = errand
        self._growing: Growing | None = None
        self._seat: Growing | None = None
        self._mark = ""
        self._hasher = errand.expectation.hasher()
        self._change = asyncio.Event()
        self._holds = errand.expectation.checks
        self._by_range = True
        """Whether the rest can be asked for; else the whole is, and its start compared."""
        self._elsewhere = False
        self._pause_s: float | None = None
        self._forward = errand.forward
        self._replaces: tuple[StoredResponse, ...] = ()
        self._blob: Blob | None = None
        self._finished = False
        self._tell_later: asyncio.TimerHandle | None = None
        self._told = 0.0
        self._leads = False
        self._doubted = False
        self._answer: UpstreamAnswer | None = None
        self._began = means.clock.now()
        self.state = State.ASKING
        self.draft: Head | None = None
        """The head of what is streaming, before its body is complete."""
        self.total: int | None = None
        """Bytes the body will have, once that is known."""
        self.generation = 0
        """Raised when the bytes written so far turned out to be worthless: who has sent any of them must stop."""
        self.entry: Head | None = None
        """The stored head, once landed."""
        self.refreshed = False
        """Landed by a 304."""
        self.error: UpstreamError | StoreError | None = None
        self.failed_status: ResponseHead | None = None
        """The last answer of an upstream that kept failing with a status."""
        self.waiters = 0

    # for those who wait

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

    async def changed(self) -> None:
        """Wait until something about the flight is new."""
        await self._change.wait()

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self._finished or self.state in {State.LANDED, State.PASSED, State.FAILED}

    def serves(self, errand: Errand) -> bool:
        """Whether what it brings is what this errand of the same name wants, too."""
        if self.over or self._errand.expectation.digests != errand.expectation.digests:
            return False
        # An answer that has come is not one to a request that came after it, unless its digest makes it right for ever.
        return errand.expectation.checks or not self.has_all

    @property
    def over_well(self) -> bool:
        """Whether it ended with something to give."""
        return self.state in {State.VERIFIED, State.LANDED, State.PASSED}

    @property
    def has_all(self) -> bool:
        """Whether every byte has arrived, so that only checking and keeping are left."""
        return self.state is State.VERIFIED or (self.total is not None and self._hasher.size >= self.total > 0)

    def available(self) -> int:
        """Bytes from the start that may be sent now."""
        if self._blob is not None:
            return self._blob.size
        if self._growing is None or self.draft is None or self.state is State.ASKING:
            return 0
        if self.state in {State.VERIFIED, State.LANDED}:
            return self._hasher.size
        # Also after a failure. Without a digest too the last byte waits: who has it may ask for what this page names, which
        # must be known then; and a body that failed must not have been whole.
        return max(0, self._growing.size() - (HELD_BACK if self._holds else 1))

    def read(self, start: int, count: int) -> bytes:
        """Bytes that are available."""
        if self._blob is not None:
            return self._blob.read(start, count)
        return self._growing.read(start, count) if self._growing is not None else b""

    def close(self) -> None:
        """Nobody reads any more."""
        for each in (self._growing, self._seat, self._blob):
            if each is not None:
                each.close()

    def claim(self) -> UpstreamAnswer | None:
        """The answer that is not kept, for the first who asks."""
        answer, self._answer = self._answer, None
        return answer

    def _tell(self) -> None:
        if self._tell_later is not None:
            self._tell_later.cancel()
            self._tell_later = None
        self._told = asyncio.get_running_loop().time()
        change, self._change = self._change, asyncio.Event()
        change.set()

    def _tell_growth(self) -> None:
        """Wake those who wait for more, but not fifty of them for every piece that a network delivers."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._told >= PACE_S:
            self._tell()
        elif self._tell_later is None:
            self._tell_later = loop.call_later(PACE_S, self._tell)

    # the work

    async def fly(self) -> None:
        """Do it all. Never raises but for cancellation: what went wrong is in ``error``."""
        try:
            self._seat = self._means.entries.store.open_flight(self._errand.name)
            await self._follow(self._seat)
            if not await self._done_by_others():
                await self._lead(self._seat)
        except UpstreamError as exc:
            self.error, self.state = exc, State.FAILED
        except StoreError as exc:
            self._means.entries.failed(exc)
            self.error, self.state = exc, State.FAILED
        finally:
            self._finished = True
            if not self.over_well:
                self.state = State.FAILED
                self.error = self.error or TruncatedBody("the transfer was given up", url=self._redacted)
            if self._seat is not None:
                self._tidy(self._seat)
                self._seat.release()
            self._tell()

    def _tidy(self, growing: Growing) -> None:
        """Leave a partial behind only if somebody can make sense of it later."""
        resumable = self.draft is not None and (self._holds or range_validator(self.draft.response.head))
        if self._leads and not (resumable and growing.size() and not self._doubted):
            with suppress(StoreError):
                growing.discard()

    async def _follow(self, lead: Growing) -> None:
        """While another process leads, show its progress to those who wait here."""
        follower: Follower | None = None
        while not lead.lead():
            follower = follower or Follower(self._means.entries.store, self._errand.name)
            if follower.look():
                self._show(follower)
            await asyncio.sleep(FOLLOW_S)
        self._leads = True

    def _show(self, follower: Follower) -> None:
        note = follower.note
        if note is not None and note.mark != self._mark:
            self._begin(note)
            self._growing = follower.view
        self._tell()

    def _begin(self, note: Note) -> None:
        """Bytes of another beginning than those that were shown so far, if any."""
        if self.draft is not None and note.mark != self._mark:
            self.generation += 1
        self.draft, self.total, self._mark, self.state = note.head, note.total, note.mark, State.STREAMING
        self._holds = note.holds

    async def _done_by_others(self) -> bool:
        """Look the entry up again now that nobody else is at it."""
        heads = await self._means.entries.load(self._errand.request.url)
        fixed = immutable(heads, self._errand.expectation)
        fresh = [h for h in heads if self._came_since(h) and can_reuse_for(self._errand.request, h.response)]
        found = fixed or (fresh[0] if fresh else None)
        if found is None:
            return False
        if self._growing is not None:
            # Waiters here have read from the file that another process has finished; its body goes on where they are.
            blob = await self._means.entries.open_body(found)
            if blob is None:
                return False
            if not await asyncio.to_thread(starts_alike, self._growing, blob):
                self.generation += 1
            self._blob = blob
        self.entry, self.state = found, State.LANDED
        return True

    def _came_since(self, head: Head) -> bool:
        """Whether upstream was asked after we were: only then is it an answer to this request too."""
        if not agrees(head, self._errand.expectation) or (self._means.shared and head.credentialed):
            return False
        return head.response.response_time >= self._began and head.response not in self._errand.seen

    async def _lead(self, growing: Growing) -> None:
        """Try until it is done: three times without progress, on a new connection each time, after a wrong digest once more."""
        await self._pick_up(growing)
        tries = mismatches = timeouts = 0
        for attempt in range(MAX_ATTEMPTS):
            last = tries >= len(BACKOFF_S) or attempt == MAX_ATTEMPTS - 1
            before = self._hasher.size
            try:
                if await self._attempt(growing, again=attempt > 0, tries=tries, last=last):
                    return
            except DigestMismatch:
                mismatches += 1
                self._doubted = True
                self._start_over(growing)
                if last or mismatches > 1:
                    raise
            except UpstreamError as exc:
                timeouts += isinstance(exc, UpstreamTimeout)
                progress = self._hasher.size > before
                if timeouts > 1 or (last and not (progress and attempt < MAX_ATTEMPTS - 1)):
                    raise
                tries = 0 if progress else tries
            pause, self._pause_s = self._pause_s, None
            await asyncio.sleep(BACKOFF_S[min(tries, len(BACKOFF_S) - 1)] if pause is None else pause)
            tries += 1

    async def _pick_up(self, growing: Growing) -> None:
        """Take over what an earlier leader left, if it can be continued; else begin anew."""
        told = Note.from_bytes(growing.description() or b"")
        size = growing.size()
        resumable = told is not None and (self._errand.expectation.checks or range_validator(told.head.response.head))
        if told is None or not resumable or not size or told.head.url != self._redacted:
            if size or told is not None:
                growing.restart()
            self._forget_all()
        else:
            self._hasher = await asyncio.to_thread(hash_partial, growing, self._errand.expectation.hasher(), size)
            shown = self.draft is not None
            self._begin(told)
            if not shown:
                self.state = State.ASKING  # until upstream has said that it is still the same
            self._holds = self._errand.expectation.checks and self._is_ok
        self._growing = growing
        self._tell()

    def _forget_all(self) -> None:
        """What was shown so far is worth nothing: who has sent any of it must stop."""
        if self.draft is not None:
            self.generation += 1
        self._hasher, self._mark, self._by_range = self._errand.expectation.hasher(), "", True
        self._holds = self._errand.expectation.checks
        self.draft, self.total, self.state = None, None, State.ASKING

    def _start_over(self, growing: Growing) -> None:
        self._forget_all()  # first: the store may fail
        self._tell()
        growing.restart()

    async def _attempt(self, growing: Growing, *, again: bool, tries: int, last: bool) -> bool:
        """Ask upstream once; ``True`` when the flight is over."""
        have = self._hasher.size
        if have and have == self.total:
            await self._land(growing)  # an earlier leader died between the last byte and the store
            return True
        sent = self._means.clock.now()
        by_range = have > 0 and self._by_range
        answer, self._elsewhere = await ask(
            self._means.upstream,
            resuming(self._errand.forward, self.draft, have) if by_range and self.draft is not None else self._forward,
            fresh=again,
            follow=self._errand.expectation.proves,
        )
        try:
            status = answer.head.status
            if status in RETRIED and self._comes_again(answer.head, have, tries, last=last):
                return False
            if by_range and status == 206 and self._continues(answer.head, have):
                await self._receive(growing, answer, skip=0)
            elif have and status == 200:
                await self._receive(growing, answer, skip=have)
            elif by_range:
                self._by_range = False  # what came is no rest: ask for the whole, and compare
                return False
            else:
                if have:
                    self._start_over(growing)  # there is something else now
                if self._contradicts(answer, sent):
                    return False
                if not await self._decide(growing, answer, sent):
                    answer = NO_ANSWER
                    return True
            if self.state is not State.LANDED:
                await self._land(growing)
            return True
        finally:
            await answer.aclose()

    def _comes_again(self, head: ResponseHead, have: int, tries: int, *, last: bool) -> bool:
        """Whether a failing status is to be tried again.

        Raises:
            TruncatedBody: it is not, and the body has begun: what there is stays to be resumed.
        """
        self._pause_s = None if last else pause_s(tries, head, self._means.clock.now())
        if self._pause_s is not None:
            return True
        if have:
            raise TruncatedBody(f"upstream answered {head.status} for the rest", url=self._redacted, received=have)
        self.failed_status = head
        return False

    def _continues(self, head: ResponseHead, have: int) -> bool:
        return self.draft is not None and continues(head, have, self.total, self.draft.response.head)

    def _contradicts(self, answer: UpstreamAnswer, sent: float) -> bool:
        """A 304 that fits nothing we have is no answer: the next try asks for the whole (RFC 9111 §4.3.3)."""
        if answer.head.status == 206:
            raise UpstreamProtocolError("upstream sent a part of what it was asked for", url=self._redacted)
        if answer.head.status != 304:
            return False
        action = self._action(answer, sent)
        if isinstance(action, Discard) and action.reason is Reason.VALIDATOR_MISMATCH:
            self._forward = unconditional(self._forward)
            return True
        return False

    def _action(self, answer: UpstreamAnswer, sent: float) -> Action:
        errand, now = self._errand, self._means.clock.now()
        return on_response(
            errand.decision, errand.request, answer.head, request_time=sent, response_time=now, shared=self._means.shared
        )

    async def _decide(self, growing: Growing, answer: UpstreamAnswer, sent: float) -> bool:
        """What to do with a whole answer: stream it, refresh by it, or pass it on (``False``)."""
        errand, now = self._errand, self._means.clock.now()
        action = self._action(answer, sent)
        if isinstance(action, Refresh):
            await self._refresh(action)
            return True
        storable = isinstance(action, Store)
        if not keeps(errand.forward, answer.head, storable=storable, shared=self._means.shared, expectation=errand.expectation):
            self._answer, self.state = answer, State.PASSED
            self._tell()
            return False
        stored = action.entry if isinstance(action, Store) else as_kept(errand.forward, answer.head, sent, now)
        self._replaces = action.replaces if isinstance(action, Store) else ()
        self.draft = draft_head(errand.request, stored, errand.expectation, shared=self._means.shared, reserve=not storable)
        self.total, self._mark = announced(answer.head, known_size(answer.head, errand.expectation)), secrets.token_hex(8)
        self._holds = errand.expectation.checks and self._is_ok
        growing.describe(Note(self.draft, self.total, self._mark, self._holds).to_bytes())
        self.state = State.STREAMING
        self._tell()
        await self._receive(growing, answer, skip=0)
        return True

    async def _receive(self, growing: Growing, answer: UpstreamAnswer, *, skip: int) -> None:
        """Write what comes. With ``skip``, upstream began again at 0: what we have must come again, and is compared."""
        assert self.draft is not None
        prefix, draft, known = Hasher(), self.draft, known_size(self.draft.response.head, self._errand.expectation)
        self.state = State.STREAMING if not skip else self.state
        async for piece in answer.chunks():
            self._means.downloaded(len(piece))
            again, new = piece[:skip], piece[skip:]
            if again:
                prefix.feed(again)
                skip -= len(again)
                if not skip and prefix.digest() != self._hasher.digest():
                    raise DigestMismatch("upstream sent different bytes when it was asked again", url=self._redacted)
            if new:
                growing.write(new)
                self._hasher.feed(new)
                self.state = State.STREAMING
                self._tell_growth()
            if known is not None and content_length(answer.head) is None and self._hasher.size > known:
                break  # nothing but this would ever end it
        if skip:
            raise DigestMismatch("upstream sent less when it was asked again", url=self._redacted)
        length = content_length(answer.head) if answer.head.status == 200 else None
        announced_ = self.total if self.total is not None else length
        check_length(draft.response.head, self._errand.expectation, self._hasher, announced=announced_, url=self._redacted)

    async def _land(self, growing: Growing) -> None:
        """Check, let go of the held-back end, make durable."""
        assert self.draft is not None
        expectation, size = self._errand.expectation, self._hasher.size
        check_digest(self.draft.response.head, expectation, self._hasher, url=self._redacted)
        head, ok = finished(self.draft, expectation, self._hasher, elsewhere=self._elsewhere), self._is_ok
        if ok:
            self._read_page(growing, head)
        self.state, self.total = State.VERIFIED, size
        self._tell()
        if ok and await holds_secrets(self._errand.request.url, head, lambda: growing.read(0, size)):
            self._means.warn(f"pages of {urlsplit(self._redacted).hostname} hold tokens or signed links, so they are not kept")
            growing.discard()
            return
        try:
            self.entry = await self._means.entries.keep(self._errand.request.url, head, growing, replaces=self._replaces)
        except (StoreError, Busy) as exc:
            self._means.entries.failed(exc)  # the clients have it all the same
        else:
            self.state = State.LANDED

    async def _refresh(self, action: Refresh) -> None:
        heads = await self._means.entries.load(self._errand.request.url)
        was = next((h for h in heads if h.response.key == action.was.key), None)
        if was is None:
            self._forward = unconditional(self._forward)
            raise UpstreamProtocolError("upstream answered 304 for an entry that is gone", url=self._redacted)
        renewed = dataclasses.replace(action.entry, head=without_private_fields(action.entry.head))
        self.entry = await self._means.entries.save(self._errand.request.url, dataclasses.replace(was, response=renewed))
        self.refreshed, self.state = True, State.LANDED

    def _read_page(self, growing: Growing, head: Head) -> None:
        """Have an index page read; known before anybody has its last byte, so that requests for its files wait for it."""
        reader = page_reader(self._errand.request.url, head, lambda: growing.read(0, self._hasher.size), self._means.pages)
        if reader is not None and head.body is not None:
            self._means.facts.read(self._errand.request.url, head.body, reader)

    @property
    def _is_ok(self) -> bool:
        return self.draft is not None and is_file(self.draft.response.head)

    @property
    def _redacted(self) -> str:
        return redacted_url(canonical_url(self._errand.request.url))
