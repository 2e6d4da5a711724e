"""Reading index pages on their way through: from a stored body to what :class:`~entrepot.app.facts.Facts` learns."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable

from entrepot.errors import FormatError
from entrepot.heads import Head
from entrepot.links import Link
from entrepot.simple.page import is_simple_type
from entrepot.simple.worker import PageReader

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
