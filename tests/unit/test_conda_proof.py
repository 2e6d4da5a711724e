"""Only what proves to be a package cache is looked at, whatever names it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conda_lab import LATER, Lab, contents
from entrepot.caches.inventory import scan_all
from entrepot.caches.removal import Requirement, plan_cleaning
from entrepot.ports.tool import Kind, Place, Surroundings, Tool
from entrepot.tools.conda.tool import conda, mamba, rattler

TOOLS = {"conda": conda, "mamba": mamba, "rattler": rattler}


def somebodys(folder: Path) -> Path:
    """A directory of a person's, with names that look like those of a cache."""
    for name in (
        ".trash",
        "src/info",
        "data-2024-01",
        "cache",
        ".logs",
        "cache/shards",
        "repodata",
        "https/host/noarch",
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in (
        "data-2024-01.tar.bz2",
        "tool-1-0.conda",
        "tool-1-0.conda.partial",
        "main.c~",
        ".trash/notes.txt",
        "src/info/x",
        "data-2024-01/keep",
        "cache/20240101.json",
        "cache/shards/mine",
        "20240101.json",
        "repodata/20240101.json",
        ".logs/mine.txt",
        "https/host/noarch/data-2024-01.tar.bz2",
    ):
        (folder / name).write_text("{}")
    return folder


def later() -> float:
    return time.time() + LATER


def assert_left_alone(around: Surroundings, folder: Path, *tools: str) -> list[Place]:
    """No tool counts or plans anything in the folder, and each says that it is no cache."""
    made: list[Tool] = [TOOLS[name](now=later) for name in tools or TOOLS]
    before = contents(folder)
    entries = [e for e in scan_all(made, around) if any(folder in p.parents for p in e.paths)]
    assert entries == []
    for tool in made:
        for place in tool.places(around):
            list(tool.verify(place, around, repair=True))
    assert contents(folder) == before
    named = [
        p
        for tool in made
        for p in tool.places(around)
        if p.path and os.path.realpath(p.path) == os.path.realpath(folder)
    ]
    assert named
    assert not any(place.exists for place in named)
    return named


def assert_told(places: list[Place]) -> None:
    assert all(
        place.why_not.startswith("not a package cache: ") and not place.usable for place in places
    )


@pytest.fixture
def lab(tmp_path) -> Lab:
    (tmp_path / "work").mkdir()
    made = Lab(tmp_path / "home/me")
    made.around = replace(made.around, cwd=tmp_path / "work")
    (made.home / ".mamba").mkdir()
    (made.root / "bin/mamba").touch()
    return made


def setting(lab: Lab, **variables: object) -> Surroundings:
    return replace(
        lab.around, environ={"PATH": "", **{name: str(value) for name, value in variables.items()}}
    )


def test_a_directory_without_a_log_and_without_a_package_is_no_cache(lab, tmp_path):
    folder = somebodys(tmp_path / "x")
    assert_told(assert_left_alone(setting(lab, CONDA_PKGS_DIRS=folder), folder, "conda", "mamba"))


@pytest.mark.parametrize(
    "variable",
    [
        "PIXI_CACHE_CONDA_PACKAGES_DIR",
        "PIXI_CACHE_REPODATA_DIR",
        "PIXI_CACHE_DIR",
        "RATTLER_CACHE_DIR",
    ],
)
def test_nor_is_one_that_a_variable_of_pixis_names(lab, tmp_path, variable):
    folder = somebodys(tmp_path / "x")
    assert_told(assert_left_alone(setting(lab, **{variable: folder}), folder, "rattler"))


@pytest.mark.parametrize(
    "log",
    ["https://index.test/files/a.zip\n", "my notes\n", "https://index.test/data-2024-01.tar.bz2\n"],
)
def test_a_list_of_addresses_by_the_name_of_the_log_makes_no_cache(lab, tmp_path, log):
    folder = somebodys(tmp_path / "x")
    (folder / "urls.txt").write_text(log)
    assert_told(assert_left_alone(setting(lab, CONDA_PKGS_DIRS=folder), folder, "conda", "mamba"))


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("gone")])
def test_a_log_that_is_no_file_makes_no_cache(lab, tmp_path, make):
    folder = somebodys(tmp_path / "x")
    make(folder / "urls.txt")
    assert_left_alone(setting(lab, CONDA_PKGS_DIRS=folder), folder, "conda", "mamba")


