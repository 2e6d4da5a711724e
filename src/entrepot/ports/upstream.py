"""Upstream as the application sees it.

Send a request head (and perhaps a body), receive a head and a byte stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from entrepot.httpcache.messages import RequestHead, ResponseHead


class Answer(Protocol):
    """A response whose body is still coming. Close it, also half-way."""

    @property
    def head(self) -> ResponseHead:
        """Status and fields as upstream sent them, content codings untouched."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as transferred, transfer codings removed, content codings kept.

        Back-pressure is the reader's pace.

        Raises:
            TruncatedBody: it ended before its framing said so.
            UpstreamTimeout: no byte for the silence limit.
        """
        ...

    async def aclose(self) -> None:
        """Drop the connection unless the body was read to its end; may be called twice."""
        ...


class Upstream(Protocol):
    """Sends one request; never follows redirects, never retries, never decodes."""

    async def send(
        self,
        request: RequestHead,
        body: AsyncIterator[bytes] | None = None,
        *,
        fresh_connection: bool = False,
    ) -> Answer:
        """One exchange, up to the response's head.

        Args:
            request: sent as it is, hop-by-hop fields already removed; ``Host`` is made from the
                URL.
            body: the request's content; its length is in ``request``'s Content-Length, else it is
                sent chunked.
            fresh_connection: do not reuse an idle connection (a retry after a failure).

        Raises:
            UpstreamTimeout, UpstreamUnreachable, UpstreamProtocolError: with the redacted URL.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
