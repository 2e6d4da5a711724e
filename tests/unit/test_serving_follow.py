"""Those who follow a download that another process leads, whatever becomes of it.

Two services on two stores of one directory.
"""

import asyncio
import contextlib
import threading

import pytest

from entrepot.errors import UpstreamError
from entrepot.httpcache.messages import RequestHead
from entrepot.links import Link
from entrepot.lockfiles.pins import Known
from entrepot.serving.response import Request
from entrepot.store.catalogue import SqliteCatalogue
from entrepot.store.directory import DirectoryStore
from entrepot.store.partial_file import DirectoryPartialFile
from entrepot.testing.upstream import Script, ranged
from service_world import FILE, INDEX, World, get, run
from unit.storing import digest

GOOD = bytes(range(256)) * 2000
OTHER = GOOD[::-1]


class Two:
    """A leader and a follower: processes as far as the store can tell."""

    def __init__(self, tmp_path, *routes, page: bool = True):
        self.worlds = [
            World(
                store=DirectoryStore(tmp_path / "s", cap=10**9),
                catalogue=SqliteCatalogue(tmp_path / "c"),
            )
            for _ in "ab"
        ]
        for world, route in zip(self.worlds, routes, strict=True):
            if page:
                world.add_project(GOOD)
            world.upstream.route(FILE, route)
        self.fetcher, self.follower = (world.service() for world in self.worlds)
        self.page = page

    def asked(self) -> list[int]:
        return [world.upstream.count(FILE) for world in self.worlds]

    async def learn(self):
        for service in (self.fetcher, self.follower) if self.page else ():
            await get(service, INDEX)

    async def under_way(self):
        """The leader's client, and one of the follower that has read some of what comes."""
        leading = asyncio.create_task(get(self.fetcher, FILE))
        await until(lambda: self.asked()[0])
        reader = Reader(self.follower)
        await reader.read(100_000)
        return leading, reader

    async def close(self):
        await self.fetcher.aclose()
        await self.follower.aclose()
        for world in self.worlds:
            world.store.close()


class Reader:
    """A client that reads as far as it is told to."""

    def __init__(self, service, url=FILE):
        self.service, self.url = service, url
        self.got = b""
        self.answer = None

    async def read(self, upto: int | None = None) -> bytes:
        """Bytes so far; raises what the body raises."""
        if self.answer is None:
            self.answer = await self.service.handle(Request(RequestHead("GET", self.url)))
            self.chunks = self.answer.body.chunks()
        while upto is None or len(self.got) < upto:
            piece = await anext(self.chunks, None)
            if piece is None:
                break
            self.got += piece
        return self.got

    async def close(self):
        await self.answer.body.aclose()


async def patient(service) -> bytes:
    """A client that takes no byte before the whole is there, so that the leader goes on whatever happens."""
    return (await get(service, FILE, if_none_match='"another"'))[1]


async def until(claim):
    for _ in range(500):
        if claim():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not come to that")


@pytest.mark.parametrize("page", [True, False], ids=["proven", "unproven"])
def test_a_follower_reads_along_and_on_when_the_leader_has_landed(tmp_path, page):
    gate = asyncio.Event()
    fields = {"ETag": '"1"', "Cache-Control": "max-age=600"}
    two = Two(tmp_path, Script(200, fields, GOOD, gate=gate), Script(200, fields, GOOD), page=page)

    async def go():
        await two.learn()
        leading = asyncio.create_task(get(two.fetcher, FILE))
        await until(lambda: two.asked()[0])
        await asyncio.sleep(0.05)
        reader = Reader(two.follower)
        assert await reader.read(100_000)
        gate.set()
        assert await reader.read() == GOOD
        await reader.close()
        assert (await leading)[1] == GOOD
        await two.close()

    run(go())
    assert two.asked() == [1, 0]


