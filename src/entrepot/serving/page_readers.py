"""Reading index pages on their way through.

From a stored body to what :class:`~entrepot.serving.known_files.KnownFiles` learns.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from entrepot.channel.forms import index_name, shard_digest, tells_of_archives
from entrepot.errors import FormatError
from entrepot.httpcache.messages import RequestHead
from entrepot.links import Link
from entrepot.names import classify, filename_of
from entrepot.redaction import SECRET_QUERY, tokens_in
from entrepot.serving.channels import Channels
from entrepot.serving.index_reader import SMALL_CODED_PAGE, PageReader, Span
from entrepot.serving.known_files import KnownFiles, Learned, Reader
from entrepot.serving.lookup import Entries
from entrepot.serving.policy import VERIFIED_STATUSES, asks_for_index_page
from entrepot.serving.reuse import MAX_METADATA, is_metadata, wheel_of
from entrepot.simple.negotiate import LARGEST, can_decode, decode, page_class
from entrepot.simple.page import Flaw, Page, is_simple_type
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
    """Whether a body says something of other files: an index page, a channel's index, a shard."""
    if head.response.head.status not in VERIFIED_STATUSES:
        return False
    return tells_of_archives(url) or may_be_page(
        head.response.head.headers.get("content-type") or ""
    )


class PageReading:
    """An index page that is read once, for what it teaches and for whether it is one.

    Args:
        readers: read large ones aside.
        raw: as transferred.
        url: its own, to resolve its links against.
        content_type, coding: values of Content-Type and Content-Encoding.
    """

    def __init__(
        self,
        readers: Readers,
        raw: bytes,
        *,
        url: str,
        content_type: str,
        coding: str | None,
    ) -> None:
        read = readers.pages.read
        self._read = partial(read, raw, url=url, content_type=content_type, content_encoding=coding)
        self._found: asyncio.Future[Page | FormatError | None] | None = None

    async def page(self) -> Page | None:
        """The page; ``None`` when it was lost.

        Raises:
            InvalidPage: it is no index page.
        """
        if self._found is None:
            self._found = asyncio.get_running_loop().create_future()
            found: Page | FormatError | None = None
            try:  # here and not in a task: what a small page teaches is known in the same step
                found = await self._read()
            except FormatError as exc:
                found = exc
            finally:
                self._found.set_result(found)
        found = await asyncio.shield(self._found)
        if isinstance(found, FormatError):
            raise found
        return found

    async def __call__(self) -> Learned:
        """Its links and hosts."""
        try:
            page = await self.page()
        except FormatError:
            return (), ()  # not ours to complain about: the client gets it as it is
        return (page.links, page.hosts) if page is not None else ((), ())


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
    if not may_be_page(content_type) or body.size > LARGEST:
        return None
    coding = headers.get("content-encoding")
    return PageReading(readers, body.whole(), url=url, content_type=content_type, coding=coding)


def state_of(url: str, head: Head, link: Link | None) -> str:
    """What tells a page's content from an earlier one.

    For a shard, also where its archives lie, as seen from the shard: it is written down, and that
    never holds a token (see ``channel.shards.relative``).
    """
    if link is None or shard_digest(url) is None:
        return str(head.body)
    return f"{head.body} {link.source}"


def learn_stored(
    url: str, head: Head, known_files: KnownFiles, entries: Entries, readers: Readers
) -> None:
    """Note that this run has a stored page; read it if this catalogue does not know it."""
    if head.body is None or not teaches(url, head):
        return
    link = known_files.link(url) if shard_digest(url) is not None else None
    state = state_of(url, head, link)
    if not known_files.is_read(url, state):
        known_files.read(url, state, partial(read_stored, url, head, entries, readers, link))


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a whole body may be kept as what was asked for."""

    secret: bool = False
    """It is an index with credentials in it."""
    flaw: str = ""
    """What came instead of an index or metadata, for people; empty: nothing else did."""
    is_doubtful: bool = False
    """Whether the flaw may be this index's way of writing."""


def wants(request: RequestHead, kind: str = "other") -> str:
    """What a request asks for, for people: an index, metadata, or nothing that is judged.

    Args:
        request: a client's.
        kind: of the answer, as :func:`~entrepot.serving.policy.draft_head` found it.
    """
    if wheel_of(request.url) is not None:
        return "metadata"
    if index_name(request.url) is not None:
        return "an index"
    if shard_digest(request.url) is not None or classify(filename_of(request.url)) is not None:
        return ""
    accepted = request.headers.get("accept") or ""
    if kind == "page" or asks_for_index_page(request) or "application/vnd.pypi.simple" in accepted:
        return "an index"
    return ""


