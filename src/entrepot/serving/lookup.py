"""Entries: heads and bodies over a store.

Nothing else makes a key, or knows the order in which things are written. And here alone is decided
what of the store, which is synchronous, stays on the event loop: short reads of local files (a
head, what lies below a key, a piece of an open body), which take less time than handing them to a
thread. What waits for locks, for the disk or for the catalogue, or reads a whole body, is done in
a thread.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from entrepot.errors import Busy, InvalidHead, StoreError
from entrepot.httpcache.messages import StoredResponse
from entrepot.ports.catalogue import Catalogue
from entrepot.ports.clock import Clock
from entrepot.ports.reuse import ReusableResponse
from entrepot.ports.store import Blob, Check, PartialFile, Store
from entrepot.stored import Head, body_key, cache_key, variant_name

T = TypeVar("T")

MAX_HEAD = 1 << 20
"""Bytes a head may have; a larger object under ``heads/`` is not one of ours."""


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
        store, catalogue, clock: the world.
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

    # -- reading -----------------------------------------------------------------------------------

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

    def used(self, head: Head) -> None:
        """Note that an entry was of use now."""
        self.store.touch(head.response.key)

    async def open_partial(self, name: str) -> PartialFile:
        """The download of that name. In a thread: the first one of a process syncs the boot marker.

        Raises:
            StoreError: the store cannot be written.
        """
        return await in_thread(self.store.open_partial, name)

    # -- writing -----------------------------------------------------------------------------------

    async def save(self, url: str, head: Head) -> Head:
        """Write a head whose body, if any, is in the store already.

        Returns:
            The head with its key filled in.
        """
        saved, disk = await in_thread(self._save, url, head)
        if disk is not None:
            self._landed(disk)
        return saved

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
        saved, disk = await in_thread(self._keep, url, head, body, replaces)
        if disk is not None:
            self._landed(disk)
        return saved

    async def adopt(self, donation: ReusableResponse, check: Check) -> bool:
        """Take over what another cache has, if ``check`` finds it right.

        Raises:
            StoreError: it could not be kept.
        """
        work = partial(
            self.store.adopt,
            donation.path,
            donation.offset,
            donation.size,
            check,
            link=donation.is_whole_file,
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

    # -- in threads --------------------------------------------------------------------------------

    def _keep(
        self,
        url: str,
        head: Head,
        body: PartialFile | bytes | None,
        replaces: Iterable[StoredResponse],
    ) -> tuple[Head, int | None]:
        if head.body is None:
            if body is not None and not isinstance(body, bytes):
                body.discard()
            saved, disk = self._save(url, head)
        else:
            key = body_key(head.body)
            with self.store.hold(key):
                if isinstance(body, bytes):
                    self.store.put(key, body)
                elif body is not None:
                    body.commit(key)
                saved, disk = self._save(url, head)
        for old in replaces:
            if old.key != saved.response.key:
                self._drop(old.key)
        return saved, disk

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
