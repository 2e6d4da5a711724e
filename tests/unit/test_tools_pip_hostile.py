"""Bytes that mean harm: what they cost is bounded, and they name nothing."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import time
import zipfile

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.ports.tool import Kind, Surroundings
from entrepot.tools._shared.archives import zip_problem
from entrepot.tools.pip.cache import http_records
from entrepot.tools.pip.httpentry import (
    PREFIX,
    Damage,
    decode,
    encode,
    entry_name,
    entry_path,
    fresh_until,
    read_meta,
)
from entrepot.tools.pip.identify import identify
from entrepot.tools.pip.tool import tool
from pip_lab import metadata, sdist_bytes, wheel_bytes


def named_by_content(data: bytes, coding: str = ""):
    return identify(io.BytesIO(data), coding)


@pytest.mark.parametrize(
    ("name", "version", "tags", "build"),
    [
        ("pure", "1.0", "py3-none-any", ""),
        ("MarkupSafe", "3.0", "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", ""),
        ("old", "2.0", "py2.py3-none-any", ""),
        ("many", "1.0", "cp39.cp310-abi3-macosx_11_0_arm64.macosx_10_9_x86_64", "7"),
        ("dotted.name", "1.0.post1", "py3-none-win_amd64", "1local"),
    ],
)
def test_a_wheel_is_named_by_its_content(name, version, tags, build):
    filename, data = wheel_bytes(name, version, tags, build=build)
    found = named_by_content(data)
    assert (found.kind, found.filename, found.tags) == (Kind.WHEEL, filename, tags)
    assert not found.approximate


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip", ".tar.bz2", ".tar.xz"])
def test_an_sdist_is_named_by_its_top_directory(suffix):
    filename, data = sdist_bytes("Some_Source", "1.2", suffix)
    found = named_by_content(data)
    assert (found.kind, found.filename, found.project, found.version) == (
        Kind.SDIST,
        filename,
        "some-source",
        "1.2",
    )


def test_metadata_pages_and_the_rest_are_told_apart():
    assert named_by_content(metadata("A.b", "1")).project == "a-b"
    assert named_by_content(b'{"name": "A_b", "files": []}').kind is Kind.PAGE
    assert (
        named_by_content(gzip.compress(b"<html><title>Links for a</title></html>"), "gzip").project
        == "a"
    )
    assert named_by_content(b"anything").kind is Kind.OTHER
    assert named_by_content(b"").kind is Kind.OTHER


def test_a_page_with_a_link_that_is_no_url_can_be_asked_for_its_own():
    page = named_by_content(b'{"name": "a", "files": [{"url": "https://[:::]:1/a-1.zip"}]}').page
    assert page.url("0" * 56, ["https://index.test/simple"]) is None


@pytest.mark.slow
def test_a_bomb_is_not_unpacked():
    """Ten megabytes of zeros claim a hundred gigabytes; nobody waits for them."""
    page = gzip.compress(b"<html>" + b"\0" * (80 << 20))
    started = time.process_time()
    assert named_by_content(page, "gzip").kind is Kind.OTHER
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as archive:
        member = tarfile.TarInfo("root/huge")
        member.size = 400 << 20
        archive.addfile(member, Zeros(member.size))
    assert named_by_content(tar.getvalue()).kind is Kind.OTHER
    assert time.process_time() - started < 20


class Zeros(io.RawIOBase):
    def __init__(self, size):
        self.left = size

    def read(self, size=-1):
        size = min(size, self.left)
        self.left -= size
        return b"\0" * size


def test_a_zip_that_lies_about_its_size_is_a_problem_and_not_a_wait():
    _, data = wheel_bytes("pure", "1.0")
    raw = bytearray(data)
    at = raw.rfind(b"PK\x01\x02")
    raw[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFF0)
    assert zip_problem(io.BytesIO(bytes(raw)), len(raw))


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a\nb", ""])
def test_a_top_directory_that_is_no_plain_name_names_nothing(name):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo(f"{name}/PKG-INFO")
        data = metadata("evil", "1")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    found = named_by_content(buffer.getvalue())
    assert "/" not in found.filename
    assert "\n" not in found.filename


@given(
    st.binary(max_size=300),
    st.sampled_from(
        [
            b"",
            b"PK\x03\x04",
            b"\x1f\x8b",
            b"BZh9",
            b"\xfd7zXZ\0",
            b"{",
            b"<html>",
            b"Metadata-Version: 2",
        ]
    ),
)
def test_no_bytes_make_the_namer_fail(data, start):
    named_by_content(start + data)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail(data):
    decode(data)
    decode(PREFIX + data)


WORDS = st.sampled_from(["response", "body", "headers", "vary", "status", "x"])
LEAVES = st.none() | st.integers(-5, 5) | st.text(max_size=5)
MAPS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4)
)


@given(MAPS)
def test_no_map_makes_the_reader_fail(value):
    decode(PREFIX + msgpack.packb(value))


@given(st.text(max_size=60))
def test_any_text_may_be_a_url(text):
    entry_name(text)


def whole(body=b"x", **headers):
    fields = {"Date": "Mon, 01 Jun 2026 00:00:00 GMT", **headers}
    response = {
        "body": body,
        "headers": fields,
        "status": 200,
        "version": 11,
        "reason": "OK",
        "decode_content": False,
    }
    return {"response": response, "vary": {}}


@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000])
def test_the_old_layout_is_read_without_its_body(tmp_path, size):
    path = tmp_path / "entry"
    top = whole(b"b" * size)
    top["response"]["strict"] = 0
    path.write_bytes(encode(top))
    meta = read_meta(path, "http")
    assert (meta.body_size, meta.status) == (size, 200)
    assert path.read_bytes()[meta.body_offset : meta.body_offset + size] == b"b" * size
    path.write_bytes(encode(top)[: -(size // 2) - 40])
    assert isinstance(read_meta(path, "http"), Damage)


def test_freshness_is_counted_as_pip_counts_it():
    meta = decode(encode(whole(**{"Cache-Control": "public, max-age=600"})))
    date = 1780272000.0
    assert fresh_until(meta.fields, 200) == date + 600
    assert (
        fresh_until(
            decode(encode(whole(**{"Cache-Control": 'Max-Age=600, max-age="5"'}))).fields, 200
        )
        == date
    )
    assert fresh_until(meta.fields, 301) == float("inf")


def test_a_number_that_is_none_is_no_length_and_no_lifetime():
    meta = decode(encode(whole(**{"Cache-Control": "max-age=²", "Content-Length": "²"})))
    assert (meta.length, fresh_until(meta.fields, 200)) == (None, 1780272000.0)
    assert decode(encode(whole(**{"Content-Length": "9" * 5000}))).length == int("9" * 30)


def test_symbolic_links_and_foreign_names_are_shown_and_never_touched(tmp_path):
    root = tmp_path / "cache"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    name = "ab" * 28
    folder = entry_path(root, "http-v2", name).parent
    folder.mkdir(parents=True)
    (folder / name).symlink_to(outside / "precious")
    (folder / "foreign.txt").write_text("y")
    (root / "http-v2" / "f").symlink_to(outside, target_is_directory=True)
    (root / "strange" / "deep").mkdir(parents=True)
    (root / "strange" / "deep" / "file").write_text("z" * 5000)
    world = Surroundings(
        {"HOME": str(tmp_path), "PIP_CACHE_DIR": str(root), "PATH": ""},
        tmp_path,
        tmp_path,
        "linux",
        os.geteuid(),
    )
    pip = tool(tmp_path / "state", now=lambda: time.time() + 10**7)
    place = pip.places(world)[0]
    entries = list(pip.scan(place, world))
    assert all(e.blocked for e in entries)
    assert next(e for e in entries if e.key == "strange").size == 5000
    done = pip.remove(entries, world, force=True)
    assert not done.entries
    assert (outside / "precious").read_text() == "x"


def test_young_left_overs_stay_and_old_ones_are_litter(tmp_path):
    root = tmp_path / "cache"
    name = entry_name("https://index.test/a")
    path = entry_path(root, "http-v2", name)
    path.parent.mkdir(parents=True)
    path.with_name(f"{name}.bodyabcd1234.tmp").write_bytes(b"t" * 9000)
    path.write_bytes(encode(whole(b"")))
    world = Surroundings(
        {"HOME": str(tmp_path), "PIP_CACHE_DIR": str(root), "PATH": ""},
        tmp_path,
        tmp_path,
        "linux",
        os.geteuid(),
    )
    young, old = tool(tmp_path / "a"), tool(tmp_path / "b", now=lambda: time.time() + 4000)
    place = young.places(world)[0]
    assert {e.removable_because for e in young.scan(place, world)} == {""}
    assert not young.remove(list(young.scan(place, world)), world, force=True).entries
    entries = list(old.scan(place, world))
    assert {e.removable_because for e in entries} == {"stale temporary", "orphan"}
    done = old.remove(entries, world)
    assert len(done.entries) == 2
    assert not list((root / "http-v2").iterdir())


def test_metadata_goes_before_the_body():
    info = os.stat(__file__)
    name = "ab" * 28
    [record] = http_records(f"http-v2/{'/'.join(name[:5])}", [(name, info), (f"{name}.body", info)])
    assert record.names == f"{name}/{name}.body"


def test_a_reused_response_holds_no_cookies_or_passwords(tmp_path):
    from entrepot.tools.pip.reuse import stored_response

    url = "https://index.test/a"
    path = entry_path(tmp_path, "http-v2", entry_name(url))
    path.parent.mkdir(parents=True)
    top = whole(b"", **{"Set-Cookie": "s3cret", "Content-Length": "3"})
    top["vary"] = {"Authorization": "Basic s3cret"}
    path.write_bytes(encode(top))
    path.with_name(path.name + ".body").write_bytes(b"abc")
    given = stored_response(tmp_path, "https://u:p@index.test/a#x")
    assert given.credentialed
    assert "s3cret" not in repr(given)
    path.with_name(path.name + ".body").write_bytes(b"ab")
    assert stored_response(tmp_path, url) is None


def test_the_zip_with_two_dist_infos_is_no_wheel():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("a-1.dist-info", "b-1.dist-info"):
            archive.writestr(f"{name}/WHEEL", "Tag: py3-none-any\n")
    assert named_by_content(buffer.getvalue()).kind is Kind.OTHER
