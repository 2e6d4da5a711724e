"""Asking upstream more than once.

Redirects that are followed inside, and what is asked again although nobody will keep it.
"""

from __future__ import annotations

import asyncio

from entrepot.errors import UpstreamError, UpstreamTimeout
from entrepot.httpcache.messages import RequestHead
from entrepot.ports.clock import Clock
from entrepot.ports.upstream import Answer, Upstream
from entrepot.serving.policy import BACKOFF_S, REDIRECTS, RETRIED, pause_s
from entrepot.serving.resume import redirected

MAX_REDIRECTS = 10


async def ask(
    upstream: Upstream, request: RequestHead, *, fresh: bool, follow: bool
) -> tuple[Answer, bool]:
    """Send a request; with ``follow`` redirects are followed inside, so that signed targets are never stored.

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