def test_a_follower_stops_when_the_leader_begins_again_and_the_next_one_gets_the_right_bytes(
    tmp_path,
):
    """The first bytes were wrong, as the digest told: nobody may go on from them."""
    first, second = asyncio.Event(), asyncio.Event()
    two = Two(
        tmp_path,
        [Script(200, {}, OTHER, gate=first), Script(200, {}, GOOD, gate=second)],
        Script(200, {}, GOOD),
    )

    async def go():
        await two.learn()
        leading = asyncio.create_task(patient(two.fetcher))
        await until(lambda: two.asked()[0])
        await asyncio.sleep(0.05)
        reader = Reader(two.follower)
        assert (await reader.read(100_000))[:50_000] == OTHER[:50_000]
        first.set()
        with pytest.raises(UpstreamError):
            await reader.read()
        late = Reader(two.follower)
        assert (await late.read(100_000))[:50_000] == GOOD[:50_000]
        second.set()
        assert await late.read() == GOOD
        for each in (reader, late):
            await each.close()
        assert await leading == GOOD
        await two.close()

    run(go())
    assert two.asked() == [2, 0]


def test_a_leader_that_begins_and_lands_between_two_looks_does_not_mix_bytes(tmp_path, monkeypatch):
    """The follower sees neither the new file nor its note, only the entry.

    What was read must be its start.
    """
    gate = asyncio.Event()
    two = Two(
        tmp_path, [Script(200, {}, OTHER, gate=gate), Script(200, {}, GOOD)], Script(200, {}, GOOD)
    )

    async def go():
        await two.learn()
        leading = asyncio.create_task(patient(two.fetcher))
        await until(lambda: two.asked()[0])
        await asyncio.sleep(0.05)
        reader = Reader(two.follower)
        await reader.read(100_000)
        monkeypatch.setattr("entrepot.serving.transfers.FOLLOW_S", 0.5)
        await asyncio.sleep(0.05)
        gate.set()
        assert await leading == GOOD
        with pytest.raises(UpstreamError):
            await reader.read()
        await reader.close()
        late = Reader(two.follower)
        assert await late.read() == GOOD
        await late.close()
        await two.close()

    run(go())
    assert two.asked() == [2, 0]


@pytest.mark.parametrize("page", [True, False], ids=["proven", "unproven"])
def test_a_follower_takes_over_from_a_leader_that_has_gone_and_its_readers_notice_nothing(
    tmp_path, page
):
    two = Two(
        tmp_path, Script(200, {"ETag": '"v1"'}, GOOD, gate=asyncio.Event()), ranged(GOOD), page=page
    )

    async def go():
        await two.learn()
        leading = asyncio.create_task(get(two.fetcher, FILE))
        await until(lambda: two.asked()[0])
        await asyncio.sleep(0.05)
        readers = [Reader(two.follower) for _ in range(3)]
        for reader in readers:
            await reader.read(100_000)
        leading.cancel()
        await two.fetcher.aclose()
        assert [await reader.read() for reader in readers] == [GOOD] * 3
        for reader in readers:
            await reader.close()
        await two.close()

    run(go())
    assert two.asked() == [1, 1]
    request = two.worlds[1].upstream.requests[-1]
    assert (request.headers.get("range") or "").startswith("bytes="), "resumed, not begun again"


def test_a_follower_whose_leader_dropped_what_nobody_can_continue_never_joins_two_answers(tmp_path):
    """Without digest and validator a partial is worthless.

    Its readers end in an error, the next one gets the new answer.
    """
    two = Two(
        tmp_path, Script(200, {}, OTHER, gate=asyncio.Event()), Script(200, {}, GOOD), page=False
    )

    async def go():
        leading = asyncio.create_task(get(two.fetcher, FILE))
        await until(lambda: two.asked()[0])
        await asyncio.sleep(0.05)
        reader = Reader(two.follower)
        await reader.read(100_000)
        leading.cancel()
        await two.fetcher.aclose()
        with pytest.raises(UpstreamError):
            await reader.read()
        await reader.close()
        late = Reader(two.follower)
        assert await late.read() == GOOD
        await late.close()
        await two.close()

    run(go())


def test_a_killed_leaders_unusable_partial_is_not_continued_for_those_who_have_read_it(tmp_path):
    """As kill -9 leaves it.

    Part and note are there, but upstream gave no validator and nobody knows the digest.
    """
    two = Two(
        tmp_path, Script(200, {}, OTHER, gate=asyncio.Event()), Script(200, {}, GOOD), page=False
    )

    async def go():
        leading = asyncio.create_task(get(two.fetcher, FILE))
        await until(lambda: two.asked()[0])
        await asyncio.sleep(0.05)
        reader = Reader(two.follower)
        await reader.read(100_000)
        (transfer,) = two.fetcher._transfers._tasks
        transfer._file.release()  # the system takes a dead process's lock, and nothing else
        with pytest.raises(UpstreamError):
            await reader.read()
        await reader.close()
        leading.cancel()
        with contextlib.suppress(BaseException):
            await leading
        transfer._leads = False
        await two.close()

    run(go())


