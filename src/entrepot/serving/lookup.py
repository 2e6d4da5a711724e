"""Entries: heads and bodies over a store, and the limit of its size while a run goes on.

Nothing else makes a key, or knows the order in which things are written. And here alone is decided
what of the store, which is synchronous, stays on the event loop: short reads of local files (a
head, what lies below a key, a piece of an open body), which take less time than handing them to a
thread. What waits for locks, for the disk or for the catalogue, or reads a whole body, is done in
a thread.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from entrepot.errors import Busy, EntrepotError, InvalidHead, StoreError
from entrepot.httpcache.messages import StoredResponse
from entrepot.ports.catalogue import Catalogue
from entrepot.ports.clock import Clock
from entrepot.ports.reuse import ReusableResponse
from entrepot.ports.store import Blob, Check, PartialFile, Store
from entrepot.stored import Head, body_key, cache_key, variant_name

T = TypeVar("T")

MAX_HEAD = 1 << 20
"""Bytes a head may have; a larger object under ``heads/`` is not one of ours."""
READ = 1 << 18
"""Bytes of a body read at a time: large enough that the interpreter is not the limit, small enough
to interleave."""


async def in_thread(work: Callable[..., T], *args: object) -> T:
    """``work(*args)`` in a thread, waited for also when this task is cancelled meanwhile.

    The clean-up of a cancelled task closes files. A thread that goes on would find their
    descriptors closed, or other files' in their place.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        task.exception()  # seen: the cancelling is the news
        raise


