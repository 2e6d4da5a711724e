"""The proxy of a run: which hosts are opened, who may use it, and each connection of a client.

::

    START --CONNECT--> DECIDE --opened host--> PEEK --TLS--> HTTP inside TLS
      |                   |                     +--else--> TUNNEL
      |                   +--other host--> TUNNEL
      +--other method--> HTTP (absolute targets) --Upgrade--> TUNNEL

Requests without this run's token get 407, and the token is never passed on. The framing of HTTP/1.1
is in ``http.py``, TLS in ``tls.py``.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
import socket
import struct
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from urllib.parse import urlsplit

from entrepot.errors import EntrepotError, UpstreamError, UpstreamUnreachable
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead
from entrepot.run.plan import Plan
from entrepot.server.certificates import Authority
from entrepot.server.http import MAX_HEAD, TOO_LARGE, HttpSide, simple_response
from entrepot.server.tls import Output, TlsTransport
from entrepot.serving.known_files import KnownFiles
from entrepot.serving.response import Answer, Handler, Request
from entrepot.serving.run_stats import RunStats
from entrepot.urls import authority_of, is_loopback

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
PACKAGE_CLIENTS = tuple(
    "pip/ uv/ poetry/ pdm/ conda/ mamba/ libmamba/ micromamba/ rattler/ pixi/ twine/ pipx/".split()
)
"""How package clients begin their ``User-Agent``. It decides only whether plain http is looked at,
never whether TLS is opened."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[str, int, bool], Awaitable[Streams]]
"""Host, port and whether TLS is to be spoken -> raw streams, through the user's own proxy where
there is one.

Raises:
    UpstreamError: nobody answers there.
"""


class ConnectPolicy:
    """Which hosts' traffic is opened and cached, and what became of the rest.

    The set of opened hosts, which the client set-up found, grows by those that pages name. The
    others are reached by ``dial``; their tunnels are counted in ``stats``.
    """

    def __init__(
        self, plan: Plan, known_files: KnownFiles, dial: Dial, stats: RunStats, *, offline: bool
    ) -> None:
        self._opened = set(plan.opened)
        self._closed = plan.closed
        self._known_files = known_files
        self._dial = dial
        self._stats = stats
        self._offline = offline

    async def opens(self, host: str, port: int) -> bool:
        """Whether CONNECT to this host is answered by us.

        Offline every host is, because a refused tunnel is retried for seconds and tells nobody why.
        """
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if authority in self._closed:
            return False
        if self._knows(authority) or (self._offline and not is_loopback(host)):
            return True
        await self._known_files.settled()
        return self._knows(authority)

    def caches(self, request: RequestHead) -> bool:
        """Whether a request is for a package host.

        Plain http can be looked at, so there a package client is enough, by PEP 691 types in
        ``Accept`` or by its ``User-Agent``.
        """
        authority = authority_of(request.url)
        if not authority or authority in self._closed:
            return False
        accept = request.headers.get("accept") or ""
        agent = (request.headers.get("user-agent") or "").lower()
        is_client = "application/vnd.pypi.simple" in accept or agent.startswith(PACKAGE_CLIENTS)
        if self._knows(authority) or is_client:
            self._opened.add(authority)
            return True
        return self._offline and not is_loopback(authority.rpartition(":")[0].strip("[]"))

    def _knows(self, authority: str) -> bool:
        return authority in self._opened or authority in self._known_files.hosts

    async def dial(self, host: str, port: int, *, tls: bool) -> Streams:
        """Raw streams to the other side.

        Raises:
            UpstreamError: nobody answers there, or the run is offline.
        """
        if self._offline and not is_loopback(host):
            raise UpstreamUnreachable(f"entrepot is offline: {host} is not asked", url=host)
        return await self._dial(host, port, tls)

    def relayed(self, host: str, count: int) -> None:
        """So many bytes bypassed the cache; 0 when a tunnel begins."""
        if is_loopback(host):
            return  # nobody expects that of a cache
        if count:
            self._stats.uncached_bytes += count
        else:
            self._stats.uncached_hosts[host] += 1

    def distrusted(self, host: str, reason: str) -> None:
        """A client broke off the TLS handshake; ``reason`` is OpenSSL's name of its alert."""
        alert = reason.lower().partition("alert_")[2].replace("_", " ")
        self._stats.warn(
            f"TLS: a client rejected entrepot's certificate for {host} ({alert}); "
            "it uses its own CA bundle"
        )

    def failed(self, exc: Exception) -> None:
        """An internal error met a request, and the client was answered 500 or reset."""
        place = ""
        if frames := traceback.extract_tb(exc.__traceback__):
            place = f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}"
        self._stats.warn(f"internal error while handling a request: {type(exc).__name__}{place}")


