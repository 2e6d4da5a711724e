"""What is known of conda channels as they pass.

Which archive must have which digest, and which indexes go together.

Policy for channels, apart from the core and from the policy for packages. Repodata lists up to a
million archives, so its records are not learned as links are; they stay with the reader
(:mod:`entrepot.channel.worker`), which is asked for the archives that somebody wants, and only
those are remembered, with the index that told of them. Shards are small and learned as pages are.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from entrepot.channel.coding import can_unpack, content_codings
from entrepot.channel.forms import INDEXES, SHARD_INDEX, IndexName, index_name, resolved, split
from entrepot.channel.shards import SHARD, base_of, read_shard, read_shard_index, relative
from entrepot.channel.worker import IndexReader, Summary
from entrepot.errors import InvalidRepodata, RepodataTooLarge
from entrepot.httpcache.messages import RequestHead, ResponseHead, StoredResponse
from entrepot.links import Link
from entrepot.names import CONDA_SUFFIXES, filename_of
from entrepot.ports.catalogue import Catalogue
from entrepot.ports.clock import Clock
from entrepot.serving.known_files import NOTHING, Expectation, Learned
from entrepot.serving.lookup import Entries
from entrepot.serving.new_entry import draft_head
from entrepot.serving.policy import NEGATIVES
from entrepot.stored import Head, authority_of, canonical_url
from entrepot.worker_pool import Span

T = TypeVar("T")
PATIENCE_S = 30.0
"""Seconds that an archive waits at most for the index that tells its digest: clients give up after
twice that."""
ANSWER_S = 5.0
"""Seconds that an index waits for upstream's answer before the stored one is served, stale."""
TROUBLED_S = 30.0
"""How long after that the host's other indexes are served without waiting."""
ABSENT_S = 7 * 86_400.0
"""How long clients remember that a channel has no shards (conda 26.7)."""
RESUMED = 256 << 20
"""Bytes that are fetched at most ahead of those that a client asks for, to have an archive whole.
"""
SMALL = 8 << 10
"""Bytes; a shard or a shard index below this is read at once."""


def resumed_from(request: RequestHead) -> int | None:
    """Where a client that has the beginning of an archive goes on (conda: ``Range: bytes=N-``).

    ``None``: it does not.

    >>> from entrepot.httpcache.messages import Headers
    >>> resumed_from(RequestHead("GET", "https://channel.test/c/noarch/one-1.0-0.conda", Headers({"Range": "bytes=100-"})))
    100
    """
    match = _OPEN_RANGE((request.headers.get("range") or "").strip().lower())
    is_archive = request.method == "GET" and split(request.url)[1].endswith(CONDA_SUFFIXES)
    return int(match[1]) if match and is_archive and int(match[1]) <= RESUMED else None


_OPEN_RANGE = re.compile(r"bytes=([0-9]{1,12})-").fullmatch


