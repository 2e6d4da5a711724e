"""The store in memory: the same contract, for tests and for `run --no-store`.

Nothing outlives the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from entrepot.errors import Busy, ProtocolMisuse, StoreFull
from entrepot.ports.store import Check, ObjectMeta
from entrepot.store.layout import checked_key, checked_segment


class MemoryBlob:
    """Bytes that are open for reading."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        """Bytes of content."""
        return len(self._data)

    def read(self, start: int, count: int) -> bytes:
        """At most ``count`` bytes from ``start``."""
        return self._data[start : start + count]

    def fileno(self) -> int | None:
        """None: there is no descriptor."""
        return None

    def close(self) -> None:
        """Nothing to close."""


class MemoryStore:
    """Objects in a dict.

    Args:
        shared: what the store says of itself.
        room: bytes of content that fit in, partial downloads included; ``None``: any number.
        now: seconds since the epoch.
    """

    def __init__(
        self, *, shared: bool = False, room: int | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.shared = shared
        self.room = room
        self.now = now
        self._objects: dict[str, tuple[bytes, float]] = {}
        self._flights: dict[str, _Flight] = {}
        self._held: dict[str, int] = {}

    @property
    def root(self) -> Path | None:
        """None: it is not on a disk."""
        return None

    def used(self) -> int:
        """Bytes of content, partial downloads included."""
        return sum(len(d) for d, _ in self._objects.values()) + sum(
            len(f.part.data) for f in self._flights.values()
        )

    def reserve(self, count: int) -> None:
        """Check that ``count`` bytes more fit in.

        Raises:
            StoreFull: they do not.
        """
        if self.room is not None and self.used() + count > self.room:
            raise StoreFull(
                "no room in the store", hint="free some space, or lower the cap of the store"
            )

    def get(self, key: str) -> MemoryBlob | None:
        """The object, open for reading."""
        return self.open(key)

    def open(self, key: str) -> MemoryBlob | None:
        """The object as it is there."""
        found = self._objects.get(checked_key(key))
        return MemoryBlob(found[0]) if found else None

    def head(self, key: str) -> ObjectMeta | None:
        """The object's meta data."""
        found = self._objects.get(checked_key(key))
        return ObjectMeta(key, len(found[0]), found[1]) if found else None

    def list(self, prefix: str) -> Iterator[ObjectMeta]:
        """Every object below whole segments; ``""`` for all."""
        if prefix:
            checked_key(prefix)
        for key, (data, modified) in list(self._objects.items()):
            if not prefix or key == prefix or key.startswith(prefix + "/"):
                yield ObjectMeta(key, len(data), modified)

    def put(self, key: str, body: bytes | Iterable[bytes]) -> ObjectMeta:
        """Store an object."""
        checked_key(key)
        data = body if isinstance(body, bytes) else b"".join(body)
        self.reserve(len(data))
        return self.keep(key, data)

    def adopt(
        self, path: Path, offset: int, size: int, check: Check, *, link: bool = False
    ) -> ObjectMeta | None:
        """Read part of a file in."""
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError:
            return None
        key = (
            check(lambda start, count: data[start : start + count], len(data))
            if len(data) == size
            else None
        )
        return None if key is None else self.keep(key, data)

    def keep(self, key: str, data: bytes) -> ObjectMeta:
        """Put without a check of room."""
        self._objects[key] = data, self.now()
        return ObjectMeta(key, len(data), self._objects[key][1])

    def delete(self, key: str) -> int | None:
        """Remove an object; 0 bytes of disk."""
        return None if self._objects.pop(checked_key(key), None) is None else 0

    def touch(self, key: str) -> None:
        """Note a use."""
        if key in self._objects:
            self._objects[key] = self._objects[key][0], self.now()

    def open_partial(self, name: str) -> MemoryPartialFile:
        """The download of that name."""
        return MemoryPartialFile(self, self._flights.setdefault(checked_segment(name), _Flight()))

    def is_locked(self, name: str) -> bool | None:
        """Whether somebody leads that download now."""
        flight = self._flights.get(checked_segment(name))
        return flight is not None and flight.leader is not None

    @contextmanager
    def hold(self, key: str, *, exclusive: bool = False) -> Iterator[None]:
        """Lock the first segment of ``key``.

        Nothing is waited for, because all holders are in this process.
        """
        name = checked_key(key).partition("/")[0]
        count = self._held.get(name, 0)
        if count < 0 or (exclusive and count):
            raise Busy("this part of the store is locked", hint="try again in a moment")
        self._held[name] = -1 if exclusive else count + 1
        try:
            yield
        finally:
            self._held[name] = 0 if exclusive else self._held[name] - 1

    def __contains__(self, key: str) -> bool:
        return key in self._objects


