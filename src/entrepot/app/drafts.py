"""From a response to the head that is kept of it: what is known of the distribution, and nothing that is a secret."""

from __future__ import annotations

import dataclasses

from entrepot.app.facts import Expectation
from entrepot.app.policy import has_credentials, without_private_fields
from entrepot.heads import Head, canonical_url, redacted_url
from entrepot.httpcache.messages import RequestHead, StoredResponse
from entrepot.names import classify, filename_of
from entrepot.simple.page import is_simple_type


def draft_head(request: RequestHead, stored: StoredResponse, expectation: Expectation, *, shared: bool, reserve: bool) -> Head:
    """The head of a response whose body is not known yet.

    What the page said of the file goes before what its name says.

    Args:
        request: the client's.
        stored: as the core would keep it.
        expectation: of the body.
        shared: whether the store serves several users.
        reserve: whether it is kept for failure and offline alone.
    """
    link, named = expectation.link, classify(filename_of(request.url))
    kind = named.kind if named is not None else (link.kind if link is not None else "other")
    if kind == "other" and is_simple_type(stored.head.headers.get("content-type") or ""):
        kind = "page"
    return Head(
        url=redacted_url(canonical_url(request.url)),
        method="GET",
        response=dataclasses.replace(stored, head=without_private_fields(stored.head)),
        body=None,
        shared=shared,
        credentialed=has_credentials(request),
        reserve=reserve,
        project=(link and link.project) or (named and named.project) or None,
        version=(link and link.version) or (named and named.version) or None,
        filename=(link and link.filename) or (named and named.filename) or None,
        kind=kind,
        upload_time=link.upload_time if link is not None else None,
    )
