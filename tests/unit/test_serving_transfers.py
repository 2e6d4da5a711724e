"""Transfers: one for all who wait, and what becomes of it when upstream or its process fails."""

import asyncio
import hashlib
import json
import os
import time
import tracemalloc
from contextlib import suppress

import pytest

from entrepot.errors import EntrepotError, TruncatedBody, UpstreamTimeout
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead
from entrepot.serving.fetch import continues, range_validator
from entrepot.serving.policy import pause_s
from entrepot.serving.response import Request
from entrepot.serving.transfers import starts_alike
from entrepot.store.directory import DirectoryStore
from entrepot.testing.memory_store import MemoryStore
from entrepot.testing.upstream import Script, ranged
from service_world import FILE, INDEX, JSON_TYPE, World, get, page, run

BODY = os.urandom(300_000)
FLIPPED = BODY[:1000] + bytes([BODY[1000] ^ 1]) + BODY[1001:]
NEVER = "https://files.test/packages/plain.bin"


@pytest.fixture(params=["memory", "directory"])
def world(request, tmp_path):
    return World(
        store=MemoryStore()
        if request.param == "memory"
        else DirectoryStore(tmp_path / "store", cap=1 << 40)
    )


def bodies(world):
    return {meta.size for meta in world.store.list("bodies")}


async def fetch(service, url=FILE, **fields):
    """``(status, content)``, or the error that cut it off."""
    try:
        status, content, _ = await get(service, url, **fields)
    except EntrepotError as exc:
        return exc
    return status, content


async def open_body(service, url=FILE, **fields):
    headers = Headers([(name.replace("_", "-"), value) for name, value in fields.items()])
    return await service.handle(Request(RequestHead("GET", url, headers)))


async def read(chunks, count):
    """At least so many bytes."""
    got = b""
    while len(got) < count:
        got += await anext(chunks)
    return got


async def ending(chunks, began=b""):
    """All that came, with what had come before; or the error that cut it off."""
    try:
        return began + b"".join([piece async for piece in chunks])
    except EntrepotError as exc:
        return exc


def steps(world, *urls, **rules):
    async def go():
        service = world.service(**rules)
        answers = [
            await fetch(
                service,
                *([url] if isinstance(url, str) else [url[0]]),
                **({} if isinstance(url, str) else url[1]),
            )
            for url in urls
        ]
        await service.aclose()
        return answers

    return run(go())


