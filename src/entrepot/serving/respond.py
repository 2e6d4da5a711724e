"""Answers that come from upstream: out of transfers, or passed on and not kept.

A client joins a transfer, waits for what there is to say of it, and reads along as it grows. What
has no place in the store goes to upstream as it is.

Who may ask upstream, and when, is decided before (``service.py``); how it is asked stands in
``transfers.py`` and ``fetch.py``.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from entrepot.channel.forms import index_name
from entrepot.errors import StoreError, TruncatedBody, UpstreamError, UpstreamProtocolError
from entrepot.httpcache.answering import reply
from entrepot.httpcache.exchange import lookup
from entrepot.httpcache.messages import RequestHead
from entrepot.httpcache.status_field import cache_status
from entrepot.ports.upstream import Answer as UpstreamAnswer
from entrepot.redaction import redacted_url
from entrepot.serving.channels import ANSWER_S, resumed_from
from entrepot.serving.fetch import ask_again, continues, resuming
from entrepot.serving.integrity import content_length, fed, verified
from entrepot.serving.known_files import Expectation
from entrepot.serving.policy import RETRIED
from entrepot.serving.response import Answer, Request, Responses, StreamBody, without_framing
from entrepot.serving.stale_if_error import Fallback, LookupState
from entrepot.serving.transfer import (
    FetchRequest,
    Phase,
    Progress,
    Resources,
    as_it_is,
    fetch_request,
)
from entrepot.serving.transfers import Transfer, TransferBody, Transfers
from entrepot.urls import is_loopback

READ_METHODS = frozenset({"GET", "HEAD"})
_CONDITIONS = frozenset(
    {"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range", "range"}
)


@dataclass(frozen=True, slots=True)
class Responder:
    """Gives upstream's answers."""

    resources: Resources
    transfers: Transfers
    responses: Responses
    fallback: Fallback

    # passed on

    async def passed_on(self, request: Request) -> Answer:
        """Straight to upstream, nothing kept.

        Raises:
            UpstreamError: no answer.
        """
        if self.resources.rules.offline:
            text = f"entrepot is offline, so this {request.head.method} goes nowhere"
            return self.responses.gateway(request.head, 504, text)
        return self.responses.streamed(request.head, await self._send(request), "bypass")

    async def past(self, request: Request) -> Answer:
        """A host that serves no packages: passed on untouched, and named in the report.

        Raises:
            UpstreamError: no answer.
        """
        host, stats = urlsplit(request.head.url).hostname or "", self.resources.stats
        if self.resources.rules.offline and not is_loopback(host):
            text = f"entrepot is offline; {host} serves no packages"
            return self.responses.gateway(request.head, 504, text)
        answer = await self._send(request)
        if not is_loopback(host):
            stats.uncached_hosts[host] += 1
            stats.uncached_bytes += content_length(answer.head) or 0
        return self.responses.untouched(answer)

    async def on_or_stale(self, request: RequestHead, looked_up: LookupState) -> Answer:
        """HEAD, and parts of what is not here: from upstream, else what there is."""
        try:
            answer = await ask_again(self.resources.upstream, request, self.resources.clock)
        except UpstreamError as exc:
            return await self.fallback.after_failure(request, exc, looked_up)
        status = answer.head.status
        if status in RETRIED and (stale := await self.fallback.stale(request, looked_up, status)):
            await answer.aclose()
            return stale
        channels = self.resources.pages.channels
        await channels.keep_absence(request, answer.head, looked_up.heads)
        return self.responses.streamed(request, answer, "bypass")

    async def _send(self, request: Request) -> UpstreamAnswer:
        """Ask upstream; once more on a new connection when a kept one breaks under GET or HEAD."""
        upstream = self.resources.upstream
        try:
            return await upstream.send(request.head, request.body)
        except UpstreamProtocolError:
            if request.body is not None or request.head.method not in READ_METHODS:
                raise
            return await upstream.send(request.head, fresh_connection=True)

    # out of transfers

    async def whole(self, fetch: FetchRequest, looked_up: LookupState) -> Answer:
        """The answer that a transfer brings, begun now if there is none."""
        transfer = self.transfers.join(fetch)
        try:
            answer = await self._at_once(fetch, transfer, looked_up) or await self._respond(
                fetch.request, transfer, looked_up
            )
        except BaseException:
            self.transfers.leave(transfer)
            raise
        if not isinstance(answer.body, TransferBody):
            self.transfers.leave(transfer)
        return answer

    async def part(self, fetch: FetchRequest, looked_up: LookupState) -> Answer | None:
        """A range of a body that is coming, or the rest of an archive; else ``None``.

        For the rest of an archive whose beginning a client has the whole is fetched, so that it can
        be checked and kept.
        """
        request = fetch.request
        if answer := self._part_of_growing(request, fetch):
            return answer
        start = resumed_from(request) if looked_up.expectation.checks else None
        if start is None:
            return None
        whole = dataclasses.replace(request, headers=request.headers.without("range", "if-range"))
        now, shared = self.resources.clock.now(), self.resources.rules.shared
        decision = lookup(whole, [], now=now, shared=shared)
        fetch = fetch_request(whole, decision, looked_up.heads, looked_up.expectation)
        transfer = self.transfers.join(fetch)
        try:
            while not transfer.over and transfer.available() <= start:
                await transfer.changed()
            return self._part_of_growing(request, fetch, waits=True) or await self._respond(
                request, transfer, looked_up
            )
        finally:
            self.transfers.leave(transfer)

    def _part_of_growing(
        self, request: RequestHead, fetch: FetchRequest, *, waits: bool = False
    ) -> Answer | None:
        """A range that is there already of a body that is coming; never of its held-back end.

        ``waits``: one whose beginning is there will do; the body then comes as far as it is known
        to be right.
        """
        transfer = self.transfers.growing(fetch) if "range" in request.headers else None
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
        body = self._body(request, transfer, fetch.expectation, *made.span)
        stamp = cache_status(hit=False, fwd="partial", collapsed=True)
        return self.responses.made(request, made.head, body, "miss", stamp, head=transfer.draft)

    async def _at_once(
        self, fetch: FetchRequest, transfer: Transfer, looked_up: LookupState
    ) -> Answer | None:
        """What is stored of a channel's index when upstream fails or is silent; asked meanwhile."""
        url = fetch.request.url
        if self.resources.rules.refresh or index_name(url) is None or not looked_up.heads:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while transfer.phase is Phase.ASKING and not (transfer.troubled or transfer.over):
                    await transfer.changed()
        if transfer.phase is not Phase.ASKING:
            return None
        stale = await self.fallback.stale(fetch.request, looked_up, None)
        if stale is not None:
            self.resources.pages.channels.failed(url)
            self.transfers.refresh(fetch)
        return stale

    async def _respond(
        self, request: RequestHead, transfer: Transfer, looked_up: LookupState
    ) -> Answer:
        """Wait for what there is to say, then say it: stored, growing, passed on, or failed."""
        plain, expectation = not (request.headers.names() & _CONDITIONS), looked_up.expectation
        while True:
            if transfer.phase is Phase.LANDED and transfer.entry is not None:
                outcome = "revalidated" if transfer.refreshed else "miss"
                answer = await self.responses.stored(request, transfer.entry, outcome)
                return answer or await self._without_store(request, expectation)
            if transfer.phase is Phase.PASSED:
                return await self._passed(request, transfer, looked_up)
            if transfer.phase is Phase.FAILED:
                if isinstance(transfer.error, StoreError):
                    return await self._without_store(request, expectation)
                return await self.fallback.after_failure(request, transfer.error, looked_up)
            if transfer.over and not plain:  # right, but it could not be kept: upstream cuts it out
                return await self._without_store(request, expectation)
            ready = transfer.available() > 0 or transfer.phase is Phase.VERIFIED
            if plain and ready and transfer.draft is not None:
                draft, head = transfer.draft, transfer.draft.response.head
                self.responses.given(request, draft, stored=False)
                body = self._body(request, transfer, expectation, 0, transfer.total)
                stamp = cache_status(hit=False, fwd="miss", fwd_status=head.status, stored=True)
                response = without_framing(head)
                return self.responses.made(request, response, body, "miss", stamp, head=draft)
            await transfer.changed()

    async def _passed(
        self, request: RequestHead, transfer: Transfer, looked_up: LookupState
    ) -> Answer:
        """An answer that is not kept is the first one's who asks.

        The others ask for themselves, but not a failing upstream.
        """
        answer, failed = transfer.claim(), transfer.failed_status
        if failed is not None:
            stale = await self.fallback.stale(request, looked_up, failed.status)
            if stale is not None:
                if answer is not None:
                    await answer.aclose()
                return stale
        if answer is not None:
            return self.responses.streamed(request, answer, "miss")
        if failed is not None:
            wait = failed.headers.get("retry-after") or "0"
            text = f"upstream answers {failed.status}"
            return self.responses.gateway(request, failed.status, text, retry_after=wait)
        return await self._without_store(request, looked_up.expectation)

    def _body(
        self,
        request: RequestHead,
        transfer: Transfer,
        expectation: Expectation,
        start: int,
        end: int | None,
    ) -> TransferBody:
        rest = partial(rest_of, transfer, request, expectation, self.resources)
        return TransferBody(transfer, start, end, leave=self.transfers.leave, rest=rest)

    async def _without_store(self, request: RequestHead, expectation: Expectation) -> Answer:
        """From upstream, checked on the way, for a client whom the store cannot serve."""
        asked = as_it_is(request) if expectation.checks else request
        answer = await ask_again(self.resources.upstream, asked, self.resources.clock)
        made = self.responses.streamed(request, answer, "miss")
        if answer.head.status == 200 and isinstance(made.body, StreamBody):
            made.body.source = verified(made.body.source, expectation, url=request.url)
        return made


