"""What the upstream tests share.

The event loops, a client that is closed at the end, one GET, a free port.
"""

from __future__ import annotations

import asyncio
import base64
import socket

from entrepot.httpcache.messages import RequestHead
from entrepot.upstream.client import UpstreamSettings, open_upstream

try:
    import uvloop
except ImportError:  # Windows
    uvloop = None

LOOPS = {"asyncio": asyncio.new_event_loop} | ({"uvloop": uvloop.new_event_loop} if uvloop else {})

SECRET = base64.b64encode(b"me:p@ss").decode()
"""What the user ``me`` with the password ``p@ss`` looks like in Basic authentication."""


async def get(upstream, url, *, method="GET", fresh=False):
    """Status and whole body of one request."""
    answer = await upstream.send(RequestHead(method, url), fresh_connection=fresh)
    try:
        return answer.head.status, b"".join([chunk async for chunk in answer.chunks()])
    finally:
        await answer.aclose()


class Client:
    """``open_upstream`` with short limits, closed at the end."""

    def __init__(self, **settings):
        self.settings = UpstreamSettings(
            **{"connect_timeout_s": 3, "silence_timeout_s": 5, **settings}
        )

    async def __aenter__(self):
        self.upstream = open_upstream(self.settings)
        return self.upstream

    async def __aexit__(self, *exc):
        await self.upstream.aclose()


def unused_port():
    """A port of loopback where nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
