"""What is not known of environments protects packages: an unreadable list is no empty one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from conda_lab import LATER, Lab, contents
from entrepot.caches.removal import Requirement, plan_cleaning, plan_removal
from entrepot.caches.selection import Filter, is_unused
from entrepot.ports.tool import Kind
from entrepot.tools.conda.environments import survey
from entrepot.tools.conda.roots import read_registered


@pytest.fixture
def lab(tmp_path) -> Lab:
    made = Lab(tmp_path / "home")
    made.package("demo")
    made.package("other")
    return made


def register(lab: Lab) -> Path:
    path = lab.home / ".conda/environments.txt"
    path.parent.mkdir(exist_ok=True)
    return path


def assert_nothing_is_unused(lab: Lab, *named: str) -> None:
    """Neither a plan nor a removal takes an unpacked package, and the plan says why."""
    entries = lab.entries()
    unpacked = [entry for entry in entries if entry.kind is Kind.UNPACKED]
    assert len(unpacked) == 2
    assert not any(map(is_unused, entries))
    for wish in (
        Requirement(),
        Requirement(unused=True),
        Requirement(everything=True, force=True),
        Requirement(older_s=1.0),
        Requirement(to_bytes=0),
    ):
        plan = plan_cleaning(entries, wish, now=time.time() + LATER)
        assert not [entry for entry in plan.entries if entry.kind is Kind.UNPACKED]
    plan = plan_cleaning(entries, Requirement(unused=True), now=time.time() + LATER)
    assert [entry.key for entry, _ in plan.staying] == [entry.key for entry in unpacked]
    assert all(name in why for name in named for _, why in plan.staying)
    assert not plan_removal(
        entries, Filter(patterns=("demo",), kinds=frozenset({Kind.UNPACKED})), now=time.time()
    ).entries
    before = contents(lab.cache)
    lab.tool().remove([replace(entry, block=None) for entry in unpacked], lab.around, force=True)
    assert contents(lab.cache) == before


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link_that_leads_nowhere(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def a_link_in_a_circle(path: Path) -> None:
    path.symlink_to(path.name)


def more_than_the_limit(path: Path) -> None:
    path.touch()
    os.truncate(path, (64 << 20) + 1)


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "a folder": a_folder,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a dangling link": a_link_that_leads_nowhere,
    "a circle": a_link_in_a_circle,
    "too large": more_than_the_limit,
    "zeros": lambda path: path.write_bytes(bytes(4096)),
    "a NUL in a line": lambda path: path.write_bytes(b"/opt/a\0b\n"),
    "no paths": lambda path: path.write_text("<html>Please log in</html>\n"),
    "a relative path": lambda path: path.write_text("envs/x\n"),
    "cut short": lambda path: path.write_text("/opt/environ"),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
}


@pytest.mark.parametrize("make", UNREADABLE.values(), ids=UNREADABLE)
def test_a_list_that_cannot_be_read_whole_leaves_nothing_unused(lab, make):
    make(register(lab))
    assert_nothing_is_unused(lab, "environments.txt")


def test_a_list_behind_a_link_that_leads_nowhere_leaves_nothing_unused(lab):
    (lab.home / ".conda").symlink_to("/nowhere/at/all")
    assert_nothing_is_unused(lab, "environments.txt")


@pytest.mark.slow
def test_a_list_of_any_length_is_read_to_its_end(lab):
    env = lab.environment(lab.home / "env", [lab.cache / "demo-1.0-h0_0"], "symbolic")
    dead = "".join(f"{lab.home}/{'long' * 50}-{number}\n" for number in range(5_000))
    register(lab).write_text(f"\ufeff# a comment\n\n{dead}{env}\n", encoding="utf-8")
    assert env in survey(lab.around).prefixes
    assert lab.entry("demo-1.0-h0_0").blocked
    assert is_unused(lab.entry("other-1.0-h0_0"))


@pytest.mark.parametrize(
    "name", [b"caf\xe9", "line\u2028sep\x0b\x85".encode(), b" blanks ", b"\xff\xfe", b"#hash"]
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_any_byte_may_be_in_the_name_of_an_environment(lab, name, end):
    env = lab.environment(
        Path(os.fsdecode(os.fsencode(lab.home) + b"/" + name)),
        [lab.cache / "demo-1.0-h0_0"],
        "symbolic",
    )
    register(lab).write_bytes(os.fsencode(env) + end)
    assert env in survey(lab.around).prefixes
    assert str(env) in lab.entry("demo-1.0-h0_0").blocked
    assert is_unused(lab.entry("other-1.0-h0_0"))


def test_an_environment_that_is_gone_from_a_directory_that_is_there_is_dead(lab):
    env = lab.environment(lab.home / "env", [lab.cache / "demo-1.0-h0_0"], "symbolic")
    shutil.rmtree(env)
    assert survey(lab.around).unknown == []
    assert is_unused(lab.entry("demo-1.0-h0_0"))


def test_an_environment_that_was_the_last_one_in_its_directory_is_dead(lab):
    env = lab.environment(lab.home / "work/env", [lab.cache / "demo-1.0-h0_0"], "symbolic")
    os.utime(register(lab), (time.time() - 9, time.time() - 9))
    shutil.rmtree(env)
    assert survey(lab.around).unknown == []


def test_an_environment_whose_parent_is_gone_as_well_protects_every_package(lab):
    env = lab.environment(lab.home / "disk/envs/env", [lab.cache / "demo-1.0-h0_0"], "symbolic")
    (lab.home / "disk").rename(lab.home / "elsewhere")
    assert_nothing_is_unused(lab, str(env), "environments.txt")


def test_an_environment_whose_disk_is_not_mounted_protects_every_package(lab):
    """What is left of a mount point is an empty directory that is older than the list."""
    env = lab.environment(lab.home / "disk/env", [], "symbolic")
    shutil.rmtree(env)
    os.utime(lab.home / "disk", (1, 1))
    assert_nothing_is_unused(lab, str(env), str(lab.home / "disk"))


def test_an_environment_that_is_itself_an_empty_directory_protects_every_package(lab):
    env = lab.environment(lab.home / "env", [], "symbolic")
    (env / "conda-meta").rmdir()
    assert_nothing_is_unused(lab, str(env))


@pytest.mark.parametrize("where", ["env", "miniconda3/envs/env", "env/conda-meta"])
def test_an_environment_behind_a_link_that_leads_nowhere_protects_every_package(lab, where):
    env = lab.environment(
        lab.home / where.removesuffix("/conda-meta"),
        [],
        "symbolic",
        registered=where.startswith("env"),
    )
    (lab.home / where).rename(lab.home / "elsewhere")
    (lab.home / where).symlink_to("/nowhere/at/all")
    assert_nothing_is_unused(lab, str(env))


@pytest.mark.root
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root to mount a tmpfs"
)
def test_an_environment_counts_as_there_after_its_disk_was_unmounted(lab):
    disk = lab.home / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=False
    ).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        env = lab.environment(disk / "env", [lab.cache / "demo-1.0-h0_0"], "symbolic")
        assert str(env) in lab.entry("demo-1.0-h0_0").blocked
        env.rename(disk / "renamed")
        assert_nothing_is_unused(lab, str(env))
        (disk / "renamed").rename(env)
    finally:
        subprocess.run(["umount", "-l", disk], check=False)
    assert_nothing_is_unused(lab, str(env))


def replaced(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def done(path: Path) -> None:
        path.unlink()
        make(path)

    return done


DAMAGED: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "no JSON": lambda path: path.write_text("no"),
    "a list": lambda path: path.write_text("[]"),
    "no name": lambda path: path.write_text("{}"),
    "bytes that are no text": lambda path: path.write_bytes(b'{"name": "\xff"}'),
    "deep": lambda path: path.write_text("[" * 200_000),
    "a folder": replaced(Path.mkdir),
    "a pipe": replaced(os.mkfifo),
    "a dangling link": replaced(a_link_that_leads_nowhere),
    "too large": more_than_the_limit,
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_of_an_environment_leaves_nothing_unused_and_is_named(lab, damage):
    env = lab.environment(lab.home / "env", [lab.cache / "demo-1.0-h0_0"], "symbolic")
    record = env / "conda-meta/demo-1.0-h0_0.json"
    damage(record)
    (env / "conda-meta/zlib-1-0.json").write_text(json.dumps({"name": "zlib"}))
    assert_nothing_is_unused_or_linked(lab, record)


def assert_nothing_is_unused_or_linked(lab: Lab, record: Path) -> None:
    entries = lab.entries()
    assert not any(map(is_unused, entries))
    assert str(record) in lab.entry("other-1.0-h0_0").blocked
    plan = plan_cleaning(entries, Requirement(everything=True, force=True), now=time.time() + LATER)
    before = contents(lab.home / "env")
    lab.tool().remove(plan.entries, lab.around, force=True)
    assert (lab.cache / "demo-1.0-h0_0").exists()
    assert (lab.cache / "other-1.0-h0_0").exists()
    assert contents(lab.home / "env") == before


@pytest.mark.parametrize(
    "make", [replaced(Path.touch), replaced(os.mkfifo), replaced(a_link_that_leads_nowhere)]
)
def test_records_that_are_no_folder_leave_nothing_unused(lab, make):
    env = lab.environment(lab.home / "env", [], "symbolic")
    (env / "conda-meta").rmdir()
    (env / "conda-meta").touch()
    make(env / "conda-meta")
    assert_nothing_is_unused(lab, str(env / "conda-meta"))


@pytest.mark.parametrize(
    "make", [lambda path: path.write_text("envs_dirs: [\n"), os.mkfifo, a_link_that_leads_nowhere]
)
@pytest.mark.parametrize("name", [".condarc", ".mambarc"])
def test_settings_that_cannot_be_read_may_name_environments(lab, make, name):
    (lab.root / "bin/mamba").touch()
    make(lab.home / name)
    assert_nothing_is_unused(lab, name)


def test_what_cannot_be_read_when_the_removal_comes_keeps_everything(lab):
    entries = [entry for entry in lab.entries() if entry.kind is Kind.UNPACKED]
    assert all(map(is_unused, entries))
    os.mkfifo(register(lab))
    removed = lab.tool().remove(entries, lab.around, force=True)
    assert not removed.entries
    assert all("environments.txt" in why for _, why in removed.kept)


def test_archives_still_go_when_environments_are_not_known(lab):
    os.mkfifo(register(lab))
    plan = plan_cleaning(lab.entries(), Requirement(everything=True), now=time.time() + LATER)
    assert {entry.kind for entry in plan.entries} == {Kind.ARCHIVE}


def test_root_reads_the_list_of_every_user(lab, tmp_path, monkeypatch):
    import pwd

    other = tmp_path / "other"
    (other / ".conda").mkdir(parents=True)
    env = lab.environment(
        tmp_path / "env", [lab.cache / "demo-1.0-h0_0"], "symbolic", registered=False
    )
    (other / ".conda/environments.txt").write_text(f"{env}\n")
    user = pwd.struct_passwd(("ana", "x", 4242, 4242, "", str(other), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [user])
    assert env not in survey(lab.around).prefixes
    as_root = replace(lab.around, euid=0)
    assert env in survey(as_root).prefixes
    (other / ".conda/environments.txt").unlink()
    os.mkfifo(other / ".conda/environments.txt")
    assert str(other) in survey(as_root).unknown[0]


def test_a_list_that_is_absent_or_empty_is_no_damage(lab):
    assert read_registered(lab.home) == []
    register(lab).touch()
    assert read_registered(lab.home) == []
    assert survey(lab.around).unknown == []


def test_a_pipe_in_a_cache_or_in_its_index_stops_no_verb(lab):
    (lab.cache / "cache").mkdir()
    for name in (
        "cache/33333333.info.json",
        "cache/33333333.json",
        "piped-1-0.lock",
        "demo-1.0-h0_0.lock",
        "x-1-0.partial",
    ):
        os.mkfifo(lab.cache / name)
    for name in (
        "demo-1.0-h0_0/info/repodata_record.json",
        "demo-1.0-h0_0/info/index.json",
        "demo-1.0-h0_0/info/paths.json",
    ):
        (lab.cache / name).unlink()
        os.mkfifo(lab.cache / name)
    (lab.cache / "urls.txt").unlink()
    os.mkfifo(lab.cache / "urls.txt")
    assert lab.entries()
    list(lab.tool().verify(lab.place(), lab.around, full=True))
    lab.tool().remove(lab.entries(), lab.around, force=True)
