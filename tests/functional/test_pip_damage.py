"""Damage of every kind in a cache that a real pip filled.

Found, mended or removed, and pip works again where it failed before.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from entrepot.ports.tool import Kind
from entrepot.tools.pip.httpentry import PREFIX, decode, encode
from entrepot.tools.pip.tool import tool
from functional.test_pip_cache_real import Lab
from pip_lab import ForkedPip, pip_python

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")


def filled_by(version, folder):
    """A cache filled once; each case works on the same bytes again."""
    pip_python(version)
    made = Lab(version, folder)
    made.download("pure", "multi-tag")
    made.pip("wheel", "--no-deps", "-w", str(folder / "w"), "source")
    made.root = made.place.path
    shutil.copytree(made.root, folder / "kept", copy_function=shutil.copy2)
    with ForkedPip(version, folder) as made.forked:
        yield made
    made.origin.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """By a pip with metadata and bodies in files of their own."""
    yield from filled_by("26.3", tmp_path_factory.mktemp("damage"))


@pytest.fixture(scope="module")
def filled_of_old(tmp_path_factory):
    """By one that has both in one file."""
    yield from filled_by("23.2.1", tmp_path_factory.mktemp("damage-of-old"))


def as_filled(lab, folder):
    """The same bytes again, and nothing remembered of them."""
    shutil.rmtree(lab.root)
    shutil.copytree(lab.folder / "kept", lab.root, copy_function=shutil.copy2)
    lab.tool = tool(folder / "state", now=lambda: time.time() + 7200)
    return lab


@pytest.fixture
def lab(filled, tmp_path):
    return as_filled(filled, tmp_path)


def entry_of(lab, kind, project="pure"):
    return next(e for e in lab.scan() if e.kind is kind and e.project == project)


def edit_meta(entry, change):
    path = entry.paths[0]
    top = decode(path.read_bytes()).top
    change(top)
    path.write_bytes(encode(top))


def flip(path: Path, at: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 0xFF
    path.write_bytes(bytes(data))


@dataclass
class Damage:
    name: str
    problem: str
    kind: Kind
    do: object
    pip_fails: bool = False
    """Whether this pip really stops before the repair: the others only warn, waste, or leak."""


def nil_vary(top):
    top["response"] |= {
        "headers": {**top["response"]["headers"], "Vary": "Accept-Encoding"},
        "version": 0,
        "reason": "None",
    }
    top["vary"] = {"Accept-Encoding": None}


def with_password(top):
    top["vary"]["Authorization"] = "Basic c2VjcmV0"


def with_header(name, value):
    def change(top):
        top["response"]["headers"][name] = value

    return change


DAMAGES = [
    Damage("wheel-cut", "truncated", Kind.WHEEL, lambda e: os.truncate(e.paths[1], 100)),
    Damage(
        "wheel-flipped", "digest-mismatch", Kind.WHEEL, lambda e: flip(e.paths[1]), pip_fails=True
    ),
    Damage(
        "metadata-flipped",
        "digest-mismatch",
        Kind.METADATA,
        lambda e: flip(e.paths[1]),
        pip_fails=True,
    ),
    Damage(
        "page-cut", "truncated", Kind.PAGE, lambda e: os.truncate(e.paths[1], 60), pip_fails=True
    ),
    Damage("page-flipped", "undecodable", Kind.PAGE, lambda e: flip(e.paths[1]), pip_fails=True),
    Damage("meta-empty", "unreadable-entry", Kind.WHEEL, lambda e: os.truncate(e.paths[0], 0)),
    Damage("meta-cut", "unreadable-entry", Kind.WHEEL, lambda e: os.truncate(e.paths[0], 50)),
    Damage(
        "meta-prefix",
        "unreadable-entry",
        Kind.WHEEL,
        lambda e: e.paths[0].write_bytes(b"cc=3," + e.paths[0].read_bytes()[5:]),
    ),
    Damage(
        "meta-trailing",
        "unreadable-entry",
        Kind.WHEEL,
        lambda e: e.paths[0].write_bytes(e.paths[0].read_bytes() + b"x"),
    ),
    Damage(
        "response-extra-key",
        "crashes-pip",
        Kind.WHEEL,
        lambda e: edit_meta(e, lambda t: t["response"].update(odd=1)),
        True,
    ),
    Damage(
        "response-no-body",
        "crashes-pip",
        Kind.WHEEL,
        lambda e: edit_meta(e, lambda t: t["response"].pop("body")),
        True,
    ),
    Damage(
        "top-no-map",
        "crashes-pip",
        Kind.WHEEL,
        lambda e: e.paths[0].write_bytes(PREFIX + b"\x93\x01\x02\x03"),
        True,
    ),
    Damage("body-gone", "metadata-without-body", Kind.WHEEL, lambda e: e.paths[1].unlink()),
    Damage("meta-gone", "body-without-metadata", Kind.WHEEL, lambda e: e.paths[0].unlink()),
    Damage("resumed", "nil-vary", Kind.WHEEL, lambda e: edit_meta(e, nil_vary)),
    Damage(
        "password",
        "credentials-in-vary",
        Kind.PAGE,
        lambda e: edit_meta(e, with_password),
    ),
    Damage(
        "cookie",
        "credentials-in-headers",
        Kind.WHEEL,
        lambda e: edit_meta(e, with_header("Set-Cookie", "sid=c2VjcmV0")),
    ),
    Damage(
        "header-digest",
        "digest-mismatch",
        Kind.SDIST,
        lambda e: edit_meta(e, with_header("X-Checksum-Sha256", "0" * 64)),
    ),
    Damage("built-cut", "broken-wheel", Kind.BUILT, lambda e: os.truncate(e.paths[0], 200), True),
    Damage("built-record", "record-mismatch", Kind.BUILT, lambda e: change_member(e.paths[0])),
    Damage("origin-broken", "broken-origin", Kind.BUILT, lambda e: e.paths[-1].write_text("{")),
    Damage(
        "temporary",
        "stale-temporary",
        Kind.WHEEL,
        lambda e: Path(f"{e.paths[1]}abcdefgh.tmp").write_bytes(b"x" * 5000),
    ),
]


def change_member(path: Path) -> None:
    """Another content under the same name, with right checksums: only RECORD can tell."""
    with zipfile.ZipFile(path) as archive:
        members = {i: archive.read(i) for i in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in members.items():
            archive.writestr(
                info.filename, b"import evil\n" if info.filename.endswith("__init__.py") else data
            )


DAMAGES_OF_OLD = [
    Damage("cut", "unreadable-entry", Kind.WHEEL, lambda e: os.truncate(e.paths[0], 100)),
    Damage("empty", "unreadable-entry", Kind.METADATA, lambda e: os.truncate(e.paths[0], 0)),
    Damage(
        "prefix",
        "unreadable-entry",
        Kind.WHEEL,
        lambda e: e.paths[0].write_bytes(b"cc=3," + e.paths[0].read_bytes()[5:]),
    ),
    Damage("flipped", "digest-mismatch", Kind.WHEEL, lambda e: flip(e.paths[0], 0.3), True),
    Damage(
        "metadata-flipped", "digest-mismatch", Kind.METADATA, lambda e: flip(e.paths[0], 0.15), True
    ),
    Damage("page-flipped", "undecodable", Kind.PAGE, lambda e: flip(e.paths[0], 0.3), True),
    Damage(
        "response-extra-key",
        "crashes-pip",
        Kind.WHEEL,
        lambda e: edit_meta(e, lambda t: t["response"].update(odd=1)),
        True,
    ),
    Damage("password", "credentials-in-vary", Kind.PAGE, lambda e: edit_meta(e, with_password)),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.name)
def test_damage_is_found_and_repaired(lab, damage):
    assert_it_is_found_and_repaired(lab, damage)


@pytest.mark.parametrize("damage", DAMAGES_OF_OLD, ids=lambda d: d.name)
def test_damage_of_the_old_layout_is_found_and_repaired(filled_of_old, tmp_path, damage):
    assert_it_is_found_and_repaired(as_filled(filled_of_old, tmp_path), damage)


def assert_it_is_found_and_repaired(lab, damage):
    project = "source" if damage.kind in (Kind.BUILT, Kind.SDIST) else "pure"
    damage.do(entry_of(lab, damage.kind, project))
    if damage.pip_fails:
        assert use(lab, project)[0], "this damage does not stop pip: the case shows nothing"
    found = list(lab.tool.verify(lab.place, lab.around))
    assert [f.problem for f in found] == [damage.problem]
    assert not found[0].repaired
    assert "c2VjcmV0" not in found[0].text
    repaired = list(lab.tool.verify(lab.place, lab.around, repair=True))
    assert [(f.problem, bool(f.repaired)) for f in repaired] == [(damage.problem, True)]
    assert list(lab.tool.verify(lab.place, lab.around, repair=True, full=True)) == []
    assert b"c2VjcmV0" not in b"".join(p.read_bytes() for p in lab.root.rglob("*") if p.is_file())
    status, said = use(lab, project)
    assert status == 0, said
    assert "deserialization" not in said
    assert "odd" not in said


def use(lab, project):
    """The exit status of the same pip that needs the project, and what it said."""
    lab.count += 1
    target = str(lab.folder / f"x{lab.count}")
    words = (
        ["wheel", "--no-binary", ":all:", "-w", target]
        if project == "source"
        else ["download", "-d", target]
    )
    return lab.forked.run(*words, "--no-deps", project, environ=lab.environ, cwd=lab.folder)


def test_without_its_page_an_sdist_is_checked_by_the_wheel_that_was_built_from_it(lab):
    """pip writes the sdist's hash into origin.json; the page that named it may long be gone."""
    lab.tool.remove([entry_of(lab, Kind.PAGE, "source")], lab.around)
    (sdist,) = (e for e in lab.scan() if e.kind is Kind.SDIST)
    flip(sdist.paths[1])
    (found,) = lab.tool.verify(lab.place, lab.around, repair=True)
    assert (found.problem, bool(found.repaired)) == ("digest-mismatch", True)
    assert "the origin.json of the wheel built from it" in found.text
    assert use(lab, "source")[0] == 0


def test_a_repaired_resumed_download_is_used_without_a_request(lab):
    """The point of mending in place of removing: nothing is downloaded again."""
    edit_meta(entry_of(lab, Kind.WHEEL), nil_vary)
    list(lab.tool.verify(lab.place, lab.around, repair=True))
    asked, done = lab.download("pure")
    assert not [path for path in asked if path.endswith(".whl")]
    assert "deserialization" not in done.stderr


def test_a_page_with_a_false_hash_goes_with_the_file_it_accuses(lab):
    """The wheel is whole in itself, so the page may be the liar; both can be fetched again."""
    page = entry_of(lab, Kind.PAGE)
    import gzip

    data = json.loads(gzip.decompress(page.paths[1].read_bytes()))
    data["files"][0]["hashes"]["sha256"] = "0" * 64
    body = gzip.compress(json.dumps(data).encode())
    page.paths[1].write_bytes(body)
    edit_meta(page, with_header("Content-Length", str(len(body))))
    assert use(lab, "pure")[0]
    problems = [f.problem for f in lab.tool.verify(lab.place, lab.around, repair=True)]
    assert problems == ["digest-mismatch"]
    assert not use(lab, "pure")[0]
