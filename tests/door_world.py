"""A served door on loopback with a scripted handler: what the tests of ``server`` start from."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import ssl
from dataclasses import dataclass, field

from entrepot.errors import UpstreamUnreachable
from entrepot.httpcache.messages import Headers, ResponseHead
from entrepot.server.authority import Authority
from entrepot.server.proxy import Door
from entrepot.server.proxy_server import House
from entrepot.serving.response import Answer, BytesBody, Request, StreamBody

USER, TOKEN = "entrepot", "t0ken"
BASIC = b"Basic " + base64.b64encode(f"{USER}:{TOKEN}".encode())
AUTH = b"Proxy-Authorization: " + BASIC + b"\r\n"


def answer(data: bytes = b"hello", status: int = 200, reason: str = "", **fields: str) -> Answer:
    headers = Headers([(name.replace("_", "-"), value) for name, value in fields.items()])
    return Answer(ResponseHead(status, headers, reason), BytesBody(data))


def streamed(pieces, length: int | None = None, closed: list | None = None) -> Answer:
    async def close():
        if closed is not None:
            closed.append(True)

    return Answer(ResponseHead(200, Headers()), StreamBody(pieces, length, close))


@dataclass
class ScriptedDoorman:
    """Opens what it is told to open, and dials loopback ports by name."""

    opened: set[str] = field(default_factory=set)
    ports: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    tunnels: list[str] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    dialled: list[tuple[str, int, bool]] = field(default_factory=list)
    trusted: ssl.SSLContext | None = None
    breaks: Exception | None = None
    pause_s: float = 0.0

    async def opens(self, host, port):
        await asyncio.sleep(self.pause_s)
        if self.breaks is not None:
            raise self.breaks
        return host in self.opened

    async def dial(self, host, port, *, tls):
        self.dialled.append((host, port, tls))
        await asyncio.sleep(self.pause_s)
        if host not in self.ports:
            raise UpstreamUnreachable(f"{host} is not there", url=host)
        return await asyncio.open_connection(
            "127.0.0.1",
            self.ports[host],
            ssl=self.trusted if tls else None,
            server_hostname=host if tls else None,
        )

    def relayed(self, host, count):
        if count == 0:
            self.tunnels.append(host)
        self.bytes[host] = self.bytes.get(host, 0) + count

    def distrusted(self, host, reason):
        self.refusals.append((host, reason))

    def failed(self, exc):
        self.failures.append(exc)


AUTHORITY = Authority()


class DoorWorld:
    """A door that listens.

    ``requests`` holds what reached the handler (its content read, unless the handler is set).
    """

    def __init__(self, handler=None, **doorman):
        self.requests: list[Request] = []
        self.contents: list[bytes] = []
        self.doorman = ScriptedDoorman(**doorman)
        self._handler = handler or self._echo
        self.house = House(USER, TOKEN, AUTHORITY, self._handle, self.doorman)
        self.trouble: list[dict] = []

    async def _handle(self, request):
        self.requests.append(request)
        return await self._handler(request)

    async def _echo(self, request):
        content = b"" if request.body is None else b"".join([piece async for piece in request.body])
        self.contents.append(content)
        return answer(f"{request.head.method} {request.head.url} {len(content)}".encode())

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: self.trouble.append(context))
        self.server = await loop.create_server(lambda: Door(self.house), "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc):
        self.server.close()
        await self.house.close()
        await asyncio.sleep(0.02)
        gc.collect()
        if exc[0] is None:
            assert not self.house.doors
            assert self.trouble == [], (
                "nothing may reach the loop's exception handler: it prints tracebacks"
            )

    async def connect(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        return Client(reader, writer)

    async def tunnel(
        self, host: str = "index.test", port: int = 443, tls: bool = True, name: str | None = None
    ):
        """A client behind CONNECT, in TLS that trusts this run."""
        client = await self.connect()
        client.send(b"CONNECT %s:%d HTTP/1.1\r\n%s\r\n" % (host.encode(), port, AUTH))
        assert await client.head() == b"HTTP/1.1 200 OK\r\n\r\n"
        if tls:
            await client.start_tls(name or host)
        return client


def trusting(authority: Authority = AUTHORITY) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.pem)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def start_tls(self, name: str, context: ssl.SSLContext | None = None) -> None:
        await self.writer.start_tls(context or trusting(), server_hostname=name)

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)

    async def exactly(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), 10)

    async def rest(self) -> bytes:
        """Everything until the end; a reset raises ``ConnectionResetError``."""
        return await asyncio.wait_for(self.reader.read(-1), 10)

    async def response(self) -> tuple[int, bytes]:
        """Status and content of an answer with ``Content-Length``."""
        head = await self.head()
        length = next(
            int(line[16:])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length: ")
        )
        return int(head.split()[1]), await self.exactly(length)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def run(work):
    """Run on the loop that the product runs on."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def until(claim, seconds: float = 5.0) -> None:
    """Wait until it is true."""
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.005)
