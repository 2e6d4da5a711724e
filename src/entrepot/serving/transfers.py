"""All flights of a process, and the body of an answer that is read from one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial

from entrepot.digests import Digest
from entrepot.errors import DigestMismatch, StoreError, TruncatedBody
from entrepot.httpcache.messages import RequestHead
from entrepot.serving.fetch_request import Errand, Means, State
from entrepot.serving.known_files import Expectation
from entrepot.serving.policy import REMEMBERED_S
from entrepot.serving.resume import READ
from entrepot.serving.transfer import Flight
from entrepot.stored import canonical_url


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


class Flights:
    """All flights of this process, by name."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._flying: dict[str, Flight] = {}
        self._tasks: dict[Flight, asyncio.Task[None]] = {}
        self._aside: set[asyncio.Task[None]] = set()
        self._wrong: dict[tuple[str, tuple[Digest, ...]], tuple[float, DigestMismatch]] = {}

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
        until, error = self._wrong.get(
            (canonical_url(request.url), expectation.digests), (0.0, None)
        )
        return error if until > self._means.clock.monotonic() else None

    def _remember(self, flight: Flight) -> None:
        if isinstance(flight.error, DigestMismatch) and flight.digests:
            now = self._means.clock.monotonic()
            self._wrong = {key: each for key, each in self._wrong.items() if each[0] > now}
            self._wrong.setdefault((flight.url, flight.digests), (now + REMEMBERED_S, flight.error))

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
        if flight.generation and flight.digests:
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

    async def landed(self, url: str, *, but_joined: bool = False) -> None:
        """Wait until what has come of this URL is kept, so that its entries are all there.

        Args:
            url: canonical.
            but_joined: not for bodies with a digest, which requests that come meanwhile join.
        """
        tasks = [
            task
            for flight, task in self._tasks.items()
            if flight.url == url and flight.has_all and not (but_joined and flight.digests)
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
