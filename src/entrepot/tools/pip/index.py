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

from entrepot.names import normalize

FORMAT = 2
"""Changes with the meaning of a row; another number in the file empties it."""

Row = list[Any]
"""One entry, positions as in :mod:`.rows`."""
_PROJECT = 10
"""The position of the project; :mod:`.rows` imports this module, and a test compares."""


class Shard:
    """One part of a cache as it was seen last.

    Args:
        folders: relative path -> a mark of its time and inode; 0 when it was too young to be trusted.
        rows: its entries, or what gives them when somebody asks.
        checked: when its files were looked at last, seconds since the epoch.
    """

    __slots__ = ("_read", "_rows", "checked", "folders")

    def __init__(
        self, folders: dict[str, int] | None = None, rows: list[Row] | Callable[[], list[Row]] | None = None, checked: float = 0.0
    ) -> None:
        self.folders = {} if folders is None else folders
        self.checked = checked
        self._rows: list[Row] | None = None if callable(rows) else ([] if rows is None else rows)
        self._read = rows if callable(rows) else list

    @property
    def rows(self) -> list[Row]:
        """The entries, read at the first look."""
        if self._rows is None:
            self._rows = self._read()
        return self._rows


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
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            db = sqlite3.connect(path, timeout=5, isolation_level=None)
            if db.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
                db.executescript(
                    f"""DROP TABLE IF EXISTS shard;
                    DROP TABLE IF EXISTS sums;
                    CREATE TABLE shard (
                        place TEXT, name TEXT, checked REAL, folders BLOB, projects TEXT, data BLOB, PRIMARY KEY (place, name)
                    );
                    CREATE TABLE sums (place TEXT PRIMARY KEY, at REAL, text TEXT);
                    PRAGMA user_version = {FORMAT};"""
                )
        except (OSError, sqlite3.Error):
            return None
        return db

    def load(self, place: str) -> dict[str, Shard]:
        """Every remembered shard of one place; their rows are read when they are asked for."""
        if self._db is None:
            return {}
        import msgpack  # noqa: PLC0415  # not for those who only want sums

        found: dict[str, Shard] = {}
        try:
            for name, checked, folders in self._db.execute("SELECT name, checked, folders FROM shard WHERE place = ?", (place,)):
                found[name] = Shard(msgpack.unpackb(folders), partial(self._rows, place, name), checked)
        except (sqlite3.Error, ValueError, TypeError, msgpack.UnpackException):
            return {}
        return found

    def _rows(self, place: str, name: str) -> list[Row]:
        """One shard's rows; a database that failed since it was opened has none, and the next look reads the cache again."""
        if self._db is None or self._path is None:
            return []
        import msgpack  # noqa: PLC0415

        try:
            if os.getpid() != self._pid:  # a copy of the process that opened it: SQLite wants a connection of its own there
                self._inherited.append(self._db)
                self._db, self._pid = sqlite3.connect(self._path, timeout=5, isolation_level=None), os.getpid()
            data = self._db.execute("SELECT data FROM shard WHERE place = ? AND name = ?", (place, name)).fetchone()
            rows: list[Row] = msgpack.unpackb(data[0], strict_map_key=False) if data else []
        except (sqlite3.Error, ValueError, TypeError, msgpack.UnpackException):
            return []
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

    def save(self, place: str, shards: Iterable[tuple[str, Shard]], gone: Iterable[str] = ()) -> None:
        """Remember these shards and forget those that are gone, in one transaction."""
        if self._db is None:
            return
        import msgpack  # noqa: PLC0415

        with suppress(sqlite3.Error):
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("DELETE FROM shard WHERE place = ? AND name = ?", [(place, name) for name in gone])
            self._db.executemany(
                "INSERT OR REPLACE INTO shard VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (place, name, s.checked, msgpack.packb(s.folders), _projects(s.rows), msgpack.packb(s.rows))
                    for name, s in shards
                ),
            )
            self._db.execute("DELETE FROM sums WHERE place = ?", (place,))  # they are of what was there before
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
