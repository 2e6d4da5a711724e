"""Reading large index pages in a process beside, so that nobody waits for them.

Twenty megabytes of JSON take about a second to read; on the event loop every other client would
stand still for it. :class:`PageReader` reads small pages at once and sends the others to at most
two processes, which answer in slices small enough to be taken in between other work. This module is
both ends: the class, and :func:`main` for the process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entrepot import worker_pool as beside
from entrepot.digests import Digest
from entrepot.errors import FormatError, InvalidPage
from entrepot.links import Link
from entrepot.simple.negotiate import decode
from entrepot.simple.page import Flaw, Page, read_page
from entrepot.worker_pool import Beside, Frame, Span

SMALL = 256 << 10
"""Bytes; a plain page below this is read at once (10 ms or so)."""
SMALL_CODED = 24 << 10
"""The same for a compressed page: pages shrink to a tenth."""
WORKERS = 2
TIMEOUT_S = 60.0
"""Seconds that one page may take, the wait for a free process included."""

_LINKS_PER_SLICE = 150


class PageReader(Beside):
    """Reads index pages without holding up the event loop.

    See :class:`~entrepot.worker_pool.Beside`.
    """

    def __init__(self, *, workers: int = WORKERS, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(__name__, workers=workers, timeout_s=timeout_s)

    async def read(
        self,
        body: bytes | Path,
        *,
        content_type: str,
        url: str,
        content_encoding: str | None = None,
    ) -> Page | None:
        """The page, or ``None`` when it was lost: its process died or took too long.

        A lost page is no error.

        Args:
            body: the page as transferred, or the path of a file that holds it.
            content_type: the field's value.
            url: where it came from.
            content_encoding: the field's value; the coding is undone here.

        Raises:
            InvalidPage: it is no index page, or its coding is unknown or broken.
        """
        small = SMALL_CODED if content_encoding else SMALL
        size = len(body) if isinstance(body, bytes) else _size(body)
        if size is None:
            return None
        if size < small:
            data = body if isinstance(body, bytes) else _content(body)
            return None if data is None else _read(data, content_type, url, content_encoding)
        path = None if isinstance(body, bytes) else str(body)
        question = {"type": content_type, "url": url, "coding": content_encoding, "path": path}
        return await self.ask(question, Span.of(body if isinstance(body, bytes) else b""), _Taker())


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _read(body: bytes, content_type: str, url: str, content_encoding: str | None) -> Page:
    try:
        return read_page(decode(body, content_encoding), content_type=content_type, url=url)
    except InvalidPage:
        raise
    except FormatError as exc:
        raise InvalidPage(exc.message, text=exc.text) from exc


# The parent's side


class _Taker:
    """Puts a page together from its slices."""

    def __init__(self) -> None:
        self._links: list[Link] = []
        self._texts: dict[str | None, str | None] = {}

    def __call__(self, frame: Frame) -> Page | None:
        if "error" in frame:
            raise InvalidPage(frame["error"], text=frame["text"])
        if "hosts" in frame:
            flaw = Flaw(frame["flaw"]) if frame["flaw"] else None
            return Page(frame["project"], self._links, frozenset(frame["hosts"]), flaw)
        source = self._texts.setdefault(frame["source"], frame["source"]) or ""
        self._links += _unpacked(frame["links"], source, self._texts)
        return None


def _packed(link: Link) -> list[Any]:
    digests = [text for digest in link.digests for text in (digest.algorithm, digest.value)]
    return [
        link.url,
        digests,
        link.size,
        link.project,
        link.version,
        link.filename,
        link.kind,
        link.upload_time,
    ]


def _unpacked(
    rows: list[list[Any]], source: str, texts: dict[str | None, str | None]
) -> Iterator[Link]:
    """Links again; ``texts`` keeps one copy of what repeats from file to file."""
    for url, digests, size, project, version, filename, kind, upload_time in rows:
        pairs = tuple(Digest(digests[i], digests[i + 1]) for i in range(0, len(digests), 2))
        same = texts.setdefault
        yield Link(
            url,
            pairs,
            size,
            same(project, project),
            same(version, version),
            filename,
            sys.intern(kind),
            upload_time,
            source,
        )


# The process's side


def main() -> None:
    """Answer questions on standard input until it ends."""
    beside.answer(_answers)


def _answers(question: Frame, pieces: Iterator[bytes]) -> Iterator[Frame]:
    try:
        body = b"".join(pieces) if question["path"] is None else Path(question["path"]).read_bytes()
        page = _read(body, question["type"], question["url"], question["coding"])
    except InvalidPage as exc:
        yield {"error": exc.message, "text": exc.text[:80]}
        return
    source = page.links[0].source if page.links else ""
    for start in range(0, len(page.links), _LINKS_PER_SLICE):
        links = page.links[start : start + _LINKS_PER_SLICE]
        yield {"links": [_packed(link) for link in links], "source": source}
    flaw = page.flaw.value if page.flaw else None
    yield {"project": page.project, "hosts": sorted(page.hosts), "flaw": flaw}
