"""Flights: one upstream transfer shared by all who wait for it, in this process and in every other one of the host.

::

    ASKING --200, kept--> STREAMING --digest right--> VERIFIED --durable--> LANDED
       |                     |  ^ cut, stalled: resumed on a new connection
       |                     +--+ digest wrong: once more from the start, then FAILED
       +--304--> LANDED      +--no more tries--> FAILED
       +--not kept--> PASSED (one waiter has the answer, the others ask for themselves)

Waiters read the growing file, not a queue: memory grows neither with the body nor with the number of waiters. The lead is a
lock in the store; whoever gets it after another process looks first whether there is anything left to do.
"""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import suppress
from enum import Enum
from urllib.parse import urlsplit

from entrepot.app.drafts import draft_head
from entrepot.app.errand import Errand, Means, Note
from entrepot.app.pages import holds_secrets, page_reader
from entrepot.app.partials import as_kept, content_length, continues, hash_partial, range_validator, redirected
from entrepot.app.policy import (
    BACKOFF_S,
    HELD_BACK,
    REDIRECTS,
    RETRIED,
    immutable,
    keeps,
    without_private_fields,
)
from entrepot.digests import Hasher
from entrepot.errors import Busy, DigestMismatch, StoreError, TruncatedBody, UpstreamError, UpstreamProtocolError
from entrepot.heads import Head, body_key, canonical_url, redacted_url
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
from entrepot.httpcache.messages import RequestHead, ResponseHead, StoredResponse
from entrepot.ports.store import Blob, Growing
from entrepot.ports.upstream import Answer as UpstreamAnswer

FOLLOW_S = 0.01
"""Seconds between looks at a download that another process leads."""
MAX_REDIRECTS = 10


class State(Enum):
    """Where a flight is."""

    ASKING = "asking"
    STREAMING = "streaming"
    VERIFIED = "verified"
    LANDED = "landed"
    PASSED = "passed"
    FAILED = "failed"