@pytest.mark.parametrize("lengthless", [False, True], ids=["announced", "without length"])
def test_who_follows_a_page_that_is_not_kept_has_all_of_it(tmp_path, lengthless):
    """Pages with signed links are dropped when they are whole.

    Upstream would sign the next one otherwise.
    """

    def page(signature: str) -> Script:
        link = f'<a href="https://files.test/demo-1.0.tar.gz?X-Amz-Signature={signature}">demo-1.0.tar.gz</a>'
        text = f"<!DOCTYPE html><title>Links for demo</title>{' ' * 200_000}{link}".encode()
        return Script(
            200, {"Content-Type": "text/html"}, text, gate=asyncio.Event(), lengthless=lengthless
        )

    first, second = page("one"), page("two")
    two = Two(tmp_path, Script(), Script(), page=False)
    for world, script in zip(two.worlds, (first, second), strict=True):
        world.upstream.route(INDEX, script)

    async def go():
        leading = asyncio.create_task(get(two.fetcher, INDEX))
        await until(lambda: two.worlds[0].upstream.count(INDEX))
        await asyncio.sleep(0.05)
        reader = Reader(two.follower, INDEX)
        assert await reader.read(50_000)
        first.gate.set()
        assert await reader.read() == first.body
        await reader.close()
        assert (await leading)[1] == first.body
        await two.close()

    run(go())
    assert two.worlds[1].upstream.count(INDEX) == 0
    assert not [
        path
        for path in (tmp_path / "s").rglob("*")
        if path.is_file() and b"X-Amz" in path.read_bytes()
    ]


@pytest.fixture
def disk(monkeypatch):
    """Bodies are made durable while this is set.

    And all are large enough for others to be told of the end before.
    """
    monkeypatch.setattr("entrepot.serving.fetch.LONG_TO_KEEP", 0)
    commit, ready = DirectoryPartialFile.commit, threading.Event()

    def slow(growing, key):
        assert ready.wait(20)
        return commit(growing, key)

    monkeypatch.setattr(DirectoryPartialFile, "commit", slow)
    ready.set()
    return ready


def test_a_follower_has_the_end_before_the_leader_has_synced_the_body(tmp_path, disk):
    """A large body takes its leader a second to make durable; that it is right is known before."""
    gate = asyncio.Event()
    two = Two(tmp_path, Script(200, {}, GOOD, gate=gate), Script(200, {}, OTHER))

    async def go():
        await two.learn()
        disk.clear()
        leading, reader = await two.under_way()
        gate.set()
        async with asyncio.timeout(10):
            assert await reader.read() == GOOD
        assert not disk.is_set()
        await reader.close()
        disk.set()
        await leading
        assert (await get(two.follower, FILE))[1] == GOOD
        await two.close()

    run(go())
    assert two.asked() == [1, 0]


def test_a_follower_that_knows_another_digest_does_not_take_the_leaders_word(tmp_path, disk):
    gate = asyncio.Event()
    two = Two(tmp_path, Script(200, {}, GOOD, gate=gate), Script(200, {}, OTHER), page=False)
    two.worlds[0].add_project(GOOD)
    two.worlds[0].upstream.route(FILE, Script(200, {}, GOOD, gate=gate))

    async def lock_file():
        return [Known(links=(Link(FILE, digests=(digest(OTHER),)),))]

    async def go():
        await get(two.fetcher, INDEX)
        two.worlds[1].known_files.learn_beforehand(lock_file())
        disk.clear()
        leading, reader = await two.under_way()
        gate.set()
        asyncio.get_running_loop().call_later(
            0.2, disk.set
        )  # meanwhile the follower looks, and is told that all is there
        with pytest.raises(UpstreamError):
            await reader.read()
        assert len(reader.got) < len(GOOD)
        await reader.close()
        assert (await leading)[1] == GOOD
        assert (await get(two.follower, FILE))[1] == OTHER
        await two.close()

    run(go())
