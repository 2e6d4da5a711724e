"""Entries: heads and bodies over a store, so that nobody else makes a key or touches the order in which things are written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from entrepot.errors import Busy, InvalidHead, StoreError
from entrepot.httpcache.messages import StoredResponse
from entrepot.ports.catalogue import Catalogue
from entrepot.ports.clock import Clock
from entrepot.ports.store import Blob, Growing, Store
from entrepot.stored import Head, body_key, cache_key, variant_name

MAX_HEAD = 1 << 20
"""Bytes a head may have; a larger object under ``heads/`` is not one of ours."""


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

    async def load(self, url: str) -> list[Head]:
        """Every variant stored for this URL; damaged heads are passed over."""
        heads = []
        try:
            for meta in self.store.list(cache_key(url)):
                blob = await self.store.get(meta.key)
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

    async def save(self, url: str, head: Head) -> Head:
        """Write a head whose body, if any, is in the store already.

        Returns:
            The head with its key filled in.
        """
        key = f"{cache_key(url)}/{variant_name(head.response.vary)}"
        head = dataclasses.replace(head, response=dataclasses.replace(head.response, key=key))
        try:
            await self.store.put(key, head.to_bytes())
            body = await self.store.head(body_key(head.body)) if head.body is not None else None
        except StoreError as exc:
            self.failed(exc)
        else:
            self._catalogue.record(
                key, head, used=self._clock.now(), disk=body.disk if body is not None else 0
            )
            if body is not None:
                self._landed(body.disk)
        return head

    async def keep(
        self, url: str, head: Head, growing: Growing, *, replaces: Iterable[StoredResponse] = ()
    ) -> Head:
        """Make a download an entry.

        Body first, then head, so that whoever finds the head finds the body.

        Args:
            url: of the entry.
            head: complete.
            growing: the body, led by the caller; dropped when the head has none.
            replaces: older variants to drop afterwards.

        Raises:
            StoreError, Busy: the body could not be kept.
        """
        if head.body is not None:
            with self.hold(head):
                await growing.commit(body_key(head.body))
                entry = await self.save(url, head)
        else:
            growing.discard()
            entry = await self.save(url, head)
        for old in replaces:
            if old.key != entry.response.key:
                await self.drop(old.key)
        return entry

    async def drop(self, key: str) -> None:
        """Remove a head by its key.

        Its body goes with the next sweep unless another head names it.
        """
        try:
            await self.store.delete(key)
        except StoreError as exc:
            self.failed(exc)
        else:
            self._catalogue.forget([key])

    async def open_body(self, head: Head) -> Blob | None:
        """The stored body, open.

        ``None`` when it is gone or its length is not what the head says (a miss).
        """
        if head.body is None:
            return None
        try:
            blob = await self.store.get(body_key(head.body))
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

    def hold(self, head: Head) -> AbstractContextManager[None]:
        """Keep sweeps off this body from its commit to its head's rename."""
        assert head.body is not None
        return self.store.hold(body_key(head.body))

    def failed(self, exc: StoreError | Busy) -> None:
        """Remember the first failure."""
        self.trouble = self.trouble or exc
