"""Answers: a response head and a body that can be streamed, whatever it comes from.

No framing, no sockets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from entrepot.httpcache.messages import RequestHead, ResponseHead
from entrepot.ports.store import Blob

CHUNK = 1 << 18
"""Bytes read from a file at a time: large enough that the interpreter is not the limit, small
enough to interleave."""


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
            piece = self.blob.read(at, min(CHUNK, self.end - at))
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
