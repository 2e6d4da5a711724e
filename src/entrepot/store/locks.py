"""Advisory locks on files, between processes and within one.

The only module that knows of ``fcntl``.

A lock belongs to the open file, so two opens in one process exclude each other as two processes do,
and the system releases the lock of whoever dies. Some network file systems have none: then
:class:`NoLocks` is raised and the store goes on without.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress

from entrepot.errors import Busy
from entrepot.fs import open_or_make, unlink_in

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_MISSING = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


class NoLocks(Exception):
    """This file system has no locks. Never leaves the adapters of this folder."""


def try_lock(fd: int, *, exclusive: bool) -> bool:
    """Lock an open file without waiting; a lock it already has is changed.

    ``False``: somebody else's is in the way.

    Raises:
        NoLocks: the file system or the platform has none.
    """
    if fcntl is None:
        raise NoLocks
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        if exc.errno in _MISSING:
            raise NoLocks from exc
        raise
    return True


def wait_lock(fd: int, *, exclusive: bool, wait_s: float, what: str) -> None:
    """Lock an open file, asking again for ``wait_s`` seconds.

    Raises:
        Busy: not to be had in that time. NoLocks: there are none.
    """
    end = time.monotonic() + wait_s
    pause = 0.001
    while not try_lock(fd, exclusive=exclusive):
        if time.monotonic() >= end:
            raise Busy(f"{what} is locked by another process", hint="try again in a moment")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def open_lock_file(path: str, mode: int) -> int:
    """A descriptor of a lock file, made when it is not there."""
    try:
        fd = open_or_make(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    except PermissionError:
        # another user's: a lock needs no right to write
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    if mode & 0o077 and not os.fstat(fd).st_size:
        with suppress(PermissionError):  # another user's, who has set it already
            os.fchmod(fd, mode)
    return fd


class Lead:
    """The exclusive lock on one file that may be removed by its holder.

    The right to write a flight.

    The file is unlinked only while its lock is held, and whoever gets a lock looks whether the path
    still leads to the file that was locked; so no two can hold "the" lock on two files of one name.
    """

    __slots__ = ("_fd", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    @property
    def held(self) -> bool:
        """Whether this object has the lock."""
        return self._fd >= 0

    def take(self, mode: int) -> bool:
        """Try to get the lock, without waiting.

        Raises:
            NoLocks, OSError: the file cannot be locked or made.
        """
        while not self.held:
            fd = open_lock_file(self.path, mode)
            try:
                if not try_lock(fd, exclusive=True):
                    return False
                if _is_same(fd, self.path):
                    self._fd, fd = fd, -1
            finally:
                if fd >= 0:
                    os.close(fd)
        return True

    def release(self, *, remove: bool) -> None:
        """Give the lock up, removing its file first when nothing is left that it guards."""
        if not self.held:
            return
        if remove:
            with suppress(OSError):  # else an empty file more, for the next sweep
                unlink_in(*os.path.split(self.path))
        os.close(self._fd)
        self._fd = -1


def _is_same(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


_leads_here: set[str] = set()


class LoneLead(Lead):
    """The lead where files cannot be locked.

    Exclusive within this process, on files that no other process uses.
    """

    __slots__ = ("_mine",)

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._mine = False

    @property
    def held(self) -> bool:
        """Whether this object has the lead."""
        return self._mine

    def take(self, mode: int) -> bool:  # noqa: ARG002 - no file is made
        """Try to get the lead, without waiting."""
        if not self._mine and self.path not in _leads_here:
            _leads_here.add(self.path)
            self._mine = True
        return self._mine

    def release(self, *, remove: bool) -> None:  # noqa: ARG002
        """Give the lead up."""
        if self._mine:
            _leads_here.discard(self.path)
            self._mine = False