class _Part:
    """What a flight has written; readers keep the one that they have opened."""

    def __init__(self) -> None:
        self.data = bytearray()


class _Flight:
    """One download, whoever looks at it."""

    def __init__(self) -> None:
        self.leader: MemoryPartialFile | None = None
        self.part = _Part()
        self.is_over = False
        """The part was committed or discarded."""
        self.note: bytes | None = None


class MemoryPartialFile:
    """One view of a flight; see :class:`entrepot.ports.store.PartialFile`."""

    def __init__(self, store: MemoryStore, flight: _Flight) -> None:
        self._store = store
        self._flight = flight
        self._part: _Part | None = None

    @property
    def _mine(self) -> _Part:
        """The part that this object reads: the current one from its first use on."""
        if self._part is None:
            if self._flight.is_over:
                return _Part()
            self._part = self._flight.part
        return self._part

    def try_lock(self) -> bool:
        """Try to lead."""
        if self._flight.leader is None:
            self._flight.leader = self
            if self._flight.is_over:
                self.restart()
            self._part = self._flight.part
        return self._flight.leader is self

    def _must_lead(self) -> None:
        if self._flight.leader is not self:
            raise ProtocolMisuse("only the leader of a flight may write it")

    def size(self) -> int:
        """Bytes written so far."""
        return len(self._mine.data)

    def read(self, start: int, count: int) -> bytes:
        """At most ``count`` bytes from ``start``."""
        return bytes(self._mine.data[start : start + count])

    def is_current(self) -> bool:
        """Whether what this object reads is still the flight's."""
        return self._part is None or (self._part is self._flight.part and not self._flight.is_over)

    def write(self, data: bytes) -> None:
        """Append."""
        self._must_lead()
        if self._flight.is_over:
            raise ProtocolMisuse("the flight was committed or discarded: restart it first")
        self._store.reserve(len(data))
        self._mine.data += data

    def set_state(self, state: bytes) -> None:
        """Write the note."""
        self._must_lead()
        self._flight.note = state

    def state(self) -> bytes | None:
        """The latest note."""
        return self._flight.note

    def restart(self) -> None:
        """Begin again."""
        self._must_lead()
        self._flight.note, self._flight.is_over = None, False
        self._flight.part = self._part = _Part()

    def commit(self, key: str) -> ObjectMeta:
        """Make the bytes the object ``key``."""
        self._must_lead()
        if self._flight.is_over:
            raise ProtocolMisuse("the flight was committed or discarded already")
        data = bytes(self._mine.data)
        self._end()
        return self._store.keep(key, data)

    def discard(self) -> None:
        """Throw the bytes and the note away."""
        self._must_lead()
        self._end()

    def _end(self) -> None:
        _ = self._mine  # who reads it keeps it
        self._flight.note, self._flight.is_over, self._flight.part = None, True, _Part()

    def close(self) -> None:
        """Give up the lead."""
        self.release()

    def release(self) -> None:
        """Give up the lead; what is there stays readable."""
        if self._flight.leader is self:
            self._flight.leader = None
            if not self._flight.is_over and not self._flight.part.data:
                self._flight.note, self._flight.is_over = None, True
