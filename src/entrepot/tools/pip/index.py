"""What entrepot remembers of a pip cache between two looks, so that unchanged entries are not read again.

A SQLite file in the user's state directory (mode 0600, never inside the cache itself). It is
derived: losing it costs one slow scan. The unit is a *shard*, the entries below two digits, stored
as one block, because a hundred thousand single rows would take too long to read. URLs in it are
redacted.
"""

from __future__ import annotations

import os
import sqlite3
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from entrepot.fs import make_folders, open_or_make
from entrepot.names import normalize

FORMAT = 4
"""Changes with the meaning of a row; another number in the file empties it."""

Row = list[Any]
"""One entry, positions as in :mod:`.rows`."""
_PROJECT = 10
"""The position of the project; :mod:`.rows` imports this module, and a test compares."""


class Folders:
    """The directories of a shard and a mark of each one's time and inode, 0 when it was too young to be trusted.

    Args:
        packed: both as they are stored.
    """

    __slots__ = ("_count", "packed")

    def __init__(self, packed: bytes = bytes(8)) -> None:
        self.packed = packed
        self._count = int.from_bytes(packed[:8], "little")

    @classmethod
    def of(cls, marks: Mapping[str, int]) -> Folders:
        """Those of these paths below the shard's own (``/0/1``; its own is empty)."""
        return cls(
            len(marks).to_bytes(8, "little")
            + array("q", marks.values()).tobytes()
            + _bytes("\0".join(marks))
        )

    @property
    def marks(self) -> bytes:
        """As signed numbers of eight bytes: quicker to compare than to unpack."""
        return self.packed[8 : 8 + 8 * self._count]

    @property
    def paths(self) -> list[str]:
        """The directories, in the order of the marks."""
        return _text(self.packed[8 + 8 * self._count :]).split("\0") if self._count else []


class Shard:
    """One part of a cache as it was seen last.

    Args:
        folders: its directories.
        rows: its entries, or what gives them when somebody asks.
        checked: when its files were looked at last, seconds since the epoch.
        packed: the projects and the entries as they are stored, when the entries are those.
    """

    __slots__ = ("_packed", "_read", "_rows", "checked", "folders")

    def __init__(
        self,
        folders: Folders,
        rows: list[Row] | Callable[[], list[Row]],
        checked: float,
        packed: tuple[bytes, bytes] | None = None,
    ) -> None:
        self.checked = checked
        self.folders = folders
        self._packed = packed
        self._rows: list[Row] | None = None if callable(rows) else rows
        self._read = rows if callable(rows) else list

    @property
    def rows(self) -> list[Row]:
        """The entries, read at the first look."""
        if self._rows is None:
            self._rows = self._read()
        return self._rows

    def packed(self) -> tuple[bytes, float, bytes, bytes]:
        """Folders, time, projects and entries as they are stored."""
        return (
            self.folders.packed,
            self.checked,
            *(self._packed or (_projects(self.rows), _packed_rows(self.rows))),
        )


def shard_of(folders: bytes, checked: float, projects: bytes, data: bytes) -> Shard:
    """A shard of what :meth:`Shard.packed` gave."""
    return Shard(Folders(folders), partial(_rows_of, data), checked, (projects, data))


_UNICODE: Any = "surrogatepass"
"""File names are not always text, and what a page says of a project need not be."""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", _UNICODE)


def _text(data: bytes) -> str:
    return data.decode("utf-8", _UNICODE)


def _packed_rows(rows: list[Row]) -> bytes:
    import msgpack  # noqa: PLC0415

    packed: bytes = msgpack.packb(rows, unicode_errors=_UNICODE)
    return packed


def _rows_of(data: bytes) -> list[Row]:
    """Rows from their bytes; none when they are not whole."""
    import msgpack  # noqa: PLC0415

    try:
        found = msgpack.unpackb(data, strict_map_key=False, unicode_errors=_UNICODE)
    except (ValueError, TypeError, msgpack.UnpackException):
        return []
    return found if isinstance(found, list) else []


