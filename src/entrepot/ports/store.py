"""The store as the application sees it.

The promises, which ``testing/store_suite.py`` checks on every adapter:

* a key is one or more segments of ``[A-Za-z0-9._-]``, joined by ``/``, none of them ``.`` or
  ``..``, each at most 200 characters long; anything else is a ``FormatError``; no key in use may be
  another key's folder (``a`` and ``a/b``);
* a put is atomic: no reader ever sees part of an object, and after a crash the object is whole or
  absent;
* ``get`` and ``head`` of an absent key give ``None``; list order is unspecified;
* an open :class:`Blob` stays readable after its object was deleted or replaced.

All of it is synchronous and safe to call from several threads; a :class:`PartialFile` is written by
one thread at a time, and may be read meanwhile. What a method waits for is said there: on an event
loop such a method is called in a thread (``serving/lookup.py`` decides that). What only one backend
can do is a method of that backend, not of the port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """An object without its bytes."""

    key: str
    size: int
    """Bytes of content."""
    modified: float
    """Seconds since the epoch. For heads this is the coarse last use."""
    disk: int = 0
    """Bytes of disk the object occupies (blocks); 0 where the backend cannot know."""


class Blob(Protocol):
    """An object that is open for reading; close it."""

    @property
    def size(self) -> int:
        """The whole object's size in bytes."""
        ...

    def read(self, start: int, count: int) -> bytes:
        """At most ``count`` bytes from ``start``; short only at the end."""
        ...

    def fileno(self) -> int | None:
        """A descriptor to send the bytes from, when there is one."""
        ...

    def close(self) -> None:
        """Let go of it; may be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Leftover:
    """A download that did not end, or a temporary file of a process that died; not an object."""

    key: str
    """What :meth:`Store.remove_leftover` takes."""
    paths: tuple[Path, ...]
    """Its files, the one with the bytes last."""
    is_partial: bool
    """Whether a later run would resume it."""
    size: int
    """Bytes of content."""
    disk: int
    modified: float
    """Seconds since the epoch."""
    locked: bool | None
    """Whether a process writes it now; ``None``: that cannot be told."""
    state: bytes | None
    """The state of a partial download."""


class PartialFile(Protocol):
    """One download that is in progress, resumable and readable while it grows.

    At any time at most one process holds its write lock; any number read. The system releases the
    lock of a process that dies, and what it wrote stays to be resumed.
    """

    def try_lock(self) -> bool:
        """Try to get the write lock, without waiting; ``True`` when this object has it now.

        From then on it stands for the current file, also if it followed an older one (see
        :meth:`is_current`).

        Raises:
            StoreUnavailable, StoreFull: the store cannot be written.
        """
        ...

    def size(self) -> int:
        """Bytes written so far, by whichever process."""
        ...

    def write(self, data: bytes) -> None:
        """Append; with the lock only.

        Raises:
            StoreFull, StoreUnavailable: nothing of ``data`` counts as written.
        """
        ...

    def read(self, start: int, count: int) -> bytes:
        """At most ``count`` bytes from ``start``, as many as are there now.

        Works on after commit and discard.
        """
        ...

    def is_current(self) -> bool:
        """Whether what this object reads is still the file of that name.

        ``False`` once it was committed, discarded or restarted: a reader then looks the entry up
        again and, where there is none, opens the partial file anew. What it has open stays
        readable.
        """
        ...

    def set_state(self, state: bytes) -> None:
        """Keep what readers and later writers must know; atomic, with the lock only."""
        ...

    def state(self) -> bytes | None:
        """The latest state, if any."""
        ...

    def restart(self) -> None:
        """Drop bytes and state, and begin at byte 0 in a new file; with the lock only."""
        ...

    def commit(self, key: str) -> ObjectMeta:
        """Make the bytes durable and the object ``key``, atomically. Waits for the disk.

        The state is dropped; the lock is kept until ``close``. An object that is already there is
        replaced, also under a content-addressed key: the new bytes were checked, the old ones may
        have been changed. Call it within a shared ``hold`` that lasts until the head's put.
        Afterwards ``size`` and ``read`` go on; to write again, ``restart`` first.

        Raises:
            StoreFull, StoreUnavailable: the bytes are not durable; the file is still there.
        """
        ...

    def discard(self) -> None:
        """Drop bytes and state; with the lock only, which is kept until ``close``.

        To write again, ``restart``.
        """
        ...

    def release(self) -> None:
        """Give up the lock, if any; bytes and state stay for a later writer to resume.

        ``size`` and ``read`` go on. May be called twice.
        """
        ...

    def close(self) -> None:
        """Release, and read no more. May be called twice."""
        ...


Check = Callable[[Callable[[int, int], bytes], int], str | None]
"""Given a way to read ``(start, count)`` and the size: the key to keep the bytes under, or ``None``
to drop them."""


class Store(Protocol):
    """Everything the application asks of a store.

    Each method that writes raises ``StoreFull`` (no room; nothing is left behind) or
    ``StoreUnavailable`` (not writable, or no answer; a retry may help).
    """

    @property
    def shared(self) -> bool:
        """Whether others than its owner may write it: then it is a shared cache (RFC 9111 §1)."""
        ...

    @property
    def root(self) -> Path | None:
        """The directory it lives in, for people; ``None`` when it is not on this disk."""
        ...

    def get(self, key: str) -> Blob | None:
        """The object under ``key``, open for reading; ``None`` if there is none.

        A body (``bodies/sha256/``) that may have been changed since it was stored is hashed first,
        which takes its time; a wrong one is absent.
        """
        ...

    def open(self, key: str) -> Blob | None:
        """As :meth:`get` without a check of a body's bytes."""
        ...

    def is_in_doubt(self, key: str, blob: Blob) -> bool:
        """Whether :meth:`get` would hash this body, which :meth:`open` gave. Does not wait."""
        ...

    def put(self, key: str, body: bytes | Iterable[bytes]) -> ObjectMeta:
        """Store an object, atomically. Waits for the disk when it is a body."""
        ...

    def head(self, key: str) -> ObjectMeta | None:
        """The object's meta data, or ``None``."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectMeta]:
        """Every object whose key starts with the whole segments of ``prefix`` (``heads/ab``).

        Objects that come and go meanwhile may or may not be listed.
        """
        ...

    def delete(self, key: str) -> int | None:
        """Remove an object; the bytes of disk it gave back, or ``None`` if there was none."""
        ...

    def touch(self, key: str) -> None:
        """Note that an object was used now. Coarse and lossy; never raises."""
        ...

    def open_partial(self, name: str) -> PartialFile:
        """The download of that name (a key segment), not locked yet.

        The first call of a process may wait for the disk.
        """
        ...

    def is_locked(self, name: str) -> bool | None:
        """Whether a process writes the download of that name now; ``None``: that cannot be told.

        Nothing is made for it.
        """
        ...

    def leftovers(self) -> Iterator[Leftover]:
        """What downloads that did not end and processes that died have left, by key."""
        ...

    def remove_leftover(self, key: str, *, size: int | None = None) -> int | None:
        """Remove one; the bytes of disk it gave back, or ``None`` if there was none.

        Args:
            key: of a :class:`Leftover`.
            size: bytes that a partial download must still have; ``None``: any number.

        Raises:
            Busy: a process writes it, or its size is another one now.
        """
        ...

    def overhead(self) -> int:
        """Bytes of disk beside what objects and leftovers take."""
        ...

    def hold(self, key: str, *, exclusive: bool = False) -> AbstractContextManager[None]:
        """Lock the prefix that a body's ``key`` lies in.

        Shared from "is the body there?" to the head's rename; exclusively to remove. Keep it short,
        never for a whole download: a shared hold waits up to two seconds for an exclusive one.

        Raises:
            Busy: it is held for longer.
        """
        ...

    def adopt(
        self, path: Path, offset: int, size: int, check: Check, *, link: bool = False
    ) -> ObjectMeta | None:
        """Make part of another cache's file an object. Reads all of it.

        Cloned where the file system can, with ``link`` linked where safe, copied otherwise. What
        is kept is checked, not the source: that may change meanwhile.

        Args:
            path: a regular file of this machine.
            offset: of the part, in bytes.
            size: of the part, in bytes.
            check: called with the bytes as they would be kept.
            link: whether the file's owner never writes it in place.

        Returns:
            The object, or ``None`` when the file is not there, cannot be read, or ``check`` refuses
            it.
        """
        ...


def read_object(store: Store, key: str) -> bytes | None:
    """A small object's bytes; ``None`` if there is none."""
    blob = store.open(key)
    if blob is None:
        return None
    try:
        return blob.read(0, blob.size)
    finally:
        blob.close()
