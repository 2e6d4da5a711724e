"""An upstream that plays a script: the contract of ports/upstream.py without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from entrepot.errors import TruncatedBody, UpstreamError, UpstreamUnreachable
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead


@dataclass(slots=True)
class Script:
    """One response: its head, its content, and what goes wrong."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    """Break off after so many bytes, as a connection that dies does."""
    fail: UpstreamError | None = None
    """Raise this in place of answering."""
    gate: asyncio.Event | None = None
    """Send the second half of the body only when this is set."""
    half: asyncio.Event | None = None
    """Set when the first half has been taken and the gate is reached."""
    lengthless: bool = False
    """Announce no Content-Length."""


Route = Script | Callable[[RequestHead], Script]


class ScriptedAnswer:
    """A response that is being read."""

    def __init__(self, script: Script, url: str, piece: int) -> None:
        length = (
            []
            if script.lengthless or "content-length" in {n.lower() for n in script.headers}
            else [("Content-Length", str(len(script.body)))]
        )
        self.head = ResponseHead(script.status, Headers([*script.headers.items(), *length]))
        self._script = script
        self._url = url
        self._piece = piece
        self.closed = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content, cut where the script says so."""
        script, sent = self._script, 0
        while sent < len(script.body):
            if script.gate is not None and sent >= len(script.body) // 2:
                if script.half is not None:
                    script.half.set()
                await script.gate.wait()
            end = min(
                sent + self._piece,
                len(script.body),
                script.cut if script.cut is not None else len(script.body),
            )
            if end > sent:
                yield script.body[sent:end]
                sent = end
            if script.cut is not None and sent >= script.cut:
                raise TruncatedBody("the connection broke", url=self._url, received=sent)
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True


class ScriptedUpstream:
    """Answers by URL; a sequence of scripts is played one after the other, its last for ever.

    Args:
        routes: URL -> a script, a function of the request, or several scripts in turn.
        piece: bytes a chunk has.
    """

    def __init__(
        self, routes: Mapping[str, Route | Sequence[Route]] | None = None, *, piece: int = 16384
    ) -> None:
        self._routes: dict[str, list[Route]] = {}
        self._piece = piece
        self.requests: list[RequestHead] = []
        self.fresh: list[bool] = []
        """For each request whether it asked for a connection of its own."""
        self.bodies: list[bytes] = []
        self.gone = False
        """Nothing listens any more."""
        for url, route in (routes or {}).items():
            self.route(url, route)

    def route(self, url: str, route: Route | Sequence[Route]) -> None:
        """Set or replace what a URL answers."""
        self._routes[url] = list(route) if isinstance(route, (list, tuple)) else [route]  # type: ignore[list-item]

    def count(self, url: str) -> int:
        """How often a URL was asked for."""
        return sum(request.url == url for request in self.requests)

    async def send(
        self,
        request: RequestHead,
        body: AsyncIterator[bytes] | None = None,
        *,
        fresh_connection: bool = False,
    ) -> ScriptedAnswer:
        """Play the next script of the request's URL.

        Raises:
            UpstreamError: the script says so, or nothing listens.
        """
        self.requests.append(request)
        self.fresh.append(fresh_connection)
        self.bodies.append(b"".join([piece async for piece in body]) if body is not None else b"")
        await asyncio.sleep(0)
        if self.gone:
            raise UpstreamUnreachable("nothing listens there", url=request.url)
        waiting = self._routes.get(
            request.url, [Script(404, {"Content-Type": "text/plain"}, b"no such thing\n")]
        )
        route = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        script = route(request) if callable(route) else route
        if script.fail is not None:
            raise script.fail
        return ScriptedAnswer(script, request.url, self._piece)

    async def aclose(self) -> None:
        """Nothing is open."""


def ranged(
    body: bytes, *, etag: str = '"v1"', cuts: Sequence[int] = ()
) -> Callable[[RequestHead], Script]:
    """A route that serves ranges as RFC 9110 §14 says, breaking off its first answers after ``cuts`` bytes of the whole body."""
    left = list(cuts)

    def answer(request: RequestHead) -> Script:
        cut = left.pop(0) if left else None
        headers = {"ETag": etag, "Accept-Ranges": "bytes"}
        wanted = request.headers.get("range")
        matches = request.headers.get("if-range") in {None, etag}
        if wanted is None or not matches:
            return Script(200, headers, body, cut=cut)
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        if start >= len(body):
            return Script(416, {"Content-Range": f"bytes */{len(body)}"})
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return Script(206, headers, body[start:], cut=None if cut is None else max(0, cut - start))

    return answer
