"""Asking ahead: what is asked before the client asks, whom it may answer, and where it ends."""

import asyncio
import hashlib
import json

import pytest

from entrepot.errors import UpstreamUnreachable
from entrepot.links import Link
from entrepot.serving.prefetch import GOOD_S, MOST, PageHistory, newest_metadata, required_projects
from entrepot.store.catalogue import SqliteCatalogue
from entrepot.testing.upstream import Script
from service_world import JSON_TYPE, World, get, run

ACCEPT = "application/vnd.pypi.simple.v1+json, text/html; q=0.01"
BASE = "https://index.test/simple/"
FILES = "https://files.test/packages/"
FRESH = {"Cache-Control": "max-age=600", "ETag": '"1"'}
NAMES = ("a", "b", "c")


def url_of(name: str) -> str:
    """The page of a project."""
    return f"{BASE}{name}/"


def metadata_of(name: str, version: str = "1.0") -> str:
    """Its wheel's metadata file."""
    return f"{FILES}{name}-{version}-py3-none-any.whl.metadata"


class Index:
    """Pages that can be asked conditionally, each with wheels whose metadata is served."""

    def __init__(self, world: World, names=NAMES, *, requires=None, headers=None) -> None:
        self.world = world
        for name in names:
            lines = "".join(f"Requires-Dist: {each}\n" for each in (requires or {}).get(name, ()))
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{lines}\n".encode()
            sha = {"sha256": hashlib.sha256(text).hexdigest()}
            file = {
                "filename": f"{name}-1.0-py3-none-any.whl",
                "url": f"{FILES}{name}-1.0-py3-none-any.whl",
                "hashes": {},
            }
            page = {
                "meta": {"api-version": "1.1"},
                "name": name,
                "files": [file | {"core-metadata": sha}],
            }
            world.upstream.route(
                url_of(name),
                _conditional(json.dumps(page).encode(), FRESH if headers is None else headers),
            )
            world.upstream.route(
                metadata_of(name), Script(200, {"Cache-Control": "immutable, max-age=99999"}, text)
            )

    def asked(self) -> list[str]:
        """What upstream was asked for since the last time, sorted."""
        urls = sorted(request.url for request in self.world.upstream.requests)
        self.world.upstream.requests.clear()
        return urls


def _conditional(body, headers):
    def answer(request):
        if request.headers.get("if-none-match") == headers.get("ETag", ""):
            return Script(304, headers)
        return Script(200, {"Content-Type": JSON_TYPE, **headers}, body)

    return answer


def session(world, *steps, pause=20, fields=None, **rules):
    """One run with prefetching: steps are URLs, or functions called between them; the answers."""

    async def go():
        service = world.service(prefetch=True, **rules)
        answers = []
        for step in steps:
            if callable(step):
                step()
                continue
            answers.append(
                await get(
                    service,
                    step,
                    **({"Accept": ACCEPT, "Cache-Control": "max-age=0"} | (fields or {})),
                )
            )
            for turn in range(pause):  # time for what goes on beside it, some of it in threads
                await asyncio.sleep(0.002 if turn < 100 else 0)
        await service.aclose()
        return answers

    return run(go())


def outcomes(world):
    """How the requests of the last session ended."""
    return [line.outcome for line in world.stats.lines]


@pytest.fixture
def world():
    return World()


def test_pages_that_were_asked_for_together_are_asked_together_and_each_answers_one_request(world):
    index = Index(world)
    session(world, *map(url_of, NAMES))
    index.asked()
    seen = []
    session(world, url_of("a"), lambda: seen.append(index.asked()), url_of("b"), url_of("c"))
    assert seen == [list(map(url_of, NAMES))]
    assert index.asked() == []
    assert outcomes(world) == ["revalidated"] * 3
    assert (
        world.stats.prefetch.asked,
        world.stats.prefetch.used,
        world.stats.prefetch.bytes_unused,
    ) == (
        2,
        2,
        0,
    )
    assert world.stats.bytes_downloaded == 0


