"""entrepot beside a real conda.

Runs where ENTREPOT_TEST_CONDA names a Python that runs conda, and nowhere else: no index has one.

    ENTREPOT_TEST_CONDA=~/miniconda3/bin/python pytest tests/functional/test_conda_real.py

Its root is never touched: each test has a root prefix of its own that borrows its packages. See
``tests/conda_answers.py``.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import clients
from conda_answers import RC_FOLDERS, make_root
from conda_damage import DAMAGE, Victim
from conda_lab import LATER, contents
from entrepot.ports.tool import Surroundings
from entrepot.testing.channel import Channel
from entrepot.testing.origin import Origin
from entrepot.tools.conda.tool import conda

PYTHON = os.environ.get("ENTREPOT_TEST_CONDA", "")
pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="ENTREPOT_TEST_CONDA names no Python that runs conda"),
    pytest.mark.skipif(
        any(folder.is_dir() for folder in RC_FOLDERS),
        reason="this machine has a condarc for everybody",
    ),
]
SOURCE = str(clients.ROOT / "src")


class Real:
    """A home with a real conda in it, and a channel."""

    def __init__(self, folder: Path, origin: Origin) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.root = make_root(folder, PYTHON)
        self.condarc = self.home / ".condarc"
        self.environ = clients.clean_environment(
            self.home,
            path=f"{self.root}/bin:/usr/bin:/bin",
            PYTHONPATH=SOURCE,
            CONDA_SOLVER="classic",
            CONDA_OVERRIDE_CUDA="",
            CONDA_NUMBER_CHANNEL_NOTICES="0",
            ENTREPOT_STORE=str(folder / "no-store"),
        )
        self.channel = Channel(origin)
        for number in range(4):
            self.channel.add(
                f"demo{number}", size=300_000, extension=".conda" if number % 2 else ".tar.bz2"
            )
        self.channel.publish()

    def conda(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = clients.run(
            [self.root / "bin/conda", *words], self.environ | {"PYTHONPATH": ""}, cwd=self.home
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def creation(self, name: str, *specs: str) -> list[str]:
        return [
            f"{self.root}/bin/conda",
            "create",
            "-y",
            "-p",
            f"{self.home}/{name}",
            "--override-channels",
            "-c",
            self.channel.url,
            *specs,
        ]

    def create(self, name: str, *specs: str) -> Path:
        self.conda(*self.creation(name, *specs)[1:])
        return self.home / name

    def pkgs_dirs(self) -> list[str]:
        found: dict[str, list[str]] = json.loads(
            self.conda("config", "--show", "pkgs_dirs", "--json").stdout
        )
        return found["pkgs_dirs"]

    def entrepot(self, *words: str, statuses: tuple[int, ...] = (0,)) -> str:
        done = clients.run([sys.executable, "-m", "entrepot", *words], self.environ, cwd=self.home)
        assert done.returncode in statuses, (
            f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout + done.stderr

    def places(self) -> list[dict[str, Any]]:
        said = self.entrepot("where", "conda", "--json")
        return [place for place in json.loads(said)["places"] if place["label"] != "orphaned"]


@pytest.fixture
def real(tmp_path, origin) -> Real:
    return Real(tmp_path, origin)


KEPT = "# of the lab\npkgs_dirs:  # where the disk is\n  - /a  #!bottom\n  - /b\n  # slow\n  - /d\n\n# proxies\nssl_verify: true  # really\n"


def test_conda_reads_back_what_was_set_and_every_comment_stays(real):
    real.condarc.write_text(KEPT)
    said = real.entrepot(
        "config", "--tool", "conda", "set", "pkgs_dirs.prepend", f"{real.home}/new"
    )
    assert f"conda confirms: {real.home}/new,/b,/d,/a" in said
    assert f"conda config --prepend pkgs_dirs {real.home}/new" in said
    real.entrepot("config", "--tool", "conda", "set", "pkgs_dirs.append", "/c")
    real.entrepot("config", "--tool", "conda", "set", "pkgs_dirs.remove", "/b")
    real.entrepot("config", "--tool", "conda", "set", "always_copy", "true")
    assert real.pkgs_dirs() == [f"{real.home}/new", "/d", "/c", "/a"]
    assert json.loads(real.conda("config", "--show", "always_copy", "--json").stdout) == {
        "always_copy": True
    }
    text = real.condarc.read_text()
    assert [
        word
        for word in (
            "# of the lab",
            "# where the disk is",
            "#!bottom",
            "# slow",
            "# proxies",
            "# really",
        )
        if word not in text
    ] == []
    for _ in range(4):
        real.entrepot("config", "--tool", "conda", "--undo")
    assert real.condarc.read_text() == KEPT  # to the byte
    assert real.pkgs_dirs() == ["/b", "/d", "/a"]


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        ("x: 1\npkgs_dirs: /a  # big\n", 2),
        ("x: 1\npkgs_dirs:\n\t- /a\n", 3),
        ("x: 1\npkgs_dirs: [/a\nssl_verify: true\n", 3),
    ],
    ids=["string", "tab", "bracket"],
)
def test_a_file_that_conda_cannot_read_is_named_with_its_line(real, broken, line):
    real.condarc.write_text(broken)
    before = real.conda("config", "--show", "pkgs_dirs", "--json", check=False)
    assert before.returncode or "/a" not in before.stdout
    assert f".condarc: {line}: " in real.entrepot("config", "--tool", "conda", "list")


def test_conda_downloads_into_the_cache_that_is_marked(real, tmp_path):
    with clients.tmpfs(tmp_path / "locked") as locked:
        subprocess.run(["mount", "-o", "remount,ro", locked], check=True)
        real.condarc.write_text(
            f"pkgs_dirs:\n  - {locked}/none\n  - {real.home}/b\n  - {real.home}/c\n"
        )
        assert [place["path"] for place in real.places()] == real.pkgs_dirs()
        (marked,) = [
            place["path"]
            for place in real.places()
            if place["label"].startswith("new packages go here")
        ]
        real.create("env", "demo0")
        assert marked == f"{real.home}/b"
        assert Path(marked, "demo0-1.0-h0_0.tar.bz2").is_file()
        assert not Path(real.home, "c").exists()


def test_the_trap_of_a_cache_without_urls_txt_is_named_and_its_cure_cures(real):
    real.create("env", "demo0")
    cache = Path(real.places()[0]["path"])
    shutil.move(cache, real.home / "old")
    (real.home / "old/urls.txt").unlink()
    real.condarc.write_text(f"pkgs_dirs: [{real.home}/new, {real.home}/old]\n")
    failed = real.conda(*real.creation("second", "demo0")[1:], check=False)
    assert failed.returncode
    assert "No package" in failed.stdout + failed.stderr
    (why,) = [place["why_not"] for place in real.places() if not place["usable"]]
    assert why in real.entrepot("status")
    subprocess.run(["/bin/sh", "-c", why.rpartition("cure: ")[2]], check=True, cwd=real.home)
    real.create("third", "demo0")


def test_clean_and_verify_in_a_loop_disturb_no_installation(real):
    """conda fails by itself when two of it download one package (its own race on ``.partial``).

    The packages are there already.
    """
    kept = real.create("kept", "demo0", "demo1")
    shutil.rmtree(real.create("gone", "demo2", "demo3"))
    before = contents(kept)
    running = [
        subprocess.Popen(
            real.creation(f"env{number}", "demo0", "demo1", "demo2", "demo3"),
            env=real.environ | {"PYTHONPATH": ""}, cwd=real.home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) for number in range(4)
    ]  # fmt: skip
    around = Surroundings(real.environ, real.home, real.home, euid=os.geteuid())
    later = conda(now=lambda: time.time() + LATER)  # nothing is fresh to it
    verbs = itertools.cycle(
        (
            ["clean", "--unused", "-y"],
            ["verify", "--repair"],
            ["clean", "--to", "0", "-y"],
            ["clean", "--all", "-y"],
        )
    )
    rounds = 0
    try:
        while any(each.poll() is None for each in running):
            real.entrepot(*next(verbs), "--tool", "conda")
            for place in later.places(around):
                entries = list(later.scan(place, around))
                later.remove([entry for entry in entries if not entry.blocked], around)
                list(later.verify(place, around, repair=True))
            rounds += 1
    finally:
        said = [each.communicate()[0] for each in running]
    assert [each.returncode for each in running] == [0, 0, 0, 0], said
    assert rounds > 1
    assert contents(kept) == before
    files = [
        real.home / f"env{number}/share/demo{name}/data.bin"
        for number in range(4)
        for name in range(4)
    ]
    assert {file.stat().st_size for file in files} == {300_000}


def test_what_clean_removed_conda_fetches_again(real):
    kept = real.create("kept", "demo0", "demo1")
    shutil.rmtree(real.create("gone", "demo2", "demo3"))
    before = contents(kept)
    real.entrepot("clean", "--tool", "conda", "--unused", "--force", "-y")
    real.create("second", "demo0", "demo2")
    real.entrepot("clean", "--tool", "conda", "--all", "--force", "-y")
    real.create("third", "demo1", "demo3")
    assert contents(kept) == before
    assert "demo2" not in Path(real.places()[0]["path"], "urls.txt").read_text()
    real.conda("clean", "--all", "-y")


def test_an_environment_file_is_solved_by_conda_and_creates_offline_afterwards(real, origin):
    """conda's own caches hold one package already.

    It is fetched all the same, by the record beside it.
    """
    real.environ["ENTREPOT_STORE"] = f"{real.home}/store"
    real.create("first", "demo0")
    kept = real.places()[0]["path"]
    real.condarc.write_text(f"pkgs_dirs: [{kept}]\n")
    file = real.home / "environment.yml"
    file.write_text(
        f"channels: [{real.channel.url}, nodefaults]\ndependencies: [demo0, demo1=1.0, 'demo2>=1']\n"
    )
    origin.reset()
    said = json.loads(
        real.entrepot("warm", "--env", str(file), "--json").partition("}\nconda solves")[0] + "}"
    )
    assert [(item["item"], item["status"]) for item in said["items"]] == [
        ("demo0-1.0-h0_0.tar.bz2", "ready"),
        ("demo1-1.0-h0_0.conda", "ready"),
        ("demo2-1.0-h0_0.tar.bz2", "ready"),
    ]
    assert (
        origin.count(r"demo\d-1\.0.*(bz2|conda)$", status=200) == 2
    )  # the third came out of conda's cache
    assert sorted(path.name for path in Path(kept).glob("demo*-h0_0")) == ["demo0-1.0-h0_0"]
    origin.stop()
    real.condarc.unlink()
    shutil.rmtree(kept)
    real.entrepot("run", "--offline", "--", *real.creation("second", "demo0", "demo1", "demo2"))
    assert (real.home / "second/share/demo2/data.bin").stat().st_size == 300_000
    record = json.loads((real.home / "second/conda-meta/demo1-1.0-h0_0.json").read_text())
    assert record["url"] == f"{real.channel.url}/noarch/demo1-1.0-h0_0.conda"


def test_what_conda_lists_explicitly_is_taken_from_its_cache_and_creates_offline_afterwards(
    real, origin
):
    real.environ["ENTREPOT_STORE"] = f"{real.home}/store"
    real.create("first", "demo0", "demo1")
    real.create("other", "demo1", "demo2")
    used = json.loads(real.entrepot("list", "--used-by", "first", "--json"))
    assert sorted(entry["project"] for entry in used["entries"]) == ["demo0", "demo1"]
    listed = real.home / "list.txt"
    listed.write_text(
        real.conda("list", "-p", real.home / "first", "--explicit", "--sha256").stdout
    )
    assert "@EXPLICIT" in listed.read_text()
    origin.reset()
    real.entrepot("warm", "-f", str(listed))
    assert origin.count() == 0
    origin.stop()
    shutil.rmtree(real.places()[0]["path"])
    words = [
        f"{real.root}/bin/conda",
        "create",
        "-y",
        "-p",
        f"{real.home}/second",
        "--file",
        str(listed),
    ]
    real.entrepot("run", "--offline", "--", *words)
    assert (real.home / "second/share/demo1/data.bin").stat().st_size == 300_000


def test_after_every_kind_of_damage_and_its_repair_conda_installs_every_package(real, origin):
    """Between the two conda installs wrong bytes without a word, or stops (the words are told by conda's own safety checks)."""
    names = [f"much{number}" for number in range(len(DAMAGE))]
    packages = [
        real.channel.add(name, size=20_000, extension=".conda" if i % 2 else ".tar.bz2")
        for i, name in enumerate(names)
    ]
    real.channel.publish()
    first = real.create("first", *names)
    right = {name: (first / f"share/{name}/data.bin").read_bytes() for name in names}
    shutil.rmtree(first)
    cache = Path(real.places()[0]["path"])
    for package, (kind, (_, damage)) in zip(packages, DAMAGE.items(), strict=True):
        if kind != "emptied dependencies":  # these depend on nothing
            damage(Victim(cache, cache / package.filename, real.home / "aside" / package.filename))
    around = Surroundings(real.environ, real.home, real.home)
    later = conda(now=lambda: time.time() + LATER)
    (place,) = [place for place in later.places(around) if place.path == cache]
    found = list(later.verify(place, around, full=True, repair=True))
    words = {word for kind, (word, _) in DAMAGE.items() if kind != "emptied dependencies"}
    assert {finding.problem for finding in found} == words
    assert [finding.text for finding in found if not finding.repaired] == []
    second = real.create("second", *names)
    assert {name: (second / f"share/{name}/data.bin").read_bytes() for name in names} == right
