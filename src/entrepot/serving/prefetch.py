"""Prefetch: ask upstream for pages and metadata before the client does.

It then does not wait a round trip for each.

Two things are known beforehand. An earlier run asked for certain pages together: when one of them
has to be asked for again, so have the others (:class:`PageHistory`). And
a page or a metadata file that passes tells what a resolver looks at next: the newest version's
metadata, and the pages of what that requires.

Nothing here is a reason to answer otherwise: what is prefetched goes through the same decision,
transfer and store as a client's request, and answers one client's request, once, within seconds.
Never for files: they are large, and a resolver may want none. Bounds and reasons:
docs/decisions/0003-asking-ahead.md.
"""

from __future__ import annotations

import asyncio
import os.path
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from entrepot.httpcache.conditional import unconditional
from entrepot.httpcache.exchange import Miss, Stale, lookup
from entrepot.httpcache.messages import RequestHead
from entrepot.httpcache.policy import StaleUse, can_reuse_for
from entrepot.links import Link
from entrepot.names import normalize
from entrepot.ports.catalogue import Catalogue
from entrepot.redaction import has_secret
from entrepot.serving.known_files import Expectation
from entrepot.serving.policy import (
    agrees,
    has_credentials,
    immutable,
    refreshing,
    sent_to,
    usable,
)
from entrepot.serving.transfer import FetchRequest, Phase, Resources, fetch_request
from entrepot.serving.transfers import Transfer, Transfers
from entrepot.stored import Head
from entrepot.urls import authority_of, canonical_url

AT_ONCE = 16
"""Requests prefetched at a time; :data:`MOST` in one run, and each URL once."""
MOST_BYTES = 32 << 20
"""Bytes prefetched in one run; after that nothing more is asked."""
GOOD_S = 15.0
"""How long an answer may wait for the client that wants it; an install of a hundred packages asks
for all its pages within that."""
MAX_METADATA = 1 << 20
"""Bytes of a metadata file that are looked through; its requirements stand at the beginning."""
METADATA = ".whl.metadata"


@dataclass(frozen=True, slots=True)
class _Landed:
    """What was prefetched, has come, and was not asked for since."""

    key: str
    """Of the entry."""
    refreshed: bool
    at: float
    """Monotonic seconds."""
    size: int
    """Bytes of content that came."""