def test_the_second_request_for_a_page_is_upstreams_again(world):
    index = Index(world)
    session(world, *map(url_of, NAMES))
    index.asked()
    session(world, url_of("a"), url_of("b"), url_of("b"))
    assert index.asked().count(url_of("b")) == 2


def test_a_client_that_comes_while_it_is_prefetched_joins_the_transfer(world):
    index = Index(world)
    session(world, *map(url_of, NAMES))
    index.asked()
    session(world, *map(url_of, NAMES), pause=0)
    assert index.asked() == list(map(url_of, NAMES))
    assert world.stats.prefetch.used == world.stats.prefetch.asked


def test_what_has_waited_too_long_is_asked_for_again(world):
    index = Index(world)
    session(world, *map(url_of, NAMES))
    index.asked()
    session(world, url_of("a"), lambda: world.clock.advance(GOOD_S + 1), url_of("b"))
    assert index.asked().count(url_of("b")) == 2


def test_after_an_upload_what_came_before_is_asked_for_again(world):
    index = Index(world)
    session(world, *map(url_of, NAMES))
    index.asked()
    world.upstream.route("https://index.test/upload", Script(200))

    async def go():
        service = world.service(prefetch=True)
        await get(service, url_of("a"), Accept=ACCEPT, Cache_Control="max-age=0")
        await asyncio.sleep(0.01)
        await get(service, "https://index.test/upload", "POST")
        await get(service, url_of("b"), Accept=ACCEPT, Cache_Control="max-age=0")
        await service.aclose()

    run(go())
    assert index.asked().count(url_of("b")) == 2


def test_fresh_pages_are_not_asked_for_by_anybody(world):
    index = Index(world)
    session(world, *map(url_of, NAMES))
    index.asked()
    session(world, *map(url_of, NAMES), fields={"Cache-Control": "max-stale"})
    assert index.asked() == []


def test_a_page_names_the_metadata_and_that_the_pages_which_are_looked_at_next(world):
    index = Index(
        world,
        "abcd",
        requires={"a": ["b"], "b": ["c", "d; extra == 'x'", "d; python_version < '3'"]},
    )
    seen = []
    session(
        world,
        url_of("a"),
        metadata_of("a"),
        lambda: seen.append(index.asked()),
        url_of("b"),
        metadata_of("b"),
        pause=200,
        fields={},
    )
    assert seen == [
        sorted(
            [
                url_of("a"),
                metadata_of("a"),
                url_of("b"),
                metadata_of("b"),
                url_of("c"),
                metadata_of("c"),
            ]
        )
    ]
    assert index.asked() == []
    assert outcomes(world) == ["miss"] * 4  # nothing of it was there before this run
    assert world.stats.bytes_from_cache == 0
    assert world.stats.report(["x"], 0)["ahead"]["unused"] == 2
    assert world.stats.prefetch.bytes_unused > 0


def test_a_client_that_reads_no_metadata_files_has_none_asked_for(world):
    """pip before 23.2 takes metadata out of whole wheels."""
    index = Index(world, requires={"a": ["b"]})
    session(world, url_of("a"), url_of("b"), pause=200)
    assert index.asked() == [url_of("a"), url_of("b")]


@pytest.mark.parametrize(
    "rules", [{"offline": True}, {"no_store": True}], ids=["offline", "no-store"]
)
def test_nothing_is_asked_ahead_where_nothing_is_asked_or_kept(world, rules):
    index = Index(world)
    session(world, *map(url_of, NAMES))
    index.asked()
    session(world, url_of("a"), **rules)
    assert index.asked() == ([] if "offline" in rules else [url_of("a")])


