"""When a run looks after its store's cap."""

import asyncio
import itertools
import threading
import time

import pytest

from entrepot.errors import StoreUnavailable
from entrepot.serving import lookup
from entrepot.serving.lookup import SizeLimit

MB = 1 << 20


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(lookup, "PAUSE_S", 0.001)


class Store:
    """So much room is left; every look is noted with the bytes that had come by then."""

    def __init__(self, *rooms):
        self.rooms = list(rooms)
        self.looks = []
        self.sent = 0

    def make_room(self):
        self.looks.append(self.sent)
        return self.rooms.pop(0) if len(self.rooms) > 1 else self.rooms[0]


def feed(store: Store, total: int, *, step: int = MB // 4, land: int = 0) -> list[int]:
    """Download so much; the positions in MB at which it was looked, the last look apart."""

    async def go():
        kept = SizeLimit(store.make_room)
        while store.sent < total:
            store.sent += step
            kept.grown(step)
            if land and store.sent % land == 0:
                kept.landed(land)
            while kept._round is not None:
                await asyncio.sleep(0.001)
        await kept.aclose()

    asyncio.run(go())
    return [round(at / MB, 2) for at in store.looks]


def test_the_less_room_there_is_the_sooner_it_looks_again():
    looks = feed(Store(80 * MB), 30 * MB)
    assert [b - a for a, b in itertools.pairwise(looks[:-1])] == pytest.approx([10, 10], abs=1)
    assert len(feed(Store(16 * MB), 12 * MB)) > len(feed(Store(80 * MB), 12 * MB))


def test_without_room_it_looks_whenever_a_body_lands():
    looks = feed(Store(0), 4 * MB, land=MB // 2)
    assert len(looks) >= 6


def test_while_another_process_makes_room_it_looks_again_as_soon_as_before():
    looks = feed(Store(0, None, None, None, 0), 4 * MB, land=MB // 2)
    assert len(looks) >= 6


def test_what_comes_while_it_looks_is_looked_at_afterwards():
    store, gate = Store(0), threading.Event()

    def slow():
        gate.wait(30)
        return store.make_room()

    async def go():
        kept = SizeLimit(slow)
        kept.grown(2 * MB)
        await asyncio.sleep(0.01)
        for _ in range(5):
            kept.grown(2 * MB)
        await asyncio.sleep(0)
        assert not gate.is_set()
        assert kept._round is not None, "nobody waits for a look"
        gate.set()
        while kept._round is not None:
            await asyncio.sleep(0.001)
        seen = len(store.looks)
        await kept.aclose()
        return seen

    assert asyncio.run(go()) == 2


def test_a_store_that_fails_is_nobodys_trouble_here():
    def fail():
        raise StoreUnavailable("no")

    async def go():
        kept = SizeLimit(fail, lambda _is_over: fail())
        kept.grown(5 * MB)
        await asyncio.sleep(0.01)
        await kept.aclose()

    asyncio.run(go())


def test_a_sweep_is_begun_once_and_told_to_stop_at_the_end(monkeypatch):
    monkeypatch.setattr(lookup, "PATIENCE_S", 0.05)
    begun = []

    def sweep(is_over):
        begun.append(1)
        end = time.monotonic() + 5
        while not is_over() and time.monotonic() < end:
            time.sleep(0.005)

    async def go():
        kept = SizeLimit(lambda: 0, sweep)
        for _ in range(4):
            kept.landed(MB)
            await asyncio.sleep(0.01)
        start = time.monotonic()
        await kept.aclose()
        return time.monotonic() - start

    assert asyncio.run(go()) < 2
    assert len(begun) == 1


def test_a_run_that_stores_nothing_does_not_sweep():
    begun = []

    async def go():
        await SizeLimit(lambda: 0, begun.append).aclose()

    asyncio.run(go())
    assert begun == []
