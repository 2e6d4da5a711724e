"""The store as the application sees it.

Five small Protocols, and one for downloads that are growing.

The promises, which ``testing/store_suite.py`` checks on every adapter:

* a key is one or more segments of ``[A-Za-z0-9._-]``, joined by ``/``, none of them ``.`` or
  ``..``, each at most 200 characters long; anything else is a ``FormatError``; no key in use may be
  another key's folder (``a`` and ``a/b``);
* a put is atomic: no reader ever sees part of an object, and after a crash the object is whole or
  absent;
* ``get`` and ``head`` of an absent key give ``None``; list order is unspecified;
* an open :class:`Blob` stays readable after its object was deleted or replaced.

What only one backend can do is a method of that backend, not of the port.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
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
        """The whole object's size in bytes, whatever span was asked for."""
        ...

    def read(self, start: int, count: int) -> bytes:
        """At most ``count`` bytes from ``start``; short only at the end.

        Page-cache fast: may be called on the event loop.
        """
        ...

    def fileno(self) -> int | None:
        """A descriptor to send the bytes from, when there is one."""
        ...

    def close(self) -> None:
        """Let go of it; may be called twice."""
        ...


class Get(Protocol):
    """Reading whole objects."""

    async def get(self, key: str) -> Blob | None:
        """The object under ``key``, open for reading; ``None`` if there is none.

        A body (``bodies/sha256/``) that may have been changed since it was stored is hashed first;
        a wrong one is absent.

        Raises:
            StoreUnavailable: the backend gave no answer; a retry may help.
        """
        ...

    def open(self, key: str) -> Blob | None:
        """As :meth:`get` without an event loop, and without a check of a body's bytes."""
        ...


class Put(Protocol):
    """Writing whole objects."""

    async def put(self, key: str, body: bytes | AsyncIterator[bytes]) -> ObjectMeta:
        """Store an object, atomically.

        Raises:
            StoreFull: no room. Nothing is left behind.
            StoreUnavailable: not writable, or no answer.
        """
        ...


class Look(Protocol):
    """Looking at objects without reading them."""

    async def head(self, key: str) -> ObjectMeta | None:
        """The object's meta data, or ``None``."""
        ...


class List(Protocol):
    """Finding objects."""

    def list(self, prefix: str) -> Iterator[ObjectMeta]:
        """Every object whose key starts with the whole segments of ``prefix`` (``heads/ab``), in no special order.

        Objects that come and go meanwhile may or may not be listed.
        """
        ...


class Delete(Protocol):
    """Removing objects."""

    async def delete(self, key: str) -> int | None:
        """Remove an object; the bytes of disk it gave back, or ``None`` if there was none."""
        ...


class Growing(Protocol):
    """One download that is in progress, resumable and readable while it grows.

    The store's side of a flight.

    At any time at most one process *leads* it (holds its lock and writes); any number read. A dead
    leader's lock is released by the system, and what it wrote stays to be resumed.
    """

    def lead(self) -> bool:
        """Try to become the leader, without waiting.

        ``True`` when this object now (or already) leads.

        From then on it stands for the flight's current file, also if it followed an older one (see
        :meth:`is_current`).

        Raises:
            StoreUnavailable, StoreFull: the store cannot be written.
        """
        ...

    def size(self) -> int:
        """Bytes written so far, by whoever leads."""
        ...

    def write(self, data: bytes) -> None:
        """Append; leader only.

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
        """Whether what this object reads is still the flight's file.

        ``False`` once it was committed, discarded or restarted: a follower then looks the entry up
        again and, where there is none, opens the flight anew. What it has open stays readable.
        """
        ...

    def describe(self, note: bytes) -> None:
        """Write the note that followers and later leaders read (the response's head, what is proven); atomic; leader only."""
        ...

    def description(self) -> bytes | None:
        """The latest note, if any."""
        ...

    def restart(self) -> None:
        """Throw away what was written and the note, and begin at byte 0 in a new file.

        Leader only.
        """
        ...

    async def commit(self, key: str) -> ObjectMeta:
        """Make the bytes durable and the object ``key``, atomically.

        The note is dropped; the lead is kept until ``close``.

        An object that is already there is replaced, also under a content-addressed key: the new
        bytes were checked, the old ones may have been changed. Call it within a shared ``hold``
        that lasts until the head's put. Afterwards ``size`` and ``read`` go on; to write again,
        ``restart`` first.

        Raises:
            StoreFull, StoreUnavailable: the bytes are not durable; the part is still there.
        """
        ...

    def discard(self) -> None:
        """Throw the bytes and the note away; leader only; the lead is kept until ``close``.

        To write again, ``restart``.
        """
        ...

    def release(self) -> None:
        """Give up the lead, if any; bytes and note stay for a later leader to resume.

        ``size`` and ``read`` go on. May be called twice.
        """
        ...

    def close(self) -> None:
        """Release, and read no more. May be called twice."""
        ...


class Flights(Protocol):
    """Downloads in progress."""

    def open_flight(self, name: str) -> Growing:
        """The download of that name (a key segment); made when it is not there. Does not lead yet.

        Raises:
            StoreUnavailable, StoreFull: the store cannot be written.
        """
        ...

    def is_led(self, name: str) -> bool | None:
        """Whether somebody leads the download of that name now; ``None`` where that cannot be told.

        Nothing is made for it.
        """
        ...


class Hold(Protocol):
    """Keeping sweeps away from what is being made."""

    def hold(self, key: str, *, exclusive: bool = False) -> AbstractContextManager[None]:
        """Lock the prefix that a body's ``key`` lies in.

        Shared from "is the body there?" to the head's rename; exclusively to sweep. Keep it short,
        never for a whole download: a shared hold waits up to two seconds for a sweep, on the spot.

        Raises:
            Busy: not to be had in time. StoreUnavailable: the store cannot be written.
        """
        ...


Check = Callable[[Callable[[int, int], bytes], int], str | None]
"""Given a way to read ``(start, count)`` and the size: the key to keep the bytes under, or ``None``
to drop them."""


class Adopt(Protocol):
    """Taking over files of other caches."""

    async def adopt(
        self, path: Path, offset: int, size: int, check: Check, *, link: bool = False
    ) -> ObjectMeta | None:
        """Make part of a file an object.

        Cloned where the file system can, with ``link`` linked where safe, copied otherwise.

        What is kept is checked, not the source: that may change under our hands.

        Args:
            path: a regular file of this machine.
            offset: of the part, in bytes.
            size: of the part, in bytes.
            check: called in a thread with the bytes as they would be kept.
            link: whether the file's owner never writes it in place.

        Returns:
            The object, or ``None`` when the file is not there, cannot be read, or ``check`` refuses
            it.

        Raises:
            StoreFull, StoreUnavailable: the store cannot be written.
        """
        ...


class Store(Get, Put, Look, List, Delete, Flights, Hold, Adopt, Protocol):
    """Everything the application asks of a store."""

    @property
    def shared(self) -> bool:
        """Whether others than its owner may write it: then it is a shared cache (RFC 9111 §1)."""
        ...

    @property
    def root(self) -> Path | None:
        """The directory it lives in, for people; ``None`` when it is not on this disk."""
        ...

    def touch(self, key: str) -> None:
        """Note that an object was used now. Coarse and lossy; never raises."""
        ...
