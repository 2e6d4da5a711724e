"""Many clients at once for one cold file: one upstream transfer, every body right.

The figures are in bench/crowds.py.
"""

from __future__ import annotations

import statistics
import time

import pytest

from clients import wait_until
from crash_world import CrashWorld
from crowd_world import CrowdWorld
from entrepot.digests import sha256_of
from entrepot.store.directory import DirectoryStore
from entrepot.stored import body_key
from stopwatch import crowding

MB = 1_000_000
SIZE = 20 * MB


@pytest.fixture
def world(tmp_path, origin):
    return CrowdWorld(tmp_path, origin, SIZE)


def test_fifty_clients_of_one_run_share_one_transfer(world):
    result = world.start(50).wait()
    rows = result["rows"]
    assert [row["right"] for row in rows] == [True] * 50
    assert len(world.fetches()) == 1
    assert statistics.median(row["first"] for row in rows) < 0.5 * max(
        row["total"] for row in rows
    ), "it streams"
    assert (result["peak_kb"] or 0) < 60_000


def test_ten_runs_share_one_transfer(world):
    parties = [world.start(2) for _ in range(10)]
    rows = [row for party in parties for row in party.wait()["rows"]]
    assert [row["right"] for row in rows] == [True] * 20
    assert len(world.fetches()) == 1
    assert world.bodies() == 1


def test_when_the_leading_run_is_killed_another_resumes_and_no_client_of_the_others_notices(
    world, origin
):
    origin.fault(r"big-.*whl$", "stall")  # half-way, until its client is gone
    leader, *others = parties = [world.start(2, waits=n > 0) for n in range(6)]
    leader.comes_to("flowing")
    world.let_go(others)
    for party in parties:
        party.comes_to("flowing")
    wait_until(lambda: world.arrived() >= SIZE // 2, timeout_s=60)
    leader.kill()
    rows = [row for party in others for row in party.wait()["rows"]]
    assert [row["right"] for row in rows] == [True] * 10
    assert not any(row["complete"] or row["wrong"] for row in leader.result()["rows"])
    _, more = world.fetches()
    assert more.ranged, "resumed, not begun again"
    assert world.wrong_bodies() == []


def test_clients_that_leave_half_way_disturb_nobody(world):
    rows = world.start(50, leave=20).wait()["rows"]
    assert [row["right"] for row in rows] == [not row["left"] for row in rows]
    assert len(world.fetches()) == 1
    assert world.bodies() == 1


def test_when_all_leave_the_transfer_stops_and_the_next_run_resumes_it(world):
    world.start(5, leave=5).wait()
    time.sleep(0.1)
    assert world.bodies() == 0
    (row,) = world.start(1).wait()["rows"]
    assert row["right"]
    _, second = world.fetches()
    assert second.ranged
    assert second.sent < SIZE * 0.6


@pytest.mark.parametrize("runs", [1, 4])
def test_no_client_gets_a_complete_file_of_a_wrong_digest_and_none_is_kept(world, origin, runs):
    origin.fault("simple/big", "wronghash", times=-1)
    parties = [world.start(20 // runs) for _ in range(runs)]
    rows = [row for party in parties for row in party.wait()["rows"]]
    assert len(rows) == 20
    assert not any(row["status"] == 200 and row["complete"] for row in rows)
    assert world.bodies() == 0
    # the second try of a run whose clients have gone is broken off: a beginning may stay, to be
    # hashed when it is resumed
    assert [
        part for part in (world.store / "flights").glob("*.part") if part.stat().st_size >= SIZE
    ] == []


def test_four_runs_that_store_more_than_fits_keep_the_cap_and_disturb_no_reader(tmp_path, origin):
    """What lies in the store is at no moment more than the cap and what lands while room is being made."""
    cap, size, files = 3 * MB, 300_000, 8
    origin.link.rate = (
        1.5 * MB / crowding()
    )  # however busy the processors are, room is made faster than it fills
    worlds = [
        CrashWorld(tmp_path, origin, sizes=[size] * files, name=name)
        for name in ("p", "q", "r", "s")
    ]
    store = worlds[0].store
    DirectoryStore(store, cap=cap).close()
    for world in worlds:
        world.more["ENTREPOT_LIMIT"] = str(cap)
    runs = [world.install() for world in worlds]
    most, readers = 0, {}
    while any(run.poll() is None for run in runs):
        reader = DirectoryStore(store, cap=cap)
        metas = list(reader.list("bodies"))
        most = max(most, sum(meta.disk for meta in metas))
        for meta in metas[:3]:  # a few bodies are always being read, from their start to their end
            if (
                len(readers) < 3
                and meta.key not in readers
                and (blob := reader.open(meta.key)) is not None
            ):
                readers[meta.key] = (blob, meta.key)
        if len(readers) == 3:
            for blob, key in readers.values():
                assert body_key(sha256_of(blob.read(0, blob.size))) == key
                blob.close()
            readers.clear()
        time.sleep(0.02)
    for blob, _ in readers.values():
        blob.close()
    outputs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, outputs
    assert most > 2 * size, "it was never looked"
    assert most <= cap + 8 * size, "four in flight, and four that land while room is made"
    end = DirectoryStore(store, cap=cap)
    assert end.usage().total <= cap
    worlds[0].check_store()
    worlds[0].check_sweep()