async def rest_of(
    transfer: Progress,
    request: RequestHead,
    expectation: Expectation,
    resources: Resources,
    at: int,
) -> AsyncIterator[bytes]:
    """The body from ``at`` on, from upstream: the store has failed, and the client has the start.

    Raises:
        UpstreamError: upstream does not give it, or it is not the rest of what the client has.
    """
    hasher = fed(expectation.hasher(), transfer.read, at)
    began = transfer.draft.response.head if transfer.draft is not None else None
    asked = resuming(as_it_is(request) if expectation.checks else request, at, began)
    answer = await resources.upstream.send(asked, fresh_connection=True)
    status, skip, url = answer.head.status, at, redacted_url(request.url)
    try:
        if (
            began is not None
            and status == 206
            and continues(answer.head, at, transfer.total, began)
        ):
            skip = 0
        elif status != 200:
            text = f"upstream answered {status} for the rest"
            raise TruncatedBody(text, url=url, received=at)

        async def rest() -> AsyncIterator[bytes]:
            nonlocal skip  # an upstream that serves no ranges gives the start once more
            async for piece in answer.chunks():
                if len(piece) > skip:
                    yield piece[skip:]
                skip = max(0, skip - len(piece))
            if skip:
                raise TruncatedBody("upstream's body is shorter than it was", url=url)

        async for piece in verified(rest(), expectation, url=request.url, hasher=hasher):
            resources.downloaded(len(piece))
            yield piece
    finally:
        await answer.aclose()
