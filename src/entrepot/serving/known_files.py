"""What is known of a URL before it is fetched.

Digests, size, project and version, from pages, locks and path rules.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, islice, product

from entrepot.channel.forms import shard_digest
from entrepot.digests import Digest, Hasher
from entrepot.links import Link
from entrepot.lockfiles import Known, Pins
from entrepot.names import classify, filename_of
from entrepot.ports.catalogue import Catalogue, Noted
from entrepot.redaction import redacted_url
from entrepot.stored import cache_key
from entrepot.urls import canonical_url

Named = tuple[tuple[Digest, ...], ...]
"""Alternatives: a body must have every digest of one of them."""
Learned = tuple[Iterable[Link], Iterable[str]]
"""Links, and hosts as ``HOST:PORT``."""
Reader = Callable[[], Coroutine[None, None, Learned]]

SETTLE_S = 10.0
"""Seconds a request waits at most for pages that are still being read."""
SLICE = 500
"""Links learned in one transaction, so that others get to write in between."""
TRIES = 3
"""Times that a slice is given to a catalogue that another process writes to."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one witness of this run says of a URL.

    An index page that a client was given, a lock file, ``--hash``.
    """

    witness: str
    """Its redacted URL, or the words that name it."""
    by: str
    """The same in a sentence about one file."""
    link: Link | None
    named: Named = ()
    """Empty: it names none."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a body must be; made by :func:`expectation_of`."""

    link: Link | None = None
    named: Named = ()
    """The alternatives of all witnesses."""
    any_of: tuple[Digest, ...] = ()
    """One of these proves it. None of them is no error, where upstream sends it: a lock file that
    fixes versions may be another tool's, or old, and the tool that goes by it checks for itself."""
    said: tuple[Said, ...] = ()
    """The witnesses, for messages."""

    @property
    def checks(self) -> bool:
        """Whether a body can turn out wrong.

        Then its end is held back until it is known to be right.
        """
        return bool(self.named)

    @property
    def proves(self) -> bool:
        """Whether a body that meets it is proven, and so immutable."""
        return any(d.is_strong for d in self._all())

    @property
    def size(self) -> int | None:
        """Bytes the body must have, where that is known."""
        return self.link.size if self.link is not None else None

    @property
    def by(self) -> str:
        """Who names the digest, in words."""
        witnesses = [*(each for each in self.said if each.named), *self.said]
        return witnesses[0].by if witnesses else "a lock file"

    def hasher(self) -> Hasher:
        """A hasher for all that has to be compared."""
        return Hasher(d.algorithm for d in self._all())

    def mismatch(self, hasher: Hasher) -> Digest | None:
        """A digest that the fed bytes should have had and have not.

        ``None`` when they have all that one witness names.
        """
        wrong = [hasher.mismatch(each) for each in self.named]
        return None if None in wrong else next(iter(wrong), None)

    def proven_by(self, hasher: Hasher) -> tuple[Digest, ...]:
        """The strong digests among those expected that the fed bytes have."""
        return tuple(
            dict.fromkeys(d for d in self._all() if d.is_strong and hasher.mismatch([d]) is None)
        )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """The pairs of witnesses of which no body can satisfy both."""
        for one, other in combinations([each for each in self.said if each.named], 2):
            if all(  # an algorithm has different values in the two
                any(a.algorithm == b.algorithm and a != b for a, b in product(mine, yours))
                for mine, yours in product(one.named, other.named)
            ):
                yield one.witness, other.witness

    def _all(self) -> Iterator[Digest]:
        return chain(*self.named, self.any_of)


NOTHING = Expectation()


def expectation_of(said: Sequence[Said], any_of: tuple[Digest, ...] = ()) -> Expectation:
    """What a body must be by these witnesses: what one of them names.

    Who names nothing neither weakens nor refuses anything.

    md5 and sha1 count only where nobody names a better digest: else a page that names nothing else
    would let a body in for which the others' digest is wrong. A size counts if all those agree on
    it whose digests count.
    """
    if any(d.is_strong for each in said for alternative in each.named for d in alternative):
        strong = [
            [tuple(d for d in alternative if d.is_strong) for alternative in each.named]
            for each in said
        ]
        said = [
            dataclasses.replace(each, named=tuple(filter(None, named)))
            for each, named in zip(said, strong, strict=True)
        ]
    named = tuple(dict.fromkeys(alternative for each in said for alternative in each.named))
    links = [each.link for each in said if each.link is not None and (each.named or not named)]
    link = links[0] if links else next((each.link for each in said if each.link is not None), None)
    size = link.size if link is not None and {each.size for each in links} == {link.size} else None
    link = dataclasses.replace(link, size=size) if link is not None and link.size != size else link
    return Expectation(link, named, () if named else any_of, tuple(said))


