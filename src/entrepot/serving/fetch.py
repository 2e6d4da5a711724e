"""Fetching: ask upstream until the body is whole, resume, check it, and make it durable.

The phases stand in ``transfer.py``. Only the process that holds the write lock (``transfers.py``)
fetches, and only it writes the file. The answer to a GET or HEAD that is passed on and not kept is
asked for here too.

Source: RFC 9110 §13.1.5 (If-Range), §14 (ranges), §15.4 (redirects).
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from contextlib import suppress
from urllib.parse import urljoin, urlsplit

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
from entrepot.httpcache.exchange import Discard, Refresh, Store, on_response
from entrepot.httpcache.fields import entity_tag, http_date
from entrepot.httpcache.messages import RequestHead, ResponseHead, StoredResponse
from entrepot.httpcache.policy import Reason, selecting_values
from entrepot.ports.clock import Clock
from entrepot.ports.store import PartialFile
from entrepot.ports.upstream import Answer, Upstream
from entrepot.serving.channels import Span
from entrepot.serving.integrity import (
    check_length,
    content_length,
    digest_mismatch,
    fed,
    is_file,
    known_size,
    wrong_digest,
)
from entrepot.serving.known_files import Expectation, Reader
from entrepot.serving.pages import Verdict, state_of, wants
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
    sent_to,
    without_private_fields,
)
from entrepot.serving.transfer import NOTICED_S, FetchRequest, Phase, Progress, Resources
from entrepot.stored import Head, TransferState

LONG_TO_KEEP = 1 << 20
"""Bytes from which on syncing a body takes so long that those who follow in other processes are
told of its end before."""
MAX_REDIRECTS = 10


class Fetcher:
    """Asks upstream for one transfer, in the process that holds its write lock.

    It is shown in ``progress``, and written to ``growing``, the store's file, which is locked.
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
            hasher = expectation.hasher()
            shown.hasher = await asyncio.to_thread(fed, hasher, growing.read, size)
            seen = shown.draft is not None
            shown.begin(told)
            if not seen:
                shown.phase = Phase.ASKING  # until upstream has said that it is still the same
            shown.holds = expectation.checks and self._is_ok
        shown.growing = growing
        shown.tell()

    def _forget_all(self) -> None:
        self._by_range = True
        expectation = self._fetch.expectation
        self._progress.forget(expectation.hasher(), holds=expectation.checks)

    def _start_over(self) -> None:
        self._forget_all()  # first: the store may fail
        self._progress.tell()
        self._growing.restart()

    # one try

    async def _attempt(self, *, again: bool, tries: int, last: bool) -> bool:
        """Ask upstream once; ``True`` when the transfer is over.

        Raises:
            UpstreamError: no answer, or none that can be used; what has come stays to be resumed.
        """
        shown, have = self._progress, self._have
        if have and have == shown.total:
            await self._land()  # an earlier process died between the last byte and the store
            return True
        draft, by_range = shown.draft, have > 0 and self._by_range
        sent = self._resources.clock.now()
        answer, self._elsewhere = await ask(
            self._resources.upstream,
            resuming(self._fetch.forward, have, draft.response.head)
            if by_range and draft is not None
            else self._forward,
            fresh=again,
            follow=self._fetch.expectation.proves,
        )
        status = answer.head.status
        try:
            if status in RETRIED:
                now = self._resources.clock.now()
                self._pause_s = None if last else pause_s(tries, answer.head, now)
                if self._pause_s is not None:
                    return False
                if have:
                    text = f"upstream answered {status} for the rest"
                    raise TruncatedBody(text, url=self._fetch.redacted, received=have)
                shown.failed_status = answer.head
            began = draft.response.head if draft is not None else None
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
                if not await self._decide(answer, sent):
                    return False
            if shown.phase not in {Phase.LANDED, Phase.PASSED}:
                await self._land()
            return True
        finally:
            if shown.phase is not Phase.PASSED:  # else the one that claims the answer closes it
                await answer.aclose()

    async def _decide(self, answer: Answer, sent: float) -> bool:
        """Stream a whole answer, refresh by it, or pass it on; ``False``: ask for the whole."""
        shown, fetch, came = self._progress, self._fetch, answer.head
        if came.status == 206:
            text = "upstream sent a part of what it was asked for"
            raise UpstreamProtocolError(text, url=fetch.redacted)
        now, shared = self._resources.clock.now(), self._resources.rules.shared
        action = on_response(
            fetch.decision,
            fetch.request,
            came,
            request_time=sent,
            response_time=now,
            shared=shared,
        )
        if (
            came.status == 304
            and isinstance(action, Discard)
            and action.reason is Reason.VALIDATOR_MISMATCH
        ):
            self._forward = unconditional(
                self._forward
            )  # it fits nothing we have (RFC 9111 §4.3.3)
            return False
        if isinstance(action, Refresh):
            await self._refresh(action)
            return True
        storable = isinstance(action, Store)
        known, asked = fetch.expectation, fetch.forward
        is_kept = keeps(asked, came, storable=storable, shared=shared, expectation=known)
        if not is_kept or self._is_no_index(came):
            shown.answer, shown.phase = answer, Phase.PASSED
            shown.tell()
            return True
        if isinstance(action, Store):
            stored, self._replaces = action.entry, action.replaces
        else:  # HTTP would not store it, but the policy does
            vary = selecting_values(came.headers.get("vary"), asked.headers) or ()
            stored, self._replaces = StoredResponse(came, vary, sent, now), ()
        shown.draft = draft_head(fetch.request, stored, known, shared=shared, reserve=not storable)
        shown.total, shown.mark = announced(came, known_size(came, known)), secrets.token_hex(8)
        shown.holds = known.checks and self._is_ok
        if came.status == 200:
            await self._resources.pages.channels.changed(fetch.request.url)
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
        return self._has_file or head.status not in REDIRECTS

    @property
    def _has_file(self) -> bool:
        """Whether what was asked for was stored when it was."""
        return any(is_file(stored.head) for stored in self._fetch.seen)

    async def _receive(self, answer: Answer, *, skip: int) -> None:
        """Write what comes; the first ``skip`` bytes of it are there already, and are compared."""
        shown, expectation, url = self._progress, self._fetch.expectation, self._fetch.redacted
        assert shown.draft is not None
        began, length = shown.draft.response.head, content_length(answer.head)
        prefix, known = Hasher(), known_size(began, expectation)
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
            if known is not None and length is None and self._have > known:
                break  # nothing but this would ever end it
        if skip:
            raise DigestMismatch("upstream sent less when it was asked again", url=url)
        if shown.total is not None or answer.head.status != 200:
            length = shown.total
        check_length(began, expectation, shown.hasher, announced=length, url=url)

    # keeping

    async def _land(self) -> None:
        """Check, let go of the held-back end, make durable."""
        shown, expectation, growing = self._progress, self._fetch.expectation, self._growing
        draft, size = shown.draft, self._have
        assert draft is not None
        if wrong_digest(draft.response.head, expectation, shown.hasher) is not None:
            expectation = await self._expect_anew(size)
        wrong = wrong_digest(draft.response.head, expectation, shown.hasher)
        if wrong is not None:
            raise digest_mismatch(self._fetch.redacted, wrong, shown.hasher)
        ok = self._is_ok
        proven = expectation.proven_by(shown.hasher) if ok else ()
        head = dataclasses.replace(
            draft,
            body=shown.hasher.digest() if size else None,
            response=dataclasses.replace(draft.response, size=size),
            proven=proven,
            # from another address, its freshness is not this one's
            reserve=draft.reserve or (self._elsewhere and not proven),
        )
        url, body = self._fetch.request.url, Span(growing.read, size)
        pages, link = self._resources.pages, self._fetch.expectation.link
        # Known before anybody has its last byte, so that requests for its files wait for it.
        reader = pages.learn(url, head, body, link) if ok else None
        shown.phase, shown.total = Phase.VERIFIED, size
        shown.tell()
        if size >= LONG_TO_KEEP:
            self._say_whole(head, size)
        verdict = await self._judged(head, reader) if ok else Verdict()
        if verdict.secret:
            host = urlsplit(self._fetch.redacted).hostname
            self._resources.stats.warn(
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
                url, head, growing, replaces=self._replaces
            )
        except (StoreError, Busy) as exc:
            self._resources.entries.failed(exc)  # the clients have it all the same
        else:
            shown.phase = Phase.LANDED

    async def _judged(self, head: Head, reader: Reader | None) -> Verdict:
        """Whether what has come may be kept; what has not is told to the user."""
        fetch, resources, url = self._fetch, self._resources, self._fetch.request.url
        body = Span(self._growing.read, self._have)
        verdict = await resources.pages.judge(fetch.request, head, body, reader)
        if fetch.expectation.checks or (verdict.is_doubtful and not await self._has_better()):
            # a known digest says that it is what was asked for
            return dataclasses.replace(verdict, flaw="")
        if verdict.flaw:
            resources.pages.channels.refused(url)
            resources.known_files.refused(url, state_of(url, head, fetch.expectation.link))
            kept = "the last good one is kept" if self._has_file else "it is not kept"
            came = f"{verdict.flaw} instead of {wants(fetch.request, head.kind)}"
            resources.stats.note_flaw(fetch.redacted, f"answered with {came}; {kept}")
        return verdict

    async def _has_better(self) -> bool:
        """Whether a page without the flaw of the one that has come is stored."""
        request, entries = self._fetch.request, self._resources.entries
        for stored in await entries.load(request.url):
            blob = await entries.open_body(stored) if is_file(stored.response.head) else None
            if blob is None:
                continue
            try:
                body = Span(blob.read, blob.size)
                verdict = await self._resources.pages.judge(request, stored, body)
            finally:
                blob.close()
            if not verdict.flaw:
                return True
        return False

    async def _expect_anew(self, size: int) -> Expectation:
        """What a body must be that no witness has named so far.

        A page that names it may just be being read.
        """
        expectation = await self._resources.expect(self._fetch.request.url, settled=True)
        if expectation.named not in ((), self._fetch.expectation.named):
            self._fetch = dataclasses.replace(self._fetch, expectation=expectation)
            hasher = expectation.hasher()
            self._progress.hasher = await asyncio.to_thread(fed, hasher, self._growing.read, size)
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
            text = "upstream answered 304 for an entry that is gone"
            raise UpstreamProtocolError(text, url=self._fetch.redacted)
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


