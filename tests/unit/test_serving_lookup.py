"""Entries over a store: what of it is done in threads, and what a cancelled task leaves behind."""

from __future__ import annotations

import asyncio
import os
import time
from types import SimpleNamespace

import pytest

from entrepot.digests import sha256_of
from entrepot.ports.clock import SystemClock
from entrepot.serving.lookup import Entries
from entrepot.store.catalogue import SqliteCatalogue
from entrepot.store.directory import DirectoryStore
from entrepot.stored import body_key
from entrepot.testing.store_suite import content
from service_world import run
from unit.storing import head_of

URL = "https://files.test/a"
SLOW_S = 0.3


@pytest.fixture
def store(tmp_path):
    return DirectoryStore(tmp_path / "store", cap=10**9)


@pytest.fixture
def catalogue():
    return SqliteCatalogue(None)


@pytest.fixture
def entries(store, catalogue):
    return Entries(store, catalogue, SystemClock())


def partial_file(store, data):
    file = store.open_partial("f")
    assert file.try_lock()
    file.write(data)
    return file


def ticks_during(work) -> int:
    """How often the loop came round, a hundredth of a second each time, while this was done."""

    async def scene():
        task = asyncio.ensure_future(work())
        ticks = 0
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        await task
        return ticks

    return run(scene())


def slow(monkeypatch, where, name):
    real = getattr(where, name)

    def late(*args, **more):
        time.sleep(SLOW_S)
        return real(*args, **more)

    monkeypatch.setattr(where, name, late)


def test_a_sync_does_not_hold_up_the_event_loop(entries, store, monkeypatch):
    file = partial_file(store, b"y")
    slow(monkeypatch, os, "fsync")
    assert ticks_during(lambda: entries.keep(URL, head_of(URL, b"y"), file)) > 10
    assert ticks_during(lambda: entries.keep(URL, head_of(URL, b"x"), b"x")) > 10


def test_the_first_download_of_a_process_does_not_hold_up_the_event_loop(entries, monkeypatch):
    slow(monkeypatch, os, "fsync")
    assert ticks_during(lambda: entries.open_partial("g")) > 10


def test_a_hold_that_has_to_wait_does_not_hold_up_the_event_loop(entries, store):
    other = DirectoryStore(store.root)

    async def both():
        with other.hold(body_key(sha256_of(b"x")), exclusive=True):
            task = asyncio.ensure_future(entries.keep(URL, head_of(URL, b"x"), b"x"))
            await asyncio.sleep(SLOW_S)
        await task

    assert ticks_during(both) > 10
    assert content(store, body_key(sha256_of(b"x"))) == b"x"


@pytest.mark.parametrize("name", ["record", "forget"])
def test_a_catalogue_that_has_to_wait_does_not_hold_up_the_event_loop(
    entries, catalogue, monkeypatch, name
):
    slow(monkeypatch, catalogue, name)
    head = head_of(URL, None)
    work = {"record": lambda: entries.save(URL, head), "forget": lambda: entries.drop("heads/a/0")}
    assert ticks_during(work[name]) > 10


def test_a_body_in_doubt_is_hashed_without_holding_up_the_event_loop(entries, store, monkeypatch):
    key = body_key(sha256_of(b"x"))
    store.put(key, b"x")
    (store.root / key).touch()
    slow(monkeypatch, store, "get")
    assert ticks_during(lambda: entries.open_body(head_of(URL, b"x"))) > 10


def test_another_caches_file_is_taken_over_without_holding_up_the_event_loop(
    entries, store, tmp_path
):
    (tmp_path / "theirs").write_bytes(b"x")
    donation = SimpleNamespace(path=tmp_path / "theirs", offset=0, size=1, is_whole_file=False)

    def check(read, size):
        time.sleep(SLOW_S)
        return body_key(sha256_of(read(0, size)))

    assert ticks_during(lambda: entries.adopt(donation, check)) > 10


def test_a_commit_that_is_cancelled_is_finished_before_its_files_are_closed(
    entries, store, monkeypatch
):
    slow(monkeypatch, os, "fsync")
    file = partial_file(store, b"data")

    async def scene():
        task = asyncio.ensure_future(entries.keep(URL, head_of(URL, b"data"), file))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        file.close()

    run(scene())
    assert content(store, body_key(sha256_of(b"data"))) == b"data"
