"""The proxy's door: one client connection, from its first byte to what it turns out to be.

::

    START --CONNECT--> DECIDE --opened host--> PEEK --TLS--> HTTP inside TLS
      |                   |                     +--else--> TUNNEL
      |                   +--other host--> TUNNEL
      +--other method--> HTTP (absolute targets) --Upgrade--> TUNNEL

Whoever has not got this run's token is answered 407 and nothing else; the token is never passed on.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from entrepot.errors import EntrepotError, UpstreamError
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead
from entrepot.server.http import MAX_HEAD, TOO_LARGE, HttpSide, simple_response
from entrepot.server.proxy_server import House, Streams
from entrepot.server.tls import TlsWire, Wire
from entrepot.serving.response import Answer, Handler, Request

PEEK_S = 10.0
"""Seconds a client has to send its first byte into an opened tunnel; then it is relayed blindly,
for the server may speak first."""
RELAY = 1 << 16
"""Bytes relayed at a time."""
WRITE_HIGH = 1 << 18
"""Bytes queued to a client before its source is held back: with fifty slow clients it is this that
memory goes into."""

LINGER_S = 2.0
"""Seconds that a client may go on sending after it was answered for the last time, so that no reset
destroys the answer (RFC 9112 §9.6)."""


class Door(asyncio.Protocol):
    """One client connection."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._transport: asyncio.Transport
        self._wire: Wire
        """Where answers go: the transport, or TLS over it."""
        self._feed: Callable[[bytes], None] = self._start
        """Takes what the transport delivers."""
        self._feed_plain: Callable[[bytes], None] = self._start
        """Takes what TLS delivers, once there is TLS."""
        self._buffer = b""
        self._http: HttpSide | None = None
        self._drained: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._peek_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._upstream: asyncio.StreamWriter | None = None
        self._upstream_done = False
        self._client_done = False
        self._dialling = False
        self._target = ("", 0)

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = self._wire = transport  # type: ignore[assignment]
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)
        self._house.doors.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        try:
            self._feed(data)
        except Exception as exc:  # noqa: BLE001  (the edge: the loop would print a traceback on the user's terminal)
            self._house.doorman.failed(exc)
            self._reset()

    def eof_received(self) -> bool:
        """The client will send no more; ``True`` while it may still be answered."""
        self._client_done = True
        if self._upstream is not None:
            self._end_upstream()
            return not self._upstream_done
        if self._dialling:
            return True
        if self._inside_tls:
            return False  # without a goodbye in TLS: it is gone
        if self._http is not None:
            self._http.client_done()
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        """The connection is gone: stop all work for it."""
        self._house.doors.discard(self)
        self.resume_writing()
        for timer in (self._peek_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        if self._http is not None:
            self._http.lost()
        for task in self._tasks:
            task.cancel()
        if self._upstream is not None:
            self._upstream.close()

    def abort(self) -> list[asyncio.Task[None]]:
        """Drop the connection at once; what was being done for it, already told to stop."""
        tasks = [
            *self._tasks,
            *([self._http.task] if self._http is not None and self._http.task is not None else []),
        ]
        for task in tasks:
            task.cancel()
        if self._upstream is not None:
            self._upstream.transport.abort()
        self._transport.abort()
        return tasks

    def pause_writing(self) -> None:
        """The client takes no more for now."""
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """The client takes more again."""
        waiting, self._drained = self._drained, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    # the first request

    def _start(self, data: bytes) -> None:
        # one empty line before a request is to be skipped (RFC 9112 §2.2)
        self._buffer = (self._buffer + data).lstrip(b"\r\n")
        if not b"CONNECT ".startswith(self._buffer[:8]):
            self._http = self._speak_http(self._with_token, origin=None)
            self._feed = self._http.feed
            self._http.feed(self._take())
            return
        end = self._buffer.find(b"\r\n\r\n")
        if (len(self._buffer) if end < 0 else end) > MAX_HEAD:
            self._refuse(*TOO_LARGE)
            return
        if end < 0:
            return
        raw, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        self._connect(raw)

    def _connect(self, raw: bytes) -> None:
        first, *lines = raw.decode("latin-1").split("\r\n")
        headers = Headers(
            (name.strip(), value.strip())
            for name, _, value in (line.partition(":") for line in lines)
        )
        target = _authority(first)
        if target is None:
            self._refuse(400, "CONNECT takes HOST:PORT")
        elif not self._house.admits(headers):
            # The connection stays: git sends its credentials only after it was asked for them.
            self._transport.write(_DENIED_BYTES)
            if self._buffer:
                self._start(b"")
        else:
            self._target = target
            self._await_upstream()
            self._spawn(self._decide(*target))

    def _await_upstream(self) -> None:
        """Keep what comes while it is being decided what this is, or somebody is being dialled."""
        self._dialling = True
        if self._inside_tls:
            self._feed_plain = self._wait
        else:
            self._feed = self._wait

    def _wait(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > WRITE_HIGH:
            self._transport.pause_reading()

    async def _decide(self, host: str, port: int) -> None:
        if await self._house.doorman.opens(host, port):
            self._dialling = False
            self._feed = self._peek
            self._transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self._peek_timer = asyncio.get_running_loop().call_later(PEEK_S, self._tunnel_after_all)
            self._go_on()
            if self._buffer:
                self._peek(b"")
            elif self._client_done:
                self._transport.close()
            return
        try:
            streams = await self._house.doorman.dial(host, port, tls=False)
        except EntrepotError as exc:
            self._refuse_for(exc)
            return
        self._transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        self._relay(streams)

    def _peek(self, data: bytes) -> None:
        self._buffer += data
        if self._peek_timer is not None:
            self._peek_timer.cancel()
        if self._buffer[0] != 0x16:  # a TLS handshake record (RFC 8446 §5.1)
            self._tunnel_after_all()
            return
        host, port = self._target
        context = self._house.authority.context(host)
        self._wire = wire = TlsWire(
            self._transport, context, self._plain, self._tls_ended, self._misnamed
        )
        self._feed = wire.feed
        self._http = self._speak_http(
            self._house.handler, origin=f"https://{_host_port(host, port, default=443)}"
        )
        self._feed_plain = self._http.feed
        wire.feed(self._take())

    def _plain(self, data: bytes) -> None:
        self._feed_plain(data)

    def _tls_ended(self, reason: str | None) -> None:
        if reason is not None and "ALERT" in reason:
            self._house.doorman.distrusted(self._target[0], reason)
        if self._http is not None:
            self._http.lost()
        self._transport.close()

    def _misnamed(self, hello: bytes) -> None:
        """The client wants another name than it named to us.

        What it sends is for that other server alone.
        """
        self._wire, self._http, self._buffer = self._transport, None, hello
        self._tunnel_after_all()

    # HTTP

    def _speak_http(self, handler: Handler, *, origin: str | None) -> HttpSide:
        return HttpSide(
            self._wire,
            origin=origin,
            handler=handler,
            upgrade=self._upgrade,
            hold=self._hold,
            go_on=self._go_on,
            drain=lambda: self._drained,
            reset=self._reset,
            linger=self._linger,
            failed=self._house.doorman.failed,
        )

    @property
    def _inside_tls(self) -> bool:
        return self._wire is not self._transport

    async def _with_token(self, request: Request) -> Answer:
        if not self._house.admits(request.head.headers):
            return Answer(_DENIED)
        head = request.head
        request.head = RequestHead(
            head.method, head.url, head.headers.without("proxy-authorization", "proxy-connection")
        )
        return await self._house.handler(request)

    def _hold(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def _go_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _reset(self) -> None:
        """Drop the connection with a reset, so that not even a body framed by its end looks complete."""
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):  # already gone
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _linger(self) -> None:
        """Close in this direction, and read what the client is still sending until it notices."""
        if isinstance(self._wire, TlsWire):
            self._wire.finish()
        self._http = None
        self._feed = _drop
        if self._client_done:
            self._transport.close()
            return
        self._go_on()
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()
        self._linger_timer = asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)

    def _upgrade(self, head: RequestHead, rest: bytes) -> None:
        if not self._inside_tls and not self._house.admits(head.headers):
            self._transport.write(_DENIED_BYTES)
            self._linger()
            return
        self._buffer += rest
        self._await_upstream()
        self._go_on()
        self._spawn(self._upgrade_to(head))

    async def _upgrade_to(self, head: RequestHead) -> None:
        """Hand the request on as it came and relay what follows.

        WebSocket and its like (RFC 9110 §7.8).
        """
        tls, host, port, path = _split(head.url)
        try:
            streams = await self._house.doorman.dial(host, port, tls=tls)
        except EntrepotError as exc:
            self._refuse_for(exc)
            return
        lines = [f"{head.method} {path} HTTP/1.1"]
        lines += [
            f"{n}: {v}" for n, v in head.headers.without("proxy-authorization", "proxy-connection")
        ]
        self._target = (host, port)
        self._buffer = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + self._buffer
        self._relay(streams)

    # tunnels

    def _tunnel_after_all(self) -> None:
        self._await_upstream()
        self._spawn(self._dial_and_relay())

    async def _dial_and_relay(self) -> None:
        try:
            self._relay(await self._house.doorman.dial(*self._target, tls=False))
        except EntrepotError:
            self._reset()

    def _relay(self, streams: Streams) -> None:
        reader, self._upstream = streams
        self._dialling = False
        if self._transport.is_closing():
            self._upstream.close()
            return
        self._house.doorman.relayed(self._target[0], 0)
        if self._inside_tls:
            self._feed_plain = self._to_upstream
        else:
            self._feed = self._to_upstream
        self._http = None
        self._go_on()
        if self._buffer:
            self._to_upstream(self._take())
        if self._client_done:
            self._end_upstream()
        self._spawn(self._from_upstream(reader))

    def _to_upstream(self, data: bytes) -> None:
        assert self._upstream is not None
        if self._upstream.is_closing():
            self._reset()
            return
        self._house.doorman.relayed(self._target[0], len(data))
        self._upstream.write(data)
        if self._upstream.transport.get_write_buffer_size() > RELAY:
            self._hold()
            self._spawn(self._let_go_on(self._upstream))

    async def _let_go_on(self, upstream: asyncio.StreamWriter) -> None:
        try:
            await upstream.drain()
        except OSError:
            self._reset()
        else:
            self._go_on()

    async def _from_upstream(self, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(RELAY):
                self._house.doorman.relayed(self._target[0], len(data))
                self._wire.write(data)
                if self._drained is not None:
                    await self._drained
        except OSError:
            self._reset()
            return
        self._upstream_done = True
        if self._client_done or self._inside_tls:
            self._wire.close()
        elif not self._transport.is_closing():
            self._transport.write_eof()  # the client may still have something to say

    def _end_upstream(self) -> None:
        """Hand on that the client will send no more; what upstream still says is relayed."""
        assert self._upstream is not None
        if self._upstream.can_write_eof() and not self._upstream.is_closing():
            self._upstream.write_eof()

    # small things

    def _take(self) -> bytes:
        data, self._buffer = self._buffer, b""
        return data

    def _refuse_for(self, exc: EntrepotError) -> None:
        self._refuse(exc.status_hint if isinstance(exc, UpstreamError) else 502, exc.message)

    def _refuse(self, status: int, text: str) -> None:
        self._dialling = False
        self._wire.write(simple_response(status, text, Headers([("Connection", "close")])))
        self._linger()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as exc:  # noqa: BLE001  (the edge: nobody else would see it, and the client would wait for ever)
            self._house.doorman.failed(exc)
            self._reset()


def _drop(_data: bytes) -> None:
    """What a client sends after its last answer."""


_CHALLENGE = Headers([("Proxy-Authenticate", 'Basic realm="entrepot"')])
_DENIED = ResponseHead(407, _CHALLENGE)
_DENIED_BYTES = simple_response(407, "this port is for the command of one entrepot run", _CHALLENGE)


def _authority(first_line: str) -> tuple[str, int] | None:
    """Host and port of ``CONNECT host:port HTTP/1.x``.

    ``None`` when it is not that (RFC 9112 §3.2.3).
    """
    found = _CONNECT.fullmatch(first_line)
    if found is None:
        return None
    host, port = found["host"].lower(), int(found["port"])
    if ":" in host or host.startswith("["):
        host = host.removeprefix("[").removesuffix("]")
        try:
            IPv6Address(host)
        except ValueError:
            return None
    return (host, port) if 0 < port < 65536 else None


_CONNECT = re.compile(
    r"CONNECT (?P<host>[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Fa-f:.]{2,45}):(?P<port>[0-9]{1,5}) HTTP/1\.[0-9]"
)
"""An IPv6 address stands in brackets, except as Python's http.client sent it up to 3.11."""


def _host_port(host: str, port: int, *, default: int) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port == default else f"{name}:{port}"


def _split(url: str) -> tuple[bool, str, int, str]:
    """Whether TLS, host, port and path with query of an absolute URL."""
    parts = urlsplit(url)
    tls = parts.scheme.lower() == "https"
    path = parts.path or "/"
    return (
        tls,
        parts.hostname or "",
        parts.port or (443 if tls else 80),
        f"{path}?{parts.query}" if parts.query else path,
    )
