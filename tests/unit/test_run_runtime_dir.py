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

from entrepot.errors import ConfigError
from entrepot.run import runtime_dir as scratch
from entrepot.run.runtime_dir import (
    PREFIX,
    UNLOCKED,
    private_directory,
    remove_left_overs,
    scratch_directory,
)


def living(base):
    """A process that holds a run's directory until it is killed."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from entrepot.run.runtime_dir import scratch_directory\n"
        "with scratch_directory([Path(sys.argv[1])]) as d:\n"
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
    with scratch_directory([tmp_path]) as directory:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (directory / "sub").mkdir()
        (directory / "sub/file").write_text("x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_it_goes_after_an_exception_too(tmp_path, error):
    with pytest.raises(error), scratch_directory([tmp_path]):
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
    with scratch_directory([tmp_path]):
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
    linked = base / f"{PREFIX}{scratch._boot()}-lock"
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
    dead = tmp_path / f"{PREFIX}{scratch._boot()}-dead"
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
    theirs = tmp_path / f"{PREFIX}{scratch._boot()}-theirs"
    theirs.mkdir()
    (theirs / "alive").write_text("")
    os.chown(theirs, other_user.uid, -1)
    assert remove_left_overs(tmp_path) == 0
    assert theirs.exists()


def test_a_base_that_cannot_be_read_is_no_error(tmp_path):
    assert remove_left_overs(tmp_path / "missing") == 0


def test_a_directory_of_another_machine_stays_until_its_authority_has_expired(tmp_path):
    """A home directory on the network may be shared while locks are not.

    No lock is seen, and the run is alive.
    """
    living, expired = (
        tmp_path / f"{PREFIX}0123456789ab-living",
        tmp_path / f"{PREFIX}0123456789ab-expired",
    )
    for each in (living, expired):
        each.mkdir()
        (each / "alive").write_text("")
    past = time.time() - scratch.EXPIRED_S - 10
    os.utime(expired, (past, past))
    assert remove_left_overs(tmp_path) == 1
    assert [each.name for each in tmp_path.iterdir()] == [living.name]


# where it may lie


def test_missing_directories_are_made_for_the_user_alone(tmp_path):
    before = os.umask(0)
    try:
        made = private_directory(tmp_path / "home/.local/state/run")
    finally:
        os.umask(before)
    assert made == tmp_path / "home/.local/state/run"
    assert {stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "home").rglob("*")} == {0o700}


def test_one_that_others_may_look_into_is_closed_to_them(tmp_path):
    (tmp_path / "run").mkdir(mode=0o755)
    assert stat.S_IMODE(private_directory(tmp_path / "run").stat().st_mode) == 0o700


def test_a_link_is_followed_to_where_it_leads_and_judged_there(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "state").symlink_to("real")
    assert private_directory(tmp_path / "state/run") == tmp_path / "real/run"


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o772, 0o707])
def test_below_a_directory_that_others_may_write_nothing_is_made(tmp_path, monkeypatch, mode):
    monkeypatch.setattr("grp.getgrgid", lambda gid: (_ for _ in ()).throw(KeyError(gid)))
    for name in ("shared", "shared/mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "shared").chmod(mode)
    for below in ("shared", "shared/mine", "shared/new", "shared/mine/new/run"):
        with pytest.raises(PermissionError, match=r"other users can write in .*/shared$"):
            private_directory(tmp_path / below)
    assert [each.name for each in (tmp_path / "shared").rglob("*")] == ["mine"]
    (tmp_path / "shared").chmod(0o1777)
    assert private_directory(tmp_path / "shared/new/run").is_dir()


def test_a_group_of_the_users_own_is_the_user(tmp_path, monkeypatch):
    """A umask of 002 with a group for each user is usual: ~/.local has mode 775 there."""
    import grp
    import pwd

    me = pwd.getpwuid(os.geteuid())
    (tmp_path / "local").mkdir()
    (tmp_path / "local").chmod(0o775)
    groups = {"own": (me.pw_name, []), "own, named": (me.pw_name, [me.pw_name])}
    others = {"another": ("staff", []), "shared": (me.pw_name, [me.pw_name, "ana"])}
    for name, members in (*groups.values(), *others.values()):
        found = grp.struct_group((name, "x", me.pw_gid, members))
        monkeypatch.setattr("grp.getgrgid", lambda gid, found=found: found)
        (tmp_path / "local").chmod(0o775)
        os.chown(tmp_path / "local", -1, me.pw_gid)
        if (name, members) in groups.values():
            assert private_directory(tmp_path / "local/run").is_dir()
        else:
            with pytest.raises(PermissionError):
                private_directory(tmp_path / "local/run")


def test_below_another_users_directory_nothing_is_made(tmp_path, other_user):
    """Its owner could put another one in its place; sticky or not."""
    (tmp_path / "theirs/mine").mkdir(parents=True)
    os.chown(tmp_path / "theirs", other_user.uid, -1)
    for mode in (0o755, 0o1777):
        (tmp_path / "theirs").chmod(mode)
        for below in ("theirs", "theirs/mine", "theirs/new"):
            with pytest.raises(PermissionError, match="belongs to another user"):
                private_directory(tmp_path / below)
    assert [each.name for each in (tmp_path / "theirs").iterdir()] == ["mine"]


def test_the_next_place_is_taken_where_one_will_not_do(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with scratch_directory(
        [tmp_path / "file/run", tmp_path / "open/run", tmp_path / "cache"]
    ) as directory:
        assert directory.parent == tmp_path / "cache"
    with (
        pytest.raises(ConfigError) as caught,
        scratch_directory([tmp_path / "file/run", tmp_path / "open/run"]),
    ):
        pass
    assert "file is not a directory" in caught.value.message
    assert f"other users can write in {tmp_path / 'open'}" in caught.value.message
    assert "XDG_STATE_HOME" in caught.value.hint
