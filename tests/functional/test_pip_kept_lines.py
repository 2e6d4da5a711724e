"""The listing of a large pip cache is kept; whatever happens to the cache, the next one tells."""

from __future__ import annotations

import os
import sqlite3
import time

import pytest

from entrepot.caches import listing
from entrepot.caches.listing import Lines, kept_lines, lines_of
from entrepot.ports.tool import Surroundings
from entrepot.tools.pip.httpentry import encode, entry_name, entry_path
from entrepot.tools.pip.tool import tool
from pip_lab import wheel_bytes

LONG_AGO = time.time() - 90_000


def add(root, number: int) -> None:
    filename, data = wheel_bytes(f"proj{number}", "1.0")
    path = entry_path(root, "http-v2", entry_name(f"https://index.test/{filename}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    response = {
        "body": b"",
        "headers": {},
        "status": 200,
        "version": 11,
        "reason": "OK",
        "decode_content": False,
    }
    for target, content in (
        (path.with_name(path.name + ".body"), data),
        (path, encode({"response": response, "vary": {}})),
    ):
        target.with_suffix(".tmp").write_bytes(content)
        target.with_suffix(".tmp").rename(target)


def replaced(root) -> None:
    """As pip writes after a 304: a new file under the old name."""
    path = entry_path(root, "http-v2", entry_name("https://index.test/proj3-1.0-py3-none-any.whl"))
    path.with_suffix(".tmp").write_bytes(path.read_bytes() + b" " * 9000)
    path.with_suffix(".tmp").rename(path)


def removed(root) -> None:
    for suffix in ("", ".body"):
        entry_path(
            root, "http-v2", entry_name("https://index.test/proj3-1.0-py3-none-any.whl") + suffix
        ).unlink()


def self_check(root) -> None:
    (root / "selfcheck").mkdir()
    (root / "selfcheck" / "x").write_text("{}")


CHANGES = {
    "a new entry": lambda root: add(root, 99),
    "a refreshed entry": replaced,
    "a removed entry": removed,
    "a new self-check": self_check,
    "a foreign file": lambda root: (root / "mine").write_text("?"),
    "a foreign file among the shards": lambda root: (root / "http-v2" / "mine").write_text("?"),
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "MANY", 1)
    root = tmp_path / "cache"
    for number in range(12):
        add(root, number)
    for folder, _, _ in os.walk(root):
        os.utime(folder, (LONG_AGO, LONG_AGO))
    return root


def look(cache, tmp_path):
    """What ``list`` does in a process of its own.

    The kept lines, and whether they had to be made.
    """
    around = Surroundings(
        {"HOME": str(tmp_path), "PIP_CACHE_DIR": str(cache), "PATH": ""},
        tmp_path,
        tmp_path,
        "linux",
        os.geteuid(),
    )
    pip = tool(tmp_path / "state", now=lambda: time.time())  # noqa: PLW0108  (replaced in one test)
    made: list[object] = []
    keep, pip.keep_lines = pip.keep_lines, lambda *args: made.append(keep(*args))
    lines = kept_lines(pip, pip.places(around)[0], around, now=time.time())
    assert isinstance(lines, Lines)
    fresh = lines_of(tool(tmp_path / "other").scan(pip.places(around)[0], around))
    return lines, fresh, bool(made)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen_by_the_next_listing(cache, tmp_path, change):
    assert look(cache, tmp_path)[2]
    before, _, made = look(cache, tmp_path)
    assert not made, "kept lines serve as long as nothing changes"
    change(cache)
    after, fresh, made = look(cache, tmp_path)
    assert made
    assert (list(after.keys), list(after.disk)) == (list(fresh.keys), list(fresh.disk))
    assert (list(after.keys), list(after.disk)) != (list(before.keys), list(before.disk))


def test_damaged_lines_are_made_again(cache, tmp_path):
    first = look(cache, tmp_path)[0]
    with sqlite3.connect(tmp_path / "state" / "pip.sqlite") as db:
        db.execute("UPDATE lines SET data = substr(data, 1, 40)")
    db.close()
    again, _, made = look(cache, tmp_path)
    assert made
    assert list(again.keys) == list(first.keys)


def test_lines_with_something_pinned_hold_for_ten_minutes(cache, tmp_path, monkeypatch):
    (cache / "http-v2" / "mine").write_text("?")
    look(cache, tmp_path)
    assert not look(cache, tmp_path)[2]
    later = time.time() + 700
    monkeypatch.setattr(time, "time", lambda: later)
    assert look(cache, tmp_path)[2]
