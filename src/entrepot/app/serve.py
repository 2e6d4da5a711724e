"""One client request: look up, revalidate, fetch, answer. The only place that knows the order of these steps.

::

    request -> fixed by a digest?    -> the store's bytes
            -> offline?              -> whatever is stored, or 504
            -> httpcache.lookup      -> Hit | Stale -> flight | Miss -> flight | Bypass -> upstream
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from entrepot.app.ahead import Ahead
from entrepot.app.answers import Answer, BlobBody, Body, BytesBody, Request, StreamBody
from entrepot.app.asking import ask_again
from entrepot.app.channels import ANSWER_S, Channels, resumed_from
from entrepot.app.company import Company
from entrepot.app.direct import rest_of, verified
from entrepot.app.donors import take_over
from entrepot.app.entries import Entries
from entrepot.app.errand import Errand, Means, State, errand_for
from entrepot.app.facts import NOTHING, Expectation, Facts
from entrepot.app.flight import Flight
from entrepot.app.flights import FlightBody, Flights
from entrepot.app.loopback import is_loopback
from entrepot.app.metadata import made_from_wheel
from entrepot.app.older import written_as_html
from entrepot.app.pages import Readers, read_stored, teaches
from entrepot.app.partials import as_it_is, content_length
from entrepot.app.policy import NEGATIVES, RETRIED, agrees, immutable, newer, provable, refreshing, stand_in, to_be_admitted, usable
from entrepot.app.tally import Tally
from entrepot.errors import EntrepotError, StoreError, UpstreamError, UpstreamProtocolError
from entrepot.heads import Head, canonical_url, redacted_url
from entrepot.httpcache import (
    Bypass,
    Decision,
    Hit,
    Miss,
    Reason,
    Stale,
    StaleUse,
    cache_status,
    current_age,
    forwardable,
    invalidated_urls,
    lookup,
    on_failure,
    reply,
    revalidation,
)
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead
from entrepot.names import classify, filename_of
from entrepot.ports.clock import Clock
from entrepot.ports.donor import Donor
from entrepot.ports.upstream import Answer as UpstreamAnswer
from entrepot.ports.upstream import Upstream
from entrepot.simple.worker import PageReader

READ_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Rules:
    """How this door serves."""

    offline: bool = False
    refresh: bool = False
    no_store: bool = False
    shared: bool = False
    caches: Callable[[RequestHead], bool] = lambda _request: True
    """Whether a request is for a package host: others are passed on and nothing else."""


class Service:
    """Answers requests out of the store and upstream.

    Args:
        entries, upstream, facts, clock: the world.
        rules: how.
        tally: where it is counted.
        donors: finds other tools' caches; called at the first miss, in a thread.
        grown: told how many bytes came from upstream, piece by piece.
        company: which pages were asked for together; ``None``: nothing is asked ahead.
    """

    def __init__(
        self,
        *,
        entries: Entries,
        upstream: Upstream,
        facts: Facts,
        clock: Clock,
        rules: Rules,
        tally: Tally,
        donors: Callable[[], Sequence[Donor]] = tuple,
        grown: Callable[[int], None] = lambda _count: None,
        company: Company | None = None,
    ) -> None:
        self._grown = grown
        self._find_donors = donors
        self._donors: Sequence[Donor] | None = None
        self._entries = entries
        self._upstream = upstream
        self._facts = facts
        self._clock = clock
        self._rules = rules
        self._tally = tally
        self._channels = Channels(entries, facts.catalogue, clock)
        self._readers = Readers(PageReader(), self._channels)
        means = Means(entries, upstream, clock, facts, self._readers, rules.shared, self._downloaded, tally.warn)
        self._flights = Flights(means)
        self._ahead: Ahead | None = None
        if company is not None and not (rules.offline or rules.no_store):
            self._ahead = Ahead(means, self._flights, company, tally.ahead, refresh=rules.refresh)

    async def handle(self, request: Request) -> Answer:
        """The answer to one request; never raises for what upstream or the store do."""
        url = canonical_url(request.head.url)
        head = RequestHead(request.head.method, url, forwardable(request.head.headers))
        try:
            if not self._rules.caches(head):
                return await self._past(Request(head, request.body))
            # Content of a GET has no meaning that a cache could know (RFC 9110 §9.3.1).
            if self._rules.no_store or head.method not in READ_METHODS or request.body is not None:
                return await self._pass_on(Request(head, request.body))
            return await self._look_up(head)
        except UpstreamError as exc:
            return self._failed(head, exc)

    async def aclose(self) -> None:
        """Finish what is nearly done, stop the rest, learn the pages that were seen."""
        if self._ahead is not None:
            await self._ahead.aclose()
        await self._flights.aclose()
        await self._facts.settled()
        await self._readers.aclose()

    # the store first

    async def _look_up(self, request: RequestHead) -> Answer:
        self._channels.asked(request.url)
        expectation = await self._channels.expect(request.url, await self._facts.expect(request.url))
        heads = await self._entries.load(request.url)
        if self._ahead is not None and await self._ahead.landing(request.url):
            heads = await self._entries.load(request.url)
        open_to_all = [h for h in heads if not (self._rules.shared and h.credentialed)]
        foreseen = self._ahead.taken(request, open_to_all, expectation) if self._ahead is not None else None
        if foreseen is not None and (answer := await self._stored(request, *foreseen)) is not None:
            return answer
        fixed = immutable(open_to_all, expectation) or await self._proven_now(request, open_to_all, expectation)
        if fixed is None:
            fixed = await made_from_wheel(request.url, expectation, self._entries, self._clock.now(), shared=self._rules.shared)
        if fixed is not None:
            answer = await self._stored(request, fixed, "hit")
            if answer is not None:
                return answer
        if fixed is None and (taken := await self._taken_over(request, expectation)) is not None:
            answer = await self._stored(request, taken, "hit")
            if answer is not None:
                return answer
        if self._rules.offline:
            return await self._offline(request, [h for h in open_to_all if agrees(h, expectation)])
        candidates = [h.response for h in usable(heads, expectation, shared=self._rules.shared) if h is not fixed]
        now, shared = self._clock.now(), self._rules.shared
        decision = lookup(refreshing(request) if self._rules.refresh else request, candidates, now=now, shared=shared)
        if isinstance(decision, Miss) and shared and (head := to_be_admitted(request, heads, expectation)) is not None:
            decision = revalidation(request, head.response, now=now, shared=shared)
        return await self._decided(request, decision, heads, expectation)

    async def _taken_over(self, request: RequestHead, expectation: Expectation, *, unproven: bool = False) -> Head | None:
        if not (expectation.proves or unproven):
            return None
        if self._donors is None:
            self._donors = await asyncio.to_thread(self._find_donors)
        return await take_over(request, self._entries, self._donors, expectation, shared=self._rules.shared)

    async def _proven_now(self, request: RequestHead, heads: list[Head], expectation: Expectation) -> Head | None:
        head = provable(heads, expectation)
        if head is None or head.body is None:
            return None
        proven = dataclasses.replace(head, proven=(head.body,), reserve=False)
        return await self._entries.save(request.url, proven)

    async def _decided(self, request: RequestHead, decision: Decision, heads: list[Head], expectation: Expectation) -> Answer:
        match decision:
            case Hit(entry=entry):
                found = next(h for h in heads if h.response.key == entry.key)
                answer = await self._stored(request, found, "hit")
                if answer is not None:
                    return answer
                decision = lookup(request, [], now=self._clock.now(), shared=self._rules.shared)  # its body is gone: a miss
            case Miss(reason=Reason.ONLY_IF_CACHED):
                return self._gateway(request, 504, "only-if-cached, and not in the cache", "miss")
        assert not isinstance(decision, Hit)
        others = _Others(decision, heads, expectation)
        error = self._flights.refused(request, expectation)
        if error is not None:
            return await self._after_failure(request, error, others)
        if self._channels.is_troubled(request.url) and (stale := await self._stale(request, others, None)) is not None:
            if request.method == "GET" and not isinstance(decision, Bypass):
                self._flights.refresh(errand_for(request, decision, heads, expectation))
            return stale
        if request.method == "HEAD":
            return await self._passed_on_or_stale(request, others)
        errand = errand_for(request, decision, heads, expectation)
        if self._ahead is not None:
            self._ahead.asked(errand)
        if isinstance(decision, Bypass):
            part = self._part_of_growing(request, errand) or await self._rest_of_archive(request, others)
            return part or await self._passed_on_or_stale(decision.forward, others)
        if isinstance(decision, Stale) and decision.may_serve is StaleUse.WHILE_REVALIDATE:
            found = next(h for h in heads if h.response.key == decision.entry.key)
            if (answer := await self._stored(request, found, "stale")) is not None:
                self._flights.refresh(errand)
                return answer
        return await self._fly(errand, others)

    async def _passed_on_or_stale(self, request: RequestHead, others: _Others) -> Answer:
        """HEAD, and parts of what is not here: asked for again when upstream fails, and else what there is."""
        try:
            answer = await ask_again(self._upstream, request, self._clock)
        except UpstreamError as exc:
            return await self._after_failure(request, exc, others)
        if answer.head.status in RETRIED and (stale := await self._stale(request, others, answer.head.status)) is not None:
            await answer.aclose()
            return stale
        await self._channels.keep_absence(request, answer.head, others.heads)
        return self._streamed(request, answer, "bypass")

    def _part_of_growing(self, request: RequestHead, errand: Errand, *, waits: bool = False) -> Answer | None:
        """A range that is there already of a body that is coming; never of its held-back end (design.md §3).

        ``waits``: one whose beginning is there will do; the body then comes as far as it is known to be right.
        """
        flight = self._flights.growing(errand) if "range" in request.headers else None
        if flight is None or flight.draft is None or flight.total is None or flight.draft.response.head.status != 200:
            return None
        made = reply(request, flight.draft.response, age=0, size=flight.total)
        if made.span is None or made.head.status != 206 or made.span[0 if waits else 1] > flight.available() - waits:
            return None
        flight.waiters += 1
        body = FlightBody(flight, *made.span, leave=self._flights.leave, rest=self._rest(request, flight, errand.expectation))
        self._note(request, 206, "miss", body.length or 0, flight.draft)
        return Answer(_stamped(made.head, cache_status(hit=False, fwd="partial", collapsed=True)), body)

    async def _rest_of_archive(self, request: RequestHead, others: _Others) -> Answer | None:
        """The rest of an archive whose beginning a client has: the whole is fetched, so that it can be checked and kept."""
        start = resumed_from(request) if others.expectation.checks else None
        if start is None:
            return None
        whole = dataclasses.replace(request, headers=request.headers.without("range", "if-range"))
        decision = lookup(whole, [], now=self._clock.now(), shared=self._rules.shared)
        assert not isinstance(decision, Hit)
        errand = errand_for(whole, decision, others.heads, others.expectation)
        flight = self._flights.join(errand)
        try:
            while not flight.over and flight.available() <= start:
                await flight.changed()
            return self._part_of_growing(request, errand, waits=True) or await self._ride(request, flight, others)
        finally:
            self._flights.leave(flight)

    async def _stored(self, request: RequestHead, head: Head, outcome: str) -> Answer | None:
        """The answer out of the store; ``None`` when the body is not there as the head says."""
        blob = await self._entries.open_body(head)
        if blob is None and head.body is not None:
            await self._entries.drop(head.response.key)
            return None
        self._entries.used(head)
        self._learn_again(request, head)
        now = self._clock.now()
        stored, size = head.response, head.response.size or 0
        if stored.head.status == 200:
            made = reply(request, stored, age=current_age(stored, now), size=size)
            span, response = made.span, made.head
        else:
            span, response = (0, size), ResponseHead(stored.head.status, forwardable(stored.head.headers), stored.head.reason)
        body: Body = BytesBody()
        if span is not None and blob is not None:
            body = BlobBody(blob, *span)
        elif blob is not None:
            blob.close()
        self._note(request, response.status, outcome, body.length or 0, head)
        stamp = cache_status(hit=outcome in {"hit", "stale"}, fwd=None if outcome == "hit" else "stale")
        return Answer(_stamped(response, stamp), body)

    def _learn_again(self, request: RequestHead, head: Head) -> None:
        """Read a page, however it is served, whose links this catalogue has not seen (it was lost, or is another host's)."""
        page = head.response.head.status == 200 and teaches(request.url, head)
        if page and head.body is not None and not self._facts.is_read(request.url, head.body):
            link = self._facts.catalogue.link(request.url)
            self._facts.read(request.url, head.body, partial(read_stored, request.url, head, self._entries, self._readers, link))

    # offline

    async def _offline(self, request: RequestHead, heads: list[Head]) -> Answer:
        head = stand_in(request, heads)
        if head is not None:
            answer = await self._stored(request, head, "stale")
            if answer is not None:
                return answer
        if (answer := await self._as_html(request, heads)) is not None:
            return answer
        taken = await self._taken_over(request, NOTHING, unproven=True)
        if taken is not None and (answer := await self._stored(request, taken, "stale")) is not None:
            self._learn_again(request, taken)
            return answer
        name = asked_for(request.url)
        self._tally.unseen.setdefault(name, redacted_url(request.url))
        return self._gateway(request, 504, f"entrepot is offline and has never seen {name}", "error")

    async def _as_html(self, request: RequestHead, heads: list[Head]) -> Answer | None:
        """A page that a newer tool has seen, for a client that reads HTML alone."""
        found = await written_as_html(request, heads, self._entries)
        if found is None:
            return None
        head, response, page = found
        self._entries.used(head)
        self._learn_again(request, head)
        self._note(request, response.status, "stale", len(page), head)
        return Answer(_stamped(response, cache_status(hit=True, fwd="stale")), BytesBody(page))

    # upstream

    async def _fly(self, errand: Errand, others: _Others) -> Answer:
        flight = self._flights.join(errand)
        try:
            answer = await self._at_once(errand, flight, others) or await self._ride(errand.request, flight, others)
        except BaseException:
            self._flights.leave(flight)
            raise
        if not isinstance(answer.body, FlightBody):
            self._flights.leave(flight)
        return answer

    async def _at_once(self, errand: Errand, flight: Flight, others: _Others) -> Answer | None:
        """What is stored of a channel's index when upstream fails or is silent; it is asked again behind the client's back."""
        request = errand.request
        if self._rules.refresh or not self._channels.is_index(request.url) or not others.heads:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while flight.state is State.ASKING and not (flight.troubled or flight.over):
                    await flight.changed()
        if flight.state is not State.ASKING:
            return None
        stale = await self._stale(request, others, None)
        if stale is not None:
            self._channels.failed(request.url)
            self._flights.refresh(errand)
        return stale

    async def _ride(self, request: RequestHead, flight: Flight, others: _Others) -> Answer:
        """Wait for what there is to say, then say it: stored, growing, passed on, or failed."""
        plain = not (request.headers.names() & _CONDITIONS)
        while True:
            if flight.state is State.LANDED and flight.entry is not None:
                answer = await self._stored(request, flight.entry, "revalidated" if flight.refreshed else "miss")
                return answer or await self._without_store(request, others.expectation)
            if flight.state is State.PASSED:
                return await self._passed(request, flight, others)
            if flight.state is State.FAILED:
                if isinstance(flight.error, StoreError):
                    return await self._without_store(request, others.expectation)
                return await self._after_failure(request, flight.error, others)
            if flight.over and not plain:  # right, but it could not be kept: upstream cuts it out
                return await self._without_store(request, others.expectation)
            ready = flight.available() > 0 or flight.state is State.VERIFIED
            if plain and ready and flight.draft is not None:
                return self._growing(request, flight, others.expectation)
            await flight.changed()

    def _growing(self, request: RequestHead, flight: Flight, expectation: Expectation) -> Answer:
        assert flight.draft is not None
        head = flight.draft.response.head
        rest = self._rest(request, flight, expectation)
        body = FlightBody(flight, 0, flight.total, leave=self._flights.leave, rest=rest)
        self._note(request, head.status, "miss", flight.total or 0, flight.draft)
        response = ResponseHead(head.status, forwardable(head.headers), head.reason)
        return Answer(_stamped(response, cache_status(hit=False, fwd="miss", fwd_status=head.status, stored=True)), body)

    async def _passed(self, request: RequestHead, flight: Flight, others: _Others) -> Answer:
        """An answer that is not kept is the first one's who asks; the others ask for themselves, but not a failing upstream."""
        answer, failed = flight.claim(), flight.failed_status
        if failed is not None and (stale := await self._stale(request, others, failed.status)) is not None:
            if answer is not None:
                await answer.aclose()
            return stale
        if answer is not None:
            return self._streamed(request, answer, "miss")
        if failed is not None:
            wait = failed.headers.get("retry-after") or "0"
            return self._gateway(request, failed.status, f"upstream answers {failed.status}", "error", retry_after=wait)
        return await self._without_store(request, others.expectation)

    async def _after_failure(self, request: RequestHead, error: EntrepotError | None, others: _Others) -> Answer:
        stale = await self._stale(request, others, None)
        if stale is not None:
            return stale
        assert isinstance(error, UpstreamError)
        return self._failed(request, error)

    async def _stale(self, request: RequestHead, others: _Others, status: int | None) -> Answer | None:
        """What is served when upstream fails: by a private cache of packages whatever there is, by a shared one what HTTP allows.

        Never an old absence, but of one form of a channel's index while another one is here: only a fresh 404 hands a project to
        the next index. Never what a known digest contradicts.
        """
        if self._rules.shared:
            entry = on_failure(others.decision, status=status)
            head = next((h for h in others.heads if entry is not None and h.response.key == entry.key and not h.credentialed), None)
        else:
            heads = [h for h in others.heads if agrees(h, others.expectation)]
            head = stand_in(request, heads)
            if head is not None and await self._channels.may_be_absent(request.url, head):
                return await self._stored(request, head, "stale")
            if head is None or head.response.head.status in NEGATIVES:
                return await self._as_html(request, newer(heads, head))
        if head is None or head.response.head.status in NEGATIVES:
            return None
        return await self._stored(request, head, "stale")

    def _rest(self, request: RequestHead, flight: Flight, expectation: Expectation) -> Callable[[int], AsyncIterator[bytes]]:
        async def rest(at: int) -> AsyncIterator[bytes]:
            async for piece in rest_of(flight, request, expectation, self._upstream, at):
                self._downloaded(len(piece))
                yield piece

        return rest

    async def _without_store(self, request: RequestHead, expectation: Expectation) -> Answer:
        """From upstream, checked on the way, for a client whom the store cannot serve."""
        asked = as_it_is(request) if expectation.checks else request
        answer = await ask_again(self._upstream, asked, self._clock)
        made = self._streamed(request, answer, "miss")
        if answer.head.status == 200 and isinstance(made.body, StreamBody):
            made.body.source = verified(made.body.source, expectation, url=request.url)
        return made

    async def _send(self, request: Request) -> UpstreamAnswer:
        """Ask upstream; once more on a new connection when a kept one breaks under a request that may be repeated."""
        try:
            return await self._upstream.send(request.head, request.body)
        except UpstreamProtocolError:
            if request.body is not None or request.head.method not in READ_METHODS:
                raise
            return await self._upstream.send(request.head, fresh_connection=True)

    async def _pass_on(self, request: Request) -> Answer:
        """Straight to upstream, nothing kept."""
        if self._rules.offline:
            return self._gateway(request.head, 504, f"entrepot is offline, so this {request.head.method} goes nowhere", "error")
        answer = await self._send(request)
        await self._invalidate(request.head, answer.head)
        return self._streamed(request.head, answer, "bypass")

    async def _past(self, request: Request) -> Answer:
        """A host that serves no packages: passed on untouched, and named in the report."""
        host = urlsplit(request.head.url).hostname or ""
        if self._rules.offline and not is_loopback(host):
            return self._gateway(request.head, 504, f"entrepot is offline; {host} serves no packages", "error")
        answer = await self._send(request)
        if not is_loopback(host):
            self._tally.uncached_hosts[host] += 1
            self._tally.uncached_bytes += content_length(answer.head) or 0
        return Answer(ResponseHead(answer.head.status, forwardable(answer.head.headers), answer.head.reason), _stream(answer))

    def _streamed(self, request: RequestHead, answer: UpstreamAnswer, outcome: str) -> Answer:
        self._note(
            request, answer.head.status, "error" if answer.head.status >= 500 else outcome, content_length(answer.head) or 0, None
        )
        response = ResponseHead(answer.head.status, forwardable(answer.head.headers), answer.head.reason)
        stamp = cache_status(hit=False, fwd="bypass" if outcome == "bypass" else "miss", fwd_status=response.status)
        return Answer(_stamped(response, stamp), _stream(answer, self._downloaded))

    async def _invalidate(self, request: RequestHead, response: ResponseHead) -> None:
        """An unsafe request that succeeded makes what is stored of its target doubtful (RFC 9111 §4.4)."""
        if request.method in {"GET", "HEAD", "OPTIONS", "TRACE"} or not 200 <= response.status < 400:
            return
        if self._ahead is not None:
            self._ahead.forget()
        for url in invalidated_urls(request, response):
            await self._flights.landed(url)
            for head in await self._entries.load(url):
                doubtful = dataclasses.replace(head.response, invalidated=True)
                await self._entries.save(url, dataclasses.replace(head, response=doubtful, proven=()))

    # answers of our own

    def _failed(self, request: RequestHead, exc: UpstreamError) -> Answer:
        return self._gateway(request, exc.status_hint, exc.message, "error")

    def _gateway(self, request: RequestHead, status: int, text: str, outcome: str, *, retry_after: str = "0") -> Answer:
        """An error of ours, with its reason where clients show it: in the reason phrase."""
        self._note(request, status, outcome, 0, None)
        lines = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"), ("Retry-After", retry_after)]
        headers = Headers(lines)
        stamp = cache_status(hit=False, fwd="miss", detail=text[:120])
        return Answer(_stamped(ResponseHead(status, headers, text[:200]), stamp), BytesBody(f"{text}\n".encode()))

    def _note(self, request: RequestHead, status: int, outcome: str, size: int, head: Head | None) -> None:
        project, version = (head.project, head.version) if head is not None else (None, None)
        self._tally.note(request.url, status, outcome, size=size, project=project, version=version)

    def _downloaded(self, count: int) -> None:
        self._tally.bytes_downloaded += count
        self._grown(count)


@dataclass(frozen=True, slots=True)
class _Others:
    """What else is known of a request while upstream is asked."""

    decision: Decision
    heads: list[Head]
    expectation: Expectation


_CONDITIONS = frozenset({"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range", "range"})


def asked_for(url: str) -> str:
    """What a URL asks for, in a word for people: a project's name, a file's name, else the URL.

    >>> asked_for("https://index.test/simple/some-project/")
    'some-project'
    """
    parts = urlsplit(redacted_url(url))
    filename = filename_of(url)
    if filename and classify(filename) is not None:
        return filename
    last = [p for p in parts.path.split("/") if p]
    return last[-1] if last else f"{parts.scheme}://{parts.netloc}/"


def _stamped(response: ResponseHead, stamp: str) -> ResponseHead:
    return dataclasses.replace(response, headers=response.headers.added("Cache-Status", stamp))


def _stream(answer: UpstreamAnswer, downloaded: Callable[[int], None] = lambda _count: None) -> StreamBody:
    async def pieces() -> AsyncIterator[bytes]:
        async for piece in answer.chunks():
            downloaded(len(piece))
            yield piece

    return StreamBody(pieces(), content_length(answer.head), answer.aclose)


__all__ = ["Rules", "Service", "asked_for", "is_loopback"]
