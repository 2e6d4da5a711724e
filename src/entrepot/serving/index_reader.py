"""Index pages and repodata read without holding up the event loop.

Twenty megabytes of JSON take about a second to read. Small bodies are read at once, the others in
the worker pool (:mod:`entrepot.worker_pool`). Which body is an index, and what is done with what it
says, is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.channel.repodata import Repodata, read_repodata
from entrepot.errors import FormatError, InvalidPage, InvalidRepodata, RepodataTooLarge
from entrepot.links import Link
from entrepot.simple.negotiate import decode
from entrepot.simple.page import Page, read_page
from entrepot.worker_pool import WorkerPool

SMALL_PAGE = 256 << 10
"""Bytes; a plain page below this is read at once (10 ms or so)."""
SMALL_CODED_PAGE = 24 << 10
"""The same for a compressed page: pages shrink to a tenth."""
PAGE_TIMEOUT_S = 60.0

SMALL = 16 << 10
"""Bytes; repodata below this is read at once, unless it swells to more than :data:`SMALL_TEXT`."""
SMALL_TEXT = 256 << 10
TIMEOUT_S = 300.0
SENT = 32 << 20
"""Bytes that are sent to a worker; longer bodies reach it in a temporary file."""
KEPT = 64
"""Indexes kept in memory."""
KEPT_RECORDS = 4_000_000
"""Records kept in memory, of all indexes: 256 MB. The largest channels have one million."""

_PIECE = 256 << 10


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes that can be read: a whole body, wherever it is."""

    read: Callable[[int, int], bytes]
    """Gives at most ``count`` bytes from ``start``."""
    size: int

    @classmethod
    def of(cls, data: bytes) -> Span:
        """Of bytes in memory."""
        return cls(lambda start, count: data[start : start + count], len(data))

    def whole(self) -> bytes:
        """All of it."""
        return self.read(0, self.size)

    def pieces(self) -> Iterator[bytes]:
        """All of it, piece by piece; short when it was cut meanwhile."""
        at = 0
        while at < self.size and (piece := self.read(at, min(_PIECE, self.size - at))):
            at += len(piece)
            yield piece


class PageReader:
    """Reads index pages."""

    def __init__(self, pool: WorkerPool, *, timeout_s: float = PAGE_TIMEOUT_S) -> None:
        self._pool = pool
        self._timeout_s = timeout_s

    async def read(
        self, body: bytes, *, content_type: str, url: str, content_encoding: str | None = None
    ) -> Page | None:
        """The page, or ``None`` when it was lost; see :meth:`WorkerPool.run`.

        Args:
            body: the page as transferred.
            content_type: the field's value.
            url: where it came from.
            content_encoding: the field's value; the coding is undone here.

        Raises:
            InvalidPage: it is no index page, or its coding is unknown or broken.
        """
        if len(body) < (SMALL_CODED_PAGE if content_encoding else SMALL_PAGE):
            return _read_page(body, content_type, url, content_encoding)
        return await self._pool.run(
            self._timeout_s, _read_page, body, content_type, url, content_encoding
        )


def _read_page(body: bytes, content_type: str, url: str, content_encoding: str | None) -> Page:
    try:
        return read_page(decode(body, content_encoding), content_type=content_type, url=url)
    except InvalidPage:
        raise
    except FormatError as exc:
        raise InvalidPage(exc.message, text=exc.text) from exc


class RepodataReader:
    """Reads repodata and answers what it says of an archive."""

    def __init__(self, pool: WorkerPool, *, timeout_s: float = TIMEOUT_S) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._known: dict[str, Repodata] = {}
        """The latest last."""
        self._reading: dict[str, asyncio.Task[Repodata | None]] = {}

    def has(self, key: str) -> bool:
        """Whether an index is known, or is being read."""
        return key in self._known or key in self._reading

    async def read(
        self, key: str, body: Span, *, url: str, codings: Sequence[str] = ()
    ) -> Repodata | None:
        """An index, read once however often it is asked for; ``None`` when it was lost.

        Args:
            key: what it is known under afterwards; of its own for each content of each URL.
            body: the index as transferred; readable until this is done.
            url: its own.
            codings: in what it was packed for the transfer.

        Raises:
            InvalidRepodata: it is no index.
        """
        if key in self._known:
            return self._known[key]
        task = self._reading.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._read(key, body, url, codings))
            self._reading[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    def _ended(self, key: str, task: asyncio.Task[Repodata | None]) -> None:
        del self._reading[key]
        if not task.cancelled():
            task.exception()  # told to those who wait; nobody may be left

    async def _read(
        self, key: str, body: Span, url: str, codings: Sequence[str]
    ) -> Repodata | None:
        found = None
        if body.size <= SMALL:
            with suppress(RepodataTooLarge):
                found = read_repodata(body.pieces(), url=url, codings=codings, limit=SMALL_TEXT)
        if found is None:
            found = await self._read_in_pool(body, url, codings)
        if found is not None:
            self._known[key] = found
            count = sum(len(each.table) for each in self._known.values())
            while len(self._known) > 1 and (len(self._known) > KEPT or count > KEPT_RECORDS):
                count -= len(self._known.pop(next(iter(self._known))).table)
        return found

    async def _read_in_pool(self, body: Span, url: str, codings: Sequence[str]) -> Repodata | None:
        if body.size <= SENT:
            data = b"".join(body.pieces())
            if len(data) < body.size:
                return None
            return await self._pool.run(self._timeout_s, _read_repodata, data, url, codings)
        with suppress(OSError), tempfile.TemporaryFile() as file:
            for piece in body.pieces():
                file.write(piece)
                await asyncio.sleep(0)
            file.flush()
            # The file has no name that could be left behind; the worker opens it by our descriptor.
            path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
            if file.tell() == body.size:
                return await self._pool.run(self._timeout_s, _read_repodata, path, url, codings)
        return None

    async def find(self, key: str, filename: str) -> Link | None:
        """What an index says of an archive.

        ``None`` when it does not list it, was never read, or was lost.
        """
        task = self._reading.get(key)
        if task is not None:
            with suppress(InvalidRepodata):
                await asyncio.shield(task)
        found = self._known.get(key)
        return found.link(filename) if found is not None else None

    async def aclose(self) -> None:
        """Read no further, and forget what was read."""
        for task in list(self._reading.values()):
            task.cancel()
        self._known.clear()


def _read_repodata(source: bytes | str, url: str, codings: Sequence[str]) -> Repodata:
    if isinstance(source, bytes):
        return read_repodata(Span.of(source).pieces(), url=url, codings=codings)
    with Path(source).open("rb") as file:
        return read_repodata(iter(lambda: file.read(_PIECE), b""), url=url, codings=codings)
