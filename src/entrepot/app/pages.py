"""Reading index pages on their way through: from a stored body to what :class:`~entrepot.app.facts.Facts` learns."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable

from entrepot.errors import FormatError
from entrepot.heads import SECRET_QUERY, Head, tokens_in
from entrepot.links import Link
from entrepot.simple.negotiate import decode
from entrepot.simple.page import is_simple_type
from entrepot.simple.worker import SMALL_CODED, PageReader

Learned = tuple[Iterable[Link], Iterable[str]]
Reader = Callable[[], Coroutine[None, None, Learned]]


def page_reader(url: str, head: Head, read: Callable[[], bytes], pages: PageReader) -> Reader | None:
    """A function that reads the page in a body, or ``None`` when the body can be no index page.

    Args:
        url: the page's own, to resolve its links against.
        head: of the response the body belongs to.
        read: gives the whole body as stored; called at once, because the body may move afterwards.
        pages: reads large ones aside.
    """
    headers = head.response.head.headers
    content_type = headers.get("content-type") or ""
    if not may_be_page(content_type):
        return None
    raw = read()

    async def reader() -> Learned:
        try:
            page = await pages.read(raw, content_type=content_type, url=url, content_encoding=headers.get("content-encoding"))
        except FormatError:
            return (), ()  # not ours to complain about: the client gets it as it is
        return (page.links, page.hosts) if page is not None else ((), ())

    return reader


def may_be_page(content_type: str) -> bool:
    """Whether a body of this type is worth reading as an index page: a simple API type, or HTML (find-links, old indexes)."""
    return is_simple_type(content_type) or "html" in content_type.lower()


async def holds_secrets(url: str, head: Head, read: Callable[[], bytes]) -> bool:
    """Whether a body is a page with credentials in it; ``read`` gives the whole body as stored."""
    headers = head.response.head.headers
    if not may_be_page(headers.get("content-type") or ""):
        return False
    raw, coding = read(), headers.get("content-encoding")
    if len(raw) < SMALL_CODED:
        return tells_secrets(url, raw, coding)
    return await asyncio.to_thread(tells_secrets, url, raw, coding)


def tells_secrets(url: str, raw: bytes, content_encoding: str | None) -> bool:
    """Whether a page's text has credentials in it: the token of its own URL, signed queries, passwords in links.

    Such a page is never stored, as a redirect to a signed URL is not (design.md §3). A page that cannot be decoded tells none.

    >>> tells_secrets("https://index.test/simple/x/", b'<a href="/x-1.0.tar.gz?X-Amz-Signature=ab">', None)
    True
    """
    try:
        text = decode(raw, content_encoding)
    except FormatError:
        return False
    return any(f"/t/{token}/".encode() in text for token in tokens_in(url)) or _SECRETS(text) is not None


_SECRETS = re.compile(
    rb"""://[^/\s"'<>@:]*:[^/\s"'<>@]+@|(?:[?&;]|\\u0026)(?:"""
    + "|".join(map(re.escape, sorted(SECRET_QUERY))).encode()
    + rb""")=[^\s"'<>&;]""",
    re.IGNORECASE,
).search
