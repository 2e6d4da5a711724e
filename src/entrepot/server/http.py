"""One side of HTTP/1.1: requests parsed from bytes, answers written as bytes.

No sockets, no CONNECT, no TLS here.

httptools parses; this file frames. It exists because a proxy needs what no ASGI server offers: the
reason phrase, the absolute target, a connection that is reset in mid-body, ``Upgrade`` handed over
raw, and a start-up of a few milliseconds (docs/decisions/0002-own-http-protocol.md).
"""

from __future__ import annotations

import asyncio
import http
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

import httptools

from entrepot.errors import EntrepotError
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead
from entrepot.server.tls import Output
from entrepot.serving.response import Answer, BytesBody, Handler, Request

MAX_HEAD = 1 << 17
"""Bytes a request's head may have, a CONNECT's too."""
TOO_LARGE = 431, "the request's head is larger than 128 KiB"
"""Status and text of the answer to one that has more (RFC 6585 §5)."""
BODY_HIGH = 1 << 18
"""Bytes of request content kept before reading from the client stops."""
PIPELINED = 32
"""Requests that may wait for their turn before reading from the client stops."""


@dataclass(slots=True, eq=False)
class Incoming:
    """A request whose content may still be arriving."""

    head: RequestHead
    version: str
    keep_alive: bool
    upgrade: bool
    """Whether the client asks for another protocol from here on."""
    expects: Callable[[], None] | None
    """Sends ``100 Continue``; called when somebody first asks for the content."""
    resume: Callable[[], None]
    """Lets the client go on when there is room for more content."""
    complete: bool = False
    """Whether all of the content has arrived, taken or not."""
    _pieces: deque[bytes] = field(default_factory=deque)
    _size: int = 0
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def feed(self, piece: bytes) -> bool:
        """Take content; ``True`` when the client should be held back."""
        self._pieces.append(piece)
        self._size += len(piece)
        self._arrived.set()
        return self._size > BODY_HIGH

    def end(self) -> None:
        """The content is complete."""
        self.complete = True
        self._arrived.set()

    @property
    def empty(self) -> bool:
        """Whether there is no content to take, now or later."""
        return self.complete and not self._pieces

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
                    self.resume()
                yield piece
            if self.complete:
                return
            self._arrived.clear()
            await self._arrived.wait()


class Client(Protocol):
    """The connection that HTTP is spoken on."""

    output: Output
    drained: asyncio.Future[None] | None
    """Done when the output takes more; ``None``: it does now."""

    def hold(self) -> None:
        """Read nothing more from the client for now."""

    def go_on(self) -> None:
        """Read again."""

    def reset(self) -> None:
        """Drop the connection so that the client cannot take what it has for the whole."""

    def linger(self) -> None:
        """Close, but read what the client is still sending, so that it can read its answer."""

    def upgrade(self, head: RequestHead, rest: bytes) -> None:
        """The client asks for another protocol; ``rest`` are the bytes behind the request."""

    def failed(self, exc: Exception) -> None:
        """An exception that should not have been."""