class Prefetcher:
    """Prefetches in one run."""

    def __init__(self, resources: Resources, transfers: Transfers, history: PageHistory) -> None:
        self._resources = resources
        self._transfers = transfers
        self._history = history
        self._stats = resources.stats.prefetch
        self._queue: deque[RequestHead] = deque()
        self._known: set[str] = set()
        """What was asked for or wished for in this run already."""
        self._clients: set[str] = set()
        """What the client itself has asked for."""
        self._hosts: set[str] = set()
        """``HOST:PORT`` that the client itself has asked; nothing is prefetched from others."""
        self._dropped: set[str] = set()
        """``HOST:PORT`` where it turned out to be of no use."""
        self._pages: dict[str, RequestHead] = {}
        """Project -> the request for its page."""
        self._together: dict[str, None] = {}
        """Pages that the client has asked for."""
        self._reads_metadata = False
        """Whether the client is one that asks for metadata files: pip does since 23.2."""
        self._pending: dict[str, Transfer] = {}
        """URL -> a prefetch that no client has joined yet."""
        self._landed: dict[str, _Landed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking = 0
        self._is_over = False
        resources.known_files.on_page = self._read_page

    # what the service tells and asks

    def asked(self, fetch: FetchRequest) -> None:
        """A client's request goes upstream: think of what it wants next.

        To be called before its transfer is joined.
        """
        request, url = fetch.request, canonical_url(fetch.request.url)
        if (transfer := self._pending.get(url)) is not None and transfer.name == fetch.name:
            del self._pending[url]
            self._stats.used += 1
        prefetched = url in self._known  # then its pages of the last run are known, too
        self._known.add(url)
        self._clients.add(url)
        self._hosts.add(authority_of(url))
        if "range" in request.headers:
            return
        if url.endswith(METADATA):
            self._reads_metadata = True
            self._start(self._read_metadata(fetch))
        elif _is_page(request):
            self._note_page(request)
            for other in () if prefetched else self._history.of(url):
                self._wish(other, request)

    async def landing(self, url: str) -> bool:
        """Wait for what was prefetched and lacks nothing but being kept; whether there was any.

        It need not be asked for again.
        """
        waited = False
        while (transfer := self._pending.get(canonical_url(url))) is not None and (
            transfer.has_all or transfer.over
        ):
            waited = True
            await (asyncio.sleep(0) if transfer.over else transfer.changed())
        return waited

    def taken(
        self, request: RequestHead, heads: Iterable[Head], expectation: Expectation
    ) -> tuple[Head, str] | None:
        """What was prefetched for this request, and its outcome; once.

        The client's ``max-age=0`` or ``no-cache`` is met by a validation that took place in this
        run, seconds before it asked. Both are wishes that a cache may weigh (RFC 9111 §5.2.1).
        """
        if request.method != "GET":
            return None
        landed = self._landed.pop(canonical_url(request.url), None)
        if landed is None or self._resources.clock.monotonic() - landed.at > GOOD_S:
            return None
        mine = (h for h in heads if h.response.key == landed.key and not h.reserve)
        right = (h for h in mine if agrees(h, expectation) and can_reuse_for(request, h.response))
        head = next(right, None)
        if head is None:
            self._dropped.add(authority_of(request.url))
            return None
        self._stats.used += 1
        self._stats.bytes_unused -= landed.size
        if _is_page(request):
            self._note_page(request)
        return head, "revalidated" if landed.refreshed else "miss"

    def forget(self) -> None:
        """Something was changed upstream, by an upload: what came before is old."""
        self._landed.clear()
        self._pending.clear()

    async def aclose(self) -> None:
        """Stop at once, and remember which pages were wanted together."""
        self._is_over = True
        self._queue.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        await asyncio.to_thread(self._history.remember, self._together)

    def _note_page(self, request: RequestHead) -> None:
        url = canonical_url(request.url)
        self._pages[_project_of(url)] = request
        if len(self._together) < MOST:
            self._together[url] = None

    # what passes

    def _read_page(self, url: str, links: Sequence[Link]) -> None:
        """A page was read: the metadata of its newest version is what a resolver looks at first."""
        like = self._pages.get(_project_of(url)) if self._reads_metadata else None
        if like is not None and canonical_url(like.url) == url:
            newest = newest_metadata(links)
            if newest is not None:
                self._wish(newest, like)

    async def _read_metadata(self, fetch: FetchRequest) -> None:
        """Read what the file requires, in the transfer that the client has begun for it."""
        transfer = self._transfers.growing(fetch)
        if transfer is not None:
            transfer.waiters += 1
            try:
                await self._wish_required(fetch.request.url, transfer)
            finally:
                self._transfers.leave(transfer)

    async def _wish_required(self, url: str, transfer: Transfer) -> None:
        """Once the file is known to be right, ask for the pages of what it requires.

        It need not be durable for that.
        """
        while not transfer.over and transfer.phase is not Phase.VERIFIED:
            await transfer.changed()
        like = self._pages.get(normalize(url.rpartition("/")[2].partition("-")[0]))
        if like is None or transfer.phase not in {Phase.VERIFIED, Phase.LANDED}:
            return
        base = canonical_url(like.url).rstrip("/").rpartition("/")[0]
        for project in required_projects(transfer.read(0, min(transfer.available(), MAX_METADATA))):
            self._wish(f"{base}/{project}/", like)

    # asking

    def _wish(self, url: str, like: RequestHead) -> None:
        """Have this asked for as the client asked for another page.

        With its fields, its credentials only at the same origin.
        """
        authority = authority_of(url)
        if (
            self._is_over
            or url in self._known
            or authority not in self._hosts
            or authority in self._dropped
            or has_secret(url)
            or self._stats.asked + len(self._queue) >= MOST
        ):
            return
        request = like_another(url, like)
        if self._resources.rules.shared and has_credentials(request):
            return
        self._known.add(url)
        if not url.endswith(METADATA):
            self._pages.setdefault(_project_of(url), request)
        self._queue.append(request)
        if self._asking < AT_ONCE:
            self._asking += 1
            self._start(self._ask_all())

    def _start(self, work: Coroutine[None, None, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as exc:  # noqa: BLE001  (a guess that fails must not be seen by any client; the user is told)
                self._is_over = True
                text = f"an internal error ended prefetching: {type(exc).__name__}"
                self._resources.stats.warn(text)

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask_all(self) -> None:
        try:
            while self._queue:
                fetch = await self._fetch(self._queue.popleft())
                if self._stats.asked >= MOST or self._stats.bytes >= MOST_BYTES:
                    self._queue.clear()
                elif fetch is not None:
                    await self._ask(fetch)
        finally:
            self._asking -= 1

    async def _fetch(self, request: RequestHead) -> FetchRequest | None:
        """What has to be asked.

        ``None`` when the client would be answered without, or already has it asked.
        """
        resources, rules = self._resources, self._resources.rules
        expectation = await resources.known_files.expect(request.url, prefetch=True)
        stored = await resources.entries.load(request.url)
        heads = [h for h in stored if not (rules.shared and h.credentialed)]
        # The client may have asked for it while it stood in the queue, and have its answer by now.
        if (
            request.url in self._clients
            or authority_of(request.url) in self._dropped
            or immutable(heads, expectation) is not None
            or self._transfers.refused(request, expectation) is not None
        ):
            return None
        candidates = [h.response for h in usable(heads, expectation, shared=rules.shared)]
        if heads and not candidates:
            return None  # kept for failure alone: what comes now could not be used either
        asked = refreshing(request) if rules.refresh else request
        decision = lookup(asked, candidates, now=resources.clock.now(), shared=rules.shared)
        waits = isinstance(decision, Miss) or (
            isinstance(decision, Stale) and decision.may_serve is not StaleUse.WHILE_REVALIDATE
        )
        if not waits:
            return None
        fetch = fetch_request(request, decision, heads, expectation)
        return fetch if self._transfers.growing(fetch) is None else None

    async def _ask(self, fetch: FetchRequest) -> None:
        url = canonical_url(fetch.request.url)
        self._stats.asked += 1
        transfer = self._pending[url] = self._transfers.join(fetch)
        try:
            if url.endswith(METADATA):
                await self._wish_required(url, transfer)
            while not transfer.over:
                await transfer.changed()
            entry = transfer.entry if transfer.phase is Phase.LANDED else None
            if entry is None or entry.reserve:
                # an upstream that fails or refuses is not asked more than the client asks
                self._dropped.add(authority_of(url))
                return
            size = 0 if transfer.refreshed else entry.response.size or 0
            self._stats.bytes += size
            if self._pending.get(url) is transfer:  # else the client's own request has come by
                self._stats.bytes_unused += size
                now = self._resources.clock.monotonic()
                self._landed[url] = _Landed(entry.response.key, transfer.refreshed, now, size)
        finally:
            self._pending.pop(url, None)
            self._transfers.leave(transfer)


def like_another(url: str, like: RequestHead) -> RequestHead:
    """A request for this URL with another one's fields; secrets go to their origin only."""
    request = sent_to(url, unconditional(like))
    headers = request.headers
    if url.endswith(METADATA):
        headers = headers.without("cache-control", "pragma").replaced("Accept", "*/*")
    return RequestHead("GET", request.url, headers)


def _is_page(request: RequestHead) -> bool:
    """Whether an index page is asked for: by ``Accept`` (PEP 691), or an old one by its URL."""
    accept = request.headers.get("accept") or ""
    return "application/vnd.pypi.simple" in accept or (
        "text/html" in accept and canonical_url(request.url).endswith("/")
    )


def _project_of(url: str) -> str:
    return normalize(url.rstrip("/").rpartition("/")[2])


MOST_VERSIONS = 500
"""Versions of one project among which the newest is looked for."""
PURE = "-none-any.whl.metadata"


def newest_metadata(links: Iterable[Link]) -> str | None:
    """The URL of the metadata file that a resolver asks for first, out of one project's page.

    That of the newest final version, if it has one wheel that all can use. ``None`` when there is
    none, or no telling which: which of several platforms' wheels the client takes is not known
    here; nor are its constraints.
    """
    found: dict[str, dict[str, str]] = {}
    for link in links:
        if link.kind == "metadata" and link.version is not None and link.filename is not None:
            found.setdefault(link.version, {}).setdefault(link.filename, link.url)
    newest = _newest(found) if len(found) <= MOST_VERSIONS else None
    if newest is None:
        return None
    files = found[newest]
    chosen = [url for filename, url in files.items() if filename.endswith(PURE)]
    chosen = chosen or list(files.values())
    return chosen[0] if len(chosen) == 1 else None


def _newest(versions: Iterable[str]) -> str | None:
    """The greatest final version (PEP 440), else the greatest at all."""
    # Not before a page is read
    from packaging.version import InvalidVersion, Version  # noqa: PLC0415

    parsed = []
    for text in versions:
        with suppress(InvalidVersion):
            version = Version(text)
            parsed.append((not version.is_prerelease, version, text))
    return max(parsed)[2] if parsed else None


def required_projects(metadata: bytes) -> list[str]:
    r"""The projects that a METADATA file requires without extras, normalized, each once.

    Markers are evaluated for the interpreter that runs this, which is usually the client's too.
    Requirements of a URL (``name @ https:...``) are left out: no page is asked for them.

    Source: the core metadata specification, ``Requires-Dist``; PEP 508.

    >>> required_projects(b"Name: x\nRequires-Dist: A_b >=1\nRequires-Dist: c; extra == 'test'\n")
    ['a-b']
    """
    # Not before a file is read
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName  # noqa: PLC0415
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415

    head = metadata.replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode("utf-8", "replace")
    fields = (line.partition(":") for line in head.split("\n"))
    said = [text for name, _, text in fields if name.lower() == "requires-dist"]
    projects: dict[str, None] = {}
    for text in [each for each in said if "extra" not in each.partition(";")[2]][:MOST]:
        with suppress(InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName):
            found = Requirement(text)
            if found.url is None and (found.marker is None or found.marker.evaluate()):
                projects[normalize(found.name)] = None
    return list(projects)


MOST = 256
"""Pages of one run that are remembered."""


class PageHistory:
    """The pages that one run asked for, by each of them; kept in the catalogue, and lossy.

    Only URLs, and none with a credential in it: the store's heads name the same ones.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def of(self, url: str) -> Sequence[str]:
        """The pages of the last run that asked for this one, this one among them."""
        start, *rest = (self._catalogue.note(f"ahead:{url}") or "").split("\n")
        return [start + each for each in rest]

    def remember(self, urls: Iterable[str]) -> None:
        """These were asked for in one run."""
        chosen = sorted(url for url in urls if not has_secret(url))[:MOST]
        if len(chosen) < 2:
            return
        start = os.path.commonprefix(chosen)  # noqa: RUF071  (of characters is what is wanted)
        text = "\n".join([start, *(url[len(start) :] for url in chosen)])
        # Most runs want what the one before wanted: then nothing is written.
        names = [name for url in chosen if self._catalogue.note(name := f"ahead:{url}") != text]
        self._catalogue.write_notes(dict.fromkeys(names, text))
