"""Passing on: requests that go to upstream as they are, and whose answers are not kept."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from entrepot.errors import TruncatedBody, UpstreamError, UpstreamProtocolError
from entrepot.httpcache.messages import RequestHead
from entrepot.ports.upstream import Answer as UpstreamAnswer
from entrepot.ports.upstream import Upstream
from entrepot.redaction import redacted_url
from entrepot.serving.channels import Channels
from entrepot.serving.fetch import ask_again
from entrepot.serving.integrity import verified
from entrepot.serving.known_files import Expectation
from entrepot.serving.policy import RETRIED
from entrepot.serving.response import Answer, Request, Responses
from entrepot.serving.resume import as_it_is, content_length, continues, range_validator
from entrepot.serving.run_stats import RunStats
from entrepot.serving.stale_if_error import Fallback, LookupState
from entrepot.serving.transfer import Progress, Resources
from entrepot.urls import is_loopback

READ_METHODS = frozenset({"GET", "HEAD"})


class Passthrough:
    """Passes requests on.

    Args:
        resources, responses, fallback, channels, stats: the service's own.
        offline: whether upstream must not be asked.
    """

    def __init__(
        self,
        resources: Resources,
        responses: Responses,
        fallback: Fallback,
        channels: Channels,
        stats: RunStats,
        *,
        offline: bool,
    ) -> None:
        self._resources = resources
        self._responses = responses
        self._fallback = fallback
        self._channels = channels
        self._stats = stats
        self._offline = offline

    async def on(self, request: Request) -> Answer:
        """Straight to upstream, nothing kept.

        Raises:
            UpstreamError: no answer.
        """
        if self._offline:
            text = f"entrepot is offline, so this {request.head.method} goes nowhere"
            return self._responses.gateway(request.head, 504, text)
        return self._responses.streamed(request.head, await self._send(request), "bypass")

    async def past(self, request: Request) -> Answer:
        """A host that serves no packages: passed on untouched, and named in the report.

        Raises:
            UpstreamError: no answer.
        """
        host = urlsplit(request.head.url).hostname or ""
        if self._offline and not is_loopback(host):
            return self._responses.gateway(
                request.head, 504, f"entrepot is offline; {host} serves no packages"
            )
        answer = await self._send(request)
        if not is_loopback(host):
            self._stats.uncached_hosts[host] += 1
            self._stats.uncached_bytes += content_length(answer.head) or 0
        return self._responses.untouched(answer)

    async def on_or_stale(self, request: RequestHead, looked_up: LookupState) -> Answer:
        """HEAD, and parts of what is not here: from upstream, else what there is."""
        try:
            answer = await ask_again(self._resources.upstream, request, self._resources.clock)
        except UpstreamError as exc:
            return await self._fallback.after_failure(request, exc, looked_up)
        status = answer.head.status
        if status in RETRIED and (stale := await self._fallback.stale(request, looked_up, status)):
            await answer.aclose()
            return stale
        await self._channels.keep_absence(request, answer.head, looked_up.heads)
        return self._responses.streamed(request, answer, "bypass")

    async def _send(self, request: Request) -> UpstreamAnswer:
        """Ask upstream; once more on a new connection when a kept one breaks under GET or HEAD."""
        try:
            return await self._resources.upstream.send(request.head, request.body)
        except UpstreamProtocolError:
            if request.body is not None or request.head.method not in READ_METHODS:
                raise
            return await self._resources.upstream.send(request.head, fresh_connection=True)


async def rest_of(
    transfer: Progress, request: RequestHead, expectation: Expectation, upstream: Upstream, at: int
) -> AsyncIterator[bytes]:
    """The body from ``at`` on, from upstream: the store has failed, and the client has the start.

    Raises:
        UpstreamError: upstream does not give it, or it is not the rest of what the client has.
    """
    hasher = expectation.hasher()
    while hasher.size < at and (piece := transfer.read(hasher.size, at - hasher.size)):
        hasher.feed(piece)
    began = transfer.draft.response.head if transfer.draft is not None else None
    headers = request.headers.without("range", "if-range").added("Range", f"bytes={at}-")
    validator = range_validator(began) if began is not None else None
    if validator:
        headers = headers.added("If-Range", validator)
    asked = dataclasses.replace(request, headers=headers)
    answer = await upstream.send(
        as_it_is(asked) if expectation.checks else asked, fresh_connection=True
    )
    try:
        if (
            began is not None
            and answer.head.status == 206
            and continues(answer.head, at, transfer.total, began)
        ):
            pieces = answer.chunks()
        elif answer.head.status == 200:
            pieces = without_start(answer.chunks(), at, url=request.url)
        else:
            shown = redacted_url(request.url)
            raise TruncatedBody(
                f"upstream answered {answer.head.status} for the rest", url=shown, received=at
            )
        async for piece in verified(pieces, expectation, url=request.url, hasher=hasher):
            yield piece
    finally:
        await answer.aclose()


async def without_start(
    pieces: AsyncIterator[bytes], count: int, *, url: str
) -> AsyncIterator[bytes]:
    """The pieces less their first ``count`` bytes, for an upstream that serves no ranges.

    Raises:
        TruncatedBody: there were not that many.
    """
    async for piece in pieces:
        rest = piece[count:]
        count = max(0, count - len(piece))
        if rest:
            yield rest
    if count:
        raise TruncatedBody("upstream's body is shorter than it was", url=redacted_url(url))
