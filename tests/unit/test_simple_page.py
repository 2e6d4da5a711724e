"""Reading index pages."""

import json
from pathlib import PurePosixPath

import pytest

from entrepot.digests import Digest
from entrepot.errors import InvalidPage
from entrepot.simple.negotiate import is_simple_type
from entrepot.simple.page import read_page
from entrepot.stored import cache_key

JSON = "application/vnd.pypi.simple.v1+json"
URL = "https://index.test/simple/foo-bar/"
A, B, C = "a" * 64, "b" * 64, "c" * 32
WHEEL = "foo_bar-1.0-py3-none-any.whl"


def read_json(*files, url=URL, **more):
    return read_page(
        json.dumps(
            {"meta": {"api-version": "1.1"}, "name": "Foo_Bar", "files": files} | more
        ).encode(),
        content_type=JSON,
        url=url,
    )


def read_html(text, url=URL, content_type="text/html"):
    return read_page(
        text.encode() if isinstance(text, str) else text, content_type=content_type, url=url
    )


def entry(**more):
    return {"filename": WHEEL, "url": f"https://files.test/{WHEEL}", "hashes": {"sha256": A}} | more


# JSON


def test_a_json_file_becomes_a_link_with_everything_the_page_says():
    page = read_json(
        entry(
            size=123,
            **{"upload-time": "2024-01-02T03:04:05.678901Z", "core-metadata": {"sha256": B}},
        )
    )
    file, metadata = page.links
    assert page.project == "foo-bar"
    assert page.hosts == {"files.test:443"}
    assert (file.url, file.digests, file.size) == (
        f"https://files.test/{WHEEL}",
        (Digest("sha256", A),),
        123,
    )
    assert (file.project, file.version, file.filename, file.kind) == (
        "foo-bar",
        "1.0",
        WHEEL,
        "wheel",
    )
    assert (file.upload_time, file.source) == ("2024-01-02T03:04:05.678901Z", cache_key(URL))
    assert (metadata.url, metadata.digests, metadata.size) == (
        f"{file.url}.metadata",
        (Digest("sha256", B),),
        None,
    )
    assert (metadata.project, metadata.version, metadata.filename, metadata.kind) == (
        "foo-bar",
        "1.0",
        f"{WHEEL}.metadata",
        "metadata",
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"core-metadata": {"sha256": B}, "dist-info-metadata": {"sha256": A}}, [B]),
        ({"dist-info-metadata": {"sha256": B}}, [B]),
        ({"core-metadata": None, "dist-info-metadata": {"sha256": B}}, [B]),
        ({"core-metadata": False, "dist-info-metadata": {"sha256": B}}, []),
        ({"core-metadata": True}, []),
        ({"core-metadata": {}}, []),
        ({"core-metadata": {"sha256": "no"}}, []),
        ({"core-metadata": [B]}, []),
        ({}, []),
    ],
)
def test_a_metadata_sibling_is_listed_when_its_digest_is_given(more, expected):
    """PEP 714: the new name wins over the old one."""
    assert [link.digests[0].value for link in read_json(entry(**more)).links[1:]] == expected


@pytest.mark.parametrize(
    ("hashes", "expected"),
    [
        ({"sha256": A}, (Digest("sha256", A),)),
        ({"SHA256": A.upper()}, (Digest("sha256", A),)),
        (
            {"md5": C, "sha256": A, "blake2b_256": B},
            (Digest("md5", C), Digest("sha256", A), Digest("blake2b-256", B)),
        ),
        ({"sha256": A, "SHA256": B}, (Digest("sha256", A),)),
        ({"crc32": "12345678", "sha256": A}, (Digest("sha256", A),)),
        ({"sha256": "short"}, ()),
        ({"sha256": 5}, ()),
        ({}, ()),
        ([], ()),
        ("sha256", ()),
        (None, ()),
    ],
)
def test_only_digests_that_are_understood_are_kept(hashes, expected):
    assert read_json(entry(hashes=hashes)).links[0].digests == expected


