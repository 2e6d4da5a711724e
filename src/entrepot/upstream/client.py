"""The upstream adapter: an HTTP/1.1 client that changes nothing of what it carries, and tunnels.

Behind ``ports/upstream.py``. Never follows, retries, decodes, remembers cookies or adds a field but
``Host``, the framing and the credentials of a URL or proxy. Why not a library:
``docs/decisions/0001-upstream-client.md``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from entrepot.errors import ProtocolMisuse, UpstreamProtocolError, UpstreamUnreachable
from entrepot.httpcache.messages import RequestHead
from entrepot.ports.upstream import Answer
from entrepot.redaction import redacted_url
from entrepot.upstream.dial import Dialer
from entrepot.upstream.exchange import Connection, Exchange
from entrepot.upstream.proxies import (
    Origin,
    Proxy,
    ProxyRules,
    basic,
    parse_proxy,
    split_authority,
    split_origin,
)
from entrepot.urls import split_url

IDLE_S = 60.0
"""Seconds after which an unused connection is closed; most origins close earlier."""
IDLE_PER_ORIGIN = 64
"""Unused connections kept for one origin: uv opens 50 at a time."""
TUNNEL_BUFFER = 256 * 1024
"""Bytes that a tunnel's reader holds before it stops the sender (twice this at most)."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_URI = re.compile(r"[^\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """How upstream is reached; times in seconds."""

    connect_timeout_s: float = 10
    """For name, TCP, proxy and TLS together."""
    silence_timeout_s: float = 30
    """Longest wait for the next byte of an answer."""
    ca_pem: str | None = field(default=None, repr=False)
    """PEM text that replaces the default roots (``trust.merged_bundle``)."""
    proxies: ProxyRules = field(default_factory=ProxyRules)
    resolve: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """``HOST:PORT`` to the address to connect to instead; names in TLS and ``Host`` stay."""

    def dialer(self) -> Dialer:
        """Opens connections by these settings."""
        return Dialer(self.resolve, self.ca_pem, self.connect_timeout_s)

    def proxy(self, url: str) -> Proxy | None:
        """The user's proxy for an absolute URL.

        Raises:
            ValueError: that is no absolute http or https URL.
            ConfigError: the proxy's address cannot be read.
        """
        address = self.proxies.proxy_for(url)
        return parse_proxy(address, source="the proxy variables") if address else None


Key = tuple[Origin, Proxy | None]


class HttpUpstream:
    """Upstream by HTTP/1.1 over TCP and TLS, with kept connections.

    Use it within one running event loop, and ``aclose`` it.
    """

    def __init__(self, settings: UpstreamSettings) -> None:
        self._settings = settings
        self._dialer = settings.dialer()
        self._idle: dict[Key, list[Connection]] = {}
        self._keys: dict[Connection, Key] = {}
        self._closed = False

    async def send(
        self,
        request: RequestHead,
        body: AsyncIterator[bytes] | None = None,
        *,
        fresh_connection: bool = False,
    ) -> Answer:
        """One exchange, up to the response's head; see ``ports/upstream.py``.

        A request with a body always goes out on a new connection: a kept one may be closed by
        upstream at the very moment, and what was half sent cannot be sent again.
        """
        url = redacted_url(request.url)
        try:
            origin = split_origin(request.url)
            proxy = self._settings.proxy(request.url)
        except ValueError as exc:
            raise UpstreamProtocolError(f"{url} cannot be asked for: {exc}", url=url) from exc
        length = _content_length(request, body)
        has_body = body is not None
        chunked = has_body and length is None
        head = encode_head(request, origin, proxy, chunked=chunked, has_body=has_body)
        if self._closed:
            raise ProtocolMisuse("the upstream client was closed")
        key = (origin, proxy)
        connection = None if fresh_connection or body is not None else self._take(key)
        if connection is None:
            connection = Connection(origin.authority, on_idle=self._keep, on_lost=self._forget)
            self._keys[connection] = key
            try:
                await self._dialer.open(connection, origin, proxy=proxy, url=url)
            except BaseException:
                self._keys.pop(connection, None)
                raise
        exchange = Exchange(connection, request.method, url, self._settings.silence_timeout_s)
        await connection.send(exchange, head, body, length)
        return exchange

    async def aclose(self) -> None:
        """Close every connection; answers still being read end with an error."""
        self._closed = True
        for connection in list(self._keys):
            if connection.timer is not None:
                connection.timer.cancel()
            connection.drop()
        self._idle.clear()
        await asyncio.sleep(0)  # lets the transports tell their protocols

    def _take(self, key: Key) -> Connection | None:
        """The connection used last: the least likely to be closed by the other side."""
        kept = self._idle.get(key, [])
        while kept:
            connection = kept.pop()
            if connection.timer is not None:
                connection.timer.cancel()
                connection.timer = None
            if connection.usable:
                return connection
        return None

    def _keep(self, connection: Connection) -> None:
        kept = self._idle.setdefault(self._keys[connection], [])
        if self._closed or len(kept) >= IDLE_PER_ORIGIN:
            connection.drop()
            return
        kept.append(connection)
        connection.timer = connection.loop.call_later(IDLE_S, connection.drop)

    def _forget(self, connection: Connection) -> None:
        if connection.timer is not None:
            connection.timer.cancel()
        key = self._keys.pop(connection, None)
        if key is not None and connection in self._idle.get(key, []):
            self._idle[key].remove(connection)


