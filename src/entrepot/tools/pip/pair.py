"""A copy of this process that does half of a large piece of work.

Both tell each other what the other half needs.

Both ends run the same code and speak at the same places (:meth:`Alone.exchange`), so that one
process alone runs it too.
"""

from __future__ import annotations

import marshal
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Lost(Exception):
    """The other process is gone, or what it said is not whole."""


class Peer(Protocol):
    """Whoever does the other half."""

    def exchange(self, mine: T) -> T:
        """Say something and hear the same thing of the other half.

        Plain numbers, text, lists, sets and tuples only.
        """
        ...


class Alone:
    """There is no other half."""

    def exchange(self, mine: T) -> T:
        """An empty value."""
        return type(mine)()


class Other:
    """The other process, seen from either end.

    Args:
        reading: a descriptor.
        writing: a descriptor.
        first: whether this end speaks first, so that not both write into full pipes.
    """

    def __init__(self, reading: int, writing: int, *, first: bool) -> None:
        self._in = open(reading, "rb")  # noqa: SIM115  (a descriptor, closed below)
        self._out = open(writing, "wb")  # noqa: SIM115
        self._first = first

    def send(self, value: Any) -> None:
        """Say something.

        Raises:
            Lost: nobody listens.
        """
        data = marshal.dumps(value)
        try:
            self._out.write(len(data).to_bytes(8, "big") + data)
            self._out.flush()
        except OSError as exc:
            raise Lost from exc

    def receive(self) -> Any:
        """Hear something.

        Raises:
            Lost: it ended early.
        """
        size = int.from_bytes(self._in.read(8), "big")
        data = self._in.read(size)
        if not data or len(data) != size:
            raise Lost
        return marshal.loads(data)  # noqa: S302  # our own copy wrote it

    def exchange(self, mine: T) -> T:
        """See :class:`Peer`."""
        if self._first:
            self.send(mine)
            theirs: T = self.receive()
        else:
            theirs = self.receive()
            self.send(mine)
        return theirs

    def close(self) -> None:
        """Close both pipes; the other end notices."""
        self._in.close()
        with suppress(OSError):
            self._out.close()


def can_copy() -> bool:
    """Whether a second process is possible and of use.

    A copy of a process with several threads may hang.
    """
    return _threads() == 1 and (os.cpu_count() or 1) > 1 and hasattr(os, "fork")


def _threads() -> int:
    """Threads of this process, also those that Python did not start, where the system tells (Linux)."""
    with suppress(OSError):
        return len(os.listdir("/proc/self/task"))
    return threading.active_count()


@contextmanager
def copied(work: Callable[[Other], None]) -> Iterator[Other]:
    """A copy of this process that does the work and ends.

    What it leaves open or unwritten is this one's.
    """
    to_read, to_tell = os.pipe()
    to_hear, to_write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(to_tell)
            os.close(to_hear)
            work(Other(to_read, to_write, first=True))
            status = 0
        finally:
            os._exit(status)  # nothing of the parent's may be closed or flushed twice
    os.close(to_read)
    os.close(to_write)
    other = Other(to_hear, to_tell, first=False)
    try:
        yield other
    finally:
        other.close()
        os.waitpid(child, 0)
