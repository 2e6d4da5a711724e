"""Which witnesses count.

What pages, indexes, locks and ``--hash`` say of a file, in the runs whose clients go by them.
"""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from entrepot.digests import Digest, Hasher, sha256_of
from entrepot.errors import EntrepotError
from entrepot.httpcache.messages import Headers, ResponseHead
from entrepot.links import Link
from entrepot.lockfiles import Known
from entrepot.lockfiles.read import read_lock
from entrepot.serving.known_files import Said, expectation_of
from entrepot.store.catalogue import SqliteCatalogue
from entrepot.store.directory import DirectoryStore
from entrepot.stored import cache_key
from entrepot.testing.upstream import Script
from entrepot.tools.pip.reuse import ReusableResponse
from service_world import FILE, INDEX, JSON_TYPE, World, get, page, run

RIGHT = os.urandom(90_000)
WRONG = RIGHT[:-1] + bytes([RIGHT[-1] ^ 1])
NEWER = RIGHT[::-1]
OTHER = "https://other.test/simple/demo/"
FRESH = {"Cache-Control": "max-age=600"}


def named(body, **fields):
    """A page that names the file with the digest of this body; ``hashes={}``: with none."""
    return Script(200, {"Content-Type": JSON_TYPE, **FRESH}, page(body, **fields))


def asked(world, *steps, known=(), **rules):
    """One run, each step a URL or ``(URL, fields)``.

    Status and content of each answer, or the error that cut it off.
    """

    async def beforehand():
        return known

    async def go():
        service = world.service(**rules)
        world.known_files.learn_beforehand(beforehand())
        answers = []
        for step in steps:
            url, fields = step if isinstance(step, tuple) else (step, {})
            try:
                answers.append((await get(service, url, **fields))[:2])
            except EntrepotError as exc:
                answers.append(exc)
            world.clock.advance(1)
        await service.aclose()
        return answers

    return run(go())


def is_refused(answer):
    return isinstance(answer, EntrepotError) or answer[0] in {502, 504}


def stored(world, url=FILE):
    return run(world.entries.load(url))


@pytest.fixture
def world():
    """The file's own index names it rightly, another index wrongly."""
    world = World()
    world.upstream.route(INDEX, named(RIGHT))
    world.upstream.route(OTHER, named(WRONG))
    world.upstream.route(FILE, Script(200, {}, RIGHT))
    return world


