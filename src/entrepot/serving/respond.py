"""Answers out of transfers.

A client joins a transfer, waits for what there is to say of it, and reads along as it grows.

Who may ask upstream, and when, is decided before (``service.py``); how it is asked stands in
``transfers.py`` and ``fetch.py``.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from entrepot.errors import StoreError
from entrepot.httpcache.answering import reply
from entrepot.httpcache.exchange import Hit, lookup
from entrepot.httpcache.messages import RequestHead
from entrepot.httpcache.status_field import cache_status
from entrepot.serving.channels import ANSWER_S, Channels, resumed_from
from entrepot.serving.fetch import ask_again
from entrepot.serving.integrity import verified
from entrepot.serving.known_files import Expectation
from entrepot.serving.passthrough import rest_of
from entrepot.serving.response import Answer, Responses, StreamBody, stamped, without_framing
from entrepot.serving.resume import as_it_is
from entrepot.serving.stale_if_error import Fallback, LookupState
from entrepot.serving.transfer import FetchRequest, Phase, Resources, fetch_request
from entrepot.serving.transfers import Transfer, TransferBody, Transfers

_CONDITIONS = frozenset(
    {"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range", "range"}
)


class Responder:
    """Gives answers out of transfers.

    Args:
        resources, transfers, responses, fallback, channels: the service's own.
        refresh: whether nothing volatile is used without asking.
    """

    def __init__(
        self,
        resources: Resources,
        transfers: Transfers,
        responses: Responses,
        fallback: Fallback,
        channels: Channels,
        *,
        refresh: bool,
    ) -> None:
        self._resources = resources
        self._transfers = transfers
        self._responses = responses
        self._fallback = fallback
        self._channels = channels
        self._refresh = refresh

    async def whole(self, fetch: FetchRequest, looked_up: LookupState) -> Answer:
        """The answer that a transfer brings, begun now if there is none."""
        transfer = self._transfers.join(fetch)
        try:
            answer = await self._at_once(fetch, transfer, looked_up) or await self._respond(
                fetch.request, transfer, looked_up
            )
        except BaseException:
            self._transfers.leave(transfer)
            raise
        if not isinstance(answer.body, TransferBody):
            self._transfers.leave(transfer)
        return answer

    async def part(self, fetch: FetchRequest, looked_up: LookupState) -> Answer | None:
        """A range of a body that is coming, or the rest of an archive; else ``None``."""
        return self._part_of_growing(fetch.request, fetch) or await self._rest_of_archive(
            fetch.request, looked_up
        )

    def _part_of_growing(
        self, request: RequestHead, fetch: FetchRequest, *, waits: bool = False
    ) -> Answer | None:
        """A range that is there already of a body that is coming; never of its held-back end.

        ``waits``: one whose beginning is there will do; the body then comes as far as it is known
        to be right.
        """
        transfer = self._transfers.growing(fetch) if "range" in request.headers else None
        if (
            transfer is None
            or transfer.draft is None
            or transfer.total is None
            or transfer.draft.response.head.status != 200
        ):
            return None
        made = reply(request, transfer.draft.response, age=0, size=transfer.total)
        if (
            made.span is None
            or made.head.status != 206
            or made.span[0 if waits else 1] > transfer.available() - waits
        ):
            return None
        transfer.waiters += 1
        body = TransferBody(
            transfer,
            *made.span,
            leave=self._transfers.leave,
            rest=self._rest(request, transfer, fetch.expectation),
        )
        self._responses.note(request, 206, "miss", body.length or 0, transfer.draft)
        return Answer(
            stamped(made.head, cache_status(hit=False, fwd="partial", collapsed=True)), body
        )

    async def _rest_of_archive(self, request: RequestHead, looked_up: LookupState) -> Answer | None:
        """The rest of an archive whose beginning a client has.

        The whole is fetched, so that it can be checked and kept.
        """
        start = resumed_from(request) if looked_up.expectation.checks else None
        if start is None:
            return None
        whole = dataclasses.replace(request, headers=request.headers.without("range", "if-range"))
        decision = lookup(whole, [], now=self._resources.clock.now(), shared=self._resources.shared)
        assert not isinstance(decision, Hit)
        fetch = fetch_request(whole, decision, looked_up.heads, looked_up.expectation)
        transfer = self._transfers.join(fetch)
        try:
            while not transfer.over and transfer.available() <= start:
                await transfer.changed()
            return self._part_of_growing(request, fetch, waits=True) or await self._respond(
                request, transfer, looked_up
            )
        finally:
            self._transfers.leave(transfer)

    async def _at_once(
        self, fetch: FetchRequest, transfer: Transfer, looked_up: LookupState
    ) -> Answer | None:
        """What is stored of a channel's index when upstream fails or is silent; asked meanwhile."""
        request = fetch.request
        if self._refresh or not self._channels.is_index(request.url) or not looked_up.heads:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while transfer.phase is Phase.ASKING and not (transfer.troubled or transfer.over):
                    await transfer.changed()
        if transfer.phase is not Phase.ASKING:
            return None
        stale = await self._fallback.stale(request, looked_up, None)
        if stale is not None:
            self._channels.failed(request.url)
            self._transfers.refresh(fetch)
        return stale

    async def _respond(
        self, request: RequestHead, transfer: Transfer, looked_up: LookupState
    ) -> Answer:
        """Wait for what there is to say, then say it: stored, growing, passed on, or failed."""
        plain = not (request.headers.names() & _CONDITIONS)
        while True:
            if transfer.phase is Phase.LANDED and transfer.entry is not None:
                answer = await self._responses.stored(
                    request, transfer.entry, "revalidated" if transfer.refreshed else "miss"
                )
                return answer or await self._without_store(request, looked_up.expectation)
            if transfer.phase is Phase.PASSED:
                return await self._passed(request, transfer, looked_up)
            if transfer.phase is Phase.FAILED:
                if isinstance(transfer.error, StoreError):
                    return await self._without_store(request, looked_up.expectation)
                return await self._fallback.after_failure(request, transfer.error, looked_up)
            if transfer.over and not plain:  # right, but it could not be kept: upstream cuts it out
                return await self._without_store(request, looked_up.expectation)
            ready = transfer.available() > 0 or transfer.phase is Phase.VERIFIED
            if plain and ready and transfer.draft is not None:
                return self._growing(request, transfer, looked_up.expectation)
            await transfer.changed()

    def _growing(
        self, request: RequestHead, transfer: Transfer, expectation: Expectation
    ) -> Answer:
        assert transfer.draft is not None
        head = transfer.draft.response.head
        rest = self._rest(request, transfer, expectation)
        self._responses.given(request, transfer.draft, stored=False)
        body = TransferBody(transfer, 0, transfer.total, leave=self._transfers.leave, rest=rest)
        self._responses.note(request, head.status, "miss", transfer.total or 0, transfer.draft)
        stamp = cache_status(hit=False, fwd="miss", fwd_status=head.status, stored=True)
        return Answer(stamped(without_framing(head), stamp), body)

    async def _passed(
        self, request: RequestHead, transfer: Transfer, looked_up: LookupState
    ) -> Answer:
        """An answer that is not kept is the first one's who asks.

        The others ask for themselves, but not a failing upstream.
        """
        answer, failed = transfer.claim(), transfer.failed_status
        if (
            failed is not None
            and (stale := await self._fallback.stale(request, looked_up, failed.status)) is not None
        ):
            if answer is not None:
                await answer.aclose()
            return stale
        if answer is not None:
            return self._responses.streamed(request, answer, "miss")
        if failed is not None:
            wait = failed.headers.get("retry-after") or "0"
            return self._responses.gateway(
                request, failed.status, f"upstream answers {failed.status}", retry_after=wait
            )
        return await self._without_store(request, looked_up.expectation)

    def _rest(
        self, request: RequestHead, transfer: Transfer, expectation: Expectation
    ) -> Callable[[int], AsyncIterator[bytes]]:
        async def rest(at: int) -> AsyncIterator[bytes]:
            async for piece in rest_of(
                transfer, request, expectation, self._resources.upstream, at
            ):
                self._resources.downloaded(len(piece))
                yield piece

        return rest

    async def _without_store(self, request: RequestHead, expectation: Expectation) -> Answer:
        """From upstream, checked on the way, for a client whom the store cannot serve."""
        asked = as_it_is(request) if expectation.checks else request
        answer = await ask_again(self._resources.upstream, asked, self._resources.clock)
        made = self._responses.streamed(request, answer, "miss")
        if answer.head.status == 200 and isinstance(made.body, StreamBody):
            made.body.source = verified(made.body.source, expectation, url=request.url)
        return made
