"""One SQLite file whose loss does not matter.

Opened late, replaced when damaged, in memory when the disk refuses. Reading has a connection of
its own: with a write-ahead log it never waits for a writer, of this process or another.

No exception of SQLite leaves this module but for mistakes in our own SQL. What is in the tables is
the catalogue's.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from entrepot.errors import Busy
from entrepot.fs import open_or_make
from entrepot.store.layout import LOCK, Modes
from entrepot.store.locks import NoLocks, open_lock_file, wait_lock

T = TypeVar("T")

MMAP_BYTES = 16 << 20
LOG_BYTES = 1 << 20
READ_BUSY_S = 0.1
"""Seconds that a read waits at most: without a log, and while a log is recovered."""
_MAX_PENDING = 10_000


class Database:
    """Connections with their troubles taken care of.

    Safe for several threads; other processes may use the same file.

    Args:
        path: the file; ``None``: in memory.
        version: of the schema, kept in ``user_version``; a file of another one is emptied.
        schema: ``TABLE name`` or ``INDEX name``, and how each is defined.
        busy_s: seconds that a write waits for another process's transaction.
    """

    def __init__(
        self, path: Path | None, version: int, schema: Mapping[str, str], *, busy_s: float
    ) -> None:
        self.path = "" if path is None else os.path.abspath(path)
        self.troubles = 0
        """Failures so far."""
        self._version, self._schema = version, schema
        self._busy_s = busy_s
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._is_file = self._is_writable = False
        """What :attr:`_db` is: the file, or memory; for writing, or for reading alone."""
        self._read_lock = threading.Lock()
        """Taken before the other lock, never after it."""
        self._reader: tuple[sqlite3.Connection, sqlite3.Connection] | None = None
        """The connection for reading, and what :attr:`_db` was when it was opened."""
        self._file: tuple[int, int] | None = None
        """Device and inode of what was opened last: what is found damaged is set aside, and nothing
        that took its place."""
        self._failures = 0
        self._skip = 0
        self._pending: list[Callable[[sqlite3.Connection], object]] = []

    @property
    def is_kept(self) -> bool:
        """Whether what is written outlives the process; opens it."""
        with self._lock:
            self._connection()
            return self._is_file and self._is_writable

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a query; none when the database fails."""

        def work(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
            return db.execute(query, values).fetchall()

        with self._read_lock, suppress(sqlite3.DatabaseError, OSError):
            reader = self._open_reader()
            if reader is not None:
                return work(reader)
        return self._guarded(work) or []  # in memory; or to find out what is wrong with the file

    def write(self, work: Callable[[sqlite3.Connection], object], *, lossy: bool = False) -> bool:
        """Do ``work`` in a transaction, after what is pending.

        What fails waits for the next time unless it is lossy. Whether it is done.
        """
        with self._lock:
            self._connection()
            if not self._is_writable:
                return False
            todo = [*self._pending, work]
            if self._skip:  # after several failures in a row not every time: each may wait
                self._skip -= 1
                ok = False
            else:
                ok = self._guarded(lambda db: _transaction(db, todo)) is not None
                self._failures = 0 if ok else self._failures + 1
                self._skip = 0 if self._failures < 3 else min(2**self._failures, 256)
            if ok:
                self._pending = []
            elif not lossy and len(self._pending) < _MAX_PENDING:
                self._pending.append(work)
            return ok

    def close(self) -> None:
        """Write what is pending and close; the next use opens it again."""
        with self._read_lock:
            if self._reader is not None:
                self._reader[0].close()
                self._reader = None
        with self._lock:
            self._skip = 0
            if self._pending:
                self.write(lambda _: None, lossy=True)
            self._drop()

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """The result; ``None`` when there is none.

        A damaged file is replaced and the work done again, once.
        """
        with self._lock:
            for attempt in (1, 2):
                db = self._connection()
                try:
                    return work(db)
                except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
                    raise  # our own mistake
                except sqlite3.DatabaseError as exc:
                    self.troubles += 1
                    if attempt == 2 or not _is_damage(exc):
                        break
                    self._set_aside()
            return None

    # -- opening -----------------------------------------------------------------------------------

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = self._open()
        return self._db

    def _open_reader(self) -> sqlite3.Connection | None:
        """The connection for reading; ``None`` where there is only the one: memory, read-only."""
        db = self._db
        if db is None:
            with self._lock:
                db = self._connection()
        if not (self._is_file and self._is_writable):
            return None
        if self._reader is None or self._reader[1] is not db:
            if self._reader is not None:
                self._reader[0].close()
                self._reader = None
            reader = sqlite3.connect(
                self.path, timeout=READ_BUSY_S, isolation_level=None, check_same_thread=False
            )
            reader.execute(f"PRAGMA mmap_size = {MMAP_BYTES}")
            self._reader = reader, db
        return self._reader[0]

    def _open(self) -> sqlite3.Connection:
        """The file; a new one where it is damaged; the file for reading alone; memory."""
        attempts = (self._open_file, self._open_file, self._open_read_only) if self.path else ()
        for attempt in attempts:
            try:
                db = attempt()
            except (sqlite3.DatabaseError, OSError, Busy) as exc:
                self.troubles += 1
                if _is_damage(exc):
                    self._set_aside()
            else:
                self._is_file, self._is_writable = True, attempt == self._open_file
                return db
        db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        _transaction(db, [self._set_up])
        self._is_file, self._is_writable = False, True
        return db

    def _open_file(self) -> sqlite3.Connection:
        if os.path.islink(self.path):  # it would be another program's database that is emptied
            raise PermissionError(self.path)
        if not os.path.exists(self.path):
            # With the store's mode: SQLite would go by the umask, and its companions take the
            # file's mode and owner.
            fd = open_or_make(self.path, os.O_RDWR | os.O_CLOEXEC, self._file_mode())
            with suppress(OSError):
                os.fchmod(fd, self._file_mode())
            os.close(fd)
        elif not all(os.access(each, os.W_OK) for each in (self.path, os.path.dirname(self.path))):
            raise PermissionError(self.path)
        self._file = _identity(self.path)
        db = sqlite3.connect(
            self.path, timeout=self._busy_s, isolation_level=None, check_same_thread=False
        )
        try:
            if db.execute("PRAGMA user_version").fetchone()[0] != self._version:
                with self._alone():
                    # A disk that can have no log keeps another mode
                    db.execute("PRAGMA journal_mode = WAL").fetchone()
                    _transaction(db, [self._set_up])
            # a lost transaction costs a second look, a damaged file a rebuild: no sync is worth
            # waiting for
            journal = db.execute("PRAGMA journal_mode").fetchone()[0]
            db.execute(f"PRAGMA synchronous = {'NORMAL' if journal == 'wal' else 'OFF'}")
            # else the log stays as big as it ever was
            db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            db.execute(f"PRAGMA mmap_size = {MMAP_BYTES}")
        except BaseException:
            db.close()
            raise
        return db

    def _set_up(self, db: sqlite3.Connection) -> None:
        """Empty a file of another schema and make our tables, unless another process was first."""
        if db.execute("PRAGMA user_version").fetchone()[0] == self._version:
            return
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        for (name,) in db.execute(tables).fetchall():
            db.execute(f'DROP TABLE "{name}"')
        for what, definition in self._schema.items():
            db.execute(f"CREATE {what} {definition}")
        db.execute(f"PRAGMA user_version = {self._version}")

    def _fits(self, db: sqlite3.Connection) -> bool:
        """Whether a file has our version and what belongs to it."""
        found = {name for (name,) in db.execute("SELECT name FROM sqlite_master").fetchall()}
        version = db.execute("PRAGMA user_version").fetchone()[0]
        return version == self._version and {what.split()[1] for what in self._schema} <= found

    def _file_mode(self) -> int:
        return Modes(stat.S_IMODE(os.stat(os.path.dirname(self.path)).st_mode)).file

    def _open_read_only(self) -> sqlite3.Connection:
        uri = f"{Path(self.path).as_uri()}?mode=ro"
        db = sqlite3.connect(uri, uri=True, timeout=self._busy_s, check_same_thread=False)
        try:
            if not self._fits(db):
                raise sqlite3.OperationalError("another schema, or none")  # noqa: TRY301
        except BaseException:
            db.close()
            raise
        return db

    # -- damage ------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Setting up and setting aside are for one process at a time.

        Without locks SQLite's own have to do.
        """
        fd = open_lock_file(f"{self.path}{LOCK}", self._file_mode())
        try:
            with suppress(NoLocks):
                wait_lock(fd, exclusive=True, wait_s=10.0, what="the catalogue")
            yield
        finally:
            os.close(fd)

    def _set_aside(self) -> None:
        """Move a damaged database away, unless another process has done so meanwhile."""
        self._drop()
        with suppress(OSError, Busy), self._alone():
            if _identity(self.path) != self._file or self._is_sound():
                return  # what another has begun may be empty still, and is sound all the same
            os.replace(self.path, f"{self.path}.damaged")
            for companion in ("-wal", "-shm", "-journal"):
                with suppress(FileNotFoundError):
                    os.unlink(f"{self.path}{companion}")

    def _is_sound(self) -> bool:
        """Whether the file is whole and has our tables; reads all of it."""
        db = None
        try:
            db = sqlite3.connect(self.path, timeout=2.0)
            check = "PRAGMA quick_check(1)"
            return self._fits(db) and db.execute(check).fetchone()[0] == "ok"
        except sqlite3.DatabaseError:
            return False
        finally:
            if db is not None:
                db.close()

    def _drop(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None


def _transaction(
    db: sqlite3.Connection, works: list[Callable[[sqlite3.Connection], object]]
) -> bool:
    """All of it or nothing; ``True``."""
    db.execute("BEGIN IMMEDIATE")
    try:
        for work in works:
            work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return True


def _is_damage(exc: Exception) -> bool:
    """Whether the file is no good, in contrast to one that is busy or may not be written."""
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    # SQLITE_CORRUPT, SQLITE_NOTADB, a table that went missing
    return code in {11, 26} or str(exc).startswith("no such ")


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
