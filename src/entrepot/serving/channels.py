"""What is known of conda channels as they pass.

Which archive must have which digest, and which indexes go together.

Policy for channels, apart from the core and from the policy for packages. Repodata lists up to a
million archives, so its records are not learned as links are; they stay with the reader
(:class:`RepodataReader`), which is asked for the archives that somebody wants, and only those are
remembered, with the index that told of them. Shards are small and learned as pages are. Large
indexes are read in the worker pool (:mod:`entrepot.worker_pool`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from entrepot.channel.coding import can_unpack, content_codings
from entrepot.channel.forms import INDEXES, SHARD_INDEX, IndexName, index_name, resolved, split
from entrepot.channel.repodata import Repodata, read_repodata
from entrepot.channel.shards import base_of, read_shard, read_shard_index, relative
from entrepot.errors import InvalidRepodata, RepodataTooLarge
from entrepot.httpcache.messages import RequestHead, ResponseHead, StoredResponse
from entrepot.links import Link
from entrepot.names import CONDA_SUFFIXES, filename_of
from entrepot.ports.clock import Clock
from entrepot.redaction import redacted_url
from entrepot.serving.known_files import (
    NOTHING,
    Expectation,
    KnownFiles,
    Learned,
    Said,
    expectation_of,
)
from entrepot.serving.lookup import READ, Entries
from entrepot.serving.policy import NEGATIVES, draft_head
from entrepot.stored import Head, cache_key
from entrepot.urls import authority_of, canonical_url
from entrepot.worker_pool import WorkerPool

T = TypeVar("T")
PATIENCE_S = 30.0
"""Seconds that an archive waits at most for the index that tells its digest: clients give up after
twice that."""
ANSWER_S = 5.0
"""Seconds that an index waits for upstream's answer before the stored one is served, stale."""
BY_INDEX = "its channel's index"
TROUBLED_S = 30.0
"""How long after that the host's other indexes are served without waiting."""
ABSENT_S = 7 * 86_400.0
"""How long clients remember that a channel has no shards (conda 26.7)."""
RESUMED = 256 << 20
"""Bytes that are fetched at most before those that a client asks for, to have an archive whole.
"""
SMALL_SHARDS = 8 << 10
"""Bytes; a shard or a shard index below this is read at once."""
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
        while at < self.size and (piece := self.read(at, min(READ, self.size - at))):
            at += len(piece)
            yield piece


def resumed_from(request: RequestHead) -> int | None:
    """Where a client that has the beginning of an archive goes on (conda: ``Range: bytes=N-``).

    ``None``: it does not.

    >>> from entrepot.httpcache.messages import Headers
    >>> url = "https://channel.test/c/noarch/one-1.0-0.conda"
    >>> resumed_from(RequestHead("GET", url, Headers({"Range": "bytes=100-"})))
    100
    """
    match = _OPEN_RANGE((request.headers.get("range") or "").strip().lower())
    is_archive = request.method == "GET" and split(request.url)[1].endswith(CONDA_SUFFIXES)
    return int(match[1]) if match and is_archive and int(match[1]) <= RESUMED else None


_OPEN_RANGE = re.compile(r"bytes=([0-9]{1,12})-").fullmatch


