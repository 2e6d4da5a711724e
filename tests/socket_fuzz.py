"""Generated inputs at the proxy's socket.

What is sent, the world it is sent into, and what must hold afterwards.

Everything behind the proxy is real (service, store, catalogue, upstream client, authority), in this
process, so that nothing that goes wrong stays hidden. Names are looked up here and lead to one
origin that counts who comes; there is no other network. `bench/fuzz.py` runs it a million times,
`tests/functional/test_fuzz.py` some thousand.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import os
import random
import re
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import uvloop

from entrepot.ports.clock import SystemClock
from entrepot.run.plan import Plan
from entrepot.server.certificates import Authority
from entrepot.server.proxy import ConnectPolicy, ProxyConnection, ProxyServer, Streams
from entrepot.serving.known_files import KnownFiles
from entrepot.serving.lookup import Entries
from entrepot.serving.policy import Rules
from entrepot.serving.run_stats import RunStats
from entrepot.serving.service import Service
from entrepot.store.catalogue import open_catalogue
from entrepot.store.directory import DirectoryStore
from entrepot.upstream.client import HttpUpstream, UpstreamSettings, open_tunnel

USER, TOKEN = "entrepot", "t0ken-of-this-run"
AUTH = b"Proxy-Authorization: Basic " + base64.b64encode(f"{USER}:{TOKEN}".encode()) + b"\r\n"
OPENED = ("index.test:80", "index.test:443", "files.test:80", "files.test:8080")
PASSED = ("plain.test:80", "plain.test:443")
NEVER = "never.test"
"""Named in fields, in contents and by who has no token: never looked up, never connected to."""
PATIENCE_S = 120.0
"""How long one connection may take; longer is a hang, and a failure."""

QUIET_S = 1.0
"""How long a client inside TLS waits for the next byte before it leaves."""

METHODS = [b"GET"] * 6 + b"HEAD POST PUT DELETE OPTIONS TRACE PATCH get G\xe9T PRI CONNECT".split()
WRONG = [
    b"",
    b"Proxy-Authorization: Basic " + base64.b64encode(b"entrepot:wrong") + b"\r\n",
    b"Proxy-Authorization: Basic\r\n",
    b"Proxy-Authorization: Bearer x\r\n",
    b"Proxy-Authorization: Basic \xff\xfe\r\n",
    b"Authorization: Basic " + base64.b64encode(f"{USER}:{TOKEN}".encode()) + b"\r\n",
    b"Proxy-Authorization:\r\nProxy-Authorization: Basic !!!!\r\n",
]
PATHS = [
    b"/",
    b"/simple/demo/",
    b"/simple/",
    b"/keep/demo-1.0-py3-none-any.whl",
    b"/keep/../../../etc/passwd",
    b"/keep/%2e%2e/%2e%2e/x",
    b"/keep/a%00b",
    b"/keep/..%5c..%5cx",
    b"/keep/" + b"a/" * 300,
    b"/keep/" + b"n" * 3000 + b".whl",
    b"/t/tk-secret/keep/x.conda",
    b"/keep/\xc3\xa9.whl",
    b"/keep/x?a=b&token=s#f",
    b"//never.test/x",
    b"/\\never.test/x",
    b"*",
    b"",
]
FIELDS = [
    b"Host: never.test",
    b"Host:",
    b"Host: a\r\nHost: b",
    b"Connection: close",
    b"Connection: keep-alive, X-Thing",
    b"Connection: Upgrade\r\nUpgrade: websocket",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
    b"Accept: application/vnd.pypi.simple.v1+json",
    b"Accept-Encoding: gzip, \xff",
    b"User-Agent: pip/26.3",
    b"Range: bytes=0-",
    b"Range: bytes=-5,0-0,9999999999999999999999-",
    b'If-Range: "x',
    b'If-None-Match: *, W/"a',
    b"If-Modified-Since: Thu, 99 Foo 0000 99:99:99 GMT",
    b"Cache-Control: no-store, max-age=-1, max-stale=99999999999999999999, only-if-cached",
    b'Cache-Control: max-age="',
    b"Expect: 100-continue",
    b"Expect: 200-ok",
    b"Referer: http://never.test/",
    b"X-Forwarded-Host: never.test",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 99999999999999999999",
    b"Cookie: a=b",
    b"Authorization: Basic eDp5",
    b"X: " + b"y" * 9000,
    b"X-\0: z",
    b" folded: x",
    b"\tfolded",
    b"no colon",
    b": no name",
]
GOOD_PATHS = [path for path in PATHS if path[:1] == b"/" and path.isascii()]
HARMLESS = [
    field
    for field in FIELDS[7:26]
    if b"Expect" not in field and b"Transfer" not in field and b"Length" not in field
]
CONTENTS = [b"hello", b"\0" * 100, b"GET http://never.test/smuggled HTTP/1.1\r\n\r\n"]
SNIPPETS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\r\n\r\n",
    b" ",
    b":",
    b"/",
    b"..",
    b"%",
    b"\xff",
    b"0\r\n\r\n",
    b"HTTP/1.1",
    b"@",
    b"[",
    b"]",
]
_TOKENS = re.compile(rb"[A-Za-z0-9]+|\r\n|[^A-Za-z0-9]")


class Inputs:
    """Makes inputs: requests in every form that a proxy is sent, whole or damaged.

    Args:
        chance: where all of them come from.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self._hello = client_hello("index.test")
        self._of_hello = random.Random(chance.random())
        """For its damage alone: a client's first bytes are new in each process, and equal seeds
        must make equal inputs."""

    def chain(self, *, right: bool) -> bytes:
        """What one connection is sent, with this run's token or with a wrong one (then it asks for :data:`NEVER` as well).

        Odd requests one behind the other, or a single damaged input, behind which nothing would be
        looked at.
        """
        if self.chance.random() < 0.5:
            return self._one(right=right)
        several = range(self.chance.choice((1, 10, 40, 80)))
        return b"".join(self._whole(AUTH if right else self._wrong(), right=right) for _ in several)

    def _whole(self, auth: bytes, *, right: bool) -> bytes:
        """A request that leaves its connection open: odd, but none that ends it."""
        chance = self.chance
        authority = chance.choice((*OPENED, *PASSED)) if right else f"{NEVER}:80"
        fields = b"".join(
            field + b"\r\n" for field in chance.choices(HARMLESS, k=chance.choice((0, 1, 3)))
        )
        content = chance.choice(CONTENTS) if chance.random() < 0.1 else b""
        fields += b"Content-Length: %d\r\n" % len(content) if content else b""
        target = b"http://" + authority.encode() + chance.choice(GOOD_PATHS)
        return (
            chance.choice(METHODS[:13])
            + b" "
            + target
            + b" HTTP/1.1\r\n"
            + auth
            + fields
            + b"\r\n"
            + content
        )

    def _wrong(self) -> bytes:
        return self.chance.choice(WRONG)

    def _one(self, *, right: bool) -> bytes:
        auth, kind = AUTH if right else self._wrong(), self.chance.random()
        if kind < 0.4:
            made = self._connect(auth, right=right)
        elif kind < 0.9:
            made = self._request(auth, right=right)
        else:
            made = self._rubbish()
        return self._maybe_damaged(made)

    def inner(self) -> bytes:
        """What one connection is sent inside TLS, where targets are paths and there is no token."""
        if self.chance.random() < 0.5:
            return self._maybe_damaged(self._inner())
        several = range(self.chance.choice((1, 4, 20)))
        return b"".join(
            b"GET " + self.chance.choice(GOOD_PATHS) + b" HTTP/1.1\r\nHost: never.test\r\n\r\n"
            for _ in several
        )

    def _inner(self) -> bytes:
        chance = self.chance
        made = (
            chance.choice(METHODS)
            + b" "
            + chance.choice((*PATHS, b"https://index.test/x", b"https://never.test/x"))
        )
        fields = self._fields()
        return (
            made
            + b" HTTP/1.1\r\n"
            + fields
            + b"\r\n"
            + (self._chunks() if b"chunked" in fields else b"")
        )

    def _maybe_damaged(self, made: bytes) -> bytes:
        for _ in range(self.chance.choice((0, 0, 1, 1, 2, 5))):
            made = self._damaged(made)
        return made

    def _authority(self, *, right: bool) -> bytes:
        chance = self.chance
        if not right and chance.random() < 0.5:
            return f"{NEVER}:{chance.choice((80, 443))}".encode()
        named = chance.choice((*OPENED, *PASSED)).encode()
        return named if chance.random() < 0.8 else chance.choice(
            [named + b"0", named.upper(), b"u:p@" + named, b"[::1]:" + named[-2:], b"." + named, named.replace(b".", b"..", 1),
             b"index.test:99999", b"index.test:-1", b"index.test:", b"xn--a.test:80", b"\xe2\x84\xaa.test:80", b"a" * 300 + b":443"]
        )  # fmt: skip

    def _fields(self) -> bytes:
        chosen = self.chance.choices(FIELDS, k=self.chance.choice((0, 1, 2, 3, 8)))
        return b"".join(field + b"\r\n" for field in chosen)

    def _connect(self, auth: bytes, *, right: bool) -> bytes:
        target = self._authority(right=right)
        head = (
            b"CONNECT "
            + target
            + b" HTTP/1.1\r\nHost: "
            + target
            + b"\r\n"
            + auth
            + self._fields()
            + b"\r\n"
        )
        after = self.chance.random()
        if after < 0.3:
            return head + self._damaged(self._hello, self._of_hello)
        if after < 0.4:
            return head + self._hello
        return head + (b"" if after < 0.7 else b"GET /inner HTTP/1.1\r\nHost: never.test\r\n\r\n")

    def _request(self, auth: bytes, *, right: bool) -> bytes:
        chance = self.chance
        path = chance.choice(PATHS)
        scheme = chance.choice(
            (
                b"http://",
                b"http://",
                b"http://",
                b"http://",
                b"https://",
                b"HTTP://",
                b"ftp://",
                b"",
            )
        )
        target = scheme + self._authority(right=right) + path if chance.random() < 0.85 else path
        head = (
            chance.choice(METHODS)
            + b" "
            + target
            + chance.choice((b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2", b""))
        )
        fields = self._fields()
        content = b""
        if b"chunked" in fields:
            content = self._chunks()
        elif b"Content-Length: 5" in fields:
            content = b"hello"
        elif chance.random() < 0.05:
            content = CONTENTS[-1]
            fields += b"Content-Length: %d\r\n" % len(content)
        return head + b"\r\n" + auth + fields + b"\r\n" + content

    def _chunks(self) -> bytes:
        chance = self.chance
        sizes = chance.choices(
            (b"5", b"05", b'5;ext="x', b"5 ", b"-5", b"0x5", b"FFFFFFFFFFFFFFFFF", b"", b"0"),
            (9, 1, 1, 1, 1, 1, 1, 1, 1),
            k=3,
        )
        return b"".join(size + b"\r\nhello\r\n" for size in sizes) + chance.choice(
            (b"0\r\n\r\n", b"0\r\nTrailer: x\r\n\r\n", b"0\r\n", b"")
        )

    def _rubbish(self) -> bytes:
        chance = self.chance
        how = chance.random()
        if how < 0.4:
            return chance.randbytes(chance.choice((1, 3, 50, 2000)))
        if how < 0.6:
            return self._damaged(self._hello, self._of_hello)
        if how < 0.7:
            return b"GET http://index.test/ HTTP/1.1\r\n" + b"X: y\r\n" * chance.choice(
                (100, 3000, 20000)
            )
        return b"".join(chance.choices(SNIPPETS, k=chance.choice((1, 10, 200))))

    def _damaged(self, made: bytes, chance: random.Random | None = None) -> bytes:
        """One mutation: of a bit, a byte, a token, or where it ends."""
        chance = chance or self.chance
        at = chance.randrange(len(made) + 1)
        how = chance.randrange(7)
        if how == 0 and made:
            at %= len(made)
            return made[:at] + bytes([made[at] ^ 1 << chance.randrange(8)]) + made[at + 1 :]
        if how == 1:
            return made[:at] + chance.choice(SNIPPETS) + made[at:]
        if how == 2:
            return made[:at]
        if how == 3:
            return made[:at] + made[at + chance.choice((1, 2, 10)) :]
        if how == 4:
            return made[:at] + chance.randbytes(chance.choice((1, 4))) + made[at:]
        words = _TOKENS.findall(made[:4000]) or [b""]
        word = chance.randrange(len(words))
        if how == 5:
            words[word] *= chance.choice((2, 50))
        else:
            words[word] = words[chance.randrange(len(words))]
        return b"".join(words) + made[4000:]


def client_hello(name: str) -> bytes:
    """The first bytes of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


class Loop(uvloop.Loop):
    """Looks names up in a table of its own: nothing here may ask the network."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_up: Counter[str] = Counter()
        self.ports: dict[str, int] = {}
        self.ours: set[int] = set()

    async def getaddrinfo(self, host, port, **_more):
        """The origin's port for a name of ours; loopback itself only where the origin listens."""
        name = host.decode() if isinstance(host, bytes) else host
        if name == "127.0.0.1" and port in self.ours:
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (name, port))]
        self.looked_up[f"{name}:{port}"] += 1
        if (found := self.ports.get(f"{name}:{port}")) is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name here")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", found))]


