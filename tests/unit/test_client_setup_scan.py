"""Finding indexes in text, and in lock files."""

from __future__ import annotations

import pytest

from entrepot.tools.client_setup.scan import locked_origins, requirement_files, scan


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("pip install --index-url 'https://a.test/s' x", ("https://a.test/s",)),
        ('"--extra-index-url=https://a.test/s"', ("https://a.test/s",)),
        ("--index-url\\\n   https://a.test/s", ("https://a.test/s",)),
        ("--no-index --find-linksx https://a.test", ()),
        ("my-index-url https://a.test", ()),
        ("PIP_INDEX_URL=https://a.test/s curl https://b.test/s", ("https://a.test/s",)),
        (
            "PIP_EXTRA_INDEX_URL='https://a.test/s https://b.test/s'",
            ("https://a.test/s", "https://b.test/s"),
        ),
        ("PIP_EXTRA_INDEX_URL=\n    https://a.test/s", ("https://a.test/s",)),
        ("${PIP_INDEX_URL:-https://a.test/s}", ("https://a.test/s",)),
        ("UV_PUBLISH_URL=https://a.test/u", ()),
        ("UV_PYTHON_INSTALL_MIRROR=https://a.test/p", ()),
        ("MY_PIP_INDEX_URL=https://a.test/s", ()),
        (
            "extra-index-url =\n    https://a.test/s\n    https://b.test/s\nother = https://c.test\n",
            ("https://a.test/s", "https://b.test/s"),
        ),
        ("x @ https://a.test/x.whl ; python_version > '3'", ("https://a.test/x.whl",)),
        ("x @ git+https://a.test/x", ()),
        ("-i https://a.test/s#fragment", ("https://a.test/s#fragment",)),
        ("-i https://${USER}:${PASS}@a.test/s", ("https://${USER}:${PASS}@a.test/s",)),
        ("-i $INDEX", ("$INDEX",)),
        (
            "INDEX ?= https://a.test/s\n\tpip install -i $(INDEX) x",
            ("$(INDEX)", "https://a.test/s"),
        ),
        (
            "INDEX='https://a.test/s'\npip install --index-url=${INDEX} x",
            ("${INDEX}", "https://a.test/s"),
        ),
        ('INDEX: Final = "https://a.test/s"\ns.install("-i", INDEX, "x")', ("https://a.test/s",)),
        ("SITE = https://a.test\nINDEX = b\npip install -i $(INDEX) x", ("$(INDEX)",)),
        ("url = https://a.test", ()),
        ("curl -sS -f https://a.test/api", ()),
        ("curl x; pip install -i https://a.test/s", ("https://a.test/s",)),
    ],
)
def test_what_names_an_index_counts_and_nothing_else(text, urls):
    assert scan(text).urls == urls


def test_a_line_that_starts_with_a_url_counts_in_requirement_files_alone():
    assert scan("https://a.test/x.whl\n", requirements=True).urls == ("https://a.test/x.whl",)
    assert scan("https://a.test/x.whl\n").urls == ()


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("-r a.txt", ("a.txt",)),
        ("-ra.txt", ("a.txt",)),
        ("--requirement=a.txt", ("a.txt",)),
        ("--constraint a.txt -c b.txt", ("a.txt", "b.txt")),
        ('"-r", "a.txt")', ("a.txt",)),
        ("foo-requests==1 -x bar-c", ()),
        ("# -r a.txt", ()),
    ],
)
def test_requirement_files_are_noticed(text, files):
    assert scan(text).files == files


def test_included_files_count_from_the_file_that_includes_them_and_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "r.txt").write_text("-r a/b.txt\n-r r.txt\n")
    (tmp_path / "a/b.txt").write_text("-c c.txt\n-r ../r.txt\n")
    (tmp_path / "a/c.txt").write_text("x==1\n")
    names = [path.resolve() for path, _ in requirement_files([tmp_path / "r.txt"])]
    assert set(names) == {tmp_path / "r.txt", tmp_path / "a/b.txt", tmp_path / "a/c.txt"}


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ('source = { registry = "https://a.test/simple" }', {"https://a.test/"}),
        ('{ url = "https://a.test/f/x.whl", hash = "" }', {"https://a.test/"}),
        ('source = { git = "https://a.test/x" }', set()),
        ('type = "git"\nurl = "https://a.test/x"\n', set()),
        ('type = "legacy"\nurl = "https://a.test/x"\n', {"https://a.test/"}),
        ('vcs = { type = "git", url = "https://a.test/x" }', set()),
        ("- conda: https://a.test/x/noarch/x.conda\n", {"https://a.test/"}),
        ("@EXPLICIT\nhttps://a.test/x.conda#0\n", {"https://a.test/"}),
        ('homepage = "https://a.test/x"\n', set()),
        (
            'type = "git"\nurl = "https://a.test/x"\n\nurl = "https://a.test/y"\n',
            {"https://a.test/"},
        ),
    ],
)
def test_lock_files_give_the_hosts_of_indexes_and_files(tmp_path, text, origins):
    (tmp_path / "x.lock").write_text(text)
    assert locked_origins(tmp_path / "x.lock") == origins
