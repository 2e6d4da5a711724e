"""Leading a transfer: asking upstream until the body is whole, resuming what broke off, and making it durable.

::

    ASKING --200, kept--> STREAMING --digest right--> VERIFIED --durable--> LANDED
       |                     |  ^ cut, stalled, 5xx: resumed on a new connection
       |                     +--+ digest wrong: once more from the start, then FAILED
       +--304--> LANDED      +--no more tries--> FAILED
       +--not kept--> PASSED (one waiter has the answer, the others ask for themselves)

Who leads holds the store's lock on the flight (``flight.py``), and is the only one who writes its
file.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from contextlib import suppress
from urllib.parse import urlsplit

from entrepot.digests import Hasher
from entrepot.errors import (
    Busy,
    DigestMismatch,
    StoreError,
    TruncatedBody,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from entrepot.httpcache import Action, Discard, Reason, Refresh, Store, on_response, unconditional
from entrepot.httpcache.messages import ResponseHead, StoredResponse
from entrepot.ports.store import PartialFile
from entrepot.ports.upstream import Answer
from entrepot.serving.fetch_request import Errand, Means, Note, State
from entrepot.serving.integrity import check_digest, check_length, finished, is_file, known_size
from entrepot.serving.known_files import Reader
from entrepot.serving.new_entry import draft_head
from entrepot.serving.page_readers import Verdict, judged, page_reader, wants
from entrepot.serving.policy import (
    BACKOFF_S,
    MAX_ATTEMPTS,
    REDIRECTS,
    RETRIED,
    VERIFIED_STATUSES,
    keeps,
    pause_s,
    without_private_fields,
)
from entrepot.serving.resume import (
    announced,
    as_kept,
    content_length,
    continues,
    hash_partial,
    range_validator,
    resuming,
)
from entrepot.serving.retry import NO_ANSWER, ask
from entrepot.serving.transfer_progress import NOTICED_S, Progress
from entrepot.stored import Head
from entrepot.worker_pool import Span

LONG_TO_KEEP = 1 << 20
"""Bytes from which on syncing a body takes so long that those who follow in other processes are
told of its end before."""


class Leader:
    """The one who asks upstream, in the one process that leads.

    Args:
        means: what it works with.
        errand: what for.
        progress: where it is shown.
        growing: the store's file, led.
    """

    def __init__(
        self, means: Means, errand: Errand, progress: Progress, growing: PartialFile
    ) -> None:
        self._means = means
        self._errand = errand
        self._progress = progress
        self._growing = growing
        self._forward = errand.forward
        self._by_range = True
        """Whether the rest can be asked for; else the whole is, and its start compared."""
        self._elsewhere = False
        """Whether the answer came from another address than was asked."""
        self._pause_s: float | None = None
        """Before the next try, if upstream or the policy has named it."""
        self._replaces: tuple[StoredResponse, ...] = ()
        self._doubted = False
        """Whether what was written had a wrong digest."""

    # trying

    async def lead(self) -> None:
        """Try until it is done.

        Three times without progress, on a new connection each time, after a wrong digest once more.

        Raises:
            UpstreamError: the last try's.
            StoreError: the store failed.
        """
        await self._pick_up()
        tries = mismatches = timeouts = 0
        for attempt in range(MAX_ATTEMPTS):
            last = tries >= len(BACKOFF_S) or attempt == MAX_ATTEMPTS - 1
            before = self._have
            try:
                if await self._attempt(again=attempt > 0, tries=tries, last=last):
                    return
            except DigestMismatch:
                mismatches += 1
                self._doubted = True
                self._start_over()
                if last or mismatches > 1:
                    raise
            except UpstreamError as exc:
                timeouts += isinstance(exc, UpstreamTimeout)
                progress = self._have > before
                if timeouts > 1 or (last and not (progress and attempt < MAX_ATTEMPTS - 1)):
                    raise
                tries = 0 if progress else tries
            self._progress.troubled = True
            self._progress.tell()
            pause, self._pause_s = self._pause_s, None
            await asyncio.sleep(
                BACKOFF_S[min(tries, len(BACKOFF_S) - 1)] if pause is None else pause
            )
            tries += 1

    def tidy(self) -> None:
        """Leave a partial behind only if somebody can make sense of it later."""
        shown = self._progress
        resumable = shown.draft is not None and (
            shown.holds or range_validator(shown.draft.response.head)
        )
        if not (resumable and self._growing.size() and not self._doubted):
            with suppress(StoreError):
                self._growing.discard()

    async def _pick_up(self) -> None:
        """Take over what an earlier leader left, if it can be continued; else begin anew."""
        shown, growing, expectation = self._progress, self._growing, self._errand.expectation
        told = Note.from_bytes(growing.state() or b"")
        size = growing.size()
        resumable = told is not None and (
            expectation.checks or range_validator(told.head.response.head)
        )
        if told is None or not resumable or not size or told.head.url != self._errand.redacted:
            if size or told is not None:
                growing.restart()
            self._forget_all()
        else:
            shown.hasher = await asyncio.to_thread(
                hash_partial, growing, expectation.hasher(), size
            )
            seen = shown.draft is not None
            shown.begin(told)
            if not seen:
                shown.state = State.ASKING  # until upstream has said that it is still the same
            shown.holds = expectation.checks and self._is_ok
        shown.growing = growing
        shown.tell()

    def _forget_all(self) -> None:
        self._by_range = True
        self._progress.forget(
            self._errand.expectation.hasher(), holds=self._errand.expectation.checks
        )

    def _start_over(self) -> None:
        self._forget_all()  # first: the store may fail
        self._progress.tell()
        self._growing.restart()

    # one try

    async def _attempt(self, *, again: bool, tries: int, last: bool) -> bool:
        """Ask upstream once; ``True`` when the flight is over."""
        shown, have = self._progress, self._have
        if have and have == shown.total:
            await self._land()  # an earlier leader died between the last byte and the store
            return True
        sent = self._means.clock.now()
        by_range = have > 0 and self._by_range
        answer, self._elsewhere = await ask(
            self._means.upstream,
            resuming(self._errand.forward, shown.draft, have)
            if by_range and shown.draft is not None
            else self._forward,
            fresh=again,
            follow=self._errand.expectation.proves,
        )
        try:
            status = answer.head.status
            if status in RETRIED and self._comes_again(answer.head, have, tries, last=last):
                return False
            if by_range and status == 206 and self._continues(answer.head, have):
                await self._receive(answer, skip=0)
            elif have and status == 200:
                await self._receive(answer, skip=have)
            elif by_range:
                self._by_range = False  # what came is no rest: ask for the whole, and compare
                return False
            else:
                if have:
                    self._start_over()  # there is something else now
                if self._contradicts(answer, sent):
                    return False
                if not await self._decide(answer, sent):
                    answer = NO_ANSWER
                    return True
            if shown.state is not State.LANDED:
                await self._land()
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
            raise TruncatedBody(
                f"upstream answered {head.status} for the rest",
                url=self._errand.redacted,
                received=have,
            )
        self._progress.failed_status = head
        return False

    def _continues(self, head: ResponseHead, have: int) -> bool:
        shown = self._progress
        return shown.draft is not None and continues(
            head, have, shown.total, shown.draft.response.head
        )

    def _contradicts(self, answer: Answer, sent: float) -> bool:
        """A 304 that fits nothing we have is no answer.

        The next try asks for the whole (RFC 9111 §4.3.3).
        """
        if answer.head.status == 206:
            raise UpstreamProtocolError(
                "upstream sent a part of what it was asked for", url=self._errand.redacted
            )
        if answer.head.status != 304:
            return False
        action = self._action(answer, sent)
        if isinstance(action, Discard) and action.reason is Reason.VALIDATOR_MISMATCH:
            self._forward = unconditional(self._forward)
            return True
        return False

    def _action(self, answer: Answer, sent: float) -> Action:
        errand, now = self._errand, self._means.clock.now()
        return on_response(
            errand.decision,
            errand.request,
            answer.head,
            request_time=sent,
            response_time=now,
            shared=self._means.shared,
        )

    async def _decide(self, answer: Answer, sent: float) -> bool:
        """What to do with a whole answer: stream it, refresh by it, or pass it on (``False``)."""
        shown, errand, now = self._progress, self._errand, self._means.clock.now()
        action = self._action(answer, sent)
        if isinstance(action, Refresh):
            await self._refresh(action)
            return True
        storable = isinstance(action, Store)
        is_kept = keeps(
            errand.forward,
            answer.head,
            storable=storable,
            shared=self._means.shared,
            expectation=errand.expectation,
        )
        if not is_kept or self._leads_away(answer.head):
            shown.answer, shown.state = answer, State.PASSED
            shown.tell()
            return False
        stored = (
            action.entry
            if isinstance(action, Store)
            else as_kept(errand.forward, answer.head, sent, now)
        )
        self._replaces = action.replaces if isinstance(action, Store) else ()
        shown.draft = draft_head(
            errand.request,
            stored,
            errand.expectation,
            shared=self._means.shared,
            reserve=not storable,
        )
        shown.total, shown.mark = (
            announced(answer.head, known_size(answer.head, errand.expectation)),
            secrets.token_hex(8),
        )
        shown.holds = errand.expectation.checks and self._is_ok
        if answer.head.status == 200:
            await self._means.readers.channels.changed(errand.request.url)
        self._growing.set_state(Note(shown.draft, shown.total, shown.mark, shown.holds).to_bytes())
        shown.state = State.STREAMING
        shown.tell()
        await self._receive(answer, skip=0)
        return True

    def _leads_away(self, head: ResponseHead) -> bool:
        """Whether a redirect, as to a page to sign in, would take the place of a stored index."""
        has_index = any(stored.head.status in VERIFIED_STATUSES for stored in self._errand.seen)
        return head.status in REDIRECTS and has_index and wants(self._errand.request) != ""

    async def _receive(self, answer: Answer, *, skip: int) -> None:
        """Write what comes. With ``skip``, upstream began again at 0.

        What we have must come again, and is compared.
        """
        shown, expectation, url = self._progress, self._errand.expectation, self._errand.redacted
        assert shown.draft is not None
        prefix, draft, known = (
            Hasher(),
            shown.draft,
            known_size(shown.draft.response.head, expectation),
        )
        shown.state = State.STREAMING if not skip else shown.state
        async for piece in answer.chunks():
            self._means.downloaded(len(piece))
            again, new = piece[:skip], piece[skip:]
            if again:
                prefix.feed(again)
                skip -= len(again)
                if not skip and prefix.digest() != shown.hasher.digest():
                    raise DigestMismatch(
                        "upstream sent different bytes when it was asked again", url=url
                    )
            if new:
                self._growing.write(new)
                shown.hasher.feed(new)
                shown.state = State.STREAMING
                shown.tell_growth()
            if known is not None and content_length(answer.head) is None and self._have > known:
                break  # nothing but this would ever end it
        if skip:
            raise DigestMismatch("upstream sent less when it was asked again", url=url)
        length = content_length(answer.head) if answer.head.status == 200 else None
        announced_ = shown.total if shown.total is not None else length
        check_length(draft.response.head, expectation, shown.hasher, announced=announced_, url=url)

    # keeping

    async def _land(self) -> None:
        """Check, let go of the held-back end, make durable."""
        shown, expectation, growing = self._progress, self._errand.expectation, self._growing
        assert shown.draft is not None
        size = self._have
        check_digest(
            shown.draft.response.head, expectation, shown.hasher, url=self._errand.redacted
        )
        head, ok = (
            finished(shown.draft, expectation, shown.hasher, elsewhere=self._elsewhere),
            self._is_ok,
        )
        reader = self._read_page(head) if ok else None
        shown.state, shown.total = State.VERIFIED, size
        shown.tell()
        if size >= LONG_TO_KEEP:
            self._say_whole(head, size)
        verdict = await self._judged(head, reader) if ok else Verdict()
        if verdict.secret:
            host = urlsplit(self._errand.redacted).hostname
            self._means.warn(f"pages of {host} hold tokens or signed links, so they are not kept")
        if verdict.secret or verdict.flaw:
            await self._let_go(head, size)
            return
        if verdict.is_doubtful:
            head = dataclasses.replace(head, reserve=True)
        try:
            shown.entry = await self._means.entries.keep(
                self._errand.request.url, head, growing, replaces=self._replaces
            )
        except (StoreError, Busy) as exc:
            self._means.entries.failed(exc)  # the clients have it all the same
        else:
            shown.state = State.LANDED

    async def _judged(self, head: Head, reader: Reader | None) -> Verdict:
        """Whether what has come may be kept; what has not is told to the user."""
        errand, means = self._errand, self._means
        verdict = await judged(
            errand.request, head, Span(self._growing.read, self._have), means.readers, reader
        )
        if errand.expectation.checks or (verdict.is_doubtful and not await self._has_better()):
            return dataclasses.replace(
                verdict, flaw=""
            )  # what has the digest that was known is what was asked for
        if verdict.flaw:
            means.readers.channels.refused(errand.request.url)
            has_other = any(stored.head.status in VERIFIED_STATUSES for stored in errand.seen)
            kept = "the last good one is kept" if has_other else "it is not kept"
            wanted = wants(errand.request, head.kind)
            means.note_flaw(
                errand.redacted, f"answered with {verdict.flaw} instead of {wanted}; {kept}"
            )
        return verdict

    async def _has_better(self) -> bool:
        """Whether a page without the flaw of the one that has come is stored."""
        errand, means = self._errand, self._means
        for stored in await means.entries.load(errand.request.url):
            blob = await means.entries.open_body(stored) if is_file(stored.response.head) else None
            if blob is None:
                continue
            try:
                verdict = await judged(
                    errand.request, stored, Span(blob.read, blob.size), means.readers
                )
            finally:
                blob.close()
            if not verdict.flaw:
                return True
        return False

    async def _let_go(self, head: Head, size: int) -> None:
        """Drop what is whole and not kept, once those who follow in other processes have been told where it ends."""
        try:
            self._say_whole(head, size)
            await asyncio.sleep(NOTICED_S)
        finally:
            self._growing.discard()

    def _say_whole(self, head: Head, size: int) -> None:
        """Tell those who follow in other processes that they may have the end, too."""
        with suppress(StoreError):
            self._growing.set_state(
                Note(head, size, self._progress.mark, self._progress.holds, whole=True).to_bytes()
            )

    async def _refresh(self, action: Refresh) -> None:
        shown, entries, url = self._progress, self._means.entries, self._errand.request.url
        heads = await entries.load(url)
        was = next((h for h in heads if h.response.key == action.was.key), None)
        if was is None:
            self._forward = unconditional(self._forward)
            raise UpstreamProtocolError(
                "upstream answered 304 for an entry that is gone", url=self._errand.redacted
            )
        renewed = dataclasses.replace(action.entry, head=without_private_fields(action.entry.head))
        shown.entry = await entries.save(url, dataclasses.replace(was, response=renewed))
        shown.refreshed, shown.state = True, State.LANDED

    def _read_page(self, head: Head) -> Reader | None:
        """Have an index page read.

        Known before anybody has its last byte, so that requests for its files wait for it.
        """
        url, body = self._errand.request.url, Span(self._growing.read, self._have)
        if head.body is None:
            return None
        reader = page_reader(url, head, body, self._means.readers, self._errand.expectation.link)
        if reader is not None:
            self._means.facts.read(url, head.body, reader)
        return reader

    @property
    def _have(self) -> int:
        """Bytes that have arrived, or were left by an earlier leader."""
        return self._progress.hasher.size

    @property
    def _is_ok(self) -> bool:
        return self._progress.draft is not None and is_file(self._progress.draft.response.head)