@dataclass(frozen=True, slots=True)
class ProxyServer:
    """What all connections of one run share."""

    user: str
    token: str
    authority: Authority
    handler: Handler
    policy: ConnectPolicy
    connections: set[ProxyConnection] = field(default_factory=set)
    """Those that are open now."""

    def admits(self, headers: Headers) -> bool:
        """Whether ``Proxy-Authorization`` carries this run's user and token.

        Source: RFC 9110 §11.7.2, RFC 7617.
        """
        scheme, _, value = (headers.get("proxy-authorization") or "").partition(" ")
        expected = base64.b64encode(f"{self.user}:{self.token}".encode())
        # as bytes: compare_digest raises for text that is not ASCII
        return scheme.lower() == "basic" and hmac.compare_digest(
            value.strip().encode("latin-1"), expected
        )

    async def close(self) -> None:
        """Drop every connection and wait until nothing is being done for any of them."""
        tasks = [task for connection in list(self.connections) for task in connection.abort()]
        if tasks:
            await asyncio.wait(tasks)


class ProxyConnection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, server: ProxyServer) -> None:
        self._server = server
        self._transport: asyncio.Transport
        self.output: Output
        """Where answers go: the transport, or TLS over it."""
        self._feed: Callable[[bytes], None] = self._start
        """Takes what the transport delivers."""
        self._feed_plain: Callable[[bytes], None] = self._start
        """Takes what TLS delivers, once there is TLS."""
        self._buffer = b""
        self._http: HttpSide | None = None
        self.drained: asyncio.Future[None] | None = None
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
        self._transport = self.output = transport  # type: ignore[assignment]
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._feed(data)
        except Exception as exc:  # noqa: BLE001  (the loop would print a traceback on the terminal)
            self._server.policy.failed(exc)
            self.reset()

    def eof_received(self) -> bool:
        # The client will send no more; True while it may still be answered
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
        self._server.connections.discard(self)
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
        tasks = list(self._tasks)
        if self._http is not None and self._http.task is not None:
            tasks.append(self._http.task)
        for task in tasks:
            task.cancel()
        if self._upstream is not None:
            self._upstream.transport.abort()
        self._transport.abort()
        return tasks

    def pause_writing(self) -> None:
        if self.drained is None:
            self.drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        waiting, self.drained = self.drained, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    # the first request

    def _start(self, data: bytes) -> None:
        # one empty line before a request is to be skipped (RFC 9112 §2.2)
        self._buffer = (self._buffer + data).lstrip(b"\r\n")
        if not b"CONNECT ".startswith(self._buffer[:8]):
            self._http = HttpSide(self, origin=None, handler=self._with_token)
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
        target = connect_target(first)
        if target is None:
            self._refuse(400, "CONNECT takes HOST:PORT")
        elif not self._server.admits(headers):
            # The connection stays: git sends its credentials only after it was asked for them.
            self._transport.write(_DENIED_BYTES)
            if self._buffer:
                self._start(b"")
        else:
            self._target = target
            self._await_upstream(self._decide())

    def _feed_to(self, taker: Callable[[bytes], None]) -> None:
        if self._inside_tls:
            self._feed_plain = taker
        else:
            self._feed = taker

    def _await_upstream(self, work: Coroutine[None, None, None]) -> None:
        """Keep what comes while it is being decided what this is, or somebody is being dialled."""
        self._dialling = True
        self._feed_to(self._keep)
        self._spawn(work)

    def _keep(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > WRITE_HIGH:
            self._transport.pause_reading()

    async def _decide(self) -> None:
        if not await self._server.policy.opens(*self._target):
            await self._dial_and_relay(answer=_CONNECTED)
            return
        self._dialling = False
        self._feed = self._peek
        self._transport.write(_CONNECTED)
        self._peek_timer = asyncio.get_running_loop().call_later(PEEK_S, self._tunnel_after_all)
        self.go_on()
        if self._buffer:
            self._peek(b"")
        elif self._client_done:
            self._transport.close()

    def _peek(self, data: bytes) -> None:
        self._buffer += data
        if self._peek_timer is not None:
            self._peek_timer.cancel()
        if self._buffer[0] != 0x16:  # a TLS handshake record (RFC 8446 §5.1)
            self._tunnel_after_all()
            return
        host, port = self._target
        self.output = tls = TlsTransport(
            self._transport,
            self._server.authority.context(host),
            lambda plain: self._feed_plain(plain),  # noqa: PLW0108  (which one changes)
            self._tls_ended,
            self._misnamed,
        )
        self._feed = tls.feed
        name = f"[{host}]" if ":" in host else host
        origin = f"https://{name}" if port == 443 else f"https://{name}:{port}"
        self._http = HttpSide(self, origin=origin, handler=self._server.handler)
        self._feed_plain = self._http.feed
        tls.feed(self._take())

    def _tls_ended(self, reason: str | None) -> None:
        if reason is not None and "ALERT" in reason:
            self._server.policy.distrusted(self._target[0], reason)
        if self._http is not None:
            self._http.lost()
        self._transport.close()

    def _misnamed(self, hello: bytes) -> None:
        """The client wants another name than it named to us.

        What it sends is for that other server alone.
        """
        self.output, self._http, self._buffer = self._transport, None, hello
        self._tunnel_after_all()

    # HTTP

    @property
    def _inside_tls(self) -> bool:
        return self.output is not self._transport

    async def _with_token(self, request: Request) -> Answer:
        if not self._server.admits(request.head.headers):
            return Answer(_DENIED)
        head = request.head
        request.head = RequestHead(head.method, head.url, head.headers.without(*_OURS))
        return await self._server.handler(request)

    def failed(self, exc: Exception) -> None:
        self._server.policy.failed(exc)

    def hold(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def go_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def reset(self) -> None:
        """Drop the connection so that not even a body framed by its end looks complete."""
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):  # already gone
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def linger(self) -> None:
        """Close in this direction, and read what the client is still sending until it notices."""
        if isinstance(self.output, TlsTransport):
            self.output.finish()
        self._http = None
        self._feed = lambda _data: None
        if self._client_done:
            self._transport.close()
            return
        self.go_on()
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()
        self._linger_timer = asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)

    def upgrade(self, head: RequestHead, rest: bytes) -> None:
        if not self._inside_tls and not self._server.admits(head.headers):
            self._transport.write(_DENIED_BYTES)
            self.linger()
            return
        # WebSocket and its like (RFC 9110 §7.8): the request goes on as it came, and what follows
        parts = urlsplit(head.url)
        tls = parts.scheme.lower() == "https"
        self._target = parts.hostname or "", parts.port or (443 if tls else 80)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{head.method} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in head.headers.without(*_OURS)]
        self._buffer = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + self._buffer + rest
        self._await_upstream(self._dial_and_relay(tls=tls))
        self.go_on()

    # tunnels

    def _tunnel_after_all(self) -> None:
        self._await_upstream(self._dial_and_relay(late=True))

    async def _dial_and_relay(
        self, *, tls: bool = False, answer: bytes = b"", late: bool = False
    ) -> None:
        """Reach the target and relay.

        ``answer`` is what the client is told first; ``late``, whether CONNECT was answered already,
        so that a failure can only be a reset.
        """
        try:
            reader, self._upstream = await self._server.policy.dial(*self._target, tls=tls)
        except EntrepotError as exc:
            if late:
                self.reset()
            else:
                status = exc.status_hint if isinstance(exc, UpstreamError) else 502
                self._refuse(status, exc.message)
            return
        self._dialling = False
        if self._transport.is_closing():
            self._upstream.close()
            return
        self._transport.write(answer)
        self._server.policy.relayed(self._target[0], 0)
        self._feed_to(self._to_upstream)
        self._http = None
        self.go_on()
        if self._buffer:
            self._to_upstream(self._take())
        if self._client_done:
            self._end_upstream()
        self._spawn(self._from_upstream(reader))

    def _to_upstream(self, data: bytes) -> None:
        assert self._upstream is not None
        if self._upstream.is_closing():
            self.reset()
            return
        self._server.policy.relayed(self._target[0], len(data))
        self._upstream.write(data)
        if self._upstream.transport.get_write_buffer_size() > RELAY:
            self.hold()
            self._spawn(self._drain(self._upstream))

    async def _drain(self, upstream: asyncio.StreamWriter) -> None:
        try:
            await upstream.drain()
        except OSError:
            self.reset()
        else:
            self.go_on()

    async def _from_upstream(self, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(RELAY):
                self._server.policy.relayed(self._target[0], len(data))
                self.output.write(data)
                if self.drained is not None:
                    await self.drained
        except OSError:
            self.reset()
            return
        self._upstream_done = True
        if self._client_done or self._inside_tls:
            self.output.close()
        elif not self._transport.is_closing():
            self._transport.write_eof()  # the client may still have something to say

    def _end_upstream(self) -> None:
        # The client will send no more; what upstream still says is relayed
        assert self._upstream is not None
        if self._upstream.can_write_eof() and not self._upstream.is_closing():
            self._upstream.write_eof()

    def _take(self) -> bytes:
        data, self._buffer = self._buffer, b""
        return data

    def _refuse(self, status: int, text: str) -> None:
        self._dialling = False
        self.output.write(simple_response(status, text, Headers([("Connection", "close")])))
        self.linger()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as exc:  # noqa: BLE001  (nobody else would see it, and the client would wait)
                self._server.policy.failed(exc)
                self.reset()

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_OURS = ("proxy-authorization", "proxy-connection")
"""Fields of a request that are meant for us."""
_CONNECTED = b"HTTP/1.1 200 OK\r\n\r\n"
_CHALLENGE = Headers([("Proxy-Authenticate", 'Basic realm="entrepot"')])
_DENIED = ResponseHead(407, _CHALLENGE)
_DENIED_BYTES = simple_response(407, "this port is for the command of one entrepot run", _CHALLENGE)
_CONNECT = re.compile(
    r"CONNECT (?P<host>[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Fa-f:.]{2,45})"
    r":(?P<port>[0-9]{1,5}) HTTP/1\.[0-9]"
)
"""An IPv6 address stands in brackets, except as Python's http.client sent it up to 3.11."""


def connect_target(first_line: str) -> tuple[str, int] | None:
    """Host and port of ``CONNECT host:port HTTP/1.x``; ``None``: it is not that.

    Source: RFC 9112 §3.2.3.
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
