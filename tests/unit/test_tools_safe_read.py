"""Reading other people's files: bounded, and never failing."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.tools._shared.defaults import default_index
from entrepot.tools._shared.safe_read import (
    line_of,
    parse_toml,
    read_text,
    read_toml,
    read_whole,
)
from entrepot.tools.client_setup.found_urls import reportable
from entrepot.tools.client_setup.readers import ini, yaml_lines
from entrepot.tools.client_setup.scan import scan


def test_no_more_is_read_than_the_limit(tmp_path):
    (tmp_path / "big").write_bytes(b"x" * 100)
    assert read_text(tmp_path / "big", limit_bytes=10) == "x" * 10


def test_a_program_is_no_text(tmp_path):
    """``entrepot run -- /usr/bin/uv ...`` names a file of fifty megabytes, which no client setup needs to search for URLs."""
    (tmp_path / "uv").write_bytes(b"\x7fELF\0\0" + b"https://index.test/simple/ " * 1000)
    assert read_text(tmp_path / "uv") == ""


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "x"
    path.write_text("one")
    assert read_text(path) == "one"
    path.write_text("three")
    assert read_text(path) == "three"


def test_a_file_that_was_replaced_by_one_as_long_and_as_old_is_read_again(tmp_path):
    """As `cp -p`, git and editors that keep times leave it."""
    path, other = tmp_path / "x", tmp_path / "y"
    path.write_text("one")
    about = path.stat()
    assert read_text(path) == "one"
    path.write_text("two")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert read_text(path) == "two"
    other.write_text("six")
    os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
    other.rename(path)
    assert read_text(path) == "six"


def test_what_could_not_be_read_once_is_read_the_next_time(tmp_path):
    (tmp_path / "x").write_text("one")
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
    try:
        assert read_text(tmp_path / "x") == ""
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))
    assert read_text(tmp_path / "x") == "one"


def test_what_cannot_be_read_is_empty(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert [read_text(tmp_path / name) for name in ("missing", "pipe", "", "a\0b")] == [""] * 4
    (tmp_path / "broken.toml").write_text("[x")
    assert read_toml(tmp_path / "broken.toml") == {}


def test_pip_settings_have_one_spelling_and_marks_at_the_start_are_no_text(tmp_path):
    (tmp_path / "pip.conf").write_text(
        "\ufeff[global]\n--Index_URL: a\nfind-links =\n  b\n  c\nempty =\n%x = %(y)s\n"
    )
    assert ini(tmp_path / "pip.conf") == [
        (("index-url",), "a"),
        (("find-links",), "\nb\nc"),
        (("%x",), "%(y)s"),
    ]


def test_a_settings_line_is_named(tmp_path):
    (tmp_path / "x").write_text('a = 1\n  "Proxy" = 2\n')
    assert line_of(tmp_path / "x", "proxy").endswith("x:2")
    assert line_of(tmp_path / "x", "none").endswith("x")


def test_a_pip_whose_constants_have_moved_gives_no_default_index():
    assert default_index("_internal/models/moved.py") == ()
    assert default_index("__init__.py") == ()


@given(st.text())
def test_no_text_breaks_a_scan(text):
    scan(text, requirements=True)
    list(yaml_lines(text))
    parse_toml(text)


@given(st.text(alphabet="ab:/@[]?#%$.{}1 ", max_size=40))
def test_no_url_breaks_or_keeps_its_user(text):
    for url in (text, "https://" + text, "https://user:word@" + text):
        result = reportable(url, {"a": "b"})
        assert result is None or "@" not in urlsplit(result).netloc


@given(
    st.recursive(
        st.text(alphabet="ab-: #[]'\"\t", max_size=8),
        lambda inner: st.lists(inner, max_size=3).map("\n  - ".join),
    )
)
def test_yaml_lines_have_keys_from_the_outermost_in(text):
    for keys, _value in yaml_lines("top:\n" + "\n".join("  " + line for line in text.splitlines())):
        assert keys[0] == "top"


def test_an_absent_file_is_told_from_one_that_cannot_be_read(tmp_path):
    assert read_whole(tmp_path / "missing") is None
    assert read_whole(tmp_path / "missing/too") is None
    (tmp_path / "empty").touch()
    assert read_whole(tmp_path / "empty") == b""
    (tmp_path / "odd").write_bytes(b"\0\xff")
    assert read_whole(tmp_path / "odd") == b"\0\xff"


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_link_that_leads_nowhere(path: Path) -> None:
    path.symlink_to("gone")


def a_folder_behind_a_link_that_leads_nowhere(path: Path) -> None:
    path.parent.rmdir()
    path.parent.symlink_to("gone")


def a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_file_in_the_place_of_its_folder(path: Path) -> None:
    path.parent.rmdir()
    path.parent.touch()


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        a_pipe,
        a_link_that_leads_nowhere,
        a_folder_behind_a_link_that_leads_nowhere,
        a_link_to_a_device,
        a_file_in_the_place_of_its_folder,
        lambda path: path.write_bytes(b"x" * 11),
    ],
)
def test_what_is_there_and_cannot_be_read_whole_is_an_error(tmp_path, make):
    path = tmp_path / "folder/list"
    path.parent.mkdir()
    make(path)
    with pytest.raises(OSError, match=r"\w"):
        read_whole(path, limit_bytes=10)
