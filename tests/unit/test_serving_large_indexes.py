"""Index pages and repodata are read the same at once and in the worker pool."""

import asyncio
import gc
import gzip
import hashlib
import json
import os
import signal
from functools import partial

import pytest
import zstandard

from entrepot.errors import InvalidPage, InvalidRepodata
from entrepot.serving import channels
from entrepot.serving.channels import SMALL, RepodataReader, Span
from entrepot.serving.pages import SMALL_PAGE, read_in_pool
from entrepot.simple.page import read_page
from entrepot.testing.channel import Channel
from entrepot.testing.upstream import Script, ranged
from entrepot.worker_pool import WorkerPool
from service_world import World, get
from stopwatch import Stopwatch

JSON = "application/vnd.pypi.simple.v1+json"
PAGE = "https://index.test/simple/some-project/"
URL = "https://channel.test/c/linux-64/repodata.json"
COUNT = 3000


def json_page(files):
    entries = []
    for i in range(files):
        digest = hashlib.sha256(b"%d" % i).hexdigest()
        name = f"some_project-{i // 40}.{i % 40}.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
        entries.append(
            {
                "filename": name,
                "url": f"https://files.test/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{name}",
                "hashes": {"sha256": digest},
                "core-metadata": {"sha256": digest[::-1]},
                "requires-python": ">=3.8",
                "size": i,
                "upload-time": "2024-01-02T03:04:05.123456Z",
                "yanked": False,
            }
        )
    return json.dumps(
        {"meta": {"api-version": "1.1"}, "name": "some-project", "files": entries}
    ).encode()


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


class PageReader:
    """Reads pages in one pool."""

    def __init__(self, pool, **options):
        self.read = partial(read_in_pool, pool, **options)


def run(work, reader=PageReader, **options):
    """Run ``work(reader, pool)`` and close both."""

    async def main():
        pool = WorkerPool()
        made = reader(pool, **options)
        try:
            return await asyncio.wait_for(work(made, pool), 60)
        finally:
            if isinstance(made, RepodataReader):
                await made.aclose()
            await pool.aclose()

    return asyncio.run(main())


def run_repodata(work, **options):
    return run(work, RepodataReader, **options)


def pids(pool):
    return list(pool._executor._processes) if pool._executor is not None else []


# Pages


def test_a_small_page_is_read_without_a_process():
    async def work(reader, pool):
        return await reader.read(json_page(3), content_type=JSON, url=PAGE), pids(pool)

    assert run(work) == (read_page(json_page(3), content_type=JSON, url=PAGE), [])


@pytest.mark.parametrize("coding", [None, "gzip"])
def test_a_large_page_read_in_a_worker_says_the_same(coding):
    body = json_page(800)
    assert len(body) > SMALL_PAGE
    given = gzip.compress(body) if coding else body

    async def work(reader, pool):
        pages = [
            await reader.read(given, content_type=JSON, url=PAGE, content_encoding=coding)
            for _ in range(2)
        ]
        return pages, len(pids(pool))

    pages, count = run(work)
    assert pages == [read_page(body, content_type=JSON, url=PAGE)] * 2
    assert 1 <= count <= 2


def test_a_large_page_that_is_none_is_invalid_and_the_next_one_is_read():
    async def work(reader, pool):
        for body, coding in (
            (b"{" * SMALL_PAGE, None),
            (b"\x1f\x8b" * SMALL_PAGE, "gzip"),
            (b"x" * SMALL_PAGE, "br"),
        ):
            with pytest.raises(InvalidPage):
                await reader.read(body, content_type=JSON, url=PAGE, content_encoding=coding)
        return await reader.read(json_page(800), content_type=JSON, url=PAGE)

    assert len(run(work).links) == 1600


def test_odd_text_comes_back_as_it_would_inline():
    body = json_page(800).replace(b"some_project-0.0.0", b"so\\u0000me-\\ud800-0.0")

    async def work(reader, pool):
        return await reader.read(body, content_type=JSON, url=PAGE)

    assert run(work) == read_page(body, content_type=JSON, url=PAGE)


def test_links_of_one_page_share_what_they_have_in_common():
    async def work(reader, pool):
        return await reader.read(json_page(800), content_type=JSON, url=PAGE)

    first, *_, last = run(work).links
    assert first.project is last.project
    assert first.source is last.source


def test_a_page_that_takes_too_long_is_lost():
    async def work(reader, pool):
        return await reader.read(json_page(800), content_type=JSON, url=PAGE)

    assert run(work, timeout_s=0.001) is None


@pytest.mark.slow
def test_twenty_megabytes_of_json_hold_up_nobody():
    """A ticker of 5 ms on the loop."""
    body = json_page(33_000)
    assert len(body) > 18 << 20

    async def work(reader, pool):
        late = []

        async def tick():
            while True:
                watch = Stopwatch()
                await asyncio.sleep(0.005)
                late.append(watch.seconds())

        ticker = asyncio.create_task(tick())
        await asyncio.sleep(0.02)
        page = await reader.read(body, content_type=JSON, url=PAGE)
        ticker.cancel()
        return len(page.links), len(late), max(late)

    gc.collect()  # what other tests have left is not to be looked through meanwhile
    links, ticks, worst = run(work)
    assert links == 66_000
    assert ticks > 40
    assert worst < 0.5


