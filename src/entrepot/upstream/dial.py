"""A byte stream to an origin: addresses, TCP, TLS, the user's proxy, and how each fails.

No HTTP but the one CONNECT exchange with a proxy. Whatever goes wrong leaves as an
``UpstreamError`` with a redacted URL and a sentence that a person understands; no credential is
ever in it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Mapping
from itertools import chain, zip_longest
from typing import Any, cast

from entrepot.errors import (
    ConfigError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from entrepot.upstream import trust
from entrepot.upstream.proxies import Origin, Proxy

AddressInfo = tuple[int, int, int, str, Any]

REMEMBER_S = 30.0
"""How long a resolved name is used again: long enough for one install, short enough for a changed
record."""
STAGGER_S = 0.25
"""Head start of one address over the next (RFC 8305 §5)."""
REPLY_LIMIT = 64 * 1024
"""Bytes that a proxy's answer to CONNECT may take."""


class Addresses:
    """Names to addresses: fixed ones first, else the system's resolver, asked once for many."""

    def __init__(self, fixed: Mapping[str, tuple[str, int]]) -> None:
        self._fixed = {name.lower(): address for name, address in fixed.items()}
        self._known: dict[tuple[str, int], tuple[float, asyncio.Future[list[AddressInfo]]]] = {}

    async def find(self, host: str, port: int) -> list[AddressInfo]:
        """Where to connect to, IPv6 and IPv4 by turns, the resolver's first choice first.

        Raises:
            OSError: the name does not resolve (``socket.gaierror``).
        """
        loop = asyncio.get_running_loop()
        host, port = self._fixed.get(Origin("", host, port).authority, (host, port))
        until, asked = self._known.get((host, port), (0.0, None))
        failed = asked and asked.done() and (asked.cancelled() or asked.exception())
        if asked is None or until < loop.time() or failed:
            look_up: Any = loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            asked = asyncio.ensure_future(look_up)
            self._known[host, port] = loop.time() + REMEMBER_S, asked
        # One who gives up must not take the answer from the others
        infos = await asyncio.shield(asked)
        family = infos[0][0]
        turns = zip_longest(
            (i for i in infos if i[0] == family), (i for i in infos if i[0] != family)
        )
        return [info for info in chain.from_iterable(turns) if info is not None]