class Flight:
    """One transfer. :meth:`fly` does the work; everybody else reads the attributes and waits for :meth:`changed`."""

    def __init__(self, means: Means, errand: Errand) -> None:
        self._means = means
        self._errand = errand
        self._growing: Growing | None = None
        self._hasher = errand.expectation.hasher()
        self._change = asyncio.Event()
        self._holds = errand.expectation.proves
        self._forward = errand.forward
        self._replaces: tuple[StoredResponse, ...] = ()
        self._blob: Blob | None = None
        self._finished = False
        self._leads = False
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

    async def changed(self) -> None:
        """Wait until something about the flight is new."""
        await self._change.wait()

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self._finished or self.state in {State.LANDED, State.PASSED, State.FAILED}

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
        if self._growing is None:
            return 0
        size = self._growing.size() if self.state is State.STREAMING else self._hasher.size
        if self.state is State.STREAMING:
            # Without a digest too the last byte waits: who has it may ask for what this page names, which must be known then.
            return max(0, size - (HELD_BACK if self._holds else 1))
        return size

    def read(self, start: int, count: int) -> bytes:
        """Bytes that are available."""
        if self._blob is not None:
            return self._blob.read(start, count)
        return self._growing.read(start, count) if self._growing is not None else b""

    def close(self) -> None:
        """Nobody reads any more."""
        for each in (self._growing, self._blob):
            if each is not None:
                each.close()

    def claim(self) -> UpstreamAnswer | None:
        """The answer that is not kept, for the first who asks."""
        answer, self._answer = self._answer, None
        return answer

    def _tell(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()

    # the work

    async def fly(self) -> None:
        """Do it all. Never raises but for cancellation: what went wrong is in ``error``."""
        try:
            self._growing = self._means.entries.store.open_flight(self._errand.name)
            await self._follow(self._growing)
            if not await self._done_by_others():
                await self._lead(self._growing)
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
            if self._growing is not None:
                self._tidy(self._growing)
                self._growing.release()
            self._tell()

    def _tidy(self, growing: Growing) -> None:
        """Leave a partial behind only if somebody can make sense of it later."""
        resumable = self._holds or (self.draft is not None and range_validator(self.draft.response.head))
        if self._leads and not (resumable and growing.size() and self.draft is not None):
            with suppress(StoreError):
                growing.discard()

    async def _follow(self, growing: Growing) -> None:
        """While another process leads, show its progress to those who wait here."""
        seen = (0, b"")
        while not growing.lead():
            now = (growing.size(), growing.description() or b"")
            if now != seen:
                self._show(seen[1], now[1])
                seen = now
                self._tell()
            await asyncio.sleep(FOLLOW_S)
        self._leads = True

    def _show(self, before: bytes, note: bytes) -> None:
        if not note or note == before:
            return
        told = Note.from_bytes(note)
        if told is not None:
            if told.generation != self.generation and self.draft is not None:
                self.generation += 1
            self.draft, self.total, self._holds, self.state = told.head, told.total, told.holds, State.STREAMING

    async def _done_by_others(self) -> bool:
        """Look the entry up again now that nobody else is at it."""
        heads = await self._means.entries.load(self._errand.request.url)
        fixed = immutable(heads, self._errand.expectation)
        fresh = [h for h in heads if self._came_since(h.response) and can_reuse_for(self._errand.request, h.response)]
        found = fixed or (fresh[0] if fresh else None)
        if found is None:
            return False
        if self.state is State.STREAMING:
            # Waiters here have read from the file that another process has finished; its body goes on where they are.
            self._blob = await self._means.entries.open_body(found)
        self.entry, self.state = found, State.LANDED
        return True

    def _came_since(self, stored: StoredResponse) -> bool:
        """Whether upstream was asked after we were: only then is it an answer to this request too."""
        return stored.response_time >= self._began and stored not in self._errand.seen

    async def _lead(self, growing: Growing) -> None:
        await self._pick_up(growing)
        mismatches = 0
        for attempt in range(len(BACKOFF_S) + 1):
            if attempt:
                await asyncio.sleep(BACKOFF_S[attempt - 1])
            last = attempt == len(BACKOFF_S)
            try:
                if await self._attempt(growing, again=attempt > 0, last=last):
                    return
            except DigestMismatch:
                mismatches += 1
                self._start_over(growing)
                if last or mismatches > 1:
                    raise
            except UpstreamError:
                if last:
                    raise

    async def _pick_up(self, growing: Growing) -> None:
        """Take over what an earlier leader left, if it can be continued; else begin anew."""
        told = Note.from_bytes(growing.description() or b"")
        size = growing.size()
        usable = (
            told is not None
            and size
            and (self._holds or range_validator(told.head.response.head))
            and told.head.url == self._redacted
        )
        if not usable or told is None:
            if size or told is not None:
                growing.restart()
            return
        self.draft, self.total = told.head, told.total
        self._hasher = await asyncio.to_thread(hash_partial, growing, self._errand.expectation.hasher(), size)
        self.state = State.STREAMING
        self._tell()

    def _start_over(self, growing: Growing) -> None:
        growing.restart()
        self._hasher = self._errand.expectation.hasher()
        self.generation += 1
        self.draft, self.total, self.state = None, None, State.ASKING
        self._tell()

    async def _attempt(self, growing: Growing, *, again: bool, last: bool) -> bool:
        """Ask upstream once; ``True`` when the flight is over."""
        have = self._hasher.size
        if have and have == self.total:
            await self._land(growing)  # an earlier leader died between the last byte and the store
            return True
        sent = self._means.clock.now()
        answer = await self._send(self._resuming(have) if have else self._forward, fresh=again)
        try:
            status = answer.head.status
            if status in RETRIED and not last:
                return False
            if status in RETRIED:
                self.failed_status = answer.head
            if have and status == 206 and continues(answer.head, have, self.total):
                await self._receive(growing, answer, skip=0)
            elif have and status == 200:
                await self._receive(growing, answer, skip=have)
            elif have:
                self._start_over(growing)
                return False
            elif self._contradicts(answer, sent):
                return False
            elif not await self._decide(growing, answer, sent):
                answer = _NO_ANSWER
                return True
            if self.state is not State.LANDED:
                await self._land(growing)
            return True
        finally:
            await answer.aclose()

    def _contradicts(self, answer: UpstreamAnswer, sent: float) -> bool:
        """A 304 that fits nothing we have is no answer: the next try asks for the whole (RFC 9111 §4.3.3)."""
        if answer.head.status != 304 or "if-none-match" in self._errand.request.headers:
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
        self.total = content_length(answer.head) if content_length(answer.head) is not None else errand.expectation.size
        if answer.head.status != 200:
            self._holds = False
        growing.describe(Note(self.draft, self.total, self.generation, self._holds).to_bytes())
        self.state = State.STREAMING
        self._tell()
        await self._receive(growing, answer, skip=0)
        return True

    async def _receive(self, growing: Growing, answer: UpstreamAnswer, *, skip: int) -> None:
        """Write what comes. With ``skip``, upstream began again at 0: what we have must come again, and is compared."""
        prefix = Hasher()
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
                self._tell()
        known = self._errand.expectation.size
        expected = known if known is not None and self._is_ok else self.total
        if skip or (expected is not None and self._hasher.size < expected):
            raise TruncatedBody(
                f"the body ended after {self._hasher.size} of {expected} bytes", url=self._redacted, received=self._hasher.size
            )

    async def _land(self, growing: Growing) -> None:
        """Check, let go of the held-back end, make durable."""
        assert self.draft is not None
        expectation, ok = self._errand.expectation, self._is_ok
        wrong = expectation.mismatch(self._hasher) if ok else None
        if wrong is not None:
            actual = self._hasher.digest(wrong.algorithm)
            raise DigestMismatch(
                f"{redacted_url(self._errand.request.url)} has {actual}, its index says {wrong}",
                url=self._redacted,
                expected=str(wrong),
                actual=str(actual),
            )
        size = self._hasher.size
        head = dataclasses.replace(
            self.draft,
            body=self._hasher.digest() if size else None,
            response=dataclasses.replace(self.draft.response, size=size),
            proven=expectation.proven_by(self._hasher) if ok else (),
        )
        if ok:
            self._read_page(growing, head)
        self.state, self.total = State.VERIFIED, size
        self._tell()
        if ok and await holds_secrets(self._errand.request.url, head, lambda: growing.read(0, size)):
            self._means.warn(f"pages of {urlsplit(self._redacted).hostname} hold tokens or signed links, so they are not kept")
            growing.discard()
            return
        try:
            await self._keep(growing, head)
        except (StoreError, Busy) as exc:
            self._means.entries.failed(exc)  # the clients have it all the same
        else:
            self.state = State.LANDED

    async def _keep(self, growing: Growing, head: Head) -> None:
        """Body first, then head: whoever finds the head finds the body."""
        entries, url = self._means.entries, self._errand.request.url
        if head.body is not None:
            with entries.hold(head):
                await growing.commit(body_key(head.body))
                self.entry = await entries.save(url, head)
        else:
            growing.discard()
            self.entry = await entries.save(url, head)
        for old in self._replaces:
            if old.key != self.entry.response.key:
                await entries.drop(old.key)

    async def _refresh(self, action: Refresh) -> None:
        heads = await self._means.entries.load(self._errand.request.url)
        was = next((h for h in heads if h.response.key == action.was.key), None)
        if was is None:
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
        return self.draft is not None and self.draft.response.head.status == 200

    @property
    def _redacted(self) -> str:
        return redacted_url(canonical_url(self._errand.request.url))

    # asking upstream

    def _resuming(self, have: int) -> RequestHead:
        """The request for the rest (RFC 9110 §14.2), on condition that it is still the same (§13.1.5)."""
        assert self.draft is not None
        headers = self._errand.forward.headers.without("range", "if-range", "if-none-match", "if-modified-since")
        headers = headers.added("Range", f"bytes={have}-")
        validator = range_validator(self.draft.response.head)
        if validator:
            headers = headers.added("If-Range", validator)
        return dataclasses.replace(self._errand.forward, headers=headers)

    async def _send(self, request: RequestHead, *, fresh: bool) -> UpstreamAnswer:
        """Send; redirects are followed inside when the digest is known, so that signed targets are never stored."""
        answer = await self._means.upstream.send(request, fresh_connection=fresh)
        for _ in range(MAX_REDIRECTS):
            location = answer.head.headers.get("location")
            if answer.head.status not in REDIRECTS or not location or not self._errand.expectation.proves:
                return answer
            await answer.aclose()
            request = redirected(request, location)
            answer = await self._means.upstream.send(request)
        return answer


class _NoAnswer:
    """Stands where an answer was handed on: closing it is the new owner's business."""

    async def aclose(self) -> None:
        pass


_NO_ANSWER: UpstreamAnswer = _NoAnswer()  # type: ignore[assignment]
