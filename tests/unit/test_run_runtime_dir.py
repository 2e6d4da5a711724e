"""The run's private directory: its modes, its end, and what is left of runs that were killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entrepot.run import runtime_dir as scratch
from entrepot.run.runtime_dir import PREFIX, UNLOCKED, remove_left_overs, scratch_directory


def living(base):
    """A process that holds a run's directory until it is killed."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from entrepot.run.runtime_dir import scratch_directory\n"
        "with scratch_directory(Path(sys.argv[1])) as d:\n"
        "    (d / 'trusted.pem').write_text('x'); print(d, flush=True); time.sleep(60)\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(base)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return process, Path(process.stdout.readline().strip())


def ended(process, number):
    process.send_signal(number)
    process.wait(10)
    process.stdout.close()


def test_it_is_private_and_goes_with_the_run(tmp_path):
    with scratch_directory(tmp_path) as directory:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (directory / "sub").mkdir()
        (directory / "sub/file").write_text("x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_it_goes_after_an_exception_too(tmp_path, error):
    with pytest.raises(error), scratch_directory(tmp_path):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_it_goes_after_ctrl_c(tmp_path):
    process, _ = living(tmp_path)
    ended(process, signal.SIGINT)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next_and_a_living_one_is_not(tmp_path):
    dead, left = living(tmp_path)
    alive, kept = living(tmp_path)
    ended(dead, signal.SIGKILL)
    assert left.exists()
    with scratch_directory(tmp_path):
        assert not left.exists()
        assert sorted(each.name for each in kept.iterdir()) == ["alive", "trusted.pem"]
    ended(alive, signal.SIGKILL)
    assert remove_left_overs(tmp_path) == 1


def test_links_and_plain_files_of_that_name_are_left_alone(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "alive").write_text("")
    base = tmp_path / "tmp"
    base.mkdir()
    (base / f"{PREFIX}link").symlink_to(precious)
    (base / f"{UNLOCKED}link").symlink_to(precious)
    (base / f"{PREFIX}file").write_text("x")
    linked = base / f"{PREFIX}lock"
    linked.mkdir()
    (linked / "alive").symlink_to(precious / "alive")
    os.utime(linked, (0, 0))
    assert remove_left_overs(base) == 0
    assert (precious / "alive").exists()
    assert len(list(base.iterdir())) == 4


def test_a_dead_run_with_links_inside_loses_the_links_alone(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    dead = tmp_path / f"{PREFIX}dead"
    dead.mkdir()
    (dead / "alive").write_text("")
    (dead / "out").symlink_to(precious)
    assert remove_left_overs(tmp_path) == 1
    assert (precious / "file").exists()


def test_a_run_that_is_just_starting_is_not_taken_for_a_dead_one(tmp_path):
    starting, old = tmp_path / f"{UNLOCKED}new", tmp_path / f"{UNLOCKED}old"
    starting.mkdir()
    old.mkdir()
    past = time.time() - scratch.STARTING_S - 10
    os.utime(old, (past, past))
    assert remove_left_overs(tmp_path) == 1
    assert [each.name for each in tmp_path.iterdir()] == [starting.name]


def test_another_users_directory_is_left_alone(tmp_path, other_user):
    theirs = tmp_path / f"{PREFIX}theirs"
    theirs.mkdir()
    (theirs / "alive").write_text("")
    os.chown(theirs, other_user.uid, -1)
    assert remove_left_overs(tmp_path) == 0
    assert theirs.exists()


def test_a_base_that_cannot_be_read_is_no_error(tmp_path):
    assert remove_left_overs(tmp_path / "missing") == 0
