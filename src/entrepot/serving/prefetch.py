"""Asking ahead: upstream is asked for pages and metadata before the client does, so that it need not wait a round trip for each.

Two things are known beforehand. An earlier run asked for certain pages together: when one of them
has to be asked for again, so have the others (:class:`~entrepot.serving.page_history.Company`). And
a page or a metadata file that passes tells what a resolver looks at next: the newest version's
metadata, and the pages of what that requires (``foreseeing.py``).

Nothing here is a reason to answer otherwise: what is asked ahead goes through the same decision,
flight and store as a client's request, and answers one client's request, once, within seconds.
Never for files: they are large, and a resolver may want none. Bounds and reasons:
docs/decisions/0003-asking-ahead.md.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass

from entrepot.httpcache import Miss, Stale, StaleUse, can_reuse_for, lookup, unconditional
from entrepot.httpcache.messages import RequestHead
from entrepot.links import Link
from entrepot.names import normalize
from entrepot.serving.fetch_request import Errand, Means, State, errand_for
from entrepot.serving.known_files import Expectation
from entrepot.serving.page_history import MOST, Company
from entrepot.serving.policy import agrees, has_credentials, immutable, refreshing, usable
from entrepot.serving.prefetch_choice import newest_metadata, required_projects
from entrepot.serving.resume import sent_to
from entrepot.serving.run_stats import Foresight
from entrepot.serving.transfer import Flight
from entrepot.serving.transfers import Flights
from entrepot.stored import Head, authority_of, canonical_url, has_secret

AT_ONCE = 16
"""Requests made ahead at a time; :data:`~entrepot.serving.page_history.MOST` in one run, and each
URL once."""
MOST_BYTES = 32 << 20
"""Bytes fetched ahead in one run; after that nothing more is asked."""
GOOD_S = 15.0
"""How long an answer may wait for the client that wants it; an install of a hundred packages asks
for all its pages within that."""
MAX_METADATA = 1 << 20
"""Bytes of a metadata file that are looked through; its requirements stand at the beginning."""
METADATA = ".whl.metadata"


@dataclass(frozen=True, slots=True)
class _Landed:
    """What was asked ahead, has come, and was not asked for since."""

    key: str
    """Of the entry."""
    refreshed: bool
    at: float
    """Monotonic seconds."""
    size: int
    """Bytes of content that came."""


class Ahead:
    """Asks ahead in one run.

    Args:
        means, flights: the service's own.
        company: of pages.
        tally: counts what is asked, and what of it was of use.
        refresh: whether nothing volatile is used without asking.
    """

    def __init__(
        self, means: Means, flights: Flights, company: Company, tally: Foresight, *, refresh: bool
    ) -> None:
        self._means = means
        self._flights = flights
        self._company = company
        self._tally = tally
        self._refresh = refresh
        self._queue: deque[RequestHead] = deque()
        self._known: set[str] = set()
        """What was asked for or wished for in this run already."""
        self._clients: set[str] = set()
        """What the client itself has asked for."""
        self._hosts: set[str] = set()
        """``HOST:PORT`` that the client itself has asked; others are never asked ahead."""
        self._dropped: set[str] = set()
        """``HOST:PORT`` where it turned out to be of no use."""
        self._pages: dict[str, RequestHead] = {}
        """Project -> the request for its page."""
        self._together: dict[str, None] = {}
        """Pages that the client has asked for."""
        self._reads_metadata = False
        """Whether the client is one that asks for metadata files: pip does since 23.2."""
        self._flying: dict[str, Flight] = {}
        """URL -> a flight made ahead that no client has joined yet."""
        self._landed: dict[str, _Landed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking = 0
        self._is_over = False
        means.facts.on_page = self._read_page

    # what the service tells and asks

    def asked(self, errand: Errand) -> None:
        """A client's request goes upstream: think of what it wants next.

        To be called before its flight is joined.
        """
        request, url = errand.request, canonical_url(errand.request.url)
        if (flight := self._flying.get(url)) is not None and flight.name == errand.name:
            del self._flying[url]
            self._tally.used += 1
        foreseen = url in self._known  # then its company is known, too
        self._known.add(url)
        self._clients.add(url)
        self._hosts.add(authority_of(url))
        if "range" in request.headers:
            return
        if url.endswith(METADATA):
            self._reads_metadata = True
            self._start(self._read_metadata(errand))
        elif _is_page(request):
            self._note_page(request)
            for other in () if foreseen else self._company.of(url):
                self._wish(other, request)

    async def landing(self, url: str) -> bool:
        """Wait for what was asked ahead and lacks nothing but being kept; whether there was any.

        It need not be asked for again.
        """
        waited = False
        while (flight := self._flying.get(canonical_url(url))) is not None and (
            flight.has_all or flight.over
        ):
            waited = True
            await (asyncio.sleep(0) if flight.over else flight.changed())
        return waited

    def taken(
        self, request: RequestHead, heads: Iterable[Head], expectation: Expectation
    ) -> tuple[Head, str] | None:
        """What was asked ahead for this request, and its outcome; once.

        The client's ``max-age=0`` or ``no-cache`` is met by a validation that took place in this
        run, seconds before it asked. Both are wishes that a cache may weigh (RFC 9111 §5.2.1).
        """
        landed = (
            self._landed.pop(canonical_url(request.url), None)
            if self._landed and request.method == "GET"
            else None
        )
        if landed is None or self._means.clock.monotonic() - landed.at > GOOD_S:
            return None
        head = next((h for h in heads if h.response.key == landed.key and not h.reserve), None)
        if (
            head is None
            or not agrees(head, expectation)
            or not can_reuse_for(request, head.response)
        ):
            self._dropped.add(authority_of(request.url))
            return None
        self._tally.used += 1
        self._tally.bytes_unused -= landed.size
        if _is_page(request):
            self._note_page(request)
        return head, "revalidated" if landed.refreshed else "miss"

    def forget(self) -> None:
        """Something was changed upstream, by an upload: what came before is old."""
        self._landed.clear()
        self._flying.clear()

    async def aclose(self) -> None:
        """Stop at once, and remember which pages were wanted together."""
        self._is_over = True
        self._queue.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        await asyncio.to_thread(self._company.remember, self._together)

    def _note_page(self, request: RequestHead) -> None:
        url = canonical_url(request.url)
        self._pages[_project_of(url)] = request
        if len(self._together) < MOST:
            self._together[url] = None

    # what passes

    def _read_page(self, url: str, links: Sequence[Link]) -> None:
        """A page was read: the metadata of its newest version is what a resolver looks at first."""
        like = self._pages.get(_project_of(url)) if self._reads_metadata else None
        if (
            like is not None
            and canonical_url(like.url) == url
            and (newest := newest_metadata(links)) is not None
        ):
            self._wish(newest, like)

    async def _read_metadata(self, errand: Errand) -> None:
        """Read what the file requires, on the flight that the client has begun for it."""
        flight = self._flights.growing(errand)
        if flight is None:
            return
        flight.waiters += 1
        try:
            await self._wish_required(errand.request.url, flight)
        finally:
            self._flights.leave(flight)

    async def _wish_required(self, url: str, flight: Flight) -> None:
        """Once the file is known to be right, ask for the pages of what it requires.

        It need not be durable for that.
        """
        while not flight.over and flight.state is not State.VERIFIED:
            await flight.changed()
        like = self._pages.get(normalize(url.rpartition("/")[2].partition("-")[0]))
        if like is None or flight.state not in {State.VERIFIED, State.LANDED}:
            return
        base = canonical_url(like.url).rstrip("/").rpartition("/")[0]
        for project in required_projects(flight.read(0, min(flight.available(), MAX_METADATA))):
            self._wish(f"{base}/{project}/", like)

    # asking

    def _wish(self, url: str, like: RequestHead) -> None:
        """Have this asked for as the client asked for another page.

        With its fields, its credentials only at the same origin.
        """
        if self._is_over or url in self._known:
            return
        authority = authority_of(url)
        if authority not in self._hosts or authority in self._dropped or has_secret(url):
            return
        if self._tally.asked + len(self._queue) >= MOST:
            return
        request = like_another(url, like)
        if self._means.shared and has_credentials(request):
            return
        self._known.add(url)
        if not url.endswith(METADATA):
            self._pages.setdefault(_project_of(url), request)
        self._queue.append(request)
        if self._asking < AT_ONCE:
            self._asking += 1
            self._start(self._ask_all())

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as exc:  # noqa: BLE001  (a guess that fails must not be seen by any client; the user is told)
            self._is_over = True
            self._means.warn(f"a defect of entrepot's own ended asking ahead: {type(exc).__name__}")

    async def _ask_all(self) -> None:
        try:
            while self._queue:
                errand = await self._errand(self._queue.popleft())
                if self._tally.asked >= MOST or self._tally.bytes >= MOST_BYTES:
                    self._queue.clear()
                elif errand is not None:
                    await self._ask(errand)
        finally:
            self._asking -= 1

    async def _errand(self, request: RequestHead) -> Errand | None:
        """What has to be asked.

        ``None`` when the client would be answered without, or already has it asked.
        """
        means = self._means
        expectation = await means.facts.expect(request.url)
        heads = [
            h
            for h in await means.entries.load(request.url)
            if not (means.shared and h.credentialed)
        ]
        # The client may have asked for it while it stood in the queue, and have its answer by now.
        if (
            request.url in self._clients
            or authority_of(request.url) in self._dropped
            or immutable(heads, expectation) is not None
        ):
            return None
        candidates = [h.response for h in usable(heads, expectation, shared=means.shared)]
        if heads and not candidates:
            return None  # kept for failure alone: what comes now could not be used either
        asked = refreshing(request) if self._refresh else request
        decision = lookup(asked, candidates, now=means.clock.now(), shared=means.shared)
        if (
            not isinstance(decision, (Stale, Miss))
            or self._flights.refused(request, expectation) is not None
        ):
            return None
        if isinstance(decision, Stale) and decision.may_serve is StaleUse.WHILE_REVALIDATE:
            return None
        errand = errand_for(request, decision, heads, expectation)
        return errand if self._flights.growing(errand) is None else None

    async def _ask(self, errand: Errand) -> None:
        url = canonical_url(errand.request.url)
        self._tally.asked += 1
        flight = self._flying[url] = self._flights.join(errand)
        try:
            if url.endswith(METADATA):
                await self._wish_required(url, flight)
            while not flight.over:
                await flight.changed()
            self._take_in(url, flight, is_wanted=self._flying.get(url) is flight)
        finally:
            self._flying.pop(url, None)
            self._flights.leave(flight)

    def _take_in(self, url: str, flight: Flight, *, is_wanted: bool) -> None:
        """Keep what came for the client's own request, unless that has come by already."""
        if flight.state is not State.LANDED or flight.entry is None or flight.entry.reserve:
            self._dropped.add(
                authority_of(url)
            )  # an upstream that fails or refuses is not asked more than the client asks
            return
        size = 0 if flight.refreshed else flight.entry.response.size or 0
        self._tally.bytes += size
        if is_wanted:
            self._tally.bytes_unused += size
            key = flight.entry.response.key
            self._landed[url] = _Landed(key, flight.refreshed, self._means.clock.monotonic(), size)


def like_another(url: str, like: RequestHead) -> RequestHead:
    """A request for this URL with the fields of another one.

    What may be secret goes to its own origin only.
    """
    request = sent_to(url, unconditional(like))
    headers = request.headers
    if url.endswith(METADATA):
        headers = headers.without("cache-control", "pragma").replaced("Accept", "*/*")
    return RequestHead("GET", request.url, headers)


def _is_page(request: RequestHead) -> bool:
    """Whether a client asks for an index page, by what it accepts (PEP 691) or, if it is old, by the URL."""
    accept = request.headers.get("accept") or ""
    return "application/vnd.pypi.simple" in accept or (
        "text/html" in accept and canonical_url(request.url).endswith("/")
    )


def _project_of(url: str) -> str:
    return normalize(url.rstrip("/").rpartition("/")[2])
