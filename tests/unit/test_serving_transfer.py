"""What waiters of a transfer read: the right bytes, and as a crowd each piece of the file once."""

import asyncio
import os
from types import SimpleNamespace

import pytest

from entrepot.digests import Hasher
from entrepot.errors import StoreFull
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead, StoredResponse
from entrepot.serving.known_files import Expectation
from entrepot.serving.lookup import READ
from entrepot.serving.respond import rest_of
from entrepot.serving.transfer import PACE_S, WAITERS, Phase, Progress
from entrepot.serving.transfers import TransferBody
from entrepot.store.directory import DirectoryStore
from entrepot.stored import Head, TransferState
from entrepot.testing.upstream import Script, ScriptedUpstream

BODY = os.urandom(3 * READ)
HEAD = Head(
    "http://x.test/", "GET", StoredResponse(ResponseHead(200, Headers()), (), 0.0, 0.0), None
)


class Counting:
    """A growing file that counts how often it is read."""

    def __init__(self, growing):
        self.growing, self.reads = growing, 0

    def read(self, start, count):
        self.reads += 1
        return self.growing.read(start, count)

    def size(self):
        return self.growing.size()


@pytest.fixture
def shown(tmp_path):
    store = DirectoryStore(tmp_path / "store", cap=1 << 40)
    growing = store.open_partial("a" * 40)
    growing.try_lock()
    growing.write(BODY)
    progress = Progress(Hasher(), holds=False)
    progress.begin(TransferState(HEAD, None, "m1", False))
    progress.growing = Counting(growing)
    progress.waiters = 50
    yield progress
    growing.close()
    store.close()


def read_all(shown, start=0):
    got = BODY[:start]
    while piece := shown.read(len(got), READ):
        got += piece
    return got


def test_a_crowd_in_step_reads_each_piece_once(shown):
    at = 0
    while at < len(BODY):
        pieces = [shown.read(at, READ) for _ in range(50)]
        assert {id(piece) for piece in pieces} == {id(pieces[0])}
        assert pieces[0] == BODY[at : at + len(pieces[0])]
        at += len(pieces[0])
    assert shown.growing.reads == 3


def test_those_who_began_at_odd_places_come_to_share_their_reads(shown):
    for start in (0, 1000, READ - 1, READ + 5):
        assert read_all(shown, start) == BODY
    assert shown.growing.reads <= 8


def test_a_single_reader_keeps_nothing_in_memory(shown):
    shown.waiters = 1
    assert read_all(shown) == read_all(shown) == BODY
    assert shown.growing.reads == 8, "three pieces and the end, twice"


def test_never_more_than_asked_for(shown):
    assert shown.read(0, 1000) == BODY[:1000]
    assert shown.read(0, 10) == BODY[:10]
    assert shown.read(990, 1000) == BODY[990:1000]
    assert shown.read(1000, 1000) == BODY[1000:2000]


@pytest.mark.parametrize("how", ["begin", "forget"])
def test_another_beginning_gives_nothing_of_the_old_one(shown, how):
    assert shown.read(0, 1000) == BODY[:1000]
    if how == "begin":
        shown.begin(TransferState(HEAD, None, "m2", False))
    else:
        shown.forget(Hasher(), holds=False)
    shown.growing.growing.restart()
    shown.growing.growing.write(bytes(2000))
    assert shown.read(0, 1000) == bytes(1000)


@pytest.mark.parametrize("waiters", [1, 4 * WAITERS])
def test_many_waiters_are_woken_more_seldom(shown, waiters):
    shown.waiters = waiters

    async def go():
        loop, woken = asyncio.get_running_loop(), 0
        end = loop.time() + 20 * PACE_S

        async def wait():
            nonlocal woken
            while True:
                await shown.changed()
                woken += 1

        task = asyncio.create_task(wait())
        while loop.time() < end:
            shown.tell_growth()
            await asyncio.sleep(0)
        task.cancel()
        return woken

    assert asyncio.run(go()) <= (21 if waiters == 1 else 5)


def test_a_range_ends_where_it_should_also_when_the_store_has_failed_under_it(shown):
    shown.error, shown.phase = StoreFull("no space"), Phase.FAILED
    shown.growing = None

    async def rest(at):
        yield b"0123456789"[at:8]
        yield b"89"

    async def ask():
        body = TransferBody(shown, 2, 6, leave=lambda _: None, rest=rest)
        return b"".join([piece async for piece in body.chunks()])

    assert asyncio.run(ask()) == b"2345"


def test_the_rest_of_a_range_is_asked_for_with_one_range(shown):
    upstream = ScriptedUpstream()
    upstream.route("http://x.test/", Script(200, {}, BODY))
    request = RequestHead("GET", "http://x.test/", Headers([("Range", "bytes=0-9")]))

    async def ask():
        resources = SimpleNamespace(upstream=upstream, downloaded=lambda _count: None)
        pieces = rest_of(shown, request, Expectation(), resources, 5)
        return b"".join([piece async for piece in pieces])

    assert asyncio.run(ask()) == BODY[5:]
    [asked] = upstream.requests
    assert asked.headers.all("range") == ("bytes=5-",)
