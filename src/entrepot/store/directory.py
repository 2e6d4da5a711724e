"""The store on a local directory: plain files that outlive this program.

The methods of the port are here; files are in ``disk.py``, downloads in ``partial_file.py``,
sweeping and eviction in ``gc.py``. Nothing slow happens when a store is opened, and nothing is
written into one that exists until the first object is.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.digests import Hasher
from entrepot.errors import Busy, StoreError
from entrepot.fs import disk_of
from entrepot.ports.store import Blob, Check, Leftover, ObjectMeta
from entrepot.store import clone_or_copy, gc
from entrepot.store.disk import Disk, FileBlob, write_all
from entrepot.store.layout import (
    LOCK,
    PARTIALS,
    READ,
    STATE,
    checked_segment,
    host_name,
    key_path,
    partial_name,
    translated,
)
from entrepot.store.locks import NoLocks, WriteLock, try_lock
from entrepot.store.partial_file import DirectoryPartialFile
from entrepot.stored import BODIES, HEADS, body_key, is_body_key

if TYPE_CHECKING:
    from entrepot.store.catalogue import SqliteCatalogue

_CHUNK = 1 << 20
COARSE_S = 3600
"""How old a last use may be before it is written again, in seconds."""


class DirectoryStore(Disk):
    """Objects as plain files below one directory, safe for any number of processes.

    Args:
        root: the directory; made with mode 0700 when it is not there.
        cap: bytes of disk it may occupy.
        create: whether it may be made.
        now: seconds since the epoch.
        stamps: where the stamps of bodies are kept; ``None``: each process hashes a body once.

    Raises:
        StoreUnavailable: no store there, one of another format, somebody else's directory, or no
            permission.
    """

    def __init__(
        self,
        root: Path,
        *,
        cap: int = sys.maxsize,
        create: bool = True,
        now: Callable[[], float] = time.time,
        stamps: SqliteCatalogue | None = None,
    ) -> None:
        # absolute, but symbolic links stay as the user wrote them
        super().__init__(Path(os.path.abspath(root)), create=create, now=now, stamps=stamps)
        self.cap = cap
        self._hashing: dict[str, threading.Lock] = {}
        self.changed: set[str] = set()
        """Keys of bodies that were found to be wrong."""

    @property
    def shared(self) -> bool:
        return self.modes.shared

    # -- reading -----------------------------------------------------------------------------------

    def get(self, key: str) -> FileBlob | None:
        """As the port has it; a body that is open is in use, so no eviction takes it."""
        blob = self.open(key)
        if blob is None or not self.is_in_doubt(key, blob):
            return blob
        is_right = False
        try:
            with self._hashing.setdefault(key, threading.Lock()):  # once for all who ask
                before = blob.stat()
                is_right = not self.is_in_doubt(key, blob)
                if not is_right:
                    hasher = Hasher()
                    while chunk := blob.read(hasher.size, _CHUNK):
                        hasher.feed(chunk)
                    is_right = body_key(hasher.digest()) == key
                    if is_right:  # noted as it was before: a change meanwhile shows next time
                        self.note(key, before)
                    else:
                        self.changed.add(key)
                        # removed, but no right one that has come meanwhile
                        with suppress(OSError, StoreError, Busy), self.hold(key, exclusive=True):
                            if os.path.samestat(before, self.stat(key)):
                                self.remove(key)
        finally:
            if not is_right:
                blob.close()
        return blob if is_right else None

    def open(self, key: str) -> FileBlob | None:
        fd = -1
        try:
            fd = self.open_fd(key)
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                os.close(fd)
                return None
            if key.startswith(f"{BODIES}/"):
                with suppress(NoLocks, OSError):
                    try_lock(fd, exclusive=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            if fd >= 0:
                os.close(fd)
            raise translated(exc, "an object was opened") from exc
        return FileBlob(fd, found.st_size)

    def head(self, key: str) -> ObjectMeta | None:
        return self.meta(key)

    def list(self, prefix: str) -> Iterator[ObjectMeta]:
        if prefix:
            key_path("", prefix)
        return self.walk(prefix)

    # -- writing -----------------------------------------------------------------------------------

    def put(self, key: str, body: bytes | Iterable[bytes]) -> ObjectMeta:
        """Store an object: a temporary file, synced when it is a body, then renamed."""
        key_path("", key)
        self.begin()
        with _doing():
            fd, temp = self.temp()
        try:
            size = 0
            # What the iterator raises is not the store's failure and passes as it is
            for chunk in (body,) if isinstance(body, bytes) else body:
                with _doing():
                    write_all(fd, chunk, size)
                size += len(chunk)
            with _doing():
                if key.startswith(f"{BODIES}/"):
                    os.fsync(fd)
                return self.publish(fd, temp, key)
        finally:
            os.close(fd)
            with suppress(OSError):  # it has its name now, unless something failed
                os.unlink(temp)

    def adopt(
        self, path: Path, offset: int, size: int, check: Check, *, link: bool = False
    ) -> ObjectMeta | None:
        self.begin()
        with _doing():
            return clone_or_copy.adopt(self, str(path), offset, size, check, link=link)

    def delete(self, key: str) -> int | None:
        key_path("", key)
        return self.remove(key)

    def touch(self, key: str) -> None:
        """Note a use, at most once in :data:`COARSE_S` seconds."""
        with suppress(OSError):
            now = self.now()
            # a time in the future is replaced as well: the clock was set back
            if abs(now - self.stat(key).st_mtime) > COARSE_S:
                self.set_times(key, now, now)

    # -- downloads ---------------------------------------------------------------------------------

    def open_partial(self, name: str) -> DirectoryPartialFile:
        base = os.path.join(self.partials, checked_segment(name))
        self.begin(removing=True)  # whatever writes into the file begins in earnest
        if not self.locks:
            # No other process may touch our files: their names say whose they are, and nobody
            # resumes them.
            base = f"{base}.{host_name()}-{os.getpid()}"
        return DirectoryPartialFile(self, base, WriteLock(base + LOCK))

    def is_locked(self, name: str) -> bool | None:
        try:
            fd = os.open(os.path.join(self.partials, checked_segment(name) + LOCK), READ)
        except OSError:
            return None
        try:
            # shared for a moment only: a writer that wants it just then tries again
            return not try_lock(fd, exclusive=False)
        except (NoLocks, OSError):
            return None
        finally:
            os.close(fd)

    def leftovers(self) -> Iterator[Leftover]:
        try:
            names = sorted(os.listdir(self.partials))
        except OSError:
            return
        for name in names:
            key, file = f"{PARTIALS}/{name}", partial_name(name)
            found = self.lstat(key)
            # what is not ours stays; states go with their download, locks are empty
            if found is None or file is None or file.kind not in {"part", "temporary"}:
                continue
            paths, disk, state = [self.root / key], disk_of(found), None
            locked = None
            if file.kind == "part":
                locked = self.is_locked(file.stem)
                beside = self.lstat(f"{PARTIALS}/{file.stem}{STATE}")
                if beside is not None:
                    paths.insert(0, self.root / PARTIALS / f"{file.stem}{STATE}")
                    disk += disk_of(beside)
                    state = self.read(f"{PARTIALS}/{file.stem}{STATE}")
            yield Leftover(
                key,
                tuple(paths),
                is_partial=file.kind == "part",
                size=found.st_size,
                disk=disk,
                modified=found.st_mtime,
                locked=locked,
                state=state,
            )

    def remove_leftover(self, key: str, *, size: int | None = None) -> int | None:
        name = key.removeprefix(f"{PARTIALS}/")
        file = partial_name(name)
        if file is None or file.kind not in {"part", "temporary"}:
            return None
        if file.kind == "temporary":
            return self.remove(f"{PARTIALS}/{name}")
        self.begin(removing=True)
        with _doing("a download was dropped"):
            return gc.drop_partial(self, file.stem, size=size)

    # -- trust in bodies ---------------------------------------------------------------------------

    def is_in_doubt(self, key: str, blob: Blob) -> bool:
        assert isinstance(blob, FileBlob)
        return is_body_key(key) and not self.is_as_noted(key, blob.stat())

    # -- collecting garbage ------------------------------------------------------------------------

    def usage(self, catalogue: SqliteCatalogue | None = None) -> gc.Usage:
        """Bytes of disk by kind of file; without a catalogue by a scan."""
        return gc.usage(self, catalogue)

    def sweep(
        self, now: float, *, grace_s: float = 3600, catalogue: SqliteCatalogue | None = None
    ) -> gc.Swept:
        """Remove what nothing needs; see :func:`entrepot.store.gc.sweep`. Slow: for a thread.

        The catalogue is put right as well: a process that was killed between a head's rename and
        its record left one out.
        """
        swept = gc.sweep(self, now, grace_s=grace_s, catalogue=catalogue)
        if catalogue is not None:
            catalogue.rebuild(self)
        return swept

    def sweep_when_due(
        self, catalogue: SqliteCatalogue, *, is_over: Callable[[], bool] = lambda: False
    ) -> gc.Swept | None:
        """Sweep if nobody has for a day.

        ``None`` when it is not time, another process is at it, or it was broken off.

        ``locks/swept`` has the time of the last one; a time in the future counts as long ago: the
        clock was set back.

        Args:
            catalogue: put right as well.
            is_over: asked now and then whether to break off.
        """

        def go_on(_: int = 0) -> None:
            if is_over():
                raise _BrokenOffError

        now, path = self.now(), self.lock_path("swept")
        with suppress(Busy), _doing("it was swept"), self.lock("sweep", exclusive=True, wait_s=0.0):
            if os.path.exists(path) and abs(now - os.stat(path).st_mtime) < gc.SWEEP_EACH_S:
                return None
            os.close(self.new_file(path, os.O_WRONLY))
            os.utime(path, (now, now), follow_symlinks=False)
            try:
                swept = gc.sweep(self, now, grace_s=3600, catalogue=catalogue, go_on=go_on)
                catalogue.rebuild(self, progress=go_on)
            except _BrokenOffError:
                again = now - gc.SWEEP_EACH_S + gc.SWEEP_AGAIN_S
                os.utime(path, (now, again), follow_symlinks=False)
            else:
                return swept
        return None

    def evict(self, catalogue: SqliteCatalogue, *, needed: int = 0) -> gc.Evicted:
        """Make room; see :func:`entrepot.store.gc.evict`. Slow: for a thread."""
        if catalogue.needs_rebuild:
            catalogue.rebuild(self)
        return gc.evict(self, catalogue, cap=self.cap, needed=needed)

    def overhead(self) -> int:
        """Of the store's own files, and of its folders but those of the heads."""
        overhead = disk_of(self.root.stat())
        for folder in ("", BODIES, f"{BODIES}/sha256", HEADS):
            with suppress(OSError), os.scandir(self.root / folder) as found:
                for each in found:
                    # the catalogue's shared memory is there only while a process has it open
                    is_file = not folder and not each.name.endswith("-shm")
                    if is_file or each.is_dir(follow_symlinks=False):
                        overhead += disk_of(each.stat(follow_symlinks=False))
        return overhead


class _BrokenOffError(Exception):
    """The sweep is to stop; never leaves this module."""


@contextmanager
def _doing(what: str = "an object was written") -> Iterator[None]:
    """The system's errors become the store's."""
    try:
        yield
    except OSError as exc:
        raise translated(exc, what) from exc