class TestOtherIndexes:
    @pytest.mark.parametrize(
        "rules",
        [{}, {"refresh": True}, {"prefetch": True}],
        ids=lambda rules: next(iter(rules), "plain"),
    )
    def test_a_digest_of_another_index_in_an_earlier_run_refuses_nothing(self, world, rules):
        """Both pages were asked for together, so that the next run asks for the other one ahead."""
        both = [(url, {"accept": JSON_TYPE}) for url in (INDEX, OTHER)]
        asked(world, *both, prefetch=True)
        assert asked(world, both[0], FILE, **rules)[1] == (200, RIGHT)
        assert stored(world)[0].proven == (sha256_of(RIGHT),)

    def test_a_page_that_was_asked_ahead_is_no_witness_until_a_client_is_given_it(self, world):
        elsewhere = OTHER.replace("demo", "else")
        world.upstream.route(
            elsewhere,
            Script(200, {"Content-Type": JSON_TYPE, **FRESH}, page(NEWER, url=f"{FILE}.x")),
        )
        together = [(elsewhere, {"accept": JSON_TYPE}), (OTHER, {"accept": JSON_TYPE})]
        asked(world, *together, prefetch=True)
        world.clock.advance(700)

        async def go():
            service = world.service(prefetch=True)
            await get(service, elsewhere, accept=JSON_TYPE)
            async with asyncio.timeout(20):
                while world.stats.prefetch.bytes == 0:
                    await asyncio.sleep(0.01)
            await world.known_files.settled()
            first = await get(service, FILE)
            await get(service, OTHER, accept=JSON_TYPE)
            expectation = await world.known_files.expect(FILE)
            await service.aclose()
            return first[:2], expectation.named

        assert run(go()) == ((200, RIGHT), ((sha256_of(WRONG),),))
        assert world.upstream.count(OTHER) == 2

    def test_nor_does_it_drop_what_is_stored(self, world):
        asked(world, INDEX, FILE)
        asked(world, OTHER)
        world.upstream.gone = True
        assert asked(world, FILE) == [(200, RIGHT)]
        assert asked(world, INDEX, FILE, offline=True)[1] == (200, RIGHT)

    def test_a_run_that_reads_both_takes_what_either_names_and_is_told(self, world):
        assert asked(world, OTHER, INDEX, FILE)[2] == (200, RIGHT)
        assert world.stats.warnings == [
            f"{OTHER} and {INDEX} name different digests for {FILE.rpartition('/')[2]}"
        ]
        assert is_refused(asked(world, OTHER, FILE)[1]) is True

    def test_what_neither_names_is_refused(self, world):
        world.upstream.route(FILE, Script(200, {}, NEWER))
        assert is_refused(asked(world, OTHER, INDEX, FILE)[2])
        assert stored(world) == []

    def test_another_index_that_names_no_digest_weakens_nothing(self, world):
        world.upstream.route(OTHER, named(WRONG, hashes={}))
        world.upstream.route(FILE, Script(200, {}, WRONG))
        assert is_refused(asked(world, INDEX, OTHER, FILE)[2])

    def test_md5_counts_only_where_nobody_names_sha256(self, world):
        world.upstream.route(OTHER, named(WRONG, hashes={"md5": hashlib.md5(WRONG).hexdigest()}))
        world.upstream.route(FILE, Script(200, {}, WRONG))
        assert is_refused(asked(world, INDEX, OTHER, FILE)[2])
        world.upstream.route(
            INDEX,
            named(RIGHT, hashes={"md5": "0" * 32, "sha256": hashlib.sha256(RIGHT).hexdigest()}),
        )
        world.upstream.route(FILE, Script(200, {}, RIGHT))
        world.clock.advance(700)
        assert asked(world, INDEX, FILE)[1] == (200, RIGHT)

    def test_another_index_in_an_earlier_run_proves_nothing(self, world):
        asked(world, OTHER)
        world.upstream.route(FILE, Script(200, {}, WRONG))
        asked(world, FILE)
        assert stored(world)[0].proven == ()

    @pytest.mark.parametrize("size", [10, 10_000_000])
    def test_a_size_that_another_index_names_refuses_nothing(self, world, size):
        world.upstream.route(OTHER, named(RIGHT, hashes={}, size=size))
        for own in (named(RIGHT), named(RIGHT, hashes={}), named(RIGHT, hashes={}, size=None)):
            world.upstream.route(INDEX, own)
            world.clock.advance(700)
            assert asked(world, OTHER, INDEX, FILE)[2] == (200, RIGHT)

    def test_a_page_that_does_not_name_the_file_any_more_has_not_named_it(self, world):
        world.upstream.route(INDEX, named(RIGHT, hashes={}))
        asked(world, OTHER)
        world.upstream.route(OTHER, named(WRONG, url=f"{FILE}.other"))
        world.clock.advance(700)
        assert asked(world, OTHER, INDEX, FILE)[2] == (200, RIGHT)

    def test_a_body_is_not_refused_while_the_page_that_names_it_is_being_read(self, world):
        gate = asyncio.Event()

        async def go():
            service = world.service()
            await get(service, OTHER)
            read = world.known_files.read

            def read_late(url, state, reader):
                async def slow():
                    await gate.wait()
                    return await reader()

                read(url, state, slow)

            world.known_files.read = read_late
            await get(service, INDEX)
            asyncio.get_running_loop().call_later(0.2, gate.set)
            answer = await get(service, FILE)
            await service.aclose()
            return answer[:2]

        assert run(go()) == (200, RIGHT)
        assert world.upstream.count(FILE) == 1


