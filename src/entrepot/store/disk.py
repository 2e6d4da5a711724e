"""Files of a store: written whole or not at all, read by descriptor, removed with a true count of the bytes that gives.

Everything here is synchronous. What waits for a disk (``fsync``, big writes) is called from a
thread by the store.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from entrepot.errors import Busy, StoreUnavailable
from entrepot.fs import make_folder, open_or_make
from entrepot.ports.store import ObjectMeta
from entrepot.store import layout
from entrepot.store.layout import BootState, translated
from entrepot.store.locks import Lead, LoneLead, NoLocks, open_lock_file, try_lock, wait_lock

SHARED_WAIT_S = 2.0
"""How long a writer waits for a sweep: sweeps hold a prefix for the time of a few unlinks."""
EXCLUSIVE_WAIT_S = 0.2
"""How long a sweep waits for writers before it leaves that prefix for the next time."""

_PREFIX = re.compile(r"(.*?/[0-9a-f]{2})(?:/|$)")


class Disk:
    """One store's directory: paths, temporary files, locks and the boot marker.

    Args:
        root: an absolute path.
        create: make the store when there is none.
        now: seconds since the epoch.

    Raises:
        StoreUnavailable: see :func:`~entrepot.store.layout.open_root`.
    """

    def __init__(self, root: str, *, create: bool, now: Callable[[], float] = time.time) -> None:
        self.root = root
        self.now = now
        self.modes = layout.open_root(root, create=create)
        self.locks = True
        """Whether files can be locked here; known after the first write."""
        self.flights = os.path.join(root, layout.FLIGHTS)
        self._lock_folder = os.path.join(root, layout.LOCKS)
        self._users = -1
        self._writing = False
        self._boot: BootState | None = None

    def path(self, key: str) -> str:
        """The file of a key; see :func:`~entrepot.store.layout.key_path`."""
        return layout.key_path(self.root, key)

    def flight(self, name: str) -> tuple[str, Lead]:
        """The path of a flight's files, less their suffixes, and the lead, not yet taken.

        Without locks no other process may touch our files: their names say whose they are, and
        nobody resumes them.

        Raises:
            FormatError: the name is no segment of a key. StoreUnavailable, StoreFull: the store
                cannot be written.
        """
        base = os.path.join(self.flights, layout.checked_segment(name))
        self.begin(removing=True)  # who writes into the flight begins in earnest
        if self.locks:
            return base, Lead(base + ".lock")
        base = f"{base}.{layout.host_name()}-{os.getpid()}"
        return base, LoneLead(base + ".lock")

    def is_led(self, name: str) -> bool | None:
        """Whether the lock on a flight is held; ``None`` where that cannot be told.

        Its file is not made for it.

        The lock is shared for a moment only: who wants to lead just then tries again.
        """
        try:
            fd = os.open(
                os.path.join(self.flights, f"{layout.checked_segment(name)}.lock"),
                os.O_RDONLY | os.O_CLOEXEC,
            )
        except OSError:
            return None
        try:
            return not try_lock(fd, exclusive=False)
        except (NoLocks, OSError):
            return None
        finally:
            os.close(fd)

    # -- writing -----------------------------------------------------------------------------------

    def begin(self, *, removing: bool = False) -> None:
        """Before the first write of this process.

        Note the boot, find out whether files can be locked.

        Args:
            removing: nothing will be written yet. Then a full disk is no obstacle: it is what
                removing is to help against, and the note vouches for what is written alone. The
                next write tries to note it again.

        Raises:
            StoreUnavailable, StoreFull: the store cannot be written.
        """
        if self._writing:
            return
        try:
            for folder in (self.flights, self._lock_folder):
                self.make_folders(folder)
            if self._users < 0:
                self._users = open_lock_file(
                    os.path.join(self._lock_folder, "users"), self.modes.file
                )
            try:
                # the last one to close holds this exclusively for an instant
                wait_lock(self._users, exclusive=False, wait_s=SHARED_WAIT_S, what="the store")
            except NoLocks:
                self.locks = False
            self._mark(clean=False)
        except Busy as exc:
            raise StoreUnavailable(exc.message, hint=exc.hint) from exc
        except OSError as exc:
            if removing and self._users >= 0 and exc.errno in layout.NO_ROOM:
                return
            raise translated(exc, "it was opened for writing") from exc
        self._writing = True

    def temp(self) -> tuple[int, str]:
        """A new empty file on the same file system, and its path."""
        path = os.path.join(self.flights, f"put-{os.urandom(8).hex()}.tmp")
        return self.new_file(path, os.O_WRONLY | os.O_EXCL), path

    def new_file(self, path: str, flags: int) -> int:
        """Open a file for the store's own use with the store's mode, making it."""
        fd = open_or_make(path, flags | os.O_CLOEXEC, self.modes.file)
        if self.modes.is_wide:
            with suppress(PermissionError):  # another user's
                os.fchmod(fd, self.modes.file)
        return fd

    def make_folders(self, folder: str) -> None:
        """Make a directory of the store and those above it, with the store's mode whatever the umask."""
        if folder == self.root or os.path.isdir(folder):
            return
        self.make_folders(os.path.dirname(folder))
        try:
            make_folder(folder, self.modes.folder)
            if self.modes.is_wide:
                os.chmod(folder, self.modes.folder)
        except FileExistsError:
            pass

    def publish(self, temp: str, path: str) -> None:
        """Give a finished file its name; the temporary name is gone afterwards.

        Raises:
            OSError: as the system says.
        """
        for attempt in range(5):
            try:
                os.replace(temp, path)
            except FileNotFoundError:
                # the folder is missing, or was removed as empty at this moment by a delete
                if attempt == 4:
                    raise
                self.make_folders(os.path.dirname(path))
            else:
                return

    # -- removing ----------------------------------------------------------------------------------

    def remove(self, path: str) -> int | None:
        """Unlink a file; bytes of disk given back (0 when it has other names), ``None`` when it was not there."""
        try:
            found = os.lstat(path)
            if stat.S_ISDIR(found.st_mode):
                return None
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise translated(exc, "an object was removed") from exc
        return (found.st_blocks * 512 if found.st_nlink == 1 else 0) + self._remove_folder(
            os.path.dirname(path)
        )

    def _remove_folder(self, folder: str) -> int:
        """Remove a folder that may be empty now (a head's, when that was its last variant).

        Bytes of disk given back.
        """
        if folder in {self.flights, self.root}:
            return 0
        with suppress(OSError):
            found = os.lstat(folder)
            os.rmdir(folder)
            return found.st_blocks * 512
        return 0

    # -- looking -----------------------------------------------------------------------------------

    def meta(self, key: str) -> ObjectMeta | None:
        """What the file system says of an object."""
        try:
            found = os.lstat(self.path(key))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise translated(exc, "an object was looked up") from exc
        return meta_of(key, found) if stat.S_ISREG(found.st_mode) else None

    def walk(self, prefix: str) -> Iterator[ObjectMeta]:
        """Every object below whole segments, read with ``scandir``.

        What vanishes meanwhile is left out.
        """
        if prefix:
            alone = self.meta(prefix)
            if alone:
                yield alone
                return
        folders = [prefix]
        while folders:
            below = folders.pop()
            try:
                with os.scandir(self.path(below) if below else self.root) as found:
                    entries = list(found)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as exc:
                raise translated(exc, "it was listed") from exc
            for entry in entries:
                if not below and layout.is_own(entry.name):
                    continue
                key = f"{below}/{entry.name}" if below else entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(key)
                elif entry.is_file(follow_symlinks=False):
                    with suppress(OSError):
                        yield meta_of(key, entry.stat(follow_symlinks=False))

    # -- locks -------------------------------------------------------------------------------------

    @contextmanager
    def lock(self, name: str, *, exclusive: bool, wait_s: float) -> Iterator[None]:
        """Hold one of the store's lock files; nothing is held where there are no locks.

        Raises:
            Busy: not to be had in ``wait_s`` seconds. StoreUnavailable: the store cannot be
                written.
        """
        self.begin(removing=exclusive)
        if not self.locks:
            yield
            return
        try:
            fd = open_lock_file(self.lock_path(name), self.modes.file)
        except OSError as exc:
            raise translated(exc, "a lock was taken") from exc
        try:
            with suppress(NoLocks):
                wait_lock(fd, exclusive=exclusive, wait_s=wait_s, what="this part of the store")
            yield
        finally:
            os.close(fd)

    def lock_path(self, name: str) -> str:
        """The path of a lock file."""
        return os.path.join(self._lock_folder, name)

    @contextmanager
    def hold(self, key: str, *, exclusive: bool) -> Iterator[None]:
        """Lock the prefix of a key.

        Its segments up to the first of two hex digits, else the first one.
        """
        found = _PREFIX.match(layout.checked_key(key))
        name = (found[1] if found else key.partition("/")[0]).replace("/", "-")
        with self.lock(
            name, exclusive=exclusive, wait_s=EXCLUSIVE_WAIT_S if exclusive else SHARED_WAIT_S
        ):
            yield

    # -- boots -------------------------------------------------------------------------------------

    @property
    def boot(self) -> BootState:
        """How the store was left; read once."""
        if self._boot is None:
            self._boot = layout.read_boot(self.root, boot=layout.boot_id(), now=self.now())
        return self._boot

    def _mark(self, *, clean: bool) -> None:
        state = BootState(self.boot.boot, clean, self.boot.suspect_before)
        self._boot = state
        # An open marker is synced: were it lost, an older one would vouch for bytes that a power
        # cut has made zeros.
        layout.write_small(
            os.path.join(self.root, layout.BOOT), state.to_bytes(), self.modes.file, sync=not clean
        )

    def end(self) -> None:
        """Close: the last of the processes that wrote notes that all is well."""
        if self._users < 0:
            return
        with suppress(OSError, NoLocks):
            if self.locks and try_lock(self._users, exclusive=True):
                self._mark(clean=True)
        os.close(self._users)
        self._users = -1
        self._writing = False


def meta_of(key: str, found: os.stat_result) -> ObjectMeta:
    """An object's meta data from its file's."""
    return ObjectMeta(key, found.st_size, found.st_mtime, found.st_blocks * 512)


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        offset += done
        view = view[done:]


class FileBlob:
    """An open file of the store; it stays readable after its name is gone."""

    __slots__ = ("_fd", "_size")

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size

    @property
    def size(self) -> int:
        """Bytes of content."""
        return self._size

    def read(self, start: int, count: int) -> bytes:
        """At most ``count`` bytes from ``start``; empty at the end.

        Raises:
            StoreUnavailable: the disk failed.
        """
        try:
            return os.pread(self._fd, count, start)
        except OSError as exc:
            raise StoreUnavailable(
                f"the store failed while an object was read: {exc.strerror}"
            ) from exc

    def fileno(self) -> int | None:
        """The descriptor; ``None`` once closed."""
        return self._fd if self._fd >= 0 else None

    def close(self) -> None:
        """Close the descriptor; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()
