"""Passing on: requests that go to upstream as they are, and whose answers are not kept."""

from __future__ import annotations

from urllib.parse import urlsplit

from entrepot.errors import UpstreamError, UpstreamProtocolError
from entrepot.httpcache.messages import RequestHead
from entrepot.loopback import is_loopback
from entrepot.ports.upstream import Answer as UpstreamAnswer
from entrepot.serving.channels import Channels
from entrepot.serving.fetch_request import Means
from entrepot.serving.policy import RETRIED
from entrepot.serving.response import Answer, Request
from entrepot.serving.resume import content_length
from entrepot.serving.retry import ask_again
from entrepot.serving.run_stats import Tally
from entrepot.serving.stale_if_error import Situation, StandIns
from entrepot.serving.stored_response import Replies

READ_METHODS = frozenset({"GET", "HEAD"})


class Passing:
    """Passes requests on.

    Args:
        means, replies, stand_ins, channels, tally: the service's own.
        offline: whether upstream must not be asked.
    """

    def __init__(
        self,
        means: Means,
        replies: Replies,
        stand_ins: StandIns,
        channels: Channels,
        tally: Tally,
        *,
        offline: bool,
    ) -> None:
        self._means = means
        self._replies = replies
        self._stand_ins = stand_ins
        self._channels = channels
        self._tally = tally
        self._offline = offline

    async def on(self, request: Request) -> Answer:
        """Straight to upstream, nothing kept.

        Raises:
            UpstreamError: no answer.
        """
        if self._offline:
            return self._replies.gateway(
                request.head,
                504,
                f"entrepot is offline, so this {request.head.method} goes nowhere",
            )
        return self._replies.streamed(request.head, await self._send(request), "bypass")

    async def past(self, request: Request) -> Answer:
        """A host that serves no packages: passed on untouched, and named in the report.

        Raises:
            UpstreamError: no answer.
        """
        host = urlsplit(request.head.url).hostname or ""
        if self._offline and not is_loopback(host):
            return self._replies.gateway(
                request.head, 504, f"entrepot is offline; {host} serves no packages"
            )
        answer = await self._send(request)
        if not is_loopback(host):
            self._tally.uncached_hosts[host] += 1
            self._tally.uncached_bytes += content_length(answer.head) or 0
        return self._replies.untouched(answer)

    async def on_or_stale(self, request: RequestHead, situation: Situation) -> Answer:
        """HEAD, and parts of what is not here.

        Asked for again when upstream fails, and else what there is.
        """
        try:
            answer = await ask_again(self._means.upstream, request, self._means.clock)
        except UpstreamError as exc:
            return await self._stand_ins.after_failure(request, exc, situation)
        status = answer.head.status
        if (
            status in RETRIED
            and (stale := await self._stand_ins.stale(request, situation, status)) is not None
        ):
            await answer.aclose()
            return stale
        await self._channels.keep_absence(request, answer.head, situation.heads)
        return self._replies.streamed(request, answer, "bypass")

    async def _send(self, request: Request) -> UpstreamAnswer:
        """Ask upstream; once more on a new connection when a kept one breaks under a request that may be repeated."""
        try:
            return await self._means.upstream.send(request.head, request.body)
        except UpstreamProtocolError:
            if request.body is not None or request.head.method not in READ_METHODS:
                raise
            return await self._means.upstream.send(request.head, fresh_connection=True)
