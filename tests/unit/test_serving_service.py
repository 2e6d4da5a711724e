"""The rules of a request's way through the cache, each by its name, on a scripted upstream."""

import asyncio
import contextlib
import os
import time
from urllib.parse import urljoin

import pytest

from entrepot.errors import TruncatedBody, UpstreamTimeout, UpstreamUnreachable
from entrepot.store.directory import DirectoryStore
from entrepot.testing.memory_store import MemoryStore
from entrepot.testing.upstream import Script, ranged
from service_world import FILE, INDEX, JSON_TYPE, World, get, page, run

BODY = os.urandom(300_000)
FLIPPED = BODY[:1000] + bytes([BODY[1000] ^ 1]) + BODY[1001:]
"""One bit is another: a fixed byte in its place would be the right one in one run of 256."""


def ask(world, *steps, **rules):
    """Carry steps out in one service: URLs, or ``(URL, fields)``; the answers."""

    async def go():
        service = world.service(**rules)
        answers = []
        for step in steps:
            url, fields = step if isinstance(step, tuple) else (step, {})
            answers.append(await get(service, url, **fields))
            world.clock.advance(1)
        await service.aclose()
        return answers

    return run(go())


def test_a_file_whose_digest_a_page_gave_is_fetched_once_though_it_came_without_any_header():
    world = World()
    world.add_project(BODY)
    ask(world, INDEX, FILE)
    world.clock.advance(10 * 365 * 86400)
    [(status, content, headers)] = ask(world, FILE)
    assert (status, content) == (200, BODY)
    assert world.upstream.count(FILE) == 1
    assert headers.get("cache-status").startswith("entrepot; hit")


def test_a_page_without_freshness_is_asked_for_again():
    world = World()
    world.add_project(BODY)
    ask(world, INDEX, INDEX)
    assert world.upstream.count(INDEX) == 2


def test_a_fresh_page_is_not_asked_for():
    world = World()
    world.add_project(BODY, page_headers={"Cache-Control": "max-age=600", "ETag": '"1"'})
    ask(world, INDEX)
    world.clock.advance(598)
    ask(world, INDEX)
    assert world.upstream.count(INDEX) == 1


def test_a_stale_page_costs_a_304_and_is_fresh_again():
    world = World()
    body = page(BODY)

    def answer(request):
        if request.headers.get("if-none-match") == '"1"':
            return Script(304, {"ETag": '"1"', "Cache-Control": "max-age=600"})
        return Script(
            200, {"ETag": '"1"', "Cache-Control": "max-age=600", "Content-Type": JSON_TYPE}, body
        )

    world.upstream.route(INDEX, answer)
    ask(world, INDEX)
    world.clock.advance(700)
    [(status, content, _)] = ask(world, INDEX)
    assert (status, content) == (200, body)
    assert world.stats.counts()["revalidated"] == 1
    ask(world, INDEX)
    assert world.upstream.count(INDEX) == 2


def test_refresh_asks_about_a_fresh_page_and_not_about_a_proven_file():
    world = World()
    world.add_project(BODY, page_headers={"Cache-Control": "max-age=600", "ETag": '"1"'})
    ask(world, INDEX, FILE)
    ask(world, INDEX, FILE, refresh=True)
    assert (world.upstream.count(INDEX), world.upstream.count(FILE)) == (2, 1)


def test_with_no_store_nothing_is_looked_up_and_nothing_kept():
    world = World()
    world.add_project(BODY, headers={"Cache-Control": "max-age=600"})
    ask(world, INDEX, FILE, FILE, no_store=True)
    assert world.upstream.count(FILE) == 2
    assert list(world.store.list("heads")) == []


