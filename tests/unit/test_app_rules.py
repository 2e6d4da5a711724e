"""The rules for packages that stand on what is stored and known.

Digests, conditions, stale answers, credentials, ranges.
"""

import asyncio
import hashlib
import os

import pytest

from entrepot.digests import sha256_of
from entrepot.errors import DigestMismatch, EntrepotError, UpstreamTimeout
from entrepot.httpcache.messages import RequestHead
from entrepot.lockfiles.pins import Allowed, Pins
from entrepot.serving.response import Request
from entrepot.testing.upstream import Script, ranged
from service_world import FILE, INDEX, JSON_TYPE, World, get, page, run

BODY = os.urandom(300_000)
SMALL = b"small" * 100
WRONG = b"wrong" * 100
SECRET = "Basic dXNlcjpzZWNyZXQ="
FRESH = {"Cache-Control": "max-age=600", "ETag": '"1"'}


def ask(world, *steps, pins=(), **rules):
    """Each step a URL, or ``(URL, fields)``.

    The answers, an error in place of one that was cut off.
    """

    async def go():
        service = world.service(**rules)
        world.known_files._pins = Pins(pins)
        answers = []
        for step in steps:
            url, fields = step if isinstance(step, tuple) else (step, {})
            try:
                answers.append(await get(service, url, **fields))
            except EntrepotError as exc:
                answers.append(exc)
            world.clock.advance(1)
        await service.aclose()
        return answers

    return run(go())


def heads(world):
    async def go():
        return [head for url in (INDEX, FILE) for head in await world.entries.load(url)]

    return run(go())


class TestDigests:
    def test_a_url_that_was_wrong_twice_is_not_asked_again_for_ten_seconds(self):
        world = World()
        world.add_project(SMALL)
        world.upstream.route(FILE, Script(200, {}, WRONG))
        answers = ask(world, INDEX, FILE, FILE, (FILE, {"range": "bytes=100-"}))
        assert [a[0] for a in answers[1:]] == [502, 502, 502]
        assert world.upstream.count(FILE) == 2

    def test_after_ten_seconds_it_is_asked_again(self):
        world = World()
        world.add_project(SMALL)
        world.upstream.route(
            FILE, [Script(200, {}, WRONG), Script(200, {}, WRONG), Script(200, {}, SMALL)]
        )

        async def go():
            service = world.service()
            await get(service, INDEX)
            first = await get(service, FILE)
            world.clock.advance(10)
            second = await get(service, FILE)
            await service.aclose()
            return first[0], second[0]

        assert run(go()) == (502, 200)

    def test_who_was_cut_off_by_wrong_bytes_finds_the_second_tries_right_ones(self):
        world = World()
        world.add_project(BODY)
        flipped = BODY[:1000] + bytes([BODY[1000] ^ 1]) + BODY[1001:]
        gate = asyncio.Event()
        world.upstream.route(FILE, [Script(200, {}, flipped, gate=gate), Script(200, {}, BODY)])

        async def go():
            service = world.service()
            await get(service, INDEX)
            answer = await service.handle(Request(RequestHead("GET", FILE)))
            pieces = answer.body.chunks()
            await anext(pieces)  # the wrong byte is out
            gate.set()
            with pytest.raises(EntrepotError):
                async for _ in pieces:
                    pass
            await answer.body.aclose()
            again = await get(service, FILE)
            await service.aclose()
            return again[1]

        assert run(go()) == BODY
        assert world.upstream.count(FILE) == 2

    @pytest.mark.parametrize("right", [True, False])
    def test_md5_refuses_a_wrong_file_and_proves_none(self, right):
        world = World()
        world.add_project(SMALL, hashes={"md5": hashlib.md5(SMALL).hexdigest()})
        world.upstream.route(FILE, Script(200, {}, SMALL if right else WRONG))
        [_, (status, _, _)] = ask(world, INDEX, FILE)
        assert status == (200 if right else 502)
        assert [h.proven for h in heads(world) if h.url == FILE] == ([()] if right else [])

    def test_a_lock_file_that_merely_lies_about_makes_a_file_unproven_and_is_no_error(self):
        world = World()
        world.upstream.route(FILE, Script(200, {}, SMALL))
        pins = [Allowed((sha256_of(WRONG),), project="demo", version="1.0")]
        [(status, content, _)] = ask(world, FILE, pins=pins)
        assert (status, content) == (200, SMALL)
        assert [h.proven for h in heads(world)] == [()]

    def test_one_of_the_digests_of_a_lock_file_proves_a_file(self):
        world = World()
        world.upstream.route(FILE, Script(200, {}, SMALL))
        pins = [Allowed((sha256_of(WRONG), sha256_of(SMALL)), project="demo", version="1.0")]
        ask(world, FILE, FILE, pins=pins)
        assert [h.proven for h in heads(world)] == [(sha256_of(SMALL),)]
        assert world.upstream.count(FILE) == 1

    def test_a_fresh_file_that_a_page_has_contradicted_since_is_not_served(self):
        world = World()
        world.add_project(SMALL)
        world.upstream.route(FILE, [Script(200, FRESH, WRONG), Script(200, {}, SMALL)])
        first, _, second = ask(world, FILE, INDEX, FILE)
        assert (first[1], second[1]) == (WRONG, SMALL)

    def test_a_contradicted_file_does_not_stand_in_either(self):
        world = World()
        world.add_project(SMALL)
        world.upstream.route(FILE, [Script(200, {}, WRONG), Script(500)])
        assert ask(world, FILE, INDEX, FILE)[2][0] == 500
        assert ask(world, INDEX, FILE, offline=True)[1][0] == 504

    def test_a_file_is_asked_for_as_it_is_when_its_digest_is_known(self):
        world = World()
        world.add_project(SMALL)
        ask(world, INDEX, (FILE, {"accept_encoding": "gzip, br"}))
        assert world.upstream.requests[-1].headers.get("accept-encoding") == "identity"

    def test_a_part_that_nobody_asked_for_is_a_failure(self):
        world = World({FILE: Script(206, {"Content-Range": "bytes 0-9/500"}, SMALL[:10])})
        assert ask(world, FILE)[0][0] == 502

    def test_what_comes_past_a_transfer_is_checked_too(self):
        """The first of two waiters takes a refusal.

        The other one asks for itself, and gets wrong bytes.
        """
        world = World()
        world.add_project(SMALL)
        world.upstream.route(FILE, [Script(500), Script(403), Script(200, {}, WRONG)])

        async def one(service):
            try:
                return (await get(service, FILE))[0]
            except DigestMismatch:
                return "cut"

        async def go():
            service = world.service()
            await get(service, INDEX)
            outcomes = await asyncio.gather(one(service), one(service))
            await service.aclose()
            return outcomes

        assert set(run(go())) == {403, "cut"}


