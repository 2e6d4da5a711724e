"""``Cache-Control`` -> :class:`CacheControl`.

Names are matched without regard to case; unknown directives are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from entrepot.httpcache.fields import MAX_DELTA, delta_seconds, list_members, unquoted
from entrepot.httpcache.messages import Headers

_LONGEST_CACHED = 512
"""Characters; longer values are parsed each time, so that hostile ones cannot fill the memory."""

ESSENTIAL = frozenset(
    (
        "age cache-control content-encoding content-length content-range content-type date etag expires last-modified vary "
        "transfer-encoding"
    ).split()
)
"""Fields without which a stored response cannot be used rightly. ``no-cache`` or ``private`` that
names one of them counts as unqualified: the stricter reading, which RFC 9111 §5.2.2.4 allows."""


@dataclass(frozen=True, slots=True)
class CacheControl:
    """The directives of a request or a response. An absent number is ``None``; numbers are seconds.

    Of a repeated directive the first counts, and a freshness lifetime that is no number counts as
    0: stale at once (RFC 9111 §4.2.1). Quoted and unquoted arguments are the same (§5.2).
    """

    max_age: int | None = None
    s_maxage: int | None = None
    no_cache: bool = False
    no_cache_fields: frozenset[str] = frozenset()
    """Lower-case names out of ``no-cache="..."``."""
    no_store: bool = False
    private: bool = False
    private_fields: frozenset[str] = frozenset()
    """Lower-case names out of ``private="..."``."""
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    immutable: bool = False
    """RFC 8246; the core needs it for nothing, policy may."""
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    max_stale: int | None = None
    """Request only; without an argument any staleness will do: ``MAX_DELTA``."""
    min_fresh: int | None = None
    """Request only."""
    only_if_cached: bool = False
    """Request only."""


NOTHING = CacheControl()
"""No directives at all."""
_NO_CACHE = CacheControl(no_cache=True)


def cache_control(value: str | None) -> CacheControl:
    """The directives of a ``Cache-Control`` value; :data:`NOTHING` when the field is absent.

    Never raises.
    """
    if value is None:
        return NOTHING
    return _cached(value) if len(value) <= _LONGEST_CACHED else _parsed(value)


def response_directives(headers: Headers) -> CacheControl:
    """What a response says about caching.

    The one place that knows which field speaks: targeted fields (RFC 9213) will be looked for here.
    """
    return cache_control(headers.get("cache-control"))


def request_directives(headers: Headers) -> CacheControl:
    """What a request says about caching.

    ``Pragma: no-cache`` counts when there is no ``Cache-Control`` (RFC 9111 §5.4).
    """
    value = headers.get("cache-control")
    if value is not None:
        return cache_control(value)
    pragma = headers.get("pragma")
    if pragma is not None and any(member.lower() == "no-cache" for member in list_members(pragma)):
        return _NO_CACHE
    return NOTHING


def _parsed(value: str) -> CacheControl:
    first: dict[str, str | None] = {}
    qualified: dict[str, list[str | None]] = {"no-cache": [], "private": []}
    for member in list_members(value):
        name, found, argument = member.partition("=")
        name = name.lower()
        text = unquoted(argument) if found else None
        first.setdefault(name, text)
        if name in qualified:
            qualified[name].append(text)
    no_cache, no_cache_fields = _names(qualified["no-cache"])
    private, private_fields = _names(qualified["private"])
    return CacheControl(
        max_age=_lifetime(first, "max-age"),
        s_maxage=_lifetime(first, "s-maxage"),
        no_cache=no_cache,
        no_cache_fields=no_cache_fields,
        no_store="no-store" in first,
        private=private,
        private_fields=private_fields,
        public="public" in first,
        must_revalidate="must-revalidate" in first,
        proxy_revalidate="proxy-revalidate" in first,
        must_understand="must-understand" in first,
        immutable="immutable" in first,
        stale_while_revalidate=_lifetime(first, "stale-while-revalidate"),
        stale_if_error=_lifetime(first, "stale-if-error"),
        max_stale=MAX_DELTA
        if first.get("max-stale", "") is None
        else _lifetime(first, "max-stale"),
        min_fresh=_lifetime(first, "min-fresh"),
        only_if_cached="only-if-cached" in first,
    )


_cached = lru_cache(maxsize=1024)(_parsed)


def _lifetime(directives: dict[str, str | None], name: str) -> int | None:
    """``None`` when absent.

    "Caches are encouraged to consider responses that have invalid freshness information to be
    stale".
    """
    if name not in directives:
        return None
    return delta_seconds(directives[name] or "") or 0


def _names(arguments: list[str | None]) -> tuple[bool, frozenset[str]]:
    """Whether the directive is unqualified, and the field names it is limited to otherwise."""
    names: set[str] = set()
    for argument in arguments:
        named = {name.lower() for name in list_members(argument or "")}
        if not named or named & ESSENTIAL:
            return True, frozenset()
        names |= named
    return False, frozenset(names)
