"""A sans-IO HTTP cache: RFC 9110, 9111, 5861, 9211; room for 9213.

No sockets, files, clock or logger.

::

    decision = lookup(request, candidates, now=now, shared=False)
    match decision:
        # Reply(request, entry, age=age, size=entry.size)
        case Hit(entry, age): ...
        # Send decision.forward, then on_response(...) or on_failure(...)
        case Stale() | Miss() | Bypass(): ...

It decides and computes heads; bodies, bytes, storage and the policy for packages are elsewhere.

The names are fetched from their modules when they are first used: whoever needs a stored head's
values alone, as ``status`` and ``list`` do, does not pay for the rules.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entrepot.httpcache.answering import Reply, reply
    from entrepot.httpcache.conditional import unconditional
    from entrepot.httpcache.directives import (
        CacheControl,
        cache_control,
        request_directives,
        response_directives,
    )
    from entrepot.httpcache.exchange import (
        Action,
        Bypass,
        Decision,
        Discard,
        Hit,
        Miss,
        Refresh,
        Stale,
        Store,
        forward_reason,
        invalidated_urls,
        lookup,
        on_failure,
        on_response,
        revalidation,
    )
    from entrepot.httpcache.fields import EntityTag, entity_tag, format_date, forwardable, http_date
    from entrepot.httpcache.freshness import current_age, freshness_lifetime
    from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead, StoredResponse
    from entrepot.httpcache.policy import (
        Reason,
        StaleUse,
        can_reuse_for,
        is_storable,
        selecting_values,
    )
    from entrepot.httpcache.status_field import cache_status

__all__ = [
    "Action",
    "Bypass",
    "CacheControl",
    "Decision",
    "Discard",
    "EntityTag",
    "Headers",
    "Hit",
    "Miss",
    "Reason",
    "Refresh",
    "Reply",
    "RequestHead",
    "ResponseHead",
    "Stale",
    "StaleUse",
    "Store",
    "StoredResponse",
    "cache_control",
    "cache_status",
    "can_reuse_for",
    "current_age",
    "entity_tag",
    "format_date",
    "forward_reason",
    "forwardable",
    "freshness_lifetime",
    "http_date",
    "invalidated_urls",
    "is_storable",
    "lookup",
    "on_failure",
    "on_response",
    "reply",
    "request_directives",
    "response_directives",
    "revalidation",
    "selecting_values",
    "unconditional",
]

_WHERE = {
    "Action": "exchange",
    "Bypass": "exchange",
    "CacheControl": "directives",
    "Decision": "exchange",
    "Discard": "exchange",
    "EntityTag": "fields",
    "Headers": "messages",
    "Hit": "exchange",
    "Miss": "exchange",
    "Reason": "policy",
    "Refresh": "exchange",
    "Reply": "answering",
    "RequestHead": "messages",
    "ResponseHead": "messages",
    "Stale": "exchange",
    "StaleUse": "policy",
    "Store": "exchange",
    "StoredResponse": "messages",
    "cache_control": "directives",
    "cache_status": "status_field",
    "can_reuse_for": "policy",
    "current_age": "freshness",
    "entity_tag": "fields",
    "format_date": "fields",
    "forward_reason": "exchange",
    "forwardable": "fields",
    "freshness_lifetime": "freshness",
    "http_date": "fields",
    "invalidated_urls": "exchange",
    "is_storable": "policy",
    "lookup": "exchange",
    "on_failure": "exchange",
    "on_response": "exchange",
    "reply": "answering",
    "request_directives": "directives",
    "response_directives": "directives",
    "revalidation": "exchange",
    "selecting_values": "policy",
    "unconditional": "conditional",
}
"""Public name -> the module it stands in."""


def __getattr__(name: str) -> Any:
    """Fetch a public name (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    return value
