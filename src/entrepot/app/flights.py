"""All flights of a process, and the body of an answer that is read from one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

from entrepot.app.errand import Errand, Means
from entrepot.app.flight import Flight, State
from entrepot.app.partials import READ
from entrepot.errors import StoreError, TruncatedBody


class FlightBody:
    """The span ``[start, end)`` of a body that is in flight; ``end=None``: all of it, however long it gets.

    Args:
        flight: joined already; :meth:`aclose` leaves it.
        start, end: in bytes.
        leave: how to leave it.
        rest: gives the bytes from a position on without the store, when that fails under the flight.
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

    def join(self, errand: Errand) -> Flight:
        """The flight for this errand, begun now if there is none. Leave it with :meth:`leave`."""
        flight = self._flying.get(errand.name)
        # An answer that has come is not one to a request that came after it, unless its digest makes it right for ever.
        if flight is None or flight.over or (flight.has_all and not errand.expectation.proves):
            flight = self._flying[errand.name] = Flight(self._means, errand)
            task = self._tasks[flight] = asyncio.get_running_loop().create_task(flight.fly())
            task.add_done_callback(partial(self._landed, errand.name, flight))
        flight.waiters += 1
        return flight

    def leave(self, flight: Flight) -> None:
        """One waiter fewer; a transfer that nobody waits for stops, and what it has stays to be resumed."""
        flight.waiters -= 1
        if flight.waiters > 0 or (flight.has_all and not flight.over):
            return
        if flight.over:
            flight.close()
            return
        self._tasks[flight].cancel()
        self._forget(flight.name, flight)

    def _landed(self, name: str, flight: Flight, _task: asyncio.Task[None]) -> None:
        del self._tasks[flight]
        self._forget(name, flight)
        if flight.waiters == 0:
            flight.close()

    def _forget(self, name: str, flight: Flight) -> None:
        if self._flying.get(name) is flight:
            del self._flying[name]

    async def aclose(self, patience_s: float = 10.0) -> None:
        """Let what is complete become durable; stop the rest."""
        for flight, task in self._tasks.items():
            if not flight.has_all:
                task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=patience_s)
