"""Keeping the store below its cap while a run goes on: when room is made, not how.

How is the store's: ``store/gc.py`` and ``eviction.py``. It is done in a thread, once at a time.

A download that is stored between two rounds may take the store over its cap. So the less room there
was, the sooner the next round comes: after an eighth of it, and at every body that is stored once
there is none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from entrepot.errors import EntrepotError

STEP = 64 << 20
"""Bytes after which room is made again at the latest."""
LEAST = 1 << 20
"""Bytes after which it is made again at the earliest, while nothing is stored."""
PAUSE_S = 0.02
"""Seconds between two rounds at least."""
REST = 4
"""How many times as long as a round took none follows it: a store in which everything is in use
shall not keep a processor busy."""

PATIENCE_S = 1.0
"""Seconds that a run's end waits for a sweep, which goes on the next hour if it is not done then.
"""


class SizeLimit:
    """Counts what is downloaded and has room made.

    Args:
        make_room: brings the store below its cap and gives the bytes that are free below it then,
            negative when too much is in use; ``None`` when another process is doing it. Called in a
            thread.
        sweep: removes what nothing needs if it is time to; called in a thread, once, and told how
            to know that it shall stop.
    """

    def __init__(
        self,
        make_room: Callable[[], int | None],
        sweep: Callable[[Callable[[], bool]], object] | None = None,
    ) -> None:
        self._make_room = make_room
        self._sweep = sweep
        self._since = 0
        self._next = 0
        self._round: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def grown(self, count: int) -> None:
        """So many bytes were downloaded; called on the event loop, for every piece."""
        self._since += count
        if self._since >= max(self._next, LEAST):
            self._begin()

    def landed(self, size: int) -> None:
        """A body of so many bytes has become durable, downloaded or taken from elsewhere."""
        self._since = max(self._since, size)
        if self._since >= self._next:
            self._begin()

    def _begin(self) -> None:
        if self._round is None and not self._over.is_set():
            if self._sweep is not None and self._sweeping is None:
                self._sweeping = asyncio.get_running_loop().create_task(self._swept(self._sweep))
            self._round = asyncio.get_running_loop().create_task(self._make())

    async def _make(self) -> None:
        self._since = 0
        start = time.monotonic()
        room: int | None = STEP * 8
        with suppress(EntrepotError):  # a failing store shows where something is wanted of it
            room = await asyncio.to_thread(self._make_room)
        # Else another process makes room, and may be gone when more comes from here: as soon again
        if room is not None:
            self._next = min(STEP, max(0, room // 8))
        pause = max(PAUSE_S, REST * (time.monotonic() - start))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), pause)
        self._round = None
        self.grown(0)

    async def _swept(self, sweep: Callable[[Callable[[], bool]], object]) -> None:
        with suppress(EntrepotError):
            await asyncio.to_thread(sweep, self._over.is_set)

    async def aclose(self) -> None:
        """Stop sweeping, after a moment in which small stores are done, and make room once more."""
        if self._sweeping is not None:
            await asyncio.wait([self._sweeping], timeout=PATIENCE_S)
        self._over.set()
        for task in (self._round, self._sweeping):
            if task is not None:
                await asyncio.wait([task])
        with suppress(EntrepotError):
            await asyncio.to_thread(self._make_room)