class TestSingleFlight:
    def test_one_transfer_serves_all_who_wait_from_their_first_byte_on(self, world):
        world.add_project(BODY)
        gate, half = asyncio.Event(), asyncio.Event()
        world.upstream.route(FILE, Script(200, {}, BODY, gate=gate, half=half))

        async def go():
            service = world.service()
            await get(service, INDEX)
            early = [asyncio.create_task(fetch(service)) for _ in range(10)]
            await half.wait()
            late = [asyncio.create_task(fetch(service)) for _ in range(10)]
            await asyncio.sleep(0.02)
            gate.set()
            answers = await asyncio.gather(*early, *late)
            await service.aclose()
            return answers

        assert run(go()) == [(200, BODY)] * 20
        assert world.upstream.count(FILE) == 1

    def test_a_waiter_that_leaves_disturbs_nobody(self, world):
        world.add_project(BODY)
        gate = asyncio.Event()
        world.upstream.route(FILE, Script(200, {}, BODY, gate=gate))

        async def go():
            service = world.service()
            await get(service, INDEX)
            leaving = await open_body(service)
            staying = asyncio.create_task(fetch(service))
            await asyncio.sleep(0.02)
            await read(leaving.body.chunks(), 1000)
            await leaving.body.aclose()
            gate.set()
            answer = await staying
            await service.aclose()
            return answer

        assert run(go()) == (200, BODY)
        assert world.upstream.count(FILE) == 1

    def test_a_transfer_whose_last_waiter_leaves_stops_and_is_resumed_by_range_and_hashed_again(
        self, world
    ):
        world.add_project(BODY)
        gate = asyncio.Event()
        world.upstream.route(FILE, [Script(200, {"ETag": '"v1"'}, BODY, gate=gate), ranged(BODY)])

        async def go():
            service = world.service()
            await get(service, INDEX)
            answer = await open_body(service)
            await read(answer.body.chunks(), 60_000)
            await answer.body.aclose()
            await asyncio.sleep(0.05)
            await service.aclose()
            again = world.service()
            await get(again, INDEX)
            result = await fetch(again)
            await again.aclose()
            return result

        assert run(go()) == (200, BODY)
        headers = world.upstream.requests[-1].headers
        assert int(headers.get("range").removeprefix("bytes=").rstrip("-")) >= 60_000
        assert headers.get("if-range") == '"v1"'

    def test_another_process_follows_and_asks_nothing(self, world):
        world.add_project(BODY)
        gate, half = asyncio.Event(), asyncio.Event()
        world.upstream.route(FILE, Script(200, {}, BODY, gate=gate, half=half))

        async def go():
            first, second = world.service(), world.service()
            for service in (first, second):
                await get(service, INDEX)
            fetcher = asyncio.create_task(fetch(first))
            await half.wait()
            following = await open_body(second)
            chunks = following.body.chunks()
            began = await read(chunks, 50_000)
            gate.set()
            rest = b"".join([piece async for piece in chunks])
            await following.body.aclose()
            result = await fetcher
            await first.aclose()
            await second.aclose()
            return result, began + rest

        assert run(go()) == ((200, BODY), BODY)
        assert world.upstream.count(FILE) == 1

    def test_when_the_leader_goes_a_follower_takes_over_where_it_was(self, world):
        world.add_project(BODY)
        gate = asyncio.Event()
        world.upstream.route(FILE, [Script(200, {"ETag": '"v1"'}, BODY, gate=gate), ranged(BODY)])

        async def go():
            first, second = world.service(), world.service()
            for service in (first, second):
                await get(service, INDEX)
            leading = await open_body(first)
            await read(leading.body.chunks(), 50_000)
            following = await open_body(second)
            chunks = following.body.chunks()
            began = await read(chunks, 50_000)
            await leading.body.aclose()
            rest = b"".join([piece async for piece in chunks])
            await following.body.aclose()
            await first.aclose()
            await second.aclose()
            return began + rest

        assert run(go()) == BODY
        assert world.upstream.requests[-1].headers.get("range")

    @pytest.mark.parametrize("begins", ["before", "after"])
    def test_a_follower_never_joins_bytes_of_two_beginnings(self, world, begins):
        """The leader finds its bytes wrong and begins again.

        Who follows has some of the old ones.
        """
        world.add_project(BODY)
        gate, second_gate, second_half = asyncio.Event(), asyncio.Event(), asyncio.Event()
        world.upstream.route(
            FILE,
            [
                Script(200, {}, FLIPPED, gate=gate),
                Script(200, {}, BODY, gate=second_gate, half=second_half),
            ],
        )

        async def go():
            first, second = world.service(), world.service()
            for service in (first, second):
                await get(service, INDEX)
            leading = await open_body(first)
            led = leading.body.chunks()
            await read(led, 50_000)
            following = await open_body(second)
            chunks = following.body.chunks()
            began = await read(chunks, 50_000) if begins == "before" else b""
            gate.set()
            await second_half.wait()  # the leader has begun again
            followed = await ending(chunks, began)
            late = await open_body(second)
            second_gate.set()
            outcomes = await ending(led), followed, await ending(late.body.chunks())
            for answer in (leading, following, late):
                await answer.body.aclose()
            await first.aclose()
            await second.aclose()
            return outcomes

        led, followed, late = run(go())
        assert isinstance(led, TruncatedBody)
        assert isinstance(followed, TruncatedBody)
        assert late == BODY

    def test_a_body_is_joined_only_to_bytes_that_it_begins_with(self, world):
        growing = world.store.open_partial("one")
        assert growing.try_lock()
        growing.write(BODY[:1000])

        for key, data in (("x/same", BODY), ("x/other", FLIPPED[1:]), ("x/short", BODY[:999])):
            world.store.put(key, data)
        keys = ("x/same", "x/other", "x/short")
        alike = [starts_alike(growing, world.store.get(key)) for key in keys]
        assert alike == [True, False, False]
        growing.close()

    @pytest.mark.parametrize(
        ("field", "transfers"),
        [("authorization", 2), ("cookie", 2), ("x_jfrog_art_api", 2), ("user_agent", 1)],
    )
    def test_requests_with_other_credentials_have_transfers_of_their_own(
        self, world, field, transfers
    ):
        """What is not known to be harmless may be a credential."""
        gate = asyncio.Event()
        answer = Script(200, {"Content-Type": JSON_TYPE}, page(BODY) + b" " * (2 << 20), gate=gate)
        world.upstream.route(INDEX, answer)

        async def go():
            service = world.service()
            asking = [get(service, INDEX, **{field: f"of {user}"}) for user in "aab"]
            asked = asyncio.gather(*asking)
            with suppress(TimeoutError):
                async with asyncio.timeout(10):
                    while world.upstream.count(INDEX) < transfers:
                        await asyncio.sleep(0.01)
            gate.set()
            await asked
            await service.aclose()

        run(go())
        assert world.upstream.count(INDEX) == transfers

    def test_memory_grows_neither_with_the_body_nor_with_the_waiters(self, tmp_path):
        body = os.urandom(1 << 20) * 50
        world = World(store=DirectoryStore(tmp_path / "store", cap=1 << 40), piece=1 << 16)
        world.add_project(body)
        digest = hashlib.sha256(body).hexdigest()

        async def drain(service):
            answer = await open_body(service)
            hasher = hashlib.sha256()
            async for piece in answer.body.chunks():
                hasher.update(piece)
                await asyncio.sleep(0)
            await answer.body.aclose()
            return hasher.hexdigest()

        async def go():
            service = world.service()
            await get(service, INDEX)
            tracemalloc.start()
            digests = await asyncio.gather(*(drain(service) for _ in range(20)))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            await service.aclose()
            return digests, peak

        digests, peak = run(go())
        assert set(digests) == {digest}
        assert world.upstream.count(FILE) == 1
        assert peak < 20 << 20