@pytest.mark.parametrize("size", [-1, 1.5, True, "7", None, [], 1 << 63, 10**300])
def test_a_size_that_is_none_is_left_out(size):
    assert read_json(entry(size=size)).links[0].size is None


@pytest.mark.parametrize(
    "uploaded", ["yesterday", "", 5, None, "2024-01-02T03:04:05Z" * 9, "2024-01-02T<script>xxxxx"]
)
def test_an_upload_time_that_is_none_is_left_out(uploaded):
    assert read_json(entry(**{"upload-time": uploaded})).links[0].upload_time is None


@pytest.mark.parametrize(
    ("href", "url"),
    [
        ("https://Files.Test:443/a.whl", "https://files.test/a.whl"),
        ("https://u:p@files.test/a.whl", "https://files.test/a.whl"),
        ("//files.test/a.whl#x", "https://files.test/a.whl"),
        ("/a.whl", "https://index.test/a.whl"),
        ("a.whl", "https://index.test/simple/foo-bar/a.whl"),
        ("../../packages/a.whl", "https://index.test/packages/a.whl"),
        ("https://files.test/x/../a.whl", "https://files.test/a.whl"),
        ("a.whl?x=1&y=%2F", "https://index.test/simple/foo-bar/a.whl?x=1&y=%2F"),
        (" a.whl\n", "https://index.test/simple/foo-bar/a.whl"),
        ("http://[::1]:8080/a.whl", "http://[::1]:8080/a.whl"),
        ("a b\u00e9.whl", "https://index.test/simple/foo-bar/a%20b%C3%A9.whl"),
    ],
)
def test_links_are_resolved_to_canonical_urls(href, url):
    assert read_json(entry(url=href)).links[0].url == url


@pytest.mark.parametrize(
    "href",
    [
        "",
        "file:///etc/passwd",
        "javascript:x",
        "ftp://h/a.whl",
        "https://[::1/a.whl",
        "https:///a.whl",
        "https://h:x/a.whl",
        "http://a b/c.whl",
        "https://h:1234567/a.whl",
        "\ud800",
        "data:,x",
        "https://\u2100.test/a.whl",
        None,
        5,
        [],
        {},
    ],
    ids=range(16),
)
def test_a_file_that_cannot_be_asked_for_is_left_out_and_the_rest_kept(href):
    page = read_json(entry(url=href), entry())
    assert [link.url for link in page.links if "files.test" in link.url] == [
        f"https://files.test/{WHEEL}"
    ]
    assert page.hosts <= {"files.test:443", "index.test:443"}


def test_credentials_of_the_page_do_not_reach_its_links():
    page = read_json(entry(url="a.whl"), url="https://user:secret@index.test/simple/foo-bar/")
    assert "secret" not in repr(page)


def test_a_file_that_pip_asks_for_in_another_spelling_is_listed_in_both():
    """pip 26.3 quotes ``+``; uv asks as the page has it."""
    name = "foo_bar-1.0+cpu-py3-none-any.whl"
    page = read_json(
        entry(filename=name, url=f"https://files.test/{name}", **{"core-metadata": {"sha256": B}})
    )
    plus, quoted = f"https://files.test/{name}", f"https://files.test/{name.replace('+', '%2B')}"
    assert [link.url for link in page.links] == [
        plus,
        f"{plus}.metadata",
        quoted,
        f"{quoted}.metadata",
    ]
    assert {link.filename for link in page.links} == {name, f"{name}.metadata"}
    assert {link.version for link in page.links} == {"1.0+cpu"}


@pytest.mark.parametrize("href", ["x%2Bcpu.whl", "a@b/x-1.0.whl", "a%2Fb/x.whl", "a~b.whl"])
def test_a_file_that_all_ask_for_alike_is_listed_once(href):
    assert len(read_json(entry(url=f"https://files.test/{href}")).links) == 1


