"""Short spellings of requests and responses, for the tables of the cache core's tests.

Keyword ``max_age`` is field ``Max-Age``.
"""

from entrepot.httpcache import (
    Headers,
    RequestHead,
    ResponseHead,
    StoredResponse,
    format_date,
    lookup,
    on_response,
)

NOW = 1_800_000_000.0
URL = "https://index.test/simple/example/"
KEPT = "max-age=600"


def fields(named):
    """Headers of keywords; a tuple is several lines, ``None`` is left out."""
    lines = []
    for name, value in named.items():
        values = value if isinstance(value, tuple) else (value,)
        lines += [(name.replace("_", "-"), each) for each in values if each is not None]
    return Headers(lines)


def get(url=URL, *, method="GET", **named):
    return RequestHead(method, url, fields(named))


def answer(status=200, **named):
    return ResponseHead(status, fields(named), "OK" if status == 200 else "")


def stored(
    status=200, *, took=0.0, size=10, vary=(), invalidated=False, key="k", since=NOW, **named
):
    """A response that arrived at ``since`` (default: now), whose request was sent ``took`` seconds before."""
    return StoredResponse(
        answer(status, **named), vary, since - took, since, size, invalidated, key
    )


def when(offset):
    """The HTTP date so many seconds from now."""
    return format_date(NOW + offset)


def decide(request, *entries, after=0.0, shared=False, **options):
    return lookup(request, entries, now=NOW + after, shared=shared, **options)


def arrive(decision, request, response, *, shared=False, at=NOW):
    return on_response(
        decision, request, response, request_time=at, response_time=at, shared=shared
    )
