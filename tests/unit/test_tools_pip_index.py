"""What is remembered of a pip cache: whatever happens to the cache, the next scan tells."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import fields

import pytest

from entrepot.ports.tool import Surroundings
from entrepot.tools.pip.httpentry import encode, entry_name, entry_path
from entrepot.tools.pip.index import Index
from entrepot.tools.pip.record import Record
from entrepot.tools.pip.tool import tool
from pip_lab import wheel_bytes

LONG_AGO = time.time() - 90_000


def entry_at(root, number: int):
    return entry_path(
        root, "http-v2", entry_name(f"https://index.test/proj{number}-1.0-py3-none-any.whl")
    )


def add(root, number: int) -> None:
    path = entry_at(root, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    response = {
        "body": b"",
        "headers": {},
        "status": 200,
        "version": 11,
        "reason": "OK",
        "decode_content": False,
    }
    head = encode({"response": response, "vary": {}})
    body = wheel_bytes(f"proj{number}", "1.0")[1]
    for target, data in ((path.with_name(f"{path.name}.body"), body), (path, head)):
        target.with_suffix(".tmp").write_bytes(data)
        target.with_suffix(".tmp").rename(target)


def refresh(root) -> None:
    """As pip writes after a 304: a new file under the old name."""
    path = entry_at(root, 3)
    path.with_suffix(".tmp").write_bytes(path.read_bytes() + b" " * 9000)
    path.with_suffix(".tmp").rename(path)


def remove(root) -> None:
    path = entry_at(root, 3)
    path.unlink()
    path.with_name(f"{path.name}.body").unlink()


def add_self_check(root) -> None:
    (root / "selfcheck").mkdir()
    (root / "selfcheck" / "x").write_text("{}")


CHANGES = {
    "a new entry": lambda root: add(root, 99),
    "a refreshed entry": refresh,
    "a removed entry": remove,
    "a new self-check": add_self_check,
    "a foreign file": lambda root: (root / "mine").write_text("?"),
    "a foreign file in a layout": lambda root: (root / "http-v2" / "mine").write_text("?"),
}


@pytest.fixture
def cache(tmp_path):
    root = tmp_path / "cache"
    for number in range(12):
        add(root, number)
    for folder, _, _ in os.walk(root):
        os.utime(folder, (LONG_AGO, LONG_AGO))
    return root


def scanned(root, tmp_path, state="state", projects=None):
    """The entries as a new process sees them, and how many were read for it."""
    environ = {"HOME": str(tmp_path), "PIP_CACHE_DIR": str(root), "PATH": ""}
    around = Surroundings(environ, tmp_path, tmp_path, "linux", os.geteuid())
    pip, now = tool(tmp_path / state), time.time()
    pip._now = lambda: now
    place = pip.places(around)[0]
    found = (
        pip.scan(place, around)
        if projects is None
        else pip.scan_named(place, around, frozenset(projects))
    )
    return {e.key: (e.filename, e.size, e.stamp) for e in found}, pip.scan_stats


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen_by_the_next_scan(cache, tmp_path, change):
    before, stats = scanned(cache, tmp_path)
    assert stats.read == 12
    assert scanned(cache, tmp_path)[0] == before
    change(cache)
    after, stats = scanned(cache, tmp_path)
    assert after != before
    assert stats.read <= 1
    assert after == scanned(cache, tmp_path, "other")[0]


def test_directories_that_have_not_changed_are_not_listed_again(cache, tmp_path):
    scanned(cache, tmp_path)
    assert scanned(cache, tmp_path)[1].listed == 1
    add(cache, 99)
    assert 1 < scanned(cache, tmp_path)[1].listed <= 7


def test_a_scan_of_named_projects_gives_theirs_alone(cache, tmp_path):
    found, _ = scanned(cache, tmp_path, projects={"proj3", "proj7"})
    assert {name for name, _, _ in found.values()} == {
        "proj3-1.0-py3-none-any.whl",
        "proj7-1.0-py3-none-any.whl",
    }


def test_names_that_are_no_text_and_times_that_are_no_dates_are_remembered_too(tmp_path):
    root = tmp_path / os.fsdecode(b"c\xff")
    add(root, 1)
    folder = entry_at(root, 1).parent
    for name in (b"mine\xff", b"mine\n"):
        (folder / os.fsdecode(name)).write_text("?")
        (root / os.fsdecode(name)).write_text("?")
        (folder / os.fsdecode(b"in" + name)).mkdir()
    for path, _, _ in os.walk(root):
        os.utime(path, (LONG_AGO, LONG_AGO))
    far = 13_569_465_600 * 10**9  # no number of eight bytes has as many nanoseconds
    os.utime(folder / os.fsdecode(b"inmine\xff"), ns=(far, far))
    first, stats = scanned(root, tmp_path)
    assert (len(first), stats.read) == (5, 1)
    again, stats = scanned(root, tmp_path)
    assert (again, stats.read) == (first, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"no database"),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: sqlite3.connect(path).execute("DROP TABLE entry").connection.close(),
    ],
    ids=["other bytes", "a directory", "a table is gone"],
)
def test_without_a_usable_file_a_cache_is_read_anew(cache, tmp_path, spoil):
    first, _ = scanned(cache, tmp_path)
    spoil(tmp_path / "state" / "pip.sqlite")
    again, stats = scanned(cache, tmp_path)
    assert (again, stats.read) == (first, 12)


def test_a_file_of_an_earlier_version_is_made_anew(cache, tmp_path):
    (tmp_path / "state").mkdir()
    with sqlite3.connect(tmp_path / "state" / "pip.sqlite") as db:
        db.execute("CREATE TABLE shard (place BLOB, name BLOB)")
        db.execute("PRAGMA user_version = 4")
    db.close()
    assert scanned(cache, tmp_path)[1].read == 12
    assert scanned(cache, tmp_path)[1].read == 0


def test_a_row_has_the_columns_of_a_record_in_their_order():
    index = Index(None, "/cache")
    columns = [row[1] for row in index._db.execute("PRAGMA table_info(entry)")]
    index.close()
    assert columns == ["place", *(column.name for column in fields(Record))]