class TestConditions:
    def test_a_304_that_fits_nothing_makes_the_whole_be_asked_for(self):
        world = World()
        world.add_project(BODY, page_headers={"ETag": '"1"'})
        ask(world, INDEX)
        other = page(SMALL)
        world.upstream.route(
            INDEX,
            [
                Script(304, {"ETag": '"2"'}),
                Script(200, {"Content-Type": JSON_TYPE, "ETag": '"2"'}, other),
            ],
        )
        assert ask(world, INDEX)[0][:2] == (200, other)
        assert "if-none-match" not in world.upstream.requests[-1].headers

    def test_a_304_that_was_not_asked_for_is_not_passed_on(self):
        world = World()
        world.upstream.route(
            INDEX, [Script(304), Script(200, {"Content-Type": JSON_TYPE}, page(SMALL))]
        )
        assert ask(world, (INDEX, {"if_none_match": '"mine"'}))[0][:2] == (200, page(SMALL))

    def test_only_if_cached_asks_nobody(self):
        world = World()
        assert ask(world, (INDEX, {"cache_control": "only-if-cached"}))[0][0] == 504
        assert world.upstream.requests == []

    def test_head_of_what_is_not_here_is_passed_on_and_not_stored(self):
        world = World({FILE: Script(200, FRESH, SMALL)})

        async def go():
            service = world.service()
            answer = await get(service, FILE, method="HEAD")
            await service.aclose()
            return answer[0]

        assert run(go()) == 200
        assert world.upstream.requests[0].method == "HEAD"
        assert heads(world) == []


