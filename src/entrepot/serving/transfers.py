"""All transfers of a process: who leads one, how another process's is followed, and how a body is read from one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial

from entrepot.errors import DigestMismatch, StoreError, TruncatedBody, UpstreamError
from entrepot.httpcache.messages import RequestHead
from entrepot.httpcache.policy import can_reuse_for
from entrepot.ports.store import Flights, Growing
from entrepot.serving.fetch import Leader, read_page
from entrepot.serving.index_reader import Span
from entrepot.serving.known_files import Expectation, Named
from entrepot.serving.page_readers import learn_stored
from entrepot.serving.policy import REMEMBERED_S, confirmed, immutable
from entrepot.serving.resume import READ, starts_alike
from entrepot.serving.transfer import NOTICED_S, Errand, Means, Note, Progress, State
from entrepot.stored import Head
from entrepot.urls import canonical_url

FOLLOW_S = 0.01
"""Seconds between looks at a download that another process leads."""
LAG = 0.05
"""Once it is shown, looks come as much more seldom as this share of the time that it has taken so
far, which nobody notices, ..."""
LAG_MOST_S = NOTICED_S - FOLLOW_S
"""... but never further apart than this: ten processes that look at each piece of a network take
more time than their clients."""


class Flight(Progress):
    """One transfer. :meth:`fly` does the work.

    Everybody else reads the attributes and waits for :meth:`changed`.

    Args:
        means: what it works with.
        errand: what for.
        after: one of the same name in this process that came too early to answer this errand; it
            ends first.
    """

    def __init__(self, means: Means, errand: Errand, after: Flight | None = None) -> None:
        super().__init__(errand.expectation.hasher(), holds=errand.expectation.checks)
        self._means = means
        self._errand = errand
        self._after = after
        self._seat: Growing | None = None
        self._leader: Leader | None = None
        self._began = means.clock.now()

    @property
    def name(self) -> str:
        """What it is known under."""
        return self._errand.name

    @property
    def url(self) -> str:
        """What it fetches, as cache key."""
        return canonical_url(self._errand.request.url)

    @property
    def named(self) -> Named:
        """What its body must have."""
        return self._errand.expectation.named

    def serves(self, errand: Errand) -> bool:
        """Whether what it brings is what this errand of the same name wants, too."""
        if self.over or self.named != errand.expectation.named:
            return False
        # An answer that has come is not one to a request that came after it, unless its digest
        # makes it right for ever.
        return errand.expectation.checks or not self.has_all

    def close(self) -> None:
        """Nobody reads any more."""
        super().close()
        if self._seat is not None:
            self._seat.close()

    async def fly(self) -> None:
        """Do it all. Never raises but for cancellation: what went wrong is in ``error``."""
        try:
            while self._after is not None and not self._after.finished:
                await self._after.changed()
            self._after = None
            seat = self._seat = self._means.entries.store.open_flight(self._errand.name)
            await self._follow(seat)
            self._leader = Leader(self._means, self._errand, self, seat)
            if not await self._done_by_others():
                await self._leader.lead()
        except UpstreamError as exc:
            self.error, self.state = exc, State.FAILED
        except StoreError as exc:
            self._means.entries.failed(exc)
            self.error, self.state = exc, State.FAILED
        finally:
            self._end()

    def _end(self) -> None:
        """Say how it ended, and let the next one lead."""
        self.finished = True
        if not self.over_well:
            self.state = State.FAILED
            self.error = self.error or TruncatedBody(
                "the transfer was given up", url=self._errand.redacted
            )
        if self._leader is not None:
            self._leader.tidy()
        if self._seat is not None:
            self._seat.release()
        self.tell()

    async def _follow(self, seat: Growing) -> None:
        """While another process leads, show its progress to those who wait here."""
        follower: Follower | None = None
        while not seat.lead():
            follower = follower or Follower(self._means.entries.store, self._errand.name)
            while follower.look():  # as long as it grows its leader lives
                self._show(follower)
                await asyncio.sleep(self._lag())
            await asyncio.sleep(FOLLOW_S)

    def _lag(self) -> float:
        """Seconds until the next look at what grows."""
        return (
            max(FOLLOW_S, min(LAG_MOST_S, LAG * (self._means.clock.now() - self._began)))
            if self.mark
            else FOLLOW_S
        )

    def _show(self, follower: Follower) -> None:
        note = follower.note
        tell = self.tell_growth
        if note is not None and note.mark != self.mark:
            if not (self._errand.expectation.checks or self._came_since(note.head)):
                # Upstream was asked before we were: it is no answer to this request, and we ask
                # ourselves afterwards
                return
            self.begin(note)
            self.growing, tell = follower.view, self.tell
        if note is not None and self._is_right(note):
            if follower.view is not None and note.total and self.state is not State.VERIFIED:
                read_page(
                    self._means, self._errand, note.head, Span(follower.view.read, note.total)
                )
            self.state, self.total = State.VERIFIED, note.total
        tell()

    def _is_right(self, note: Note) -> bool:
        """Whether what another process has found whole and right is so for this errand, which may know another digest."""
        expectation = self._errand.expectation
        return note.whole and confirmed(note.head, expectation)

    async def _done_by_others(self) -> bool:
        """Look the entry up again now that nobody else is at it."""
        heads = await self._means.entries.load(self._errand.request.url)
        fixed = immutable(heads, self._errand.expectation)
        fresh = [
            h
            for h in heads
            if self._came_since(h) and can_reuse_for(self._errand.request, h.response)
        ]
        found = fixed or (fresh[0] if fresh else None)
        if found is None:
            # Whole, and not kept. Upstream's next answer may be another one, which could not be put
            # to what waiters here have.
            return self.state is State.VERIFIED
        if self.growing is not None and self.state is not State.VERIFIED:
            # Waiters here have read from the file that another process has finished; its body goes
            # on where they are.
            blob = await self._means.entries.open_body(found)
            if blob is None:
                return False
            if not await asyncio.to_thread(starts_alike, self.growing, blob):
                self.generation += 1
            self.blob = blob
        learn_stored(
            self._errand.request.url,
            found,
            self._means.facts,
            self._means.entries,
            self._means.readers,
        )
        self.entry, self.state = found, State.LANDED
        return True

    def _came_since(self, head: Head) -> bool:
        """Whether upstream was asked after we were.

        Only then is it an answer to this request too.
        """
        if not confirmed(head, self._errand.expectation) or (
            self._means.shared and head.credentialed
        ):
            return False
        return head.response.response_time >= self._began and head.response not in self._errand.seen


class FlightBody:
    """The span ``[start, end)`` of a body that is in flight; ``end=None``: all of it, however long it gets.

    Args:
        flight: joined already; :meth:`aclose` leaves it.
        start, end: in bytes.
        leave: how to leave it.
        rest: gives the bytes from a position on without the store, when that fails under the
            flight.
    """

    def __init__(
        self,
        flight: Flight,
        start: int,
        end: int | None,
        *,
        leave: Callable[[Flight], None],
        rest: Callable[[int], AsyncIterator[bytes]],
    ) -> None:
        self._rest = rest
        self._flight = flight
        self._at = start
        self._end = end
        self._leave: Callable[[Flight], None] | None = leave
        self._generation = flight.generation
        self.length = None if end is None else end - start

    async def chunks(self) -> AsyncIterator[bytes]:
        """Bytes as they become certain.

        Raises:
            UpstreamError, StoreError: the flight failed; what was sent is not the whole.
        """
        flight = self._flight
        while self._end is None or self._at < self._end:
            if flight.generation != self._generation:
                raise TruncatedBody("upstream's bytes changed in mid-flight", received=self._at)
            limit = flight.available() if self._end is None else min(flight.available(), self._end)
            if self._at < limit:
                piece = flight.read(self._at, min(READ, limit - self._at))
                if not piece:
                    raise TruncatedBody("the growing file went away", received=self._at)
                self._at += len(piece)
                yield piece
            elif flight.state in {State.VERIFIED, State.LANDED}:
                return
            elif isinstance(flight.error, StoreError):
                async for piece in self._rest(self._at):
                    yield piece
                return
            elif flight.over:
                raise flight.error or TruncatedBody("the transfer ended early", received=self._at)
            else:
                await flight.changed()

    async def aclose(self) -> None:
        """Leave the flight."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave(self._flight)


