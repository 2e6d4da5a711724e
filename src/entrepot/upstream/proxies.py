"""Which requests go through the user's own HTTP proxy: rules read from an environment.

No sockets, no look-ups, no reading of ``os.environ``: the mapping comes in. Credentials of a proxy
are used by ``dial.py`` and shown by nobody; every text made here is free of them.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from entrepot.errors import ConfigError
from entrepot.urls import is_loopback, split_url

_DEFAULT_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host (lower case, an IPv6 address without its brackets) and port of a URL."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """``HOST:PORT``, an IPv6 address in brackets, as CONNECT wants it (RFC 9110 §9.3.6)."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy; ``authorization`` is its whole ``Proxy-Authorization`` value and never shown."""

    scheme: str
    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def split_authority(authority: str, default_port: int) -> tuple[str, int]:
    """Host (lower case, no brackets) and port of ``HOST[:PORT]``.

    >>> split_authority("[::1]:8080", 80), split_authority("Index.Test", 443)
    (('::1', 8080), ('index.test', 443))

    Raises:
        ValueError: no host, or a blank in it, or a port that is no number of 0 to 65535.
    """
    if authority.startswith("["):
        host, closed, rest = authority[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError(f"not HOST:PORT: {authority!r}")
        port = rest[1:]
    else:
        host, _, port = authority.partition(":")
    if (
        not host
        or any(c <= " " or c == "\x7f" for c in host)
        or (port and not (port.isascii() and port.isdigit()))
        or int(port or 0) > 65535
    ):
        raise ValueError(f"not HOST:PORT: {authority!r}")
    return host.lower(), int(port) if port else default_port


def split_origin(url: str) -> Origin:
    """The origin of an absolute URL; user and password are dropped.

    Raises:
        ValueError: not an absolute http or https URL.
    """
    scheme, _, authority, _ = split_url(url)
    if scheme not in {"http", "https"}:
        raise ValueError("not an absolute http or https URL")
    return Origin(scheme, *split_authority(authority, _DEFAULT_PORTS[scheme]))


def parse_proxy(url: str, *, source: str = "") -> Proxy:
    """A proxy from its URL; without a scheme it is ``http``, as curl, pip and requests read it.

    >>> parse_proxy("me:p%40ss@proxy.test:3128")
    Proxy(scheme='http', host='proxy.test', port=3128)

    Raises:
        ConfigError: not a URL with a host.
    """
    scheme, found, rest = url.partition("://")
    if not found:
        scheme, rest = "http", url
    scheme = scheme.lower()
    authority = rest.partition("/")[0].partition("?")[0]  # a password may hold a bare #
    user, _, address = authority.rpartition("@")
    try:
        host, port = split_authority(address, _DEFAULT_PORTS.get(scheme, 80))
    except ValueError as exc:
        # the value may hold a password: only the part after the last @ is shown
        raise ConfigError(
            f"the proxy address {address!r} has no usable host and port",
            name=source,
            value=address,
            source=source,
        ) from exc
    return Proxy(scheme, host, port, basic(user) if user else None)


def basic(userinfo: str) -> str:
    """The Basic credentials of a URL's ``user:password``, percent-decoded (RFC 7617 §2)."""
    user, _, password = userinfo.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()


@dataclass(frozen=True, slots=True)
class ProxyRules:
    """The user's proxies. ``repr`` shows no credentials. Loopback is always asked directly."""

    http: str | None = field(default=None, repr=False)
    https: str | None = field(default=None, repr=False)
    no_proxy: tuple[str, ...] = ()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ProxyRules:
        """The rules of ``http_proxy``, ``https_proxy``, ``all_proxy``, ``no_proxy`` in both cases.

        Lower case wins, and an empty lower-case variable hides the upper-case one (pip, requests,
        urllib, curl). ``ALL_PROXY`` stands in for what the scheme's own variable does not set.
        Upper-case ``HTTP_PROXY`` counts for nothing in a CGI program (``REQUEST_METHOD`` is set):
        there the client chooses its value (CVE-2016-5385).
        """
        cgi = "REQUEST_METHOD" in environ
        every = _either(environ, "all_proxy")
        own = environ.get("http_proxy") if cgi else _either(environ, "http_proxy")
        secure = _either(environ, "https_proxy")
        return cls(
            http=(every if own is None else own) or None,
            https=(every if secure is None else secure) or None,
            no_proxy=tuple((_either(environ, "no_proxy") or "").replace(",", " ").split()),
        )

    def proxy_for(self, url: str) -> str | None:
        """The proxy's URL, credentials included, for one absolute URL; ``None``: ask directly.

        Raises:
            ValueError: ``url`` is not an absolute http or https URL.
        """
        origin = split_origin(url)
        proxy = self.https if origin.scheme == "https" else self.http
        if proxy is None or is_loopback(origin.host):
            return None
        return None if any(_matches(entry, origin) for entry in self.no_proxy) else proxy


def _either(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name, environ.get(name.upper()))
    return None if value is None else value.strip()


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _matches(entry: str, origin: Origin) -> bool:
    """Whether one entry of NO_PROXY covers an origin.

    ``*`` covers all; ``example.org``, ``.example.org`` and ``*.example.org`` cover the domain and
    what lies under it; an address or a network in CIDR notation covers addresses written as such
    (names are not resolved); a port narrows.
    """
    entry = entry.lower()
    if entry == "*":
        return True
    address = _address(origin.host)
    if "/" in entry:
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
        return address is not None and address in network
    exact = _address(entry)
    if exact is None:
        try:
            entry, port = split_authority(entry, origin.port)
        except ValueError:
            return False
        if port != origin.port:
            return False
        exact = _address(entry)
    if exact is not None:
        return address == exact
    suffix = entry.removeprefix("*").lstrip(".").rstrip(".")
    host = origin.host.rstrip(".")
    return address is None and bool(suffix) and (host == suffix or host.endswith("." + suffix))
