"""Damage in a cache of packages.

Found, repaired from the archive or taken away, and nothing else touched.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conda_damage import DAMAGE, Victim, flip
from conda_lab import Lab, contents

DATA = "share/demo/data.bin"


@pytest.fixture
def lab(tmp_path) -> Lab:
    made = Lab(tmp_path)
    made.package("demo", depends=("other",))
    made.package("other", extension=".tar.bz2")
    return made


def problems(lab: Lab, **options: bool) -> list[str]:
    return [finding.problem for finding in lab.tool().verify(lab.place(), lab.around, **options)]


def demo(lab: Lab) -> Path:
    return lab.cache / "demo-1.0-h0_0"


def victim(lab: Lab) -> Victim:
    return Victim(lab.cache, lab.cache / "demo-1.0-h0_0.conda", lab.home / "aside")


def edit_through_a_link(lab: Lab) -> None:
    env = lab.environment(lab.home / "env", [demo(lab)], "hard")
    with (env / DATA).open("r+b") as file:
        file.write(b"edited")


@pytest.mark.parametrize(("word", "damage"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_found_and_gone_after_the_repair(lab, word, damage):
    damage(victim(lab))
    assert problems(lab, full=True) == [word]
    assert [
        f.repaired != "" for f in lab.tool().verify(lab.place(), lab.around, repair=True, full=True)
    ] == [True]
    assert problems(lab, full=True) == []


@pytest.mark.parametrize("damage", [d for d in DAMAGE if d != "no urls.txt"])
def test_without_repair_nothing_changes(lab, damage):
    DAMAGE[damage][1](victim(lab))
    before = contents(lab.home)
    problems(lab, full=True)
    assert contents(lab.home) == before


def test_a_sound_cache_has_no_findings_and_keeps_its_times(lab):
    before = {path: path.lstat().st_mtime_ns for path in lab.cache.rglob("*")}
    assert problems(lab, full=True, repair=True) == []
    assert {path: path.lstat().st_mtime_ns for path in lab.cache.rglob("*")} == before


def test_a_file_of_the_same_size_is_found_only_in_full(lab):
    flip(demo(lab) / DATA)
    assert problems(lab) == []
    assert problems(lab, full=True) == ["digest-mismatch"]


def test_a_repaired_file_is_a_new_one_and_the_environment_keeps_its_edit(lab):
    right = (demo(lab) / DATA).read_bytes()
    edit_through_a_link(lab)
    edited = (lab.home / "env" / DATA).read_bytes()
    assert problems(lab, full=True, repair=True) == ["edited-through-a-link"]
    assert (demo(lab) / DATA).read_bytes() == right
    assert (lab.home / "env" / DATA).read_bytes() == edited


def test_what_cannot_be_repaired_is_taken_away(lab):
    (lab.cache / "demo-1.0-h0_0.conda").unlink()
    (demo(lab) / DATA).unlink()
    assert problems(lab, repair=True) == ["missing-file"]
    assert not demo(lab).exists()
    assert (lab.cache / "other-1.0-h0_0").exists()


def test_a_damaged_archive_repairs_nothing(lab):
    flip(lab.cache / "demo-1.0-h0_0.conda")
    (demo(lab) / DATA).unlink()
    assert sorted(problems(lab, repair=True)) == ["digest-mismatch", "missing-file"]
    assert not demo(lab).exists()


def test_a_package_that_an_environment_links_to_symbolically_is_not_taken_away(lab):
    lab.environment(lab.home / "env", [demo(lab)], "symbolic")
    (lab.cache / "demo-1.0-h0_0.conda").unlink()
    (demo(lab) / "info/index.json").unlink()
    found = list(lab.tool().verify(lab.place(), lab.around, repair=True))
    assert [f.problem for f in found] == ["half-unpacked"]
    assert found[0].repaired == ""
    assert (lab.home / "env" / DATA).exists()


def test_a_package_that_is_being_unpacked_is_left_alone(lab):
    (demo(lab) / "info/repodata_record.json").unlink()
    (demo(lab) / DATA).unlink()
    assert list(lab.tool(ahead=0).verify(lab.place(), lab.around, repair=True)) == []


def test_paths_that_lead_out_of_the_package_are_never_written(lab):
    paths = demo(lab) / "info/paths.json"
    paths.write_text(
        json.dumps({"paths": [{"_path": "../../../out", "size_in_bytes": 3}], "paths_version": 1})
    )
    problems(lab, repair=True, full=True)
    assert not list(lab.home.rglob("out"))
