"""Answers out of flights.

A client joins a transfer, waits for what there is to say of it, and reads along as it grows.

Who may ask upstream, and when, is decided before (``serve.py``); how it is asked stands in
``flight.py`` and ``leading.py``.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from entrepot.errors import StoreError
from entrepot.httpcache import Hit, cache_status, lookup, reply
from entrepot.httpcache.messages import RequestHead
from entrepot.serving.channels import ANSWER_S, Channels, resumed_from
from entrepot.serving.fetch_request import Errand, Means, State, errand_for
from entrepot.serving.known_files import Expectation
from entrepot.serving.response import Answer, StreamBody
from entrepot.serving.resume import as_it_is
from entrepot.serving.retry import ask_again
from entrepot.serving.stale_if_error import Situation, StandIns
from entrepot.serving.stored_response import Replies, stamped, without_framing
from entrepot.serving.transfer import Flight
from entrepot.serving.transfers import FlightBody, Flights
from entrepot.serving.uncached_stream import rest_of, verified

_CONDITIONS = frozenset(
    {"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range", "range"}
)


class Riding:
    """Gives answers out of flights.

    Args:
        means, flights, replies, stand_ins, channels: the service's own.
        refresh: whether nothing volatile is used without asking.
    """

    def __init__(
        self,
        means: Means,
        flights: Flights,
        replies: Replies,
        stand_ins: StandIns,
        channels: Channels,
        *,
        refresh: bool,
    ) -> None:
        self._means = means
        self._flights = flights
        self._replies = replies
        self._stand_ins = stand_ins
        self._channels = channels
        self._refresh = refresh

    async def whole(self, errand: Errand, situation: Situation) -> Answer:
        """The answer that a flight brings, begun now if there is none."""
        flight = self._flights.join(errand)
        try:
            answer = await self._at_once(errand, flight, situation) or await self._ride(
                errand.request, flight, situation
            )
        except BaseException:
            self._flights.leave(flight)
            raise
        if not isinstance(answer.body, FlightBody):
            self._flights.leave(flight)
        return answer

    async def part(self, errand: Errand, situation: Situation) -> Answer | None:
        """A range of a body that is coming, or the rest of an archive.

        ``None``: upstream is to be asked for it.
        """
        return self._part_of_growing(errand.request, errand) or await self._rest_of_archive(
            errand.request, situation
        )

    def _part_of_growing(
        self, request: RequestHead, errand: Errand, *, waits: bool = False
    ) -> Answer | None:
        """A range that is there already of a body that is coming; never of its held-back end.

        ``waits``: one whose beginning is there will do; the body then comes as far as it is known
        to be right.
        """
        flight = self._flights.growing(errand) if "range" in request.headers else None
        if (
            flight is None
            or flight.draft is None
            or flight.total is None
            or flight.draft.response.head.status != 200
        ):
            return None
        made = reply(request, flight.draft.response, age=0, size=flight.total)
        if (
            made.span is None
            or made.head.status != 206
            or made.span[0 if waits else 1] > flight.available() - waits
        ):
            return None
        flight.waiters += 1
        body = FlightBody(
            flight,
            *made.span,
            leave=self._flights.leave,
            rest=self._rest(request, flight, errand.expectation),
        )
        self._replies.note(request, 206, "miss", body.length or 0, flight.draft)
        return Answer(
            stamped(made.head, cache_status(hit=False, fwd="partial", collapsed=True)), body
        )

    async def _rest_of_archive(self, request: RequestHead, situation: Situation) -> Answer | None:
        """The rest of an archive whose beginning a client has.

        The whole is fetched, so that it can be checked and kept.
        """
        start = resumed_from(request) if situation.expectation.checks else None
        if start is None:
            return None
        whole = dataclasses.replace(request, headers=request.headers.without("range", "if-range"))
        decision = lookup(whole, [], now=self._means.clock.now(), shared=self._means.shared)
        assert not isinstance(decision, Hit)
        errand = errand_for(whole, decision, situation.heads, situation.expectation)
        flight = self._flights.join(errand)
        try:
            while not flight.over and flight.available() <= start:
                await flight.changed()
            return self._part_of_growing(request, errand, waits=True) or await self._ride(
                request, flight, situation
            )
        finally:
            self._flights.leave(flight)

    async def _at_once(self, errand: Errand, flight: Flight, situation: Situation) -> Answer | None:
        """What is stored of a channel's index when upstream fails or is silent.

        It is asked again behind the client's back.
        """
        request = errand.request
        if self._refresh or not self._channels.is_index(request.url) or not situation.heads:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while flight.state is State.ASKING and not (flight.troubled or flight.over):
                    await flight.changed()
        if flight.state is not State.ASKING:
            return None
        stale = await self._stand_ins.stale(request, situation, None)
        if stale is not None:
            self._channels.failed(request.url)
            self._flights.refresh(errand)
        return stale

    async def _ride(self, request: RequestHead, flight: Flight, situation: Situation) -> Answer:
        """Wait for what there is to say, then say it: stored, growing, passed on, or failed."""
        plain = not (request.headers.names() & _CONDITIONS)
        while True:
            if flight.state is State.LANDED and flight.entry is not None:
                answer = await self._replies.stored(
                    request, flight.entry, "revalidated" if flight.refreshed else "miss"
                )
                return answer or await self._without_store(request, situation.expectation)
            if flight.state is State.PASSED:
                return await self._passed(request, flight, situation)
            if flight.state is State.FAILED:
                if isinstance(flight.error, StoreError):
                    return await self._without_store(request, situation.expectation)
                return await self._stand_ins.after_failure(request, flight.error, situation)
            if flight.over and not plain:  # right, but it could not be kept: upstream cuts it out
                return await self._without_store(request, situation.expectation)
            ready = flight.available() > 0 or flight.state is State.VERIFIED
            if plain and ready and flight.draft is not None:
                return self._growing(request, flight, situation.expectation)
            await flight.changed()

    def _growing(self, request: RequestHead, flight: Flight, expectation: Expectation) -> Answer:
        assert flight.draft is not None
        head = flight.draft.response.head
        rest = self._rest(request, flight, expectation)
        self._replies.given(request, flight.draft, stored=False)
        body = FlightBody(flight, 0, flight.total, leave=self._flights.leave, rest=rest)
        self._replies.note(request, head.status, "miss", flight.total or 0, flight.draft)
        stamp = cache_status(hit=False, fwd="miss", fwd_status=head.status, stored=True)
        return Answer(stamped(without_framing(head), stamp), body)

    async def _passed(self, request: RequestHead, flight: Flight, situation: Situation) -> Answer:
        """An answer that is not kept is the first one's who asks.

        The others ask for themselves, but not a failing upstream.
        """
        answer, failed = flight.claim(), flight.failed_status
        if (
            failed is not None
            and (stale := await self._stand_ins.stale(request, situation, failed.status))
            is not None
        ):
            if answer is not None:
                await answer.aclose()
            return stale
        if answer is not None:
            return self._replies.streamed(request, answer, "miss")
        if failed is not None:
            wait = failed.headers.get("retry-after") or "0"
            return self._replies.gateway(
                request, failed.status, f"upstream answers {failed.status}", retry_after=wait
            )
        return await self._without_store(request, situation.expectation)

    def _rest(
        self, request: RequestHead, flight: Flight, expectation: Expectation
    ) -> Callable[[int], AsyncIterator[bytes]]:
        async def rest(at: int) -> AsyncIterator[bytes]:
            async for piece in rest_of(flight, request, expectation, self._means.upstream, at):
                self._means.downloaded(len(piece))
                yield piece

        return rest

    async def _without_store(self, request: RequestHead, expectation: Expectation) -> Answer:
        """From upstream, checked on the way, for a client whom the store cannot serve."""
        asked = as_it_is(request) if expectation.checks else request
        answer = await ask_again(self._means.upstream, asked, self._means.clock)
        made = self._replies.streamed(request, answer, "miss")
        if answer.head.status == 200 and isinstance(made.body, StreamBody):
            made.body.source = verified(made.body.source, expectation, url=request.url)
        return made