class Origin(asyncio.Protocol):
    """Answers every head it is sent, and counts connections by the name they were for."""

    def __init__(self, name: str, came: Counter[str]) -> None:
        self._name, self._came, self._head = name, came, b""

    def connection_made(self, transport) -> None:
        self._came[self._name] += 1
        self._transport = transport

    def data_received(self, data) -> None:
        self._head = (self._head + data)[-200_000:]
        if self._head.startswith(b"\x16"):  # TLS is not spoken here, and nobody shall wait for it
            self._transport.abort()
            return
        while (end := self._head.find(b"\r\n\r\n")) >= 0:
            head, self._head = self._head[:end], self._head[end + 4 :]
            kept = (
                b'Cache-Control: max-age=60\r\nETag: "v"'
                if b"/keep/" in head
                else b"Cache-Control: no-store"
            )
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
                + kept
                + b"\r\n\r\n"
                + (b"" if head.startswith(b"HEAD ") else b"ok")
            )

    def eof_received(self) -> bool:
        return False


class Client(asyncio.Protocol):
    """Sends what it is given and waits for the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.got = b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport) -> None:
        transport.write(self._data)
        transport.write_eof()

    def data_received(self, data) -> None:
        if len(self.got) < 100_000:
            self.got += data

    def connection_lost(self, exc) -> None:
        if not self.ended.done():
            self.ended.set_result(self.got)


class TlsClient(Client):
    """Opens a tunnel to a host that is looked at, speaks TLS in it, and sends what it is given inside; leaves when nothing comes."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data + b"GET / HTTP/1.1\r\nHost: never.test\r\nConnection: close\r\n\r\n")
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._name, self._shaken = name.encode(), False

    def connection_made(self, transport) -> None:
        self._transport = transport
        self._leaving = asyncio.get_running_loop().call_later(QUIET_S, transport.abort)
        transport.write(b"CONNECT %b:443 HTTP/1.1\r\n%b\r\n" % (self._name, AUTH))

    def data_received(self, data) -> None:
        self._leaving.cancel()
        self._leaving = asyncio.get_running_loop().call_later(QUIET_S, self._transport.abort)
        if not self._shaken:
            data = data.removeprefix(b"HTTP/1.1 200 OK\r\n\r\n")
        self._incoming.write(data)
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
                self._tls.write(self._data)
            while plain := self._tls.read(1 << 16):
                super().data_received(plain)
            self._transport.abort()
        except ssl.SSLWantReadError:
            self._transport.write(self._outgoing.read())
        except ssl.SSLError:
            self._transport.abort()

    def connection_lost(self, exc) -> None:
        self._leaving.cancel()
        super().connection_lost(exc)