def test_an_sdist_with_dashes_is_split_by_the_pages_project():
    page = read_json(
        entry(filename="foo-bar-1.0-1.tar.gz", url="https://files.test/foo-bar-1.0-1.tar.gz")
    )
    assert (page.links[0].project, page.links[0].version, page.links[0].kind) == (
        "foo-bar",
        "1.0.post1",
        "sdist",
    )


def test_a_file_of_no_known_kind_is_kept_with_its_digest():
    link = read_json(entry(filename="foo.exe", url="https://files.test/foo.exe")).links[0]
    assert (link.kind, link.project, link.version, link.filename, len(link.digests)) == (
        "other",
        "foo-bar",
        None,
        "foo.exe",
        1,
    )


@pytest.mark.parametrize("filename", ["../x.whl", "a/b.whl", "x\x00.whl", "", "..", 5, None])
def test_a_file_name_that_is_none_is_taken_from_the_url(filename):
    assert read_json(entry(filename=filename)).links[0].filename == WHEEL


def test_a_list_of_projects_has_no_links():
    page = read_page(
        b'{"meta":{"api-version":"1.0"},"projects":[{"name":"x"}]}',
        content_type=JSON,
        url="https://index.test/simple/",
    )
    assert (page.project, page.links, page.hosts) == (None, [], frozenset())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"[]",
        b"null",
        b'"x"',
        b"7",
        b"{}",
        b'{"files": {}}',
        b'{"files": null}',
        b"{",
        b'{"files": [',
        b"\xff",
        b"\x00" * 9,
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"files": [], "x": ' + b"9" * 5000 + b"}",
        b"<html></html>",
        b'{"meta": {"api-version": "2.0"}, "files": []}',
        b'{"files": []} trailing',
    ],
    ids=range(19),
)
def test_what_is_no_json_page_is_an_invalid_page(body):
    with pytest.raises(InvalidPage):
        read_page(body, content_type=JSON, url=URL)


@pytest.mark.parametrize(
    "meta", [None, 5, [], {}, {"api-version": 1}, {"api-version": None}, {"api-version": "1.99"}]
)
def test_a_page_with_an_odd_meta_part_is_read(meta):
    assert len(read_json(entry(), meta=meta).links) == 1


@pytest.mark.parametrize("name", [None, 5, [], "", "\x00", "\ud800", "a/b", "../x"])
def test_a_page_with_an_odd_name_takes_each_project_from_its_file(name):
    page = read_json(entry(), name=name)
    assert (page.project, page.links[0].project) == (None, "foo-bar")


# HTML

ANCHOR = f'<a href="https://files.test/{WHEEL}#sha256={A}">{WHEEL}</a>'


def test_an_html_file_becomes_a_link_with_everything_the_page_says():
    page = read_html(
        f"""<!DOCTYPE html><html><meta name="pypi:repository-version" content="1.0"><title>Links for Foo_Bar</title>
        <a href="../../packages/{WHEEL}#sha256={A}" data-requires-python="&gt;=3.8" data-core-metadata="sha256={B}"
           data-dist-info-metadata="sha256={A}" data-yanked="because > of">{WHEEL}</a><br/></body></html>"""
    )
    file, metadata = page.links
    assert (page.project, page.hosts) == ("foo-bar", {"index.test:443"})
    assert (file.url, file.digests) == (
        f"https://index.test/packages/{WHEEL}",
        (Digest("sha256", A),),
    )
    assert (file.project, file.version, file.filename, file.kind) == (
        "foo-bar",
        "1.0",
        WHEEL,
        "wheel",
    )
    assert (metadata.url, metadata.digests, metadata.kind) == (
        f"{file.url}.metadata",
        (Digest("sha256", B),),
        "metadata",
    )


