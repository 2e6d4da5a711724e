"""Answers to a client: a head and a body that can be streamed, whatever it comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from entrepot.errors import UpstreamError
from entrepot.httpcache.answering import reply
from entrepot.httpcache.fields import forwardable
from entrepot.httpcache.freshness import current_age
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead
from entrepot.httpcache.status_field import cache_status
from entrepot.ports.store import Blob
from entrepot.ports.upstream import Answer as UpstreamAnswer
from entrepot.serving.integrity import content_length
from entrepot.serving.lookup import READ
from entrepot.serving.pages import teaches
from entrepot.serving.transfer import Resources
from entrepot.stored import Head


class Body(Protocol):
    """A response's content."""

    @property
    def length(self) -> int | None:
        """Bytes it will have; ``None`` when only its end tells."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The content in order.

        An :class:`~entrepot.errors.EntrepotError` half-way means: never end it cleanly.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what it reads from; may be called twice."""
        ...


@dataclass(slots=True)
class BytesBody:
    """Content that is at hand."""

    data: bytes = b""

    @property
    def length(self) -> int | None:
        """Its size in bytes."""
        return len(self.data)

    async def chunks(self) -> AsyncIterator[bytes]:
        """All of it, at once."""
        if self.data:
            yield self.data

    async def aclose(self) -> None:
        """Nothing to let go of."""


@dataclass(slots=True)
class BlobBody:
    """The span ``[start, end)`` of a stored object."""

    blob: Blob
    start: int
    end: int

    @property
    def length(self) -> int | None:
        """Bytes of the span."""
        return self.end - self.start

    async def chunks(self) -> AsyncIterator[bytes]:
        """The span, read from the page cache piece by piece."""
        at = self.start
        while at < self.end:
            piece = self.blob.read(at, min(READ, self.end - at))
            if not piece:
                return  # cut under our hands; the length tells the client
            at += len(piece)
            yield piece

    async def aclose(self) -> None:
        """Close the object."""
        self.blob.close()


@dataclass(slots=True)
class StreamBody:
    """Content that comes from elsewhere as it is asked for."""

    source: AsyncIterator[bytes]
    length: int | None
    close: Callable[[], Awaitable[None]]

    def chunks(self) -> AsyncIterator[bytes]:
        """The source itself."""
        return self.source

    async def aclose(self) -> None:
        """Close the source."""
        await self.close()


@dataclass(slots=True)
class Answer:
    """What a client is sent."""

    head: ResponseHead
    """Without framing (no Transfer-Encoding; Content-Length only where it describes what a GET
    would bring)."""
    body: Body = field(default_factory=BytesBody)


@dataclass(slots=True)
class Request:
    """What a client asks: the head with its absolute URL, and its content as a stream."""

    head: RequestHead
    body: AsyncIterator[bytes] | None = None
    """``None`` when the request has no content."""


Handler = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Responses:
    """Makes answers, and counts them."""

    resources: Resources

    async def stored(self, request: RequestHead, head: Head, outcome: str) -> Answer | None:
        """The answer out of the store; ``None`` when the body is not there as the head says."""
        entries = self.resources.entries
        blob = await entries.open_body(head)
        if blob is None and head.body is not None:
            await entries.drop(head.response.key)
            return None
        entries.used(head)
        self.given(request, head)
        stored, size = head.response, head.response.size or 0
        if stored.head.status == 200:
            age = current_age(stored, self.resources.clock.now())
            made = reply(request, stored, age=age, size=size)
            span, response = made.span, made.head
        else:
            span, response = (0, size), without_framing(stored.head)
        body: Body = BytesBody()
        if span is not None and blob is not None:
            body = BlobBody(blob, *span)
        elif blob is not None:
            blob.close()
        is_hit = outcome in {"hit", "stale"}
        stamp = cache_status(hit=is_hit, fwd=None if outcome == "hit" else "stale")
        return self.made(request, response, body, outcome, stamp, head=head)

    def made(
        self,
        request: RequestHead,
        response: ResponseHead,
        body: Body,
        outcome: str,
        stamp: str,
        *,
        head: Head | None = None,
        size: int | None = None,
    ) -> Answer:
        """An answer, counted as ``outcome``, with ``size`` bytes in place of its body's if given.

        ``stamp`` is what the cache says of it (RFC 9211), ``head`` the entry's, if it is of one.
        """
        self.resources.stats.note(
            request.url,
            response.status,
            outcome,
            size=(body.length or 0) if size is None else size,
            project=head.project if head is not None else None,
            version=head.version if head is not None else None,
        )
        headers = response.headers.added("Cache-Status", stamp)
        return Answer(dataclasses.replace(response, headers=headers), body)

    def given(self, request: RequestHead, head: Head, *, stored: bool = True) -> None:
        """Note a page that a client is given, however it is served: it is a witness of this run.

        ``stored`` is whether the page is in the store; else it is read when the rest of it has
        come.
        """
        if request.method == "GET" and teaches(request.url, head):
            self.resources.known_files.given(request.url)
        if stored:
            self.resources.pages.learn_stored(request.url, head)

    def streamed(self, request: RequestHead, answer: UpstreamAnswer, outcome: str) -> Answer:
        """Upstream's answer as it comes."""
        status, fwd = answer.head.status, "bypass" if outcome == "bypass" else "miss"
        return self.made(
            request,
            without_framing(answer.head),
            _stream(answer, self.resources.downloaded),
            "error" if status >= 500 else outcome,
            cache_status(hit=False, fwd=fwd, fwd_status=status),
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
        lines = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Cache-Control", "no-store"),
            ("Retry-After", retry_after),
        ]
        response = ResponseHead(status, Headers(lines), text[:200])
        stamp = cache_status(hit=False, fwd="miss", detail=text[:120])
        body = BytesBody(f"{text}\n".encode())
        return self.made(request, response, body, outcome, stamp, size=0)


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