def test_refresh_is_met_by_what_was_asked_in_this_run(world):
    index = Index(world)
    session(world, *map(url_of, NAMES))
    index.asked()
    session(world, *map(url_of, NAMES), refresh=True, fields={"Cache-Control": "max-stale"})
    assert index.asked() == list(map(url_of, NAMES))
    assert outcomes(world) == ["revalidated"] * 3


def test_a_host_that_the_client_has_not_asked_is_not_asked(world):
    index = Index(world)
    elsewhere = "https://other.test/simple/x/"
    PageHistory(world.catalogue).remember([url_of("a"), url_of("b"), elsewhere])
    session(world, url_of("a"))
    # b's page is asked ahead, its metadata at the files' host is not
    assert index.asked() == [url_of("a"), url_of("b")]


def test_credentials_go_to_the_origin_that_the_client_gave_them_to(world):
    index = Index(world, requires={"a": ["b"]})
    secrets = {"Authorization": "Basic eDp5", "Private-Token": "key"}
    session(world, url_of("a"), metadata_of("a"), pause=200, fields=secrets)
    sent = {r.url: [r.headers.get(name) for name in secrets] for r in world.upstream.requests}
    assert sent[url_of("b")] == ["Basic eDp5", "key"]
    assert sent[metadata_of("b")] == [None, None]
    assert metadata_of("b") in index.asked()


def test_pages_that_may_not_be_reused_are_asked_for_once_each(world):
    index = Index(world, headers={"Cache-Control": "no-store"})
    for _ in range(2):
        session(world, *map(url_of, NAMES))
        assert index.asked() == list(map(url_of, NAMES))
    assert world.stats.prefetch.asked == 0


def test_an_upstream_that_fails_is_not_asked_more_than_the_client_asks(world):
    names = [f"p{i:02d}" for i in range(40)]
    PageHistory(world.catalogue).remember([url_of(name) for name in names])
    for name in names:
        world.upstream.route(url_of(name), Script(403))
    session(world, url_of("p00"), pause=500)
    assert (
        1 < len(Index(world, ()).asked()) <= 17
    )  # one of the client's, and the first sixteen at a time


def test_there_is_an_end_to_it(world):
    names = [f"p{i:03d}" for i in range(2 * MOST)]
    index = Index(world, names, requires={"p000": names})
    session(world, url_of("p000"), metadata_of("p000"), pause=20_000)
    assert world.stats.prefetch.asked <= MOST
    assert len(index.asked()) <= MOST + 2


def test_there_is_an_end_to_its_bytes(world, monkeypatch):
    monkeypatch.setattr("entrepot.serving.prefetch.MOST_BYTES", 100_000)
    names = [f"p{i:03d}" for i in range(60)]
    PageHistory(world.catalogue).remember([url_of(name) for name in names])
    big = Script(200, {"Content-Type": "text/plain", **FRESH}, bytes(20_000))
    for name in names:
        world.upstream.route(url_of(name), big)
    session(world, url_of("p000"), pause=5_000)
    assert world.stats.bytes_downloaded <= 100_000 + 17 * len(big.body)


def test_it_stops_with_the_run(world):
    Index(world)
    session(world, *map(url_of, NAMES))
    gate = asyncio.Event()
    world.upstream.route(
        url_of("b"), Script(200, {"Content-Type": JSON_TYPE, **FRESH}, b"x" * 10_000, gate=gate)
    )

    async def go():
        service = world.service(prefetch=True)
        await get(service, url_of("a"), Accept=ACCEPT, Cache_Control="max-age=0")
        async with asyncio.timeout(5):
            await service.aclose()

    run(go())
    assert not gate.is_set()


def test_an_index_that_cannot_be_reached_leaves_the_client_what_is_stored(world):
    Index(world)
    session(world, *map(url_of, NAMES))
    for name in NAMES:
        world.upstream.route(
            url_of(name), Script(fail=UpstreamUnreachable("gone", url=url_of(name)))
        )

    async def go():
        service = world.service(prefetch=True)
        answers = [
            await get(service, url_of(name), Accept=ACCEPT, Cache_Control="max-age=0")
            for name in NAMES
        ]
        await service.aclose()
        return answers

    assert [status for status, *_ in run(go())] == [200] * 3
    assert outcomes(world) == ["stale"] * 3


