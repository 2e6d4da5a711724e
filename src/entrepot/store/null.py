"""The store of a run whose own cannot be opened: it keeps nothing beyond the run.

Nothing is downloaded into it. What is taken over from other tools' caches is kept in memory, so
that a run without a network has it all the same. The memory store of the tests is made of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from entrepot.errors import Busy, StoreUnavailable
from entrepot.ports.store import Blob, Check, Leftover, ObjectMeta, PartialFile
from entrepot.store.layout import checked_key


class MemoryBlob:
    """Bytes that are open for reading."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, start: int, count: int) -> bytes:
        return self._data[start : start + count]

    def fileno(self) -> int | None:
        return None

    def close(self) -> None:
        """Nothing to close."""


class NullStore:
    """Objects in a dict, no downloads; see :class:`entrepot.ports.store.Store`."""

    shared = False
    root: Path | None = None

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.now = now
        self._objects: dict[str, tuple[bytes, float]] = {}
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> MemoryBlob | None:
        found = self._objects.get(checked_key(key))
        return MemoryBlob(found[0]) if found else None

    open = get

    def is_in_doubt(self, key: str, blob: Blob) -> bool:
        del key, blob
        return False

    def head(self, key: str) -> ObjectMeta | None:
        found = self._objects.get(checked_key(key))
        return ObjectMeta(key, len(found[0]), found[1]) if found else None

    def list(self, prefix: str) -> Iterator[ObjectMeta]:
        if prefix:
            checked_key(prefix)
        for key, (data, modified) in list(self._objects.items()):
            if not prefix or key == prefix or key.startswith(prefix + "/"):
                yield ObjectMeta(key, len(data), modified)

    def put(self, key: str, body: bytes | Iterable[bytes]) -> ObjectMeta:
        checked_key(key)
        data = body if isinstance(body, bytes) else b"".join(body)
        self._objects[key] = data, self.now()
        return ObjectMeta(key, len(data), self._objects[key][1])

    def adopt(
        self, path: Path, offset: int, size: int, check: Check, *, link: bool = False
    ) -> ObjectMeta | None:
        """Read part of a file in."""
        del link
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError:
            return None
        if len(data) != size:
            return None
        key = check(lambda start, count: data[start : start + count], size)
        return None if key is None else self.put(key, data)

    def delete(self, key: str) -> int | None:
        return None if self._objects.pop(checked_key(key), None) is None else 0

    def touch(self, key: str) -> None:
        if key in self._objects:
            self._objects[key] = self._objects[key][0], self.now()

    def open_partial(self, name: str) -> PartialFile:
        del name
        raise StoreUnavailable("there is no store to download into")

    def is_locked(self, name: str) -> bool | None:
        del name
        return False

    def leftovers(self) -> Iterator[Leftover]:
        """None are left."""
        return iter(())

    def remove_leftover(self, key: str, *, size: int | None = None) -> int | None:
        """None are there."""
        del key, size
        return None

    def overhead(self) -> int:
        return 0

    @contextmanager
    def hold(self, key: str, *, exclusive: bool = False) -> Iterator[None]:
        """Lock the first segment of ``key``; all holders are in this process: it does not wait."""
        name = checked_key(key).partition("/")[0]
        with self._lock:
            count = self._held.get(name, 0)
            if count < 0 or (exclusive and count):
                raise Busy("this part of the store is locked", hint="try again in a moment")
            self._held[name] = -1 if exclusive else count + 1
        try:
            yield
        finally:
            with self._lock:
                self._held[name] = 0 if exclusive else self._held[name] - 1