class TestDigests:
    def test_a_wrong_file_is_never_stored_and_never_complete(self):
        world = World()
        world.add_project(BODY)
        world.upstream.route(FILE, Script(200, {}, FLIPPED))

        async def go():
            service = world.service()
            await get(service, INDEX)
            try:
                status, content, _ = await get(service, FILE)
            except Exception as exc:
                return exc
            finally:
                await service.aclose()
            return status, content

        outcome = run(go())
        assert isinstance(outcome, Exception) or outcome[0] == 502
        assert not [m for m in world.store.list("bodies") if m.size == len(BODY)]

    def test_a_small_wrong_file_is_a_clean_502_that_names_both_digests(self):
        world = World()
        small = b"small" * 100
        world.add_project(small)
        world.upstream.route(FILE, Script(200, {}, b"SMALL" * 100))
        [_, (status, content, _)] = ask(world, INDEX, FILE)
        assert status == 502
        assert b"sha256:" in content

    def test_one_flipped_byte_on_the_way_is_cured_by_a_second_try_on_a_new_connection(self):
        world = World()
        small = b"small" * 100
        world.add_project(small)
        world.upstream.route(FILE, [Script(200, {}, b"SMALL" * 100), Script(200, {}, small)])
        [_, (status, content, _)] = ask(world, INDEX, FILE)
        assert (status, content) == (200, small)
        assert world.upstream.fresh[-1] is True

    def test_the_last_64_kib_are_held_back_until_the_digest_is_right(self):
        world = World()
        gate = asyncio.Event()
        world.add_project(BODY)
        world.upstream.route(FILE, Script(200, {}, BODY, gate=gate))

        async def go():
            service = world.service()
            await get(service, INDEX)
            from entrepot.httpcache.messages import RequestHead
            from entrepot.serving.response import Request

            answer = await service.handle(Request(RequestHead("GET", FILE)))
            chunks, got = answer.body.chunks(), 0
            while got < len(BODY) // 2 - 65536 - 16384:
                got += len(await anext(chunks))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    while True:
                        got += len(await anext(chunks))
            assert got <= len(BODY) // 2 + 16384 - 65536
            gate.set()
            await answer.body.aclose()
            await service.aclose()

        run(go())

    def test_a_page_that_changes_its_mind_about_a_file_is_believed(self):
        world = World()
        world.add_project(BODY)
        ask(world, INDEX, FILE)
        other = BODY[::-1]
        world.add_project(other)
        [_, (status, content, _)] = ask(world, INDEX, FILE)
        assert (status, content) == (200, other)

    def test_a_file_that_came_before_its_page_is_proven_by_it_without_a_request(self):
        world = World()
        world.add_project(BODY)
        ask(world, FILE, INDEX, FILE)
        assert world.upstream.count(FILE) == 1


class TestLengths:
    def test_a_body_without_a_length_that_ends_early_is_a_failure_when_its_size_is_known(self):
        world = World()
        world.add_project(BODY)
        world.upstream.route(FILE, Script(200, {}, BODY[:1000], lengthless=True))
        [_, (status, _, _)] = ask(world, INDEX, FILE)
        assert status == 502
        assert not [m for m in world.store.list("bodies") if m.size == 1000]


