"""All flights of a process, and the body of an answer that is read from one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from entrepot.app.errand import Errand, Means
from entrepot.app.flight import Flight, State
from entrepot.app.partials import READ
from entrepot.errors import TruncatedBody


class FlightBody:
    """The span ``[start, end)`` of a body that is in flight; ``end=None``: all of it, however long it gets."""

    def __init__(self, flight: Flight, start: int, end: int | None, *, leave: Callable[[Flight], None]) -> None:
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
        self._flying: dict[str, tuple[Flight, asyncio.Task[None]]] = {}

    def join(self, errand: Errand) -> Flight:
        """The flight for this errand, begun now if there is none. Leave it with :meth:`leave`."""
        found = self._flying.get(errand.name)
        if found is None or found[0].over:
            flight = Flight(self._means, errand)
            task = asyncio.get_running_loop().create_task(flight.fly())
            found = self._flying[errand.name] = (flight, task)
            task.add_done_callback(lambda _task: self._landed(errand.name, flight))
        found[0].waiters += 1
        return found[0]

    def leave(self, flight: Flight) -> None:
        """One waiter fewer; a transfer that nobody waits for stops, and what it has stays to be resumed."""
        flight.waiters -= 1
        if flight.waiters > 0 or flight.state is State.VERIFIED:
            return
        if flight.over:
            flight.close()
            return
        for name, (other, task) in self._flying.items():
            if other is flight:
                task.cancel()
                del self._flying[name]
                return

    def _landed(self, name: str, flight: Flight) -> None:
        found = self._flying.get(name)
        if found is not None and found[0] is flight:
            del self._flying[name]
        if flight.waiters == 0:
            flight.close()

    async def aclose(self, patience_s: float = 10.0) -> None:
        """Let what is complete become durable; stop the rest."""
        tasks = []
        for flight, task in list(self._flying.values()):
            if flight.state is not State.VERIFIED:
                task.cancel()
            tasks.append(task)
        if tasks:
            await asyncio.wait(tasks, timeout=patience_s)
