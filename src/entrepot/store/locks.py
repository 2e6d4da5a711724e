"""Advisory locks on files, between processes and within one.

The only module that knows of ``fcntl``.

A lock belongs to the open file, so two opens in one process exclude each other as two processes do,
and the system releases the locks of a process that dies. Some network file systems have none: then
:class:`NoLocks` is raised, and the store is for one process at a time.
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
    """Lock an open file without waiting, or change its lock; ``False``: another's is in the way.

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
        Busy: another has it for longer. NoLocks: there are none.
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


_held_here: set[str] = set()
"""Lock files that this process holds: all there is where the file system has no locks."""


class WriteLock:
    """The exclusive lock on one file that may be removed by its holder.

    The file is unlinked only while its lock is held, and a process that gets a lock looks whether
    the path still leads to the file that was locked; so no two can hold "the" lock on two files of
    one name. Where files cannot be locked it is exclusive within this process.
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
            OSError: the file cannot be locked or made.
        """
        while not self.held:
            fd = open_lock_file(self.path, mode)
            try:
                try:
                    if not try_lock(fd, exclusive=True):
                        return False
                except NoLocks:
                    if self.path in _held_here:
                        return False
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                        self._fd, fd = fd, -1
                        _held_here.add(self.path)
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
        _held_here.discard(self.path)
