"""Fetching: ask upstream until the body is whole, resume, check it, and make it durable.

The phases stand in ``transfer.py``. Only the process that holds the write lock (``transfers.py``)
fetches, and only it writes the file. The answer to a GET or HEAD that is passed on and not kept is
asked for here too.
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
from entrepot.httpcache.conditional import unconditional
from entrepot.httpcache.exchange import Action, Discard, Refresh, Store, on_response
from entrepot.httpcache.messages import RequestHead, ResponseHead, StoredResponse
from entrepot.httpcache.policy import Reason
from entrepot.ports.clock import Clock
from entrepot.ports.store import PartialFile
from entrepot.ports.upstream import Answer, Upstream
from entrepot.serving.index_reader import Span
from entrepot.serving.integrity import (
    check_digest,
    check_length,
    finished,
    is_file,
    known_size,
    wrong_digest,
)
from entrepot.serving.known_files import Expectation, Reader
from entrepot.serving.page_readers import Verdict, judged, page_reader, state_of, wants
from entrepot.serving.policy import (
    BACKOFF_S,
    MAX_ATTEMPTS,
    NEGATIVES,
    REDIRECTS,
    RETRIED,
    VERIFIED_STATUSES,
    draft_head,
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
    redirected,
    resuming,
)
from entrepot.serving.transfer import (
    NOTICED_S,
    FetchRequest,
    Phase,
    Progress,
    Resources,
)
from entrepot.serving.transfer_state import TransferState
from entrepot.stored import Head

LONG_TO_KEEP = 1 << 20
"""Bytes from which on syncing a body takes so long that those who follow in other processes are
told of its end before."""


class Fetcher:
    """Asks upstream for one transfer, in the process that holds its write lock.

    Args:
        resources: of the service.
        fetch: what is asked for.
        progress: where it is shown.
        growing: the store's file, locked.
    """

    def __init__(
        self, resources: Resources, fetch: FetchRequest, progress: Progress, growing: PartialFile
    ) -> None:
        self._resources = resources
        self._fetch = fetch
        self._progress = progress
        self._growing = growing
        self._forward = fetch.forward
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

    async def fetch(self) -> None:
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
        """Take over what an earlier process left, if it can be continued; else begin anew."""
        shown, growing, expectation = self._progress, self._growing, self._fetch.expectation
        told = TransferState.from_bytes(growing.state() or b"")
        size = growing.size()
        resumable = told is not None and (
            expectation.checks or range_validator(told.head.response.head)
        )
        if told is None or not resumable or not size or told.head.url != self._fetch.redacted:
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
                shown.phase = Phase.ASKING  # until upstream has said that it is still the same
            shown.holds = expectation.checks and self._is_ok
        shown.growing = growing
        shown.tell()

    def _forget_all(self) -> None:
        self._by_range = True
        self._progress.forget(
            self._fetch.expectation.hasher(), holds=self._fetch.expectation.checks
        )

    def _start_over(self) -> None:
        self._forget_all()  # first: the store may fail
        self._progress.tell()
        self._growing.restart()

    # one try

    async def _attempt(self, *, again: bool, tries: int, last: bool) -> bool:
        """Ask upstream once; ``True`` when the transfer is over."""
        shown, have = self._progress, self._have
        if have and have == shown.total:
            await self._land()  # an earlier process died between the last byte and the store
            return True
        sent = self._resources.clock.now()
        by_range = have > 0 and self._by_range
        answer, self._elsewhere = await ask(
            self._resources.upstream,
            resuming(self._fetch.forward, shown.draft, have)
            if by_range and shown.draft is not None
            else self._forward,
            fresh=again,
            follow=self._fetch.expectation.proves,
        )
        try:
            status = answer.head.status
            if status in RETRIED and self._comes_again(answer.head, have, tries, last=last):
                return False
            began = shown.draft.response.head if shown.draft is not None else None
            is_rest = began is not None and continues(answer.head, have, shown.total, began)
            if by_range and status == 206 and is_rest:
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
            if shown.phase is not Phase.LANDED:
                await self._land()
            return True
        finally:
            await answer.aclose()

    def _comes_again(self, head: ResponseHead, have: int, tries: int, *, last: bool) -> bool:
        """Whether a failing status is to be tried again.

        Raises:
            TruncatedBody: it is not, and the body has begun: what there is stays to be resumed.
        """
        self._pause_s = None if last else pause_s(tries, head, self._resources.clock.now())
        if self._pause_s is not None:
            return True
        if have:
            raise TruncatedBody(
                f"upstream answered {head.status} for the rest",
                url=self._fetch.redacted,
                received=have,
            )
        self._progress.failed_status = head
        return False

    def _contradicts(self, answer: Answer, sent: float) -> bool:
        """Whether a 304 fits nothing we have: the next try asks for the whole (RFC 9111 §4.3.3)."""
        if answer.head.status == 206:
            raise UpstreamProtocolError(
                "upstream sent a part of what it was asked for", url=self._fetch.redacted
            )
        if answer.head.status != 304:
            return False
        action = self._action(answer, sent)
        if isinstance(action, Discard) and action.reason is Reason.VALIDATOR_MISMATCH:
            self._forward = unconditional(self._forward)
            return True
        return False

    def _action(self, answer: Answer, sent: float) -> Action:
        fetch, now = self._fetch, self._resources.clock.now()
        return on_response(
            fetch.decision,
            fetch.request,
            answer.head,
            request_time=sent,
            response_time=now,
            shared=self._resources.shared,
        )

    async def _decide(self, answer: Answer, sent: float) -> bool:
        """What to do with a whole answer: stream it, refresh by it, or pass it on (``False``)."""
        shown, fetch, now = self._progress, self._fetch, self._resources.clock.now()
        action = self._action(answer, sent)
        if isinstance(action, Refresh):
            await self._refresh(action)
            return True
        storable = isinstance(action, Store)
        known, shared = fetch.expectation, self._resources.shared
        came, asked = answer.head, fetch.forward
        is_kept = keeps(asked, came, storable=storable, shared=shared, expectation=known)
        if not is_kept or self._is_no_index(came):
            shown.answer, shown.phase = answer, Phase.PASSED
            shown.tell()
            return False
        if isinstance(action, Store):
            stored, self._replaces = action.entry, action.replaces
        else:
            stored, self._replaces = as_kept(asked, came, sent, now), ()
        shown.draft = draft_head(fetch.request, stored, known, shared=shared, reserve=not storable)
        shown.total, shown.mark = announced(came, known_size(came, known)), secrets.token_hex(8)
        shown.holds = known.checks and self._is_ok
        if came.status == 200:
            await self._resources.readers.channels.changed(fetch.request.url)
        self._growing.set_state(
            TransferState(shown.draft, shown.total, shown.mark, shown.holds).to_bytes()
        )
        shown.phase = Phase.STREAMING
        shown.tell()
        await self._receive(answer, skip=0)
        return True

    def _is_no_index(self, head: ResponseHead) -> bool:
        """Whether a status alone tells that an answer must not take an index's place: 204, say.

        A redirect, as to a page to sign in, must not where an index is stored.
        """
        if head.status in VERIFIED_STATUSES | NEGATIVES or not wants(self._fetch.request):
            return False
        has_index = any(stored.head.status in VERIFIED_STATUSES for stored in self._fetch.seen)
        return has_index or head.status not in REDIRECTS

    async def _receive(self, answer: Answer, *, skip: int) -> None:
        """Write what comes; the first ``skip`` bytes of it are there already, and are compared."""
        shown, expectation, url = self._progress, self._fetch.expectation, self._fetch.redacted
        assert shown.draft is not None
        prefix, known = Hasher(), known_size(shown.draft.response.head, expectation)
        shown.phase = Phase.STREAMING if not skip else shown.phase
        async for piece in answer.chunks():
            self._resources.downloaded(len(piece))
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
                shown.phase = Phase.STREAMING
                shown.tell_growth()
            if known is not None and content_length(answer.head) is None and self._have > known:
                break  # nothing but this would ever end it
        if skip:
            raise DigestMismatch("upstream sent less when it was asked again", url=url)
        length = content_length(answer.head) if answer.head.status == 200 else None
        total = shown.total if shown.total is not None else length
        began = shown.draft.response.head
        check_length(began, expectation, shown.hasher, announced=total, url=url)

    # keeping

    async def _land(self) -> None:
        """Check, let go of the held-back end, make durable."""
        shown, expectation, growing = self._progress, self._fetch.expectation, self._growing
        assert shown.draft is not None
        size = self._have
        if wrong_digest(shown.draft.response.head, expectation, shown.hasher) is not None:
            expectation = await self._expect_anew(size)
        check_digest(shown.draft.response.head, expectation, shown.hasher, url=self._fetch.redacted)
        head, ok = finished(shown.draft, expectation, shown.hasher), self._is_ok
        if self._elsewhere and not head.proven:
            head = dataclasses.replace(head, reserve=True)  # its freshness is not this address's
        body = Span(growing.read, size)
        reader = read_page(self._resources, self._fetch, head, body) if ok else None
        shown.phase, shown.total = Phase.VERIFIED, size
        shown.tell()
        if size >= LONG_TO_KEEP:
            self._say_whole(head, size)
        verdict = await self._judged(head, reader) if ok else Verdict()
        if verdict.secret:
            host = urlsplit(self._fetch.redacted).hostname
            self._resources.warn(
                f"pages of {host} hold tokens or signed links, so they are not kept"
            )
        if verdict.secret or verdict.flaw:
            try:  # the followers in other processes must see where it ends before it goes
                self._say_whole(head, size)
                await asyncio.sleep(NOTICED_S)
            finally:
                growing.discard()
            return
        if verdict.is_doubtful:
            head = dataclasses.replace(head, reserve=True)
        try:
            shown.entry = await self._resources.entries.keep(
                self._fetch.request.url, head, growing, replaces=self._replaces
            )
        except (StoreError, Busy) as exc:
            self._resources.entries.failed(exc)  # the clients have it all the same
        else:
            shown.phase = Phase.LANDED

    async def _judged(self, head: Head, reader: Reader | None) -> Verdict:
        """Whether what has come may be kept; what has not is told to the user."""
        fetch, resources = self._fetch, self._resources
        body = Span(self._growing.read, self._have)
        verdict = await judged(fetch.request, head, body, resources.readers, reader)
        if fetch.expectation.checks or (verdict.is_doubtful and not await self._has_better()):
            # a known digest says that it is what was asked for
            return dataclasses.replace(verdict, flaw="")
        if verdict.flaw:
            resources.readers.channels.refused(fetch.request.url)
            resources.known_files.refused(
                fetch.request.url, state_of(fetch.request.url, head, fetch.expectation.link)
            )
            has_other = any(stored.head.status in VERIFIED_STATUSES for stored in fetch.seen)
            kept = "the last good one is kept" if has_other else "it is not kept"
            came = f"{verdict.flaw} instead of {wants(fetch.request, head.kind)}"
            resources.note_flaw(fetch.redacted, f"answered with {came}; {kept}")
        return verdict

    async def _has_better(self) -> bool:
        """Whether a page without the flaw of the one that has come is stored."""
        fetch, resources = self._fetch, self._resources
        for stored in await resources.entries.load(fetch.request.url):
            if not is_file(stored.response.head):
                continue
            if (blob := await resources.entries.open_body(stored)) is None:
                continue
            try:
                body = Span(blob.read, blob.size)
                verdict = await judged(fetch.request, stored, body, resources.readers)
            finally:
                blob.close()
            if not verdict.flaw:
                return True
        return False

    async def _expect_anew(self, size: int) -> Expectation:
        """What a body must be that no witness has named so far.

        A page that names it may just be being read.
        """
        expectation = await self._resources.expect_anew(self._fetch.request.url)
        if expectation.named not in ((), self._fetch.expectation.named):
            self._fetch = dataclasses.replace(self._fetch, expectation=expectation)
            self._progress.hasher = await asyncio.to_thread(
                hash_partial, self._growing, expectation.hasher(), size
            )
        return self._fetch.expectation

    def _say_whole(self, head: Head, size: int) -> None:
        """Tell those who follow in other processes that they may have the end, too."""
        shown = self._progress
        state = TransferState(head, size, shown.mark, shown.holds, whole=True)
        with suppress(StoreError):
            self._growing.set_state(state.to_bytes())

    async def _refresh(self, action: Refresh) -> None:
        shown, entries, url = self._progress, self._resources.entries, self._fetch.request.url
        heads = await entries.load(url)
        was = next((h for h in heads if h.response.key == action.was.key), None)
        if was is None:
            self._forward = unconditional(self._forward)
            raise UpstreamProtocolError(
                "upstream answered 304 for an entry that is gone", url=self._fetch.redacted
            )
        renewed = dataclasses.replace(action.entry, head=without_private_fields(action.entry.head))
        shown.entry = await entries.save(url, dataclasses.replace(was, response=renewed))
        shown.refreshed, shown.phase = True, Phase.LANDED

    @property
    def _have(self) -> int:
        """Bytes that have arrived, or were left by an earlier process."""
        return self._progress.hasher.size

    @property
    def _is_ok(self) -> bool:
        return self._progress.draft is not None and is_file(self._progress.draft.response.head)


def read_page(resources: Resources, fetch: FetchRequest, head: Head, body: Span) -> Reader | None:
    """Have an index page read.

    Known before anybody has its last byte, so that requests for its files wait for it.
    """
    url, link = fetch.request.url, fetch.expectation.link
    reader = page_reader(url, head, body, resources.readers, link)
    if reader is not None and head.body is not None:
        resources.known_files.read(url, state_of(url, head, link), reader)
    return reader


MAX_REDIRECTS = 10


async def ask(
    upstream: Upstream, request: RequestHead, *, fresh: bool, follow: bool
) -> tuple[Answer, bool]:
    """Send a request, and follow redirects inside, so that signed targets are never stored.

    Args:
        upstream: whom to ask.
        request: for the first address.
        fresh: whether each connection must be a new one.
        follow: whether what comes from elsewhere can be told to be right.

    Returns:
        The last answer, and whether it came from another address.

    Raises:
        UpstreamError: no answer.
    """
    answer = await upstream.send(request, fresh_connection=fresh)
    for count in range(MAX_REDIRECTS):
        location = answer.head.headers.get("location")
        if answer.head.status not in REDIRECTS or not location or not follow:
            return answer, count > 0
        await answer.aclose()
        request = redirected(request, location)
        answer = await upstream.send(request, fresh_connection=fresh)
    return answer, True


async def ask_again(upstream: Upstream, request: RequestHead, clock: Clock) -> Answer:
    """The answer to a GET or HEAD that is passed on.

    A failure before its body is tried again, as for what is kept.

    Silence is not: who asks has waited long enough.

    Raises:
        UpstreamError: the last try's.
    """
    for attempt in range(len(BACKOFF_S) + 1):
        last = attempt == len(BACKOFF_S)
        pause: float | None = BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]
        try:
            answer = await upstream.send(request, fresh_connection=attempt > 0)
        except UpstreamError as exc:
            if last or isinstance(exc, UpstreamTimeout):
                raise
        else:
            if answer.head.status not in RETRIED or last:
                return answer
            pause = pause_s(attempt, answer.head, clock.now())
            if pause is None:
                return answer
            await answer.aclose()
        await asyncio.sleep(pause or 0)
    raise AssertionError("the last try returns or raises")


class _NoAnswer:
    """Stands where an answer was handed on: closing it is the new owner's business."""

    async def aclose(self) -> None:
        pass


NO_ANSWER: Answer = _NoAnswer()  # type: ignore[assignment]