class Index:
    """The remembered shards of all pip caches of one user.

    Every failure of the database means *nothing remembered*.

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
                        place BLOB, name BLOB, checked REAL, folders BLOB, projects BLOB, data BLOB, PRIMARY KEY (place, name)
                    );
                    CREATE TABLE sums (place BLOB PRIMARY KEY, at REAL, text TEXT);
                    DROP TABLE IF EXISTS lines;
                    CREATE TABLE lines (place BLOB PRIMARY KEY, until REAL, mark BLOB, data BLOB);
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
            query = "SELECT name, checked, folders FROM shard WHERE place = ?"
            for name, checked, folders in self._db.execute(query, (_bytes(place),)):
                found[_text(name)] = Shard(
                    Folders(folders), partial(self._rows, place, _text(name)), checked
                )
        except sqlite3.Error:
            return {}
        return found

    def _rows(self, place: str, name: str) -> list[Row]:
        """One shard's rows; a database that failed since it was opened has none, and the next look reads the cache again."""
        if self._db is None or self._path is None:
            return []
        try:
            if (
                os.getpid() != self._pid
            ):  # a copy of the process that opened it: SQLite wants a connection of its own there
                self._inherited.append(self._db)
                self._db, self._pid = (
                    sqlite3.connect(self._path, timeout=5, isolation_level=None),
                    os.getpid(),
                )
            data = self._db.execute(
                "SELECT data FROM shard WHERE place = ? AND name = ?", (_bytes(place), _bytes(name))
            ).fetchone()
        except sqlite3.Error:
            return []
        return _rows_of(data[0]) if data else []

    def shards_of(self, place: str, projects: Collection[str]) -> frozenset[str] | None:
        """Names of the remembered shards that hold any of these projects.

        ``None`` when nobody knows.
        """
        if self._db is None:
            return None
        found: set[str] = set()
        try:
            for project in projects:
                query = "SELECT name FROM shard WHERE place = ? AND instr(projects, ?)"
                found |= {
                    _text(name)
                    for (name,) in self._db.execute(
                        query, (_bytes(place), _bytes(f"\n{project}\n"))
                    )
                }
        except sqlite3.Error:
            return None
        return frozenset(found)

    def sums(self, place: str) -> tuple[float, str] | None:
        """When a place was summed up last, and the sums as :meth:`keep_sums` was given them."""
        if self._db is None:
            return None
        with suppress(sqlite3.Error):
            found = self._db.execute(
                "SELECT at, text FROM sums WHERE place = ?", (_bytes(place),)
            ).fetchone()
            return (float(found[0]), str(found[1])) if found else None
        return None

    def keep_sums(self, place: str, at: float, text: str) -> None:
        """Keep the sums of a place; ``text`` is the caller's own."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.execute(
                    "INSERT OR REPLACE INTO sums VALUES (?, ?, ?)", (_bytes(place), at, text)
                )

    def lines(self, place: str, mark: str, now: float) -> bytes | None:
        """What :meth:`keep_lines` was given for a place, when it was for the same mark and still holds."""
        if self._db is None:
            return None
        with suppress(sqlite3.Error):
            query = "SELECT data FROM lines WHERE place = ? AND mark = ? AND until >= ?"
            found = self._db.execute(query, (_bytes(place), _bytes(mark), now)).fetchone()
            return bytes(found[0]) if found else None
        return None

    def keep_lines(self, place: str, mark: str, until: float, data: bytes) -> None:
        """Keep a listing of a place, which :meth:`save` forgets; ``data`` is the caller's own."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.execute(
                    "INSERT OR REPLACE INTO lines VALUES (?, ?, ?, ?)",
                    (_bytes(place), until, _bytes(mark), data),
                )

    def save(
        self, place: str, shards: Iterable[tuple[str, Shard]], gone: Iterable[str] = ()
    ) -> None:
        """Remember these shards and forget those that are gone, in one transaction."""
        if self._db is None:
            return
        with suppress(sqlite3.Error):
            at = _bytes(place)
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "DELETE FROM shard WHERE place = ? AND name = ?",
                [(at, _bytes(name)) for name in gone],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO shard VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (at, _bytes(name), checked, folders, *rest)
                    for name, s in shards
                    for folders, checked, *rest in [s.packed()]
                ),
            )
            for table in ("sums", "lines"):  # they are of what was there before
                # Two words of ours
                self._db.execute(f"DELETE FROM {table} WHERE place = ?", (at,))  # noqa: S608
            self._db.execute("COMMIT")
            return
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None


def _projects(rows: Iterable[Row]) -> bytes:
    """The projects of some rows, each between two line ends."""
    names = sorted({normalize(row[_PROJECT]) for row in rows if row[_PROJECT]})
    return _bytes("\n" + "".join(f"{name}\n" for name in names))
