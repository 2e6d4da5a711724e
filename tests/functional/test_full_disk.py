"""Stores that fail, fill up, cannot be written, have no locks, or whose clock jumps.

The command is served all the same.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from clients import tmpfs
from crash_world import CrashWorld

FAILING = """
import errno, os, sys
if os.environ.get("FAIL_STORE") and "entrepot" in sys.orig_argv:
    left, code, root = int(os.environ["FAIL_FROM"]), int(os.environ["FAIL_ERRNO"]), os.environ["FAIL_STORE"]
    def hits(what):
        path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fspath(what)
        return path.startswith(root)
    def wrapped(real, applies=lambda *a: True):
        def call(*args, **kwargs):
            global left
            if applies(*args) and hits(args[0]):
                left -= 1
                if left < 0:
                    raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)
        return call
    for name in ("pwrite", "write", "fsync", "mkdir", "replace", "link"):
        setattr(os, name, wrapped(getattr(os, name)))
    os.open = wrapped(os.open, lambda path, flags, *a: flags & os.O_CREAT)
if os.environ.get("NO_LOCKS"):
    import fcntl
    def flock(fd, how):
        raise OSError(errno.ENOLCK, "No locks available")
    fcntl.flock = flock
if os.environ.get("CLOCK"):
    import time
    real, start = time.time, time.monotonic()
    before, after, jump = map(float, os.environ["CLOCK"].split(","))
    time.time = lambda: real() + (before if time.monotonic() - start < jump else after)
