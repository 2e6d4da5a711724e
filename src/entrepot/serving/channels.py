"""What is known of conda channels as they pass.

Which archive must have which digest, and which indexes go together.

Policy for channels, apart from the core and from the policy for packages. Repodata lists up to a
million archives, so its records are not learned as links are; they stay with the reader
(``index_reader.py``), which is asked for the archives that somebody wants, and only those are
remembered, with the index that told of them. Shards are small and learned as pages are.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from entrepot.channel.coding import can_unpack, content_codings
from entrepot.channel.forms import INDEXES, SHARD_INDEX, IndexName, index_name, resolved, split
from entrepot.channel.repodata import Repodata
from entrepot.channel.shards import base_of, read_shard, read_shard_index, relative
from entrepot.errors import InvalidRepodata, RepodataTooLarge
from entrepot.httpcache.messages import RequestHead, ResponseHead, StoredResponse
from entrepot.links import Link
from entrepot.names import CONDA_SUFFIXES, filename_of
from entrepot.ports.clock import Clock
from entrepot.redaction import redacted_url
from entrepot.serving.index_reader import RepodataReader, Span
from entrepot.serving.known_files import (
    NOTHING,
    Expectation,
    KnownFiles,
    Learned,
    Said,
    expectation_of,
)
from entrepot.serving.lookup import Entries
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
TROUBLED_S = 30.0
"""How long after that the host's other indexes are served without waiting."""
ABSENT_S = 7 * 86_400.0
"""How long clients remember that a channel has no shards (conda 26.7)."""
RESUMED = 256 << 20
"""Bytes that are fetched at most before those that a client asks for, to have an archive whole.
"""
SMALL = 8 << 10
"""Bytes; a shard or a shard index below this is read at once."""


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
    """The channels that pass through one service.

    Args:
        entries: where indexes are kept.
        known_files: tell which indexes this run has; their catalogue remembers what was found.
        clock: tells how long ago a host was in trouble.
        pool: reads large indexes.
    """

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
        """Whether an index names files by addresses with a credential: then it is not stored.

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

    async def _summary(self, name: IndexName, head: Head, body: Span) -> Repodata | None:
        codings = content_codings(head.response.head.headers.get("content-encoding"))
        summary = await self._indexes.read(
            _key(name.url, head), body, url=name.url, codings=codings
        )
        if summary is not None and summary.base not in {"", name.directory}:
            self._bases.setdefault(summary.base, {})[name.url] = name.directory
            source = relative(name.directory, summary.base)
            if source:
                await asyncio.to_thread(
                    self._note_base, summary.base, cache_key(name.url), str(head.body), source
                )
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
            found = await self._listed(
                url, filename, [h for h in await self._at_hand(directory) if self._is_given(*h)]
            )
            if found is not None:
                name, link = found
                said.append(
                    Said(redacted_url(name.url), "its channel's index", link, (link.digests,))
                )
        if any(each.named for each in said):
            return expectation_of(said)
        if known.any_of or any(head.is_immutable for head in await self._entries.load(url)):
            return known
        found = await self._listed(url, filename, await self._at_hand(own))
        if found is None:
            return known
        link = dataclasses.replace(found[1], size=None)
        by_index = Said(redacted_url(found[0].url), "its channel's index", link)
        return Expectation(
            link, any_of=tuple(d for d in link.digests if d.is_strong), said=(by_index,)
        )

    def _is_given(self, name: IndexName, head: Head) -> bool:
        return self._known_files.state(name.url) == str(head.body)

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
        """Page -> its state, and where it lies seen from the directory of its archives."""
        note = json.loads(self._catalogue.note(_base_note(directory)) or "{}")
        return {page: (state, source) for page, (state, source) in note.items()}

    def _note_base(self, directory: str, page: str, state: str, source: str) -> None:
        noted = self._noted_bases(directory) | {page: (state, source)}
        self._catalogue.write_notes({_base_note(directory): json.dumps(noted)})

    async def _at_hand(self, directory: str) -> list[tuple[IndexName, Head]]:
        """The repodata of a directory, the newest first."""
        found = []
        for name in (IndexName(directory, name) for name in INDEXES if name != SHARD_INDEX):
            heads = [
                h
                for h in await self._entries.load(name.url)
                if h.response.head.status == 200 and h.body is not None
            ]
            if name.url in self._arrived:
                heads.append(self._arrived[name.url])
            found += [(name, head) for head in heads]
        return sorted(found, key=lambda each: each[1].response.response_time, reverse=True)

    async def _listed(
        self, url: str, filename: str, indexes: list[tuple[IndexName, Head]]
    ) -> tuple[IndexName, Link] | None:
        """What the newest of these indexes that lists an archive says of it."""
        for name, head in indexes:
            page, state = cache_key(name.url), str(head.body)
            noted = [
                each.link
                for each in self._catalogue.links(url)
                if (each.page, each.state) == (page, state)
            ]
            link = noted[0] if noted else await self._find(name, head, filename)
            if link is not None and link.url == url and link.digests:
                if not noted:
                    learn = partial(self._catalogue.learn, [link], page=page, state=state)
                    await asyncio.to_thread(learn)
                return name, link
        return None

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
        until = self._troubled.get(authority_of(url), 0.0)
        return until > self._clock.monotonic() and self.is_index(url)

    async def keep_absence(
        self, request: RequestHead, response: ResponseHead, heads: Iterable[Head]
    ) -> None:
        """Note that a HEAD has shown an index not to be there, for when there is no network.

        rattler looks for forms so. As it answers no GET it is never used otherwise.
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
        """Whether an index that was absent is answered as absent again when the channel fails.

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
        """One form of a subdir's index has come anew: doubt what is stored of the others."""
        name = index_name(url)
        if name is None:
            return
        for sibling in name.siblings():
            for head in await self._entries.load(sibling):
                if head.response.head.status == 200 and not head.response.invalidated:
                    doubtful = dataclasses.replace(head.response, invalidated=True)
                    await self._entries.save(sibling, dataclasses.replace(head, response=doubtful))


def _base_note(base: str) -> str:
    """The note of which indexes have their archives in a directory."""
    return f"base:{base}"


def _key(url: str, head: Head) -> str:
    return f"{head.body} {url}"


async def _perhaps_beside(size: int, work: Callable[[], T]) -> T:
    return work() if size <= SMALL else await asyncio.to_thread(work)
