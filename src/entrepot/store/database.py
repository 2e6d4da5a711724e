"""One SQLite file whose loss does not matter.

Opened late, replaced when damaged, in memory when the disk refuses.

No exception of SQLite leaves this module but for mistakes in our own SQL. Which tables there are is
told by ``schema.py``.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from entrepot.errors import Busy
from entrepot.fs import open_or_make
from entrepot.store.layout import Modes
from entrepot.store.locks import NoLocks, open_lock_file, wait_lock
from entrepot.store.schema import LINKS_TABLE, SCHEMA, STAMPS, TABLES, TRIGGERS

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")
Mode = Literal["wal", "rollback", "read-only", "memory"]

MMAP_BYTES = 16 << 20
LOG_BYTES = 1 << 20
_MAX_PENDING = 10_000


class Database:
    """A connection with its troubles taken care of.

    Safe for several threads; other processes may use the same file.

    Args:
        path: the file; ``None``: in memory.
        wal: whether to use a write-ahead log, where it works.
        busy_s: seconds to wait for another process's transaction.
    """

    def __init__(self, path: Path | None, *, wal: bool, busy_s: float) -> None:
        self.path = "" if path is None else os.path.abspath(path)
        self.lock = threading.RLock()
        self.troubles = 0
        """Failures so far."""
        self._wal = wal
        self._busy_s = busy_s
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        """Device and inode of what was opened last: what is found damaged is set aside, and nothing
        that took its place."""
        self._mode: Mode = "memory"
        self._failures = 0
        self._skip = 0
        self._pending: list[Callable[[sqlite3.Connection], object]] = []

    @property
    def mode(self) -> Mode:
        """How it is kept; opens it."""
        with self.lock:
            self._connection()
            return self._mode

    def read(self, work: Callable[[sqlite3.Connection], T], *, default: T) -> T:
        """The result of ``work``; ``default`` when the database fails."""
        ok, value = self._guarded(work)
        return default if not ok or value is None else value

    def write(self, work: Callable[[sqlite3.Connection], object], *, lossy: bool = False) -> bool:
        """Do ``work`` in a transaction, after what is pending.

        What fails waits for the next time unless it is lossy.

        Whether it is done.
        """
        with self.lock:
            self._connection()
            if self._mode == "read-only":
                return False
            if done := self._try([*self._pending, work]):
                self._pending = []
            elif not lossy and len(self._pending) < _MAX_PENDING:
                self._pending.append(work)
            return done

    def _try(self, todo: list[Callable[[sqlite3.Connection], object]]) -> bool:
        """One attempt at a transaction.

        After several failures in a row not every time: each may wait for a lock.
        """
        if self._skip:
            self._skip -= 1
            return False
        ok, _ = self._guarded(lambda db: _transaction(db, todo))
        self._failures = 0 if ok else self._failures + 1
        self._skip = 0 if self._failures < 3 else min(2**self._failures, 256)
        return ok

    def close(self) -> None:
        """Write what is pending and close; the next use opens it again."""
        with self.lock:
            self._skip = 0
            if self._pending:
                self.write(lambda _: None, lossy=True)
            self._drop()

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> tuple[bool, T | None]:
        """The result, and whether there is one.

        A damaged file is replaced and the work done again, once.
        """
        import sqlite3  # noqa: PLC0415 - 5 ms that a start-up without questions does not pay

        with self.lock:
            for attempt in (1, 2):
                db = self._connection()
                try:
                    return True, work(db)
                except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
                    raise  # our own mistake
                except sqlite3.DatabaseError as exc:
                    self.troubles += 1
                    if attempt == 2 or not _is_damage(exc):
                        break
                    self._set_aside()
            return False, None

    # -- opening -----------------------------------------------------------------------------------

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = self._open()
        return self._db

    def _open(self) -> sqlite3.Connection:
        """The file; a new one where it is damaged; the file for reading alone; memory."""
        import sqlite3  # noqa: PLC0415

        for attempt in (
            (self._open_file, self._open_file, self._open_read_only) if self.path else ()
        ):
            try:
                return attempt()
            except (sqlite3.DatabaseError, OSError, Busy) as exc:
                self.troubles += 1
                if _is_damage(exc):
                    self._set_aside()
        db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        _set_up(db, wal=False)
        self._mode = "memory"
        return db

    def _open_file(self) -> sqlite3.Connection:
        import sqlite3  # noqa: PLC0415

        if os.path.islink(self.path):  # it would be another program's database that is emptied
            raise PermissionError(self.path)
        if not os.path.exists(self.path):
            self._make_file()
        elif not os.access(self.path, os.W_OK) or not os.access(
            os.path.dirname(self.path), os.W_OK
        ):
            raise PermissionError(self.path)
        self._file = _identity(self.path)
        db = sqlite3.connect(
            self.path, timeout=self._busy_s, isolation_level=None, check_same_thread=False
        )
        try:
            if db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
                with self._alone():
                    _set_up(db, wal=self._wal)
            journal = db.execute("PRAGMA journal_mode").fetchone()[0]
            # a lost transaction costs a second look, a damaged file a rebuild: no sync is worth
            # waiting for
            db.execute(f"PRAGMA synchronous = {'NORMAL' if journal == 'wal' else 'OFF'}")
            db.execute(
                f"PRAGMA journal_size_limit = {LOG_BYTES}"
            )  # else the log stays as big as it ever was
            db.execute(f"PRAGMA mmap_size = {MMAP_BYTES}")
        except BaseException:
            db.close()
            raise
        self._mode = "wal" if journal == "wal" else "rollback"
        return db

    def _file_mode(self) -> int:
        return Modes(stat.S_IMODE(os.stat(os.path.dirname(self.path)).st_mode)).file

    def _make_file(self) -> None:
        """An empty file with the store's mode.

        SQLite would go by the umask, and its companions take the file's mode and owner.
        """
        fd = open_or_make(self.path, os.O_RDWR | os.O_CLOEXEC, self._file_mode())
        with suppress(OSError):
            os.fchmod(fd, self._file_mode())
        os.close(fd)

    def _open_read_only(self) -> sqlite3.Connection:
        import sqlite3  # noqa: PLC0415

        db = sqlite3.connect(
            f"{Path(self.path).as_uri()}?mode=ro",
            uri=True,
            timeout=self._busy_s,
            check_same_thread=False,
        )
        try:
            if not _has_tables(db):
                raise sqlite3.OperationalError("another schema, or none")  # noqa: TRY301
        except BaseException:
            db.close()
            raise
        self._mode = "read-only"
        return db

    # -- damage ------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Setting up and setting aside are for one process at a time.

        Without locks SQLite's own have to do.
        """
        fd = open_lock_file(f"{self.path}.lock", self._file_mode())
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
            if _identity(self.path) != self._file or _is_sound(self.path):
                return  # what another has begun may be empty still, and is sound all the same
            os.replace(self.path, f"{self.path}.damaged")
            for companion in ("-wal", "-shm", "-journal"):
                with suppress(FileNotFoundError):
                    os.unlink(f"{self.path}{companion}")

    def _drop(self) -> None:
        import sqlite3  # noqa: PLC0415

        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None