class TestUpstreamFailures:
    def test_one_500_is_invisible(self):
        world = World()
        world.add_project(BODY)
        world.upstream.route(FILE, [Script(500), Script(200, {}, BODY)])
        [_, (status, content, _)] = ask(world, INDEX, FILE)
        assert (status, content) == (200, BODY)
        assert world.upstream.fresh[-2:] == [False, True]

    def test_five_500s_reach_the_client_as_a_500_after_three_tries(self):
        world = World()
        world.upstream.route(FILE, Script(500, {}, b"broken"))
        [(status, content, _)] = ask(world, FILE)
        assert (status, content) == (500, b"broken")
        assert world.upstream.count(FILE) == 3

    @pytest.mark.parametrize("with_etag", [True, False], ids=["by-range", "from-the-start"])
    def test_a_cut_connection_is_invisible(self, with_etag):
        world = World()
        world.add_project(BODY)
        route = (
            ranged(BODY, cuts=[150_000])
            if with_etag
            else [Script(200, {}, BODY, cut=150_000), Script(200, {}, BODY)]
        )
        world.upstream.route(FILE, route)
        [_, (status, content, _)] = ask(world, INDEX, FILE)
        assert (status, content) == (200, BODY)
        if with_etag:
            again = world.upstream.requests[-1].headers
            assert again.get("range") == "bytes=150000-"
            assert again.get("if-range") == '"v1"'
        assert world.upstream.fresh[-1] is True

    def test_a_file_that_changed_between_two_tries_is_not_joined(self):
        world = World()
        first, second = BODY, FLIPPED
        world.upstream.route(
            FILE,
            [Script(200, {"Content-Type": "x/y"}, first, cut=150_000), Script(200, {}, second)],
        )

        async def go():
            service = world.service()
            with pytest.raises(TruncatedBody):
                await get(service, FILE)
            await service.aclose()

        run(go())

    def test_a_stale_answer_stands_in_for_an_upstream_that_fails(self):
        world = World()
        world.add_project(BODY, page_headers={"Cache-Control": "no-cache, must-revalidate"})
        ask(world, INDEX)
        world.upstream.gone = True
        [(status, content, _)] = ask(world, INDEX)
        assert (status, content) == (200, page(BODY))
        assert world.stats.counts()["stale"] == 1

    def test_an_old_absence_does_not_stand_in(self):
        """Only a fresh 404 hands a project to the next index.

        An old one would let a stranger's project in.
        """
        world = World()
        ask(world, INDEX)
        world.upstream.gone = True
        [(status, _, _)] = ask(world, INDEX)
        assert status == 502

    @pytest.mark.parametrize(
        ("failure", "status"),
        [(UpstreamTimeout("silent"), 504), (UpstreamUnreachable("nobody listens"), 502)],
        ids=["timeout", "refused"],
    )
    def test_the_reason_is_in_the_reason_phrase(self, failure, status):
        world = World({FILE: Script(fail=failure)})

        async def go():
            service = world.service()
            from entrepot.httpcache.messages import RequestHead
            from entrepot.serving.response import Request

            answer = await service.handle(Request(RequestHead("GET", FILE)))
            await service.aclose()
            return answer.head

        head = run(go())
        assert (head.status, head.reason) == (status, failure.message)

    def test_a_403_is_passed_on_at_once_and_not_kept(self):
        world = World({FILE: Script(403, {}, b"not you")})
        [(status, content, _)] = ask(world, FILE)
        assert (status, content) == (403, b"not you")
        assert world.upstream.count(FILE) == 1
        assert list(world.store.list("heads")) == []


