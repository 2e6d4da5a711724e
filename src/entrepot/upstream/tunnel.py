"""Raw byte streams for blind tunnels and relays: nothing of what flows is looked at.

The user's own proxy is chained by CONNECT where the rules say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from entrepot.errors import UpstreamUnreachable
from entrepot.upstream.dial import Dialer
from entrepot.upstream.proxies import Origin, ProxyRules, parse_proxy, split_authority

BUFFER = 256 * 1024
"""Bytes that the reader holds before it stops the sender (twice this at most)."""


async def open_tunnel(
    host: str,
    port: int,
    *,
    proxies: ProxyRules | None = None,
    resolve: Mapping[str, tuple[str, int]] | None = None,
    timeout_s: float = 10.0,
    scheme: str = "https",
    ca_file: Path | None = None,
    ca_pem: str | None = None,
    tls: bool = False,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A byte stream to ``HOST:PORT``; the caller closes the writer.

    Args:
        host: a name or an address, without brackets.
        port: 1 to 65535.
        proxies: the user's rules; ``None``: always directly.
        resolve: ``HOST:PORT`` to the address to connect to instead.
        timeout_s: for name, TCP and the proxy's answer together, in seconds.
        scheme: whose proxy serves it: ``https`` for CONNECT, ``http`` for an ``Upgrade`` of a plain
            connection.
        ca_file: roots for a proxy that is itself spoken to by TLS, and for ``tls``.
        ca_pem: the same as text; wins over ``ca_file``.
        tls: speak TLS to ``HOST`` and give the plain text of it: for relays of what came to us
            encrypted. Needs ``https``.

    Raises:
        UpstreamTimeout: no stream within ``timeout_s``.
        UpstreamUnreachable: the name does not resolve, nothing listens, or the proxy or TLS
            refused.
        UpstreamProtocolError: the proxy does not speak HTTP.
        ConfigError: the proxy's address cannot be read.
    """
    origin = Origin(scheme, host.lower(), port)
    try:
        split_authority(origin.authority, port)
    except ValueError as exc:  # nothing that could end a CONNECT line may reach a proxy
        raise UpstreamUnreachable(str(exc)) from exc
    address = proxies.proxy_for(f"{scheme}://{origin.authority}/") if proxies else None
    reader = asyncio.StreamReader(limit=BUFFER)
    protocol = asyncio.StreamReaderProtocol(reader)
    dialer = Dialer(resolve=resolve or {}, ca_file=ca_file, ca_pem=ca_pem, timeout_s=timeout_s)
    proxy = parse_proxy(address, source="the proxy variables") if address else None
    transport = await dialer.open(
        protocol, origin, proxy=proxy, url=f"{scheme}://{origin.authority}", tunnel=not tls
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
