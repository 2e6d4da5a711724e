"""One side of HTTP/1.1: requests parsed from bytes, answers written as bytes. No sockets, no CONNECT, no TLS here.

httptools parses; this file frames. It exists because a proxy needs what no ASGI server offers: the reason phrase, the
absolute target, a connection that is reset in mid-body, ``Upgrade`` handed over raw, and a start-up of a few milliseconds
(docs/decisions/0002-own-http-protocol.md).
"""

from __future__ import annotations

import asyncio
import http
from collections import deque
from collections.abc import AsyncIterator, Callable

import httptools

from entrepot.app.answers import Answer, BytesBody, Handler, Request
from entrepot.errors import EntrepotError
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead
from entrepot.server.wire import Wire

MAX_HEAD = 1 << 17
"""Bytes a request's head may have."""
BODY_HIGH = 1 << 18
"""Bytes of request content kept before reading from the client stops."""


class Incoming:
    """A request whose content may still be arriving."""

    __slots__ = ("_arrived", "_ended", "_pieces", "_resume", "_size", "_want", "expects", "head", "keep_alive", "version")

    def __init__(
        self, head: RequestHead, *, version: str, keep_alive: bool, expects: Callable[[], None] | None, resume: Callable[[], None]
    ) -> None:
        self.head = head
        self.version = version
        self.keep_alive = keep_alive
        self.expects = expects
        """Sends ``100 Continue``; called when somebody first asks for the content."""
        self._resume = resume
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._arrived = asyncio.Event()

    def feed(self, piece: bytes) -> bool:
        """Take content; ``True`` when the client should be held back."""
        self._pieces.append(piece)
        self._size += len(piece)
        self._arrived.set()
        return self._size > BODY_HIGH

    def end(self) -> None:
        """The content is complete."""
        self._ended = True
        self._arrived.set()

    @property
    def ended(self) -> bool:
        """Whether all of it has arrived and been taken."""
        return self._ended and not self._pieces

    async def content(self) -> AsyncIterator[bytes]:
        """The content, piece by piece."""
        if self.expects is not None:
            self.expects()
            self.expects = None
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._size -= len(piece)
                if self._size <= BODY_HIGH // 2:
                    self._resume()
                yield piece
            if self._ended:
                return
            self._arrived.clear()
            await self._arrived.wait()


