"""An origin that says exactly the bytes a test gives it, and a small proxy.

Raw sockets on loopback, no HTTP library.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Line:
    """One accepted connection, as a script sees it."""

    origin: RawServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> bytes:
        """Read one request head and note it."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.origin.heads.append(head)
        return head

    async def body(self, count: int) -> bytes:
        """Read some bytes of a request's body and note them."""
        data = await self.reader.readexactly(count)
        self.origin.bodies.append(data)
        return data

    async def say(self, data: bytes) -> None:
        """Write bytes and wait until they are gone."""
        self.writer.write(data)
        await self.writer.drain()

    async def reset(self) -> None:
        """Break the connection with RST, after what was said had time to arrive."""
        await asyncio.sleep(0.05)
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Line], Awaitable[None]]


@dataclass
class RawServer:
    """Runs one script for each connection; leave it to stop it.

    With ``tls`` it speaks TLS first.
    """

    script: Script
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    port: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task] = field(default_factory=set)

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, self.host, 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc):
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(0.01)

    def url(self, tail: str = "/", host: str | None = None) -> str:
        return f"{'https' if self.tls else 'http'}://{host or self.host}:{self.port}{tail}"

    def targets(self) -> list[str]:
        """The request targets that came, as they were spelled."""
        return [head.split(b" ", 2)[1].decode("latin-1") for head in self.heads]

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # not a coroutine: asyncio would complain of tasks that a test's end cancels
        self.connections += 1
        self._open.add(writer)
        task = asyncio.ensure_future(self._run(Line(self, reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, line: Line) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self.script(line)
        self._open.discard(line.writer)
        line.writer.close()


def says(*parts: bytes, then: str = "close", pause_s: float = 0.0) -> Script:
    """A script: read a head, say the parts, then ``close``, ``reset``, ``stall`` or ``again`` (the same to the next head)."""

    async def script(line: Line) -> None:
        while True:
            await line.head()
            for part in parts:
                await line.say(part)
                if pause_s:
                    await asyncio.sleep(pause_s)
            if then != "again":
                break
        if then == "reset":
            await line.reset()
        elif then == "stall":
            await asyncio.sleep(60)

    return script


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        if writer.can_write_eof():
            writer.write_eof()


def proxies_to(targets: dict[str, int], *, credentials: bytes = b"") -> Script:
    """A script that makes a proxy: CONNECT and absolute-form, to loopback ports by ``HOST:PORT``.

    407 without credentials.
    """

    async def script(line: Line) -> None:
        head = await line.head()
        method, target, _ = head.split(b" ", 2)
        if credentials and b"Proxy-Authorization: " + credentials not in head:
            await line.say(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
            )
            return
        authority = target if method == b"CONNECT" else target.split(b"/")[2]
        port = targets.get(authority.decode())
        if port is None:
            await line.say(b"HTTP/1.1 403 Forbidden by rule\r\nContent-Length: 0\r\n\r\n")
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            if method == b"CONNECT":
                await line.say(b"HTTP/1.1 200 OK\r\nVia: test\r\n\r\n")
            else:
                writer.write(head)
            await asyncio.gather(pump(line.reader, writer), pump(reader, line.writer))
        finally:
            writer.close()

    return script
