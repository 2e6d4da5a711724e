"""Index pages on their way through: what they teach, and whether a body is what was asked for.

Twenty megabytes of JSON take about a second to read: small pages are read at once, others in the
worker pool (:mod:`entrepot.worker_pool`). What is learned goes to
:class:`~entrepot.serving.known_files.KnownFiles`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from entrepot.channel.forms import index_name, shard_digest, tells_of_archives
from entrepot.errors import FormatError, InvalidPage
from entrepot.httpcache.messages import RequestHead
from entrepot.links import Link
from entrepot.names import classify, filename_of
from entrepot.redaction import SECRET_QUERY, tokens_in
from entrepot.serving.channels import Channels, Span
from entrepot.serving.known_files import KnownFiles, Learned, Reader
from entrepot.serving.lookup import Entries
from entrepot.serving.policy import VERIFIED_STATUSES, asks_for_index_page
from entrepot.serving.reuse import MAX_METADATA, is_metadata, wheel_of
from entrepot.simple.negotiate import (
    LARGEST,
    can_decode,
    decode,
    is_simple_type,
    media_type,
    page_class,
)
from entrepot.simple.page import Flaw, Page, read_page
from entrepot.stored import Head
from entrepot.worker_pool import WorkerPool

SMALL_PAGE = 256 << 10
"""Bytes; a plain page below this is read at once (10 ms or so)."""
SMALL_CODED_PAGE = 24 << 10
"""The same for a compressed page: pages shrink to a tenth."""
PAGE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a whole body may be kept as what was asked for."""

    secret: bool = False
    """It is an index with credentials in it."""
    flaw: str = ""
    """What came instead of an index or metadata, for people; empty: nothing else did."""
    is_doubtful: bool = False
    """Whether the flaw may be this index's way of writing."""


class PageReader:
    """Reads the bodies that tell of other files: index pages, a channel's indexes and shards."""

    def __init__(
        self, entries: Entries, known_files: KnownFiles, channels: Channels, pool: WorkerPool
    ) -> None:
        self.channels = channels
        self._entries = entries
        self._known_files = known_files
        self._pool = pool

    async def aclose(self) -> None:
        """End the reading."""
        await self.channels.aclose()
        await self._pool.aclose()

    def learn(self, url: str, head: Head, body: Span, link: Link | None) -> Reader | None:
        """Have a page read that has come; what reads it, ``None`` when it can be no page.

        Called before anybody has its last byte: requests for its files wait for it.

        A page is taken out of ``body`` at once, because that may move afterwards; an index of a
        channel, which may have hundreds of megabytes, is read bit by bit and must stay where it is
        until then.
        """
        reader = self._reader(url, head, body, link)
        if reader is not None and head.body is not None:
            self._known_files.read(url, state_of(url, head, link), reader)
        return reader

    def learn_stored(self, url: str, head: Head) -> None:
        """Note that this run has a stored page; read it if this catalogue does not know it."""
        if head.body is None or not teaches(url, head):
            return
        link = self._known_files.link(url) if shard_digest(url) is not None else None
        state = state_of(url, head, link)
        if self._known_files.is_read(url, state):
            return

        async def read() -> Learned:
            blob = await self._entries.open_body(head)
            if blob is None:
                return (), ()
            try:
                reader = self._reader(url, head, Span(blob.read, blob.size), link)
                return await reader() if reader is not None else ((), ())
            finally:
                blob.close()

        self._known_files.read(url, state, read)

    def _reader(self, url: str, head: Head, body: Span, link: Link | None) -> Reader | None:
        if tells_of_archives(url):
            self.channels.arrived(url, head)
            return partial(self.channels.learn, url, head, body, link)
        headers = head.response.head.headers
        content_type = headers.get("content-type") or ""
        if not _may_be_page(content_type) or body.size > LARGEST:
            return None
        coding = headers.get("content-encoding")
        return _PageReading(self._pool, body.whole(), url, content_type, coding)

    async def judge(
        self, request: RequestHead, head: Head, body: Span, reader: Reader | None = None
    ) -> Verdict:
        """Whether a whole body may be kept: nothing but a whole index or metadata replaces one.

        Bodies that cannot be read here, for their size, coding or version of the protocol, pass.
        With the body's ``reader``, if there is one already, it is not read twice.
        """
        wanted, url = wants(request, head.kind), request.url
        headers = head.response.head.headers
        content_type, coding = headers.get("content-type") or "", headers.get("content-encoding")
        if wanted and not body.size:
            return Verdict(flaw="an empty body")
        page: Page | None = None

        def other() -> Verdict:
            is_html = page_class(content_type) == "html" and not is_simple_type(content_type)
            is_web_page = is_html or body.read(0, 512).lstrip().startswith(b"<")
            return Verdict(flaw="a web page" if is_web_page else "incomplete or other data")

        try:
            if tells_of_archives(url):
                return Verdict(secret=await self.channels.holds_secrets(url, head, body))
            if wanted == "metadata":
                if not can_decode(coding):
                    return Verdict()
                raw = body.whole() if body.size <= MAX_METADATA else b""  # which is none
                is_right = await _aside(
                    raw, lambda *given: is_metadata(decode(*given, limit=MAX_METADATA)), coding
                )
                return Verdict() if is_right else other()
            may_tell = _may_be_page(content_type) and body.size <= LARGEST
            if may_tell and await _aside(body.whole(), partial(tells_secrets, url), coding):
                return Verdict(secret=True)
            kind = media_type(content_type)
            is_unknown = kind.startswith("application/vnd.") and kind not in _FORMS
            if wanted and not is_unknown and can_decode(coding):
                if body.size > LARGEST:
                    return other()
                if not isinstance(reader, _PageReading):
                    shown = content_type if page_class(content_type) else ""  # its text decides
                    reader = _PageReading(self._pool, body.whole(), url, shown, coding)
                page = await reader.page()
        except FormatError:
            return other()
        if page is None or page.flaw is None:
            return Verdict()
        if page.flaw is Flaw.NO_INDEX:
            return Verdict(flaw="a web page")
        return Verdict(flaw="an incomplete page", is_doubtful=page.flaw is Flaw.OPEN)


