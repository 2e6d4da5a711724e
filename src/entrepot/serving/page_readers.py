"""Reading index pages on their way through.

From a stored body to what :class:`~entrepot.serving.known_files.Facts` learns.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from functools import partial

from entrepot.channel.forms import tells_of_archives
from entrepot.errors import FormatError
from entrepot.links import Link
from entrepot.redaction import SECRET_QUERY, tokens_in
from entrepot.serving.channels import Channels
from entrepot.serving.index_reader import SMALL_CODED_PAGE, PageReader, Span
from entrepot.serving.known_files import Learned, Reader
from entrepot.serving.lookup import Entries
from entrepot.simple.negotiate import decode
from entrepot.simple.page import is_simple_type
from entrepot.stored import Head
from entrepot.worker_pool import WorkerPool


@dataclass(frozen=True, slots=True)
class Readers:
    """What reads the bodies that tell of others."""

    pages: PageReader
    channels: Channels
    pool: WorkerPool
    """What both read large bodies in."""

    async def aclose(self) -> None:
        """End the reading."""
        await self.channels.aclose()
        await self.pool.aclose()


def teaches(url: str, head: Head) -> bool:
    """Whether a body is worth reading for what it says of other files.

    An index page, an index of a channel, a shard.
    """
    return tells_of_archives(url) or may_be_page(
        head.response.head.headers.get("content-type") or ""
    )


def page_reader(
    url: str, head: Head, body: Span, readers: Readers, link: Link | None = None
) -> Reader | None:
    """A function that reads the page in a body, or ``None`` when the body can be no index page.

    Args:
        url: the page's own, to resolve its links against.
        head: of the response the body belongs to.
        body: as stored. A page is taken out of it at once, because it may move afterwards; an index
            of a channel, which may have hundreds of megabytes, is read bit by bit and must stay
            where it is until then.
        readers: read large ones aside.
        link: what is known of the URL itself.
    """
    headers = head.response.head.headers
    content_type = headers.get("content-type") or ""
    if tells_of_archives(url):
        readers.channels.arrived(url, head)
        return partial(readers.channels.learn, url, head, body, link)
    if not may_be_page(content_type):
        return None
    raw = body.whole()

    async def reader() -> Learned:
        try:
            page = await readers.pages.read(
                raw,
                content_type=content_type,
                url=url,
                content_encoding=headers.get("content-encoding"),
            )
        except FormatError:
            return (), ()  # not ours to complain about: the client gets it as it is
        return (page.links, page.hosts) if page is not None else ((), ())

    return reader


async def read_stored(
    url: str, head: Head, entries: Entries, readers: Readers, link: Link | None
) -> Learned:
    """What a stored body teaches."""
    blob = await entries.open_body(head)
    if blob is None:
        return (), ()
    try:
        reader = page_reader(url, head, Span(blob.read, blob.size), readers, link)
        return await reader() if reader is not None else ((), ())
    finally:
        blob.close()


def may_be_page(content_type: str) -> bool:
    """Whether a body of this type is worth reading as an index page.

    A simple API type, or HTML (find-links, old indexes).
    """
    return is_simple_type(content_type) or "html" in content_type.lower()


async def holds_secrets(url: str, head: Head, body: Span, readers: Readers) -> bool:
    """Whether a body is a page, or a channel's index, with credentials in it."""
    headers = head.response.head.headers
    if tells_of_archives(url):
        return await readers.channels.holds_secrets(url, head, body)
    if not may_be_page(headers.get("content-type") or ""):
        return False
    raw, coding = body.whole(), headers.get("content-encoding")
    if len(raw) < SMALL_CODED_PAGE:
        return tells_secrets(url, raw, coding)
    return await asyncio.to_thread(tells_secrets, url, raw, coding)


def tells_secrets(url: str, raw: bytes, content_encoding: str | None) -> bool:
    """Whether a page's text has credentials in it.

    The token of its own URL, signed queries, passwords in links.

    Such a page is never stored, as a redirect to a signed URL is not. A page that cannot be decoded
    tells none.

    >>> tells_secrets("https://index.test/simple/x/", b'<a href="/x-1.0.tar.gz?X-Amz-Signature=ab">', None)
    True
    """
    try:
        text = decode(raw, content_encoding)
    except FormatError:
        return False
    return (
        any(f"/t/{token}/".encode() in text for token in tokens_in(url))
        or _SECRETS(text) is not None
    )


_SECRETS = re.compile(
    rb"""://[^/\s"'<>@:]*:[^/\s"'<>@]+@|(?:[?&;]|\\u0026)(?:"""
    + "|".join(map(re.escape, sorted(SECRET_QUERY))).encode()
    + rb""")=[^\s"'<>&;]""",
    re.IGNORECASE,
).search