class TestRetries:
    def test_retry_after_is_waited_for_when_it_is_short(self, world):
        world.upstream.route(NEVER, [Script(503, {"Retry-After": "1"}), Script(200, {}, b"now")])
        begin = time.monotonic()
        assert steps(world, NEVER) == [(200, b"now")]
        assert time.monotonic() - begin >= 1

    def test_a_long_retry_after_is_the_clients_to_wait_for(self, world):
        world.upstream.route(NEVER, Script(429, {"Retry-After": "60"}, b"slower"))

        async def go():
            service = world.service()
            answer = await get(service, NEVER)
            await service.aclose()
            return answer

        status, content, headers = run(go())
        assert (status, content, headers.get("retry-after")) == (429, b"slower", "60")
        assert world.upstream.count(NEVER) == 1

    @pytest.mark.parametrize(
        ("status", "value", "pause"),
        [
            (503, "2", 2),
            (503, "0", 0.1),
            (429, "Fri, 15 Jan 2027 08:00:03 GMT", 3),
            (429, "Fri, 15 Jan 2027 08:01:00 GMT", None),
            (503, "soon", 0.1),
            (500, "60", 0.1),
            (503, "9" * 400, None),
        ],
    )
    def test_what_upstream_says_of_coming_again(self, status, value, pause):
        assert (
            pause_s(0, ResponseHead(status, Headers([("Retry-After", value)])), 1_800_000_000)
            == pause
        )

    def test_silence_is_borne_twice(self, world):
        world.upstream.route(NEVER, Script(fail=UpstreamTimeout("silent")))
        [(status, _)] = steps(world, NEVER)
        assert status == 504
        assert world.upstream.count(NEVER) == 2

    def test_a_try_that_brings_more_does_not_count(self, world):
        world.add_project(BODY)
        world.upstream.route(FILE, ranged(BODY, cuts=[50_000, 100_000, 150_000, 200_000, 250_000]))
        assert steps(world, INDEX, FILE)[1] == (200, BODY)
        assert world.upstream.count(FILE) == 6

    def test_many_waiters_ask_a_failing_upstream_no_oftener_than_one(self, world):
        world.upstream.route(NEVER, Script(500, {}, b"broken"))

        async def go():
            service = world.service()
            answers = await asyncio.gather(*(fetch(service, NEVER) for _ in range(10)))
            await service.aclose()
            return answers

        assert {status for status, _ in run(go())} == {500}
        assert world.upstream.count(NEVER) == 3

    @pytest.mark.parametrize("method", ["HEAD", "GET"])
    def test_what_is_passed_on_is_tried_again_before_its_body(self, world, method):
        world.upstream.route(NEVER, [Script(500), Script(200, {}, b"x")])
        fields = {"range": "bytes=0-0"} if method == "GET" else {}

        async def go():
            service = world.service()
            status, _, _ = await get(service, NEVER, method=method, **fields)
            await service.aclose()
            return status

        assert run(go()) == 200
        assert world.upstream.fresh == [False, True]