async def judged(
    request: RequestHead,
    head: Head,
    body: Span,
    readers: Readers,
    reader: Reader | None = None,
) -> Verdict:
    """Whether a whole body may be kept: nothing but a whole index or metadata file replaces one.

    Bodies that cannot be read here, for their size, coding or version of the protocol, pass.

    Args:
        request: the client's.
        head: of the response.
        body: as transferred.
        readers: read large ones aside.
        reader: of the body, if there is one already: then it is not read twice.
    """
    wanted, url = wants(request, head.kind), request.url
    if wanted and not body.size:
        return Verdict(flaw="an empty body")
    try:
        if tells_of_archives(url):
            return Verdict(secret=await readers.channels.holds_secrets(url, head, body))
        if wanted == "metadata":
            return await _judged_metadata(head, body)
        if await _holds_secrets(url, head, body):
            return Verdict(secret=True)
        page = await _page(url, head, body, readers, reader) if wanted else None
    except FormatError:
        return Verdict(flaw=_looks_like(head, body))
    if page is None or page.flaw is None:
        return Verdict()
    if page.flaw is Flaw.NO_INDEX:
        return Verdict(flaw="a web page")
    return Verdict(flaw="an incomplete page", is_doubtful=page.flaw is Flaw.OPEN)


async def _judged_metadata(head: Head, body: Span) -> Verdict:
    coding = head.response.head.headers.get("content-encoding")
    if not can_decode(coding):
        return Verdict()
    if body.size > MAX_METADATA:
        return Verdict(flaw=_looks_like(head, body))
    raw = body.whole()
    is_right = await _aside(len(raw), lambda: is_metadata(decode(raw, coding, limit=MAX_METADATA)))
    return Verdict() if is_right else Verdict(flaw=_looks_like(head, body))


async def _page(
    url: str,
    head: Head,
    body: Span,
    readers: Readers,
    reader: Reader | None,
) -> Page | None:
    """The page that a body is; ``None`` when it cannot be judged.

    Raises:
        FormatError: it is none.
    """
    headers = head.response.head.headers
    content_type, coding = headers.get("content-type") or "", headers.get("content-encoding")
    media_type = content_type.partition(";")[0].strip().lower()
    is_unknown = media_type.startswith("application/vnd.") and media_type not in _FORMS
    if is_unknown or not can_decode(coding):
        return None
    if body.size > LARGEST:
        raise FormatError(f"an index page of {body.size} bytes")
    if not isinstance(reader, PageReading):
        shown = content_type if page_class(content_type) else ""  # else its first character decides
        reader = PageReading(readers, body.whole(), url=url, content_type=shown, coding=coding)
    return await reader.page()


_NAMES = ("v1+json", "v1+html", "latest+json", "latest+html")
_FORMS = frozenset(f"application/vnd.pypi.simple.{name}" for name in _NAMES)


def _looks_like(head: Head, body: Span) -> str:
    """What a body is that is not what was asked for, for people."""
    content_type = head.response.head.headers.get("content-type") or ""
    is_html = page_class(content_type) == "html" and not is_simple_type(content_type)
    is_page = is_html or body.read(0, 512).lstrip().startswith(b"<")
    return "a web page" if is_page else "incomplete or other data"


async def _holds_secrets(url: str, head: Head, body: Span) -> bool:
    """Whether a body is a page with credentials in it."""
    headers = head.response.head.headers
    if not may_be_page(headers.get("content-type") or "") or body.size > LARGEST:
        return False
    raw, coding = body.whole(), headers.get("content-encoding")
    return await _aside(len(raw), lambda: tells_secrets(url, raw, coding))


async def _aside(size: int, work: Callable[[], bool]) -> bool:
    return work() if size < SMALL_CODED_PAGE else await asyncio.to_thread(work)


def tells_secrets(url: str, raw: bytes, content_encoding: str | None) -> bool:
    """Whether a page's text has credentials in it.

    The token of its own URL, signed queries, passwords in links.

    Such a page is never stored, as a redirect to a signed URL is not. A page that cannot be decoded
    tells none.

    >>> page = b'<a href="/x-1.0.tar.gz?X-Amz-Signature=ab">'
    >>> tells_secrets("https://index.test/simple/x/", page, None)
    True
    """
    try:
        text = decode(raw, content_encoding)
    except FormatError:
        return False
    return any(f"/t/{token}/".encode() in text for token in tokens_in(url)) or _has_secret(text)


STEP = 1 << 20
"""Bytes of a page searched at a time: a search holds the interpreter and the event loop."""
OVERLAP = 1 << 16
"""Bytes that are searched again with the next step; no credential is as long."""


def _has_secret(text: bytes) -> bool:
    starts = range(0, len(text), STEP)
    return any(_SECRETS(text, max(0, at - OVERLAP), at + STEP) for at in starts)


_SECRETS = re.compile(
    rb"""://[^/\s"'<>@:]*:[^/\s"'<>@]+@|(?:[?&;]|\\u0026)(?:"""
    + "|".join(map(re.escape, sorted(SECRET_QUERY))).encode()
    + rb""")=[^\s"'<>&;]""",
    re.IGNORECASE,
).search