class HttpSide:
    """Parses requests, has them answered one at a time, and writes the answers.

    ``origin`` is ``https://HOST[:PORT]`` inside a tunnel; ``None`` where targets must be absolute.
    """

    def __init__(self, client: Client, *, origin: str | None, handler: Handler) -> None:
        self._client = client
        self._output = client.output
        self._origin = origin
        self._handler = handler
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._lines: list[tuple[str, str]] = []
        self._head_size = 0
        self._in_head = False
        self._between = True
        """Whether no request is arriving."""
        self._begun = 0
        """Requests that began in the bytes that are being fed."""
        self._fed = 0
        """Bytes fed of the head that is arriving; the parser shows a field only when complete."""
        self._current: Incoming | None = None
        self._queue: deque[Incoming] = deque()
        self.task: asyncio.Task[None] | None = None
        """What answers now, if anything does."""
        self._broken = False
        self._client_done = False
        self._after: bytes | None = None
        """What follows a request for another protocol, while answers before it are still due."""

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._after is not None:
            self._after += data
            if len(self._after) > BODY_HIGH:
                self._client.hold()
        while data and self._after is None and not self._broken:
            between, self._begun = self._between, 0
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as exc:
                data = data[exc.args[0] :]
                if self._queue and self._queue[-1].upgrade:
                    self._after = data
                    self._start()
            except (httptools.HttpParserError, _BadRequest) as exc:
                # httptools wraps what its callbacks raise
                cause = exc if isinstance(exc, _BadRequest) else exc.__context__
                status, text = 400, "this is not HTTP/1.1"
                if isinstance(cause, _BadRequest):
                    status, text = cause.args
                self._refuse(status, text)
            else:
                # What came before a head in the same bytes is not the head's; how much that was the
                # parser does not tell.
                self._fed += len(data) if self._begun <= between else 0
                if self._in_head and self._fed > MAX_HEAD:
                    self._refuse(*TOO_LARGE)
                data = b""
        if len(self._queue) > PIPELINED:
            self._client.hold()

    def client_done(self) -> None:
        """The client will send no more; what it asked for is still answered."""
        self._client_done = True
        if self.task is None:
            self._output.close()
        elif self._current is not None and not self._current.complete:
            self.lost()  # it broke off in mid-request
            self._output.close()

    def lost(self) -> None:
        """The connection is gone: nobody waits for the answer."""
        self._broken = True
        if self.task is not None:
            self.task.cancel()

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._target, self._lines, self._head_size = b"", [], 0
        self._in_head, self._fed = True, 0
        self._between, self._begun = False, self._begun + 1

    def on_url(self, target: bytes) -> None:
        self._target += target
        self._measure(len(target))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._measure(len(name) + len(value) + len(": \r\n"))
        self._lines.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._in_head = False
        headers = Headers(self._lines)
        head = RequestHead(
            self._parser.get_method().decode("ascii"),
            self._absolute(self._target.decode("latin-1")),
            headers,
        )
        version = self._parser.get_http_version()
        # RFC 9110 §10.1.1
        expected = version != "1.0" and (headers.get("expect") or "").lower() == "100-continue"
        self._current = Incoming(
            head,
            version,
            keep_alive=bool(self._parser.should_keep_alive()),
            upgrade=bool(self._parser.should_upgrade()) and _may_upgrade(head),
            expects=partial(self._output.write, _CONTINUE) if expected else None,
            resume=self._client.go_on,
        )
        self._queue.append(self._current)
        if not self._current.upgrade:
            # Runs at the loop's next turn, when a request without content is complete
            self._start()

    def on_body(self, piece: bytes) -> None:
        if self._current is not None and self._current.feed(piece):
            self._client.hold()

    def on_message_complete(self) -> None:
        self._between = True
        if self._current is not None:
            self._current.end()

    def _measure(self, count: int) -> None:
        self._head_size += count
        if self._head_size > MAX_HEAD:
            raise _BadRequest(*TOO_LARGE)

    def _absolute(self, target: str) -> str:
        if self._origin is not None:
            if target.startswith("/"):
                return self._origin + target
            if target.lower().startswith(f"{self._origin}/"):
                return target
            raise _BadRequest(400, "this connection is for one host: open another for another host")
        if target.lower().startswith(("http://", "https://")):
            with suppress(ValueError):
                parts = urlsplit(target)
                if parts.hostname and parts.port != 0:
                    return target
        raise _BadRequest(
            400, "this port is the proxy of one entrepot run: it takes absolute URLs and CONNECT"
        )

    # answering

    def _start(self) -> None:
        if self.task is None and self._queue and not self._broken:
            self.task = asyncio.ensure_future(self._answer_all())

    async def _answer_all(self) -> None:
        try:
            while self._queue and not self._broken:
                incoming = self._queue[0]
                if incoming.upgrade:
                    self._broken = True  # whatever follows is not ours
                    self._client.upgrade(incoming.head, self._after or b"")
                    return
                await self._answer(incoming)
                self._queue.popleft()
                if len(self._queue) == PIPELINED // 2:
                    self._client.go_on()
                if self._broken:
                    return
                if not incoming.complete:
                    self._broken = True
                    self._client.linger()
                elif not incoming.keep_alive or (self._client_done and not self._queue):
                    self._broken = True
                    self._output.close()
        finally:
            self.task = None

    async def _answer(self, incoming: Incoming) -> None:
        request = Request(incoming.head, None if incoming.empty else incoming.content())
        try:
            answer = await self._handler(request)
        except EntrepotError as exc:
            answer = _trouble(502, exc.message)
        except Exception as exc:  # noqa: BLE001  (the client gets an answer, the user a note)
            self._client.failed(exc)
            answer = _trouble(500, "internal error while handling a request")
        try:
            try:
                await self._write(incoming, answer)
            finally:
                await answer.body.aclose()
        except EntrepotError:
            self._break()
        except Exception as exc:  # noqa: BLE001  (the same)
            self._client.failed(exc)
            self._break()

    def _break(self) -> None:
        self._broken = True
        self._client.reset()

    async def _write(self, incoming: Incoming, answer: Answer) -> None:
        head, body = answer.head, answer.body
        bodiless = incoming.head.method == "HEAD" or head.status in {204, 304} or head.status < 200
        headers, chunked = head.headers, False
        if not bodiless or head.status == 204:
            headers = headers.without("content-length", "transfer-encoding")
        if not bodiless:
            if body.length is not None:
                headers = headers.added("Content-Length", str(body.length))
            elif incoming.version == "1.1":
                headers, chunked = headers.added("Transfer-Encoding", "chunked"), True
            else:
                incoming.keep_alive = False
        if not incoming.keep_alive:
            headers = headers.replaced("Connection", "close")
        elif incoming.version == "1.0":
            headers = headers.replaced("Connection", "keep-alive")
        raw = _head_bytes(ResponseHead(head.status, headers, head.reason))
        if bodiless:
            self._output.write(raw)
            return
        sent = 0
        chunks = body.chunks()
        try:
            async for piece in chunks:
                sent += len(piece)
                if not piece:
                    continue  # an empty chunk would be the last one
                framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
                # The head goes with the first piece: one packet for a small answer, and none at all
                # for a body that fails before its first byte.
                self._output.write(raw + framed if raw else framed)
                raw = b""
                if self._client.drained is not None:
                    await self._client.drained
        finally:
            # A generator ends where its reader ends, not when the garbage collector comes by
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()
        if body.length is not None and sent != body.length:
            self._break()
            return
        tail = raw + (b"0\r\n\r\n" if chunked else b"")
        if tail:
            self._output.write(tail)

    def _refuse(self, status: int, text: str) -> None:
        self.lost()
        self._output.write(simple_response(status, text, Headers([("Connection", "close")])))
        self._client.linger()


