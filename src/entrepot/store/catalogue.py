"""The catalogue in SQLite.

What the store's heads say, where it can be asked in microseconds, and what pages have taught.

All of it can be lost. So no failure of the database reaches a caller: a damaged file is set aside
and an empty one begun (:attr:`SqliteCatalogue.needs_rebuild`), a disk that refuses gives a
catalogue in memory (:attr:`SqliteCatalogue.degraded`), a write that meets another's lock is made up
for by the next one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from entrepot.digests import LENGTHS, Digest
from entrepot.errors import InvalidHead, StoreError
from entrepot.eviction import Use
from entrepot.ports.catalogue import Link, Listed, Noted
from entrepot.ports.store import Store, read_object
from entrepot.store.layout import catalogue_path
from entrepot.stored import HEADS, Head, body_key, is_head_key

if TYPE_CHECKING:
    import sqlite3

    from entrepot.store.database import Database

BATCH = 2_000
"""Rows read at a time: others get their turn in between."""
WRITTEN = 500
"""Rows written in one transaction, some 50 ms: who has to write a single one meanwhile waits no
longer."""

# -- tables ----------------------------------------------------------------------------------------

VERSION = 5
"""A catalogue of another schema is emptied and made again."""
SCHEMA = {
    # what `list` and `status` show: 100,000 rows are read without opening as many files
    "TABLE heads": """(
        key TEXT PRIMARY KEY, url TEXT, kind TEXT, project TEXT, version TEXT, filename TEXT,
        size INTEGER, disk INTEGER, body BLOB, used REAL, response_time REAL, status INTEGER,
        proven INTEGER, credentialed INTEGER, shared INTEGER, upload_time TEXT
    ) WITHOUT ROWID""",
    # a row for each page that named a file, found by 16 bytes of the URL's hash: a URL is not kept
    "TABLE links": """(
        url BLOB, page INTEGER, state INTEGER, digests BLOB, size INTEGER, project TEXT,
        version TEXT, filename TEXT, kind TEXT, upload_time TEXT, source INTEGER,
        PRIMARY KEY (url, page)
    ) WITHOUT ROWID""",
    # hashes of names, and where in `sources` their texts are, which many share
    "TABLE notes": "(name BLOB PRIMARY KEY, text INTEGER) WITHOUT ROWID",
    "TABLE sources": "(id INTEGER PRIMARY KEY, text TEXT UNIQUE)",
    "TABLE hosts": "(authority TEXT PRIMARY KEY) WITHOUT ROWID",
    "TABLE counters": "(name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID",
    "TABLE meta": "(name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    # what a body's file was like when its bytes were known to be right
    "TABLE stamps": "(body BLOB PRIMARY KEY, stamp TEXT) WITHOUT ROWID",
    "INDEX heads_body": "ON heads (body, disk)",
}
LISTING = (
    "SELECT key, url, kind, project, version, filename, size, disk, "
    "CASE WHEN body NOT NULL THEN 'sha256:' || lower(hex(body)) END, "
    "used, response_time, status, proven, credentialed, shared, upload_time "
    "FROM heads WHERE key > ? ORDER BY key LIMIT ?"
)
USES = (
    "SELECT key, CASE WHEN body NOT NULL THEN 'sha256:' || lower(hex(body)) END, used, disk "
    "FROM heads"
)
SIZES = (
    "SELECT (SELECT count(*) FROM heads), (SELECT sum(disk) FROM "
    "(SELECT max(disk) AS disk FROM heads WHERE body NOT NULL GROUP BY body))"
)
LINKS = (
    "SELECT p.text, t.text, digests, size, project, version, filename, kind, upload_time, s.text "
    "FROM links LEFT JOIN sources s ON s.id = source LEFT JOIN sources p ON p.id = page "
    "LEFT JOIN sources t ON t.id = state WHERE url = ? ORDER BY page"
)
ADD_COUNTER = (
    "INSERT INTO counters VALUES (?, ?) "
    "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
)
STAMP = "SELECT stamp FROM stamps WHERE body = ?"
NOTE_STAMP = "INSERT OR REPLACE INTO stamps VALUES (?, ?)"
NOTE = "SELECT sources.text FROM notes JOIN sources ON id = notes.text WHERE name = ?"
WRITE_NOTE = "INSERT OR REPLACE INTO notes VALUES (?, ?)"
FORGET_STAMPS = "DELETE FROM stamps WHERE body NOT IN (SELECT body FROM heads WHERE body NOT NULL)"
DELETE_HEAD = "DELETE FROM heads WHERE key = ?"
RECORD = "INSERT OR REPLACE INTO heads VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
INSERT_LINK = "INSERT OR REPLACE INTO links VALUES (?,?,?,?,?,?,?,?,?,?,?)"

_ALGORITHMS = sorted(LENGTHS)
_SAME = "="
"""Stands for a file name that is the URL's last segment, as it nearly always is; doubled before any
other that begins so."""


def url_key(url: str) -> bytes:
    """What a canonical URL is found by: 16 bytes, so that two never meet."""
    return hashlib.blake2b(url.encode(), digest_size=16).digest()


def link_row(link: Link, source: int, page: int = 0, state: int = 0) -> tuple[object, ...]:
    """The columns of one link."""
    filename = link.filename
    if filename is not None and filename == _last_segment(link.url):
        filename = _SAME
    elif filename and filename.startswith(_SAME):
        filename = f"{_SAME}{filename}"
    return (
        url_key(link.url),
        page,
        state,
        b"".join(
            bytes((_ALGORITHMS.index(d.algorithm),)) + bytes.fromhex(d.value) for d in link.digests
        ),
        link.size,
        link.project,
        link.version,
        filename,
        link.kind,
        link.upload_time,
        source,
    )


def unpack_link(url: str, row: Sequence[Any]) -> Link:
    """The link again, from its columns less key, page and state, and with its source in words."""
    digests, size, project, version, filename, kind, upload_time, source = row
    found = []
    while digests:
        algorithm = _ALGORITHMS[digests[0]]
        end = 1 + LENGTHS[algorithm] // 2
        found.append(Digest(algorithm, digests[1:end].hex()))
        digests = digests[end:]
    if filename == _SAME:
        filename = _last_segment(url)
    elif filename:
        filename = filename.removeprefix(_SAME)
    text = source or ""
    return Link(url, tuple(found), size, project, version, filename, kind, upload_time, text)


def _last_segment(url: str) -> str:
    last = url.partition("?")[0].rpartition("/")[2]
    return unquote(last) if "%" in last else last


# -- the catalogue ---------------------------------------------------------------------------------


def open_catalogue(root: Path) -> SqliteCatalogue:
    """The catalogue of the store at ``root``; nothing is opened yet."""
    return SqliteCatalogue(catalogue_path(root))


class SqliteCatalogue:
    """See :class:`entrepot.ports.catalogue.Catalogue`.

    Safe for several threads and processes; opened at its first use.

    Args:
        path: the database; ``None``: in memory.
        busy_s: seconds that a write waits for another process's transaction.
    """

    def __init__(self, path: Path | None, *, busy_s: float = 1.0) -> None:
        self.path = path
        self._busy_s = busy_s
        self._opening = threading.Lock()
        self._opened: Database | None = None

    @property
    def _database(self) -> Database:
        with self._opening:
            if self._opened is None:
                # late: SQLite takes 5 ms that a start-up without questions does not pay
                from entrepot.store.database import Database  # noqa: PLC0415

                self._opened = Database(self.path, VERSION, SCHEMA, busy_s=self._busy_s)
            return self._opened

    def _ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._database.ask(query, *values)

    def _write(self, work: Callable[[sqlite3.Connection], object], *, lossy: bool = False) -> bool:
        return self._database.write(work, lossy=lossy)

    # -- what it is --------------------------------------------------------------------------------

    @property
    def degraded(self) -> bool:
        return self.path is not None and not self._database.is_kept

    @property
    def troubles(self) -> int:
        """Failures of the database so far that were made good or cost an answer."""
        return self._database.troubles

    @property
    def needs_rebuild(self) -> bool:
        """Whether it may lack heads of the store, because it is new, was lost or was damaged."""
        return not self._ask("SELECT 1 FROM meta WHERE name = 'complete'")

    # -- heads -------------------------------------------------------------------------------------

    def record(self, key: str, head: Head, *, used: float, disk: int) -> None:
        self._record([(key, head, used, disk)])

    def _record(self, heads: list[tuple[str, Head, float, int]]) -> None:
        rows = [
            (
                key,
                head.url,
                head.kind,
                head.project,
                head.version,
                head.filename,
                head.response.size,
                disk,
                bytes.fromhex(head.body.value) if head.body else None,
                used,
                head.response.response_time,
                head.response.head.status,
                bool(head.proven),
                head.credentialed,
                head.shared,
                head.upload_time,
            )
            for key, head, used, disk in heads
        ]
        self._write(lambda db: db.executemany(RECORD, rows))

    def forget(self, keys: Iterable[str]) -> None:
        rest = iter(keys)
        while rows := [(key,) for key in islice(rest, WRITTEN)]:
            self._write(partial(_forget, rows))

    def note_used(self, uses: Iterable[tuple[str, float]]) -> None:
        """Later last uses of heads, as their files' times say."""
        rows = [(used, key) for key, used in uses]
        if rows:
            self._write(lambda db: db.executemany("UPDATE heads SET used = ? WHERE key = ?", rows))

    def listing(self) -> Iterator[Listed]:
        last = ""
        while True:  # page by page: no transaction stays open while the caller thinks
            found = self._ask(LISTING, last, BATCH)
            yield from map(Listed._make, found)
            if len(found) < BATCH:
                return
            last = found[-1][0]

    def sizes(self) -> tuple[int, int]:
        """Number of heads, and bytes of disk of distinct bodies; some 60 ms for 100,000 heads."""
        ((heads, disk),) = self._ask(SIZES) or [(0, 0)]
        return heads, disk or 0

    def uses(self) -> list[Use]:
        """Every head as eviction cares for it."""
        return [Use(*row) for row in self._ask(USES)]

    def heads_of(self, body: Digest) -> list[str]:
        if body.algorithm != "sha256":
            return []
        query = "SELECT key FROM heads WHERE body = ?"
        return [key for (key,) in self._ask(query, bytes.fromhex(body.value))]

    def stamp(self, key: str) -> str | None:
        """The stamp last noted for a body, by its key in the store."""
        rows = self._ask(STAMP, _body_of_key(key))
        return rows[0][0] if rows else None

    def note_stamp(self, key: str, stamp: str) -> None:
        """Note a body's stamp; when that fails the body is hashed once more."""
        row = _body_of_key(key), stamp
        self._write(lambda db: db.execute(NOTE_STAMP, row), lossy=True)

    # -- what was learned --------------------------------------------------------------------------

    def learn(self, links: Iterable[Link], *, page: str = "", state: str = "") -> bool:
        known = list(links)

        def work(db: sqlite3.Connection) -> None:
            sources = {
                text: _source(db, text) for text in {page, state, *(each.source for each in known)}
            }
            said = sources[page], sources[state]
            db.executemany(
                INSERT_LINK, [link_row(each, sources[each.source], *said) for each in known]
            )

        return not known or self._write(work, lossy=True)

    def link(self, url: str) -> Link | None:
        return next((each.link for each in self.links(url)), None)

    def links(self, url: str) -> list[Noted]:
        rows = self._ask(LINKS, url_key(url))
        return [Noted(unpack_link(url, row), page or "", state or "") for page, state, *row in rows]

    def write_notes(self, notes: Mapping[str, str]) -> None:
        """Names are hashed, and a text that many share is kept once."""

        def work(db: sqlite3.Connection) -> None:
            texts = {text: _source(db, text) for text in set(notes.values())}
            rows = [(url_key(name), texts[text]) for name, text in notes.items()]
            db.executemany(WRITE_NOTE, rows)

        if notes:
            self._write(work, lossy=True)

    def note(self, name: str) -> str | None:
        rows = self._ask(NOTE, url_key(name))
        return rows[0][0] if rows else None

    def learn_host(self, authority: str) -> None:
        self._write(lambda db: db.execute("INSERT OR IGNORE INTO hosts VALUES (?)", (authority,)))

    def hosts(self) -> frozenset[str]:
        return frozenset(host for (host,) in self._ask("SELECT authority FROM hosts"))

    def count(self, **amounts: int) -> None:
        self._write(lambda db: db.executemany(ADD_COUNTER, amounts.items()))

    def counters(self) -> Mapping[str, int]:
        return dict(self._ask("SELECT name, value FROM counters"))

    # -- rebuilding --------------------------------------------------------------------------------

    def rebuild(self, store: Store, *, progress: Callable[[int], None] | None = None) -> int:
        """Make it say what the store's heads say; the number of heads read.

        Slow: for a thread, or before the loop. Only heads that are not known are read, and only
        names of the others. Unreadable heads are left out.

        Args:
            store: any.
            progress: called with the number of heads looked at, now and then.
        """
        unseen = {key for (key,) in self._ask("SELECT key FROM heads")}
        batch: list[tuple[str, Head, float, int]] = []
        read = 0
        for looked, meta in enumerate(store.list(HEADS)):
            if progress and looked % 1000 == 0:
                progress(looked)
            if not is_head_key(meta.key):
                continue  # somebody else's file
            if meta.key in unseen:
                unseen.discard(meta.key)
                continue
            head = None
            with suppress(InvalidHead, StoreError):
                raw = read_object(store, meta.key)  # None: it went meanwhile
                head = raw and Head.from_bytes(raw, key=meta.key.rpartition("/")[2])
            if not head:
                continue
            body = store.head(body_key(head.body)) if head.body else None
            batch.append((meta.key, head, meta.modified, body.disk if body else 0))
            read += 1
            if len(batch) >= WRITTEN:
                self._record(batch)
                batch = []
        if batch:
            self._record(batch)
        self.forget(unseen)

        def finish(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('complete', '1')")
            db.execute(FORGET_STAMPS)

        self._write(finish)
        return read

    def close(self) -> None:
        """Write what is pending and close; the next use opens it again."""
        if self._opened is not None:
            self._opened.close()


def _body_of_key(key: str) -> bytes:
    """The sha256 in a body's key."""
    return bytes.fromhex("".join(key.split("/")[2:]))


def _forget(rows: list[tuple[str]], db: sqlite3.Connection) -> None:
    db.executemany(DELETE_HEAD, rows)


def _source(db: sqlite3.Connection, text: str) -> int:
    """The number of a source, which 3,000 links of one page share; 0 for none."""
    if not text:
        return 0
    db.execute("INSERT OR IGNORE INTO sources (text) VALUES (?)", (text,))
    return int(db.execute("SELECT id FROM sources WHERE text = ?", (text,)).fetchone()[0])