class KnownFiles:
    """Answers what a URL must bring; learns it from pages as they pass.

    What a page says of a file is remembered by page and URL, for all runs. It binds in the runs
    whose clients were given that page, from wherever it came: a page of another run, of another
    index above all, says nothing about a file here.

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
        self._pins: Pins | None = None
        self._hashes: Pins | None = None
        """Those of the pins that refuse what they do not prove."""
        self._beforehand: dict[str, list[Link]] = {}
        self._given: dict[str, str] = {}
        """Cache key -> redacted URL of each page that a client was given, or is being given."""
        self._states: dict[str, str] = {}
        """Cache key -> state of each page that has passed; also of those that were prefetched and
        no client has wanted."""
        self._earlier: dict[str, str | None] = {}
        """Cache key -> the state before, of each page that has passed."""
        self._busy: set[tuple[str, str]] = set()
        """Pages that are being read, each with its state."""
        self._learning: dict[str, tuple[str, dict[str, Link]]] = {}
        """Cache key of a page -> its state, and its links that are being written, by URL."""
        self.hosts: set[str] = set(catalogue.hosts())
        """``HOST:PORT`` named by pages, now or before."""
        self.on_page: Callable[[str, Sequence[Link]], None] = lambda _url, _links: None
        """Told of each page that was read: its canonical URL, and its links."""

    def learn_beforehand(self, known: Awaitable[Iterable[Known]]) -> None:
        """Learn what lock files and the command line say, in the background.

        Big lock files take seconds to read.

        It holds for this run, as what its pages say does, but is not remembered: a lock file that
        is wrong must spoil nothing for those who do not use it.
        """

        async def learn() -> None:
            found = list(await known)
            self._beforehand = {}
            for link in (link for each in found for link in each.links):
                self._beforehand.setdefault(link.url, []).append(link)
            allowed = [each for file in found for each in file.allowed]
            self._pins = Pins(allowed)
            self._hashes = Pins(each for each in allowed if each.binds)

        self._track(learn())

    async def expect(
        self, url: str, *, prefetch: bool = False, settled: bool = False
    ) -> Expectation:
        """What the body of this URL must be, once the pages that are being read have been.

        ``prefetch``: no client has asked, so prefetched pages count, too. ``settled``: those pages
        are waited for also when a witness is known.
        """
        found = self._known(url, prefetch=prefetch)
        is_open = found == NOTHING or (found.link is None and shard_digest(url) is not None)
        if (is_open or settled) and self._reading:
            await self.settled()
            found = self._known(url, prefetch=prefetch)
        return found

    def link(self, url: str) -> Link | None:
        """What pages of this run say of a URL besides its digests."""
        return self._known(url, prefetch=False).link

    def _known(self, url: str, *, prefetch: bool) -> Expectation:
        url = canonical_url(url)
        said = [_said(link, link.source or "the command") for link in self._beforehand.get(url, ())]
        if hashes := self._allowed(url, self._hashes):
            said.append(Said("--hash", "--hash", None, tuple((each,) for each in hashes)))
        for each in self._noted(url):
            if self.is_current(each.page, each.state, prefetch=prefetch):
                by = "its channel's index" if each.link.kind == "archive" else "its index page"
                said.append(_said(each.link, self._given.get(each.page, each.page), by))
        if not any(each.named for each in said):
            by_path = self._path_rule(url) or shard_digest(url)
            said += [Said("its URL", "its URL", None, ((by_path,),))] if by_path is not None else []
        found = expectation_of(said)
        if not found.checks and (pinned := self._allowed(url, self._pins)):
            found = dataclasses.replace(found, any_of=pinned)
        return found

    @staticmethod
    def _allowed(url: str, pins: Pins | None) -> tuple[Digest, ...]:
        named = classify(filename_of(url)) if pins else None
        if pins is None or named is None or named.kind == "metadata":
            return ()
        found = pins.allowed(
            url=url, project=named.project, version=named.version, filename=named.filename
        )
        return tuple(sorted(digest for digest in found if digest.is_strong))

    # pages

    def given(self, url: str) -> None:
        """A client is given this page: from now on it is a witness."""
        self._given[cache_key(url)] = redacted_url(canonical_url(url))

    def state(self, url: str) -> str | None:
        """The state of a page that a client of this run was given."""
        return self._states.get(cache_key(url)) if cache_key(url) in self._given else None

    def is_current(self, page: str, state: str, *, prefetch: bool = False) -> bool:
        """Whether what a page (its cache key) said in this state binds.

        The run has it in that state, or another process has read a later one.

        What a page no longer says, it has not said: a link of an earlier state does not count.
        """
        mine = self._states.get(page) if prefetch or page in self._given else None
        if mine is None or state == mine or (page, mine) in self._busy:
            return state == mine
        return state == (self.catalogue.note(_note_name(page)) or "").partition(" ")[2]

    def is_read(self, url: str, state: str) -> bool:
        """Whether this very page was read before or is being read.

        Notes that the run has it in this state.
        """
        page = cache_key(url)
        self._states[page] = state
        is_whole = self.catalogue.note(_note_name(page)) == f"page {state}"
        return is_whole or (page, state) in self._busy

    def read(self, url: str, state: str, reader: Reader) -> None:
        """Learn a page in the background; requests for unknown files wait for it.

        ``state`` tells its content from an earlier one: its body's digest. ``reader`` gives its
        links and hosts.
        """
        page = cache_key(url)
        self._earlier[page] = self._states.get(page)
        self._states[page] = state
        self._busy.add((page, state))
        self._track(self._read(url, state, reader))

    def refused(self, url: str, state: str) -> None:
        """Note that what has come is no page after all.

        The one that the run had before is its witness again.
        """
        page = cache_key(url)
        if self._states.get(page) == state:
            del self._states[page]
            if (earlier := self._earlier.pop(page, None)) is not None:
                self._states[page] = earlier

    def _track(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self, url: str, state: str, reader: Reader) -> None:
        page = cache_key(url)
        try:
            links, hosts = await reader()
            new = set(hosts) - self.hosts
            self.hosts |= new
            if isinstance(links, list):
                # Requests go by what an index page says from now on, not from when that is written.
                # A channel's links are too many for that.
                self._learning[page] = state, {link.url: link for link in links}
            # Before its links: a process that dies among them has not read it, and other runs know
            # the later word for one.
            await self._note(page, f"reading {state}")
            rest, is_whole = iter(links), True
            while batch := list(islice(rest, SLICE)):
                for _ in range(TRIES):  # what meets another process's transaction is tried again
                    if learned := await asyncio.to_thread(
                        self.catalogue.learn, batch, page=page, state=state
                    ):
                        break
                is_whole = is_whole and learned
            for host in new:
                await asyncio.to_thread(self.catalogue.learn_host, host)
            if isinstance(links, list):
                self.on_page(canonical_url(url), links)
            if is_whole:
                await self._note(page, f"page {state}")
        finally:
            self._busy.discard((page, state))
            if page in self._learning and self._learning[page][0] == state:
                del self._learning[page]

    async def _note(self, page: str, text: str) -> None:
        await asyncio.to_thread(self.catalogue.write_notes, {_note_name(page): text})

    def _noted(self, url: str) -> list[Noted]:
        """What pages said of a canonical URL, each its latest word."""
        noted = {each.page: each for each in self.catalogue.links(url)}
        for page, (state, links) in self._learning.items():
            if url in links:
                noted[page] = Noted(links[url], page, state)
        return list(noted.values())

    async def settled(self) -> None:
        """Wait until every page that has passed was read, but not for ever."""
        if self._reading:
            await asyncio.wait(list(self._reading), timeout=SETTLE_S)


def _said(link: Link, witness: str, by: str = "") -> Said:
    return Said(witness, by or witness, link, (link.digests,) if link.digests else ())


def _note_name(page: str) -> str:
    """The note of which state of a page was read, or is being read."""
    return f"read:{page}"