class TestStale:
    def test_stale_while_revalidate_answers_at_once_and_refreshes_behind(self):
        world = World()
        old, new = page(BODY), page(SMALL)
        headers = {
            "Content-Type": JSON_TYPE,
            "Cache-Control": "max-age=10, stale-while-revalidate=60",
        }
        gate = asyncio.Event()
        world.upstream.route(
            INDEX, [Script(200, headers, old), Script(200, headers, new, gate=gate)]
        )

        async def go():
            service = world.service()
            await get(service, INDEX)
            world.clock.advance(30)
            stale = await asyncio.wait_for(get(service, INDEX), 2)
            gate.set()
            while service._transfers._tasks or service._transfers._aside:
                await asyncio.sleep(0.01)
            fresh = await get(service, INDEX)
            await service.aclose()
            return stale[1], fresh[1]

        assert run(go()) == (old, new)
        assert world.upstream.count(INDEX) == 2

    @pytest.mark.parametrize(
        "failure",
        [
            Script(500),
            Script(429),
            Script(503, {"Retry-After": "90"}),
            Script(fail=UpstreamTimeout("x")),
        ],
    )
    def test_what_is_stored_stands_in_for_every_failure(self, failure):
        world = World()
        world.add_project(BODY)
        ask(world, INDEX)
        world.upstream.route(INDEX, failure)
        assert ask(world, INDEX)[0][:2] == (200, page(BODY))

    def test_head_gets_it_too(self):
        world = World()
        world.add_project(BODY)
        ask(world, INDEX)
        world.upstream.gone = True

        async def go():
            service = world.service()
            answer = await get(service, INDEX, method="HEAD")
            await service.aclose()
            return answer[0]

        assert run(go()) == 200

    @pytest.mark.parametrize(
        ("control", "status"), [("max-age=0", 200), ("max-age=0, must-revalidate", 502)]
    )
    def test_a_shared_cache_serves_stale_as_http_allows(self, control, status):
        world = World()
        world.add_project(BODY, page_headers={"Cache-Control": control, "ETag": '"1"'})
        ask(world, INDEX, shared=True)
        world.upstream.gone = True
        assert ask(world, INDEX, shared=True)[0][0] == status

    def test_a_page_does_not_stand_in_for_its_own_later_absence(self):
        world = World()
        world.add_project(BODY, page_headers={"Vary": "Accept"})
        ask(world, INDEX)
        world.upstream.route(INDEX, Script(404, {}, b"gone"))
        ask(world, INDEX)
        world.upstream.gone = True
        assert ask(world, INDEX)[0][0] == 502
        assert ask(world, INDEX, offline=True)[0][0] == 404

    def test_offline_an_absence_gives_way_to_a_page_that_another_tool_has_seen_since(self):
        world = World()
        ask(world, (INDEX, {"accept": "text/html"}))
        world.add_project(BODY, page_headers={"Vary": "Accept"})
        ask(world, (INDEX, {"accept": JSON_TYPE}))
        wide = {"accept": f"text/html;q=0.1, {JSON_TYPE}"}
        assert ask(world, (INDEX, wide), offline=True)[0][0] == 200


class TestNegatives:
    @pytest.mark.parametrize("status", [404, 410])
    def test_an_absence_is_kept_for_offline_and_asked_about_otherwise(self, status):
        world = World({FILE: Script(status, {}, b"no")})
        ask(world, FILE, FILE)
        assert world.upstream.count(FILE) == 2
        assert ask(world, FILE, offline=True)[0][:2] == (status, b"no")

    def test_an_absence_is_fresh_as_long_as_it_says(self):
        world = World({FILE: Script(404, {"Cache-Control": "max-age=60"}, b"no")})
        ask(world, FILE, FILE)
        assert world.upstream.count(FILE) == 1

    @pytest.mark.parametrize("status", [401, 403, 500])
    def test_a_refusal_and_a_failure_are_not_kept_whatever_they_say(self, status):
        world = World({FILE: Script(status, {"Cache-Control": "max-age=600"}, b"no")})
        assert ask(world, FILE)[0][0] == status
        assert heads(world) == []


