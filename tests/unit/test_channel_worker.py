"""Large repodata, read beside and asked for what somebody wants."""

import asyncio
import hashlib
import json
import os
import signal

import pytest
import zstandard

from entrepot.channel.worker import SMALL, IndexReader
from entrepot.errors import InvalidRepodata
from entrepot.testing.channel import Channel
from entrepot.testing.upstream import Script, ranged
from entrepot.worker_pool import Span
from service_world import World, get

URL = "https://channel.test/c/linux-64/repodata.json"
COUNT = 3000


def name(i):
    return f"project-{i}-1.{i}-py311_0.conda"


def record(i):
    return {
        "sha256": hashlib.sha256(b"%d" % i).hexdigest(),
        "size": i + 1,
        "depends": ["python >=3.11"] * 5,
    }


@pytest.fixture(scope="module")
def large():
    return json.dumps(
        {
            "info": {"base_url": "https://pkgs.test/"},
            "packages.conda": {name(i): record(i) for i in range(COUNT)},
        }
    ).encode()


def run(work):
    """Run ``work(reader)`` and close the reader."""

    async def main():
        reader = IndexReader()
        try:
            return await asyncio.wait_for(work(reader), 60)
        finally:
            await reader.aclose()

    return asyncio.run(main())


def processes(reader):
    return [process for home in reader._processes for process in home._all]


def test_a_large_index_is_read_beside_and_asked_for_what_is_wanted(large):
    async def work(reader):
        summary = await reader.read("k", Span.of(large), url=URL)
        found = [await reader.find("k", each) for each in (name(7), "other-1-0.conda")]
        return summary, found, len(processes(reader))

    summary, (found, absent), count = run(work)
    assert (summary.base, summary.hosts, summary.secret) == (
        "https://pkgs.test/",
        {"pkgs.test:443"},
        False,
    )
    assert (found.url, found.size, found.digests[0].value) == (
        f"https://pkgs.test/{name(7)}",
        8,
        record(7)["sha256"],
    )
    assert absent is None
    assert count == 1


def test_a_small_index_needs_no_process_but_one_that_swells_does(large):
    swelling = zstandard.ZstdCompressor(3).compress(
        b'{"removed":"' + b"x" * 3_000_000 + b'","packages":{"a-1-0.conda":{"size":3}}}'
    )
    assert len(swelling) < SMALL

    async def work(reader):
        await reader.read("small", Span.of(b'{"packages":{"a-1-0.conda":{"size":3}}}'), url=URL)
        small = (await reader.find("small", "a-1-0.conda")).size, len(processes(reader))
        await reader.read("swelling", Span.of(swelling), url=f"{URL}.zst")
        return small, ((await reader.find("swelling", "a-1-0.conda")).size, len(processes(reader)))

    assert run(work) == ((3, 0), (3, 1))


def test_all_who_ask_at_once_share_one_reading(large):
    reads = []

    def read(start, count):
        reads.append(start)
        return large[start : start + count]

    async def work(reader):
        body = Span(read, len(large))
        first = asyncio.gather(*(reader.read("k", body, url=URL) for _ in range(5)))
        await asyncio.sleep(0)
        found = await reader.find("k", name(1))  # waits for it
        return await first, found

    summaries, found = run(work)
    assert found.size == 2
    assert len(set(summaries)) == 1
    assert len(reads) == len(set(reads))


def test_what_a_lost_process_knew_can_be_read_again(large):
    async def work(reader):
        await reader.read("k", Span.of(large), url=URL)
        os.kill(processes(reader)[0].pid, signal.SIGKILL)
        lost = await reader.find("k", name(1)), reader.has("k")
        await reader.read("k", Span.of(large), url=URL)
        return lost, await reader.find("k", name(1))

    lost, found = run(work)
    assert lost == (None, False)
    assert found.size == 2


@pytest.mark.parametrize(
    "body", [b"no" * SMALL, b'{"packages":{' + b" " * SMALL], ids=["no JSON", "cut off"]
)
def test_what_is_no_index_is_refused_and_the_process_lives_on(body, large):
    async def work(reader):
        for _ in range(3):
            with pytest.raises(InvalidRepodata):
                await reader.read("bad", Span.of(body), url=URL)
        await reader.read("k", Span.of(large), url=URL)
        return reader.has("bad"), len(processes(reader))

    assert run(work) == (False, 2)


def test_a_body_that_is_cut_under_our_hands_is_lost(large):
    async def work(reader):
        reader._processes[0]._timeout_s = 1
        return await reader.read(
            "k", Span(lambda start, count: large[start : start + count], len(large) + 10), url=URL
        )

    assert run(work) is None


def test_an_archive_waits_for_the_large_index_that_tells_its_digest(large):
    package = Channel(None).add("wanted", size=200_000)
    body = package.content.whole()
    archive = f"https://channel.test/c/linux-64/{package.filename}"
    index = json.loads(large) | {"info": {}}
    index["packages.conda"][package.filename] = package.record
    world = World({URL: Script(200, {}, json.dumps(index).encode()), archive: ranged(body)})

    async def work():
        service = world.service()
        try:
            answers = [await get(service, URL), await get(service, archive)]
            return [status for status, *_ in answers]
        finally:
            await service.aclose()

    assert asyncio.run(work()) == [200, 200]
    (head,) = asyncio.run(world.entries.load(archive))
    assert {d.algorithm for d in head.proven} == {"sha256"}
    assert world.catalogue.link(archive).size == len(body)
    assert world.catalogue.link(f"https://channel.test/c/linux-64/{name(1)}") is None, (
        "what nobody wants is not remembered"
    )