class Watch:
    """Sees every file that this process opens for writing, makes, renames or removes, while it is on."""

    EVENTS = frozenset(
        "os.rename os.mkdir os.remove os.rmdir os.link os.symlink os.truncate os.chmod".split()
    )

    def __init__(self) -> None:
        self.root: str | None = None
        self.outside: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple) -> None:
        if self.root is None or not (event == "open" or event in self.EVENTS):
            return
        if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        # The audited arguments of each event; a directory's descriptor is -1 where there is none
        paths, folders = {
            "os.rename": (args[:2], args[2:]),
            "os.link": (args[:2], args[2:]),
            "os.symlink": (args[:2], (-1, *args[2:])),
            "os.mkdir": (args[:1], args[2:]),
            "os.chmod": (args[:1], args[2:]),
            "os.remove": (args[:1], args[1:]),
            "os.rmdir": (args[:1], args[1:]),
        }.get(event, (args[:1], ()))
        for path, folder in zip_longest(paths, folders, fillvalue=-1):
            if not isinstance(path, (str, bytes, os.PathLike)):
                continue
            name = os.fsdecode(path)
            if folder >= 0:
                name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
            if not inside(name, self.root):
                self.outside.append(f"{event} {name!r}")

    @contextmanager
    def on(self, root: Path) -> Iterator[None]:
        """Watch while this goes on."""
        self.outside.clear()
        self.root = str(root)
        try:
            yield
        finally:
            self.root = None


