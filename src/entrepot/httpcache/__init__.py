"""A sans-IO HTTP cache: RFC 9110, 9111, 5861, 9211; room for 9213. No sockets, files, clock or logger.

::

    decision = lookup(request, candidates, now=now, shared=False)
    match decision:
        case Hit(entry, age): ...                   # reply(request, entry, age=age, size=entry.size)
        case Stale() | Miss() | Bypass(): ...       # send decision.forward, then on_response(...) or on_failure(...)

It decides and computes heads; bodies, bytes, storage and the policy for packages are elsewhere.
"""

from entrepot.httpcache.cache_status import cache_status
from entrepot.httpcache.conditional import unconditional
from entrepot.httpcache.directives import CacheControl, cache_control, request_directives, response_directives
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
from entrepot.httpcache.policy import Reason, StaleUse, can_reuse_for, is_storable, selecting_values
from entrepot.httpcache.reply import Reply, reply

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