class TestResuming:
    """The first answer is cut after 150,000 bytes; then comes something that is no fitting rest."""

    @staticmethod
    def after(world, *scripts, digest=True):
        if digest:
            world.add_project(BODY)
        world.upstream.route(FILE, [Script(200, {"ETag": '"v1"'}, BODY, cut=150_000), *scripts])
        return steps(world, INDEX, FILE)[1]

    @pytest.mark.parametrize(
        "answer",
        [
            Script(206, {"Content-Range": "bytes 149999-299999/300000"}, BODY[149_999:]),
            Script(206, {"Content-Range": "bytes 150000-299999/300001"}, BODY[150_000:]),
            Script(
                206,
                {"Content-Range": "bytes 150000-299999/300000", "ETag": '"v2"'},
                FLIPPED[150_000:],
            ),
            Script(206, {}, BODY[150_000:]),
            Script(416, {"Content-Range": "bytes */10"}),
            Script(404, {}, b"gone"),
        ],
        ids=["other-start", "other-size", "other-tag", "no-span", "416", "404"],
    )
    @pytest.mark.parametrize("digest", [True, False], ids=["digest", "no-digest"])
    def test_what_does_not_fit_makes_the_next_try_ask_for_the_whole(self, world, answer, digest):
        assert self.after(world, answer, Script(200, {"ETag": '"v1"'}, BODY), digest=digest) == (
            200,
            BODY,
        )
        assert "range" not in world.upstream.requests[-1].headers

    def test_a_whole_that_begins_otherwise_ends_the_connection(self, world):
        assert isinstance(self.after(world, Script(200, {}, FLIPPED), digest=False), TruncatedBody)

    def test_a_5xx_for_the_rest_keeps_what_there_is(self, world):
        outcome = self.after(world, Script(500))
        assert isinstance(outcome, TruncatedBody)
        world.upstream.route(FILE, ranged(BODY))
        assert steps(world, INDEX, FILE)[1] == (200, BODY)
        assert world.upstream.requests[-1].headers.get("range") == "bytes=150000-"

    def test_what_an_earlier_run_left_does_not_hide_that_the_file_is_gone(self, world):
        self.after(world, Script(500))
        world.upstream.route(FILE, Script(404, {}, b"gone"))
        assert steps(world, FILE) == [(404, b"gone")]

    def test_a_partial_without_digest_or_validator_is_not_kept(self, world):
        world.upstream.route(FILE, Script(200, {}, BODY, cut=150_000))
        assert isinstance(steps(world, FILE)[0], TruncatedBody)
        world.upstream.route(FILE, Script(200, {}, FLIPPED))
        assert steps(world, FILE) == [(200, FLIPPED)]
        assert "range" not in world.upstream.requests[-1].headers

    @pytest.mark.parametrize(
        ("fields", "validator"),
        [
            ({"ETag": '"a"', "Last-Modified": "Fri, 15 Jan 2027 08:00:00 GMT"}, '"a"'),
            ({"ETag": 'W/"a"'}, None),
            (
                {
                    "Last-Modified": "Fri, 15 Jan 2027 08:00:00 GMT",
                    "Date": "Fri, 15 Jan 2027 08:00:01 GMT",
                },
                "Fri, 15 Jan 2027 08:00:00 GMT",
            ),
            (
                {
                    "Last-Modified": "Fri, 15 Jan 2027 08:00:00 GMT",
                    "Date": "Fri, 15 Jan 2027 08:00:00 GMT",
                },
                None,
            ),
            ({"Last-Modified": "Fri, 15 Jan 2027 08:00:00 GMT"}, None),
        ],
    )
    def test_only_a_strong_validator_goes_into_if_range(self, fields, validator):
        assert range_validator(ResponseHead(200, Headers(fields.items()))) == validator

    def test_a_rest_of_the_same_tag_continues(self):
        began, rest = (
            ResponseHead(200, Headers([("ETag", '"a"')])),
            [("ETag", '"a"'), ("Content-Range", "bytes 5-9/10")],
        )
        assert continues(ResponseHead(206, Headers(rest)), 5, 10, began)


