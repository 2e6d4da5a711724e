"""Ten kinds of damage in real uv caches.

Found, repaired, and the same uv installs every byte right afterwards.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from entrepot.testing.origin import Origin
from uv_lab import LATER_S, VERSIONS, Lab, fill_origin, hashes

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")


@pytest.fixture(params=VERSIONS)
def lab(request: pytest.FixtureRequest, tmp_path: Path, origin: Origin) -> Lab:
    fill_origin(origin)
    found = Lab(request.param, tmp_path, origin)
    found.later = LATER_S
    return found


def one(lab: Lab, pattern: str) -> Path:
    (path,) = lab.cache.glob(pattern)
    return path


def archive(lab: Lab) -> Path:
    return next(
        path for path in one(lab, "wheels-v*/index/*/alpha").iterdir() if path.is_symlink()
    ).resolve()


def cut(path: Path, size: int = 0) -> None:
    data = path.read_bytes()[:size]
    path.unlink()
    path.write_bytes(data)


def gone(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.unlink()
    path.write_bytes(data)


def edited(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"# edited through an environment")


DAMAGE = {
    "truncated-pointer": lambda lab: cut(one(lab, "wheels-v*/index/*/alpha/*.http"), 40),
    "truncated-pointer: empty": lambda lab: cut(one(lab, "wheels-v*/index/*/alpha/*.http")),
    "missing-archive": lambda lab: gone(archive(lab)),
    "orphan-archive": lambda lab: [
        gone(path) for path in list(one(lab, "wheels-v*/index/*/alpha").iterdir())
    ],
    "digest-mismatch: short": lambda lab: cut(archive(lab) / "alpha" / "data.bin", 7),
    "digest-mismatch: flipped": lambda lab: flipped(archive(lab) / "alpha" / "data.bin"),
    "digest-mismatch: lost": lambda lab: gone(archive(lab) / "alpha" / "data.bin"),
    "digest-mismatch: edited": lambda lab: edited(archive(lab) / "alpha" / "__init__.py"),
    "missing-record": lambda lab: gone(archive(lab) / "alpha-1.0.dist-info" / "RECORD"),
    "truncated-page": lambda lab: cut(one(lab, "simple-v*/index/*/alpha.rkyv"), 50),
    "broken-wheel": lambda lab: cut(one(lab, "sdists-v*/index/*/source-pkg/0.3/*/*.whl")),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_it_is_found_and_after_the_repair_uv_installs_what_is_right(name: str, lab: Lab):
    right = hashes(lab.environment("right", "alpha", "source-pkg", mode="copy"))
    DAMAGE[name](lab)
    problem = name.partition(":")[0]
    found = list(lab.tool.verify(lab.place, lab.around))
    assert [(f.problem, f.repaired) for f in found] == [(problem, "")]
    mended = list(lab.tool.verify(lab.place, lab.around, repair=True))
    assert [f.problem for f in mended] == [problem]
    assert mended[0].repaired
    assert not list(lab.tool.verify(lab.place, lab.around))
    again = hashes(lab.environment("again", "alpha", "source-pkg", mode="copy"))
    mine = [
        path
        for path in right
        if ("alpha" in path or "source_pkg" in path) and not path.endswith("RECORD")
    ]  # scripts differ
    assert {path: again.get(path) for path in mine} == {path: right[path] for path in mine}


def test_a_sound_cache_is_left_alone_to_the_last_time(lab: Lab):
    lab.fill()
    before = {
        path: (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in lab.cache.rglob("*")
    }
    read = {
        path: path.lstat().st_atime_ns
        for path in before
        if path.is_file() and not path.is_symlink()
    }
    assert not list(lab.tool.verify(lab.place, lab.around, repair=True))
    assert {
        path: (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in lab.cache.rglob("*")
    } == before
    assert {path: path.lstat().st_atime_ns for path in read} == read


def test_what_an_environment_links_to_symbolically_stays_though_damaged_and_is_said(lab: Lab):
    lab.environment("linked", "alpha", mode="symlink")
    edited(archive(lab) / "alpha" / "__init__.py")
    (found,) = lab.tool.verify(lab.place, lab.around, repair=True)
    assert not found.repaired
    assert "it stays" in found.text
    assert "symbolically" in found.text
    assert archive(lab).exists()