def inside(path: str, root: str) -> bool:
    """Whether a path lies in the store; a store's own path has no way up in it."""
    return os.path.abspath(path).startswith(root + os.sep) and ".." not in path.split(os.sep)


_watch: list[Watch] = []


def watch() -> Watch:
    """The one of this process: an audit hook stays for ever."""
    if not _watch:
        _watch.append(Watch())
    return _watch[0]


@dataclass
class Findings:
    """What came of it."""

    inputs: int = 0
    connections: int = 0
    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """What must not be, in words, with the input that did it where that is known."""


class FuzzWorld:
    """The proxy of a run, and everything behind it.

    Args:
        directory: for the store.
        loop: the one it runs on.
    """

    def __init__(self, directory: Path, loop: Loop) -> None:
        self.root = directory / "store"
        self.loop = loop
        self.came: Counter[str] = Counter()
        self.failures: list[str] = []

    async def __aenter__(self) -> FuzzWorld:
        self._servers = []
        for name in (*OPENED, *PASSED, f"{NEVER}:80", f"{NEVER}:443"):
            server = await self.loop.create_server(
                lambda name=name: Origin(name, self.came), "127.0.0.1", 0
            )
            self.loop.ports[name] = server.sockets[0].getsockname()[1]
            self._servers.append(server)
        self.loop.ours = set(self.loop.ports.values())
        self.loop.set_exception_handler(lambda _loop, context: self.failures.append(repr(context)))
        self._unraisable = sys.unraisablehook
        sys.unraisablehook = lambda trouble: self.failures.append(
            f"{trouble.exc_value!r} of {trouble.object!r}"
        )
        self.store = DirectoryStore(self.root, cap=1 << 40)
        self.catalogue = open_catalogue(self.root)
        facts, self.tally = KnownFiles(self.catalogue), RunStats()
        plan = Plan(frozenset(OPENED), frozenset(), frozenset({"index.test"}), (), {}, (), (), ())
        authority = Authority()
        reach = UpstreamSettings(connect_timeout_s=0.5, silence_timeout_s=0.5, ca_pem=authority.pem)
        self._upstream = HttpUpstream(reach)

        async def dial(host: str, port: int, tls: bool) -> Streams:
            return await open_tunnel(host, port, reach, tls=tls)

        policy = ConnectPolicy(plan, facts, dial, self.tally, offline=False)
        policy.failed = lambda exc: self.failures.append(repr(exc))
        self.service = Service(
            entries=Entries(self.store, self.catalogue, SystemClock()),
            upstream=self._upstream,
            known_files=facts,
            clock=SystemClock(),
            rules=Rules(caches=policy.caches),
            stats=self.tally,
        )
        self.proxy_server = ProxyServer(USER, TOKEN, authority, self.service.handle, policy)
        self.proxy_server.authority.prepare()
        for name in ("index.test", "files.test"):
            self.proxy_server.authority.context(name)
        self._listening = await self.loop.create_server(
            lambda: ProxyConnection(self.proxy_server), "127.0.0.1", 0
        )
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._listening.close()
        await self.proxy_server.close()
        await self.service.aclose()
        await self._upstream.aclose()
        for server in self._servers:
            server.close()
        self.catalogue.close()
        self.store.close()
        await asyncio.sleep(0.05)
        gc.collect()
        sys.unraisablehook = self._unraisable

    async def send(self, data: bytes, *, tls: bool = False) -> bytes | None:
        """All that comes back; ``None`` when no end of it comes."""
        try:
            make = (lambda: TlsClient(data, "index.test")) if tls else (lambda: Client(data))
            transport, client = await self.loop.create_connection(make, "127.0.0.1", self.port)
        except OSError:
            return b""
        try:
            return await asyncio.wait_for(client.ended, PATIENCE_S)
        except TimeoutError:
            return None
        finally:
            transport.abort()


