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
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httptools

from entrepot.errors import EntrepotError
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead
from entrepot.server.tls import Wire
from entrepot.serving.response import Answer, BytesBody, Handler, Request

MAX_HEAD = 1 << 17
"""Bytes a request's head may have, a CONNECT's too."""
TOO_LARGE = 431, "the request's head is larger than 128 KiB"
"""Status and text of the answer to one that has more (RFC 6585 §5)."""
BODY_HIGH = 1 << 18
"""Bytes of request content kept before reading from the client stops."""


PIPELINED = 32
"""Requests that may wait for their turn before reading from the client stops."""


class Incoming:
    """A request whose content may still be arriving."""

    __slots__ = (
        "_arrived",
        "_ended",
        "_pieces",
        "_resume",
        "_size",
        "expects",
        "head",
        "keep_alive",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        head: RequestHead,
        *,
        version: str,
        keep_alive: bool,
        expects: Callable[[], None] | None,
        resume: Callable[[], None],
    ) -> None:
        self.head = head
        self.version = version
        self.keep_alive = keep_alive
        self.upgrade = False
        """Whether the client asks for another protocol from here on."""
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
    def complete(self) -> bool:
        """Whether all of the content has arrived, taken or not."""
        return self._ended

    @property
    def empty(self) -> bool:
        """Whether there is no content to take, now or later."""
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
        upgrade: called with the request's head and the bytes behind it when a client asks for
            another protocol.
        hold: holds the client back.
        go_on: lets it go on.
        drain: waits until the wire takes more.
        reset: drops the connection so that the client cannot take what it has for the whole.
        linger: closes a connection on which the client may still be sending, so that it can read
            what was answered.
        failed: told of an exception that should not have been.
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
        linger: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._wire = wire
        self._origin = origin
        self._handler = handler
        self._upgrade = upgrade
        self._hold = hold
        self._go_on = go_on
        self._drain = drain
        self._reset = reset
        self._linger = linger
        self._failed = failed
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
        self._task: asyncio.Task[None] | None = None
        self._broken = False
        self._client_done = False
        self._after: bytes | None = None
        """What follows a request for another protocol, while answers before it are still due."""

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._after is not None:
            self._after += data
            if len(self._after) > BODY_HIGH:
                self._hold()
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
                refusal = (
                    cause.args if isinstance(cause, _BadRequest) else (400, "this is not HTTP/1.1")
                )
                self._refuse(*refusal)
            else:
                # What came before a head in the same bytes is not the head's; how much that was the
                # parser does not tell.
                self._fed += len(data) if self._begun <= between else 0
                if self._in_head and self._fed > MAX_HEAD:
                    self._refuse(*TOO_LARGE)
                data = b""
        if len(self._queue) > PIPELINED:
            self._hold()

    def client_done(self) -> None:
        """The client will send no more; what it asked for is still answered."""
        self._client_done = True
        if self._task is None:
            self._wire.close()
        elif self._current is not None and not self._current.complete:
            self.lost()  # it broke off in mid-request
            self._wire.close()

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What answers now, if anything does."""
        return self._task

    def lost(self) -> None:
        """The connection is gone: nobody waits for the answer."""
        self._broken = True
        if self._task is not None:
            self._task.cancel()

    # httptools' callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        self._target, self._lines, self._head_size = b"", [], 0
        self._in_head, self._fed = True, 0
        self._between, self._begun = False, self._begun + 1

    def on_url(self, target: bytes) -> None:
        """A piece of its target."""
        self._target += target
        self._measure(len(target))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field line."""
        self._measure(len(name) + len(value) + len(": \r\n"))
        self._lines.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """The head is complete: queue the request."""
        self._in_head = False
        headers = Headers(self._lines)
        head = RequestHead(
            self._parser.get_method().decode("ascii"),
            self._absolute(self._target.decode("latin-1")),
            headers,
        )
        version = self._parser.get_http_version()
        expected = (
            version != "1.0" and (headers.get("expect") or "").lower() == "100-continue"
        )  # RFC 9110 §10.1.1
        self._current = Incoming(
            head,
            version=version,
            keep_alive=bool(self._parser.should_keep_alive()),
            expects=self._continue if expected else None,
            resume=self._go_on,
        )
        self._current.upgrade = bool(self._parser.should_upgrade()) and _may_upgrade(head)
        self._queue.append(self._current)
        if not self._current.upgrade:
            # Runs at the loop's next turn, when a request without content is complete
            self._start()

    def on_body(self, piece: bytes) -> None:
        """A piece of content."""
        if self._current is not None and self._current.feed(piece):
            self._hold()

    def on_message_complete(self) -> None:
        """The content is complete."""
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
            raise _BadRequest(
                400, "this connection leads to one host: take another one for another host"
            )
        if _is_absolute(target):
            return target
        raise _BadRequest(
            400, "this port is the proxy of one entrepot run: it takes absolute URLs and CONNECT"
        )

    # answering

    def _start(self) -> None:
        if self._task is None and self._queue and not self._broken:
            self._task = asyncio.ensure_future(self._answer_all())

    async def _answer_all(self) -> None:
        try:
            while self._queue and not self._broken:
                incoming = self._queue[0]
                if incoming.upgrade:
                    self._broken = True  # whatever follows is not ours
                    self._upgrade(incoming.head, self._after or b"")
                    return
                await self._answer(incoming)
                self._queue.popleft()
                if len(self._queue) == PIPELINED // 2:
                    self._go_on()
                self._close_after(incoming)
        finally:
            self._task = None

    def _close_after(self, incoming: Incoming) -> None:
        """Close behind an answer, if it was the last one."""
        if self._broken:
            return
        if not incoming.complete:
            self._broken = True
            self._linger()
        elif not incoming.keep_alive or (self._client_done and not self._queue):
            self._broken = True
            self._wire.close()

    async def _answer(self, incoming: Incoming) -> None:
        request = Request(incoming.head, None if incoming.empty else incoming.content())
        try:
            answer = await self._handler(request)
        except EntrepotError as exc:
            answer = _trouble(502, exc.message)
        except Exception as exc:  # noqa: BLE001  (the edge: the client gets an answer, the user a note)
            self._failed(exc)
            answer = _trouble(500, "entrepot itself failed on this request")
        try:
            try:
                await self._write(incoming, answer)
            finally:
                await answer.body.aclose()
        except EntrepotError:
            self._break()
        except Exception as exc:  # noqa: BLE001  (the same)
            self._failed(exc)
            self._break()

    def _break(self) -> None:
        self._broken = True
        self._reset()

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
            self._wire.write(raw)
            return
        sent = 0
        async with _ending(body.chunks()) as chunks:
            async for piece in chunks:
                sent += len(piece)
                if not piece:
                    continue  # an empty chunk would be the last one
                framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
                # The head goes with the first piece: one packet for a small answer, and none at all
                # for a body that fails before its first byte.
                self._wire.write(raw + framed if raw else framed)
                raw = b""
                waiting = self._drain()
                if waiting is not None:
                    await waiting
        if body.length is not None and sent != body.length:
            self._break()
            return
        tail = raw + (b"0\r\n\r\n" if chunked else b"")
        if tail:
            self._wire.write(tail)

    def _continue(self) -> None:
        self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, status: int, text: str) -> None:
        self.lost()
        self._wire.write(simple_response(status, text, Headers([("Connection", "close")])))
        self._linger()


class _BadRequest(Exception):
    """The request cannot be answered; a status and a text say why."""


@asynccontextmanager
async def _ending(pieces: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """End a generator where its reader ends, not when the garbage collector comes by."""
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


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


def _is_absolute(target: str) -> bool:
    if not target.lower().startswith(("http://", "https://")):
        return False
    try:
        parts = urlsplit(target)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


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
    """No line breaks: a field from upstream or a file name must not start a field of its own (RFC 9112 §11.1)."""
    return text.replace("\r", " ").replace("\n", " ") if "\n" in text or "\r" in text else text


_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