class TestRedirects:
    SIGNED = "https://bucket.test/x?X-Amz-Signature=abcdef0123456789"

    def test_a_redirect_to_a_signed_url_is_followed_inside_when_the_digest_is_known(self):
        world = World()
        world.add_project(BODY)
        world.upstream.route(FILE, Script(302, {"Location": self.SIGNED}))
        world.upstream.route(self.SIGNED, Script(200, {}, BODY))
        [_, (status, content, headers), again] = ask(world, INDEX, FILE, FILE)
        assert (status, content) == (200, BODY)
        assert "location" not in headers
        assert again[1] == BODY
        assert world.upstream.count(FILE) == 1

    def test_credentials_do_not_follow_to_another_host(self):
        world = World()
        world.add_project(BODY)
        world.upstream.route(FILE, Script(302, {"Location": self.SIGNED}))
        world.upstream.route(self.SIGNED, Script(200, {}, BODY))
        ask(world, INDEX, (FILE, {"authorization": "Basic c2VjcmV0"}))
        assert "authorization" not in world.upstream.requests[-1].headers

    SECRETS = {  # noqa: RUF012
        "authorization": "Basic c2VjcmV0",
        "cookie": "sid=1",
        "x_jfrog_art_api": "key",
        "private_token": "key",
        "x_some_token": "key",
        "referer": "https://index.test/t/key/",
    }

    @pytest.mark.parametrize(
        "location",
        [
            "http://files.test/elsewhere.whl",
            "http://me:pw@files.test/elsewhere.whl",
            "https://files.test:8443/elsewhere.whl",
            "https://other.test/elsewhere.whl",
            "//other.test/elsewhere.whl",
            "https://files.test.other.test/elsewhere.whl",
            "https://files.test@other.test/elsewhere.whl",
        ],
    )
    def test_nothing_secret_follows_to_another_scheme_host_or_port(self, location):
        world = World()
        world.add_project(BODY)
        world.upstream.route(FILE, Script(302, {"Location": location}))
        target = urljoin(FILE, location).replace("me:pw@", "").replace("files.test@", "")
        world.upstream.route(target, Script(200, {}, BODY))
        [_, (status, content, _)] = ask(world, INDEX, (FILE, {**self.SECRETS, "user_agent": "pip"}))
        assert (status, content) == (200, BODY)
        asked, followed = world.upstream.requests[-2:]
        assert asked.headers.names() >= {name.replace("_", "-") for name in self.SECRETS}
        assert followed.headers.names() == {"user-agent", "accept-encoding"}
        assert followed.url == target

    def test_credentials_dropped_on_the_way_do_not_come_back_with_a_redirect_to_the_first_origin(
        self,
    ):
        world = World()
        world.add_project(BODY)
        back = "https://files.test/back.whl"
        world.upstream.route(FILE, Script(302, {"Location": "http://other.test/x"}))
        world.upstream.route("http://other.test/x", Script(302, {"Location": back}))
        world.upstream.route(back, Script(200, {}, BODY))
        ask(world, INDEX, (FILE, self.SECRETS))
        assert world.upstream.requests[-1].url == back
        assert world.upstream.requests[-1].headers.names() == {"accept-encoding"}

    @pytest.mark.parametrize("location", ["/elsewhere.whl", "https://FILES.test:443/elsewhere.whl"])
    def test_credentials_follow_within_their_origin(self, location):
        world = World()
        world.add_project(BODY)
        world.upstream.route(FILE, Script(302, {"Location": location}))
        world.upstream.route(urljoin(FILE, location), Script(200, {}, BODY))
        ask(world, INDEX, (FILE, self.SECRETS))
        assert len(world.upstream.requests) == 3
        assert world.upstream.requests[-1].headers.get("authorization") == "Basic c2VjcmV0"
        assert world.upstream.requests[-1].headers.get("private-token") == "key"

    def test_a_signed_location_is_never_stored(self):
        world = World(
            {FILE: Script(302, {"Location": self.SIGNED, "Cache-Control": "max-age=600"})}
        )
        [(status, _, headers)] = ask(world, FILE)
        assert (status, headers.get("location")) == (302, self.SIGNED)
        assert list(world.store.list("heads")) == []

    def test_a_plain_redirect_is_replayed_offline(self):
        world = World({FILE: Script(302, {"Location": "https://files.test/elsewhere.whl"})})
        ask(world, FILE)
        [(status, _, headers)] = ask(world, FILE, offline=True)
        assert (status, headers.get("location")) == (302, "https://files.test/elsewhere.whl")