class HttpSide:
    """Parses requests, has them answered one at a time, and writes the answers.

    Args:
        wire: where answers go.
        origin: ``https://HOST[:PORT]`` inside a tunnel; ``None`` where targets must be absolute.
        handler: answers a request.
        upgrade: called with the request's head and the bytes behind it when a client asks for another protocol.
        hold: holds the client back.
        go_on: lets it go on.
        drain: waits until the wire takes more.
        reset: drops the connection so that the client cannot take what it has for the whole.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        origin: str | None,
        handler: Handler,
        upgrade: Callable[[RequestHead, bytes], None],
        hold: Callable[[], None],
        go_on: Callable[[], None],
        drain: Callable[[], asyncio.Future[None] | None],
        reset: Callable[[], None],
    ) -> None:
        self._wire = wire
        self._origin = origin
        self._handler = handler
        self._upgrade = upgrade
        self._hold = hold
        self._go_on = go_on
        self._drain = drain
        self._reset = reset
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._lines: list[tuple[str, str]] = []
        self._head_size = 0
        self._current: Incoming | None = None
        self._queue: deque[Incoming] = deque()
        self._task: asyncio.Task[None] | None = None
        self._broken = False
        self._client_done = False

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._broken:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            head = self._queue.pop().head
            self._broken = True  # whatever follows is not ours
            self._upgrade(head, data[exc.args[0] :])
        except (httptools.HttpParserError, _BadRequest) as exc:
            self._broken = True
            self._refuse(400, str(exc) if isinstance(exc, _BadRequest) else "this is not HTTP/1.1")

    def client_done(self) -> None:
        """The client will send no more; what it asked for is still answered."""
        self._client_done = True
        if self._task is None:
            self._wire.close()

    def lost(self) -> None:
        """The connection is gone: nobody waits for the answer."""
        self._broken = True
        if self._task is not None:
            self._task.cancel()

    # httptools' callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        self._target, self._lines, self._head_size = b"", [], 0

    def on_url(self, target: bytes) -> None:
        """A piece of its target."""
        self._target += target
        self._measure(len(target))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field line."""
        self._measure(len(name) + len(value))
        self._lines.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """The head is complete: queue the request."""
        headers = Headers(self._lines)
        head = RequestHead(self._parser.get_method().decode("ascii"), self._absolute(self._target.decode("latin-1")), headers)
        version = self._parser.get_http_version()
        expects = self._continue if (headers.get("expect") or "").lower() == "100-continue" else None
        self._current = Incoming(
            head,
            version=version,
            keep_alive=bool(self._parser.should_keep_alive()),
            expects=expects,
            resume=self._go_on,
        )
        self._queue.append(self._current)
        if not self._parser.should_upgrade():
            self._start()  # runs at the loop's next turn, when a request without content is complete

    def on_body(self, piece: bytes) -> None:
        """A piece of content."""
        if self._current is not None and self._current.feed(piece):
            self._hold()

    def on_message_complete(self) -> None:
        """The content is complete."""
        if self._current is not None:
            self._current.end()

    def _measure(self, count: int) -> None:
        self._head_size += count
        if self._head_size > MAX_HEAD:
            raise _BadRequest("the request's head is larger than 128 KiB")

    def _absolute(self, target: str) -> str:
        if self._origin is not None and target.startswith("/"):
            return self._origin + target
        if target.lower().startswith(("http://", "https://")):
            return target
        raise _BadRequest("this port is the proxy of one entrepot run: it takes absolute URLs and CONNECT")

    # answering

    def _start(self) -> None:
        if self._task is None and self._queue and not self._broken:
            self._task = asyncio.ensure_future(self._answer_all())

    async def _answer_all(self) -> None:
        try:
            while self._queue and not self._broken:
                incoming = self._queue[0]
                await self._answer(incoming)
                self._queue.popleft()
                if not (incoming.keep_alive and incoming.ended) or (self._client_done and not self._queue):
                    self._broken = True
                    self._wire.close()
        finally:
            self._task = None

    async def _answer(self, incoming: Incoming) -> None:
        has_content = not incoming.ended
        request = Request(incoming.head, incoming.content() if has_content else None)
        try:
            answer = await self._handler(request)
        except EntrepotError as exc:
            answer = Answer(ResponseHead(502, reason=exc.message[:200]), BytesBody(exc.message.encode()))
        try:
            await self._write(incoming, answer)
        except EntrepotError:
            self._broken = True
            self._reset()
        finally:
            await answer.body.aclose()

    async def _write(self, incoming: Incoming, answer: Answer) -> None:
        head, body = answer.head, answer.body
        bodiless = incoming.head.method == "HEAD" or head.status in {204, 304} or head.status < 200
        headers, chunked = head.headers, False
        if not bodiless:
            headers = headers.without("content-length", "transfer-encoding")
            if body.length is not None:
                headers = headers.added("Content-Length", str(body.length))
            elif incoming.version == "1.1":
                headers, chunked = headers.added("Transfer-Encoding", "chunked"), True
            else:
                incoming.keep_alive = False
        if not incoming.keep_alive:
            headers = headers.replaced("Connection", "close")
        raw = _head_bytes(ResponseHead(head.status, headers, head.reason))
        if bodiless:
            self._wire.write(raw)
            return
        sent = 0
        async for piece in body.chunks():
            sent += len(piece)
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
            # The head goes with the first piece: one packet for a small answer, and none at all for a body that
            # fails before its first byte.
            self._wire.write(raw + framed if raw else framed)
            raw = b""
            waiting = self._drain()
            if waiting is not None:
                await waiting
        tail = raw + (b"0\r\n\r\n" if chunked else b"")
        if tail:
            self._wire.write(tail)
        if body.length is not None and sent != body.length:
            self._broken = True
            self._reset()

    def _continue(self) -> None:
        self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, status: int, text: str) -> None:
        self._wire.write(simple_response(status, text, Headers([("Connection", "close")])))
        self._wire.close()


class _BadRequest(Exception):
    """The request cannot be answered; the text says why."""


def simple_response(status: int, text: str, headers: Headers | None = None) -> bytes:
    """A whole small response in plain text."""
    content = (text + "\n").encode()
    lines = Headers([*(headers or ()), ("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(content)))])
    return _head_bytes(ResponseHead(status, lines)) + content


def _head_bytes(head: ResponseHead) -> bytes:
    reason = head.reason or _PHRASES.get(head.status, "")
    parts = [f"HTTP/1.1 {head.status} {_clean(reason)}\r\n"]
    parts += [f"{name}: {_clean(value)}\r\n" for name, value in head.headers]
    parts.append("\r\n")
    return "".join(parts).encode("latin-1", "replace")


def _clean(text: str) -> str:
    """No line breaks: a field from upstream or a file name must not start a field of its own (RFC 9112 §11.1)."""
    return text.replace("\r", " ").replace("\n", " ") if "\n" in text or "\r" in text else text


_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