async def open_tunnel(
    host: str, port: int, settings: UpstreamSettings, *, tls: bool = False
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A byte stream to ``HOST:PORT``, of which nothing is looked at; the caller closes the writer.

    The user's proxy is asked by CONNECT where the rules for https say so: what comes by CONNECT
    goes on by CONNECT, an upgraded plain connection too (RFC 6455 §4.1). ``host`` has no brackets.
    ``tls``: speak TLS to it and give the plain text of that, for what came to us encrypted.

    Raises:
        UpstreamTimeout: no stream within the settings' time for connecting.
        UpstreamUnreachable: the name does not resolve, nothing listens, or the proxy or TLS
            refused.
        UpstreamProtocolError: the proxy does not speak HTTP.
        ConfigError: the proxy's address cannot be read.
    """
    origin = Origin("https", host.lower(), port)
    try:
        split_authority(origin.authority, port)
    except ValueError as exc:  # nothing that could end a CONNECT line may reach a proxy
        raise UpstreamUnreachable(str(exc)) from exc
    url = f"https://{origin.authority}"
    reader = asyncio.StreamReader(limit=TUNNEL_BUFFER)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport = await settings.dialer().open(
        protocol, origin, proxy=settings.proxy(f"{url}/"), url=url, tunnel=not tls
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())


def encode_head(
    request: RequestHead, origin: Origin, proxy: Proxy | None, *, chunked: bool, has_body: bool
) -> bytes:
    """The request's head as bytes, path and query exactly as they are spelled.

    Only what no URI may contain (controls, blanks, non-ASCII characters) is percent-encoded as
    UTF-8; an empty path becomes ``/``; a fragment is not sent (RFC 9112 §3.2, RFC 9110 §4.2.3,
    §7.1).

    Raises:
        UpstreamProtocolError: a method, field name or value that would break the message.
    """
    _, user, _, tail = split_url(request.url)
    target = _NOT_URI.sub(lambda m: quote(m[0], safe=""), tail)
    target = target if target.startswith("/") else f"/{target}"
    to_proxy = proxy is not None and origin.scheme == "http"
    lines = [("Host", _host(origin))]
    lines += [
        line for line in request.headers if line[0].lower() not in {"host", "transfer-encoding"}
    ]
    if user and "Authorization" not in request.headers:
        lines.append(("Authorization", basic(user)))
    if to_proxy and proxy is not None and proxy.authorization is not None:
        lines.append(("Proxy-Authorization", proxy.authorization))
    if chunked:
        lines.append(("Transfer-Encoding", "chunked"))
    elif (
        not has_body
        and request.method in {"POST", "PUT", "PATCH"}
        and "Content-Length" not in request.headers
    ):
        lines.append(("Content-Length", "0"))
    absolute = f"http://{lines[0][1]}{target}" if to_proxy else target
    text = [f"{request.method} {absolute} HTTP/1.1", *(f"{n}: {v}" for n, v in lines), "", ""]
    is_sound = _TOKEN.fullmatch(request.method) and all(
        _TOKEN.fullmatch(name) and not any(c in value for c in "\r\n\0") for name, value in lines
    )
    try:
        if is_sound:
            return "\r\n".join(text).encode("latin-1")
    except UnicodeEncodeError:
        pass
    url = redacted_url(request.url)
    raise UpstreamProtocolError(
        f"the request for {url} has a field that no HTTP message may have", url=url
    )


def _host(origin: Origin) -> str:
    """The ``Host`` value: host, and port unless it is the scheme's own (RFC 9112 §3.2)."""
    name = f"[{origin.host}]" if ":" in origin.host else origin.host
    if not name.isascii():
        name = name.encode("idna").decode()
    default = {"http": 80, "https": 443}[origin.scheme]
    return name if origin.port == default else f"{name}:{origin.port}"


def _content_length(request: RequestHead, body: AsyncIterator[bytes] | None) -> int | None:
    value = request.headers.get("Content-Length")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()):
        raise UpstreamProtocolError(
            f"not a Content-Length: {value[:40]!r}", url=redacted_url(request.url)
        )
    if body is None and int(value):
        raise ProtocolMisuse(f"a request that announces {value} bytes and has no body")
    return int(value)