# Repodata


def test_a_large_index_is_read_in_a_worker_and_asked_for_what_is_wanted(large):
    async def work(reader, pool):
        summary = await reader.read("k", Span.of(large), url=URL)
        found = [await reader.find("k", each) for each in (name(7), "other-1-0.conda")]
        return summary, found, len(pids(pool))

    summary, (found, absent), count = run_repodata(work)
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
    assert 1 <= count <= 2


def test_a_small_index_needs_no_process_but_one_that_swells_does(large):
    swelling = zstandard.ZstdCompressor(3).compress(
        b'{"removed":"' + b"x" * 3_000_000 + b'","packages":{"a-1-0.conda":{"size":3}}}'
    )
    assert len(swelling) < SMALL

    async def work(reader, pool):
        await reader.read("small", Span.of(b'{"packages":{"a-1-0.conda":{"size":3}}}'), url=URL)
        small = (await reader.find("small", "a-1-0.conda")).size, bool(pids(pool))
        await reader.read("swelling", Span.of(swelling), url=f"{URL}.zst")
        return small, ((await reader.find("swelling", "a-1-0.conda")).size, bool(pids(pool)))

    assert run_repodata(work) == ((3, False), (3, True))


def test_all_who_ask_at_once_share_one_reading(large):
    reads = []

    def read(start, count):
        reads.append(start)
        return large[start : start + count]

    async def work(reader, pool):
        body = Span(read, len(large))
        first = asyncio.gather(*(reader.read("k", body, url=URL) for _ in range(5)))
        await asyncio.sleep(0)
        found = await reader.find("k", name(1))  # waits for it
        return await first, found

    summaries, found = run_repodata(work)
    assert found.size == 2
    assert len(set(summaries)) == 1
    assert len(reads) == len(set(reads))


def test_what_was_read_is_still_known_when_its_worker_is_lost(large):
    async def work(reader, pool):
        await reader.read("k", Span.of(large), url=URL)
        for pid in pids(pool):
            os.kill(pid, signal.SIGKILL)
        known = await reader.find("k", name(1))
        await reader.read("k2", Span.of(large), url=URL)
        return known, await reader.find("k2", name(1))

    known, again = run_repodata(work)
    assert known == again
    assert again.size == 2


@pytest.mark.parametrize("kept", [{"KEPT": 2}, {"KEPT_RECORDS": 2 * COUNT}])
def test_the_oldest_indexes_are_forgotten_and_can_be_read_again(kept, large, monkeypatch):
    for constant, value in kept.items():
        monkeypatch.setattr(channels, constant, value)

    async def work(reader, pool):
        for key in "abc":
            await reader.read(key, Span.of(large), url=URL)
        known = [reader.has(key) for key in "abc"]
        await reader.read("a", Span.of(large), url=URL)
        return known, (await reader.find("a", name(1))).size

    assert run_repodata(work) == ([False, True, True], 2)


def test_an_index_too_long_to_be_sent_is_read_from_a_file_without_a_name(
    large, monkeypatch, tmp_path
):
    monkeypatch.setattr(channels, "SENT", SMALL)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def work(reader, pool):
        await reader.read("k", Span.of(large), url=URL)
        with pytest.raises(InvalidRepodata):
            await reader.read("bad", Span.of(b"no" * SMALL), url=URL)
        return (await reader.find("k", name(7))).size, list(tmp_path.iterdir())

    assert run_repodata(work) == (8, [])


def test_an_index_for_which_there_is_no_room_is_lost(large, monkeypatch, tmp_path):
    monkeypatch.setattr(channels, "SENT", SMALL)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))

    async def work(reader, pool):
        return await reader.read("k", Span.of(large), url=URL)

    assert run_repodata(work) is None


@pytest.mark.parametrize(
    "body", [b"no" * SMALL, b'{"packages":{' + b" " * SMALL], ids=["no JSON", "cut off"]
)
def test_what_is_no_index_is_refused_and_the_next_one_is_read(body, large):
    async def work(reader, pool):
        for _ in range(3):
            with pytest.raises(InvalidRepodata):
                await reader.read("bad", Span.of(body), url=URL)
        await reader.read("k", Span.of(large), url=URL)
        return reader.has("bad"), reader.has("k")

    assert run_repodata(work) == (False, True)


@pytest.mark.parametrize("sent", [channels.SENT, SMALL])
def test_a_body_that_was_cut_meanwhile_is_lost(sent, large, monkeypatch):
    monkeypatch.setattr(channels, "SENT", sent)

    async def work(reader, pool):
        return await reader.read(
            "k", Span(lambda start, count: large[start : start + count], len(large) + 10), url=URL
        )

    assert run_repodata(work) is None


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
