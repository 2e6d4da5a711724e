"""The store in memory, for tests: the whole contract, nothing outlives the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from entrepot.errors import ProtocolMisuse, StoreFull
from entrepot.ports.store import ObjectMeta
from entrepot.store.layout import checked_segment
from entrepot.store.null import MemoryBlob, NullStore

__all__ = ["MemoryBlob", "MemoryStore"]


class MemoryStore(NullStore):
    """Objects in a dict.

    Args:
        shared: what the store says of itself.
        room: bytes of content that fit in, partial downloads included; ``None``: any number.
        now: seconds since the epoch.
    """

    root: Path | None = None

    def __init__(
        self, *, shared: bool = False, room: int | None = None, now: Callable[[], float] = time.time
    ) -> None:
        super().__init__(now)
        self.shared = shared
        self.room = room
        self._downloads: dict[str, _Download] = {}

    def reserve(self, count: int) -> None:
        """Check that ``count`` bytes more fit in.

        Raises:
            StoreFull: they do not.
        """
        used = sum(len(data) for data, _ in self._objects.values())
        used += sum(len(each.part.data) for each in self._downloads.values())
        if self.room is not None and used + count > self.room:
            raise StoreFull(
                "no room in the store", hint="free some space, or lower the cap of the store"
            )

    def put(self, key: str, body: bytes | Iterable[bytes]) -> ObjectMeta:
        data = body if isinstance(body, bytes) else b"".join(body)
        self.reserve(len(data))
        return super().put(key, data)

    def keep(self, key: str, data: bytes) -> ObjectMeta:
        """Put without a check of room."""
        return super().put(key, data)

    def open_partial(self, name: str) -> MemoryPartialFile:
        found = self._downloads.setdefault(checked_segment(name), _Download())
        return MemoryPartialFile(self, found)

    def is_locked(self, name: str) -> bool | None:
        found = self._downloads.get(checked_segment(name))
        return found is not None and found.writer is not None


class _Part:
    """What a download has written; readers keep the one that they have opened."""

    def __init__(self) -> None:
        self.data = bytearray()


class _Download:
    """One download, shared by all its views."""

    def __init__(self) -> None:
        self.writer: MemoryPartialFile | None = None
        self.part = _Part()
        self.is_over = False
        """The part was committed or discarded."""
        self.state: bytes | None = None


class MemoryPartialFile:
    """One view of a download; see :class:`entrepot.ports.store.PartialFile`."""

    def __init__(self, store: MemoryStore, download: _Download) -> None:
        self._store = store
        self._download = download
        self._part: _Part | None = None

    @property
    def _mine(self) -> _Part:
        """The part that this object reads: the current one from its first use on."""
        if self._part is None:
            if self._download.is_over:
                return _Part()
            self._part = self._download.part
        return self._part

    def try_lock(self) -> bool:
        if self._download.writer is None:
            self._download.writer = self
            if self._download.is_over:
                self.restart()
            self._part = self._download.part
        return self._download.writer is self

    def _must_hold(self, *, writable: bool = False) -> None:
        if self._download.writer is not self:
            raise ProtocolMisuse("a partial file is written under its lock only")
        if writable and self._download.is_over:
            raise ProtocolMisuse("the partial file was committed or discarded: restart it first")

    def size(self) -> int:
        return len(self._mine.data)

    def read(self, start: int, count: int) -> bytes:
        return bytes(self._mine.data[start : start + count])

    def is_current(self) -> bool:
        download = self._download
        return self._part is None or (self._part is download.part and not download.is_over)

    def write(self, data: bytes) -> None:
        self._must_hold(writable=True)
        self._store.reserve(len(data))
        self._mine.data += data

    def set_state(self, state: bytes) -> None:
        self._must_hold()
        self._download.state = state

    def state(self) -> bytes | None:
        return self._download.state

    def restart(self) -> None:
        self._must_hold()
        self._download.state, self._download.is_over = None, False
        self._download.part = self._part = _Part()

    def commit(self, key: str) -> ObjectMeta:
        self._must_hold(writable=True)
        data = bytes(self._mine.data)
        self.discard()
        return self._store.keep(key, data)

    def discard(self) -> None:
        self._must_hold()
        _ = self._mine  # its readers keep it
        self._download.state, self._download.is_over = None, True
        self._download.part = _Part()

    def close(self) -> None:
        self.release()

    def release(self) -> None:
        """Give up the lock; what is there stays readable."""
        if self._download.writer is self:
            self._download.writer = None
            if not self._download.is_over and not self._download.part.data:
                self._download.state, self._download.is_over = None, True