def _transaction(
    db: sqlite3.Connection, works: list[Callable[[sqlite3.Connection], object]]
) -> None:
    """All of it or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        for work in works:
            work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _set_up(db: sqlite3.Connection, *, wal: bool) -> None:
    """Make the tables, in place of those of another schema.

    Nothing to do when another process was first.
    """
    if wal:
        db.execute(
            "PRAGMA journal_mode = WAL"
        ).fetchone()  # a disk that cannot says so by the mode that stays

    def work(db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == SCHEMA:
            return
        if version == 2:  # hosts and counters stay; its links do not say which page named them
            for statement in (
                "DROP TABLE links",
                LINKS_TABLE,
                STAMPS,
                f"PRAGMA user_version = {SCHEMA}",
            ):
                db.execute(statement)
            return
        for (name,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall():
            db.execute(f'DROP TABLE "{name}"')
        for statement in (*TABLES, *TRIGGERS):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA}")

    _transaction(db, [work])


def _is_damage(exc: Exception) -> bool:
    """Whether an error means that the file is no good, in contrast to one that is busy or may not be written."""
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    return code in {11, 26} or str(exc).startswith(
        "no such "
    )  # SQLITE_CORRUPT, SQLITE_NOTADB, a table that went missing


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _has_tables(db: sqlite3.Connection) -> bool:
    wanted = {statement.split()[2] for statement in TABLES}
    found = {name for (name,) in db.execute("SELECT name FROM sqlite_master").fetchall()}
    return db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA and wanted <= found


def _is_sound(path: str) -> bool:
    """Whether a file is a whole database with our tables (reads all of it: only after it was found damaged)."""
    import sqlite3  # noqa: PLC0415

    db = None
    try:
        db = sqlite3.connect(path, timeout=2.0)
        return _has_tables(db) and db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
    except sqlite3.DatabaseError:
        return False
    finally:
        if db is not None:
            db.close()
