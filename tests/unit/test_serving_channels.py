"""Conda channels through the service.

What repodata and shards prove, what goes together, and what a failing channel serves.
"""

import asyncio
import hashlib
import json

import msgpack
import pytest
import zstandard

from entrepot.errors import EntrepotError, UpstreamTimeout
from entrepot.serving import respond as responder
from entrepot.store.catalogue import SqliteCatalogue
from entrepot.testing.channel import Channel
from entrepot.testing.upstream import Script, ranged
from entrepot.tools.conda.reuse import ReusableResponse
from service_world import World, get, run

C = "https://channel.test/c/noarch/"
ZST, JSON, CURRENT, SHARDS = (
    C + n
    for n in (
        "repodata.json.zst",
        "repodata.json",
        "current_repodata.json",
        "repodata_shards.msgpack.zst",
    )
)
FRESH = {"Cache-Control": "max-age=600"}
SIZE = 200_000


def packed(data):
    return zstandard.ZstdCompressor(3).compress(data)


def index(body, etag="1", headers=FRESH):
    """A route that confirms what a client has."""

    def answer(request):
        same = request.headers.get("if-none-match") == f'"{etag}"'
        return Script(304 if same else 200, {**headers, "ETag": f'"{etag}"'}, b"" if same else body)

    return answer


def changed(channel):
    return json.dumps(channel.repodata("noarch") | {"removed": ["x"]}).encode()


class ChannelWorld(World):
    """A channel with one archive, ``noarch`` alone."""

    def __init__(self):
        super().__init__()
        self.channel = Channel(None)
        self.package = self.channel.add("one", size=SIZE)
        self.body = self.package.content.whole()
        self.archive = C + self.package.filename
        self.upstream.route(self.archive, ranged(self.body))
        self.whole = json.dumps(self.channel.repodata("noarch")).encode()
        self.upstream.route(JSON, index(self.whole, "json"))
        self.upstream.route(ZST, index(packed(self.whole), "zst"))
        self.upstream.route(CURRENT, index(self.whole, "current"))

    def shards(self, **info):
        """Publish sharded repodata as well; the shard's URL."""
        record = self.package.record | {
            n: bytes.fromhex(self.package.record[n]) for n in ("md5", "sha256")
        }
        shard = packed(
            msgpack.packb({"packages": {}, "packages.conda": {self.package.filename: record}})
        )
        sha = hashlib.sha256(shard)
        said = {"base_url": "./", "shards_base_url": "./shards/"} | info
        self.upstream.route(
            SHARDS,
            index(packed(msgpack.packb({"info": said, "shards": {"one": sha.digest()}})), "shards"),
        )
        url = f"{C}shards/{sha.hexdigest()}.msgpack.zst"
        self.upstream.route(url, Script(200, {}, shard))
        return url

    def do(self, work, **rules):
        """Run ``work(service)`` in a process of its own."""

        async def go():
            service = self.service(**rules)
            try:
                return await asyncio.wait_for(work(service), 60)
            finally:
                await service.aclose()

        return run(go())

    def stored(self, url):
        return run(self.entries.load(url))

    def get(self, *urls, **rules):
        """Ask for these in a process of its own; the last answer's status and content."""

        async def work(service):
            for url in urls:
                answer = await get(service, url)
            return answer[:2]

        return self.do(work, **rules)


def refused(ask):
    """Whether a client is cut off, or told that there is none."""
    try:
        return ask()[0] == 502
    except EntrepotError:
        return True


@pytest.fixture
def world():
    return ChannelWorld()


@pytest.mark.parametrize("form", [JSON, ZST, CURRENT])
def test_an_archive_is_proven_by_repodata(world, form):
    assert world.get(form, world.archive) == (200, world.body)
    (head,) = world.stored(world.archive)
    assert str(head.body) in map(str, head.proven)
    assert (head.project, head.version, head.kind) == ("one", "1.0", "archive")
    assert world.stored(form)[0].kind == "page"
    world.upstream.gone = True
    assert world.get(world.archive) == (200, world.body)


