"""What entrepot remembers of pip caches, so that unchanged entries are not read again.

A SQLite file in the user's state directory (mode 0600, never inside the cache itself). It is
derived: losing it costs one slow scan. URLs in it are redacted.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from entrepot.fs import make_folders, open_or_make
from entrepot.tools.pip.record import Record

FORMAT = 5
"""Changes with the tables or the meaning of a column; a file of another format is made anew."""

_TABLES = f"""
    DROP TABLE IF EXISTS shard; DROP TABLE IF EXISTS sums; DROP TABLE IF EXISTS lines;
    DROP TABLE IF EXISTS place; DROP TABLE IF EXISTS folder; DROP TABLE IF EXISTS entry;
    CREATE TABLE place (id INTEGER PRIMARY KEY, path TEXT UNIQUE, checked REAL);
    CREATE TABLE folder (
        place INTEGER, path TEXT, mark TEXT, PRIMARY KEY (place, path)
    ) WITHOUT ROWID;
    CREATE TABLE entry (
        place INTEGER, folder TEXT, key TEXT, layout TEXT, names TEXT, stamp TEXT, size INTEGER,
        disk INTEGER, freeable INTEGER, files INTEGER, used REAL, used_from TEXT, newest REAL,
        kind TEXT, project TEXT, version TEXT, filename TEXT, certainty TEXT, tags TEXT,
        origin TEXT, fresh_until REAL, digest TEXT, trust TEXT, is_orphan INTEGER, not_ours TEXT,
        problem TEXT, extra TEXT, PRIMARY KEY (place, folder, key)
    ) WITHOUT ROWID;
    PRAGMA user_version = {FORMAT};
"""
_NAMES = [column.name for column in fields(Record)]
_SELECT = f"SELECT {', '.join(_NAMES)} FROM entry WHERE place = ? "  # noqa: S608  # names of ours
_INSERT = f"INSERT OR REPLACE INTO entry VALUES ({', '.join('?' * (len(_NAMES) + 1))})"  # noqa: S608
_values = attrgetter(*_NAMES[:-1])


class Index:
    """What is remembered of one cache.

    Args:
        path: the file; ``None``, or one that cannot be used: nothing is remembered, and what is
            saved lasts as long as this object.
        root: the cache directory.

    Raises:
        sqlite3.Error: in any method: the file cannot be used any further.
    """

    def __init__(self, path: Path | None, root: str) -> None:
        self._db = _opened(path)
        try:
            with self._db:
                self._db.execute("INSERT OR IGNORE INTO place (path) VALUES (?)", _bound([root]))
            query = "SELECT id, checked FROM place WHERE path = ?"
            self._place, checked = self._db.execute(query, _bound([root])).fetchone()
        except sqlite3.Error:
            self._db.close()
            raise
        self.checked: float = checked or 0.0
        """When every file was looked at last, seconds since the epoch."""

    def folders(self) -> dict[str, str]:
        """Every directory with its mark."""
        query = "SELECT path, mark FROM folder WHERE place = ?"
        return {_text(path): mark for path, mark in self._db.execute(query, (self._place,))}

    def records(self, projects: Collection[str] | None = None) -> list[Record]:
        """Every entry; ``projects`` (normalized names) limits it to these."""
        return self._select("", ()) if projects is None else self._of_projects("", projects)

    def in_folder(self, folder: str) -> list[Record]:
        """The entries of one directory."""
        return self._select("AND folder = ?", [folder])

    def pages(self, projects: Collection[str]) -> list[Record]:
        """The index pages of these projects."""
        return self._of_projects("AND kind = 'page' ", projects)

    def names(self) -> set[str]:
        """The 56 digits of every HTTP entry."""
        query = "SELECT substr(key, -56) FROM entry WHERE place = ? AND layout LIKE 'http%'"
        return {_text(name) for (name,) in self._db.execute(query, (self._place,))}

    def _of_projects(self, condition: str, projects: Collection[str]) -> list[Record]:
        marks = ", ".join("?" * len(projects))
        return self._select(f"{condition}AND project IN ({marks})", list(projects))

    def _select(self, condition: str, values: Sequence[str]) -> list[Record]:
        rows = self._db.execute(_SELECT + condition, [self._place, *_bound(values)])
        return [_record(row) for row in rows]

    def save(
        self, folders: Mapping[str, tuple[str, list[Record]]], gone: Iterable[str], checked: float
    ) -> None:
        """Remember these directories, each with its mark and its entries, and forget others."""
        with self._db:
            replaced = [(self._place, *_bound([path])) for path in (*folders, *gone)]
            for table, column in (("folder", "path"), ("entry", "folder")):
                query = f"DELETE FROM {table} WHERE place = ? AND {column} = ?"  # noqa: S608
                self._db.executemany(query, replaced)
            marks = ((self._place, *_bound([path, mark])) for path, (mark, _) in folders.items())
            self._db.executemany("INSERT INTO folder VALUES (?, ?, ?)", marks)
            self._insert(record for _, records in folders.values() for record in records)
            self._db.execute("UPDATE place SET checked = ? WHERE id = ?", (checked, self._place))

    def update(self, records: Iterable[Record]) -> None:
        """Remember entries of known directories."""
        with self._db:
            self._insert(records)

    def _insert(self, records: Iterable[Record]) -> None:
        rows = (
            [
                self._place,
                *_bound(_values(record)),
                json.dumps(record.extra) if record.extra else "",
            ]
            for record in records
        )
        self._db.executemany(_INSERT, rows)

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _opened(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        with suppress(OSError, sqlite3.Error):
            make_folders(path.parent, 0o700)
            if not path.exists():
                os.close(open_or_make(path, os.O_RDWR, 0o600))
            db = sqlite3.connect(path, timeout=5)
            try:
                if db.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
                    db.executescript(_TABLES)
            except sqlite3.Error:
                db.close()
            else:
                return db
    db = sqlite3.connect(":memory:")
    db.executescript(_TABLES)
    return db


def _record(row: tuple[Any, ...]) -> Record:
    values = list(map(_text, row)) if bytes in map(type, row) else list(row)
    values[-1] = json.loads(row[-1]) if row[-1] else {}
    return Record(*values)


def _bound(values: Iterable[Any]) -> list[Any]:
    """Values for the database: names of files need not be text, nor what a page says."""
    return [
        value.encode("utf-8", "surrogatepass")
        if isinstance(value, str) and not value.isascii()
        else value
        for value in values
    ]


def _text(value: Any) -> Any:
    """A value as it was before :func:`_bound`."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value
