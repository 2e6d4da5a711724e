"""An answer that is no index, or not all of one, is handed on and takes the place of nothing."""

import bz2
import gzip
import hashlib
import json

import msgpack
import pytest
import zstandard

from entrepot.testing.upstream import Script
from service_world import FILE, INDEX, JSON_TYPE, World, get, page, run

CHANNEL = "https://channel.test/c/noarch/"
LOGIN = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><a href='/help'>Please log in</a></body></html>"
REPODATA = json.dumps(
    {"info": {"subdir": "noarch"}, "packages": {"a-1.0-0.tar.bz2": {"size": 7}}}
).encode()
LARGE = json.dumps(
    {"packages.conda": {f"a-{i}-0.conda": {"sha256": f"{i:064x}"} for i in range(9000)}}
).encode()
SHARDS = msgpack.packb({"version": 1, "info": {"base_url": "./"}, "shards": {"a": bytes(32)}})
HTML_PAGE = (
    b"<!DOCTYPE html><html><head><title>Links for demo</title></head><body>"
    b'<a href="/demo-1.0.tar.gz">demo-1.0.tar.gz</a><br><a href="/demo-1.1.tar.gz">demo-1.1.tar.gz</a></body></html>'
)
METADATA = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nRequires-Dist: other\n\nA demo.\n"
PIP = {
    "accept": f"{JSON_TYPE}, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01",
    "accept_encoding": "gzip, br",
}


def zst(data):
    return zstandard.ZstdCompressor(3).compress(data)