async def ask(
    upstream: Upstream, request: RequestHead, *, fresh: bool, follow: bool
) -> tuple[Answer, bool]:
    """Send a request, and follow redirects inside, so that signed targets are never stored.

    ``follow`` is whether what comes from elsewhere can be told to be right; ``fresh``, whether each
    connection must be a new one.

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
        request = sent_to(urljoin(request.url, location).partition("#")[0], request)
        answer = await upstream.send(request, fresh_connection=fresh)
    return answer, True


async def ask_again(upstream: Upstream, request: RequestHead, clock: Clock) -> Answer:
    """The answer to a GET or HEAD that is passed on.

    A failure before its body is tried again, as for what is kept.

    Silence is not: who asks has waited long enough.

    Raises:
        UpstreamError: the last try's.
    """
    for attempt, pause in enumerate(BACKOFF_S):
        try:
            answer = await upstream.send(request, fresh_connection=attempt > 0)
        except UpstreamTimeout:
            raise
        except UpstreamError:
            await asyncio.sleep(pause)
        else:
            wanted = pause_s(attempt, answer.head, clock.now())
            if answer.head.status not in RETRIED or wanted is None:
                return answer
            await answer.aclose()
            await asyncio.sleep(wanted)
    return await upstream.send(request, fresh_connection=True)


def range_validator(head: ResponseHead) -> str | None:
    """What If-Range may carry.

    A strong entity tag, else a Last-Modified that is strong (RFC 9110 §13.1.5, §8.8.2.2).
    """
    tag = entity_tag(head.headers.get("etag"))
    if tag is not None and not tag.weak:
        return head.headers.get("etag")
    modified = head.headers.get("last-modified")
    date, changed = (http_date(head.headers.get(name), 0) for name in ("date", "last-modified"))
    # "... a Date value that is at least one second after the Last-Modified value"
    return modified if date is not None and changed is not None and date > changed else None


def resuming(request: RequestHead, have: int, began: ResponseHead | None) -> RequestHead:
    """The request for the rest (RFC 9110 §14.2), if it is still the same (§13.1.5)."""
    headers = request.headers.without("range", "if-range", "if-none-match", "if-modified-since")
    headers = headers.added("Range", f"bytes={have}-")
    validator = range_validator(began) if began is not None else None
    if validator:
        headers = headers.added("If-Range", validator)
    return dataclasses.replace(request, headers=headers)


def announced(head: ResponseHead, known: int | None) -> int | None:
    """Bytes that a client may be told to expect; ``known`` is what the index says of the whole.

    Where upstream and the index contradict each other neither is believed: the body's end, or its
    digest, tells.
    """
    length = content_length(head)
    if known is None or length is None:
        return length if known is None else known
    return known if length == known else None


def continues(head: ResponseHead, have: int, total: int | None, began: ResponseHead) -> bool:
    """Whether a 206 carries just what is missing of what ``began`` (RFC 9110 §14.4, §15.3.7.3)."""
    tags = [entity_tag(each.headers.get("etag")) for each in (began, head)]
    if tags[0] is not None and tags[1] is not None and tags[0] != tags[1]:
        return False  # If-Range was ignored, by a mirror that has another file
    text = (head.headers.get("content-range") or "").strip().lower()
    if not text.startswith(f"bytes {have}-"):
        return False
    whole = text.rpartition("/")[2]
    return total is None or whole in {"*", str(total)}