class Channels:
    """The channels that pass through one service.

    Args:
        entries: where indexes are kept.
        catalogue: remembers what was found.
        clock: tells how long ago a host was in trouble.
    """

    def __init__(self, entries: Entries, catalogue: Catalogue, clock: Clock) -> None:
        self._clock = clock
        self._entries = entries
        self._catalogue = catalogue
        self._indexes = IndexReader()
        self._asked: set[str] = set()
        self._arrived: dict[str, Head] = {}
        self._bases: dict[str, str] = {}
        self._troubled: dict[str, float] = {}

    async def aclose(self) -> None:
        """End what reads beside."""
        await self._indexes.aclose()

    # as indexes pass

    def asked(self, url: str) -> None:
        """Note that a client goes by an index."""
        name = index_name(url)
        if name is not None:
            self._asked.add(name.directory)

    async def learn(self, url: str, head: Head, body: Span, link: Link | None) -> Learned:
        """What an index or a shard teaches at once: links of shards, hosts.

        Args:
            url: its own.
            head: of the response.
            body: as stored; readable until this is done.
            link: what is known of a shard.
        """
        codings = content_codings(head.response.head.headers.get("content-encoding"))
        name = index_name(url)
        try:
            if name is not None and not name.lists_shards:
                summary = await self._summary(name, head, body)
                return (), (summary.hosts if summary is not None else ())
            data = body.whole()
            if name is not None:
                index = await _perhaps_beside(
                    len(data), lambda: read_shard_index([data], url=url, codings=codings)
                )
                return index.links(), index.hosts
            base = base_of(link) if link is not None else ""
            return await _perhaps_beside(
                len(data), lambda: read_shard([data], base=base, codings=codings) if base else []
            ), ()
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
        """Whether an index names its archives or shards by addresses with a credential in them.

        Then it is not stored.

        ``False``, too, for one that cannot be read here: too large, lost, or in an unknown coding.

        Raises:
            InvalidRepodata: it is no index, or not all of one.
        """
        name = index_name(url)
        if name is None:
            return False  # a shard: its digest, which its name tells, was checked
        headers = head.response.head.headers
        codings = content_codings(headers.get("content-encoding"))
        if not can_unpack(codings):
            if "html" in (headers.get("content-type") or "").lower():
                raise InvalidRepodata("HTML")
            return False
        with suppress(RepodataTooLarge):
            if name.lists_shards:
                data = body.whole()
                return await _perhaps_beside(
                    len(data), lambda: read_shard_index([data], url=url, codings=codings).secret
                )
            summary = await self._summary(name, head, body)
            if summary is not None and not summary.is_index:
                raise InvalidRepodata("JSON that tells of no archives")
            return summary is not None and summary.secret
        return False

    async def _summary(self, name: IndexName, head: Head, body: Span) -> Summary | None:
        codings = content_codings(head.response.head.headers.get("content-encoding"))
        summary = await self._indexes.read(
            _key(name.url, head), body, url=name.url, codings=codings
        )
        if summary is not None and summary.base not in {"", name.directory}:
            self._bases[summary.base] = name.directory
            source = relative(name.directory, summary.base)
            if source:
                note = {_base_note(summary.base): source}
                await asyncio.to_thread(self._catalogue.write_notes, note)
        return summary

    # as archives are asked for

    async def expect(self, url: str, known: Expectation) -> Expectation:
        """What an archive must be, by the newest index that lists it.

        What a lock file or the command line said goes before, and so does a shard if no repodata
        was asked for.
        """
        url = canonical_url(url)
        filename = filename_of(url)
        if not filename.endswith(CONDA_SUFFIXES) or "?" in url:
            return known
        source = known.link.source if known.link is not None else ""
        if known.digests and source != SHARD and not source.startswith(_MARK):
            return known
        directories = self._directories(split(url)[0])
        if known.digests and source == SHARD and self._asked.isdisjoint(directories):
            return known
        for name, head in await self._told_by(directories):
            mark = f"{_MARK}{head.body}"
            if known.digests and source == mark:
                return known
            link = await self._find(name, head, filename)
            if link is not None and link.url == url and link.digests:
                link = dataclasses.replace(link, source=mark)
                await asyncio.to_thread(self._catalogue.learn, [link])
                return Expectation(link, link.digests)
        return known

    def _directories(self, directory: str) -> list[str]:
        """The directories of the indexes that may list what lies in this one."""
        found = [directory]
        if directory in self._bases:
            found.append(self._bases[directory])
        elif source := self._catalogue.note(_base_note(directory)):
            found.append(resolved(source, directory))
        return found

    async def _told_by(self, directories: Iterable[str]) -> list[tuple[IndexName, Head]]:
        """The repodata at hand of these directories, the newest first."""
        found = []
        for directory in directories:
            for name in (IndexName(directory, name) for name in INDEXES if name != SHARD_INDEX):
                heads = [
                    h
                    for h in await self._entries.load(name.url)
                    if h.response.head.status == 200 and h.body is not None
                ]
                if name.url in self._arrived:
                    heads.append(self._arrived[name.url])
                if heads:
                    found.append((name, max(heads, key=lambda h: h.response.response_time)))
        return sorted(found, key=lambda each: each[1].response.response_time, reverse=True)

    async def _find(self, name: IndexName, head: Head, filename: str) -> Link | None:
        key = _key(name.url, head)
        try:
            async with asyncio.timeout(PATIENCE_S):
                if not self._indexes.has(key) and not await self._read_stored(name, head):
                    return None
                return await self._indexes.find(key, filename)
        except (TimeoutError, InvalidRepodata):
            return None

    async def _read_stored(self, name: IndexName, head: Head) -> bool:
        blob = await self._entries.open_body(head)
        if blob is None:
            return False
        try:
            return await self._summary(name, head, Span(blob.read, blob.size)) is not None
        finally:
            blob.close()

    # when upstream fails

    @staticmethod
    def is_index(url: str) -> bool:
        """Whether a URL is a channel's index."""
        return index_name(url) is not None

    def failed(self, url: str) -> None:
        """Note that the host of an index fails, or is silent."""
        self._troubled[authority_of(url)] = self._clock.monotonic() + TROUBLED_S

    def is_troubled(self, url: str) -> bool:
        """Whether an index need not wait for its host, which failed a moment ago."""
        return self._troubled.get(
            authority_of(url), 0.0
        ) > self._clock.monotonic() and self.is_index(url)

    async def keep_absence(
        self, request: RequestHead, response: ResponseHead, heads: Iterable[Head]
    ) -> None:
        """Note, for when there is no network, that a HEAD has shown an index not to be there (rattler looks so for forms).

        As it answers no GET it is never used otherwise.
        """
        absent = (
            request.method == "HEAD" and response.status in NEGATIVES and self.is_index(request.url)
        )
        if absent and not any(heads) and not self._entries.store.shared:
            now = self._clock.now()
            stored = StoredResponse(response, (), now, now)
            head = draft_head(request, stored, NOTHING, shared=False, reserve=True)
            await self._entries.save(request.url, head)

    async def may_be_absent(self, url: str, head: Head) -> bool:
        """Whether an index that was not there may be told to be absent again when the channel fails.

        Clients take any other error for the end, so they would never come to the form that is
        stored. The absence must have been seen within :data:`ABSENT_S`: they remember it for as
        long.
        """
        name = index_name(url)
        if name is None or head.response.head.status not in NEGATIVES:
            return False
        if self._clock.now() - head.response.response_time > ABSENT_S:
            return False
        for sibling in name.siblings():
            if any(each.response.head.status == 200 for each in await self._entries.load(sibling)):
                return True
        return False

    # in step

    async def changed(self, url: str) -> None:
        """One form of a subdir's index has come anew.

        What is stored of the others is asked about before it is used again.
        """
        name = index_name(url)
        if name is None:
            return
        for sibling in name.siblings():
            for head in await self._entries.load(sibling):
                if head.response.head.status == 200 and not head.response.invalidated:
                    doubtful = dataclasses.replace(head.response, invalidated=True)
                    await self._entries.save(sibling, dataclasses.replace(head, response=doubtful))


_MARK = "index:"
"""Begins the ``source`` of what repodata said of an archive; the index's digest follows."""


def _base_note(base: str) -> str:
    """The note of which indexes have their archives in a directory."""
    return f"base:{base}"


def _key(url: str, head: Head) -> str:
    return f"{head.body} {url}"


async def _perhaps_beside(size: int, work: Callable[[], T]) -> T:
    return work() if size <= SMALL else await asyncio.to_thread(work)
