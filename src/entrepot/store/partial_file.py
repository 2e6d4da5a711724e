"""A download that grows in a file.

``flights/NAME.part`` with its note beside it, led under the lock on ``NAME.lock``.

Two rules. A part is written by the holder of the lock alone. A part never shares its file with an
object: it *becomes* the object by a rename, so nobody can append to a body.
"""

from __future__ import annotations

import os
from contextlib import suppress

from entrepot.errors import ProtocolMisuse, StoreError, StoreUnavailable
from entrepot.ports.store import ObjectMeta
from entrepot.store.disk import Disk, write_all
from entrepot.store.layout import FLIGHTS, translated, write_small
from entrepot.store.locks import Lead, NoLocks, try_lock


class DirectoryPartialFile:
    """One view of a flight; see :class:`entrepot.ports.store.PartialFile` for the promises.

    Args:
        disk: the store.
        base: the path of its files, less their suffixes.
        lead: the lock on it; both from :meth:`Disk.flight`.
    """

    __slots__ = ("_base", "_disk", "_fd", "_lead", "_note", "_note_of", "_size", "_writable")

    def __init__(self, disk: Disk, base: str, lead: Lead) -> None:
        self._disk = disk
        self._base = base
        self._lead = lead
        self._fd = -1
        self._size = 0
        self._writable = False
        self._note = b""
        self._note_of: tuple[int, ...] = ()

    # -- leading -----------------------------------------------------------------------------------

    def try_lock(self) -> bool:
        """Try to lead. From then on this object stands for the current file, also if it followed an older one."""
        if self._lead.held:
            return True
        try:
            if not self._lead.take(self._disk.modes.file):
                return False
            self._open_current()
        except NoLocks as exc:
            raise StoreUnavailable("the store's file system has locks now and then only") from exc
        except OSError as exc:
            self._lead.release(remove=False)
            raise translated(exc, "a download was begun") from exc
        return True

    def _open_current(self) -> None:
        """Take over the part that lies there, or begin one."""
        fd = self._disk.new_file(self._base + ".part", os.O_RDWR)
        found = os.fstat(fd)
        # A second name may be a body's: that file is left alone. And bytes that were never synced
        # when the machine went down may be zeros now, which nobody would notice where no digest is
        # known.
        if found.st_nlink > 1 or found.st_mtime < self._disk.boot.suspect_before:
            os.close(fd)
            self._begin_new()
            return
        if found.st_size == 0:  # nothing to resume: a note would be that of another file
            self._unlink(".note")
        self._use(fd, found.st_size)

    def _begin_new(self) -> None:
        fd, temp = self._disk.temp()
        os.close(fd)
        try:
            # the note first: a part without a note cannot be resumed, a note with another part
            # could be, wrongly
            self._unlink(".note")
            fd = os.open(temp, os.O_RDWR | os.O_CLOEXEC)
            os.replace(temp, self._base + ".part")
        except OSError:
            with suppress(OSError):
                os.unlink(temp)
            raise
        self._use(fd, 0)

    def _use(self, fd: int, size: int) -> None:
        self._drop_fd()
        self._fd, self._size, self._writable = fd, size, True

    def _must_lead(self) -> None:
        if not self._lead.held:
            raise ProtocolMisuse("only the leader of a flight may write it")

    # -- the bytes ---------------------------------------------------------------------------------

    def size(self) -> int:
        """Bytes written so far."""
        if self._writable:
            return self._size
        if not self._follow():
            return 0
        return os.fstat(self._fd).st_size

    def write(self, data: bytes) -> None:
        """Append. On failure the file is cut back: nothing of ``data`` counts."""
        self._must_lead()
        if not self._writable:
            raise ProtocolMisuse("the flight was committed or discarded: restart it first")
        self._disk.begin()
        try:
            write_all(self._fd, data, self._size)
        except OSError as exc:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise translated(exc, "a download was written") from exc
        self._size += len(data)

    def read(self, start: int, count: int) -> bytes:
        """At most ``count`` bytes from ``start``, as many as are there."""
        if not self._follow():
            return b""
        try:
            return os.pread(self._fd, count, start)
        except OSError as exc:
            raise StoreUnavailable(
                f"the store failed while a download was read: {exc.strerror}"
            ) from exc

    def is_current(self) -> bool:
        """Whether what this object reads is still the flight's file."""
        if self._fd < 0:
            return True
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self._base + ".part"))
        except OSError:
            return False

    def _follow(self) -> bool:
        if self._fd < 0:
            try:
                self._fd = os.open(self._base + ".part", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return False
            except OSError as exc:
                raise translated(exc, "a download was opened") from exc
        return True

    # -- the note ----------------------------------------------------------------------------------

    def set_state(self, state: bytes) -> None:
        """Write the note, atomically."""
        self._must_lead()
        self._disk.begin()
        try:
            write_small(self._base + ".note", state, self._disk.modes.file)
        except OSError as exc:
            raise translated(exc, "a download was described") from exc

    def state(self) -> bytes | None:
        """The latest note; read only when its file is another one than at the last look, for followers look often."""
        path = self._base + ".note"
        try:
            found = os.stat(path)
            file_is = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
            if file_is != self._note_of:
                with open(path, "rb", opener=_no_link) as file:
                    self._note, self._note_of = file.read(), file_is
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise translated(exc, "a download's note was read") from exc
        return self._note

    # -- the end -----------------------------------------------------------------------------------

    def restart(self) -> None:
        """Begin again in a new file; who reads the old one keeps it."""
        self._must_lead()
        try:
            self._begin_new()
        except OSError as exc:
            raise translated(exc, "a download was begun again") from exc

    def commit(self, key: str) -> ObjectMeta:
        """Sync the bytes and make them the object ``key``."""
        self._must_lead()
        if not self._writable:
            raise ProtocolMisuse("the flight was committed or discarded already")
        self._disk.begin()
        try:
            os.fsync(self._fd)
            # In place of what may be there: nobody has looked at that, and what came now is right.
            meta = self._disk.publish(self._fd, self._base + ".part", key)
            self._writable = False
            self._unlink(".note")
            with suppress(OSError, NoLocks):
                try_lock(self._fd, exclusive=False)  # as `get` does: this body is in use
        except OSError as exc:
            raise translated(exc, "a download was finished") from exc
        return meta

    def _unlink(self, suffix: str) -> None:
        self._disk.unlink(f"{FLIGHTS}/{os.path.basename(self._base)}{suffix}")

    def discard(self) -> None:
        """Throw the bytes and the note away."""
        self._must_lead()
        try:
            for suffix in (".note", ".part") if self._writable else ():
                self._unlink(suffix)
        except OSError as exc:
            raise translated(exc, "a download was dropped") from exc
        self._writable = False

    def release(self) -> None:
        """Give up the lead; what cannot be resumed leaves nothing behind."""
        if self._lead.held:
            with suppress(StoreError):
                if self._writable and self._size == 0:
                    self.discard()
            if self._writable and self._size:
                with suppress(
                    OSError
                    # Whoever closes the store marks it clean, which vouches for what is left here too
                ):
                    os.fsync(self._fd)
            self._lead.release(remove=not self._writable)
        self._writable = False

    def close(self) -> None:
        """Give up the lead and the file."""
        self.release()
        self._drop_fd()

    def _drop_fd(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)