@pytest.mark.parametrize(
    "info",
    [
        "",
        "{}",
        "[]",
        '{"name": "src"}',
        '{"name": "other", "version": "1", "build": "0"}',
        '{"name": "src", "version": "1"',
    ],
)
def test_a_folder_that_is_only_called_like_a_package_makes_no_cache(lab, tmp_path, info):
    folder = somebodys(tmp_path / "x")
    (folder / "src-1-0/info").mkdir(parents=True)
    (folder / "src-1-0/info/index.json").write_text(info)
    assert_left_alone(setting(lab, CONDA_PKGS_DIRS=folder), folder, "conda", "mamba")
    assert_left_alone(setting(lab, PIXI_CACHE_CONDA_PACKAGES_DIR=folder), folder, "rattler")


@pytest.mark.parametrize("entry", ["''", ".", "./", "../work", "..", "$EMPTY", "$PWD", "sub/.."])
@pytest.mark.parametrize("marked", [False, True])
def test_the_directory_that_a_command_is_started_in_is_no_cache(lab, tmp_path, entry, marked):
    (tmp_path / "work/sub").mkdir()
    folder = somebodys(tmp_path if entry == ".." else tmp_path / "work")
    if marked:
        (folder / "urls.txt").touch()
    (lab.home / ".condarc").write_text(f"pkgs_dirs:\n  - {entry}\n")
    around = setting(lab, EMPTY="", PWD=lab.around.cwd)
    assert_told(assert_left_alone(around, folder, "conda"))


def test_neither_is_it_in_the_variables(lab, tmp_path):
    folder = somebodys(tmp_path / "work")
    (folder / "urls.txt").touch()
    assert_told(assert_left_alone(setting(lab, CONDA_PKGS_DIRS="."), folder, "conda", "mamba"))
    (folder / ".cache.lock").touch()
    assert_told(
        assert_left_alone(setting(lab, PIXI_CACHE_CONDA_PACKAGES_DIR="."), folder, "rattler")
    )


@pytest.mark.parametrize(
    "variable",
    [
        "CONDA_PKGS_DIRS",
        "PIXI_CACHE_CONDA_PACKAGES_DIR",
        "PIXI_CACHE_DIR",
        "PIXI_CACHE_REPODATA_DIR",
    ],
)
@pytest.mark.parametrize("above", [False, True])
def test_neither_is_a_home_directory_nor_one_that_holds_it(lab, variable, above):
    folder = lab.home.parent if above else lab.home
    for name in ("urls.txt", ".cache.lock"):
        (folder / name).touch()
    (folder / "01234567.info.json").write_text(json.dumps({"url": "https://channel.test/c/noarch"}))
    around = setting(lab, **{variable: folder})
    for tool in TOOLS.values():
        assert not any(place.exists for place in tool().places(around) if place.path == folder)
        assert_told([place for place in tool().places(around) if place.path == folder])


def test_neither_is_the_root_of_the_file_system(lab):
    around = setting(
        lab, CONDA_PKGS_DIRS="/", PIXI_CACHE_DIR="/", PIXI_CACHE_CONDA_PACKAGES_DIR="/"
    )
    for tool in TOOLS.values():
        places = [place for place in tool().places(around) if place.path == Path("/")]
        assert places
        assert_told(places)
        assert not any(place.exists for place in places)


@pytest.fixture
def mount(tmp_path) -> Any:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs")
    made: list[Path] = []

    def mounted(path: Path, *how: str) -> Path:
        path.mkdir(exist_ok=True)
        if subprocess.run(["mount", *how, path], check=False, capture_output=True).returncode:
            pytest.skip("nothing can be mounted here")
        made.append(path)
        return path

    yield mounted
    for path in made:
        subprocess.run(["umount", "-l", path], check=False)


