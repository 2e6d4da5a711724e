"""Which hosts are this machine itself."""

from __future__ import annotations


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own.

    >>> is_loopback("127.0.0.5"), is_loopback("index.test")
    (True, False)
    """
    return host in {"localhost", "::1"} or host.startswith("127.") or host.endswith(".localhost")
