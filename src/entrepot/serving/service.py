"""One client request: look up, revalidate, fetch, answer.

The only place that knows the order of these steps.

::

    request -> no package host, or not to be kept?   -> passed on                              passing.py
            -> just asked ahead?                     -> the store's bytes                      ahead.py
            -> fixed by a digest?                    -> the store's bytes                      replies.py
            -> offline?                              -> whatever is stored, or 504             standing_in.py
            -> httpcache.lookup -> Hit               -> the store's bytes                      replies.py
                                -> Stale | Miss      -> flight; if that fails, what is stored  riding.py, standing_in.py
                                -> Bypass | HEAD     -> a part of a flight, else passed on     riding.py, passing.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from entrepot.errors import UpstreamError
from entrepot.httpcache import (
    Bypass,
    Decision,
    Hit,
    Miss,
    Reason,
    Stale,
    StaleUse,
    forwardable,
    invalidated_urls,
    lookup,
    revalidation,
)
from entrepot.httpcache.messages import RequestHead, ResponseHead
from entrepot.ports.clock import Clock
from entrepot.ports.reuse import Donor
from entrepot.ports.upstream import Upstream
from entrepot.serving.channels import Channels
from entrepot.serving.fetch_request import Means, errand_for
from entrepot.serving.known_files import Expectation, Facts
from entrepot.serving.lookup import Entries
from entrepot.serving.metadata import made_from_wheel, wheel_of
from entrepot.serving.page_history import Company
from entrepot.serving.page_readers import Readers
from entrepot.serving.passthrough import READ_METHODS, Passing
from entrepot.serving.policy import agrees, immutable, provable, refreshing, to_be_admitted, usable
from entrepot.serving.prefetch import Ahead
from entrepot.serving.respond import Riding
from entrepot.serving.response import Answer, Request
from entrepot.serving.reuse import Donations
from entrepot.serving.run_stats import Tally
from entrepot.serving.stale_if_error import Situation, StandIns
from entrepot.serving.stored_response import Replies
from entrepot.serving.transfers import Flights
from entrepot.simple.worker import PageReader
from entrepot.stored import Head, canonical_url


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
        donors: finds other tools' caches; called once, after the first miss, in a thread.
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
        self._entries = entries
        self._facts = facts
        self._clock = clock
        self._rules = rules
        self._tally = tally
        self._channels = Channels(entries, facts.catalogue, clock)
        self._readers = Readers(PageReader(), self._channels)
        means = Means(
            entries,
            upstream,
            clock,
            facts,
            self._readers,
            rules.shared,
            self._downloaded,
            tally.warn,
            tally.note_flaw,
        )
        self._flights = Flights(means)
        self._donations = Donations(donors, entries, shared=rules.shared)
        self._replies = Replies(means, tally)
        self._stand_ins = StandIns(
            self._replies, self._channels, self._donations, tally, shared=rules.shared
        )
        self._riding = Riding(
            means,
            self._flights,
            self._replies,
            self._stand_ins,
            self._channels,
            refresh=rules.refresh,
        )
        self._passing = Passing(
            means, self._replies, self._stand_ins, self._channels, tally, offline=rules.offline
        )
        self._ahead: Ahead | None = None
        if company is not None and not (rules.offline or rules.no_store):
            self._ahead = Ahead(means, self._flights, company, tally.ahead, refresh=rules.refresh)

    async def handle(self, request: Request) -> Answer:
        """The answer to one request; never raises for what upstream or the store do."""
        url = canonical_url(request.head.url)
        head = RequestHead(request.head.method, url, forwardable(request.head.headers))
        try:
            if not self._rules.caches(head):
                return await self._passing.past(Request(head, request.body))
            # Content of a GET has no meaning that a cache could know (RFC 9110 §9.3.1).
            if self._rules.no_store or head.method not in READ_METHODS or request.body is not None:
                answer = await self._passing.on(Request(head, request.body))
                await self._invalidate(head, answer.head)
                return answer
            return await self._look_up(head)
        except UpstreamError as exc:
            return self._replies.failed(head, exc)

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
        expectation = await self._channels.expect(
            request.url, await self._facts.expect(request.url)
        )
        joins = request.method == "GET" and "range" not in request.headers
        await self._flights.landed(request.url, but_joined=joins)
        heads = await self._entries.load(request.url)
        if self._ahead is not None and await self._ahead.landing(request.url):
            heads = await self._entries.load(request.url)
        open_to_all = [h for h in heads if not (self._rules.shared and h.credentialed)]
        foreseen = (
            self._ahead.taken(request, open_to_all, expectation)
            if self._ahead is not None
            else None
        )
        if (
            foreseen is not None
            and (answer := await self._replies.stored(request, *foreseen)) is not None
        ):
            return answer
        fixed = await self._fixed(request, open_to_all, expectation)
        if (
            fixed is not None
            and (answer := await self._replies.stored(request, fixed, "hit")) is not None
        ):
            return answer
        if self._rules.offline:
            return await self._stand_ins.offline(
                request, [h for h in open_to_all if agrees(h, expectation)]
            )
        candidates = [
            h.response
            for h in usable(heads, expectation, shared=self._rules.shared)
            if h is not fixed
        ]
        now, shared = self._clock.now(), self._rules.shared
        decision = lookup(
            refreshing(request) if self._rules.refresh else request,
            candidates,
            now=now,
            shared=shared,
        )
        if (
            isinstance(decision, Miss)
            and shared
            and (head := to_be_admitted(request, heads, expectation)) is not None
        ):
            decision = revalidation(request, head.response, now=now, shared=shared)
        return await self._decided(request, decision, heads, expectation)

    async def _fixed(
        self, request: RequestHead, heads: list[Head], expectation: Expectation
    ) -> Head | None:
        """A body that a digest fixes.

        Stored, made of what is stored, or taken over from another tool's cache.
        """
        fixed = immutable(heads, expectation) or await self._proven_now(request, heads, expectation)
        wheel = wheel_of(request.url) if fixed is None and expectation.proves else None
        if wheel is not None:
            await self._flights.landed(wheel)
            fixed = await made_from_wheel(
                request.url,
                expectation,
                self._entries,
                self._clock.now(),
                shared=self._rules.shared,
            )
        return fixed or await self._donations.take_over(request, expectation)

    async def _proven_now(
        self, request: RequestHead, heads: list[Head], expectation: Expectation
    ) -> Head | None:
        head = provable(heads, expectation)
        if head is None or head.body is None:
            return None
        proven = dataclasses.replace(head, proven=(head.body,), reserve=False)
        return await self._entries.save(request.url, proven)

    async def _decided(
        self, request: RequestHead, decision: Decision, heads: list[Head], expectation: Expectation
    ) -> Answer:
        match decision:
            case Hit(entry=entry):
                found = next(h for h in heads if h.response.key == entry.key)
                answer = await self._replies.stored(request, found, "hit")
                if answer is not None:
                    return answer
                decision = lookup(
                    request, [], now=self._clock.now(), shared=self._rules.shared
                )  # its body is gone: a miss
            case Miss(reason=Reason.ONLY_IF_CACHED):
                return self._replies.gateway(
                    request, 504, "only-if-cached, and not in the cache", "miss"
                )
        return await self._not_a_hit(request, Situation(decision, heads, expectation))

    # then upstream

    async def _not_a_hit(self, request: RequestHead, situation: Situation) -> Answer:
        decision, heads, expectation = situation.decision, situation.heads, situation.expectation
        assert not isinstance(decision, Hit)
        error = self._flights.refused(request, expectation)
        if error is not None:
            return await self._stand_ins.after_failure(request, error, situation)
        if (stale := await self._in_trouble(request, situation)) is not None:
            return stale
        if request.method == "HEAD":
            return await self._passing.on_or_stale(request, situation)
        errand = errand_for(request, decision, heads, expectation)
        if isinstance(decision, Miss):
            self._donations.sought()
        if self._ahead is not None:
            self._ahead.asked(errand)
        if isinstance(decision, Bypass):
            part = await self._riding.part(errand, situation)
            return part or await self._passing.on_or_stale(decision.forward, situation)
        if isinstance(decision, Stale) and decision.may_serve is StaleUse.WHILE_REVALIDATE:
            found = next(h for h in heads if h.response.key == decision.entry.key)
            if (answer := await self._replies.stored(request, found, "stale")) is not None:
                self._flights.refresh(errand)
                return answer
        return await self._riding.whole(errand, situation)

    async def _in_trouble(self, request: RequestHead, situation: Situation) -> Answer | None:
        """What is stored of a channel's index whose host has just failed.

        It is asked for behind the client's back.
        """
        if not self._channels.is_troubled(request.url):
            return None
        stale = await self._stand_ins.stale(request, situation, None)
        if (
            stale is not None
            and request.method == "GET"
            and not isinstance(situation.decision, Bypass)
        ):
            self._flights.refresh(
                errand_for(request, situation.decision, situation.heads, situation.expectation)
            )
        return stale

    async def _invalidate(self, request: RequestHead, response: ResponseHead) -> None:
        """An unsafe request that succeeded makes what is stored of its target doubtful (RFC 9111 §4.4)."""
        if (
            request.method in {"GET", "HEAD", "OPTIONS", "TRACE"}
            or not 200 <= response.status < 400
        ):
            return
        if self._ahead is not None:
            self._ahead.forget()
        for url in invalidated_urls(request, response):
            await self._flights.landed(url)
            for head in await self._entries.load(url):
                doubtful = dataclasses.replace(head.response, invalidated=True)
                await self._entries.save(
                    url, dataclasses.replace(head, response=doubtful, proven=())
                )

    def _downloaded(self, count: int) -> None:
        self._tally.bytes_downloaded += count
        self._grown(count)