def test_an_archive_is_proven_by_a_shard_and_the_shard_by_its_name(world):
    shard = world.shards()
    assert world.get(SHARDS, shard, world.archive) == (200, world.body)
    assert world.stored(world.archive)[0].proven
    assert world.stored(shard)[0].proven
    assert world.get(shard)[0] == 200
    assert world.upstream.count(shard) == 1


def test_a_shard_of_other_bytes_than_its_name_says_is_refused(world):
    shard = world.shards()
    world.upstream.route(shard, Script(200, {}, packed(b"something else" * 1000)))
    assert refused(lambda: world.get(SHARDS, shard))
    assert world.stored(shard) == []


def test_a_process_that_sees_no_index_goes_by_the_stored_one(world):
    world.get(ZST)
    world.get(world.archive)
    assert world.stored(world.archive)[0].proven


def test_archives_on_another_host_are_known_and_the_host_is_learned(world):
    url = f"https://pkgs.test/x/{world.package.filename}"
    world.upstream.route(url, Script(200, {}, world.body))
    world.upstream.route(
        JSON,
        index(
            json.dumps(
                world.channel.repodata("noarch") | {"info": {"base_url": "https://pkgs.test/x"}}
            ).encode()
        ),
    )
    world.get(JSON)
    assert "pkgs.test:443" in world.catalogue.hosts()
    world.get(JSON, url)
    assert world.stored(url)[0].proven


ELSEWHERE = "https://other.test/c/noarch/repodata.json"


def claim(world, base=C, digest="1" * 64):
    """Another channel's index says that it has its archives here, with another digest."""
    record = world.package.record | {"sha256": digest, "size": 5}
    body = {"info": {"base_url": base}, "packages.conda": {world.package.filename: record}}
    world.upstream.route(ELSEWHERE, index(json.dumps(body).encode()))


@pytest.mark.parametrize("rules", [{}, {"refresh": True}], ids=["plain", "refresh"])
@pytest.mark.parametrize("form", ["repodata", "shards", "none"])
def test_what_another_channel_says_of_an_archive_in_an_earlier_run_refuses_nothing(
    world, form, rules
):
    claim(world)
    shard = world.shards()
    assert refused(lambda: world.get(ELSEWHERE, world.archive))
    world.clock.advance(60)
    own = {"repodata": (JSON,), "shards": (SHARDS, shard), "none": ()}[form]
    assert world.get(*own, world.archive, **rules) == (200, world.body)
    assert bool(world.stored(world.archive)[0].proven) == (form != "none")


@pytest.mark.parametrize("order", [1, -1])
def test_a_run_that_goes_by_both_channels_takes_what_either_names_and_is_told(world, order):
    claim(world)
    assert world.get(*(ELSEWHERE, JSON)[::order], world.archive) == (200, world.body)
    assert any("name different digests for" in text for text in world.stats.warnings)


def test_another_channel_proves_nothing_in_a_later_run(world):
    claim(world, digest=hashlib.sha256(world.body).hexdigest())
    world.get(ELSEWHERE)
    world.upstream.route(JSON, Script(404))
    world.get(world.archive)
    assert world.stored(world.archive)[0].proven == ()


def test_a_shards_archives_lie_where_the_index_of_this_run_says(world):
    """One shard, named by two indexes that have its archives in different places."""
    shard = world.shards()
    there = {"base_url": "https://pkgs.test/x/", "shards_base_url": f"{C}shards/"}
    said = {
        "info": there,
        "shards": {"one": bytes.fromhex(shard.rpartition("/")[2].partition(".")[0])},
    }
    other = "https://other.test/c/noarch/repodata_shards.msgpack.zst"
    world.upstream.route(other, index(packed(msgpack.packb(said))))
    moved = f"https://pkgs.test/x/{world.package.filename}"
    world.upstream.route(moved, Script(200, {}, world.body[::-1]))
    assert refused(lambda: world.get(other, shard, moved))
    assert world.get(SHARDS, shard, world.archive) == (200, world.body)
    assert world.stored(world.archive)[0].proven
    assert world.get(SHARDS, shard, moved) == (200, world.body[::-1])