ANSWER = re.compile(rb"HTTP/1\.[01] (\d\d\d) ")
NAMED = re.compile(
    rb"(?i)(?:^|\n)[^\r\n ]* +(?:[a-z]+:/*)?(?:[^/\s@]*@)?never\.test[:/ ][^\r\n]*\r\n(?:[^\r\n]+\r\n)*"
    + re.escape(AUTH.strip())
)
"""A request for :data:`NEVER` with this run's token, which damage makes once in a quarter of a
million inputs."""
TOGETHER = 100
"""Connections at a time."""


async def batch(world: FuzzWorld, inputs: Inputs, findings: Findings, *, right: bool) -> None:
    """Connections at the same time, of one kind: with the token or without it."""
    sent, inside_tls = [], []
    for number in range(TOGETHER):
        inside_tls.append(right and number % 16 == 0)
        sent.append(inputs.inner() if inside_tls[-1] else inputs.chain(right=right))
    world.came.clear()
    world.loop.looked_up.clear()
    answers = await asyncio.gather(
        *(world.send(data, tls=tls) for data, tls in zip(sent, inside_tls, strict=True))
    )
    for data, got in zip(sent, answers, strict=True):
        findings.connections += 1
        statuses = ANSWER.findall(got or b"")
        # What lies behind an input that ends the connection is not looked at: counted is what was
        # answered, or one.
        findings.inputs += max(1, len(statuses))
        findings.statuses.update(status.decode() for status in statuses)
        if got is None:
            findings.wrong.append(f"no end for {data[:300]!r}")
    text = b"\n".join([*sent, *(b"index.test" for tls in inside_tls if tls)]).lower()
    for name in (*world.came, *world.loop.looked_up):
        host = name.rpartition(":")[0].encode("utf-8", "replace").lower()
        if host == NEVER.encode() and right and any(map(NAMED.search, sent)):
            # One name in a request was replaced by another, and the token left: it was asked for
            continue
        if host == NEVER.encode() or not right or host not in text:
            findings.wrong.append(
                f"{name} was asked, right={right}: {[d[:2000] for d in sent if host in d.lower()][:20]}"
            )
    if world.failures:
        findings.wrong += [failure[:500] for failure in world.failures[:3]]
        world.failures.clear()
    world.tally.lines.clear()
    world.tally.uncached_hosts.clear()


