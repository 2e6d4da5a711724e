"""What entrepot remembers of a pip cache between two looks, so that unchanged entries are not read again.

A SQLite file in the user's state directory (mode 0600, never inside the cache itself). It is derived: losing it costs one slow
scan. The unit is a *shard*, the entries below two digits, stored as one block, because a hundred thousand single rows would
take too long to read. URLs in it are redacted.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from entrepot.files import make_folders, open_or_make
from entrepot.names import normalize

FORMAT = 3
"""Changes with the meaning of a row; another number in the file empties it."""

Row = list[Any]
"""One entry, positions as in :mod:`.rows`."""
_PROJECT = 10
"""The position of the project; :mod:`.rows` imports this module, and a test compares."""


class Shard:
    """One part of a cache as it was seen last.

    Args:
        folders: path below the shard's own -> a mark of its time and inode, 0 when it was too young to be trusted; or that packed.
        rows: its entries, or what gives them when somebody asks.
        checked: when its files were looked at last, seconds since the epoch.
        packed: the projects and the entries as they are stored, when the entries are those.
    """

    __slots__ = ("_folders", "_packed", "_read", "_rows", "checked")

    def __init__(
        self,
        folders: dict[str, int] | bytes = b"\x80",
        rows: list[Row] | Callable[[], list[Row]] | None = None,
        checked: float = 0.0,
        packed: tuple[str, bytes] | None = None,
    ) -> None:
        self.checked = checked
        self._folders = folders
        self._packed = packed
        self._rows: list[Row] | None = None if callable(rows) else ([] if rows is None else rows)
        self._read = rows if callable(rows) else list

    @property
    def folders(self) -> dict[str, int]:
        """The directories, unpacked at the first look; none when they cannot be."""
        if isinstance(self._folders, bytes):
            found: dict[str, int] = _unpacked(self._folders, {})
            self._folders = found
        return self._folders

    @property
    def rows(self) -> list[Row]:
        """The entries, read at the first look."""
        if self._rows is None:
            self._rows = self._read()
        return self._rows

    def packed(self) -> tuple[bytes, float, str, bytes]:
        """Folders, time, projects and entries as they are stored."""
        import msgpack  # noqa: PLC0415

        folders = self._folders if isinstance(self._folders, bytes) else msgpack.packb(self._folders)
        return (folders, self.checked, *(self._packed or (_projects(self.rows), msgpack.packb(self.rows))))


def shard_of(folders: bytes, checked: float, projects: str, data: bytes) -> Shard:
    """A shard of what :meth:`Shard.packed` gave."""
    return Shard(folders, partial(_unpacked, data, []), checked, (projects, data))


def _unpacked(data: bytes, nothing: Any) -> Any:
    import msgpack  # noqa: PLC0415

    try:
        found = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException):
        return nothing
    return found if isinstance(found, type(nothing)) else nothing


class Index:
    """The remembered shards of all pip caches of one user. Every failure of the database means *nothing remembered*.

    Args:
        path: the file; ``None``: remember nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._pid = os.getpid()
        self._inherited: list[sqlite3.Connection] = []
        self._db: sqlite3.Connection | None = None
        if path is not None:
            self._db = self._open(path)

    def _open(self, path: Path) -> sqlite3.Connection | None:
        try:
            make_folders(path.parent, 0o700)
            if not path.exists():
                os.close(open_or_make(path, os.O_RDWR, 0o600))
            db = sqlite3.connect(path, timeout=5, isolation_level=None)
            if db.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
                db.executescript(
                    f"""DROP TABLE IF EXISTS shard;
                    DROP TABLE IF EXISTS sums;
                    CREATE TABLE shard (
                        place TEXT, name TEXT, checked REAL, folders BLOB, projects TEXT, data BLOB, PRIMARY KEY (place, name)
                    );
                    CREATE TABLE sums (place TEXT PRIMARY KEY, at REAL, text TEXT);
                    DROP TABLE IF EXISTS lines;
                    CREATE TABLE lines (place TEXT PRIMARY KEY, until REAL, mark TEXT, data BLOB);
                    PRAGMA user_version = {FORMAT};"""
                )
        except (OSError, sqlite3.Error):
            return None
        return db

    def load(self, place: str) -> dict[str, Shard]:
        """Every remembered shard of one place; their rows are read when they are asked for."""
        if self._db is None:
            return {}
        found: dict[str, Shard] = {}
        try:
            for name, checked, folders in self._db.execute("SELECT name, checked, folders FROM shard WHERE place = ?", (place,)):
                found[name] = Shard(folders, partial(self._rows, place, name), checked)
        except sqlite3.Error:
            return {}
        return found

    def _rows(self, place: str, name: str) -> list[Row]:
        """One shard's rows; a database that failed since it was opened has none, and the next look reads the cache again."""
        if self._db is None or self._path is None:
            return []
        try:
            if os.getpid() != self._pid:  # a copy of the process that opened it: SQLite wants a connection of its own there
                self._inherited.append(self._db)
                self._db, self._pid = sqlite3.connect(self._path, timeout=5, isolation_level=None), os.getpid()
            data = self._db.execute("SELECT data FROM shard WHERE place = ? AND name = ?", (place, name)).fetchone()
        except sqlite3.Error:
            return []
        rows: list[Row] = _unpacked(data[0], []) if data else []
        return rows

    def shards_of(self, place: str, projects: Collection[str]) -> frozenset[str] | None:
        """Names of the remembered shards that hold any of these projects; ``None`` when nobody knows."""
        if self._db is None:
            return None
        found: set[str] = set()
        try:
            for project in projects:
                query = "SELECT name FROM shard WHERE place = ? AND instr(projects, ?)"
                found |= {name for (name,) in self._db.execute(query, (place, f"\n{project}\n"))}
        except sqlite3.Error:
            return None
        return frozenset(found)

    def sums(self, place: str) -> tuple[float, str] | None:
        """When a place was summed up last, and the sums as :meth:`keep_sums` was given them."""
        if self._db is None:
            return None
        with suppress(sqlite3.Error):
            found = self._db.execute("SELECT at, text FROM sums WHERE place = ?", (place,)).fetchone()
            return (float(found[0]), str(found[1])) if found else None
        return None

    def keep_sums(self, place: str, at: float, text: str) -> None:
        """Keep the sums of a place; ``text`` is the caller's own."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.execute("INSERT OR REPLACE INTO sums VALUES (?, ?, ?)", (place, at, text))

    def lines(self, place: str, mark: str, now: float) -> bytes | None:
        """What :meth:`keep_lines` was given for a place, when it was for the same mark and still holds."""
        if self._db is None:
            return None
        with suppress(sqlite3.Error):
            query = "SELECT data FROM lines WHERE place = ? AND mark = ? AND until >= ?"
            found = self._db.execute(query, (place, mark, now)).fetchone()
            return bytes(found[0]) if found else None
        return None

    def keep_lines(self, place: str, mark: str, until: float, data: bytes) -> None:
        """Keep a listing of a place, which :meth:`save` forgets; ``data`` is the caller's own."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.execute("INSERT OR REPLACE INTO lines VALUES (?, ?, ?, ?)", (place, until, mark, data))

    def save(self, place: str, shards: Iterable[tuple[str, Shard]], gone: Iterable[str] = ()) -> None:
        """Remember these shards and forget those that are gone, in one transaction."""
        if self._db is None:
            return
        with suppress(sqlite3.Error):
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("DELETE FROM shard WHERE place = ? AND name = ?", [(place, name) for name in gone])
            self._db.executemany(
                "INSERT OR REPLACE INTO shard VALUES (?, ?, ?, ?, ?, ?)",
                ((place, name, checked, folders, *rest) for name, s in shards for folders, checked, *rest in [s.packed()]),
            )
            for table in ("sums", "lines"):  # they are of what was there before
                self._db.execute(f"DELETE FROM {table} WHERE place = ?", (place,))  # noqa: S608  (two words of ours)
            self._db.execute("COMMIT")
            return
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None


def _projects(rows: Iterable[Row]) -> str:
    """The projects of some rows, each between two line ends."""
    names = sorted({normalize(row[_PROJECT]) for row in rows if row[_PROJECT]})
    return "\n" + "".join(f"{name}\n" for name in names)
