"""What the head of a response says of the distribution in it."""

import pytest

from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead, StoredResponse
from entrepot.links import Link
from entrepot.serving.known_files import NOTHING, Expectation
from entrepot.serving.new_entry import draft_head


def drafted(url, content_type, expectation=NOTHING, *, status=200, accept="*/*"):
    stored = StoredResponse(ResponseHead(status, Headers({"Content-Type": content_type})), (), 0, 0)
    request = RequestHead("GET", url, Headers({"Accept": accept}))
    return draft_head(request, stored, expectation, shared=False, reserve=False)


@pytest.mark.parametrize(
    ("url", "content_type", "kind", "project"),
    [
        ("https://index.test/simple/Some_Project/", "text/html", "page", "some-project"),
        ("https://index.test/simple/demo/", "application/vnd.pypi.simple.v1+json", "page", "demo"),
        (
            "https://index.test/root/pypi/+simple/demo/",
            "application/vnd.pypi.simple.v1+html",
            "page",
            "demo",
        ),
        ("https://index.test/simple/", "text/html", "page", None),
        ("https://index.test/about.html", "text/html", "other", None),
        (
            "https://files.test/demo-1.0-py3-none-any.whl",
            "application/octet-stream",
            "wheel",
            "demo",
        ),
        ("https://files.test/demo-1.0-py3-none-any.whl.metadata", "text/plain", "metadata", "demo"),
        ("https://files.test/demo-1.0.tar.gz", "application/gzip", "sdist", "demo"),
    ],
)
def test_kind_and_project_are_read_off_the_url_and_the_type(url, content_type, kind, project):
    head = drafted(url, content_type)
    assert (head.kind, head.project) == (kind, project)


@pytest.mark.parametrize(
    ("url", "accept", "kind", "project"),
    [
        ("https://index.test/simple/No_Such/", "text/html", "page", "no-such"),
        (
            "https://index.test/root/+simple/no-such/",
            "application/vnd.pypi.simple.v1+json, text/html; q=0.1",
            "page",
            "no-such",
        ),
        (
            "https://index.test/links.html",
            "application/vnd.pypi.simple.v1+json, text/html; q=0.1",
            "other",
            None,
        ),
        ("https://index.test/about/", "*/*", "other", None),
        ("https://files.test/demo-1.0-py3-none-any.whl.metadata", "*/*", "metadata", "demo"),
    ],
)
def test_an_absence_belongs_to_the_project_that_was_asked_for(url, accept, kind, project):
    """`list NAME` shows it and `remove NAME` forgets it, whatever the index says in words."""
    head = drafted(url, "text/plain", status=404, accept=accept)
    assert (head.kind, head.project) == (kind, project)


def test_what_a_page_said_of_a_file_goes_before_its_name():
    link = Link(
        "https://files.test/x",
        project="real",
        version="2",
        filename="real-2.zip",
        kind="sdist",
        upload_time="2026-01-01T00:00:00Z",
    )
    head = drafted("https://files.test/x", "application/zip", Expectation(link))
    assert (head.project, head.version, head.filename, head.kind) == (
        "real",
        "2",
        "real-2.zip",
        "sdist",
    )
    assert head.upload_time == "2026-01-01T00:00:00Z"
