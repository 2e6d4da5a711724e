"""The upstream adapter: an HTTP/1.1 client that changes nothing of what it carries.

Behind ``ports/upstream.py``. Never follows, retries, decodes, remembers cookies or adds a field but
``Host``, the framing and the credentials of a URL or proxy. Why not a library:
``docs/decisions/0001-upstream-client.md``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from entrepot.errors import ProtocolMisuse, UpstreamProtocolError
from entrepot.httpcache.messages import RequestHead
from entrepot.ports.upstream import Answer, Upstream
from entrepot.stored import redacted_url
from entrepot.upstream.dial import Dialer
from entrepot.upstream.exchange import Connection, Exchange
from entrepot.upstream.proxies import Origin, Proxy, ProxyRules, basic, parse_proxy, split_origin

IDLE_S = 60.0
"""An unused connection is closed after this; most origins close earlier, which is noticed at once.
"""
IDLE_PER_ORIGIN = 64
"""Unused connections kept for one origin: uv opens 50 at a time."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_URI = re.compile(r"[^\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """How upstream is reached; times in seconds."""

    connect_timeout_s: float = 10
    """For name, TCP, proxy and TLS together."""
    silence_timeout_s: float = 30
    """Longest wait for the next byte of an answer."""
    ca_file: Path | None = None
    """PEM bundle that replaces the default roots."""
    ca_pem: str | None = field(default=None, repr=False)
    """The same as text (``trust.merged_bundle``), for bundles that are no file; wins over
    ``ca_file``."""
    proxies: ProxyRules = field(default_factory=ProxyRules)
    resolve: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """``HOST:PORT`` to the address to connect to instead; names in TLS and ``Host`` stay."""


def open_upstream(settings: UpstreamSettings) -> Upstream:
    """The client for these settings; use it within one running event loop and ``aclose`` it."""
    return HttpUpstream(settings)


Key = tuple[Origin, Proxy | None]


class HttpUpstream:
    """Upstream by HTTP/1.1 over TCP and TLS, with kept connections."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self._settings = settings
        self._dialer = Dialer(
            resolve=settings.resolve,
            ca_file=settings.ca_file,
            ca_pem=settings.ca_pem,
            timeout_s=settings.connect_timeout_s,
        )
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
            address = self._settings.proxies.proxy_for(request.url)
        except ValueError as exc:
            raise UpstreamProtocolError(f"{url} cannot be asked for: {exc}", url=url) from exc
        proxy = parse_proxy(address, source="the proxy variables") if address else None
        length = _content_length(request, body)
        head = encode_head(
            request,
            origin,
            proxy,
            chunked=body is not None and length is None,
            has_body=body is not None,
        )
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

    # --- kept connections

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
        kept = self._idle.get(key, []) if key is not None else []
        if connection in kept:
            kept.remove(connection)


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
    authority, target = _split_target(request.url)
    to_proxy = proxy is not None and origin.scheme == "http"
    lines = [("Host", _host(origin))]
    lines += [
        line for line in request.headers if line[0].lower() not in {"host", "transfer-encoding"}
    ]
    user = authority.rpartition("@")[0]
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
    return _joined(request, f"{request.method} {absolute} HTTP/1.1", lines)


def _joined(request: RequestHead, first: str, lines: list[tuple[str, str]]) -> bytes:
    bad = not _TOKEN.fullmatch(request.method) or any(
        not _TOKEN.fullmatch(name) or any(c in value for c in "\r\n\0") for name, value in lines
    )
    try:
        raw = "\r\n".join([first, *(f"{name}: {value}" for name, value in lines), "", ""]).encode(
            "latin-1"
        )
    except UnicodeEncodeError:
        bad = True
    if bad:
        url = redacted_url(request.url)
        raise UpstreamProtocolError(
            f"the request for {url} has a field that no HTTP message may have", url=url
        )
    return raw


def _split_target(url: str) -> tuple[str, str]:
    """Authority as written, and path with query as they are to be sent."""
    rest = url.partition("://")[2].partition("#")[0]
    end = min((i for i in (rest.find(c) for c in "/?") if i >= 0), default=len(rest))
    target = _NOT_URI.sub(lambda m: quote(m[0], safe=""), rest[end:])
    return rest[:end], target if target.startswith("/") else "/" + target


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