@pytest.mark.parametrize("seen", [False, True], ids=["index-alone", "asked-before"])
def test_a_damaged_archive_in_condas_cache_is_refused_offline_with_its_reason(
    world, tmp_path, seen
):
    world.get(JSON)
    path = tmp_path / world.package.filename
    path.write_bytes(world.body[:-1] + bytes([world.body[-1] ^ 1]))
    donors = [
        lambda url: ReusableResponse(path, len(world.body), 0.0) if url == world.archive else None
    ]
    asked = [JSON, world.archive] * (1 + seen)
    status, text = world.get(*asked, offline=True, donors=donors)
    assert (status, world.stored(world.archive)) == (504, [])
    reason = f"conda's cached copy of {world.package.filename} does not match the digest that its channel's index names"
    assert reason.encode() in text
    assert world.stats.last_line(offline=True).endswith(reason)
    path.write_bytes(world.body)
    assert world.get(*asked, offline=True, donors=donors) == (200, world.body)


def test_an_index_that_an_earlier_run_left_refuses_nothing(world):
    """The client has a newer one from elsewhere, and asks for the archive alone."""
    world.get(JSON)
    other = Channel(None).add("one", size=SIZE + 1).content.whole()
    world.upstream.route(world.archive, ranged(other))
    assert world.get(world.archive) == (200, other)
    assert world.stored(world.archive)[0].proven == ()


def test_an_archive_that_a_channel_replaced_is_fetched_anew(world):
    world.get(JSON, world.archive)
    other = Channel(None).add("one", size=SIZE + 1)
    record = {"packages.conda": {other.filename: other.record}}
    world.upstream.route(JSON, index(json.dumps(record).encode(), "new", {}))
    world.upstream.route(world.archive, ranged(other.content.whole(), etag='"v2"'))
    world.clock.advance(700)
    assert world.get(JSON, world.archive) == (200, other.content.whole())


