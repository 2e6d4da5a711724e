"""URLs as pages and lock files write them, made into the canonical ones that clients will ask for.

Pure; never raises.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urljoin

from entrepot.stored import authority_of, canonical_url


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
        origin = url[: url.index("/", 8)]
        authority = self._known.get(origin)
        if authority is None:
            authority = authority_of(url)
            self._known[origin] = authority = authority if _AUTHORITY(authority) else ""
        return authority

    def _joined(self, href: str) -> str:
        try:
            url = quote(_without_dots(urljoin(self._base, href.strip())), safe=_ALLOWED)
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


def _without_dots(url: str) -> str:
    """Dot segments removed from an absolute URL's path, as every client does before it asks (RFC 3986 §5.2.4)."""
    if "/." not in url:
        return url
    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    return urljoin(f"{scheme}://{authority}/", f"/{path}")


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