async def healthy(world: FuzzWorld, findings: Findings) -> None:
    """What a good client gets is what it would have got before."""
    got = await world.send(
        b"GET http://index.test/keep/good.whl HTTP/1.1\r\nHost: index.test\r\nConnection: close\r\n"
        + AUTH
        + b"\r\n"
    )
    if got is None or not got.startswith(b"HTTP/1.1 200 ") or not got.endswith(b"\r\n\r\nok"):
        findings.wrong.append(f"a good request got {got!r}")
    for _ in range(100):
        if not world.proxy_server.connections:
            return
        await asyncio.sleep(0.01)
    findings.wrong.append(f"{len(world.proxy_server.connections)} connections were never let go of")


def fuzz(
    directory: Path,
    count: int,
    seed: int,
    *,
    seconds: float = 1e9,
    told: Callable[[Findings], None] = lambda _f: None,
) -> Findings:
    """Send so many inputs, or for so long.

    Args:
        directory: for the store; empty.
        count: inputs, at least.
        seed: equal seeds send equal inputs.
        seconds: stop after them all the same.
        told: how it is going, now and then.
    """
    findings, inputs, start = Findings(), Inputs(random.Random(seed)), time.monotonic()

    async def work() -> None:
        async with FuzzWorld(directory, asyncio.get_running_loop()) as world:
            with watch().on(world.root):
                number = 0
                while (
                    findings.inputs < count
                    and time.monotonic() - start < seconds
                    and len(findings.wrong) < 10
                ):
                    await batch(world, inputs, findings, right=number % 4 != 1)
                    number += 1
                    if number % 40 == 0:
                        await healthy(world, findings)
                    if number % 400 == 0:
                        findings.seconds = time.monotonic() - start
                        told(findings)
                await healthy(world, findings)
                findings.wrong += [f"outside the store: {each}" for each in watch().outside[:5]]
            findings.wrong += [f"at the end: {failure}" for failure in world.failures]

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(work())
    findings.seconds = time.monotonic() - start
    return findings