@pytest.mark.parametrize("fault", ["flipped", "cut"])
@pytest.mark.parametrize("form", ["repodata", "shard"])
def test_wrong_bytes_are_never_stored_nor_given_whole(world, fault, form):
    bad = bytearray(world.body)
    bad[SIZE // 2] ^= 1
    script = (
        Script(200, {}, bytes(bad)) if fault == "flipped" else Script(200, {}, world.body[:-100])
    )
    world.upstream.route(world.archive, script)
    before = (JSON,) if form == "repodata" else (SHARDS, world.shards())
    assert refused(lambda: world.get(*before, world.archive))
    assert world.stored(world.archive) == []
    world.upstream.route(world.archive, ranged(world.body))
    world.clock.advance(60)
    assert world.get(world.archive) == (200, world.body)


# Resumed downloads


def part(world, start, *before, **fields):
    async def work(service):
        for url in before:
            await get(service, url)
        return await get(service, world.archive, Range=f"bytes={start}-", **fields)

    return world.do(work)


@pytest.mark.parametrize("start", [1, SIZE // 2, SIZE - 1])
def test_a_client_that_has_the_beginning_gets_the_right_rest_and_the_whole_is_kept(world, start):
    status, content, headers = part(world, start, JSON)
    assert (status, content) == (206, world.body[start:])
    assert headers.get("content-range") == f"bytes {start}-{len(world.body) - 1}/{len(world.body)}"
    assert world.stored(world.archive)[0].proven
    requests = [r.headers.get("range") for r in world.upstream.requests if r.url == world.archive]
    assert requests == [None]
    assert part(world, start)[:2] == (206, world.body[start:]), "out of the store"


def test_a_resumed_download_of_wrong_bytes_is_never_complete(world):
    bad = bytearray(world.body)
    bad[-10] ^= 1
    world.upstream.route(world.archive, ranged(bytes(bad)))
    assert refused(lambda: part(world, SIZE // 2, JSON))
    assert world.stored(world.archive) == []


def test_a_client_that_has_more_than_there_is_is_told_so(world):
    assert part(world, len(world.body) + 5, JSON)[0] == 416


def test_the_rest_of_an_archive_that_nothing_is_known_of_is_passed_on(world):
    assert part(world, 10)[:2] == (206, world.body[10:])
    assert world.stored(world.archive) == []


# In step


def test_when_one_form_has_changed_the_others_are_asked_about_although_they_are_fresh(world):
    world.get(JSON, ZST, CURRENT)  # each confirms the ones before
    world.get(JSON, ZST, CURRENT)
    world.get(JSON, ZST, CURRENT)
    counts = [world.upstream.count(url) for url in (JSON, ZST, CURRENT)]
    world.get(JSON, ZST, CURRENT)
    assert [world.upstream.count(url) for url in (JSON, ZST, CURRENT)] == counts, "all fresh"
    new = changed(world.channel)
    for url, name in ((JSON, "j"), (ZST, "z")):
        world.upstream.route(url, index(packed(new) if url == ZST else new, name))

    async def work(service):
        await get(service, JSON, Cache_Control="no-cache")
        return [await get(service, url) for url in (ZST, CURRENT)]

    assert [answer[1] for answer in world.do(work)] == [packed(new), world.whole]
    assert [r.headers.get("if-none-match") for r in world.upstream.requests[-2:]] == [
        '"zst"',
        '"current"',
    ]


def test_an_index_that_is_confirmed_doubts_no_other(world):
    world.get(JSON, ZST)
    world.get(JSON)
    before = world.upstream.count(ZST)

    async def work(service):
        await get(service, JSON, Cache_Control="no-cache")
        await get(service, ZST)

    world.do(work)
    assert world.upstream.count(ZST) == before


# HEAD


def test_head_of_a_fresh_index_is_answered_from_what_get_brought(world):
    world.get(ZST)

    async def work(service):
        return await get(service, ZST, "HEAD"), await get(service, C + "repodata.json.bz2", "HEAD")

    (status, _, headers), absent = world.do(work)
    assert (status, headers.get("etag"), headers.get("content-length")) == (
        200,
        '"zst"',
        str(len(packed(world.whole))),
    )
    assert absent[0] == 404
    assert world.upstream.count(ZST) == 1


def test_an_absence_that_head_has_shown_is_told_again_offline_and_never_else(world):
    url = C + "repodata.json.bz2"

    async def head(service):
        return (await get(service, url, "HEAD"))[0]

    assert world.do(head) == 404
    assert world.do(head, offline=True) == 404
    world.upstream.gone = True
    assert world.do(head) == 502
    assert world.get(url)[0] == 502


# Failures


def test_no_absence_of_shards_is_made_up(world):
    assert world.get(SHARDS)[0] == 404
    assert world.get(SHARDS, offline=True)[0] == 404, "it was seen"
    world.upstream.gone = True
    assert world.get(SHARDS)[0] == 502
    other = SHARDS.replace("noarch", "linux-64")
    assert world.get(other, offline=True)[0] == 504
    assert world.get(other)[0] == 502


def test_an_absence_that_upstream_no_longer_confirms_is_no_answer(world):
    world.get(SHARDS)
    world.upstream.route(SHARDS, Script(503, {}, b"busy"))
    assert world.get(SHARDS)[0] == 503


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_absence_that_was_seen_leads_on_to_the_form_that_is_stored_for_a_week(world, method):
    async def ask(service):
        return (await get(service, SHARDS, method))[0]

    world.get(SHARDS, JSON)
    world.upstream.gone = True
    assert world.do(ask) == 404
    other = SHARDS.replace("noarch", "linux-64")
    assert world.get(other)[0] == 502, "it was not seen there"
    world.clock.advance(8 * 86_400)
    assert world.do(ask) == 502


FAILURES = {
    "gone": Script(fail=UpstreamTimeout("silent", url="x")),
    "busy": Script(503, {}, b"busy"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failing_channel_serves_the_stale_index_at_once_and_is_asked_again_behind(world, failure):
    world.get(JSON, ZST)
    world.clock.advance(700)
    new = changed(world.channel)
    world.upstream.route(JSON, [failure, index(new, "new")])

    async def work(service):
        first = await get(service, JSON)
        await asyncio.sleep(1)
        return first[1], (await get(service, JSON))[1]

    assert world.do(work) == (world.whole, new)
    assert world.stats.counts()["stale"] == 1


def test_a_silent_channel_serves_the_stale_index_after_a_moment_and_the_next_without_one(
    world, monkeypatch
):
    monkeypatch.setattr(responder, "ANSWER_S", 0.2)
    world.get(JSON, ZST)
    world.clock.advance(700)
    silent = asyncio.Event()

    async def never(request, body=None, *, fresh_connection=False):
        await silent.wait()

    async def work(service):
        world.upstream.send = never
        loop = asyncio.get_running_loop()
        first = await get(service, JSON)
        began = loop.time()
        others = [await get(service, ZST), await get(service, ZST, "HEAD")]
        return first, others, loop.time() - began

    first, others, seconds = world.do(work)
    assert (first[0], first[1]) == (200, world.whole)
    assert [status for status, *_ in others] == [200, 200]
    assert seconds < 0.2


# Tokens


def test_an_index_with_a_token_inside_is_served_and_teaches_but_is_not_stored(world):
    token = "tk-0123456789"
    url = f"https://channel.test/t/{token}/c/noarch/"
    base = f"/t/{token}/c/pkgs"
    body = json.dumps(world.channel.repodata("noarch") | {"info": {"base_url": base}}).encode()
    world.upstream.route(url + "repodata.json", index(body))
    archive = f"https://channel.test{base}/{world.package.filename}"
    world.upstream.route(archive, Script(200, {}, world.body))
    assert world.get(url + "repodata.json", archive) == (200, world.body)
    assert world.stored(url + "repodata.json") == []
    assert world.stored(archive)[0].proven
    assert token.encode() not in b"".join(data for data, _ in world.store._objects.values())
    assert all(token not in line.url for line in world.stats.lines)


def test_a_channel_with_a_token_in_its_path_is_kept_without_it(world):
    token = "tk-0123456789"
    for name, route in (
        ("repodata.json", index(world.whole)),
        (world.package.filename, Script(200, {}, world.body)),
    ):
        world.upstream.route(f"https://channel.test/t/{token}/c/noarch/{name}", route)
    urls = [
        f"https://channel.test/t/{token}/c/noarch/{name}"
        for name in ("repodata.json", world.package.filename)
    ]
    assert world.get(*urls) == (200, world.body)
    assert world.stored(urls[1])[0].proven
    assert token.encode() not in b"".join(data for data, _ in world.store._objects.values())


def test_what_is_noted_of_a_shard_holds_no_token_of_its_path(world, tmp_path):
    token = "tk-0123456789"
    world.catalogue = SqliteCatalogue(tmp_path / "catalogue.sqlite")
    shard = world.shards()
    urls = [
        each.replace("/c/noarch/", f"/t/{token}/c/noarch/")
        for each in (SHARDS, shard, world.archive)
    ]
    for plain, url in zip((SHARDS, shard, world.archive), urls, strict=True):
        world.upstream.route(url, world.upstream._routes[plain])
    assert world.get(*urls) == (200, world.body)
    assert world.stored(urls[2])[0].proven
    world.catalogue.close()
    assert all(token.encode() not in path.read_bytes() for path in tmp_path.iterdir())
