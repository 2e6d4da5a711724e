"""A download that grows in a file, its state beside it, written under a lock of its own.

Two rules. The bytes are written by the holder of the lock alone. They never share their file with
an object: the file *becomes* the object by a rename, so nobody can append to a body.
"""

from __future__ import annotations

import os
from contextlib import suppress

from entrepot.errors import ProtocolMisuse, StoreError, StoreUnavailable
from entrepot.ports.store import ObjectMeta
from entrepot.store.disk import Disk, write_all
from entrepot.store.layout import PART, PARTIALS, READ, STATE, translated, write_small
from entrepot.store.locks import NoLocks, WriteLock, try_lock


class DirectoryPartialFile:
    """One view of a download; see :class:`entrepot.ports.store.PartialFile` for the promises.

    Args:
        disk: the store.
        base: the path of its files, less their suffixes.
        lock: on it; both from :meth:`Disk.partial`.
    """

    __slots__ = ("_base", "_disk", "_fd", "_lock", "_size", "_state", "_state_of", "_writable")

    def __init__(self, disk: Disk, base: str, lock: WriteLock) -> None:
        self._disk = disk
        self._base = base
        self._lock = lock
        self._fd = -1
        self._size = 0
        self._writable = False
        self._state = b""
        self._state_of: tuple[int, ...] = ()

    # -- writing -----------------------------------------------------------------------------------

    def try_lock(self) -> bool:
        if self._lock.held:
            return True
        try:
            if not self._lock.take(self._disk.modes.file):
                return False
            fd = self._disk.new_file(self._base + PART, os.O_RDWR)
            found = os.fstat(fd)
            # A second name may be a body's: that file is left alone. And bytes that were never
            # synced when the machine went down may be zeros now, which nobody would notice where
            # no digest is known.
            if found.st_nlink > 1 or found.st_mtime < self._disk.boot.suspect_before:
                os.close(fd)
                self._begin_new()
            else:
                if found.st_size == 0:  # nothing to resume: a state would be another file's
                    self._unlink(STATE)
                self._use(fd, found.st_size)
        except OSError as exc:
            self._lock.release(remove=False)
            raise translated(exc, "a download was begun") from exc
        return True

    def _begin_new(self) -> None:
        fd, temp = self._disk.temp()
        try:
            # the state first: bytes without a state cannot be resumed, a state with other bytes
            # could be, wrongly
            self._unlink(STATE)
            os.replace(temp, self._base + PART)
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                os.unlink(temp)
            raise
        self._use(fd, 0)

    def _use(self, fd: int, size: int) -> None:
        self._drop_fd()
        self._fd, self._size, self._writable = fd, size, True

    def _must_hold(self, *, writable: bool = False) -> None:
        if not self._lock.held:
            raise ProtocolMisuse("a partial file is written under its lock only")
        if writable and not self._writable:
            raise ProtocolMisuse("the partial file was committed or discarded: restart it first")

    def write(self, data: bytes) -> None:
        self._must_hold(writable=True)
        self._disk.begin()
        try:
            write_all(self._fd, data, self._size)
        except OSError as exc:
            with suppress(OSError):  # nothing of ``data`` counts
                os.ftruncate(self._fd, self._size)
            raise translated(exc, "a download was written") from exc
        self._size += len(data)

    def set_state(self, state: bytes) -> None:
        """Write the state, atomically."""
        self._must_hold()
        self._disk.begin()
        try:
            write_small(self._base + STATE, state, self._disk.modes.file)
        except OSError as exc:
            raise translated(exc, "a download was described") from exc

    # -- reading -----------------------------------------------------------------------------------

    def size(self) -> int:
        if self._writable:
            return self._size
        return os.fstat(self._fd).st_size if self._follow() else 0

    def read(self, start: int, count: int) -> bytes:
        if not self._follow():
            return b""
        try:
            return os.pread(self._fd, count, start)
        except OSError as exc:
            text = f"the store failed while a download was read: {exc.strerror}"
            raise StoreUnavailable(text) from exc

    def is_current(self) -> bool:
        if self._fd < 0:
            return True
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self._base + PART))
        except OSError:
            return False

    def _follow(self) -> bool:
        """Open what another writes; whether there is anything."""
        if self._fd < 0:
            try:
                self._fd = os.open(self._base + PART, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return False
            except OSError as exc:
                raise translated(exc, "a download was opened") from exc
        return True

    def state(self) -> bytes | None:
        """The latest state; its file is read only when it changed, for followers look often."""
        path = self._base + STATE
        try:
            found = os.stat(path)
            file_is = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
            if file_is != self._state_of:
                with open(os.open(path, READ), "rb") as file:
                    self._state, self._state_of = file.read(), file_is
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise translated(exc, "a download's state was read") from exc
        return self._state

    # -- the end -----------------------------------------------------------------------------------

    def restart(self) -> None:
        self._must_hold()
        try:
            self._begin_new()
        except OSError as exc:
            raise translated(exc, "a download was begun again") from exc

    def commit(self, key: str) -> ObjectMeta:
        self._must_hold(writable=True)
        self._disk.begin()
        try:
            os.fsync(self._fd)
            # In place of what may be there: nobody has looked at that, and what came now is right.
            meta = self._disk.publish(self._fd, self._base + PART, key)
            self._writable = False
            self._unlink(STATE)
            with suppress(OSError, NoLocks):
                try_lock(self._fd, exclusive=False)  # as `get` does: this body is in use
        except OSError as exc:
            raise translated(exc, "a download was finished") from exc
        return meta

    def _unlink(self, suffix: str) -> None:
        self._disk.unlink(f"{PARTIALS}/{os.path.basename(self._base)}{suffix}")

    def discard(self) -> None:
        self._must_hold()
        try:
            for suffix in (STATE, PART) if self._writable else ():
                self._unlink(suffix)
        except OSError as exc:
            raise translated(exc, "a download was dropped") from exc
        self._writable = False

    def release(self) -> None:
        """Give up the lock; what cannot be resumed leaves nothing behind.

        What can be is synced when the store is closed (:meth:`Disk.end`), not here: this is called
        where nothing may wait.
        """
        if self._lock.held:
            with suppress(StoreError):
                if self._writable and self._size == 0:
                    self.discard()
            self._lock.release(remove=not self._writable)
        self._writable = False

    def close(self) -> None:
        self.release()
        self._drop_fd()

    def _drop_fd(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()
