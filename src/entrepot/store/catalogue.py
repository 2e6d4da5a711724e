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
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from entrepot.digests import LENGTHS, Digest
from entrepot.errors import InvalidHead, StoreError
from entrepot.ports.catalogue import Link, Listed, Noted
from entrepot.ports.store import Store
from entrepot.store.database import Database, Schema
from entrepot.store.layout import catalogue_path
from entrepot.stored import Head, body_key, is_head_key

if TYPE_CHECKING:
    import sqlite3

BATCH = 2_000
"""Rows read at a time: others get their turn in between."""
WRITTEN = 500
"""Rows written in one transaction, some 50 ms: who has to write a single one meanwhile waits no
longer."""
_COUNT_CALLS = 64

# -- tables ----------------------------------------------------------------------------------------

STAMPS = "CREATE TABLE IF NOT EXISTS stamps (body BLOB PRIMARY KEY, stamp TEXT) WITHOUT ROWID"
"""What a body's file was like when its bytes were known to be right. New in schema 3."""
LINKS_TABLE = """CREATE TABLE links (
    url BLOB, page INTEGER, state INTEGER, digests BLOB, size INTEGER, project TEXT, version TEXT,
    filename TEXT, kind TEXT, upload_time TEXT, source INTEGER, PRIMARY KEY (url, page)
) WITHOUT ROWID"""
"""A row for each page that named a file, found by 16 bytes of the URL's hash: a URL is not kept.
New in schema 3."""
NOTES = "CREATE TABLE IF NOT EXISTS notes (name BLOB PRIMARY KEY, text INTEGER) WITHOUT ROWID"
"""Hashes of names, and where in ``sources`` their texts are, which many share. New in schema 4."""
TABLES = (
    # what `list` and `status` show: 100,000 rows are read without opening as many files
    """CREATE TABLE heads (
        key TEXT PRIMARY KEY, url TEXT, kind TEXT, project TEXT, version TEXT, filename TEXT,
        size INTEGER, disk INTEGER, body BLOB, used REAL, response_time REAL, status INTEGER,
        proven INTEGER, credentialed INTEGER, shared INTEGER, upload_time TEXT
    ) WITHOUT ROWID""",
    "CREATE INDEX heads_body ON heads (body, disk, kind)",
    "CREATE INDEX heads_alone ON heads (used, key) WHERE body IS NULL",
    # Sums that are kept up by the triggers below: the cap is looked after while downloads land, and
    # must not count a million heads each time. `used` is the newest of a body's heads, `kind` the
    # first by name.
    """CREATE TABLE bodies (
        body BLOB PRIMARY KEY, disk INTEGER, heads INTEGER, used REAL, kind TEXT
    ) WITHOUT ROWID""",
    "CREATE INDEX bodies_used ON bodies (used, body)",
    "CREATE TABLE sums (kind TEXT PRIMARY KEY, heads INTEGER, disk INTEGER) WITHOUT ROWID",
    LINKS_TABLE,
    "CREATE TABLE sources (id INTEGER PRIMARY KEY, text TEXT UNIQUE)",
    "CREATE TABLE hosts (authority TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    STAMPS,
    NOTES,
)
TRIGGERS = (
    """CREATE TRIGGER heads_insert AFTER INSERT ON heads BEGIN
        INSERT INTO sums VALUES (NEW.kind, 1, 0) ON CONFLICT (kind) DO UPDATE SET heads = heads + 1;
        INSERT INTO bodies SELECT NEW.body, NEW.disk, 1, NEW.used, NEW.kind WHERE NEW.body NOT NULL
            ON CONFLICT (body) DO UPDATE SET disk = max(disk, excluded.disk), heads = heads + 1,
            used = max(used, excluded.used), kind = min(kind, excluded.kind);
    END""",
    # What remains of a body's heads is looked at again, unless there are so many that it would take
    # long: then its use and kind stay what they were, which errs on the side of keeping it.
    """CREATE TRIGGER heads_delete AFTER DELETE ON heads BEGIN
        UPDATE sums SET heads = heads - 1 WHERE kind = OLD.kind;
        UPDATE bodies SET heads = heads - 1 WHERE body = OLD.body;
        DELETE FROM bodies WHERE body = OLD.body AND heads = 0;
        UPDATE bodies SET (disk, used, kind) =
            (SELECT max(disk), max(used), min(kind) FROM heads WHERE body = OLD.body)
            WHERE body = OLD.body AND heads < 50;
    END""",
    """CREATE TRIGGER heads_used AFTER UPDATE OF used ON heads BEGIN
        UPDATE bodies SET used = max(used, NEW.used) WHERE body = NEW.body;
    END""",
    """CREATE TRIGGER bodies_insert AFTER INSERT ON bodies BEGIN
        INSERT INTO sums VALUES (NEW.kind, 0, NEW.disk)
            ON CONFLICT (kind) DO UPDATE SET disk = disk + excluded.disk;
    END""",
    """CREATE TRIGGER bodies_delete AFTER DELETE ON bodies BEGIN
        UPDATE sums SET disk = disk - OLD.disk WHERE kind = OLD.kind;
    END""",
    """CREATE TRIGGER bodies_update AFTER UPDATE OF disk, kind ON bodies
        WHEN NEW.disk <> OLD.disk OR NEW.kind <> OLD.kind BEGIN
        UPDATE sums SET disk = disk - OLD.disk WHERE kind = OLD.kind;
        INSERT INTO sums VALUES (NEW.kind, 0, NEW.disk)
            ON CONFLICT (kind) DO UPDATE SET disk = disk + excluded.disk;
    END""",
)
LISTING = (
    "SELECT key, url, kind, project, version, filename, size, disk, "
    "CASE WHEN body NOT NULL THEN 'sha256:' || lower(hex(body)) END, "
    "used, response_time, status, proven, credentialed, shared, upload_time "
    "FROM heads WHERE key > ? ORDER BY key LIMIT ?"
)
HEADS_BY_KIND = "SELECT kind, count(*), max(used), min(key) FROM heads GROUP BY kind"
BODIES_BY_KIND = (
    "SELECT kind, count(*), sum(size), sum(disk) FROM "
    "(SELECT kind, size, disk, min(key) FROM heads WHERE body NOT NULL GROUP BY body) GROUP BY kind"
)
"""With ``min``, SQLite takes the other columns from the same row: a body counts under the kind of
its first key."""
SUMS = "SELECT kind, heads, disk FROM sums WHERE heads > 0 OR disk > 0"
OLDEST_BODIES = (
    "SELECT used, body, disk FROM bodies WHERE (used, body) > (?, ?) ORDER BY used, body LIMIT ?"
)
OLDEST_ALONE = (
    "SELECT used, key FROM heads WHERE body IS NULL AND (used, key) > (?, ?) "
    "ORDER BY used, key LIMIT ?"
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
FORGET_STAMPS = "DELETE FROM stamps WHERE body NOT IN (SELECT body FROM bodies)"
DELETE_HEAD = "DELETE FROM heads WHERE key = ?"
INSERT_HEAD = "INSERT INTO heads VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
"""After :data:`DELETE_HEAD`: the triggers do not see what ``INSERT OR REPLACE`` removes."""
INSERT_LINK = "INSERT OR REPLACE INTO links VALUES (?,?,?,?,?,?,?,?,?,?,?)"
OLD_NOTES = "DELETE FROM links WHERE kind IN ('page', 'reading')"
OLD_HEADS = "DROP TABLE IF EXISTS head_json"
SCHEMA = Schema(
    4,
    (*TABLES, *TRIGGERS),
    # Hosts and counters stay. Links do since schema 3: those of schema 2 do not say which page
    # named them. Notes were links of a kind of their own before. Heads were kept whole as well.
    upgrades={
        2: (STAMPS, "DROP TABLE links", LINKS_TABLE, NOTES, OLD_HEADS),
        3: (OLD_NOTES, NOTES, OLD_HEADS),
    },
)
"""A catalogue of another schema is emptied and made again."""

_ALGORITHMS = sorted(LENGTHS)
_SAME = "="
"""Stands for a file name that is the URL's last segment, as it nearly always is; doubled before any
other that begins so."""


def head_row(key: str, head: Head, used: float, disk: int) -> tuple[object, ...]:
    """The columns of one head."""
    r = head.response
    return (
        key,
        head.url,
        head.kind,
        head.project,
        head.version,
        head.filename,
        r.size,
        disk,
        bytes.fromhex(head.body.value) if head.body else None,
        used,
        r.response_time,
        r.head.status,
        int(bool(head.proven)),
        int(head.credentialed),
        int(head.shared),
        head.upload_time,
    )


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
        self._database = Database(path, SCHEMA, busy_s=busy_s)
        self._read, self._write = self._database.read, self._database.write
        self._counting = threading.Lock()
        self._counts: dict[str, int] = {}
        self._count_calls = 0
        self._hosts: set[str] = set()

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
        return self._read(
            lambda db: db.execute("SELECT 1 FROM meta WHERE name = 'complete'").fetchone() is None,
            default=True,
        )

    # -- heads -------------------------------------------------------------------------------------

    def record(self, key: str, head: Head, *, used: float, disk: int) -> None:
        self._record([(key, head, used, disk)])

    def _record(self, heads: list[tuple[str, Head, float, int]]) -> None:
        rows = [head_row(*each) for each in heads]

        def work(db: sqlite3.Connection) -> None:
            db.executemany(DELETE_HEAD, [(key,) for key, *_ in rows])
            db.executemany(INSERT_HEAD, rows)

        self._write(work)

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
        return map(Listed._make, self._pages(LISTING))

    def tallies(self) -> Mapping[str, tuple[str, tuple[int, int, int, int, float]]]:
        bodies = {
            kind: (count, size or 0, disk or 0)
            for kind, count, size, disk in self._ask(BODIES_BY_KIND)
        }
        heads = self._ask(HEADS_BY_KIND)
        return {
            kind: (key, (count, *bodies.get(kind, (0, 0, 0)), used or 0.0))
            for kind, count, used, key in heads
        }

    def _pages(self, query: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, page by page: no transaction stays open while the caller thinks."""
        last = ""
        while True:
            found = self._ask(query, last, BATCH)
            yield from found
            if len(found) < BATCH:
                return
            last = found[-1][0]

    def _ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a query; none when the database fails."""
        none: list[tuple[Any, ...]] = []
        return self._read(lambda db: db.execute(query, values).fetchall(), default=none)

    def sizes(self) -> tuple[int, int]:
        """Number of heads, and bytes of disk of distinct bodies."""
        totals = self.totals().values()
        return sum(heads for heads, _ in totals), sum(disk for _, disk in totals)

    def totals(self) -> Mapping[str, tuple[int, int]]:
        """Kind -> (entries, bytes of disk of distinct bodies).

        A body of several kinds counts under the first by name.
        """
        return {kind: (heads, disk) for kind, heads, disk in self._ask(SUMS)}

    def oldest_bodies(
        self, count: int, after: tuple[float, str | bytes] | None = None
    ) -> list[tuple[float, bytes, int]]:
        """The least recently used bodies: last use, sha256 and bytes of disk of each.

        Args:
            count: how many.
            after: last use and sha256 of the body to go on behind.
        """
        return self._ask(OLDEST_BODIES, *(after or (float("-inf"), b"")), count)

    def oldest_alone(
        self, count: int, after: tuple[float, str | bytes] | None = None
    ) -> list[tuple[float, str]]:
        """The least recently used heads without a body: last use and key."""
        return self._ask(OLDEST_ALONE, *(after or (float("-inf"), "")), count)

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
        if authority not in self._hosts:
            self._hosts.add(authority)
            self._write(
                lambda db: db.execute("INSERT OR IGNORE INTO hosts VALUES (?)", (authority,))
            )

    def hosts(self) -> frozenset[str]:
        return frozenset(
            self._hosts.union(host for (host,) in self._ask("SELECT authority FROM hosts"))
        )

    # -- counters ----------------------------------------------------------------------------------

    def count(self, **amounts: int) -> None:
        with self._counting:
            for name, amount in amounts.items():
                self._counts[name] = self._counts.get(name, 0) + amount
            self._count_calls += 1
            is_due = self._count_calls >= _COUNT_CALLS
        if is_due:
            self._write_counts()

    def counters(self) -> Mapping[str, int]:
        with self._counting:
            found = dict(self._ask("SELECT name, value FROM counters"))
            for name, amount in self._counts.items():
                found[name] = found.get(name, 0) + amount
            return found

    def _write_counts(self) -> None:
        with self._counting:
            counts, self._counts, self._count_calls = list(self._counts.items()), {}, 0
        if counts:
            self._write(lambda db: db.executemany(ADD_COUNTER, counts))

    # -- rebuilding --------------------------------------------------------------------------------

    def rebuild(
        self,
        store: Store,
        *,
        full: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Make it say what the store's heads say; the number of heads read.

        Slow: for a thread, or before the loop.

        Only heads that are not known are read (``full``: all), and only names of the others.
        Unreadable heads are left out.

        Args:
            store: any.
            full: do not believe what is there.
            progress: called with the number of heads looked at, now and then.
        """
        unseen = {key for (key,) in self._ask("SELECT key FROM heads")}
        batch: list[tuple[str, Head, float, int]] = []
        read = 0
        for looked, meta in enumerate(store.list("heads")):
            if progress and looked % 1000 == 0:
                progress(looked)
            if not is_head_key(meta.key):
                continue  # somebody else's file
            if meta.key in unseen:
                unseen.discard(meta.key)
                if not full:
                    continue
            head = _read_head(store, meta.key)
            if head is None:
                continue
            batch.append((meta.key, head, meta.modified, _disk_of(store, head)))
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
        self._write_counts()
        self._database.close()
        self._hosts.clear()


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


def _disk_of(store: Store, head: Head) -> int:
    """Bytes of disk of a head's body."""
    return sum(each.disk for each in store.list(body_key(head.body))) if head.body else 0


def _read_head(store: Store, key: str) -> Head | None:
    """A head from the store; ``None`` when it went meanwhile or cannot be read."""
    try:
        blob = store.open(key)
        if blob is None:
            return None
        try:
            return Head.from_bytes(blob.read(0, blob.size), key=key.rpartition("/")[2])
        finally:
            blob.close()
    except (InvalidHead, StoreError):
        return None
