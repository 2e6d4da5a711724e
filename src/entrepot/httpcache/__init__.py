"""A sans-IO HTTP cache: RFC 9110, 9111, 5861, 9211; room for 9213.

No sockets, files, clock or logger. It decides and computes heads; bodies, bytes, storage and the
policy for packages are elsewhere.

::

    decision = lookup(request, candidates, now=now, shared=False)
    match decision:
        # Reply(request, entry, age=age, size=entry.size)
        case Hit(entry, age): ...
        # Send decision.forward, then on_response(...) or on_failure(...)
        case Stale() | Miss() | Bypass(): ...

Import names from their modules, so that a command that needs values alone pays for nothing else:

- ``messages``: Headers, RequestHead, ResponseHead, StoredResponse
- ``exchange``: lookup, revalidation, on_response, on_failure, invalidated_urls;
  Decision (Hit, Stale, Miss, Bypass); Action (Store, Refresh, Discard)
- ``policy``: Reason, StaleUse, is_storable, can_reuse_for, selecting_values
- ``freshness``: current_age, freshness_lifetime
- ``conditional``: unconditional; ``answering``: Reply, reply; ``partial``: byte ranges
- ``directives``: CacheControl, cache_control, request_directives, response_directives
- ``fields``: EntityTag, entity_tag, http_date, format_date, forwardable
- ``status_field``: cache_status
"""
