"""What is known of a URL before it is fetched.

Digests, size, project and version, from pages, locks and path rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from entrepot.channel.forms import shard_digest
from entrepot.digests import Digest, Hasher
from entrepot.links import Link
from entrepot.lockfiles import Known, Pins
from entrepot.names import classify, filename_of
from entrepot.ports.catalogue import Catalogue
from entrepot.stored import canonical_url

Learned = tuple[Iterable[Link], Iterable[str]]
"""Links, and hosts as ``HOST:PORT``."""
Reader = Callable[[], Coroutine[None, None, Learned]]

SETTLE_S = 10.0
"""Seconds a request waits at most for pages that are still being read."""
SLICE = 500
"""Links learned in one transaction, so that others get to write in between."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a body must be."""

    link: Link | None = None
    digests: tuple[Digest, ...] = ()
    """All of these must match."""
    any_of: tuple[Digest, ...] = ()
    """One of these proves it (several ``--hash`` of one requirement, a lock file that fixes
    versions). None of them is no error: a lock file that merely lies about may be another tool's,
    or old, and the tool that goes by it checks for itself."""

    @property
    def checks(self) -> bool:
        """Whether a body can turn out wrong.

        Then its end is held back until it is known to be right.
        """
        return bool(self.digests)

    @property
    def proves(self) -> bool:
        """Whether a body that meets it is proven, and so immutable."""
        return any(d.is_strong for d in self.digests) or any(d.is_strong for d in self.any_of)

    @property
    def size(self) -> int | None:
        """Bytes the body must have, where that is known."""
        return self.link.size if self.link is not None else None

    def hasher(self) -> Hasher:
        """A hasher for all that has to be compared."""
        return Hasher(d.algorithm for d in (*self.digests, *self.any_of))

    def mismatch(self, hasher: Hasher) -> Digest | None:
        """A digest that the fed bytes should have had and have not."""
        return hasher.mismatch(self.digests)

    def proven_by(self, hasher: Hasher) -> tuple[Digest, ...]:
        """The strong digests among those expected that the fed bytes have."""
        return tuple(
            d for d in (*self.digests, *self.any_of) if d.is_strong and hasher.mismatch([d]) is None
        )


NOTHING = Expectation()


class Facts:
    """Answers what a URL must bring; learns it from pages as they pass.

    Args:
        catalogue: remembers links and hosts between runs.
        path_rule: the default index's own path digest, as a function of the URL.
    """

    def __init__(
        self, catalogue: Catalogue, path_rule: Callable[[str], Digest | None] = lambda _url: None
    ) -> None:
        self.catalogue = catalogue
        self._path_rule = path_rule
        self._reading: set[asyncio.Task[None]] = set()
        self._pins = Pins(())
        self._beforehand: dict[str, Link] = {}
        self._learning: dict[str, Link] = {}
        """What is being written into the catalogue."""
        self.hosts: set[str] = set(catalogue.hosts())
        """``HOST:PORT`` named by pages, now or before."""
        self.on_page: Callable[[str, Sequence[Link]], None] = lambda _url, _links: None
        """Told of each page that was read: its canonical URL, and its links."""

    def learn_beforehand(self, known: Awaitable[Iterable[Known]]) -> None:
        """Learn what lock files and the command line say, in the background.

        Big lock files take seconds to read.

        It holds for this run and stands above what pages say, but is not remembered: a lock file
        that is wrong must spoil nothing for those who do not use it.
        """
        self._track(self._learn_known(known))

    async def _learn_known(self, known: Awaitable[Iterable[Known]]) -> None:
        found = list(await known)
        self._beforehand = {link.url: link for each in found for link in each.links}
        self._pins = Pins(allowed for each in found for allowed in each.allowed)

    async def expect(self, url: str) -> Expectation:
        """What the body of this URL must be, once the pages that are being read have been."""
        found = self._known(url)
        is_open = found is None or (found.link is None and shard_digest(url) is not None)
        if is_open and self._reading:
            await self.settled()
            found = self._known(url)
        return found or NOTHING

    def _known(self, url: str) -> Expectation | None:
        url = canonical_url(url)
        link = self._beforehand.get(url)
        if link is None or not link.digests:
            link = self._learning.get(url) or self.catalogue.link(url) or link
        digests = link.digests if link is not None else ()
        if not digests:
            by_path = self._path_rule(url) or shard_digest(url)
            digests = (by_path,) if by_path is not None else ()
        if digests:
            return Expectation(link, digests)
        allowed = self._allowed(url) if len(self._pins) else ()
        if allowed:
            return Expectation(link, any_of=allowed)
        return Expectation(link) if link is not None else None

    def _allowed(self, url: str) -> tuple[Digest, ...]:
        named = classify(filename_of(url))
        if named is None or named.kind == "metadata":
            return ()
        found = self._pins.allowed(
            url=canonical_url(url),
            project=named.project,
            version=named.version,
            filename=named.filename,
        )
        return tuple(sorted(digest for digest in found if digest.is_strong))

    def is_read(self, url: str, body: Digest) -> bool:
        """Whether this very page was read before, in this run or an earlier one."""
        return self.catalogue.note(_note_name(url)) == str(body)

    def read(self, url: str, body: Digest, reader: Reader) -> None:
        """Learn a page in the background; ``reader`` gives its links and hosts.

        Requests for unknown files wait for it.
        """
        self._track(self._read(url, body, reader))

    def _track(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self, url: str, body: Digest, reader: Reader) -> None:
        links, hosts = await reader()
        new = set(hosts) - self.hosts
        self.hosts |= new
        await self._learn(links)
        for host in new:
            await asyncio.to_thread(self.catalogue.learn_host, host)
        if isinstance(
            links,
            list,
            # An index page's; a channel's come as they are read, and there are too many to look through
        ):
            self.on_page(canonical_url(url), links)
        await asyncio.to_thread(self.catalogue.write_notes, {_note_name(url): str(body)})

    async def _learn(self, links: Iterable[Link]) -> None:
        rest = iter(links)
        size = len(links) if isinstance(links, list) else SLICE
        while batch := list(islice(rest, size)):
            # Requests go by what a page says from now on, not from when that is written.
            newest = {link.url: link for link in batch}
            self._learning.update(newest)
            await asyncio.to_thread(self.catalogue.learn, batch)
            for url, link in newest.items():
                if self._learning.get(url) is link:
                    del self._learning[url]

    async def settled(self) -> None:
        """Wait until every page that has passed was read, but not for ever."""
        if self._reading:
            await asyncio.wait(list(self._reading), timeout=SETTLE_S)


def _note_name(url: str) -> str:
    """The note that a page was read."""
    return f"read:{canonical_url(url)}"