class Channels:
    """The channels that pass through one service."""

    def __init__(
        self, entries: Entries, known_files: KnownFiles, clock: Clock, pool: WorkerPool
    ) -> None:
        self._clock = clock
        self._entries = entries
        self._known_files = known_files
        self._catalogue = known_files.catalogue
        self._indexes = RepodataReader(pool)
        self._arrived: dict[str, Head] = {}
        self._bases: dict[str, dict[str, str]] = {}
        """Directory of archives -> URL of an index that has its archives there -> the index's own
        directory."""
        self._troubled: dict[str, float] = {}

    async def aclose(self) -> None:
        """End the reading of indexes."""
        await self._indexes.aclose()

    # as indexes pass

    async def learn(self, url: str, head: Head, body: Span, link: Link | None) -> Learned:
        """What an index or a shard teaches at once: links of shards, hosts.

        ``body`` must be readable until this is done; ``link`` is what is known of a shard.
        """
        name = index_name(url)
        try:
            if name is not None and not name.lists_shards:
                summary = await self._summary(name, head, body)
                return (), (summary.hosts if summary is not None else ())
            data, codings = [body.whole()], _codings(head)
            if name is not None:
                read = partial(read_shard_index, data, url=url, codings=codings)
                index = await _small_here(body.size, read)
                return index.links(), index.hosts
            base = base_of(link) if link is not None else ""
            read_one = partial(read_shard, data, base=base, codings=codings)
            return await _small_here(body.size, read_one) if base else (), ()
        except InvalidRepodata:
            return (), ()  # not ours to complain about: the client gets it as it is

    def arrived(self, url: str, head: Head) -> None:
        """Note an index that has come whole, before anybody has its last byte."""
        name = index_name(url)
        if name is not None and head.body is not None:
            self._arrived[name.url] = head

    def refused(self, url: str) -> None:
        """Note that what has come of an index is none after all."""
        name = index_name(url)
        if name is not None:
            self._arrived.pop(name.url, None)

    async def holds_secrets(self, url: str, head: Head, body: Span) -> bool:
        """Whether an index names files by addresses with a credential: then it is not stored.

        ``False``, too, for one that cannot be read here: too large, lost, or in an unknown coding.

        Raises:
            InvalidRepodata: it is no index, or not all of one.
        """
        name = index_name(url)
        if name is None:
            return False  # a shard: its digest, which its name tells, was checked
        codings = _codings(head)
        if not can_unpack(codings):
            if "html" in (head.response.head.headers.get("content-type") or "").lower():
                raise InvalidRepodata("HTML")
            return False
        with suppress(RepodataTooLarge):
            if name.lists_shards:
                read = partial(read_shard_index, [body.whole()], url=url, codings=codings)
                return (await _small_here(body.size, read)).secret
            summary = await self._summary(name, head, body)
            if summary is not None and not summary.is_index:
                raise InvalidRepodata("JSON that tells of no archives")
            return summary is not None and summary.secret
        return False

    async def _summary(self, name: IndexName, head: Head, body: Span) -> Repodata | None:
        key = _key(name.url, head)
        summary = await self._indexes.read(key, body, url=name.url, codings=_codings(head))
        if summary is not None and summary.base not in {"", name.directory}:
            self._bases.setdefault(summary.base, {})[name.url] = name.directory
            source = relative(name.directory, summary.base)
            if source:

                def note() -> None:
                    said = self._noted_bases(summary.base)
                    said[cache_key(name.url)] = str(head.body), source
                    self._catalogue.write_notes({f"base:{summary.base}": json.dumps(said)})

                await asyncio.to_thread(note)
        return summary

    # as archives are asked for

    async def expect(self, url: str, known: Expectation) -> Expectation:
        """What an archive must be.

        By what is known of it, and by the indexes that the run's clients were given.

        An index of the archive's own directory that an earlier run has left (clients keep indexes
        themselves, and need not ask for them) proves what it lists, but refuses nothing: the
        channel may have changed since.
        """
        url = canonical_url(url)
        filename = filename_of(url)
        if not filename.endswith(CONDA_SUFFIXES) or "?" in url:
            return known
        own = split(url)[0]
        said = list(known.said)
        for directory in self._directories(own):
            given = [
                (name, head)
                for name, head in await self._at_hand(directory)
                if self._known_files.state(name.url) == str(head.body)
            ]
            if (found := await self._listed(url, filename, given)) is not None:
                name, link = found
                said.append(Said(redacted_url(name.url), BY_INDEX, link, (link.digests,)))
        if any(each.named for each in said):
            return expectation_of(said)
        if known.any_of or any(head.is_immutable for head in await self._entries.load(url)):
            return known
        found = await self._listed(url, filename, await self._at_hand(own))
        if found is None:
            return known
        link = dataclasses.replace(found[1], size=None)
        said = [Said(redacted_url(found[0].url), BY_INDEX, link)]
        return Expectation(link, (), tuple(d for d in link.digests if d.is_strong), tuple(said))

    def _directories(self, directory: str) -> list[str]:
        """The directories of the indexes that may list what lies in this one."""
        others = [
            there
            for url, there in self._bases.get(directory, {}).items()
            if self._known_files.state(url) is not None
        ]
        others += [
            resolved(source, directory)
            for page, (state, source) in self._noted_bases(directory).items()
            if self._known_files.is_current(page, state)
        ]
        return list(dict.fromkeys([directory, *filter(None, others)]))

    def _noted_bases(self, directory: str) -> dict[str, tuple[str, str]]:
        """What the catalogue remembers of the indexes that have their archives in a directory.

        Page -> its state, and where it lies seen from the directory of its archives.
        """
        note = json.loads(self._catalogue.note(f"base:{directory}") or "{}")
        return {page: (state, source) for page, (state, source) in note.items()}

    async def _at_hand(self, directory: str) -> list[tuple[IndexName, Head]]:
        """The repodata of a directory, the newest first."""
        found = []
        for name in (IndexName(directory, name) for name in INDEXES if name != SHARD_INDEX):
            heads = await self._entries.load(name.url)
            found += [(name, h) for h in heads if h.response.head.status == 200 and h.body]
            if name.url in self._arrived:
                found.append((name, self._arrived[name.url]))
        return sorted(found, key=lambda each: each[1].response.response_time, reverse=True)

    async def _listed(
        self, url: str, filename: str, indexes: list[tuple[IndexName, Head]]
    ) -> tuple[IndexName, Link] | None:
        """What the newest of these indexes that lists an archive says of it."""
        for name, head in indexes:
            at = cache_key(name.url), str(head.body)
            noted = (n.link for n in self._catalogue.links(url) if (n.page, n.state) == at)
            known = next(noted, None)
            link = known or await self._find(name, head, filename)
            if link is not None and link.url == url and link.digests:
                if known is None:
                    learn = partial(self._catalogue.learn, [link], page=at[0], state=at[1])
                    await asyncio.to_thread(learn)
                return name, link
        return None

    async def _find(self, name: IndexName, head: Head, filename: str) -> Link | None:
        key = _key(name.url, head)
        try:
            async with asyncio.timeout(PATIENCE_S):
                if not self._indexes.has(key):
                    blob = await self._entries.open_body(head)
                    if blob is None:
                        return None
                    try:
                        await self._summary(name, head, Span(blob.read, blob.size))
                    finally:
                        blob.close()
                return await self._indexes.find(key, filename)
        except (TimeoutError, InvalidRepodata):
            return None

    # when upstream fails

    def failed(self, url: str) -> None:
        """Note that the host of an index fails, or is silent."""
        self._troubled[authority_of(url)] = self._clock.monotonic() + TROUBLED_S

    def is_troubled(self, url: str) -> bool:
        """Whether an index need not wait for its host, which failed a moment ago."""
        until = self._troubled.get(authority_of(url), 0.0)
        return until > self._clock.monotonic() and index_name(url) is not None

    async def keep_absence(
        self, request: RequestHead, response: ResponseHead, heads: Iterable[Head]
    ) -> None:
        """Note that a HEAD has shown an index not to be there, for when there is no network.

        rattler looks for forms so. As it answers no GET it is never used otherwise.
        """
        if request.method != "HEAD" or response.status not in NEGATIVES:
            return
        if (
            index_name(request.url) is not None
            and not any(heads)
            and not self._entries.store.shared
        ):
            now = self._clock.now()
            stored = StoredResponse(response, (), now, now)
            head = draft_head(request, stored, NOTHING, shared=False, reserve=True)
            await self._entries.save(request.url, head)

    async def may_be_absent(self, url: str, head: Head) -> bool:
        """Whether an index that was absent is answered as absent again when the channel fails.

        Clients take any other error for the end, so they would never come to the form that is
        stored. The absence must have been seen within :data:`ABSENT_S`: they remember it for as
        long.
        """
        name, age = index_name(url), self._clock.now() - head.response.response_time
        if name is None or head.response.head.status not in NEGATIVES or age > ABSENT_S:
            return False
        siblings = [await self._entries.load(url) for url in name.siblings()]
        return any(each.response.head.status == 200 for heads in siblings for each in heads)

    # in step

    async def changed(self, url: str) -> None:
        """One form of a subdir's index has come anew: doubt what is stored of the others."""
        name = index_name(url)
        for sibling in name.siblings() if name is not None else ():
            for head in await self._entries.load(sibling):
                if head.response.head.status == 200 and not head.response.invalidated:
                    doubtful = dataclasses.replace(head.response, invalidated=True)
                    await self._entries.save(sibling, dataclasses.replace(head, response=doubtful))


