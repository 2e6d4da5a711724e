"""A store that hands everything on to another one.

The base of those that change one thing about it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from entrepot.ports.store import Blob, Check, Growing, ObjectMeta, Store


class StoreWrapper:
    """Every method of the port, on ``inner``.

    Args:
        inner: the store that does the work.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    @property
    def shared(self) -> bool:
        """Whether others than its owner may write it."""
        return self.inner.shared

    @property
    def root(self) -> Path | None:
        """The directory it lives in."""
        return self.inner.root

    async def get(self, key: str) -> Blob | None:
        """The object, open for reading."""
        return await self.inner.get(key)

    async def head(self, key: str) -> ObjectMeta | None:
        """The object's meta data."""
        return await self.inner.head(key)

    def list(self, prefix: str) -> Iterator[ObjectMeta]:
        """Every object below whole segments."""
        return self.inner.list(prefix)

    async def put(
        self,
        key: str,
        body: bytes | AsyncIterator[bytes],
        *,
        mode: Literal["create", "overwrite"] = "overwrite",
    ) -> ObjectMeta:
        """Store an object."""
        return await self.inner.put(key, body, mode=mode)

    async def delete(self, key: str) -> int | None:
        """Remove an object."""
        return await self.inner.delete(key)

    def touch(self, key: str) -> None:
        """Note a use."""
        self.inner.touch(key)

    def open_flight(self, name: str) -> Growing:
        """The download of that name."""
        return self.inner.open_flight(name)

    def is_led(self, name: str) -> bool | None:
        """Whether somebody leads that download now."""
        return self.inner.is_led(name)

    def hold(self, key: str, *, exclusive: bool = False) -> AbstractContextManager[None]:
        """Lock the prefix of ``key``."""
        return self.inner.hold(key, exclusive=exclusive)

    async def adopt(
        self, path: Path, offset: int, size: int, check: Check, *, link: bool = False
    ) -> ObjectMeta | None:
        """Take over part of a file."""
        return await self.inner.adopt(path, offset, size, check, link=link)
