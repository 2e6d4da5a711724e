"""From a response to the head that is kept of it.

What is known of the distribution, and nothing that is a secret.
"""

from __future__ import annotations

import dataclasses
from urllib.parse import urlsplit

from entrepot.channel.forms import tells_of_archives
from entrepot.httpcache.messages import RequestHead, StoredResponse
from entrepot.names import classify, filename_of, normalize
from entrepot.serving.known_files import Expectation
from entrepot.serving.policy import NEGATIVES, has_credentials, without_private_fields
from entrepot.simple.page import is_simple_type
from entrepot.stored import Head, canonical_url, redacted_url


def draft_head(
    request: RequestHead,
    stored: StoredResponse,
    expectation: Expectation,
    *,
    shared: bool,
    reserve: bool,
) -> Head:
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
    project = (link and link.project) or (named and named.project) or None
    if kind == "other" and tells_of_archives(request.url):
        kind = "page"
    elif kind == "other" and (
        is_index_page(request.url, stored.head.headers.get("content-type") or "")
        or (stored.head.status in NEGATIVES and asks_for_index_page(request))
    ):
        kind, project = "page", project or page_project(request.url)
    return Head(
        url=redacted_url(canonical_url(request.url)),
        method="GET",
        response=dataclasses.replace(stored, head=without_private_fields(stored.head)),
        body=None,
        shared=shared,
        credentialed=has_credentials(request),
        reserve=reserve,
        project=project,
        version=(link and link.version) or (named and named.version) or None,
        filename=(link and link.filename) or (named and named.filename) or None,
        kind=kind,
        upload_time=link.upload_time if link is not None else None,
    )


def is_index_page(url: str, content_type: str) -> bool:
    """Whether a response is an index page by its type, or is HTML where indexes keep their pages (PEP 503: ``/simple/``)."""
    return is_simple_type(content_type) or (
        "html" in content_type.lower() and "/simple/" in urlsplit(url).path
    )


def asks_for_index_page(request: RequestHead) -> bool:
    """Whether a client asks for a project's index page.

    What an index answers that has no such project may be of any type.

    By what it accepts (PEP 691), or by where indexes keep their pages; their URLs end with a slash
    (PEP 503).
    """
    path = urlsplit(request.url).path
    accepted = request.headers.get("accept") or ""
    return path.endswith("/") and ("application/vnd.pypi.simple" in accepted or "/simple/" in path)


def page_project(url: str) -> str | None:
    """The project whose page a URL is, by the last segment of its path (PEP 503).

    ``None`` for the list of all projects.

    >>> page_project("https://index.test/simple/Some_Project/")
    'some-project'
    """
    segments = [segment for segment in urlsplit(url).path.split("/") if segment]
    return normalize(segments[-1]) if len(segments) > 1 and segments[-1] != "simple" else None