class TestOwnPages:
    """A page is a witness of the run that was given it, from wherever it came."""

    @pytest.mark.parametrize("way", ["fresh", "304", "offline", "fails"])
    def test_a_page_out_of_the_store_binds(self, world, way):
        tag = {"Content-Type": JSON_TYPE, "ETag": '"1"'} | (FRESH if way == "fresh" else {})
        body = page(RIGHT)
        world.upstream.route(
            INDEX,
            lambda request: (
                Script(304, tag) if request.headers.get("if-none-match") else Script(200, tag, body)
            ),
        )
        world.upstream.route(FILE, Script(200, {"Cache-Control": "max-age=9999"}, WRONG))
        asked(world, FILE)  # before anything was known of it
        asked(world, INDEX)
        if way == "fails":
            world.upstream.route(INDEX, Script(500))
        assert stored(world)[0].proven == ()
        page_, file = asked(world, INDEX, FILE, offline=way == "offline")
        assert page_[1] == body
        assert is_refused(file)

    def test_a_page_that_another_process_has_fetched_binds(self, world, tmp_path):
        gate, half = asyncio.Event(), asyncio.Event()
        store, notes = tmp_path / "s", tmp_path / "c"
        one, two = (
            World(store=DirectoryStore(store, cap=10**9), catalogue=SqliteCatalogue(notes))
            for _ in "ab"
        )
        one.upstream.route(
            INDEX,
            Script(
                200,
                {"Content-Type": JSON_TYPE, **FRESH},
                page(RIGHT) + b" " * 50_000,
                gate=gate,
                half=half,
            ),
        )
        two.upstream.route(FILE, Script(200, {}, WRONG))

        async def go():
            fetcher, follower = one.service(), two.service()
            leading = asyncio.create_task(get(fetcher, INDEX))
            await half.wait()
            following = asyncio.create_task(get(follower, INDEX))
            await asyncio.sleep(0.2)
            gate.set()
            pages = [await leading, await following]
            try:
                answer = (await get(follower, FILE))[:2]
            except EntrepotError as exc:
                answer = exc
            for service in (fetcher, follower):
                await service.aclose()
            return pages, answer

        pages, answer = run(go())
        assert pages[0][1] == pages[1][1]
        assert two.upstream.count(INDEX) == 0
        assert is_refused(answer)

    def test_a_page_that_is_fetched_while_another_run_reads_a_later_one_still_binds(self, world):
        async def go():
            first, known_files = world.service(), None
            await get(first, INDEX)
            known_files = world.known_files
            world.clock.advance(700)
            await get(second := world.service(), INDEX)
            found = await known_files.expect(FILE)
            for service in (first, second):
                await service.aclose()
            return found.named

        later = named(RIGHT, requires_python=">=3")
        world.upstream.route(INDEX, [named(RIGHT), later])
        assert run(go()) == ((sha256_of(RIGHT),),)

    def test_a_run_without_a_page_keeps_what_was_proven_immutable(self, world):
        asked(world, INDEX, FILE)
        world.clock.advance(1e8)
        assert asked(world, FILE) == [(200, RIGHT)]
        assert world.upstream.count(FILE) == 1

    def test_a_head_request_makes_no_witness(self, world):
        asked(world, OTHER)

        async def go():
            service = world.service()
            await get(service, OTHER, method="HEAD")
            answer = await get(service, FILE)
            await service.aclose()
            return answer[:2]

        assert run(go()) == (200, RIGHT)


class TestStoredBodies:
    """What was stored before a digest was known is checked by it, whatever the digest's algorithm."""

    @pytest.mark.parametrize("algorithm", ["sha512", "md5", "sha256"])
    @pytest.mark.parametrize("offline", [True, False])
    @pytest.mark.parametrize("body", [RIGHT, WRONG], ids=["right", "wrong"])
    def test_an_unproven_body_is_hashed(self, world, algorithm, offline, body):
        world.upstream.route(
            INDEX, named(RIGHT, hashes={algorithm: hashlib.new(algorithm, RIGHT).hexdigest()})
        )
        world.upstream.route(FILE, Script(200, {"Cache-Control": "max-age=9999"}, body))
        asked(world, FILE, INDEX)
        world.upstream.route(FILE, Script(200, {}, RIGHT))
        answer = asked(world, INDEX, FILE, offline=offline)[1]
        if offline and body == WRONG:
            assert answer[0] == 504
            assert (
                b"entrepot's cached copy of demo-1.0-py3-none-any.whl does not match the digest"
                in answer[1]
            )
            assert "does not match the digest that its index page names" in world.stats.last_line(
                offline=True
            )
        else:
            assert answer == (200, RIGHT)
        assert world.upstream.count(FILE) == (2 if body == WRONG and not offline else 1)
        [head] = stored(world)
        assert bool(head.proven) == (algorithm != "md5" and (body == RIGHT or not offline))

    def test_a_body_proven_by_one_digest_is_checked_by_another(self, world):
        """Else what another index once named wrongly would be served for ever."""
        world.upstream.route(FILE, Script(200, {}, WRONG))
        asked(world, OTHER, FILE)
        assert stored(world)[0].proven
        world.upstream.route(
            INDEX, named(RIGHT, hashes={"sha512": hashlib.sha512(RIGHT).hexdigest()})
        )
        world.upstream.route(FILE, Script(200, {}, RIGHT))
        assert asked(world, INDEX, FILE)[1] == (200, RIGHT)


