"""What one index says of another one's file binds the runs that read its page, and no others.

With real pip and two real indexes.
"""

import pytest

import clients
from entrepot.testing.origin import Origin
from running import Desk

PAGE = "/simple/leaf/"


@pytest.fixture
def indexes():
    with Origin() as own, Origin(host="127.0.0.2") as other:
        yield own, other


@pytest.fixture
def desk(indexes, tmp_path):
    return Desk.under(tmp_path, *indexes)


def claim(indexes, digest="1" * 64):
    """The other index names the file of the first one, with this digest, or with none."""
    own, other = indexes
    [leaf] = own.add_project("leaf", size=100_000)
    fragment = f"#sha256={digest}" if digest else ""
    other.add(
        PAGE,
        f'<a href="{own.url(leaf)}{fragment}">{leaf.filename}</a>'.encode(),
        "page",
        "text/html",
    )
    return leaf


def download(desk, index, *more, options=(), target="got"):
    pip = [
        *clients.pip("26.3"),
        "download",
        "-q",
        "--no-deps",
        "--no-cache-dir",
        "-d",
        desk.root / target,
        *more,
    ]
    trusted = ("--trusted-host", "127.0.0.1", "--trusted-host", "127.0.0.2")
    return desk.run(*pip, "--index-url", index.index_url, *trusted, "leaf", options=options)


@pytest.mark.parametrize(
    "options", [[], ["--refresh"], ["--offline"]], ids=["plain", "refresh", "offline"]
)
def test_another_index_with_a_wrong_digest_neither_blocks_nor_drops_a_file(indexes, desk, options):
    own, other = indexes
    leaf = claim(indexes)
    assert download(desk, own, target="first").status == 0
    wrong = download(desk, other, target="second")
    assert wrong.status != 0
    assert not (desk.root / "second" / leaf.filename).exists()
    right = download(desk, own, options=options)
    assert right.status == 0, right.said
    assert (desk.root / "got" / leaf.filename).read_bytes() == leaf.content.whole()


def test_a_run_that_reads_both_pages_gets_the_right_file_and_is_told(indexes, desk):
    own, other = indexes
    leaf = claim(indexes)
    curl = f"curl -sf {other.base}{PAGE} {own.base}{PAGE} -o /dev/null -o /dev/null; curl -sSf {own.url(leaf)} -o file"
    hosts = [word for each in (own, other) for word in ("--host", each.base)]
    ran = desk.run("bash", "-c", curl, options=hosts)
    assert ran.status == 0, ran.said
    assert (desk.project / "file").read_bytes() == leaf.content.whole()
    assert (
        f"{other.base}{PAGE} and {own.base}{PAGE} name different digests for {leaf.filename}"
        in ran.last_line
    )


def test_another_index_that_names_no_digest_lets_no_wrong_file_in(indexes, desk):
    own, other = indexes
    leaf = claim(indexes, digest="")
    own.fault(r"\.whl$", "corrupt", times=-1)
    curl = f"curl -sf {own.base}{PAGE} {other.base}{PAGE} -o /dev/null -o /dev/null; curl -sf {own.url(leaf)} -o file"
    hosts = [word for each in (own, other) for word in ("--host", each.base)]
    ran = desk.run("bash", "-c", curl, options=hosts)
    assert ran.status != 0, ran.said