@pytest.mark.parametrize(
    ("anchor", "url", "digests"),
    [
        (f"<a href='/x-1.0.tar.gz#md5={C}'>", "https://index.test/x-1.0.tar.gz", [C]),
        (f"<A HREF=/x-1.0.tar.gz#sha256={A.upper()}>", "https://index.test/x-1.0.tar.gz", [A]),
        (
            f'<a\nrel=internal\thref = "/x-1.0.tar.gz#egg=x&sha256={A}" >',
            "https://index.test/x-1.0.tar.gz",
            [A],
        ),
        ('<a href="/x-1.0.tar.gz">', "https://index.test/x-1.0.tar.gz", []),
        ('<a title="a > b" href="/x-1.0.tar.gz">', "https://index.test/x-1.0.tar.gz", []),
        ('<a href="/x-1.0.tar.gz?a=1&amp;b=2">', "https://index.test/x-1.0.tar.gz?a=1&b=2", []),
        ('<a href="&#x2f;x-1.0.tar.gz">', "https://index.test/x-1.0.tar.gz", []),
        ('<a href="/x-1.0.tar.gz#sha256=nothex">', "https://index.test/x-1.0.tar.gz", []),
        ('<a href="/x-1.0.tar.gz" href="/y-1.0.tar.gz">', "https://index.test/x-1.0.tar.gz", []),
        ('<a disabled href="/x-1.0.tar.gz"/>', "https://index.test/x-1.0.tar.gz", []),
        (
            '<a href="/x-1.0.tar.gz" data-core-metadata="true">',
            "https://index.test/x-1.0.tar.gz",
            [],
        ),
        ('<a href="/x-1.0.tar.gz" onclick=\'f("a")\'>', "https://index.test/x-1.0.tar.gz", []),
        (f'<a href="/download#sha256={A}">', "https://index.test/download", [A]),
        ("<p><b><a href='/x-1.0.tar.gz'>", "https://index.test/x-1.0.tar.gz", []),
    ],
    ids=range(14),
)
def test_anchors_of_all_sorts_are_found(anchor, url, digests):
    links = read_html(f"<html><body>{anchor}x</a>").links
    assert [(link.url, [d.value for d in link.digests]) for link in links] == [(url, digests)]


@pytest.mark.parametrize(
    "text",
    [
        f"<!-- {ANCHOR} -->",
        f"<!-- {ANCHOR}",
        f"<script>var x = '{ANCHOR}'</script>",
        f"<style>{ANCHOR}</style >",
        f'<img alt="{ANCHOR.replace(chr(34), chr(39))}">',
        "<abbr href='/x-1.0.tar.gz'>",
        "<a name='/x-1.0.tar.gz'>",
        "<a href>x-1.0.tar.gz</a>",
        "<a href='/x-1.0.tar.gz'",
        "<a href='../'>Parent .tar.gz</a><a href='https://home.test/index.html'>x.whl</a>",
        "<link href='/x-1.0.tar.gz'>",
        "<a href='mailto:x@y.tar.gz'>",
    ],
    ids=range(12),
)
def test_what_is_no_anchor_to_a_file_is_no_link(text):
    page = read_html(f"<html><body>{text}")
    assert (page.links, page.hosts) == ([], frozenset())


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://files.test/all/", "https://files.test/all/x-1.0.tar.gz"),
        ("/all/", "https://index.test/all/x-1.0.tar.gz"),
        ("https://u:p@files.test/all/page", "https://files.test/all/x-1.0.tar.gz"),
        ("https://[::1/", "https://index.test/simple/foo-bar/x-1.0.tar.gz"),
        ("", "https://index.test/simple/foo-bar/x-1.0.tar.gz"),
    ],
)
def test_relative_links_follow_the_base(base, url):
    assert [
        link.url
        for link in read_html(
            f'<head><base target=x href="{base}"></head><a href="x-1.0.tar.gz">'
        ).links
    ] == [url]


