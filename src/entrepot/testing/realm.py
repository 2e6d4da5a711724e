"""Parts of an origin that want credentials."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from entrepot.testing.exchange import Request


@dataclass(frozen=True, slots=True)
class Realm:
    """A part of the origin that wants a user and a password (RFC 7617)."""

    prefix: str
    user: str
    password: str
    name: str = "origin"

    def admits(self, request: Request) -> bool:
        """Whether the request carries the right credentials."""
        wanted = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return request.headers.get("authorization", "") == f"Basic {wanted}"
