"""One HTTP/1.1 connection to an origin, and one request with its answer on it.

The grammar is llhttp's (httptools); here is what it leaves open: whose answer a message is, when a
body counts as whole, back-pressure, silence, and whether the connection may serve another request.
No addresses, TLS or proxies (``dial.py``).

llhttp is told to accept what every package client accepts: bare LF, folded field lines, and
Transfer-Encoding beside Content-Length (then Content-Length is dropped and the connection not used
again, RFC 9112 §6.3). A second Content-Length, a space in a field name and a NUL stay errors.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import cast

import httptools

from entrepot.errors import ProtocolMisuse, TruncatedBody, UpstreamProtocolError, UpstreamTimeout
from entrepot.httpcache.messages import Headers, ResponseHead

HIGH_WATER = 256 * 1024
"""Bytes of a body that wait for a slow reader before the socket is no longer read; one read more
may come."""
HEAD_LIMIT = 256 * 1024
"""Bytes before an answer's head is whole, interim answers included."""


class Exchange:
    """A request's answer while it comes; the ``Answer`` of ``ports/upstream.py``."""

    def __init__(self, connection: Connection, method: str, url: str, silence_s: float) -> None:
        self._connection = connection
        self._who = connection.authority
        self._is_head = method == "HEAD"
        self._url = url
        self._silence_s = silence_s
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_optional_lf_after_cr=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._reason = b""
        self._lines: list[tuple[str, str]] = []
        self._head: ResponseHead | None = None
        self._head_bytes = 0
        self._interim = False
        self._until_close = False
        self._expected: int | None = None
        self._ambiguous = False
        self._keeps_alive = False
        self._buffer: deque[bytes] = deque()
        self._buffered = 0
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._active_at = connection.loop.time()
        self._clients_turn = False
        self.received = 0
        """Bytes of body that came, transfer coding removed."""
        self.complete = False
        """The whole answer is here, though perhaps not yet read."""

    # --- what the application calls (ports/upstream.py, Answer)

    @property
    def head(self) -> ResponseHead:
        assert self._head is not None  # answers are given out after their head
        return self._head

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            if self._buffer:
                chunk = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
                self._buffer.clear()
                self._buffered = 0
                self._connection.read_on(self)
                yield chunk
            elif self._error is not None:
                raise self._error
            elif self.complete:
                return
            else:
                await self._wait()

    async def aclose(self) -> None:
        self._connection.leave(self)

    # --- what the connection calls

    async def wait_for_head(self) -> None:
        """Until the final head is here.

        Raises:
            UpstreamTimeout, UpstreamProtocolError: it did not come; or what sending the body
                raised.
        """
        while self._head is None:
            if self._error is not None:
                raise self._error
            await self._wait()

    def feed(self, data: bytes) -> None:
        self._active_at = self._connection.loop.time()
        if self._expected is None or self.complete:
            self._parse(data)
        else:
            # More of a body of known length: no parser, which would copy every byte
            missing = self._expected - self.received
            self._ambiguous |= len(data) > missing
            self.on_body(data if len(data) <= missing else data[:missing])
            self.complete = self.received == self._expected
        self._wake()

    def ended(self, exc: Exception | None) -> None:
        """The connection is gone: the end of the body, or of hope."""
        if self.complete or self._error is not None:
            return
        did = f"{self._who} {'reset' if exc else 'closed'} the connection"
        if self._head is None:
            when = "in the middle of the head" if self._head_bytes else "before it answered"
            self.fail(UpstreamProtocolError(f"{did} {when}", url=self._url))
        elif self._until_close and exc is None:
            self.complete = True  # RFC 9112 §6.3: the end of such a body is the connection's
        else:
            text = f"{did} in the middle of the body"
            self.fail(TruncatedBody(text, url=self._url, received=self.received))
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Nothing more will come; what did come is still read first."""
        if self._error is None and not self.complete:
            self._error = error
            self._connection.drop()
        self._wake()

    def sending(self, *, clients_turn: bool) -> None:
        """The request's body moved on: silence counts from now, not while our client is slow."""
        self._active_at = self._connection.loop.time()
        self._clients_turn = clients_turn

    @property
    def wants_pause(self) -> bool:
        """Whether enough of the body waits for the reader."""
        return self._buffered >= HIGH_WATER

    @property
    def allows_reuse(self) -> bool:
        """Whether upstream keeps the connection open after this answer."""
        return self.complete and not self._until_close and not self._ambiguous and self._keeps_alive

    # --- what httptools calls; nothing here may raise

    def on_message_begin(self) -> None:
        self._reason = b""
        self._lines = []
        # A message after the final one is junk: the connection cannot be trusted further
        self._ambiguous |= self.complete

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is None:  # trailers are dropped (RFC 9110 §6.5.1: they may be)
            self._lines.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._interim = 100 <= status < 200  # passed over (RFC 9110 §15.2)
        if self._interim or self.complete or self._head is not None:
            return
        if any(c in value for _, value in self._lines for c in "\r\n\0"):
            self._refuse("a field value with a line break or NUL in it")
            return
        headers = Headers(self._lines)
        coding = headers.get("Transfer-Encoding")
        bodiless = self._is_head or status in {204, 304}
        if coding is not None and coding.lower() != "chunked" and not bodiless:
            self._refuse(f"transfer coding {coding[:40]!r}, which entrepot does not know")
            return
        if coding is not None and "Content-Length" in headers:
            headers = headers.without("Content-Length")
            self._ambiguous = True
        length = headers.get("Content-Length")
        self._until_close = not bodiless and coding is None and length is None
        if not bodiless and coding is None and length is not None:
            self._expected = int(length)  # llhttp has checked that it is one number
        # Known only now: llhttp forgets it with the message
        self._keeps_alive = bool(self._parser.should_keep_alive())
        self._head = ResponseHead(status, headers, self._reason.decode("latin-1"))
        if self._is_head:  # llhttp does not know that no body follows
            self.complete = True

    def on_body(self, data: bytes) -> None:
        if self.complete or self._error is not None:
            self._ambiguous = True
            return
        self.received += len(data)
        self._buffered += len(data)
        self._buffer.append(data)

    def on_message_complete(self) -> None:
        if not self._interim and self._head is not None and self._error is None:
            self.complete = True

    # --- inside

    def _parse(self, data: bytes) -> None:
        if self._head is None:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            text = f"{self._who} switched protocols unasked (101)"
            self.fail(UpstreamProtocolError(text, url=self._url))
        except httptools.HttpParserError as exc:
            self._refuse(str(exc))
        if self._head is None and self._head_bytes > HEAD_LIMIT:
            self._refuse(f"no whole head in {HEAD_LIMIT} bytes")

    def _refuse(self, why: str) -> None:
        if self._head is None:
            text = f"{self._who} sent no HTTP that can be passed on: {why}"
            self.fail(UpstreamProtocolError(text, url=self._url))
        elif not self.complete:
            text = f"{self._who} sent a damaged body: {why}"
            self.fail(TruncatedBody(text, url=self._url, received=self.received))
        else:
            self._ambiguous = True

    async def _wait(self) -> None:
        """Until something changes.

        Raises:
            UpstreamTimeout: not a byte for the silence limit.
        """
        loop = self._connection.loop
        self._waiter = loop.create_future()
        self._active_at = max(self._active_at, self._connection.resumed_at)
        timer = loop.call_at(self._active_at + self._silence_s, self._silent)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _silent(self) -> None:
        now = self._connection.loop.time()
        if self._clients_turn:
            self._active_at = now
        if self._active_at + self._silence_s > now:
            self._wake()  # the waiter looks again and sets a new timer
            return
        what = f"sent nothing for {self._silence_s:g} s"
        where = "" if self._head is None else f" after {self.received} bytes of body"
        self.fail(UpstreamTimeout(f"{self._who} {what}{where}", url=self._url))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """A connection that serves one exchange after another.

    ``on_idle`` is called when it may serve the next request, ``on_lost`` once when it is gone.
    """

    def __init__(
        self,
        authority: str,
        *,
        on_idle: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.authority = authority
        self.resumed_at = 0.0
        """When reading went on after a pause; the loop's clock."""
        self.timer: asyncio.TimerHandle | None = None
        """The pool's: when it is closed for idleness."""
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._sender: asyncio.Task[None] | None = None
        self._paused = False
        self._drained: asyncio.Future[None] | None = None
        self._lost = False

    # --- what the client calls

    @property
    def usable(self) -> bool:
        """Whether a request may be sent on it now."""
        return (
            not self._lost
            and self._exchange is None
            and self._transport is not None
            and not self._transport.is_closing()
        )

    async def send(
        self, exchange: Exchange, head: bytes, body: AsyncIterator[bytes] | None, length: int | None
    ) -> None:
        """Send a request and wait for its answer's head.

        ``length`` ``None`` sends the body chunked.

        Raises:
            UpstreamTimeout, UpstreamProtocolError: no head came.
        """
        if not self.usable or self._transport is None:  # gone between the handshake and now
            exchange.ended(None)
            await exchange.wait_for_head()
            return
        self._exchange = exchange
        try:
            self._transport.write(head)
            if body is not None:
                self._sender = asyncio.create_task(self._send_body(exchange, body, length))
            await exchange.wait_for_head()
        except BaseException:
            self.drop()
            await self._stop_sending()
            raise

    def leave(self, exchange: Exchange) -> None:
        """The reader of this exchange goes; unless the answer is whole the connection goes too."""
        if self._exchange is exchange:
            self.drop()

    def read_on(self, exchange: Exchange) -> None:
        """There is room in the buffer again."""
        if self._paused and self._exchange is exchange:
            self._resume()

    def drop(self) -> None:
        """Close at once, whatever is under way."""
        if self._sender is not None and self._sender is not asyncio.current_task(self.loop):
            self._sender.cancel()
        if self._transport is not None:
            self._transport.abort()

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self.drop()  # an idle connection: these bytes belong to no request
            return
        exchange.feed(data)
        if exchange.complete:
            self._finish(exchange)
        elif exchange.wants_pause and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.ended(exc)
        if self._sender is not None:
            self._sender.cancel()
        self.resume_writing()
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._drained = self.loop.create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # --- inside

    def _finish(self, exchange: Exchange) -> None:
        """The answer is whole: on to the next request, or away."""
        self._exchange = None
        if self._sender is not None and not self._sender.done():
            # RFC 9112 §9.3: an answer before the end of the request; nobody knows whether the rest
            # is read
            self.drop()
            return
        self._sender = None
        if self._paused:
            self._resume()
        if exchange.allows_reuse and self.usable:
            self._on_idle(self)
        elif self._transport is not None:
            self._transport.close()

    def _resume(self) -> None:
        self._paused = False
        self.resumed_at = self.loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    async def _send_body(
        self, exchange: Exchange, body: AsyncIterator[bytes], length: int | None
    ) -> None:
        """Feed the request's content to the socket at the socket's pace."""
        assert self._transport is not None
        sent = 0
        try:
            exchange.sending(clients_turn=True)
            async for data in body:
                exchange.sending(clients_turn=False)
                sent += len(data)
                if length is not None and sent > length:
                    break
                if data:
                    chunk = data if length is not None else b"%x\r\n%b\r\n" % (len(data), data)
                    self._transport.write(chunk)
                if self._drained is not None:
                    await self._drained
                exchange.sending(clients_turn=True)
            if length is None:
                self._transport.write(b"0\r\n\r\n")
            elif sent != length:
                text = f"a request body of {sent} bytes where {length} were announced"
                exchange.fail(ProtocolMisuse(text))
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001  (it is for the one who waits for the answer)
            exchange.fail(exc)
        finally:
            exchange.sending(clients_turn=False)

    async def _stop_sending(self) -> None:
        if self._sender is not None and not self._sender.done():
            self._sender.cancel()
            await asyncio.wait([self._sender])