class Transfers:
    """All flights of this process, by name."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._flying: dict[str, Flight] = {}
        self._tasks: dict[Flight, asyncio.Task[None]] = {}
        self._aside: set[asyncio.Task[None]] = set()
        self._wrong: dict[tuple[str, Named], tuple[float, DigestMismatch]] = {}

    def join(self, errand: Errand) -> Flight:
        """The flight for this errand, begun now if there is none. Leave it with :meth:`leave`."""
        flight = self.growing(errand)
        if flight is None:
            flight = self._flying[errand.name] = Flight(
                self._means, errand, after=self._flying.get(errand.name)
            )
            task = self._tasks[flight] = asyncio.get_running_loop().create_task(flight.fly())
            task.add_done_callback(partial(self._landed, errand.name, flight))
        flight.waiters += 1
        return flight

    def growing(self, errand: Errand) -> Flight | None:
        """The flight that serves this errand, if there is one already."""
        flight = self._flying.get(errand.name)
        return flight if flight is not None and flight.serves(errand) else None

    def refresh(self, errand: Errand) -> None:
        """Have it done with nobody waiting for it (RFC 5861 §3)."""
        self._set_aside(self._see_off(self.join(errand)))

    async def _see_off(self, flight: Flight) -> None:
        while not flight.over:
            await flight.changed()
        self.leave(flight)

    def _set_aside(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    def refused(self, request: RequestHead, expectation: Expectation) -> DigestMismatch | None:
        """Why this URL need not be asked right now.

        It has brought wrong bytes twice within the last seconds.

        A range neither: who puts it together with what came before has the wrong file whole.
        """
        until, error = self._wrong.get((canonical_url(request.url), expectation.named), (0.0, None))
        return error if until > self._means.clock.monotonic() else None

    def _remember(self, flight: Flight) -> None:
        if isinstance(flight.error, DigestMismatch) and flight.named:
            now = self._means.clock.monotonic()
            self._wrong = {key: each for key, each in self._wrong.items() if each[0] > now}
            self._wrong.setdefault((flight.url, flight.named), (now + REMEMBERED_S, flight.error))

    def leave(self, flight: Flight) -> None:
        """One waiter fewer; a transfer that nobody waits for stops, and what it has stays to be resumed.

        But not after a wrong digest: whoever had begun to read was cut off, and comes again for
        what the second try brings.
        """
        self._remember(flight)  # before this client can come again
        flight.waiters -= 1
        if flight.waiters > 0 or (flight.has_all and not flight.over):
            return
        if flight.over:
            self._let_go(flight)
            return
        if flight.generation and flight.named:
            return  # its waiters had to be left; what it tries once more is for those who ask again
        self._tasks[flight].cancel()
        self._forget(flight.name, flight)

    def _landed(self, name: str, flight: Flight, _task: asyncio.Task[None]) -> None:
        del self._tasks[flight]
        self._forget(name, flight)
        self._remember(flight)
        if flight.waiters == 0:
            self._let_go(flight)

    def _let_go(self, flight: Flight) -> None:
        flight.close()
        answer = flight.claim()  # that nobody took
        if answer is not None:
            self._set_aside(answer.aclose())

    def _forget(self, name: str, flight: Flight) -> None:
        if self._flying.get(name) is flight:
            del self._flying[name]

    async def landed(self, url: str) -> None:
        """Wait until what has come of this URL is kept, so that what is done to its entries afterwards is done to all of them."""
        tasks = [
            task for flight, task in self._tasks.items() if flight.url == url and flight.has_all
        ]
        if tasks:
            await asyncio.wait(tasks)

    async def aclose(self, patience_s: float = 10.0) -> None:
        """Let what is complete become durable; stop the rest."""
        for flight, task in self._tasks.items():
            if not flight.has_all:
                task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=patience_s)
        if self._aside:
            await asyncio.wait(list(self._aside), timeout=patience_s)


class Follower:
    """What is seen of a flight from outside.

    Its leader may begin again at byte 0, in another file; so may the next leader. Each beginning
    has a mark of its own in the note, and a view is taken only of a file that certainly is the
    note's.

    Args:
        store: where it grows.
        name: of the flight.

    Raises:
        StoreError: from every method.
    """

    def __init__(self, store: Flights, name: str) -> None:
        self._store = store
        self._name = name
        self._raw = b""
        self._size = 0
        self.view: Growing | None = None
        """The file of :attr:`note`; open as long as somebody may read from it."""
        self.note: Note | None = None

    def look(self) -> bool:
        """Look again; ``True`` when there is more to see, or something else."""
        here = self.view or self._store.open_flight(self._name)
        raw = here.description() or b""
        if raw and raw != self._raw:
            return self._take(raw)
        size = self.view.size() if self.view is not None else 0
        grown, self._size = size != self._size, size
        return grown

    def _take(self, raw: bytes) -> bool:
        """View the file that this note is of.

        The one that lies there both before and after the note was read.
        """
        note = Note.from_bytes(raw)
        view = self._store.open_flight(self._name)
        size = view.size()
        if note is None or not size or view.description() != raw or not view.is_current():
            view.close()
            return False  # it is just being begun, or replaced: it will be there at the next look
        self.view, self.note, self._raw, self._size = view, note, raw, size
        return True
