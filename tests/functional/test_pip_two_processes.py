"""A cache large enough for a second process is read as by one."""

from __future__ import annotations

import _thread
import os
import threading
import time

from entrepot.ports.tool import Surroundings
from entrepot.tools.pip import cache, pair
from entrepot.tools.pip.httpentry import encode, entry_name, entry_path
from entrepot.tools.pip.tool import tool
from pip_lab import wheel_bytes


def add(root, project: str) -> None:
    filename, data = wheel_bytes(project, "1.0")
    path = entry_path(root, "http-v2", entry_name(f"https://index.test/{filename}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {"Date": "Mon, 01 Jun 2026 00:00:00 GMT", "ETag": '"x"'}
    response = {
        "body": b"",
        "headers": fields,
        "status": 200,
        "version": 11,
        "reason": "OK",
        "decode_content": False,
    }
    path.write_bytes(encode({"response": response, "vary": {}}))
    path.with_name(path.name + ".body").write_bytes(data)


def a_tool(tmp_path, root, state="state", now=time.time):
    """A pip, its place and its world."""
    world = Surroundings(
        {"HOME": str(tmp_path), "PIP_CACHE_DIR": str(root), "PATH": ""},
        tmp_path,
        tmp_path,
        "linux",
        os.geteuid(),
    )
    pip = tool(tmp_path / state, now=now)
    return pip, pip.places(world)[0], world


def in_two_processes(monkeypatch):
    monkeypatch.setattr(cache, "SHARDS", 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    # A worker of the test run reads its orders in a thread of its own, which Python does not count.
    monkeypatch.setattr(pair, "_threads", threading.active_count)


def test_two_processes_read_what_one_reads(tmp_path, monkeypatch):
    root, now = tmp_path / "cache", time.time()
    for number in range(30):
        add(root, f"proj{number}")
    alone, place, world = a_tool(tmp_path, root, "a", lambda: now)
    first = list(alone.scan(place, world))
    in_two_processes(monkeypatch)
    both, place, world = a_tool(tmp_path, root, "b", lambda: now)
    assert list(both.scan(place, world)) == first
    assert {e.filename for e in first} == {f"proj{n}-1.0-py3-none-any.whl" for n in range(30)}


def test_names_that_are_no_text_and_times_that_are_no_dates_are_remembered_too(tmp_path):
    root = tmp_path / os.fsdecode(b"c\xff")
    add(root, "proj")
    folder = next(path.parent for path in root.rglob("*.body"))
    for name in (b"mine\xff", b"mine\n"):
        (folder / os.fsdecode(name)).write_text("?")
        (root / os.fsdecode(name)).write_text("?")
        (folder / os.fsdecode(b"in" + name)).mkdir()
    far = 13_569_465_600 * 10**9  # no number of eight bytes has as many nanoseconds
    os.utime(folder / os.fsdecode(b"inmine\xff"), ns=(far, far))
    pip, place, world = a_tool(tmp_path, root, now=lambda: time.time() + 5)
    first = {entry.key for entry in pip.scan(place, world)}
    assert len(first) == 5
    assert pip.tally.read == 1
    again, place, world = a_tool(tmp_path, root, now=lambda: time.time() + 5)
    assert {entry.key for entry in again.scan(place, world)} == first
    assert again.tally.read == 0
    os.utime(
        folder / os.fsdecode(b"inmine\xff"), (0, 0)
    )  # what is of the future is looked at each time
    assert again.lines(place, world) is None
    again.keep_lines(place, world, time.time() + 60, b"kept")
    third, place, world = a_tool(tmp_path, root, now=lambda: time.time() + 5)
    assert third.lines(place, world) == b"kept"


def test_work_on_the_entries_is_shared_with_a_second_process_and_done_again_when_that_one_dies(
    tmp_path, monkeypatch
):
    root = tmp_path / "cache"
    for number in range(20):
        add(root, f"proj{number}")
    pip, place, world = a_tool(tmp_path, root)
    here = os.getpid()

    def names(entries):
        return os.getpid() != here, sorted(entry.filename for entry in entries)

    def dies(entries):
        if os.getpid() != here:
            os._exit(9)
        return names(entries)

    ((elsewhere, whole),) = pip.scan_in_parts(place, world, names)
    assert not elsewhere
    in_two_processes(monkeypatch)
    (one, first), (two, second) = pip.scan_in_parts(place, world, names)
    assert (one, two, sorted(first + second)) == (True, False, whole)
    assert first
    assert second
    assert pip.scan_in_parts(place, world, dies) == [(False, whole)]


def test_a_process_with_a_thread_that_python_does_not_count_is_not_copied(monkeypatch):
    """A lock that such a thread holds at that moment would be held for ever in the copy."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    begun, end = threading.Event(), threading.Event()
    _thread.start_new_thread(lambda: (begun.set(), end.wait()), ())
    begun.wait()
    assert not pair.can_copy()
    end.set()
