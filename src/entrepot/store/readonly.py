"""A store that is only read.

A base that several people share, a mounted disk, somebody else's store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, NoReturn

from entrepot.errors import StoreUnavailable
from entrepot.ports.store import Check, Growing, ObjectMeta
from entrepot.store.wrapper import StoreWrapper


class ReadOnlyStore(StoreWrapper):
    """Reads of another store.

    Every write is refused with :class:`StoreUnavailable`, and nothing of it is touched.

    A shared hold is granted without a lock: it only keeps sweeps away from what is being written.
    """

    async def put(
        self,
        key: str,
        body: bytes | AsyncIterator[bytes],  # noqa: ARG002
        *,
        mode: Literal["create", "overwrite"] = "overwrite",  # noqa: ARG002
    ) -> ObjectMeta:
        """Refused."""
        _refuse(f"{key} cannot be stored")

    async def delete(self, key: str) -> int | None:
        """Refused."""
        _refuse(f"{key} cannot be removed")

    def touch(self, key: str) -> None:
        """Nothing is noted."""

    def open_flight(self, name: str) -> Growing:
        """Refused: a flight that nobody can lead would keep its followers waiting."""
        _refuse(f"the download {name} cannot be kept")

    def hold(self, key: str, *, exclusive: bool = False) -> AbstractContextManager[None]:
        """Granted when shared, refused when exclusive."""
        if exclusive:
            _refuse(f"the part of {key} cannot be swept")
        return nullcontext()

    async def adopt(
        self, path: Path, offset: int, size: int, check: Check, *, link: bool = False
    ) -> ObjectMeta | None:
        """Refused."""
        _refuse(f"{path} cannot be taken over")


def _refuse(what: str) -> NoReturn:
    raise StoreUnavailable(f"{what}: the store is read-only")
