"""Pages in JSON written as HTML say the same to who reads them."""

import json

import pytest

from entrepot.errors import InvalidPage
from entrepot.simple.html import html_page
from entrepot.simple.page import read_page
from entrepot.testing import pages
from entrepot.testing.origin import Origin

URL = "https://index.test/simple/demo/"
TYPE = "application/vnd.pypi.simple.v1+json"


def page(**fields):
    file = {
        "filename": "demo-1.0-py3-none-any.whl",
        "url": "../../f/demo-1.0-py3-none-any.whl",
        "hashes": {"sha256": "a" * 64},
        **fields,
    }
    return json.dumps({"meta": {"api-version": "1.1"}, "name": "demo", "files": [file]}).encode()


def test_both_forms_name_the_same_files_with_the_same_digests_and_metadata():
    with Origin() as origin:
        origin.add_project("demo", "1.0", sdist=True)
        origin.add_project("demo", "2.0", yanked="broken <here>")
        body = pages.project_page("demo", origin.files("demo"), "https://files.test", pages.JSON)
    told = read_page(body, content_type=TYPE, url=URL)
    again = read_page(html_page(body), content_type="text/html", url=URL)
    assert again.project == told.project == "demo"
    assert [(link.url, link.digests, link.kind) for link in again.links] == [
        (link.url, link.digests, link.kind) for link in told.links
    ]
    assert len(told.links) == 5


@pytest.mark.parametrize(
    ("fields", "attribute"),
    [
        ({"requires-python": ">=3.8,<4"}, b'data-requires-python="&gt;=3.8,&lt;4"'),
        ({"yanked": True}, b'data-yanked=""'),
        ({"yanked": 'a "reason"'}, b'data-yanked="a &quot;reason&quot;"'),
        ({"core-metadata": {"sha256": "b" * 64}}, b'data-core-metadata="sha256=' + b"b" * 64),
        ({"core-metadata": True}, b'data-core-metadata="true"'),
        ({"url": 'x"><script>.whl'}, b'href="x&quot;&gt;&lt;script&gt;.whl#sha256='),
        ({"hashes": {"md5": "c" * 32, "sha512": "d" * 128}}, b"#sha512=" + b"d" * 128),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_what_installers_read_is_carried_over_and_escaped(fields, attribute):
    assert attribute in html_page(page(**fields))


@pytest.mark.parametrize(
    "fields", [{"yanked": False}, {"core-metadata": False}, {"requires-python": None}]
)
def test_what_is_not_said_is_not_written(fields):
    assert b"data-" not in html_page(page(**fields))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"name": "x"}', b'{"name": "x", "files": 3}']
)
def test_what_is_no_project_page_is_refused(body):
    with pytest.raises(InvalidPage):
        html_page(body)