"""
"""Put under Python's start as `sitecustomize`: what a disk, a network's file system or a clock does
to this process alone."""
DAY = 86_400


class FailingWorld(CrashWorld):
    """Runs whose system calls or clock fail."""

    def run(self, **environ: str) -> tuple[int, str]:
        """An install to the end: exit status and last line."""
        odd = self.directory / "odd"
        odd.mkdir(exist_ok=True)
        (odd / "sitecustomize.py").write_text(FAILING)
        command = [
            sys.executable,
            "-m",
            "entrepot",
            "--store",
            str(self.store),
            "run",
            "--host",
            self.origin.address,
            "--",
        ]
        done = subprocess.run(
            [*command, sys.executable, str(self.script), str(self.plan)],
            env={
                **self.environ(),
                "PYTHONPATH": f"{odd}{os.pathsep}{self.environ()['PYTHONPATH']}",
                **environ,
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stderr.strip().splitlines()[-1]

    def files_fetched(self) -> int:
        return len(self.origin.seen("whl$"))


@pytest.fixture
def world(tmp_path, origin):
    return FailingWorld(tmp_path, origin, rate=0)


@pytest.mark.parametrize(
    ("first", "code"),
    [(first, errno.ENOSPC) for first in (0, 3, 7, 14, 40)]
    + [(7, errno.EDQUOT), (0, errno.EIO), (30, errno.EIO)],
    ids=lambda value: (
        errno.errorcode[value] if value in {errno.ENOSPC, errno.EDQUOT, errno.EIO} else str(value)
    ),
)
def test_whichever_write_of_the_store_is_the_first_to_fail_the_command_is_served(
    world, first, code
):
    status, last = world.run(
        FAIL_STORE=str(world.store), FAIL_FROM=str(first), FAIL_ERRNO=str(code)
    )
    assert status == 0, last
    assert "the store failed" in last or "nothing is kept" in last, last
    assert os.strerror(code) in last
    if world.store.joinpath("entrepot-store").exists():
        world.check_store()
    assert world.installs().count("warning") == 0
    world.check_store()
    world.check_sweep()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")
class TestMounts:
    @pytest.mark.parametrize("size", ["4k", "600k", "3m"])
    def test_on_a_disk_of_any_size_the_command_is_served(self, world, tmp_path, size):
        with tmpfs(tmp_path / "disk", size) as disk:
            world.store = disk / "store"
            for _ in range(2):
                status, last = world.run()
                assert status == 0, last
                assert "the store failed" in last or "nothing is kept" in last, last
                assert "space" in last or "room" in last, last
            if size != "4k":
                world.check_store()

    def test_a_store_on_a_full_disk_can_be_cleaned_with_what_a_broken_download_left(
        self, world, tmp_path
    ):
        with tmpfs(tmp_path / "disk", "64m") as disk:
            world.store = disk / "store"
            world.installs()
            flights = world.store / "flights"
            (flights / f"{'0' * 40}.part").write_bytes(b"x" * 100_000)
            with suppress(OSError), (disk / "other").open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            assert os.statvfs(disk).f_bavail == 0
            cleaning = world.entrepot("clean", "--tool", "entrepot", "--all", "--force", "-y")
            said, _ = cleaning.communicate(timeout=60)
            assert cleaning.returncode == 0, said
            left = [
                path
                for name in ("heads", "bodies", "flights")
                for path in (world.store / name).rglob("*")
                if path.is_file()
            ]
            assert not left
            assert os.statvfs(disk).f_bavail > 0
            world.check_store()
            listed, _ = world.entrepot("list", "--tool", "entrepot", "--json").communicate(
                timeout=60
            )
            assert json.loads(listed)["entries"] == [], (
                "the catalogue could not be written, at first"
            )

    def test_a_store_that_may_only_be_read_gives_what_it_has_and_the_rest_comes_from_upstream(
        self, world, tmp_path
    ):
        with tmpfs(tmp_path / "disk", "64m") as disk:
            world.store = disk / "store"
            world.installs()
            before = world.files_fetched()
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            status, last = world.run()
            assert (status, world.files_fetched()) == (0, before), last
            extra = world.origin.add_project("extra", size=300_000)[0]
            world.plan.write_text(
                f'[["{world.origin.index_url}extra/", "{world.origin.url(extra)}", "{extra.content.sha256}"]]'
            )
            status, last = world.run()
            assert (status, world.files_fetched()) == (0, before + 1), last
            assert "Read-only" in last
            assert last.count("the store failed") == 1
            world.check_store()
            plan, _ = world.entrepot("clean", "--tool", "entrepot", "--all", "-n").communicate(
                timeout=60
            )
            assert plan.splitlines()[0] == "Would keep"
            assert "the file system is read-only" in plan
            shown, _ = world.entrepot("status", "--tool", "entrepot", "--json").communicate(
                timeout=60
            )
            assert json.loads(shown)["caches"][0]["freeable"] == 0

    def test_a_place_that_may_not_be_written_needs_no_store(self, world, tmp_path):
        with tmpfs(tmp_path / "disk", "1m") as disk:
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            world.store = disk / "store"
            status, last = world.run()
            assert status == 0, last
            assert "nothing is kept" in last
            assert "Read-only" in last


def test_a_store_named_by_mistake_is_said_before_anything_is_started(world, tmp_path):
    for place, why in ((tmp_path / "a file", "cannot open"), (tmp_path / "full", "not empty")):
        if why == "not empty":
            place.mkdir()
            (place / "letter").write_text("dear")
        else:
            place.write_text("x")
        world.store = place
        status, last = world.run()
        assert status == 125, (why, last)
        assert world.files_fetched() == 0


def test_a_store_that_settings_name_wrongly_is_no_reason_to_fail(world, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("dear")
    done = subprocess.run(
        [sys.executable, "-m", "entrepot", "run", "--", sys.executable, "-c", "print('done')"],
        env={**world.environ(), "ENTREPOT_STORE": str(tmp_path / "full")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert "nothing is kept" in done.stderr
    assert sorted(p.name for p in (tmp_path / "full").iterdir()) == ["letter"]


def test_without_locks_everything_is_kept_and_used_again(world):
    assert world.run(NO_LOCKS="1")[0] == 0
    first = world.files_fetched()
    assert world.run(NO_LOCKS="1")[0] == 0
    assert world.files_fetched() == first
    world.check_store()


def test_two_runs_without_locks_do_not_mix_their_downloads(world):
    world.origin.link.rate = 8_000_000
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: world.run(NO_LOCKS="1"), range(3)))
    assert [status for status, _ in done] == [0, 0, 0]
    world.check_store()


@pytest.mark.parametrize(
    "clock",
    [f"{DAY},0,1e9", f"0,-{DAY},0.6", f"{DAY},0,0.6"],
    ids=["ahead", "back", "ahead then right"],
)
def test_a_clock_that_jumps_a_day_back_disturbs_nobody(world, clock):
    """The first run is a day ahead, or jumps while it downloads; the second has the right time."""
    world.origin.link.rate = 8_000_000
    assert world.run(CLOCK=clock)[0] == 0
    first = world.files_fetched()
    status, last = world.run()
    assert (status, world.files_fetched()) == (0, first), last
    world.check_store()
    world.check_sweep()
