"""One client request: look up, revalidate, fetch, answer.

The only place that knows the order of these steps.

::

    request -> no package host, or not kept?  -> passed on                 respond.py
            -> just prefetched?               -> the store's bytes         prefetch.py
            -> fixed by a digest?             -> the store's bytes         response.py, reuse.py
            -> offline?                       -> what is stored, or 504    stale_if_error.py
            -> httpcache.lookup
               -> Hit                         -> the store's bytes         response.py
               -> Stale | Miss                -> a transfer                respond.py, fetch.py
                  if that fails               -> what is stored            stale_if_error.py
               -> Bypass | HEAD               -> a part of a transfer, else passed on  respond.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from entrepot.errors import UpstreamError
from entrepot.httpcache.exchange import (
    Bypass,
    Hit,
    Miss,
    Stale,
    invalidated_urls,
    lookup,
    revalidation,
)
from entrepot.httpcache.fields import forwardable
from entrepot.httpcache.messages import RequestHead, ResponseHead
from entrepot.httpcache.policy import Reason, StaleUse
from entrepot.ports.clock import Clock
from entrepot.ports.reuse import ReuseSource
from entrepot.ports.upstream import Upstream
from entrepot.serving.channels import Channels
from entrepot.serving.integrity import checked
from entrepot.serving.known_files import Expectation, KnownFiles
from entrepot.serving.lookup import Entries
from entrepot.serving.pages import PageReader
from entrepot.serving.policy import (
    Rules,
    agrees,
    immutable,
    provable,
    refreshing,
    to_be_admitted,
    usable,
)
from entrepot.serving.prefetch import PageHistory, Prefetcher
from entrepot.serving.respond import READ_METHODS, Responder
from entrepot.serving.response import Answer, Request, Responses
from entrepot.serving.reuse import Reuse, made_from_wheel, wheel_of
from entrepot.serving.run_stats import RunStats
from entrepot.serving.stale_if_error import Fallback, LookupState, asked_for
from entrepot.serving.transfer import Resources, fetch_request
from entrepot.serving.transfers import Transfers
from entrepot.stored import Head
from entrepot.urls import canonical_url
from entrepot.worker_pool import WorkerPool


class Service:
    """Answers requests out of the store and upstream.

    Args:
        entries, upstream, known_files, clock: what it works with.
        rules: how it serves.
        stats: where it is counted.
        reusable: finds other tools' caches; called once, after the first miss, in a thread.
        grown: told how many bytes came from upstream, piece by piece.
        history: which pages were asked for together; ``None``: nothing is prefetched.
    """

    def __init__(
        self,
        *,
        entries: Entries,
        upstream: Upstream,
        known_files: KnownFiles,
        clock: Clock,
        rules: Rules,
        stats: RunStats,
        reusable: Callable[[], Sequence[ReuseSource]] = tuple,
        grown: Callable[[int], None] = lambda _count: None,
        history: PageHistory | None = None,
    ) -> None:
        pool = WorkerPool()
        channels = Channels(entries, known_files, clock, pool)
        pages = PageReader(entries, known_files, channels, pool)
        self._entries = entries
        self._clock = clock
        self._rules = rules
        self._resources = resources = Resources(
            entries, upstream, clock, known_files, pages, rules, stats, grown
        )
        self._transfers = Transfers(resources)
        self._reuse = Reuse(reusable, entries, shared=rules.shared)
        self._responses = Responses(resources)
        self._fallback = Fallback(resources, self._responses, self._reuse)
        self._responder = Responder(resources, self._transfers, self._responses, self._fallback)
        self._told: set[tuple[str, str]] = set()
        self._prefetcher: Prefetcher | None = None
        if history is not None and not (rules.offline or rules.no_store):
            self._prefetcher = Prefetcher(resources, self._transfers, history)

    async def handle(self, request: Request) -> Answer:
        """The answer to one request; never raises for what upstream or the store do."""
        url = canonical_url(request.head.url)
        head = RequestHead(request.head.method, url, forwardable(request.head.headers))
        try:
            if not self._rules.caches(head):
                return await self._responder.past(Request(head, request.body))
            # Content of a GET has no meaning that a cache could know (RFC 9110 §9.3.1).
            if self._rules.no_store or head.method not in READ_METHODS or request.body is not None:
                answer = await self._responder.passed_on(Request(head, request.body))
                await self._invalidate(head, answer.head)
                return answer
            return await self._look_up(head)
        except UpstreamError as exc:
            return self._responses.failed(head, exc)

    async def aclose(self) -> None:
        """Finish what is nearly done, stop the rest, learn the pages that were seen."""
        if self._prefetcher is not None:
            await self._prefetcher.aclose()
        await self._transfers.aclose()
        await self._resources.known_files.settled()
        await self._resources.pages.aclose()

    # the store first

    async def _look_up(self, request: RequestHead) -> Answer:
        rules, prefetcher = self._rules, self._prefetcher
        expectation = await self._resources.expect(request.url)
        for pair in expectation.contradictions():
            if pair not in self._told:  # once for each two witnesses
                self._told.add(pair)
                self._resources.stats.warn(
                    f"{pair[0]} and {pair[1]} name different digests for {asked_for(request.url)}"
                )
        joins = request.method == "GET" and "range" not in request.headers
        await self._transfers.landed(canonical_url(request.url), but_joined=joins)
        stored = await self._entries.load(request.url)
        if prefetcher is not None and await prefetcher.landing(request.url):
            stored = await self._entries.load(request.url)
        heads = await checked(self._entries, request.url, stored, expectation)
        open_to_all = [h for h in heads if not (rules.shared and h.credentialed)]
        if prefetcher is not None:
            prefetched = prefetcher.taken(request, open_to_all, expectation)
            if prefetched and (answer := await self._responses.stored(request, *prefetched)):
                return answer
        fixed = await self._fixed(request, open_to_all, expectation)
        if fixed and (answer := await self._responses.stored(request, fixed, "hit")):
            return answer
        if rules.offline:
            right = [h for h in open_to_all if agrees(h, expectation)]
            is_wrong = len(right) < len(open_to_all) or len(heads) < len(stored)
            return await self._fallback.offline(request, right, expectation, is_wrong=is_wrong)
        found = usable(heads, expectation, shared=rules.shared)
        candidates = [h.response for h in found if h is not fixed]
        now = self._clock.now()
        asked = refreshing(request) if rules.refresh else request
        decision = lookup(asked, candidates, now=now, shared=rules.shared)
        if isinstance(decision, Miss) and rules.shared:
            admitted = to_be_admitted(request, heads, expectation)
            if admitted is not None:
                decision = revalidation(request, admitted.response, now=now, shared=True)
        if isinstance(decision, Hit):
            key = decision.entry.key
            entry = next(h for h in heads if h.response.key == key)
            if (answer := await self._responses.stored(request, entry, "hit")) is not None:
                return answer
            # its body is gone: a miss
            decision = lookup(request, [], now=self._clock.now(), shared=rules.shared)
        if isinstance(decision, Miss) and decision.reason is Reason.ONLY_IF_CACHED:
            text = "only-if-cached, and not in the cache"
            return self._responses.gateway(request, 504, text, "miss")
        return await self._not_a_hit(request, LookupState(decision, heads, expectation))

    async def _fixed(
        self, request: RequestHead, heads: list[Head], expectation: Expectation
    ) -> Head | None:
        """A body that a digest fixes: stored, made of what is, or from another tool's cache."""
        fixed = immutable(heads, expectation)
        if fixed is None and (proven := provable(heads, expectation)) is not None:
            fixed = await self._entries.save(request.url, proven)
        wheel = wheel_of(request.url) if fixed is None and expectation.proves else None
        if wheel is not None:
            await self._transfers.landed(canonical_url(wheel))
            now, shared = self._clock.now(), self._rules.shared
            fixed = await made_from_wheel(
                request.url, expectation, self._entries, now, shared=shared
            )
        return fixed or await self._reuse.take_over(request, expectation)

    # then upstream

    async def _not_a_hit(self, request: RequestHead, looked_up: LookupState) -> Answer:
        decision, heads, expectation = looked_up.decision, looked_up.heads, looked_up.expectation
        assert not isinstance(decision, Hit)
        error = self._transfers.refused(request, expectation)
        if error is not None:
            return await self._fallback.after_failure(request, error, looked_up)
        if self._resources.pages.channels.is_troubled(request.url):
            # What is stored of a channel's index whose host has just failed; it is asked meanwhile
            stale = await self._fallback.stale(request, looked_up, None)
            if stale is not None:
                if request.method == "GET" and not isinstance(decision, Bypass):
                    self._transfers.refresh(fetch_request(request, decision, heads, expectation))
                return stale
        if request.method == "HEAD":
            return await self._responder.on_or_stale(request, looked_up)
        fetch = fetch_request(request, decision, heads, expectation)
        if isinstance(decision, Miss):
            self._reuse.sought()
        if self._prefetcher is not None:
            self._prefetcher.asked(fetch)
        if isinstance(decision, Bypass):
            part = await self._responder.part(fetch, looked_up)
            return part or await self._responder.on_or_stale(decision.forward, looked_up)
        if isinstance(decision, Stale) and decision.may_serve is StaleUse.WHILE_REVALIDATE:
            found = next(h for h in heads if h.response.key == decision.entry.key)
            if (answer := await self._responses.stored(request, found, "stale")) is not None:
                self._transfers.refresh(fetch)
                return answer
        return await self._responder.whole(fetch, looked_up)

    async def _invalidate(self, request: RequestHead, response: ResponseHead) -> None:
        """Doubt what is stored of an unsafe request's target, once it succeeded (RFC 9111 §4.4)."""
        is_safe = request.method in {"GET", "HEAD", "OPTIONS", "TRACE"}
        if is_safe or not 200 <= response.status < 400:
            return
        if self._prefetcher is not None:
            self._prefetcher.forget()
        for url in invalidated_urls(request, response):
            await self._transfers.landed(url)
            for head in await self._entries.load(url):
                doubtful = dataclasses.replace(head.response, invalidated=True)
                await self._entries.save(
                    url, dataclasses.replace(head, response=doubtful, proven=())
                )
