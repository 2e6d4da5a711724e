"""Pages for older clients.

What was stored in JSON, given to a tool that reads HTML alone when upstream cannot be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from entrepot.errors import FormatError
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead
from entrepot.serving.lookup import Entries
from entrepot.simple.html import CONTENT_TYPE, html_page
from entrepot.simple.negotiate import acceptable, decode, page_class
from entrepot.stored import Head

Found = tuple[Head, ResponseHead, bytes]


async def written_as_html(
    request: RequestHead, heads: Iterable[Head], entries: Entries
) -> Found | None:
    """The newest page that is stored in JSON.

    Its head, and the answer in HTML, without content for a HEAD.

    ``None`` if there is none or the client takes no HTML.
    """
    if not acceptable(request.headers.get("accept"), CONTENT_TYPE) or "range" in request.headers:
        return None
    pages = [
        head
        for head in heads
        if head.response.head.status == 200 and not _is_personal(head) and _is_json(head)
    ]
    for head in sorted(pages, key=lambda each: each.response.response_time, reverse=True):
        blob = await entries.open_body(head)
        if blob is None:
            continue
        try:
            raw = blob.read(0, blob.size)
        finally:
            blob.close()
        try:
            page = await asyncio.to_thread(
                _html, raw, head.response.head.headers.get("content-encoding")
            )
        except FormatError:
            continue
        answer = ResponseHead(200, Headers([("Content-Type", CONTENT_TYPE)]), "OK")
        return head, answer, page if request.method == "GET" else b""
    return None


def _html(raw: bytes, coding: str | None) -> bytes:
    return html_page(decode(raw, coding))


def _is_json(head: Head) -> bool:
    return page_class(head.response.head.headers.get("content-type") or "") == "json"


def _is_personal(head: Head) -> bool:
    return any(name in {"authorization", "cookie"} for name, _ in head.response.vary)