def test_only_the_first_base_counts():
    assert (
        read_html('<base href="/a/"><base href="/b/"><a href="x-1.0.tar.gz">').links[0].url
        == "https://index.test/a/x-1.0.tar.gz"
    )


def test_a_directory_listing_gives_each_file_its_own_project():
    page = read_html(
        '<h1>Index of /</h1><a href="../">../</a><a href="foo-1.0.tar.gz">foo</a> 12K <a href="bar-2-py3-none-any.whl">bar</a>'
        '<a href="numpy-1.26.0-py311_0.conda">n</a><a href="notes.txt">n</a>',
        url="https://index.test/links/",
    )
    assert page.project is None
    assert [(link.project, link.version, link.kind) for link in page.links] == [
        ("foo", "1.0", "sdist"),
        ("bar", "2", "wheel"),
        ("numpy", "1.26.0", "archive"),
    ]


@pytest.mark.parametrize(
    ("content_type", "coding"),
    [
        ("text/html; charset=latin-1", "latin-1"),
        ('text/html;charset="utf-16"', "utf-16"),
        ("text/html; charset=nonsense", "utf-8"),
    ],
)
def test_a_page_is_read_in_its_charset(content_type, coding):
    page = read_html('<a href="/\u00e9/x-1.0.tar.gz">'.encode(coding), content_type=content_type)
    assert page.links[0].url == "https://index.test/%C3%A9/x-1.0.tar.gz"


def test_a_meta_charset_counts_and_broken_text_is_survived():
    assert (
        read_html(b'<meta charset="latin-1"><a href="/\xe9/x-1.0.zip">').links[0].url
        == "https://index.test/%C3%A9/x-1.0.zip"
    )
    assert len(read_html(b'\xff\xfe\x00<a href="/x-1.0.zip">').links) == 1


def test_an_empty_project_is_a_page_and_plain_text_is_none():
    assert read_html("<html><title>Links for foo</title></html>").links == []
    for text in ("", "no such project", "x" * 99):
        with pytest.raises(InvalidPage):
            read_html(text)


@pytest.mark.parametrize(
    "hostile",
    [
        "<a " * 50_000,
        '<a "' * 50_000,
        "<a href=" * 50_000,
        "<a href='" * 50_000,
        "<!--" * 50_000,
        "<script " * 50_000,
        "<a =" + " " * 100_000,
        "<" * 200_000,
        "<a x=" + "=" * 100_000 + ">",
        "<a " + "x " * 50_000 + ">",
        "<script>" * 30_000,
        "<title>" * 50_000 + ".whl",
        "<meta " * 50_000,
        "<base " * 50_000,
    ],
    ids=range(14),
)
def test_hostile_html_takes_no_quadratic_time(hostile):
    import time

    start = time.process_time()
    for body in (hostile + ".whl", ".whl" + hostile + "<base x>"):
        read_html("<" + body)
    assert time.process_time() - start < 2


def test_a_list_of_a_hundred_thousand_projects_is_read_at_once():
    import time

    text = "<html><body>" + "".join(
        f'<a href="/simple/project-{i}/">Project.whl-{i}</a>\n' for i in range(100_000)
    )
    start = time.process_time()
    page = read_html(text, url="https://index.test/simple/")
    assert (page.project, page.links) == (None, [])
    assert time.process_time() - start < 3


# which is which


@pytest.mark.parametrize(
    ("content_type", "is_one"),
    [
        (JSON, True),
        ("application/vnd.pypi.simple.v1+html;charset=utf-8", True),
        ("Application/vnd.pypi.simple.LATEST+json", True),
        ("application/vnd.pypi.simple.v1+xml", False),
        ("text/html", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_types_of_the_simple_api_are_known(content_type, is_one):
    assert is_simple_type(content_type) is is_one


def test_reading_a_page_is_pure_and_links_are_values():
    assert read_json(entry()) == read_json(entry())
    assert PurePosixPath(read_json(entry()).links[0].filename).name == WHEEL