@pytest.mark.root
@pytest.mark.parametrize("bound", [False, True])
def test_neither_is_a_mount_point_with_other_things_in_it(lab, tmp_path, mount, bound):
    (tmp_path / "source").mkdir()
    how = (
        ("--bind", str(tmp_path / "source"))
        if bound
        else ("-t", "tmpfs", "-o", "size=16m", "tmpfs")
    )
    disk = mount(tmp_path / "disk", *how)
    cached = Lab(tmp_path / "lab")
    cached.package("demo")
    subprocess.run(["cp", "-a", f"{cached.cache}/.", disk], check=True)
    around = setting(lab, CONDA_PKGS_DIRS=disk)
    (place,) = [place for place in conda().places(around) if place.path == disk]
    assert place.exists, "a file system of its own is a usual place for a cache"
    (disk / "photos").mkdir()
    assert_told(assert_left_alone(around, disk, "conda"))


def test_an_empty_directory_is_one_that_is_not_there_yet(lab, tmp_path):
    (tmp_path / "x").mkdir()
    around = setting(lab, CONDA_PKGS_DIRS=tmp_path / "x")
    (place,) = [place for place in conda().places(around) if place.path == tmp_path / "x"]
    assert (place.exists, place.usable, place.why_not) == (False, True, "")


@pytest.mark.parametrize("mark", ["log", "package", "record"])
def test_a_log_or_a_package_makes_a_cache_and_only_what_is_proved_goes(lab, tmp_path, mark):
    folder = somebodys(tmp_path / "x")
    if mark == "log":
        (folder / "urls.txt").touch()
    made = Lab(tmp_path / "lab")
    package = made.package("demo")
    if mark == "package":
        (package / "info/repodata_record.json").unlink()
    if mark == "record":
        (package / "info/index.json").write_text("{}")
    if mark != "log":
        package.rename(folder / package.name)
    before = contents(folder)
    around = setting(lab, CONDA_PKGS_DIRS=folder)
    found = conda(now=later)
    entries = [entry for entry in scan_all([found], around) if entry.place == folder]
    plan = plan_cleaning(entries, Requirement(everything=True), now=later())
    assert {entry.key for entry in plan.entries if entry.kind is not Kind.PAGE} == (
        set() if mark == "log" else {package.name}
    )
    found.remove(plan.entries, around)
    gone = {name for name in before if name not in contents(folder)}
    assert all(Path(name).is_relative_to(folder / package.name) or "cache" in name for name in gone)


def test_rattlers_lock_makes_a_cache_of_its_packages(lab, tmp_path):
    folder = somebodys(tmp_path / "x")
    (folder / ".cache.lock").touch()
    around = setting(lab, PIXI_CACHE_CONDA_PACKAGES_DIR=folder)
    places = [place for place in rattler().places(around) if place.path == folder]
    assert [place.exists for place in places] == [True]
    plan = plan_cleaning(
        list(scan_all([rattler(now=later)], around)), Requirement(everything=True), now=later()
    )
    assert plan.entries == []


def test_an_index_of_rattlers_goes_by_its_state_and_no_file_by_its_name(lab, tmp_path):
    folder = somebodys(tmp_path / "x")
    (folder / "01234567.json").write_text('{"packages": {}}')
    (folder / "01234567.info.json").write_text(
        json.dumps({"url": "https://channel.test/c/noarch", "blake2_hash": "ab"})
    )
    around = setting(lab, PIXI_CACHE_REPODATA_DIR=folder)
    plan = plan_cleaning(
        list(scan_all([rattler(now=later)], around)), Requirement(everything=True), now=later()
    )
    assert [entry.key for entry in plan.entries] == ["01234567"]
    assert (folder / "20240101.json").exists()


def test_a_leaf_of_mambas_layout_is_a_cache_by_its_own_log(lab, tmp_path):
    leaf = lab.cache / "https/channel.test/c/noarch"
    made = Lab(tmp_path / "lab")
    made.package("demo")
    leaf.parent.mkdir(parents=True)
    made.cache.rename(leaf)
    somebodys(lab.cache / "https/mine")
    entries = list(scan_all([mamba(now=later)], lab.around))
    assert {entry.project for entry in entries if entry.project} == {"demo"}
    plan = plan_cleaning(entries, Requirement(everything=True), now=later())
    assert all(leaf in entry.paths[0].parents for entry in plan.entries)
    assert len(plan.entries) == 2
