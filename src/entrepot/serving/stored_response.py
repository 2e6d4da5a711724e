"""Answers as they are made: out of the store, from upstream, of our own.

Each says where it comes from, and is counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable

from entrepot.errors import UpstreamError
from entrepot.httpcache import cache_status, current_age, forwardable, reply
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead
from entrepot.ports.upstream import Answer as UpstreamAnswer
from entrepot.serving.fetch_request import Means
from entrepot.serving.json_to_html import written_as_html
from entrepot.serving.page_readers import learn_stored, teaches
from entrepot.serving.response import Answer, BlobBody, Body, BytesBody, StreamBody
from entrepot.serving.resume import content_length
from entrepot.serving.run_stats import Tally
from entrepot.stored import Head


class Replies:
    """Makes answers.

    Args:
        means: the service's own.
        tally: where they are counted.
    """

    def __init__(self, means: Means, tally: Tally) -> None:
        self._means = means
        self._tally = tally

    async def stored(self, request: RequestHead, head: Head, outcome: str) -> Answer | None:
        """The answer out of the store; ``None`` when the body is not there as the head says."""
        blob = await self._means.entries.open_body(head)
        if blob is None and head.body is not None:
            await self._means.entries.drop(head.response.key)
            return None
        self._means.entries.used(head)
        self.given(request, head)
        now = self._means.clock.now()
        stored, size = head.response, head.response.size or 0
        if stored.head.status == 200:
            made = reply(request, stored, age=current_age(stored, now), size=size)
            span, response = made.span, made.head
        else:
            span, response = (0, size), without_framing(stored.head)
        body: Body = BytesBody()
        if span is not None and blob is not None:
            body = BlobBody(blob, *span)
        elif blob is not None:
            blob.close()
        self.note(request, response.status, outcome, body.length or 0, head)
        stamp = cache_status(
            hit=outcome in {"hit", "stale"}, fwd=None if outcome == "hit" else "stale"
        )
        return Answer(stamped(response, stamp), body)

    def given(self, request: RequestHead, head: Head, *, stored: bool = True) -> None:
        """Note a page that a client is given, however it is served: it is a witness of this run.

        Args:
            request: the client's; HEAD shows it no page.
            head: of the page, or of another answer.
            stored: whether the page is in the store; else it is read when the rest of it has come.
        """
        if request.method == "GET" and teaches(request.url, head):
            self._means.facts.given(request.url)
        if stored:
            learn_stored(
                request.url, head, self._means.facts, self._means.entries, self._means.readers
            )

    async def as_html(self, request: RequestHead, heads: list[Head]) -> Answer | None:
        """A page that a newer tool has seen, for a client that reads HTML alone."""
        found = await written_as_html(request, heads, self._means.entries)
        if found is None:
            return None
        head, response, page = found
        self._means.entries.used(head)
        self.given(request, head)
        self.note(request, response.status, "stale", len(page), head)
        return Answer(stamped(response, cache_status(hit=True, fwd="stale")), BytesBody(page))

    def streamed(self, request: RequestHead, answer: UpstreamAnswer, outcome: str) -> Answer:
        """Upstream's answer as it comes."""
        status = answer.head.status
        self.note(
            request,
            status,
            "error" if status >= 500 else outcome,
            content_length(answer.head) or 0,
            None,
        )
        stamp = cache_status(
            hit=False, fwd="bypass" if outcome == "bypass" else "miss", fwd_status=status
        )
        return Answer(
            stamped(without_framing(answer.head), stamp), _stream(answer, self._means.downloaded)
        )

    def untouched(self, answer: UpstreamAnswer) -> Answer:
        """Upstream's answer as if no cache were there, neither stamped nor counted."""
        return Answer(without_framing(answer.head), _stream(answer))

    def failed(self, request: RequestHead, exc: UpstreamError) -> Answer:
        """Why upstream gave no answer."""
        return self.gateway(request, exc.status_hint, exc.message)

    def gateway(
        self,
        request: RequestHead,
        status: int,
        text: str,
        outcome: str = "error",
        *,
        retry_after: str = "0",
    ) -> Answer:
        """An error of ours, with its reason where clients show it: in the reason phrase."""
        self.note(request, status, outcome, 0, None)
        lines = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Cache-Control", "no-store"),
            ("Retry-After", retry_after),
        ]
        headers = Headers(lines)
        stamp = cache_status(hit=False, fwd="miss", detail=text[:120])
        return Answer(
            stamped(ResponseHead(status, headers, text[:200]), stamp),
            BytesBody(f"{text}\n".encode()),
        )

    def note(
        self, request: RequestHead, status: int, outcome: str, size: int, head: Head | None
    ) -> None:
        """Count an answer."""
        project, version = (head.project, head.version) if head is not None else (None, None)
        self._tally.note(request.url, status, outcome, size=size, project=project, version=version)


def stamped(response: ResponseHead, stamp: str) -> ResponseHead:
    """The response with what the cache says of it (RFC 9211)."""
    return dataclasses.replace(response, headers=response.headers.added("Cache-Status", stamp))


def without_framing(head: ResponseHead) -> ResponseHead:
    """The response as it goes on to the client, whose connection has a framing of its own."""
    return ResponseHead(head.status, forwardable(head.headers), head.reason)


def _stream(
    answer: UpstreamAnswer, downloaded: Callable[[int], None] = lambda _count: None
) -> StreamBody:
    async def pieces() -> AsyncIterator[bytes]:
        async for piece in answer.chunks():
            downloaded(len(piece))
            yield piece

    return StreamBody(pieces(), content_length(answer.head), answer.aclose)