GOOD = {
    "json page": (INDEX, JSON_TYPE, page(b"wheel")),
    "large json page": (INDEX, JSON_TYPE, page(b"wheel", filler=["x" * 100] * 5000)),
    "html page": (INDEX, "text/html", HTML_PAGE),
    "simple html page": (INDEX, "application/vnd.pypi.simple.v1+html", HTML_PAGE),
    "repodata.json": (f"{CHANNEL}repodata.json", "application/json", REPODATA),
    "large repodata.json": (f"{CHANNEL}repodata.json", "application/json", LARGE),
    "current": (f"{CHANNEL}current_repodata.json", "application/json", REPODATA),
    "zst": (f"{CHANNEL}repodata.json.zst", "application/octet-stream", zst(REPODATA)),
    "large zst": (f"{CHANNEL}repodata.json.zst", "application/octet-stream", zst(LARGE)),
    "bz2": (f"{CHANNEL}repodata.json.bz2", "application/octet-stream", bz2.compress(REPODATA)),
    "shard index": (
        f"{CHANNEL}repodata_shards.msgpack.zst",
        "application/octet-stream",
        zst(SHARDS),
    ),
    "metadata": (f"{FILE}.metadata", "application/octet-stream", METADATA),
}
BAD = {
    "a page to sign in": lambda kind, good: ("text/html", LOGIN, None),
    "a page to sign in, under the right type": lambda kind, good: (kind, LOGIN, None),
    "a page to sign in, coded": lambda kind, good: ("text/html", gzip.compress(LOGIN), "gzip"),
    "nothing": lambda kind, good: (kind, b"", None),
    "nothing, coded": lambda kind, good: (kind, gzip.compress(b""), "gzip"),
    "white space": lambda kind, good: (kind, b" \n", None),
    "an error in JSON": lambda kind, good: (
        "application/json",
        b'{"error": "please log in"}',
        None,
    ),
    "half": lambda kind, good: (kind, good[: 39 if good is METADATA else len(good) // 2], None),
    "half, coded": lambda kind, good: (kind, gzip.compress(good)[:-20], "gzip"),
    "a half, coded whole": lambda kind, good: (
        kind,
        gzip.compress(good[: 39 if good is METADATA else len(good) // 2]),
        "gzip",
    ),
    "all but the last byte": lambda kind, good: (
        kind,
        good[:39] if good is METADATA else good.rstrip()[:-1],
        None,
    ),
}


def ask(world, *urls, fields=PIP, **rules):
    """Ask for these in one run."""

    async def go():
        service = world.service(**rules)
        answers = []
        for url in urls:
            answers.append(await get(service, url, **fields))
            world.clock.advance(1)
        await service.aclose()
        return answers

    return run(go())


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize(
    "good",
    [
        pytest.param(good, id=name, marks=pytest.mark.slow if name.startswith("large") else ())
        for name, good in GOOD.items()
    ],
)
def test_what_is_no_index_is_handed_on_kept_nowhere_and_the_good_one_stands_in(good, bad):
    url, kind, body = good
    world = World()
    etag = {"ETag": '"1"', "Cache-Control": "max-age=0"}
    right = Script(200, {"Content-Type": kind, **etag}, body)
    world.upstream.route(url, right)
    ask(world, url)
    wrong_kind, wrong, coding = bad(kind, body)
    fields = {"Content-Type": wrong_kind, "Cache-Control": "max-age=1200", "ETag": '"2"'}
    world.upstream.route(
        url, Script(200, {**fields, **({"Content-Encoding": coding} if coding else {})}, wrong)
    )
    world.clock.advance(10)
    [(status, content, _)] = ask(world, url)
    assert (status, content) == (200, wrong)
    (warning,) = world.stats.all_warnings()
    assert warning.startswith(f"{url} answered with ")
    assert warning.endswith(
        " instead of "
        + ("metadata" if url.endswith(".metadata") else "an index")
        + "; the last good one is kept"
    )
    assert "a web page" in warning or LOGIN not in wrong
    [(status, content, _)] = ask(world, url, offline=True)
    assert (status, content) == (200, body)
    world.upstream.route(
        url,
        lambda request: (
            Script(304, etag) if request.headers.get("if-none-match") == '"1"' else right
        ),
    )
    world.clock.advance(10)
    [(status, content, _)] = ask(world, url)
    assert (status, content) == (200, body)
    assert world.upstream.requests[-1].headers.get("if-none-match") == '"1"'
    assert world.stats.all_warnings() == []
    world.upstream.gone = True
    assert [each[:2] for each in ask(world, url)] == [(200, body)], "and upstream fails"


@pytest.mark.parametrize("good", GOOD.values(), ids=GOOD)
def test_a_first_answer_that_is_none_is_not_used_again_and_not_offline(good):
    url, kind, body = good
    world = World()
    world.upstream.route(
        url, Script(200, {"Content-Type": "text/html", "Cache-Control": "max-age=1200"}, LOGIN)
    )
    assert [content for _, content, _ in ask(world, url, url)] == [LOGIN, LOGIN]
    assert world.upstream.count(url) == 2
    assert [text.rpartition("; ")[2] for text in world.stats.all_warnings()] == ["it is not kept"]
    assert ask(world, url, offline=True)[0][0] == 504
    world.upstream.route(url, Script(200, {"Content-Type": kind}, body))
    assert ask(world, url)[0][1] == body
    assert ask(world, url, offline=True)[0][1] == body


OTHER = "https://index.test/simple/other/"
ROOT = "https://index.test/simple/"
LINKS = "https://index.test/links.html"
EMPTY = {
    "json without files": (
        INDEX,
        JSON_TYPE,
        b'{"meta": {"api-version": "1.0"}, "name": "demo", "files": []}',
    ),
    "html that says its version": (
        INDEX,
        "text/html",
        b'<meta name="pypi:repository-version" content="1.0"><h1>demo</h1>',
    ),
    "html with its title": (
        INDEX,
        "text/html",
        b"<!DOCTYPE html><html><title>Links for demo</title><body></body></html>",
    ),
    "devpi": (
        INDEX,
        "text/html",
        b"<html><head><title>root/dev: links for demo</title></head><body></body></html>",
    ),
    "listing": (
        INDEX,
        "text/html",
        b"<html><head><title>Index of /simple/demo</title></head><body></body></html>",
    ),
    "list of projects": (ROOT, "text/html", b'<html><body><a href="demo/">demo</a></body></html>'),
    "list of projects by path": (ROOT, "text/html", b'<a href="/simple/demo/">demo</a>'),
    "links": (INDEX, "text/html", b'<a href="demo-1.0.tar.gz">demo-1.0.tar.gz</a><br>'),
    "links elsewhere": (LINKS, "text/html", b'<a href="demo-1.0.tar.gz">demo-1.0.tar.gz</a><br>'),
    "a link with a digest": (
        INDEX,
        "text/html",
        b'<a href="/get/17#sha256=' + b"a" * 64 + b'">demo</a>',
    ),
    "json as plain text": (INDEX, "text/plain", page(b"wheel")),
    "a form that is not known": (
        INDEX,
        "application/vnd.pyx.simple.v1+msgpack",
        b"\x81\xa4name\xa4demo",
    ),
    "a later version": (
        INDEX,
        "application/vnd.pypi.simple.v2+json",
        b'{"meta": {"api-version": "2.0"}}',
    ),
    "empty repodata": (f"{CHANNEL}repodata.json", "application/json", b"{}"),
    "repodata as html": (
        f"{CHANNEL}repodata.json",
        "text/html",
        b'{"packages": {}, "packages.conda": {}}\n',
    ),
    "empty shard index": (
        f"{CHANNEL}repodata_shards.msgpack.zst",
        "",
        zst(msgpack.packb({"info": {}, "shards": {}})),
    ),
    "metadata with crlf": (f"{FILE}.metadata", "text/plain", METADATA.replace(b"\n", b"\r\n")),
    "no index was asked for": ("https://index.test/about/", "text/html", LOGIN),
    "a file": (
        "https://index.test/simple/demo/demo-1.0.tar.gz",
        "application/octet-stream",
        b"\x1f\x8b",
    ),
}


@pytest.mark.parametrize("case", EMPTY.values(), ids=EMPTY)
def test_an_index_with_nothing_in_it_and_what_cannot_be_judged_replace_what_was_there(case):
    url, kind, body = case
    world, fields = World(), PIP if "/about/" not in url else {}
    second = body + (zst(b"") if "shards" in url else b"\n")
    world.upstream.route(
        url, [Script(200, {"Content-Type": kind}, each) for each in (body, second)]
    )
    ask(world, url, url, fields=fields, refresh=True)
    assert world.stats.all_warnings() == []
    assert ask(world, url, fields=fields, offline=True)[0][1] == second


def test_an_index_in_a_coding_that_nobody_here_reads_passes_and_is_not_asked_for():
    world = World()
    world.upstream.route(
        INDEX, Script(200, {"Content-Type": "text/html", "Content-Encoding": "br"}, b"\x8b")
    )
    ask(world, INDEX)
    assert [request.headers.get("accept-encoding") for request in world.upstream.requests] == [
        "gzip"
    ]
    assert world.stats.all_warnings() == []


OPEN = b"<!DOCTYPE html><html><title>Links for demo</title><body>" + b"".join(
    b'<a href="/demo-1.%d.tar.gz">demo-1.%d.tar.gz</a>\n' % (i, i) for i in range(9)
)


def test_a_page_cut_between_two_links_does_not_replace_the_whole_one():
    world = World()
    routes = [
        Script(200, {"Content-Type": "text/html"}, OPEN + b"</body></html>"),
        Script(200, {"Content-Type": "text/html"}, OPEN),
    ]
    world.upstream.route(INDEX, routes)
    assert ask(world, INDEX, INDEX, refresh=True)[1][1] == OPEN
    assert world.stats.all_warnings() == [
        f"{INDEX} answered with an incomplete page instead of an index; the last good one is kept"
    ]
    assert ask(world, INDEX, offline=True)[0][1] == OPEN + b"</body></html>"


def test_an_index_that_never_closes_its_pages_serves_offline_and_is_asked_each_time():
    world = World()
    fields = {"Content-Type": "text/html", "Cache-Control": "max-age=600"}
    world.upstream.route(INDEX, [Script(200, fields, OPEN), Script(200, fields, OPEN + b"<p>")])
    ask(world, INDEX, INDEX)
    assert world.upstream.count(INDEX) == 2
    assert world.stats.all_warnings() == []
    assert ask(world, INDEX, offline=True)[0][1] == OPEN + b"<p>"


@pytest.mark.parametrize("status", [204, 300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "good", [GOOD["json page"], GOOD["zst"], GOOD["metadata"]], ids=["page", "zst", "metadata"]
)
def test_a_redirect_to_a_page_to_sign_in_or_another_status_replaces_no_index(good, status):
    url, kind, body = good
    world = World()
    away = Script(
        status, {"Location": "https://portal.test/login", "Cache-Control": "max-age=1200"}
    )
    world.upstream.route(
        url,
        [
            Script(200, {"Content-Type": kind}, body),
            away,
            Script(200, {"Content-Type": kind}, body),
        ],
    )
    assert [answer[0] for answer in ask(world, url, url, refresh=True)] == [200, status]
    assert ask(world, url, offline=True)[0][:2] == (200, body)
    assert ask(world, url)[0][:2] == (200, body)


def test_archives_are_still_checked_after_an_index_that_is_none():
    archive, url, name = b"archive" * 1000, f"{CHANNEL}repodata.json", "a-1.0-0.conda"
    index = json.dumps(
        {"packages.conda": {name: {"sha256": hashlib.sha256(archive).hexdigest()}}}
    ).encode()
    world = World()
    world.upstream.route(
        url,
        [Script(200, {"ETag": '"1"'}, index), Script(200, {"Content-Type": "text/html"}, LOGIN)],
    )
    world.upstream.route(CHANNEL + name, Script(200, {}, archive[:-1] + b"!"))
    seen = ask(world, url, url, CHANNEL + name, refresh=True)
    assert [status for status, _, _ in seen] == [200, 200, 502]
    assert [content for _, content, _ in seen[:2]] == [index, LOGIN]


def test_the_warning_names_three_urls_and_no_secret():
    world = World()
    urls = [f"https://index.test/t/tk-0123456789/simple/p{i}/" for i in range(5)]
    for url in urls:
        world.upstream.route(url, Script(200, {"Content-Type": "text/html"}, LOGIN))
    ask(world, *urls, *urls)
    named = ", ".join(f"https://index.test/t/<TOKEN>/simple/p{i}/" for i in range(3))
    assert world.stats.last_line(offline=False).endswith(
        f"; {named} and 2 more answered with a web page instead of an index; it is not kept"
    )
