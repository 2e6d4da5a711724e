"""Caches written by real pips.

Every name right, sizes as pip counts them, and pip goes on working after a removal.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.ports.tool import Kind, Surroundings
from entrepot.tools.pip.reuse import stored_response
from entrepot.tools.pip.tool import tool
from pip_lab import (
    VERSIONS,
    Index,
    Origin,
    clean_environ,
    pip_python,
    run_pip,
    sdist_bytes,
    source_files,
    wheel_bytes,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")

PURE = ["pure", "multi-tag", "numbered", "dotted-name"]
PLATFORM = "plat"
SOURCES = ["source", "zipped", "bzipped"]


def everything(index: Index) -> set[str]:
    """Fill the index; the file names that pip will have downloaded."""
    return {
        index.add(*wheel_bytes("pure", "1.0")),
        index.add(*wheel_bytes("Multi_Tag", "2.0.post1", "py2.py3-none-any")),
        index.add(*wheel_bytes("numbered", "1.5", build="2foo")),
        index.add(*wheel_bytes("Dotted.Name", "3!1.0")),
        index.add(
            *wheel_bytes(
                "plat", "1.0+local.1", "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64"
            )
        ),
        index.add(*sdist_bytes("source", "0.1")),
        index.add(*sdist_bytes("zipped", "0.2", ".zip")),
        index.add(*sdist_bytes("bzipped", "0.3", ".tar.bz2")),
    }


class Lab:
    """One pip with a filled cache of its own."""

    def __init__(self, version: str, folder: Path, *, relative: bool = False) -> None:
        self.version = version
        self.home = folder / "home"
        self.home.mkdir()
        self.index = Index(relative=relative)
        self.names = everything(self.index)
        self.origin = Origin(self.index, folder)
        self.environ = clean_environ(
            self.home, PIP_CERT=str(self.origin.ca), PIP_INDEX_URL=f"{self.origin.base}/simple"
        )
        self.folder = folder
        self.around = Surroundings(
            self.environ, self.home, folder, "linux", os.geteuid(), pip_python(version)
        )
        self.tool = tool(folder / "state")
        self.count = 0

    def pip(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run_pip(self.version, *words, environ=self.environ, cwd=self.folder, check=check)

    def download(
        self, *names: str, check: bool = True
    ) -> tuple[list[str], subprocess.CompletedProcess[str]]:
        """Download into an empty directory; the paths that the origin was asked for."""
        self.count += 1
        self.index.log.clear()
        done = self.pip(
            "download",
            "--no-deps",
            "-d",
            str(self.folder / f"out{self.count}"),
            *names,
            check=check,
        )
        return list(self.index.log), done

    def fill(self) -> None:
        self.download(*PURE)
        self.pip(
            "download", "--no-deps", "-d", str(self.folder / "p"), "--only-binary", ":all:", "--platform", "manylinux2014_x86_64",
            "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", PLATFORM,
        )  # fmt: skip
        self.pip("wheel", "--no-deps", "-w", str(self.folder / "w"), *SOURCES)
        self.pip(
            "download",
            "--no-deps",
            "-d",
            str(self.folder / "r"),
            "-i",
            f"{self.origin.base}/moved",
            "pure",
        )
        if (git := commit(self.folder)) is not None:
            self.pip("wheel", "--no-deps", "-w", str(self.folder / "w"), git)

    @property
    def place(self):
        return self.tool.places(self.around)[0]

    def scan(self):
        return list(self.tool.scan(self.place, self.around))


def commit(folder: Path) -> str | None:
    """A requirement that names a full commit of a local repository; ``None`` without git."""
    if shutil.which("git") is None:
        return None
    repository = folder / "from-git"
    repository.mkdir()
    for name, data in source_files("from_git", "7.0").items():
        (repository / name).write_bytes(data)
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=lab", "-c", "user.email=lab@example.org", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *words], cwd=repository, check=True, env=env)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=repository,
        check=True,
        env=env,
        capture_output=True,
        text=True,
    ).stdout
    return f"git+file://{repository}@{head.strip()}"


BETWEEN = {"22.0.4", "24.3.1", "25.3"}
"""Their neighbours write the same formats: run with ``-m slow``."""


@pytest.fixture(
    params=[pytest.param(v, marks=pytest.mark.slow) if v in BETWEEN else v for v in VERSIONS]
)
def lab(request, tmp_path):
    pip_python(request.param)
    made = Lab(request.param, tmp_path)
    yield made
    made.origin.close()


def test_every_name_is_right_and_removal_leaves_a_working_cache(lab):
    """One long test a version: filling a cache is what costs."""
    lab.fill()
    entries = lab.scan()
    files = {e.filename for e in entries if e.kind in (Kind.WHEEL, Kind.SDIST)}
    assert files == lab.names
    assert {e.certainty for e in entries if e.kind in (Kind.WHEEL, Kind.SDIST, Kind.METADATA)} == {
        "proven"
    }
    assert {e.project for e in entries if e.kind is Kind.PAGE} == {*PURE, PLATFORM, *SOURCES}
    built = {e.filename for e in entries if e.kind is Kind.BUILT}
    assert built >= {
        "source-0.1-py3-none-any.whl",
        "zipped-0.2-py3-none-any.whl",
        "bzipped-0.3-py3-none-any.whl",
    }
    if shutil.which("git"):
        assert "from_git-7.0-py3-none-any.whl" in built
    if lab.version >= "23":
        assert {e.filename for e in entries if e.kind is Kind.METADATA} == {
            f"{n}.metadata" for n in lab.names if n.endswith(".whl")
        }
        assert {e.certainty for e in entries if e.kind is Kind.BUILT} == {"proven"}
    [redirect] = [e for e in entries if e.extra.get("status") == "301"]
    assert redirect.extra["location"] == f"{lab.origin.base}/simple/pure/"
    assert_sizes_are_those_of_pip(lab, entries)
    assert lab.scan() == entries
    assert lab.tool.scan_stats.read == 0
    assert_nothing_is_found(lab)
    assert_removal_works(lab, entries)


def assert_sizes_are_those_of_pip(lab, entries):
    """pip shows rounded sizes, so ours are rounded by its own rule."""
    said = lab.pip("cache", "info").stdout
    http = sum(e.size for e in entries if e.key.startswith("http"))
    wheels = sum(e.size for e in entries if e.key.startswith("wheels"))
    assert re.search(r"index page cache size: (.*)", said)[1] == rounded(http)
    assert re.search(r"[Ww]heels size: (.*)", said)[1] == rounded(wheels)
    assert int(re.search(r"HTTP files: (\d+)", said)[1]) == sum(
        e.files for e in entries if e.key.startswith("http")
    )
    assert http == sum(p.stat().st_size for p in lab.place.path.glob("http*/**/*") if p.is_file())


def rounded(size: int) -> str:
    if size > 1000 * 1000:
        return f"{size / 1000 / 1000:.1f} MB"
    if size > 10 * 1000:
        return f"{int(size / 1000)} kB"
    return f"{size / 1000:.1f} kB" if size > 1000 else f"{size} bytes"


def assert_nothing_is_found(lab):
    """An undamaged cache is left alone to the last modification time."""
    before = {p: p.lstat().st_mtime_ns for p in lab.place.path.rglob("*")}
    for full in (False, True):
        assert list(lab.tool.verify(lab.place, lab.around, repair=True, full=full)) == []
    assert {p: p.lstat().st_mtime_ns for p in lab.place.path.rglob("*")} == before
    checked = [e for e in lab.scan() if e.kind in (Kind.WHEEL, Kind.SDIST)]
    assert {e.trust for e in checked} == {"proven"}
    assert all(e.digest is not None for e in checked)


def assert_removal_works(lab, entries):
    gone = [e for e in entries if e.project == "pure" and e.kind is not Kind.PAGE]
    blocks = disk(lab.place.path)
    done = lab.tool.remove(gone, lab.around)
    assert len(done.entries) == len(gone)
    assert done.freed == blocks - disk(lab.place.path) > 0
    asked, _ = lab.download("pure", "multi-tag")
    assert any(path.endswith("pure-1.0-py3-none-any.whl") for path in asked), (
        "what was removed is fetched again"
    )
    assert not any("Multi_Tag" in path for path in asked), "what was kept is used"
    built = [e for e in lab.scan() if e.kind is Kind.BUILT]
    kept = lab.tool.remove(built, lab.around)
    assert not kept.entries
    assert {why for _, why in kept.kept} == {
        "made or used less than ten minutes ago (--force takes it)"
    }
    forced = lab.tool.remove(built, lab.around, force=True)
    assert len(forced.entries) == len(built)
    assert not [p for p in (lab.place.path / "wheels").rglob("*") if p.is_file()], (
        "origin.json goes with the last wheel"
    )
    lab.pip("wheel", "--no-deps", "-w", str(lab.folder / "again"), "source")


def disk(folder: Path) -> int:
    return sum(p.lstat().st_blocks * 512 for p in [folder, *folder.rglob("*")])


def test_relative_links_are_proved_through_the_configured_index(tmp_path):
    pip_python("26.3")
    lab = Lab("26.3", tmp_path, relative=True)
    try:
        lab.download("pure", "multi-tag")
        found = {
            e.filename: e.certainty for e in lab.scan() if e.kind in (Kind.WHEEL, Kind.METADATA)
        }
    finally:
        lab.origin.close()
    assert set(found.values()) == {"proven"}
    assert len(found) == 4


def test_an_entry_that_changed_after_it_was_listed_stays(tmp_path):
    """A refresh by another pip rewrites the metadata.

    What was listed is then no longer what would be removed.
    """
    pip_python("26.3")
    lab = Lab("26.3", tmp_path)
    try:
        lab.download("pure")
        [entry] = [e for e in lab.scan() if e.kind is Kind.WHEEL]
        os.utime(entry.paths[0], (1, 1))
        done = lab.tool.remove([entry], lab.around)
    finally:
        lab.origin.close()
    assert done.kept == ((entry, "it changed since it was listed"),)
    assert all(path.exists() for path in entry.paths)


def test_a_stored_response_is_the_body_that_the_origin_sent(tmp_path):
    pip_python("26.3")
    lab = Lab("26.3", tmp_path)
    try:
        lab.download("pure")
        url = f"{lab.origin.base}/files/pure/pure-1.0-py3-none-any.whl"
        given = stored_response(lab.place.path, url)
        with given.open() as body:
            assert body.read() == lab.index.files["pure"]["pure-1.0-py3-none-any.whl"]
        assert given.is_whole_file
        assert given.head.status == 200
        assert stored_response(lab.place.path, url + "x") is None
        assert lab.tool.remove([replace(e) for e in lab.scan()], lab.around).entries
        assert stored_response(lab.place.path, url) is None
    finally:
        lab.origin.close()