_NAMES = ("v1+json", "v1+html", "latest+json", "latest+html")
_FORMS = frozenset(f"application/vnd.pypi.simple.{name}" for name in _NAMES)


class _PageReading:
    """An index page that is read once, for what it teaches and for whether it is one."""

    def __init__(
        self, pool: WorkerPool, raw: bytes, url: str, content_type: str, coding: str | None
    ) -> None:
        self._read = partial(
            read_in_pool, pool, raw, url=url, content_type=content_type, content_encoding=coding
        )
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


async def read_in_pool(
    pool: WorkerPool,
    body: bytes,
    *,
    content_type: str,
    url: str,
    content_encoding: str | None = None,
    timeout_s: float = PAGE_TIMEOUT_S,
) -> Page | None:
    """The page, or ``None`` when it was lost; see :meth:`WorkerPool.run`. A small one is read here.

    ``content_type`` and ``content_encoding`` are the fields' values; the coding is undone here.

    Raises:
        InvalidPage: it is no index page, or its coding is unknown or broken.
    """
    if len(body) < (SMALL_CODED_PAGE if content_encoding else SMALL_PAGE):
        return _read_page(body, content_type, url, content_encoding)
    return await pool.run(timeout_s, _read_page, body, content_type, url, content_encoding)


def _read_page(body: bytes, content_type: str, url: str, content_encoding: str | None) -> Page:
    try:
        return read_page(decode(body, content_encoding), content_type=content_type, url=url)
    except InvalidPage:
        raise
    except FormatError as exc:
        raise InvalidPage(exc.message, text=exc.text) from exc


def teaches(url: str, head: Head) -> bool:
    """Whether a body says something of other files: an index page, a channel's index, a shard."""
    if head.response.head.status not in VERIFIED_STATUSES:
        return False
    return tells_of_archives(url) or _may_be_page(
        head.response.head.headers.get("content-type") or ""
    )


def _may_be_page(content_type: str) -> bool:
    """Of a simple API type, or HTML (find-links, old indexes)."""
    return is_simple_type(content_type) or "html" in content_type.lower()


def state_of(url: str, head: Head, link: Link | None) -> str:
    """What tells a page's content from an earlier one.

    For a shard, also where its archives lie, as seen from the shard: it is written down, and that
    never holds a token (see ``channel.shards.relative``).
    """
    if link is None or shard_digest(url) is None:
        return str(head.body)
    return f"{head.body} {link.source}"


def wants(request: RequestHead, kind: str = "other") -> str:
    """What a request asks for, for people: an index, metadata, or nothing that is judged.

    ``kind`` is the answer's, as :func:`~entrepot.serving.policy.draft_head` found it.
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


async def _aside(raw: bytes, work: Callable[[bytes, str | None], bool], coding: str | None) -> bool:
    if len(raw) < SMALL_CODED_PAGE:
        return work(raw, coding)
    return await asyncio.to_thread(work, raw, coding)


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
    if any(f"/t/{token}/".encode() in text for token in tokens_in(url)):
        return True
    starts = range(0, len(text), STEP)
    return any(_SECRETS(text, max(0, at - OVERLAP), at + STEP) for at in starts)


STEP = 1 << 20
"""Bytes of a page searched at a time: a search holds the interpreter and the event loop."""
OVERLAP = 1 << 16
"""Bytes that are searched again with the next step; no credential is as long."""
_SECRETS = re.compile(
    rb"""://[^/\s"'<>@:]*:[^/\s"'<>@]+@|(?:[?&;]|\\u0026)(?:"""
    + "|".join(map(re.escape, sorted(SECRET_QUERY))).encode()
    + rb""")=[^\s"'<>&;]""",
    re.IGNORECASE,
).search