class TestLengths:
    def test_a_length_that_the_index_contradicts_is_not_passed_on(self, world):
        world.add_project(BODY)
        world.upstream.route(FILE, [Script(200, {"ETag": '"v1"'}, BODY[:200_000]), ranged(BODY)])

        async def go():
            service = world.service()
            await get(service, INDEX)
            answer = await open_body(service)
            content = b"".join([piece async for piece in answer.body.chunks()])
            await answer.body.aclose()
            await service.aclose()
            return answer.body.length, content

        assert run(go()) == (None, BODY)

    def test_an_index_that_errs_about_the_size_alone_breaks_nothing(self, world):
        for wrong in (len(BODY) - 7, len(BODY) + 7):
            world.upstream.route(
                INDEX, Script(200, {"Content-Type": JSON_TYPE}, resized(page(BODY), wrong))
            )
            world.upstream.route(FILE, Script(200, {}, BODY))
            assert steps(world, INDEX, FILE)[1] == (200, BODY)

    def test_without_a_digest_a_body_of_another_size_than_known_is_never_an_entry(self, world):
        for wrong in (len(BODY) - 7, len(BODY) + 7):
            world.upstream.route(
                INDEX,
                Script(200, {"Content-Type": JSON_TYPE}, resized(page(BODY), wrong, hashes={})),
            )
            world.upstream.route(FILE, Script(200, {}, BODY, lengthless=True))
            outcome = steps(world, INDEX, FILE)[1]
            assert isinstance(outcome, EntrepotError) or outcome[0] == 502
        assert len(BODY) not in bodies(world)

    def test_an_absence_without_a_length_is_not_measured_by_the_files_size(self, world):
        world.add_project(BODY)
        world.upstream.route(FILE, Script(404, {}, b"gone", lengthless=True))
        assert steps(world, INDEX, FILE)[1] == (404, b"gone")

    def test_a_chunked_body_that_is_cut_for_good_is_a_failure_and_never_an_entry(self, world):
        world.upstream.route(NEVER, Script(200, {}, BODY, cut=1000, lengthless=True))
        outcome = steps(world, NEVER)[0]
        assert isinstance(outcome, TruncatedBody)
        assert bodies(world) == set()


def resized(raw, size, **fields):
    data = json.loads(raw)
    data["files"][0] |= {"size": size, **fields}
    return json.dumps(data).encode()
