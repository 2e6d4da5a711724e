"""The catalogue in SQLite.

What the store's heads say, where it can be asked in microseconds, and what pages have taught.

All of it can be lost. So no failure of the database reaches a caller: a damaged file is set aside
and an empty one begun (:attr:`SqliteCatalogue.needs_rebuild`), a disk that refuses gives a
catalogue in memory (:attr:`SqliteCatalogue.degraded`), a write that meets another's lock is made up
for by the next one.

Heads are kept whole in a table of their own, as JSON: ``rows`` need not open 100,000 files (and the
store's ``get`` is asynchronous), and ``listing`` never reads them. Not compressed: that took 50
microseconds a head, half of ``record``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from entrepot.digests import Digest
from entrepot.errors import InvalidHead, StoreError
from entrepot.ownership import is_head_key
from entrepot.ports.catalogue import Link, Noted, Row
from entrepot.ports.store import Blob, ObjectMeta
from entrepot.store.database import Database, Mode
from entrepot.store.layout import host_name, is_network
from entrepot.store.schema import (
    ADD_COUNTER,
    BODIES_BY_KIND,
    DELETE_HEAD,
    FORGET_STAMPS,
    HEADS_BY_KIND,
    INSERT_HEAD,
    INSERT_JSON,
    INSERT_LINK,
    LINKS,
    LISTING,
    NOTE_STAMP,
    OLDEST_ALONE,
    OLDEST_BODIES,
    ROWS,
    STAMP,
    SUMS,
    Listed,
    head_row,
    link_row,
    unpack_link,
    url_key,
)
from entrepot.stored import Head, body_key

if TYPE_CHECKING:
    import sqlite3

BATCH = 2_000
"""Rows read at a time: others get their turn in between."""
WRITTEN = 500
"""Rows written in one transaction, some 50 ms: who has to write a single one meanwhile waits no
longer."""
_COUNT_CALLS = 64


class HeadSource(Protocol):
    """What a rebuild needs of a store: both methods without an event loop."""

    def list(self, prefix: str) -> Iterator[ObjectMeta]:
        """Every object below whole segments."""
        ...

    def open(self, key: str) -> Blob | None:
        """An object, open for reading."""
        ...


def open_catalogue(root: Path) -> SqliteCatalogue:
    """The catalogue of the store at ``root``.

    One file a host where the disk is a network's (WAL does not work there).
    """
    if not is_network(str(root)):
        return SqliteCatalogue(root / "catalogue.sqlite")
    return SqliteCatalogue(root / f"catalogue-{host_name()}.sqlite", wal=False)


class SqliteCatalogue:
    """See :class:`entrepot.ports.catalogue.Catalogue`.

    Safe for several threads and processes; opened at its first use.

    Args:
        path: the database; ``None``: in memory.
        wal: whether to use a write-ahead log, where it works.
        busy_s: seconds to wait for another process's transaction.
    """

    def __init__(self, path: Path | None, *, wal: bool = True, busy_s: float = 1.0) -> None:
        self.path = path
        self._database = Database(path, wal=wal, busy_s=busy_s)
        self._read, self._write = self._database.read, self._database.write
        self._lock = self._database.lock
        self._counts: dict[str, int] = {}
        self._count_calls = 0
        self._hosts: set[str] = set()

    # -- what it is --------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """How it is kept: a write-ahead log, a rollback journal, for reading alone, or in memory."""
        return self._database.mode

    @property
    def degraded(self) -> bool:
        """Whether the disk refused: what is recorded now is forgotten with the process."""
        return self.path is not None and self.mode in {"memory", "read-only"}

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
        """A head was stored or refreshed."""
        self._record([(key, head, used, disk)])

    def _record(self, heads: list[tuple[str, Head, float, int]]) -> None:
        rows = [head_row(*each) for each in heads]
        texts = [(key, head.to_bytes()) for key, head, _, _ in heads]

        def work(db: sqlite3.Connection) -> None:
            db.executemany(DELETE_HEAD, [(key,) for key, *_ in rows])
            db.executemany(INSERT_HEAD, rows)
            db.executemany(INSERT_JSON, texts)

        self._write(work)

    def forget(self, keys: Iterable[str]) -> None:
        """Heads are gone."""
        rest = iter(keys)
        while rows := [(key,) for key in islice(rest, WRITTEN)]:
            self._write(partial(_forget, rows))

    def note_used(self, uses: Iterable[tuple[str, float]]) -> None:
        """Later last uses of heads, as their files' times say."""
        rows = [(used, key) for key, used in uses]
        if rows:
            self._write(lambda db: db.executemany("UPDATE heads SET used = ? WHERE key = ?", rows))

    def rows(self) -> Iterator[Row]:
        """Every head known, whole; those that cannot be read back are left out."""
        for key, used, disk, json in self._pages(ROWS):
            with suppress(InvalidHead):
                yield Row(key, Head.from_bytes(json, key=key.rpartition("/")[2]), used, disk)

    def listing(self) -> Iterator[Listed]:
        """Every head known, light, by key: what ``list``, ``status`` and eviction need."""
        return map(Listed._make, self._pages(LISTING))

    def tallies(self) -> Mapping[str, tuple[str, tuple[int, int, int, int, float]]]:
        """Kind -> a key of it, and heads, distinct bodies, their bytes of content and of disk, last use: for sums at once.

        A body that heads of several kinds name counts under that of its first key.
        """
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
        """Keys of the heads that name this body."""
        if body.algorithm != "sha256":
            return []
        return [
            key
            for (key,) in self._ask(
                "SELECT key FROM heads WHERE body = ?", bytes.fromhex(body.value)
            )
        ]

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
        """Remember links; one transaction, 3,000 of them in some 25 ms."""
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
        """What is known of a canonical URL, whoever said it: what no page said first."""
        return next((each.link for each in self.links(url)), None)

    def links(self, url: str) -> list[Noted]:
        """What every page said of a canonical URL."""
        rows = self._ask(LINKS, url_key(url))
        return [Noted(unpack_link(url, row), page or "", state or "") for page, state, *row in rows]

    def learn_host(self, authority: str) -> None:
        """Remember a ``HOST:PORT``."""
        if authority not in self._hosts:
            self._hosts.add(authority)
            self._write(
                lambda db: db.execute("INSERT OR IGNORE INTO hosts VALUES (?)", (authority,))
            )

    def hosts(self) -> frozenset[str]:
        """Every remembered ``HOST:PORT``."""
        return frozenset(
            self._hosts.union(host for (host,) in self._ask("SELECT authority FROM hosts"))
        )

    # -- counters ----------------------------------------------------------------------------------

    def count(self, **amounts: int) -> None:
        """Add to the counters; written now and then, and at the end."""
        with self._lock:
            for name, amount in amounts.items():
                self._counts[name] = self._counts.get(name, 0) + amount
            self._count_calls += 1
            if self._count_calls >= _COUNT_CALLS:
                self._write_counts()

    def counters(self) -> Mapping[str, int]:
        """The counters since the store was made."""
        with self._lock:
            found = dict(self._ask("SELECT name, value FROM counters"))
            for name, amount in self._counts.items():
                found[name] = found.get(name, 0) + amount
            return found

    def _write_counts(self) -> None:
        counts, self._counts, self._count_calls = list(self._counts.items()), {}, 0
        if counts:
            self._write(lambda db: db.executemany(ADD_COUNTER, counts))

    # -- rebuilding --------------------------------------------------------------------------------

    def rebuild(
        self,
        store: HeadSource,
        *,
        full: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Make it say what the store's heads say; the number of heads read.

        Slow: for a thread, or before the loop.

        Only heads that are not known are read (``full``: all), and only names of the others.
        Unreadable heads are left out.

        Args:
            store: a :class:`DirectoryStore` or ``MemoryStore``.
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
        """Write what is pending and close; may be called twice, and used again afterwards."""
        with self._lock:
            self._write_counts()
            self._database.close()
            self._hosts.clear()


def _body_of_key(key: str) -> bytes:
    """The sha256 in a body's key."""
    return bytes.fromhex("".join(key.split("/")[2:]))


def _forget(rows: list[tuple[str]], db: sqlite3.Connection) -> None:
    db.executemany(DELETE_HEAD, rows)
    db.executemany("DELETE FROM head_json WHERE key = ?", rows)


def _source(db: sqlite3.Connection, text: str) -> int:
    """The number of a source, which 3,000 links of one page share; 0 for none."""
    if not text:
        return 0
    db.execute("INSERT OR IGNORE INTO sources (text) VALUES (?)", (text,))
    return int(db.execute("SELECT id FROM sources WHERE text = ?", (text,)).fetchone()[0])


def _disk_of(store: HeadSource, head: Head) -> int:
    """Bytes of disk of a head's body."""
    return sum(each.disk for each in store.list(body_key(head.body))) if head.body else 0


def _read_head(store: HeadSource, key: str) -> Head | None:
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
