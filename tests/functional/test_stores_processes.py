"""Stores that several processes use, and that lose one of them at a bad moment."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entrepot.digests import Digest
from entrepot.httpcache.messages import ResponseHead, StoredResponse
from entrepot.store import layout
from entrepot.store.catalogue import SqliteCatalogue
from entrepot.store.directory import DirectoryStore
from entrepot.stored import Head, body_key, cache_key
from entrepot.testing.store_suite import body, content

SRC = str(Path(layout.__file__).parents[2])
HEAD = """
import hashlib, os, sys, time
from pathlib import Path
from entrepot.digests import Digest
from entrepot.store.directory import DirectoryStore
def body(data):
    value = hashlib.sha256(data).hexdigest()
    return f"bodies/sha256/{value[:2]}/{value[2:]}"
store = DirectoryStore(Path(sys.argv[1]), cap=10**9)
"""


@pytest.fixture
def store(tmp_path):
    store = DirectoryStore(tmp_path / "store", cap=10**9)
    yield store
    store.close()


@pytest.fixture
def spawn(store):
    children = []

    def start(code, *args):
        child = subprocess.Popen(
            [sys.executable, "-c", HEAD + code, store.root, *args],
            env={"PYTHONPATH": SRC},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


LEADER = """
flight = store.open_partial("f")
print(flight.try_lock(), flush=True)
flight.set_state(b"note")
while True:
    flight.write(b"0123456789" * 100)
    time.sleep(0.001)
"""


def test_two_processes_never_lead_one_flight(store, spawn):
    leader = spawn(LEADER)
    assert leader.stdout.readline() == "True\n"
    follower = store.open_partial("f")
    for _ in range(20):
        assert not follower.try_lock()
        time.sleep(0.005)
    assert follower.size() > 0
    assert follower.is_current()
    follower.close()


def test_a_killed_leaders_download_is_resumed(store, spawn):
    leader = spawn(LEADER)
    leader.stdout.readline()
    follower = store.open_partial("f")
    while follower.size() < 20_000:
        time.sleep(0.005)
    read = follower.read(0, 20_000)
    leader.send_signal(signal.SIGKILL)
    leader.wait()
    assert follower.try_lock(), "the system has given the lead back"
    assert follower.state() == b"note"
    size = follower.size()
    assert follower.read(0, 20_000) == read
    whole = (b"0123456789" * (size // 10 + 1))[:size] + b"the end"
    follower.write(b"the end")
    follower.commit(body(whole))
    follower.close()
    assert content(store, body(whole)) == whole


def test_a_reader_in_another_process_keeps_what_was_evicted(store, spawn):
    data = b"x" * 300_000
    store.put(body(data), data)
    reader = spawn(
        "blob = store.open(sys.argv[2]); print(blob.size, flush=True); sys.stdin.readline()\n"
        "print(hashlib.sha256(blob.read(0, blob.size)).hexdigest(), flush=True)",
        body(data),
    )
    assert reader.stdout.readline() == "300000\n"
    store.delete(body(data))
    reader.stdin.write("\n")
    reader.stdin.flush()
    assert reader.stdout.readline().strip() == body(data).removeprefix("bodies/sha256/").replace(
        "/", ""
    )


def test_a_body_that_another_process_reads_is_not_evicted(store, spawn):
    data = b"x" * 300_000
    store.put(body(data), data)
    catalogue = SqliteCatalogue(None)
    digest = Digest("sha256", body(data).removeprefix("bodies/sha256/").replace("/", ""))
    head = Head(
        "https://files.test/x",
        "GET",
        StoredResponse(ResponseHead(200), (), 1, 1, len(data), key="0"),
        digest,
    )
    key = f"{cache_key('https://files.test/x')}/0"
    store.put(key, head.to_bytes())
    os.utime(store.root / key, (1, 1))
    catalogue.record(key, head, used=1, disk=303_104)
    reader = spawn(
        "blob = store.open(sys.argv[2]); print(blob.size, flush=True); sys.stdin.readline()",
        body(data),
    )
    reader.stdout.readline()
    small = DirectoryStore(store.root, cap=1)
    assert small.evict(catalogue).kept == 1
    reader.send_signal(signal.SIGKILL)
    reader.wait()
    assert small.evict(catalogue).bodies == 1


def test_a_store_that_many_make_at_once_is_one_store(tmp_path):
    code = "import sys; sys.stdin.read()" + HEAD + "store.put(sys.argv[2], b'x'); store.close()"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "new", f"heads/ab/{i}/0"],
            env={"PYTHONPATH": SRC},
            stdin=subprocess.PIPE,
        )
        for i in range(6)
    ]
    for child in children:
        child.stdin.close()
    assert [child.wait() for child in children] == [0] * 6
    assert len(list(DirectoryStore(tmp_path / "new").list("heads"))) == 6
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "CACHEDIR.TAG",
        "boot",
        "entrepot-store",
        "flights",
        "heads",
        "locks",
    ]


WRITER = """
import random
r = random.Random(int(sys.argv[2]))
print("go", flush=True)
for i in range(10**6):
    data = r.randbytes(r.randrange(1, 200_000))
    flight = store.open_partial(f"{i:040d}")
    if flight.try_lock():
        flight.restart()  # what a dead one left was other data
        flight.set_state(b"note")
        for at in range(0, len(data), 20_000):
            flight.write(data[at : at + 20_000])
        head = b'{"format":1,"body":"sha256:%s"}' % hashlib.sha256(data).hexdigest().encode()
        with store.hold(body(data)):
            flight.commit(body(data))
            store.put(f"heads/ab/{sys.argv[2]:0>22}{i:040}/0", head)
    flight.close()
    if i == 0:
        print("one", flush=True)
"""


def test_whatever_moment_a_writer_is_killed_at_no_wrong_byte_is_left(store, spawn):
    """A short form: twelve instants.

    Every body has its digest, and one sweep leaves nothing but whole entries.
    """
    instants = random.Random(1)
    for seed in range(12):
        writer = spawn(WRITER, str(seed))
        writer.stdout.readline()
        writer.stdout.readline()  # the first entry is there
        time.sleep(instants.uniform(0, 0.1))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    for each in store.list("bodies"):
        assert body(content(store, each.key)) == each.key
    store.sweep(time.time() + 8 * 86400)
    assert list((store.root / "flights").iterdir()) == []
    named = {
        body_key(Digest.parse(json.loads(content(store, h.key))["body"]))
        for h in store.list("heads")
    }
    assert len(named) >= 12
    assert {b.key for b in store.list("bodies")} == named