class TestDonors:
    """Other tools' caches; a wrong body there is refused, offline too, and never kept."""

    def donor(self, tmp_path: Path, body: bytes, url: str = FILE, **fields):
        path = tmp_path / "donor.body"
        path.write_bytes(body)
        found = ReusableResponse(
            path,
            0,
            len(body),
            ResponseHead(200, Headers(fields)),
            (),
            0.0,
            None,
            credentialed=False,
        )
        return lambda asked: found if asked == url else None

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512", "md5"])
    @pytest.mark.parametrize(
        "broken", [WRONG, bytes(len(RIGHT)), RIGHT[:-5]], ids=["byte", "zeroed", "cut"]
    )
    def test_a_wrong_body_is_a_504_with_its_reason(self, world, tmp_path, broken, algorithm):
        world.upstream.route(
            INDEX, named(RIGHT, hashes={algorithm: hashlib.new(algorithm, RIGHT).hexdigest()})
        )
        asked(world, INDEX)
        [_, (status, text)] = asked(
            world, INDEX, FILE, offline=True, donors=[self.donor(tmp_path, broken)]
        )
        reason = "pip's cached copy of demo-1.0-py3-none-any.whl does not match the digest that its index page names"
        assert (status, text.decode().strip()) == (504, f"entrepot is offline, and {reason}")
        assert world.stats.last_line(offline=True).endswith(reason)
        assert stored(world) == []
        assert not [meta for meta in world.store.list("bodies") if meta.size == len(broken)]

    def test_the_page_may_come_from_the_donor_too(self, world, tmp_path):
        body = page(RIGHT)
        pages = self.donor(tmp_path, body, INDEX, **{"Content-Type": JSON_TYPE})
        (tmp_path / "file").mkdir()
        files = self.donor(tmp_path / "file", WRONG)
        donors = [lambda url: pages(url) or files(url)]
        page_, file = asked(world, INDEX, FILE, offline=True, donors=donors)
        assert (page_, file[0]) == ((200, body), 504)

    @pytest.mark.parametrize("body", [RIGHT, WRONG], ids=["right", "wrong"])
    def test_a_hash_on_the_command_line_names_it_as_well(self, world, tmp_path, body):
        known = [
            read_lock(
                f"demo==1.0 --hash=sha256:{hashlib.sha256(RIGHT).hexdigest()}",
                name="requirements.txt",
            )
        ]
        [(status, text)] = asked(
            world, FILE, known=known, offline=True, donors=[self.donor(tmp_path, body)]
        )
        assert status == (200 if body == RIGHT else 504)
        assert body == RIGHT or b"does not match the digest that --hash names" in text
        assert bool(stored(world)) == (body == RIGHT)

    def test_a_body_of_which_nothing_is_known_serves_offline_as_before(self, world, tmp_path):
        assert asked(world, FILE, offline=True, donors=[self.donor(tmp_path, WRONG)]) == [
            (200, WRONG)
        ]


class TestLocks:
    def test_a_hash_binds_as_a_page_does(self, world):
        text = f"demo==1.0 --hash=sha256:{hashlib.sha256(WRONG).hexdigest()}"
        known = [read_lock(text, name="requirements.txt")]
        assert is_refused(asked(world, FILE, known=known)[0])
        assert asked(world, INDEX, FILE, known=known)[1] == (200, RIGHT)
        assert world.stats.warnings == [
            f"--hash and {INDEX} name different digests for {FILE.rpartition('/')[2]}"
        ]

    def test_two_lock_files_that_differ_refuse_neither(self, world):
        known = [
            Known(links=(Link(FILE, (sha256_of(body),), source=name),))
            for body, name in ((WRONG, "a.lock"), (RIGHT, "b.lock"))
        ]
        assert asked(world, FILE, known=known) == [(200, RIGHT)]


class TestExpectations:
    A, B = (Digest("sha256", digit * 64) for digit in "ab")

    def test_a_body_must_have_all_that_one_witness_names(self):
        right = [sha256_of(RIGHT), Digest("sha512", hashlib.sha512(RIGHT).hexdigest())]
        wanted = expectation_of(
            [
                Said("x", "x", None, ((self.A, right[1]),)),
                Said("y", "y", None, ((right[0], self.B),)),
            ]
        )
        hasher = wanted.hasher()
        hasher.feed(RIGHT)
        assert wanted.mismatch(hasher) is not None
        wanted = expectation_of(
            [Said("x", "x", None, ((self.A,),)), Said("y", "y", None, (tuple(right),))]
        )
        hasher = wanted.hasher()
        hasher.feed(RIGHT)
        assert wanted.mismatch(hasher) is None
        assert set(wanted.proven_by(hasher)) == set(right)

    def test_who_names_other_algorithms_contradicts_nobody(self):
        other = Digest("sha512", "c" * 128)
        said = [
            Said(name, name, None, (digests,))
            for name, digests in (("x", (self.A,)), ("y", (other,)), ("z", (self.B, other)))
        ]
        assert list(expectation_of(said).contradictions()) == [("x", "z")]

    def test_nothing_said_checks_nothing(self):
        assert not expectation_of([]).checks
        assert expectation_of([]).mismatch(Hasher()) is None


def test_a_page_whose_reader_died_is_read_again(world):
    """Some of its links are of a later state by then."""
    asked(world, INDEX)
    later, key = "sha256:" + "0" * 64, cache_key(INDEX)
    world.catalogue.write_notes({f"read:{key}": f"reading {later}"})
    world.catalogue.learn([Link(FILE, (sha256_of(NEWER),))], page=key, state=later)
    assert asked(world, INDEX, FILE)[1] == (200, RIGHT)
    assert stored(world)[0].proven == (sha256_of(RIGHT),)
    assert world.upstream.count(INDEX) == 1