async def connect_socket(infos: list[AddressInfo]) -> socket.socket:
    """A connected, non-blocking socket to the first of some addresses that answers.

    A dead address delays the next by :data:`STAGGER_S` only (RFC 8305); uvloop's
    ``create_connection`` has no such thing.

    Raises:
        OSError: none answered; the first address's error.
    """
    if len(infos) == 1:
        return await _attempt(infos[0])
    waiting = list(reversed(infos))
    pending: set[asyncio.Task[socket.socket]] = set()
    first: BaseException | None = None
    try:
        while waiting or pending:
            if waiting:
                pending.add(asyncio.create_task(_attempt(waiting.pop())))
            done, pending = await asyncio.wait(
                pending, timeout=STAGGER_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            good = [task for task in done if task.exception() is None]
            for loser in good[1:]:
                loser.result().close()
            if good:
                return good[0].result()
            first = first or next((task.exception() for task in done), None)
        raise first or OSError(errno.EHOSTUNREACH, "no address")
    finally:
        for task in pending:
            task.cancel()


async def _attempt(info: AddressInfo) -> socket.socket:
    family, kind, protocol, _, address = info
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)  # noqa: FBT003 -- the only way to call it
        if protocol == socket.IPPROTO_TCP or family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def client_context(ca_pem: str | None) -> ssl.SSLContext:
    """A verifying TLS context for http/1.1.

    Not ``ssl.create_default_context``: Python 3.13's strict checks refuse private authorities that
    pip, curl and uv accept, and an authority that is not self-signed is a sufficient anchor for
    them (``PARTIAL_CHAIN``). ``ca_pem`` replaces the default roots: the system's, else those inside
    pip.

    Raises:
        ConfigError: the text holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(
            cadata=trust.merged_bundle({}).pem if ca_pem is None else ca_pem
        )
    except (OSError, ValueError) as exc:
        where = "the system" if ca_pem is None else "the merged bundle"
        raise ConfigError(
            f"the roots in {where} cannot be used: no certificate in them", value=""
        ) from exc
    return context


class Dialer:
    """Opens connections with one set of addresses, roots and limits."""

    def __init__(
        self, resolve: Mapping[str, tuple[str, int]], ca_pem: str | None, timeout_s: float
    ) -> None:
        self._addresses = Addresses(resolve)
        self._ca_pem = ca_pem
        self._timeout_s = timeout_s
        self._tls: ssl.SSLContext | None = None

    async def open(
        self,
        protocol: asyncio.Protocol,
        origin: Origin,
        *,
        proxy: Proxy | None,
        url: str,
        tunnel: bool = False,
    ) -> asyncio.Transport:
        """A transport that is connected to ``protocol``.

        TLS when the origin's scheme is https and ``tunnel`` is off.

        Args:
            protocol: receives the bytes; its ``connection_made`` is called.
            origin: whom the bytes are for.
            proxy: the way there: by CONNECT for https and for tunnels, else the transport ends at
                the proxy.
            url: what an error names, already redacted.
            tunnel: raw bytes to the origin, whatever its scheme.

        Raises:
            UpstreamTimeout, UpstreamUnreachable, UpstreamProtocolError: as in
                :mod:`entrepot.errors`.
        """
        if proxy is not None and proxy.scheme not in {"http", "https"}:
            raise UpstreamUnreachable(
                f"the proxy {proxy} cannot be used: only http and https proxies can",
                url=url,
                hint="Set HTTPS_PROXY and HTTP_PROXY to an http proxy, or add the host to NO_PROXY",
            )
        secure = origin.scheme == "https" and not tunnel
        near = origin if proxy is None else Origin(proxy.scheme, proxy.host, proxy.port)
        step = f"{near.authority}" if proxy is None else f"the proxy {proxy}"
        try:
            async with asyncio.timeout(self._timeout_s):
                if proxy is None:
                    return await self._reach(protocol, origin, secure=secure)
                if not secure and not tunnel:
                    return await self._reach(protocol, near, secure=proxy.scheme == "https")
                reply = ConnectReply(origin.authority, proxy, url)
                raw = await self._reach(reply, near, secure=proxy.scheme == "https")
                try:
                    leftover = await reply.answer
                    step = origin.authority
                    server = origin.host if secure else None
                    return await self._through(raw, protocol, leftover, server)
                except BaseException:
                    raw.abort()
                    raise
        except TimeoutError as exc:
            raise UpstreamTimeout(
                f"{step} did not answer within {self._timeout_s:g} s", url=url
            ) from exc
        except OSError as exc:
            named = origin if step == origin.authority else near
            raise failure(
                exc, named.host, named.authority, url, via=proxy if named is near else None
            ) from exc

    async def _reach(
        self, protocol: asyncio.Protocol, near: Origin, *, secure: bool
    ) -> asyncio.Transport:
        """TCP, and TLS if wanted, to the next hop."""
        try:
            infos = await self._addresses.find(near.host, near.port)
        except UnicodeError as exc:  # a label of more than 63 characters, an empty one
            raise socket.gaierror(socket.EAI_NONAME, "no host name") from exc
        sock = await connect_socket(infos)
        try:
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: protocol,
                sock=sock,
                ssl=self._context() if secure else None,
                server_hostname=near.host if secure else None,
            )
        except BaseException:
            sock.close()
            raise
        return transport

    async def _through(
        self,
        raw: asyncio.Transport,
        protocol: asyncio.Protocol,
        leftover: bytes,
        server: str | None,
    ) -> asyncio.Transport:
        """Hand the proxy's open tunnel over to ``protocol``, with TLS to ``server`` if given."""
        if server is None:
            raw.set_protocol(protocol)
            protocol.connection_made(raw)
            if leftover:
                protocol.data_received(leftover)
            raw.resume_reading()
            return raw
        if leftover:
            raise UpstreamProtocolError("the proxy sent bytes of its own into the tunnel")
        transport = await asyncio.get_running_loop().start_tls(
            raw, protocol, self._context(), server_hostname=server
        )
        if transport is None:
            raise ConnectionResetError(errno.ECONNRESET, "closed during the TLS handshake")
        protocol.connection_made(transport)
        return transport

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:  # 28 ms for a usual bundle: not before the first https connection
            self._tls = client_context(self._ca_pem)
        return self._tls


