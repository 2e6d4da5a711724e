"""A store that counts what is asked of it: for tests and for `--debug`."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from entrepot.ports.store import Blob, Check, Growing, ObjectMeta, Store
from entrepot.store.wrapper import StoreWrapper


class CountingStore(StoreWrapper):
    """Another store, with its calls counted by method (``get``, ``put`` ...) in :attr:`calls`.

    ``get_hit`` and ``put_bytes`` say how many gets found something and how many bytes of content
    were put. A call that fails counts.
    """

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()

    async def get(self, key: str) -> Blob | None:
        """Counted."""
        self.calls["get"] += 1
        found = await self.inner.get(key)
        self.calls["get_hit"] += found is not None
        return found

    async def head(self, key: str) -> ObjectMeta | None:
        """Counted."""
        self.calls["head"] += 1
        return await self.inner.head(key)

    def list(self, prefix: str) -> Iterator[ObjectMeta]:
        """Counted."""
        self.calls["list"] += 1
        return self.inner.list(prefix)

    async def put(
        self,
        key: str,
        body: bytes | AsyncIterator[bytes],
        *,
        mode: Literal["create", "overwrite"] = "overwrite",
    ) -> ObjectMeta:
        """Counted."""
        self.calls["put"] += 1
        meta = await self.inner.put(key, body, mode=mode)
        self.calls["put_bytes"] += meta.size
        return meta

    async def delete(self, key: str) -> int | None:
        """Counted."""
        self.calls["delete"] += 1
        return await self.inner.delete(key)

    def touch(self, key: str) -> None:
        """Counted."""
        self.calls["touch"] += 1
        self.inner.touch(key)

    def open_flight(self, name: str) -> Growing:
        """Counted."""
        self.calls["open_flight"] += 1
        return self.inner.open_flight(name)

    def is_led(self, name: str) -> bool | None:
        """Counted."""
        self.calls["is_led"] += 1
        return self.inner.is_led(name)

    def hold(self, key: str, *, exclusive: bool = False) -> AbstractContextManager[None]:
        """Counted."""
        self.calls["hold"] += 1
        return self.inner.hold(key, exclusive=exclusive)

    async def adopt(
        self, path: Path, offset: int, size: int, check: Check, *, link: bool = False
    ) -> ObjectMeta | None:
        """Counted."""
        self.calls["adopt"] += 1
        return await self.inner.adopt(path, offset, size, check, link=link)
