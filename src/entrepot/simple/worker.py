"""Reading large index pages in a process beside, so that nobody waits for them.

Twenty megabytes of JSON take about a second to read; on the event loop every other client would stand still for it.
:class:`PageReader` reads small pages at once and sends the others to at most two processes, which answer in slices small
enough to be taken in between other work. This module is both ends: the class, and :func:`main` for the process.

The processes read no environment and answer nothing but the page. They end with their standard input, so
also when the parent is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from entrepot.digests import Digest
from entrepot.errors import FormatError, InvalidPage
from entrepot.links import Link
from entrepot.simple.negotiate import decode
from entrepot.simple.page import Page, read_page

SMALL = 256 << 10
"""Bytes; a plain page below this is read at once (10 ms or so)."""
SMALL_CODED = 24 << 10
"""The same for a compressed page: pages shrink to a tenth."""
WORKERS = 2
TIMEOUT_S = 60.0
"""Seconds that one page may take, the wait for a free process included."""

_LINKS_PER_SLICE = 150
_BYTES_PER_SLICE = 256 << 10


class PageReader:
    """Reads index pages without holding up the event loop; belongs to one loop.

    Close it with :meth:`aclose`. Nothing is started before the first large page.
    """

    def __init__(self, *, workers: int = WORKERS, timeout_s: float = TIMEOUT_S) -> None:
        self._free = asyncio.Semaphore(workers)
        self._idle: list[Process] = []
        self._all: set[Process] = set()
        self._timeout_s = timeout_s
        self._closed = False

    async def read(self, body: bytes | Path, *, content_type: str, url: str, content_encoding: str | None = None) -> Page | None:
        """The page, or ``None`` when it was lost: its process died or took too long. A lost page is no error.

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
        if self._closed:
            return None
        try:
            async with asyncio.timeout(self._timeout_s), self._free:
                return await self._aside({"type": content_type, "url": url, "coding": content_encoding}, body)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, FormatError) as exc:
            if isinstance(exc, InvalidPage):
                raise
            return None

    async def aclose(self) -> None:
        """End the processes; pages still being read are lost. May be called twice."""
        self._closed = True
        for process in list(self._all):
            await self._end(process)
        self._idle.clear()

    async def _aside(self, question: dict[str, Any], body: bytes | Path) -> Page:
        process = self._idle.pop() if self._idle else await self._start()
        healthy = False
        try:
            page = await _ask(process, question, body)
            healthy = True
        except InvalidPage:
            healthy = True
            raise
        finally:
            if healthy and not self._closed:
                self._idle.append(process)
            else:
                await self._end(process)
        return page

    async def _start(self) -> Process:
        # -I: neither the working directory nor variables decide what is imported there. A session of its own: Ctrl-C in
        # the terminal is for the command that is run; these end with their input.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-c",
            "import sys; sys.path[:0] = sys.argv[1:]; from entrepot.simple.worker import main; main()",
            *_import_path(),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            limit=2 * _BYTES_PER_SLICE,
            start_new_session=True,
        )
        self._all.add(process)
        return process

    async def _end(self, process: Process) -> None:
        self._all.discard(process)
        with suppress(ProcessLookupError):
            process.kill()
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def _import_path() -> list[str]:
    """Where this process imports from; ours first, relative entries left out."""
    return [str(Path(__file__).absolute().parents[2]), *(entry for entry in sys.path if Path(entry).is_absolute())]


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


async def _ask(process: Process, question: dict[str, Any], body: bytes | Path) -> Page:
    import msgpack  # noqa: PLC0415 - late: small pages do without

    assert process.stdin is not None
    assert process.stdout is not None
    question["path"] = None if isinstance(body, bytes) else os.fspath(body)
    content = body if isinstance(body, bytes) else b""
    head = msgpack.packb(question)
    process.stdin.write(b"%08x%08x" % (len(head), len(content)) + head)
    view = memoryview(content)
    for start in range(0, len(content), _BYTES_PER_SLICE):
        process.stdin.write(view[start : start + _BYTES_PER_SLICE])
        await process.stdin.drain()
    links: list[Link] = []
    texts: dict[str | None, str | None] = {}
    while True:
        size = int(await process.stdout.readexactly(8), 16)
        answer = msgpack.unpackb(await process.stdout.readexactly(size))
        if "error" in answer:
            raise InvalidPage(answer["error"], text=answer["text"])
        if "hosts" in answer:
            return Page(answer["project"], links, frozenset(answer["hosts"]))
        source = texts.setdefault(answer["source"], answer["source"]) or ""
        links += _unpacked(answer["links"], source, texts)
        await asyncio.sleep(0)


def _packed(link: Link) -> list[Any]:
    digests = [text for digest in link.digests for text in (digest.algorithm, digest.value)]
    return [link.url, digests, link.size, link.project, link.version, link.filename, link.kind, link.upload_time]


def _unpacked(rows: list[list[Any]], source: str, texts: dict[str | None, str | None]) -> Iterator[Link]:
    """Links again; ``texts`` keeps one copy of what repeats from file to file."""
    for url, digests, size, project, version, filename, kind, upload_time in rows:
        pairs = tuple(Digest(digests[i], digests[i + 1]) for i in range(0, len(digests), 2))
        same = texts.setdefault
        yield Link(
            url, pairs, size, same(project, project), same(version, version), filename, sys.intern(kind), upload_time, source
        )


# The process's side


def main() -> None:
    """Answer questions on standard input until it ends. Source of the framing: the two functions above and below."""
    with suppress(OSError, AttributeError):
        os.nice(5)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while (head := source.read(16)) and len(head) == 16:
        question_size, body_size = int(head[:8], 16), int(head[8:], 16)
        for frame in _answers(source.read(question_size), source.read(body_size)):
            _send(sink, frame)


def _answers(raw: bytes, body: bytes) -> Iterator[dict[str, Any]]:
    import msgpack  # noqa: PLC0415 - late: the parent may never need it

    question = msgpack.unpackb(raw)
    try:
        if question["path"] is not None:
            body = Path(question["path"]).read_bytes()
        page = _read(body, question["type"], question["url"], question["coding"])
    except InvalidPage as exc:
        yield {"error": exc.message, "text": exc.text[:80]}
        return
    source = page.links[0].source if page.links else ""
    for start in range(0, len(page.links), _LINKS_PER_SLICE):
        links = page.links[start : start + _LINKS_PER_SLICE]
        yield {"links": [_packed(link) for link in links], "source": source}
    yield {"project": page.project, "hosts": sorted(page.hosts)}


def _send(sink: BinaryIO, frame: dict[str, Any]) -> None:
    import msgpack  # noqa: PLC0415 - late: the parent may never need it

    raw = msgpack.packb(frame, unicode_errors="replace")
    sink.write(b"%08x" % len(raw) + raw)
    sink.flush()