class ConnectReply(asyncio.Protocol):
    """Asks a proxy for a tunnel; ``answer`` becomes what came behind the head of its answer.

    Source: RFC 9110 §9.3.6; RFC 9112 §3.2.3.
    """

    def __init__(self, authority: str, proxy: Proxy, url: str) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._authority = authority
        self._proxy = proxy
        self._url = url
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        credentials = self._proxy.authorization
        lines = [f"CONNECT {self._authority} HTTP/1.1", f"Host: {self._authority}"]
        lines += [f"Proxy-Authorization: {credentials}"] if credentials else []
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, rest = self._got.partition(b"\r\n\r\n")
        if self.answer.done() or not (found or len(self._got) > REPLY_LIMIT):
            return
        self._transport.pause_reading()  # until the next protocol has taken over
        words = head.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
        if found and len(words) > 1 and words[0].startswith("HTTP/1.") and words[1][:1] == "2":
            self.answer.set_result(rest)
        else:
            self.answer.set_exception(self._refusal(words))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's name
        if not self.answer.done():
            text = f"the proxy {self._proxy} closed the connection on CONNECT to {self._authority}"
            self.answer.set_exception(UpstreamUnreachable(text, url=self._url))

    def _refusal(self, words: list[str]) -> UpstreamError:
        if not words[0].startswith("HTTP/1.") or len(words) < 2:
            text = f"the proxy {self._proxy} does not speak HTTP"
            return UpstreamProtocolError(text, url=self._url)
        if words[1] == "407":
            return UpstreamUnreachable(
                f"the proxy {self._proxy} wants credentials for {self._authority} (407)",
                url=self._url,
                hint="Put them into the proxy's address: http://USER:PASSWORD@HOST:PORT",
            )
        text = (
            f"the proxy {self._proxy} refused CONNECT to {self._authority}: {' '.join(words[1:])}"
        )
        return UpstreamUnreachable(text, url=self._url)


def failure(
    exc: OSError, host: str, authority: str, url: str, *, via: Proxy | None = None
) -> UpstreamError:
    """What a failed connection means, for people.

    ``host`` is the name that was looked up, ``authority`` the ``HOST:PORT`` of the hop that failed,
    ``url`` is redacted, ``via`` is set when that hop is a proxy.
    """
    where = authority if via is None else f"the proxy {via}"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return UpstreamUnreachable(
            f"the certificate of {where} is not trusted: {exc.verify_message}",
            url=url,
            hint="If its authority is your own, name its PEM file in SSL_CERT_FILE.",
        )
    if isinstance(exc, ssl.SSLError):
        reason = (exc.reason or str(exc)).replace("_", " ").lower()
        return UpstreamUnreachable(f"TLS with {where} failed: {reason}", url=url)
    if isinstance(exc, socket.gaierror):
        silent = ": the name server gave no answer" if exc.errno == socket.EAI_AGAIN else ""
        return UpstreamUnreachable(f"{host} does not resolve{silent}", url=url)
    if isinstance(exc, ConnectionRefusedError):
        return UpstreamUnreachable(f"nothing listens at {where}", url=url)
    if isinstance(exc, ConnectionError):
        return UpstreamUnreachable(f"{where} closed the connection before it was ready", url=url)
    return UpstreamUnreachable(f"{where} cannot be reached: {exc.strerror or exc}", url=url)