# what is remembered, and what is guessed


def test_company_is_remembered_without_urls_that_hold_credentials():
    catalogue = SqliteCatalogue(None)
    urls = [
        url_of("a"),
        url_of("b"),
        "https://host/t/tk-1/simple/c/",
        "https://host/simple/d/?token=x",
    ]
    PageHistory(catalogue).remember(urls)
    assert list(PageHistory(catalogue).of(url_of("b"))) == [url_of("a"), url_of("b")]
    assert list(PageHistory(catalogue).of(urls[2])) == []


def test_one_page_alone_has_no_company_and_takes_none_away():
    catalogue = SqliteCatalogue(None)
    PageHistory(catalogue).remember([url_of("a"), url_of("b")])
    PageHistory(catalogue).remember([url_of("a")])
    assert list(PageHistory(catalogue).of(url_of("a"))) == [url_of("a"), url_of("b")]


def link(filename: str, version: str) -> Link:
    """A metadata file on a page."""
    name = f"{filename}.metadata"
    return Link(f"{FILES}{name}", project="x", version=version, filename=name, kind="metadata")


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        (
            [link("x-1.9-py3-none-any.whl", "1.9"), link("x-1.10-py3-none-any.whl", "1.10")],
            "x-1.10-py3-none-any.whl",
        ),
        (
            [link("x-1.0-py3-none-any.whl", "1.0"), link("x-2.0rc1-py3-none-any.whl", "2.0rc1")],
            "x-1.0-py3-none-any.whl",
        ),
        ([link("x-2.0rc1-py3-none-any.whl", "2.0rc1")], "x-2.0rc1-py3-none-any.whl"),
        (
            [link("x-1-cp311-cp311-linux_x86_64.whl", "1"), link("x-1-py3-none-any.whl", "1")],
            "x-1-py3-none-any.whl",
        ),
        ([link("x-1-cp311-cp311-linux_x86_64.whl", "1")], "x-1-cp311-cp311-linux_x86_64.whl"),
        (
            [
                link("x-1-cp311-cp311-linux_x86_64.whl", "1"),
                link("x-1-cp311-cp311-win_amd64.whl", "1"),
            ],
            None,
        ),
        ([link("x-old-py3-none-any.whl", "old")], None),
        (
            [
                Link(
                    f"{FILES}x-1.tar.gz",
                    project="x",
                    version="1",
                    filename="x-1.tar.gz",
                    kind="sdist",
                )
            ],
            None,
        ),
        ([], None),
    ],
    ids=[
        "newest",
        "final",
        "none-final",
        "pure",
        "only-one",
        "no-telling",
        "no-version",
        "sdist",
        "empty",
    ],
)
def test_the_metadata_that_is_asked_for_first(links, expected):
    assert newest_metadata(links) == (None if expected is None else f"{FILES}{expected}.metadata")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["A.b_C (>=1,<2)", "d[x,y]>=1", "e"], ["a-b-c", "d", "e"]),
        (["a; extra == 'x'", "b; (python_version>='3') and extra=='y'"], []),
        (["a; python_version < '3'", "b ; python_version >= '3.8'"], ["b"]),
        (["a @ https://elsewhere.test/a.whl", "b; not a marker", "", "c c"], []),
        (["a", "a>1"], ["a"]),
    ],
    ids=["spellings", "extras", "markers", "unusable", "once"],
)
def test_the_projects_that_metadata_requires(lines, expected):
    text = "\r\n".join(
        ["Name: x", *(f"Requires-Dist: {line}" for line in lines), "", "Requires-Dist: body"]
    )
    assert required_projects(text.encode()) == expected
