"""Which addresses tests may connect to."""

from __future__ import annotations

import ipaddress
import socket


class NetworkForbidden(RuntimeError):
    """A test reached for something that is not on loopback.

    No ``OSError``: nothing may take it for a bad connection.
    """


def is_allowed(family: int, address: object) -> bool:
    """Whether tests may connect there: Unix sockets and loopback."""
    if family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return True
    host = str(address[0])
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def guarded(original):
    """``socket.connect``, or its like, for allowed addresses alone."""

    def connect(self: socket.socket, address):
        if not is_allowed(self.family, address):
            raise NetworkForbidden(f"this test is not marked `registry`, and connects to {address}")
        return original(self, address)

    return connect