class TestOffline:
    @pytest.mark.parametrize(
        "control", ["no-store", "must-revalidate, max-age=0", "private, no-cache", ""]
    )
    def test_what_was_seen_is_served_whatever_it_said_of_caching(self, control):
        world = World()
        world.add_project(BODY, page_headers={"Cache-Control": control} if control else {})
        ask(world, INDEX, FILE)
        world.upstream.gone = True
        world.clock.advance(1e8)
        answers = ask(world, INDEX, FILE, offline=True)
        assert [a[0] for a in answers] == [200, 200]
        assert answers[1][1] == BODY

    def test_a_404_that_was_seen_is_replayed_and_what_was_never_asked_is_a_504(self):
        world = World()
        other = "https://index.test/simple/never/"
        ask(world, INDEX)
        asked = len(world.upstream.requests)
        [(seen, _, _), (unseen, text, _)] = ask(world, INDEX, other, offline=True)
        assert (seen, unseen) == (404, 504)
        assert b"offline" in text
        assert b"never" in text
        assert "never" in world.stats.last_line(offline=True)
        assert "offline" in world.stats.last_line(offline=True)
        assert len(world.upstream.requests) == asked

    def test_another_tools_variant_of_a_page_serves_when_the_client_can_read_it(self):
        world = World()
        world.add_project(BODY, page_headers={"Vary": "Accept, Accept-Encoding"})
        ask(world, (INDEX, {"accept": JSON_TYPE, "accept_encoding": "gzip, deflate"}))
        wide = {"accept": f"{JSON_TYPE}, text/html;q=0.1", "accept_encoding": "gzip, zstd"}
        other = {"accept": "application/xml"}
        [readable, unreadable] = ask(world, (INDEX, wide), (INDEX, other), offline=True)
        assert readable[0] == 200
        assert unreadable[0] == 504


class TestRanges:
    def test_a_range_of_a_stored_file_is_cut_out_of_it(self):
        world = World()
        world.add_project(BODY)
        [_, _, (status, content, headers)] = ask(
            world, INDEX, FILE, (FILE, {"range": "bytes=100-199"})
        )
        assert (status, content) == (206, BODY[100:200])
        assert headers.get("content-range") == f"bytes 100-199/{len(BODY)}"
        assert world.upstream.count(FILE) == 1

    def test_a_range_of_a_file_that_is_not_here_is_passed_on_and_not_stored(self):
        world = World({FILE: ranged(BODY)})
        [(status, content, _)] = ask(world, (FILE, {"range": "bytes=299000-"}))
        assert (status, content) == (206, BODY[299_000:])
        assert world.upstream.requests[0].headers.get("range") == "bytes=299000-"
        assert list(world.store.list("bodies")) == []

    def test_head_is_answered_from_a_stored_get(self):
        world = World()
        world.add_project(BODY)

        async def go():
            service = world.service()
            await get(service, INDEX)
            await get(service, FILE)
            answer = await get(service, FILE, method="HEAD")
            await service.aclose()
            return answer

        status, _, headers = run(go())
        assert (status, headers.get("content-length")) == (200, str(len(BODY)))
        assert world.upstream.count(FILE) == 1


class TestOtherMethods:
    def test_an_upload_goes_through_whole_and_makes_the_page_doubtful(self):
        world = World()
        world.add_project(BODY, page_headers={"Cache-Control": "max-age=600", "ETag": '"1"'})

        async def pieces():
            yield b"one"
            yield b"two"

        async def go():
            service = world.service()
            await get(service, INDEX)
            world.upstream.route(
                INDEX, [Script(201), Script(200, {"Content-Type": JSON_TYPE}, page(BODY))]
            )
            status, _, _ = await get(service, INDEX, method="POST", body=pieces())
            assert world.upstream.bodies[-1] == b"onetwo"
            await get(service, INDEX)
            await service.aclose()
            return status

        assert run(go()) == 201
        assert world.upstream.count(INDEX) == 3

    def test_a_get_with_content_is_passed_on_whole_and_neither_answered_from_the_store_nor_kept(
        self,
    ):
        world = World()
        world.add_project(BODY, page_headers={"Cache-Control": "max-age=600"})

        async def pieces():
            yield b"hello"

        async def go():
            service = world.service()
            await get(service, INDEX)
            status, content, _ = await get(service, INDEX, body=pieces(), content_length="5")
            assert world.upstream.bodies[-1] == b"hello"
            await get(service, FILE, body=pieces(), content_length="5")
            await service.aclose()
            return status, content

        assert run(go()) == (200, page(BODY))
        assert world.upstream.count(INDEX) == 2
        assert [meta.size for meta in world.store.list("bodies")] == [len(page(BODY))]

    def test_offline_nothing_is_sent_upstream_whatever_its_method(self):
        world = World()
        world.add_project(BODY)

        async def pieces():
            yield b"x"

        async def go():
            service = world.service(offline=True)
            found = [
                (await get(service, INDEX, method=method, body=pieces()))[:2]
                for method in ("POST", "DELETE", "GET")
            ]
            await service.aclose()
            return found

        assert [status for status, _ in run(go())] == [504] * 3
        assert world.upstream.requests == []