class TestCredentials:
    def shared_world(self):
        world = World()
        world.add_project(SMALL, headers={"Cache-Control": "public, max-age=600", "ETag": '"f"'})
        page_headers = {
            "Content-Type": JSON_TYPE,
            "Cache-Control": "public, max-age=600",
            "ETag": '"1"',
        }

        def answer(request: RequestHead) -> Script:
            if request.headers.get("authorization") != SECRET:
                return Script(401, {}, b"who?")
            if request.headers.get("if-none-match") == '"1"':
                return Script(304, page_headers)
            return Script(200, page_headers, page(SMALL))

        world.upstream.route(INDEX, answer)
        return world

    def test_a_shared_store_gives_what_needed_credentials_only_to_whom_upstream_accepts(self):
        world = self.shared_world()

        mine = (INDEX, {"authorization": SECRET})
        own, nobodys, others, own_again = ask(
            world, mine, INDEX, (INDEX, {"authorization": "Basic b3RoZXI="}), mine, shared=True
        )
        assert [a[0] for a in (own, nobodys, others, own_again)] == [200, 401, 401, 200]
        assert world.upstream.count(INDEX) == 4
        assert world.stats.counts()["revalidated"] == 1

    def test_a_shared_store_takes_an_unknown_request_field_for_a_credential(self):
        world = World()
        world.upstream.route(INDEX, Script(200, {"Content-Type": JSON_TYPE, **FRESH}, page(SMALL)))
        ask(world, (INDEX, {"x_jfrog_art_api": "secret"}), INDEX, shared=True)
        assert world.upstream.count(INDEX) == 2, "nobody else is given what came for it"
        world = World()
        world.upstream.route(INDEX, Script(200, {"Content-Type": JSON_TYPE, **FRESH}, page(SMALL)))
        ask(world, (INDEX, {"user_agent": "pip/26.3"}), INDEX, shared=True)
        assert world.upstream.count(INDEX) == 1

    def test_a_shared_store_never_gives_it_offline(self):
        world = self.shared_world()
        mine = (INDEX, {"authorization": SECRET})
        ask(world, mine, shared=True)
        assert ask(world, mine, shared=True, offline=True)[0][0] == 504

    def test_a_private_store_gives_it_offline(self):
        world = self.shared_world()
        ask(world, (INDEX, {"authorization": SECRET}))
        assert ask(world, INDEX, offline=True)[0][0] == 200


class TestRangesOfGrowingBodies:
    @pytest.mark.parametrize(
        ("span", "asked"),
        [((10, 1000), 1), ((0, 70_000), 1), ((90_000, 100_000), 2), ((299_000, 300_000), 2)],
        ids=["begun", "to-the-held-end", "in-the-held-end", "tail"],
    )
    def test_a_range_of_a_growing_body_never_includes_the_held_end(self, span, asked):
        world = World(piece=10_000)
        world.add_project(BODY)
        gate, half = asyncio.Event(), asyncio.Event()
        world.upstream.route(
            FILE, [Script(200, {"ETag": '"v1"'}, BODY, gate=gate, half=half), ranged(BODY)]
        )

        async def go():
            service = world.service()
            await get(service, INDEX)
            whole = asyncio.create_task(get(service, FILE))
            await half.wait()
            part = await asyncio.wait_for(
                get(service, FILE, range=f"bytes={span[0]}-{span[1] - 1}"), 20
            )
            gate.set()
            result = await whole
            await service.aclose()
            return part, result

        part, whole = run(go())
        assert (part[0], whole[1]) == (206, BODY)
        if asked == 1:
            assert part[1] == BODY[slice(*span)]
            assert part[2].get("content-range") == f"bytes {span[0]}-{span[1] - 1}/{len(BODY)}"
        assert world.upstream.count(FILE) == asked


class TestRedirects:
    def test_what_came_from_elsewhere_unproven_is_kept_for_failure_only(self):
        world = World()
        signed = "https://bucket.test/x?X-Amz-Signature=abc"
        world.upstream.route(FILE, Script(302, {"Location": signed}))
        world.upstream.route(signed, Script(200, FRESH, SMALL))
        pins = [Allowed((sha256_of(WRONG),), project="demo", version="1.0")]
        ask(world, FILE, FILE, pins=pins)
        assert world.upstream.count(FILE) == 2
        assert ask(world, FILE, pins=pins, offline=True)[0][1] == SMALL
