"""The catalogue's tables and how their rows are packed.

Pure: no file is opened here, no SQL is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from entrepot.digests import LENGTHS, Digest
from entrepot.ports.catalogue import Link
from entrepot.stored import Head

SCHEMA = 3
"""Kept in ``user_version``; a catalogue of another schema is emptied and made again."""

STAMPS = "CREATE TABLE stamps (body BLOB PRIMARY KEY, stamp TEXT) WITHOUT ROWID"
"""What a body's file was like when its bytes were known to be right. New in schema 3."""
LINKS_TABLE = """CREATE TABLE links (
    url BLOB, page INTEGER, state INTEGER, digests BLOB, size INTEGER, project TEXT, version TEXT, filename TEXT, kind TEXT,
    upload_time TEXT, source INTEGER, PRIMARY KEY (url, page)
) WITHOUT ROWID"""
"""A row for each page that named a file, found by 16 bytes of the URL's hash: a URL is not kept.
New in schema 3."""
TABLES = (
    # what `list` and `status` show, apart from the heads themselves: 100,000 rows are read without
    # touching those
    """CREATE TABLE heads (
        key TEXT PRIMARY KEY, url TEXT, kind TEXT, project TEXT, version TEXT, filename TEXT, size INTEGER, disk INTEGER,
        body BLOB, used REAL, response_time REAL, status INTEGER, proven INTEGER, credentialed INTEGER, shared INTEGER,
        upload_time TEXT
    ) WITHOUT ROWID""",
    "CREATE INDEX heads_body ON heads (body, disk, kind)",
    "CREATE INDEX heads_alone ON heads (used, key) WHERE body IS NULL",
    "CREATE TABLE head_json (key TEXT PRIMARY KEY, json BLOB)",
    # Sums that are kept up by the triggers below: the cap is looked after while downloads land, and
    # must not count a million heads each time. `used` is the newest of a body's heads, `kind` the
    # first by name.
    "CREATE TABLE bodies (body BLOB PRIMARY KEY, disk INTEGER, heads INTEGER, used REAL, kind TEXT) WITHOUT ROWID",
    "CREATE INDEX bodies_used ON bodies (used, body)",
    "CREATE TABLE sums (kind TEXT PRIMARY KEY, heads INTEGER, disk INTEGER) WITHOUT ROWID",
    LINKS_TABLE,
    "CREATE TABLE sources (id INTEGER PRIMARY KEY, text TEXT UNIQUE)",
    "CREATE TABLE hosts (authority TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    STAMPS,
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
        UPDATE bodies SET (disk, used, kind) = (SELECT max(disk), max(used), min(kind) FROM heads WHERE body = OLD.body)
            WHERE body = OLD.body AND heads < 50;
    END""",
    """CREATE TRIGGER heads_used AFTER UPDATE OF used ON heads BEGIN
        UPDATE bodies SET used = max(used, NEW.used) WHERE body = NEW.body;
    END""",
    """CREATE TRIGGER bodies_insert AFTER INSERT ON bodies BEGIN
        INSERT INTO sums VALUES (NEW.kind, 0, NEW.disk) ON CONFLICT (kind) DO UPDATE SET disk = disk + excluded.disk;
    END""",
    """CREATE TRIGGER bodies_delete AFTER DELETE ON bodies BEGIN
        UPDATE sums SET disk = disk - OLD.disk WHERE kind = OLD.kind;
    END""",
    """CREATE TRIGGER bodies_update AFTER UPDATE OF disk, kind ON bodies WHEN NEW.disk <> OLD.disk OR NEW.kind <> OLD.kind BEGIN
        UPDATE sums SET disk = disk - OLD.disk WHERE kind = OLD.kind;
        INSERT INTO sums VALUES (NEW.kind, 0, NEW.disk) ON CONFLICT (kind) DO UPDATE SET disk = disk + excluded.disk;
    END""",
)
LISTING = (
    "SELECT key, url, kind, project, version, filename, size, disk, "
    "CASE WHEN body NOT NULL THEN 'sha256:' || lower(hex(body)) END, "
    "used, response_time, status, proven, credentialed, shared, upload_time FROM heads WHERE key > ? ORDER BY key LIMIT ?"
)
ROWS = "SELECT h.key, h.used, h.disk, j.json FROM heads h JOIN head_json j ON j.key = h.key WHERE h.key > ? ORDER BY h.key LIMIT ?"
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
OLDEST_ALONE = "SELECT used, key FROM heads WHERE body IS NULL AND (used, key) > (?, ?) ORDER BY used, key LIMIT ?"
LINKS = (
    "SELECT p.text, t.text, digests, size, project, version, filename, kind, upload_time, s.text FROM links "
    "LEFT JOIN sources s ON s.id = source LEFT JOIN sources p ON p.id = page LEFT JOIN sources t ON t.id = state "
    "WHERE url = ? ORDER BY page"
)
ADD_COUNTER = "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
STAMP = "SELECT stamp FROM stamps WHERE body = ?"
NOTE_STAMP = "INSERT OR REPLACE INTO stamps VALUES (?, ?)"
FORGET_STAMPS = "DELETE FROM stamps WHERE body NOT IN (SELECT body FROM bodies)"
DELETE_HEAD = "DELETE FROM heads WHERE key = ?"
INSERT_HEAD = "INSERT INTO heads VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
"""After :data:`DELETE_HEAD`: the triggers do not see what ``INSERT OR REPLACE`` removes."""
INSERT_JSON = "INSERT OR REPLACE INTO head_json VALUES (?,?)"
INSERT_LINK = "INSERT OR REPLACE INTO links VALUES (?,?,?,?,?,?,?,?,?,?,?)"

_ALGORITHMS = sorted(LENGTHS)
_SAME = "="
"""Stands for a file name that is the URL's last segment, as it nearly always is; doubled before any
other that begins so."""


class Listed(NamedTuple):
    """One head, as light as ``list`` and ``status`` need it; its flags are 0 or 1."""

    key: str
    url: str
    kind: str
    project: str | None
    version: str | None
    filename: str | None
    size: int | None
    disk: int
    """Bytes of disk of the body; heads of one body each have it in full."""
    body: str | None
    """``sha256:...``."""
    used: float
    response_time: float
    status: int
    proven: int
    credentialed: int
    shared: int
    upload_time: str | None


HeadRow = tuple[
    str,
    str,
    str,
    str | None,
    str | None,
    str | None,
    int | None,
    int,
    bytes | None,
    float,
    float,
    int,
    int,
    int,
    int,
    str | None,
]
LinkRow = tuple[
    bytes, int, int, bytes, int | None, str | None, str | None, str | None, str, str | None, int
]


def head_row(key: str, head: Head, used: float, disk: int) -> HeadRow:
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


def link_row(link: Link, source: int, page: int = 0, state: int = 0) -> LinkRow:
    """The columns of one link."""
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
        _pack_filename(link),
        link.kind,
        link.upload_time,
        source,
    )


def unpack_link(url: str, row: Sequence[Any]) -> Link:
    """The link again, from its columns less the key, page and state, and with its source in words."""
    digests, size, project, version, filename, kind, upload_time, source = row
    return Link(
        url=url,
        digests=_unpack_digests(digests),
        size=size,
        project=project,
        version=version,
        filename=_unpack_filename(filename, url),
        kind=kind,
        upload_time=upload_time,
        source=source or "",
    )


def _unpack_digests(raw: bytes) -> tuple[Digest, ...]:
    digests = []
    at = 0
    while at < len(raw):
        algorithm = _ALGORITHMS[raw[at]]
        end = at + 1 + LENGTHS[algorithm] // 2
        digests.append(Digest(algorithm, raw[at + 1 : end].hex()))
        at = end
    return tuple(digests)


def _pack_filename(link: Link) -> str | None:
    if link.filename is not None and link.filename == _last_segment(link.url):
        return _SAME
    return (
        f"{_SAME}{link.filename}"
        if link.filename and link.filename.startswith(_SAME)
        else link.filename
    )


def _unpack_filename(packed: str | None, url: str) -> str | None:
    if packed == _SAME:
        return _last_segment(url)
    return packed.removeprefix(_SAME) if packed else packed


def _last_segment(url: str) -> str:
    last = url.partition("?")[0].rpartition("/")[2]
    return unquote(last) if "%" in last else last
