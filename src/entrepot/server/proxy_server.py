"""What all doors of one run share, and what they ask of the run. No protocol here."""

from __future__ import annotations

import asyncio
import base64
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from entrepot.httpcache.messages import Headers
from entrepot.server.authority import Authority
from entrepot.serving.response import Handler

if TYPE_CHECKING:
    from entrepot.server.proxy import Door

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Doorman(Protocol):
    """What the door asks about a connection; the run answers."""

    async def opens(self, host: str, port: int) -> bool:
        """Whether this host's traffic is to be opened and cached, not tunnelled."""
        ...

    async def dial(self, host: str, port: int, *, tls: bool) -> Streams:
        """Raw streams to the other side, through the user's own proxy where there is one.

        Raises:
            EntrepotError: nobody answers there.
        """
        ...

    def relayed(self, host: str, count: int) -> None:
        """So many bytes went past the cache; called once with 0 when a tunnel begins."""
        ...

    def distrusted(self, host: str, reason: str) -> None:
        """A client broke off the TLS handshake for a host.

        ``reason`` is OpenSSL's name of its alert.
        """
        ...

    def failed(self, exc: Exception) -> None:
        """Something here raised what nothing should raise; the client was answered 500 or reset."""
        ...


@dataclass(frozen=True, slots=True)
class House:
    """What all doors of one run share."""

    user: str
    token: str
    authority: Authority
    handler: Handler
    doorman: Doorman
    doors: set[Door] = field(default_factory=set)
    """The connections that are open now."""

    def admits(self, headers: Headers) -> bool:
        """Whether ``Proxy-Authorization`` carries this run's user and token (RFC 9110 §11.7.2, RFC 7617)."""
        scheme, _, value = (headers.get("proxy-authorization") or "").partition(" ")
        expected = base64.b64encode(f"{self.user}:{self.token}".encode())
        # as bytes: compare_digest raises for text that is not ASCII
        return scheme.lower() == "basic" and hmac.compare_digest(
            value.strip().encode("latin-1"), expected
        )

    async def close(self) -> None:
        """Drop every connection and wait until nothing is being done for any of them."""
        tasks = [task for door in list(self.doors) for task in door.abort()]
        if tasks:
            await asyncio.wait(tasks)