class Entries:
    """Stored responses by URL.

    A failing store never fails a client: reading gives "not there", writing is left out, and
    ``trouble`` says why.

    Args:
        store, catalogue, clock: where they are kept, and when.
        landed: told the bytes of disk of each body that an entry was written for.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        clock: Clock,
        landed: Callable[[int], None] = lambda _size: None,
    ) -> None:
        self.store = store
        self._landed = landed
        self._catalogue = catalogue
        self._clock = clock
        self.trouble: StoreError | Busy | None = None
        """The first failure of the store in this process, for the last line."""

    async def load(self, url: str) -> list[Head]:
        """Every variant stored for this URL; damaged heads are passed over."""
        heads = []
        try:
            for meta in self.store.list(cache_key(url)):
                blob = self.store.open(meta.key)
                if blob is None or blob.size > MAX_HEAD:
                    continue
                try:
                    heads.append(Head.from_bytes(blob.read(0, MAX_HEAD), key=meta.key))
                except InvalidHead:
                    continue
                finally:
                    blob.close()
        except StoreError as exc:
            self.failed(exc)
        return heads

    async def open_body(self, head: Head) -> Blob | None:
        """The stored body, open.

        ``None`` when it is gone or its length is not what the head says (a miss).
        """
        if head.body is None:
            return None
        key = body_key(head.body)
        try:
            blob = self.store.open(key)
            if blob is not None and self.store.is_in_doubt(key, blob):
                blob.close()
                blob = await in_thread(self.store.get, key)  # hashes it
        except StoreError as exc:
            self.failed(exc)
            return None
        if blob is not None and blob.size != head.response.size:
            blob.close()
            return None
        return blob

    async def read_body(self, head: Head, work: Callable[[Blob], T]) -> T | None:
        """What ``work``, in a thread, makes of the stored body; ``None`` when that is not there."""
        blob = await self.open_body(head)
        if blob is None:
            return None
        try:
            return await in_thread(work, blob)
        finally:
            blob.close()

    def used(self, head: Head) -> None:
        """Note that an entry was of use now."""
        self.store.touch(head.response.key)

    async def open_partial(self, name: str) -> PartialFile:
        """The download of that name. In a thread: the first one of a process syncs the boot marker.

        Raises:
            StoreError: the store cannot be written.
        """
        return await in_thread(self.store.open_partial, name)

    async def save(self, url: str, head: Head) -> Head:
        """Write a head whose body, if any, is in the store already.

        Returns:
            The head with its key filled in.
        """
        return self._told(await in_thread(self._save, url, head))

    async def keep(
        self,
        url: str,
        head: Head,
        body: PartialFile | bytes | None,
        *,
        replaces: Iterable[StoredResponse] = (),
    ) -> Head:
        """Make a download an entry.

        Body first, then head, so that who finds the head finds the body. Sweeps are kept off from
        before the one until after the other.

        Args:
            url: of the entry.
            head: complete.
            body: locked by the caller, and discarded when the head has none; or the bytes; ``None``
                when the store has the body.
            replaces: older variants to drop afterwards.

        Raises:
            StoreError, Busy: the body could not be kept.
        """

        def keep() -> tuple[Head, int | None]:
            if head.body is None:
                if body is not None and not isinstance(body, bytes):
                    body.discard()
                saved = self._save(url, head)
            else:
                key = body_key(head.body)
                with self.store.hold(key):
                    if isinstance(body, bytes):
                        self.store.put(key, body)
                    elif body is not None:
                        body.commit(key)
                    saved = self._save(url, head)
            for old in replaces:
                if old.key != saved[0].response.key:
                    self._drop(old.key)
            return saved

        return self._told(await in_thread(keep))

    async def adopt(self, found: ReusableResponse, check: Check) -> bool:
        """Take over what another cache has, if ``check`` finds it right.

        Raises:
            StoreError: it could not be kept.
        """
        work = partial(
            self.store.adopt,
            found.path,
            found.offset,
            found.size,
            check,
            link=found.is_whole_file,
        )
        return await in_thread(work) is not None

    async def drop(self, key: str) -> None:
        """Remove a head by its key.

        Its body goes with the next sweep unless another head names it.
        """
        await in_thread(self._drop, key)

    def failed(self, exc: StoreError | Busy) -> None:
        """Remember the first failure."""
        self.trouble = self.trouble or exc

    def _told(self, saved: tuple[Head, int | None]) -> Head:
        head, disk = saved
        if disk is not None:
            self._landed(disk)
        return head

    # in threads

    def _save(self, url: str, head: Head) -> tuple[Head, int | None]:
        """Write a head and record it; the bytes of disk of its body if both are there now."""
        key = f"{cache_key(url)}/{variant_name(head.response.vary)}"
        head = dataclasses.replace(head, response=dataclasses.replace(head.response, key=key))
        try:
            self.store.put(key, head.to_bytes())
            body = self.store.head(body_key(head.body)) if head.body is not None else None
        except StoreError as exc:
            self.failed(exc)
            return head, None
        disk = body.disk if body is not None else 0
        self._catalogue.record(key, head, used=self._clock.now(), disk=disk)
        return head, None if body is None else disk

    def _drop(self, key: str) -> None:
        try:
            self.store.delete(key)
        except StoreError as exc:
            self.failed(exc)
        else:
            self._catalogue.forget([key])


STEP = 64 << 20
"""Bytes after which room is made again at the latest."""
LEAST = 1 << 20
"""Bytes after which it is made again at the earliest, while nothing is stored."""
PAUSE_S = 0.02
"""Seconds between two rounds at least."""
REST = 4
"""How many times as long as a round took none follows it: a store in which everything is in use
must not keep a processor busy."""

PATIENCE_S = 1.0
"""Seconds that a run's end waits for a sweep; one that is not done then goes on the next hour."""


class SizeLimit:
    """Keeps the store below its cap: counts what is downloaded, and has room made.

    How room is made is the store's business (``store/gc.py``, ``eviction.py``); it is done in a
    thread, once at a time. A download that is stored between two rounds may take the store over its
    cap. So the less room there was, the sooner the next round comes: after an eighth of it, and at
    every body that is stored once there is none.

    Args:
        make_room: brings the store below its cap and gives the bytes that are free below it then,
            negative when too much is in use; ``None`` when another process is doing it. Called in a
            thread.
        sweep: removes what nothing needs if it is time to; called in a thread, once, and told how
            to know that it must stop.
    """

    def __init__(
        self,
        make_room: Callable[[], int | None],
        sweep: Callable[[Callable[[], bool]], object] = lambda _stop: None,
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
            if self._sweeping is None:
                self._sweeping = asyncio.get_running_loop().create_task(self._swept())
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

    async def _swept(self) -> None:
        with suppress(EntrepotError):
            await asyncio.to_thread(self._sweep, self._over.is_set)

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
