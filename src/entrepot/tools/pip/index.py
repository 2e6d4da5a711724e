"""What entrepot remembers of a pip cache between two looks, so that unchanged entries are not read again.

A SQLite file in the user's state directory (mode 0600, never inside the cache itself). It is derived: losing it costs one slow
scan. The unit is a *shard*, the entries below two digits, stored as one block, because a hundred thousand single rows would
take too long to read. URLs in it are redacted.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

FORMAT = 1
"""Changes with the meaning of a row; another number in the file empties it."""

Row = list[Any]
"""One entry, positions as in :mod:`.rows`."""


@dataclass(slots=True)
class Shard:
    """One part of a cache as it was seen last."""

    folders: dict[str, int] = field(default_factory=dict)
    """Relative path -> a mark of its time and inode; 0 when it was too young to be trusted."""
    rows: list[Row] = field(default_factory=list)
    checked: float = 0.0
    """When its files were looked at last, seconds since the epoch."""


class Index:
    """The remembered shards of all pip caches of one user. Every failure of the database means *nothing remembered*.

    Args:
        path: the file; ``None``: remember nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
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
                    CREATE TABLE shard (place TEXT, name TEXT, data BLOB, PRIMARY KEY (place, name)) WITHOUT ROWID;
                    PRAGMA user_version = {FORMAT};"""
                )
        except (OSError, sqlite3.Error):
            return None
        return db

    def load(self, place: str) -> dict[str, Shard]:
        """Every remembered shard of one place."""
        if self._db is None:
            return {}
        found: dict[str, Shard] = {}
        try:
            for name, data in self._db.execute("SELECT name, data FROM shard WHERE place = ?", (place,)):
                folders, rows, checked = msgpack.unpackb(data, strict_map_key=False)
                found[name] = Shard(folders, rows, checked)
        except (sqlite3.Error, ValueError, TypeError, msgpack.UnpackException):
            return {}
        return found

    def save(self, place: str, shards: Iterable[tuple[str, Shard]], gone: Iterable[str] = ()) -> None:
        """Remember these shards and forget those that are gone, in one transaction."""
        if self._db is None:
            return
        with suppress(sqlite3.Error):
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("DELETE FROM shard WHERE place = ? AND name = ?", [(place, name) for name in gone])
            self._db.executemany(
                "INSERT OR REPLACE INTO shard VALUES (?, ?, ?)",
                ((place, name, msgpack.packb([s.folders, s.rows, s.checked])) for name, s in shards),
            )
            self._db.execute("COMMIT")
            return
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None