class _BadRequest(Exception):
    """The request cannot be answered; a status and a text say why."""


def _trouble(status: int, text: str) -> Answer:
    headers = Headers(
        [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]
    )
    return Answer(ResponseHead(status, headers, text[:200]), BytesBody(f"{text}\n".encode()))


def _may_upgrade(head: RequestHead) -> bool:
    """Whether to let go of a connection. Not for HTTP/2, which asks for the same pages.

    A request with content is let go in any case: llhttp takes what follows such a head for the
    other protocol.
    """
    framed = (
        head.headers.get("content-length") or "0"
    ) != "0" or "transfer-encoding" in head.headers
    return framed or (head.headers.get("upgrade") or "").strip().lower() not in {"h2c", "http/2.0"}


def simple_response(status: int, text: str, headers: Headers | None = None) -> bytes:
    """A whole small response in plain text."""
    content = (text + "\n").encode()
    lines = Headers(
        [
            *(headers or ()),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(content))),
        ]
    )
    return _head_bytes(ResponseHead(status, lines)) + content


def _head_bytes(head: ResponseHead) -> bytes:
    reason = head.reason or _PHRASES.get(head.status, "")
    parts = [f"HTTP/1.1 {head.status} {_clean(reason)}\r\n"]
    parts += [f"{name}: {_clean(value)}\r\n" for name, value in head.headers]
    parts.append("\r\n")
    return "".join(parts).encode("latin-1", "replace")


def _clean(text: str) -> str:
    """No line breaks: no field from upstream may start a field of its own (RFC 9112 §11.1)."""
    return text.replace("\r", " ").replace("\n", " ") if "\n" in text or "\r" in text else text


_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
