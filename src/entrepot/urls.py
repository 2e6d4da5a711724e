"""URLs: as cache keys, as pages and lock files write them, and whose host they name.

No I/O; nothing here raises on what a remote side can write.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, unquote, urljoin


def canonical_url(url: str) -> str:
    """The URL as cache key.

    Scheme and host in lower case; default port, user and fragment dropped; an empty path is ``/``.
    Nothing else is touched: percent-encoding and query order are the origin's business (RFC 9110
    §4.2.3, RFC 3986 §6.2.3). Never raises; applying it twice changes nothing more.

    >>> canonical_url("HTTPS://u:p@Index.Example:443/simple/?a=B#x")
    'https://index.example/simple/?a=B'
    """
    return _canonical(url) if len(url) <= _LONGEST_CACHED else _canonical.__wrapped__(url)


_LONGEST_CACHED = 1024
"""Characters; longer URLs are taken apart each time, so that hostile ones cannot fill the memory.
"""


@lru_cache(maxsize=1024)  # one request asks twenty times
def _canonical(url: str) -> str:
    scheme, _, authority, tail = split_url(url)
    scheme = scheme or "http"
    host, port = _host_and_port(authority)
    shown = f":{port}" if port and port != _DEFAULT_PORTS.get(scheme) else ""
    return f"{scheme}://{host}{shown}{tail if tail.startswith('/') else '/' + tail}"


def authority_of(url: str) -> str:
    """``HOST:PORT`` of an http or https URL, the port always written, IPv6 in brackets.

    Empty for any other URL.

    >>> authority_of("https://u:p@Index.Example/simple/"), authority_of("http://[::1]:8080/")
    ('index.example:443', '[::1]:8080')
    """
    scheme, _, authority, _ = split_url(url)
    host, port = _host_and_port(authority)
    port = port or _DEFAULT_PORTS.get(scheme, "")
    return (
        f"{host}:{port}"
        if host and scheme in _DEFAULT_PORTS and port.isascii() and port.isdigit()
        else ""
    )


_DEFAULT_PORTS = {"http": "80", "https": "443"}


def split_url(url: str) -> tuple[str, str, str, str]:
    """Scheme in lower case (empty without one), userinfo, authority without it, path with query.

    The fragment is dropped. By RFC 3986 §3, without the checks for which the standard library's
    splitter raises.
    """
    scheme, found, rest = url.partition("://")
    if not found or any(c in scheme for c in "/?#"):
        scheme, rest = "", url
    end = min((i for i in (rest.find(c) for c in "/?#") if i >= 0), default=len(rest))
    user, _, authority = rest[:end].rpartition("@")
    return scheme.lower(), user, authority, rest[end:].partition("#")[0]


def _host_and_port(authority: str) -> tuple[str, str]:
    """Host in lower case and port without leading zeros; a port may be empty (RFC 3986 §3.2.3)."""
    host, colon, port = authority.rpartition(":")
    if not colon or "]" in port or (":" in host and not host.endswith("]")):
        return authority.lower(), ""
    if port.isascii() and port.isdigit():
        port = port.lstrip("0") or "0"
    return host.lower(), port.lower()


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine.

    ``localhost``, names under it, 127.0.0.0/8 and ``::1``, without a port (RFC 6761 §6.3).

    >>> is_loopback("127.0.0.5"), is_loopback("[::1]"), is_loopback("127.example.org")
    (True, True, False)
    """
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    import ipaddress  # noqa: PLC0415 - late: most commands ask nobody

    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


class Resolver:
    """Makes canonical URLs of links, remembering the few hosts that they name.

    Args:
        base: the page's URL or its ``<base>``.
    """

    __slots__ = ("_base", "_known")

    def __init__(self, base: str) -> None:
        self._base = canonical_url(base)
        self._known: dict[str, str] = {}

    def __call__(self, href: str) -> str:
        """The canonical URL; empty when it is none that can be asked for over HTTP."""
        url = href.partition("#")[0]
        if not _IS_CANONICAL(url) or "/." in url:
            url = self._joined(url)
            if not url:
                return ""
        return url if self.authority(url) else ""

    def authority(self, url: str) -> str:
        """``HOST:PORT`` of a canonical URL; empty when no client could connect to it."""
        origin = url[: url.index("/", url.index("://") + 3)]
        authority = self._known.get(origin)
        if authority is None:
            authority = authority_of(url)
            self._known[origin] = authority = authority if _AUTHORITY(authority) else ""
        return authority

    def _joined(self, href: str) -> str:
        try:
            url = urljoin(self._base, href.strip())
            if "/." in url:  # without dot segments, as every client asks (RFC 3986 §5.2.4)
                scheme, _, rest = url.partition("://")
                authority, _, path = rest.partition("/")
                url = urljoin(f"{scheme}://{authority}/", f"/{path}")
            url = quote(url, safe=_ALLOWED)
        except ValueError:
            return ""
        if not url[:8].lower().startswith(("http://", "https://")):
            return ""
        return canonical_url(url)


_ALLOWED = "!#$%&'()*+,/:;=?@[]~"
"""What clients leave as it is in a URL (RFC 3986 §2.2, and the escapes that are there)."""
_IS_CANONICAL = re.compile(r"https://[a-z0-9.-]+/[A-Za-z0-9._~/-]+").fullmatch
_AUTHORITY = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\]):\d{1,5}", re.ASCII).fullmatch
_IS_PLAIN = re.compile(r"https?://[^/]*/[A-Za-z0-9._~/-]*").fullmatch


def spellings(url: str) -> tuple[str, ...]:
    """The URL as it stands, and as pip asks for it when that differs.

    Source: pip 26.3: every part of a path between ``@`` and ``%2F`` is unquoted and quoted again.
    """
    if _IS_PLAIN(url):
        return (url,)
    end = url.find("?")
    start, query = (url, "") if end < 0 else (url[:end], url[end:])
    path = start.index("/", 8)
    parts = re.split("(@|%2[Ff])", start[path:])
    asked = "".join(part.upper() if i % 2 else quote(unquote(part)) for i, part in enumerate(parts))
    other = canonical_url(start[:path] + asked + query)
    return (url,) if other == url else (url, other)