class TestClientsOwnCaches:
    def test_a_clients_condition_is_answered_from_the_store(self):
        world = World()
        world.add_project(BODY, headers={"ETag": '"f"'})
        [_, _, (status, content, _)] = ask(world, INDEX, FILE, (FILE, {"if_none_match": '"f"'}))
        assert (status, content) == (304, b"")

    def test_the_whole_is_fetched_though_the_client_has_it_so_that_the_next_one_has_it_too(self):
        world = World()
        world.add_project(BODY, page_headers={"ETag": '"1"', "Cache-Control": "max-age=600"})
        [(status, _, _)] = ask(world, (INDEX, {"if_none_match": '"1"'}))
        assert status == 304
        assert "if-none-match" not in world.upstream.requests[0].headers
        [(status, content, _)] = ask(world, INDEX, offline=True)
        assert (status, content) == (200, page(BODY))


def test_a_request_that_comes_while_the_answer_is_made_durable_has_it_from_the_store(
    tmp_path, monkeypatch
):
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (time.sleep(0.1), real(fd)))
    world = World(store=DirectoryStore(tmp_path / "store"))
    world.add_project(BODY, page_headers={"Cache-Control": "max-age=600"})
    answers = ask(world, INDEX, INDEX)
    assert [status for status, *_ in answers] == [200, 200]
    assert world.upstream.count(INDEX) == 1


class TestStoreTrouble:
    def test_a_store_that_cannot_be_written_fails_no_client(self, tmp_path):
        world = World(store=DirectoryStore(tmp_path / "store"))
        (tmp_path / "store/flights").write_text("no folder")
        world.add_project(BODY)
        [_, (status, content, _)] = ask(world, INDEX, FILE)
        assert (status, content) == (200, BODY)
        assert world.entries.trouble is not None

    def test_a_store_that_fills_up_in_mid_download_fails_no_client(self):
        world = World(store=MemoryStore(room=120_000))
        world.add_project(BODY)
        [_, (status, content, _)] = ask(world, INDEX, FILE)
        assert (status, content) == (200, BODY)
        assert not [m for m in world.store.list("bodies") if m.size >= 100_000]


class TestCredentials:
    SECRET = "Basic dXNlcjpzZWNyZXQ="

    def test_no_byte_of_a_credential_is_stored(self):
        world = World()
        world.add_project(
            BODY, page_headers={"Vary": "Authorization", "Set-Cookie": "session=topsecret"}
        )
        with_token = "https://index.test/t/tk-12345/simple/demo/?token=tk-67890"
        world.upstream.route(with_token, Script(200, {"Content-Type": JSON_TYPE}, page(BODY)))
        ask(world, (INDEX, {"authorization": self.SECRET}), (with_token, {}))

        stored = (
            b"".join(world.store.get(m.key).read(0, m.size) for m in world.store.list(""))
            + world.stats.last_line(offline=False).encode()
            + repr(world.stats.lines).encode()
        )
        for secret in (b"dXNlcjpzZWNyZXQ", b"topsecret", b"tk-12345", b"tk-67890"):
            assert secret not in stored

    def test_a_shared_store_keeps_nothing_that_needed_credentials(self):
        world = World()
        world.add_project(BODY, page_headers={"Cache-Control": "max-age=600"})
        ask(world, (INDEX, {"authorization": self.SECRET}), shared=True)
        assert list(world.store.list("heads")) == []