def _key(url: str, head: Head) -> str:
    return f"{head.body} {url}"


def _codings(head: Head) -> list[str]:
    return content_codings(head.response.head.headers.get("content-encoding"))


async def _small_here(size: int, work: Callable[[], T]) -> T:
    return work() if size <= SMALL_SHARDS else await asyncio.to_thread(work)


class RepodataReader:
    """Reads repodata and answers what it says of an archive."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
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

        It is known under ``key`` afterwards: one of its own for each content of each URL. ``body``
        must be readable until this is done.

        Raises:
            InvalidRepodata: it is no index.
        """
        if key in self._known:
            return self._known[key]
        task = self._reading.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._read(key, body, url, codings))
            self._reading[key] = task

            def ended(task: asyncio.Task[Repodata | None]) -> None:
                del self._reading[key]
                if not task.cancelled():
                    task.exception()  # told to those who wait; nobody may be left

            task.add_done_callback(ended)
        return await asyncio.shield(task)

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
            return await self._pool.run(TIMEOUT_S, _read_repodata, data, url, codings)
        with suppress(OSError), tempfile.TemporaryFile() as file:
            for piece in body.pieces():
                file.write(piece)
                await asyncio.sleep(0)
            file.flush()
            # The file has no name that could be left behind; the worker opens it by our descriptor.
            path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
            if file.tell() == body.size:
                return await self._pool.run(TIMEOUT_S, _read_repodata, path, url, codings)
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
        return read_repodata(iter(lambda: file.read(READ), b""), url=url, codings=codings)
