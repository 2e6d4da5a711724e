"""Repodata read beside and kept at hand, so that a million records hold up nobody and are sent nowhere.

Small indexes are read at once. The others go to at most two processes, each of which keeps the
tables that it has made; the parent asks for the archives that somebody wants. A process that is
lost takes its tables along: they are read again when they are needed. This module is both ends:
:class:`IndexReader`, and :func:`main` for the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from entrepot import worker_pool as beside
from entrepot.channel.records import Record
from entrepot.channel.repodata import Repodata, read_repodata
from entrepot.errors import InvalidRepodata, RepodataTooLarge
from entrepot.links import Link
from entrepot.worker_pool import Beside, Frame, Span

SMALL = 16 << 10
"""Bytes; an index below this is read at once, unless it swells to more than :data:`SMALL_TEXT`."""
SMALL_TEXT = 256 << 10
WORKERS = 2
TIMEOUT_S = 300.0
"""Seconds that one index may take, those before it in the same process included."""
KEPT_SMALL = 64
"""Small indexes kept at hand."""
KEPT_ROWS = 4_000_000
"""Records that one process keeps: 256 MB."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What an index says besides its records."""

    base: str
    """See :class:`~entrepot.channel.repodata.Repodata`; so the others."""
    hosts: frozenset[str]
    secret: bool
    is_index: bool


class IndexReader:
    """Reads indexes and answers what they say of an archive; belongs to one event loop.

    Close it with :meth:`aclose`.
    """

    def __init__(self, *, workers: int = WORKERS, timeout_s: float = TIMEOUT_S) -> None:
        self._small: dict[str, Repodata] = {}
        self._processes = [Beside(__name__, workers=1, timeout_s=timeout_s) for _ in range(workers)]
        self._homes: dict[str, tuple[Beside, Summary]] = {}
        self._reading: dict[str, asyncio.Task[Summary | None]] = {}
        self._begun = 0

    def has(self, key: str) -> bool:
        """Whether an index was read, or is being read."""
        return key in self._small or key in self._homes or key in self._reading

    async def read(
        self, key: str, body: Span, *, url: str, codings: Sequence[str] = ()
    ) -> Summary | None:
        """Read an index, once however often it is asked for; ``None`` when it was lost.

        Args:
            key: what it is known under afterwards; of its own for each content of each URL.
            body: the index as transferred; readable until this is done.
            url: its own.
            codings: in what it was packed for the transfer.

        Raises:
            InvalidRepodata: it is no index.
        """
        if key in self._small:
            return _summary(self._small[key])
        if key in self._homes:
            return self._homes[key][1]
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.get_running_loop().create_task(
                self._read(key, body, url, codings)
            )
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    def _ended(self, key: str, task: asyncio.Task[Summary | None]) -> None:
        del self._reading[key]
        if not task.cancelled():
            task.exception()  # told to those who wait; if nobody does, nobody need know

    async def _read(self, key: str, body: Span, url: str, codings: Sequence[str]) -> Summary | None:
        if body.size <= SMALL:
            with suppress(RepodataTooLarge):
                found = read_repodata(body.pieces(), url=url, codings=codings, limit=SMALL_TEXT)
                while len(self._small) >= KEPT_SMALL:
                    del self._small[next(iter(self._small))]
                self._small[key] = found
                return _summary(found)
        home = self._processes[self._begun % len(self._processes)]
        self._begun += 1
        summary = await home.ask(
            {"read": key, "url": url, "codings": list(codings)}, body, _as_summary
        )
        if summary is not None:
            self._homes[key] = home, summary
        return summary

    async def find(self, key: str, filename: str) -> Link | None:
        """What an index says of an archive.

        ``None`` when it does not list it, was never read, or was lost.
        """
        task = self._reading.get(key)
        if task is not None:
            with suppress(InvalidRepodata):
                await asyncio.shield(task)
        if key in self._small:
            return self._small[key].link(filename)
        if key not in self._homes:
            return None
        home, summary = self._homes[key]
        answer = await home.ask({"find": key, "filename": filename}, Span.of(b""), _as_record)
        if answer is None or answer.lost:
            self._homes.pop(key, None)
            return None
        record = answer.record
        return (
            record.link(summary.base + filename, filename)
            if record is not None and summary.base
            else None
        )

    async def aclose(self) -> None:
        """End the processes and forget what was read."""
        for task in list(self._reading.values()):
            task.cancel()
        for process in self._processes:
            await process.aclose()
        self._homes.clear()


def _summary(found: Repodata) -> Summary:
    return Summary(found.base, found.hosts, found.secret, found.is_index)


@dataclass(frozen=True, slots=True)
class _Answer:
    record: Record | None = None
    lost: bool = False


def _as_summary(frame: Frame) -> Summary:
    if "error" in frame:
        kind = RepodataTooLarge if frame["large"] else InvalidRepodata
        raise kind(frame["error"], text=frame["text"])
    return Summary(frame["base"], frozenset(frame["hosts"]), frame["secret"], frame["is_index"])


def _as_record(frame: Frame) -> _Answer:
    found = frame.get("record")
    return _Answer(Record(*found) if found else None, lost="lost" in frame)


# The process's side


def main() -> None:
    """Answer questions on standard input until it ends."""
    beside.answer(_Shelf().answers)


class _Shelf:
    """The tables that a process keeps, the latest last."""

    def __init__(self) -> None:
        self._tables: dict[str, Repodata] = {}

    def answers(self, question: Frame, pieces: Iterator[bytes]) -> Iterator[Frame]:
        """The frames that answer a question."""
        yield self._read(question, pieces) if "read" in question else self._find(question)

    def _read(self, question: Frame, pieces: Iterator[bytes]) -> Frame:
        try:
            found = read_repodata(pieces, url=question["url"], codings=question["codings"])
        except InvalidRepodata as exc:
            is_large = isinstance(exc, RepodataTooLarge)
            return {"error": exc.message, "text": exc.text[:80], "large": is_large}
        self._tables[question["read"]] = found
        rows = sum(len(each.table) for each in self._tables.values())
        while rows > KEPT_ROWS and len(self._tables) > 1:
            rows -= len(self._tables.pop(next(iter(self._tables))).table)
        return {
            "base": found.base,
            "hosts": sorted(found.hosts),
            "secret": found.secret,
            "is_index": found.is_index,
        }

    def _find(self, question: Frame) -> Frame:
        found = self._tables.get(question["find"])
        if found is None:
            return {"lost": True}
        record = found.table.find(question["filename"])
        return {"record": None if record is None else [record.sha256, record.md5, record.size]}
