"""`clean` and `remove` through the command line, on pip caches that are in use, somebody else's, unreadable or read-only."""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import clients
from functional.test_pip_cache_real import Lab
from pip_lab import pip_python

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")
SOURCE = Path(__file__).parents[2] / "src"
ROUNDS = 100
DRIVER = """
import importlib, json, os, pkgutil, sys, traceback
import entrepot
for found in pkgutil.walk_packages(entrepot.__path__, "entrepot."):
    if found.name.startswith(("entrepot.cli", "entrepot.app", "entrepot.tools.pip", "entrepot.stores", "entrepot.config")):
        importlib.import_module(found.name)  # what is imported later may be out of the other user's reach
import encodings.idna, pwd, shlex
from entrepot.cli.main import main
user, lines = json.loads(sys.argv[1])
if user is not None:
    os.setgroups([]); os.setgid(user); os.setuid(user)
for argv in lines:
    print("$", *argv, flush=True)
    print("->", main(argv), flush=True)
    sys.stderr.flush()
"""
"""Runs commands one after another in one process, after it has become another user."""


def entrepot(environ, *lines, user=None, check=True):
    """Run commands; all that they printed, and their exit statuses."""
    argument = json.dumps([user, [["--tool", "pip", *line] for line in lines]])
    command = [sys.executable, "-c", DRIVER, argument]
    environ = {**environ, "PYTHONPATH": str(SOURCE), "ENTREPOT_STORE": "/nonexistent/store"}
    done = subprocess.run(
        command,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd="/",
    )
    if check:
        assert done.returncode == 0, done.stdout
        assert "Traceback" not in done.stdout
        assert "entrepot itself failed" not in done.stdout
    return done.stdout, [int(status) for status in re.findall(r"^-> (\d+)$", done.stdout, re.MULTILINE)]


@pytest.fixture
def lab(tmp_path):
    pip_python("26.3")
    lab = Lab("26.3", tmp_path)
    lab.environ["PATH"] = f"{pip_python('26.3').parent}{os.pathsep}{lab.environ['PATH']}"
    yield lab
    lab.origin.close()


def snapshot(root):
    """Everything about every file but when it was read last."""
    found = {}
    for path in (root, *root.rglob("*")):
        info = path.lstat()
        found[path] = (info.st_mode, info.st_uid, info.st_size, info.st_mtime_ns, info.st_ino)
    return found


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_no_install_fails_while_the_cache_is_cleaned_a_hundred_times(lab, tmp_path):
    """Four pips install into directories of their own, again and again, until the hundred runs are over."""
    python, stop = pip_python("26.3"), tmp_path / "stop"
    command = f"{python} -m pip install -q --no-deps --upgrade --target {tmp_path}/site$1 pure multi-tag source"
    script = f"n=0; while [ ! -e {stop} ]; do {command} || exit 1; n=$((n+1)); done; echo $n"
    workers = [
        subprocess.Popen(
            ["sh", "-c", script, "sh", str(n)],
            env=lab.environ,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    try:
        kinds = [
            ["clean", "--all", "-y"],
            ["remove", "pure", "-y", "--ignore-missing"],
            ["clean", "-y"],
            ["remove", "*", "-y", "--ignore-missing"],
        ]
        said, statuses = entrepot(lab.environ, *(kinds[n % 4] for n in range(ROUNDS)))
    finally:
        stop.touch()
        ended = [(w.communicate(timeout=120), w.returncode) for w in workers]
    assert [code for _, code in ended] == [0] * 4, ended
    assert sum(int(out) for (out, _), _ in ended) >= 4
    assert len(statuses) == ROUNDS
    assert set(statuses) <= {0, 3}  # 3: something was in use and stayed
    assert said.count("Freed") > 5


def test_wheels_just_built_go_only_by_force(lab):
    lab.pip("wheel", "--no-deps", "-w", str(lab.folder / "w"), "source")
    (wheel,) = lab.place.path.rglob("*.whl")
    said, (status,) = entrepot(lab.environ, ["remove", "source", "--built", "-y"])
    assert "made or used within the last ten minutes" in said
    assert wheel.exists()
    _, (status,) = entrepot(lab.environ, ["remove", "source", "--built", "-y", "--force"])
    assert status == 0
    assert not wheel.exists()


def disk(root):
    """Bytes of disk below a directory, each inode once, as du counts."""
    paths = [root, *root.rglob("*")] if root.exists() else []
    return sum({(i.st_dev, i.st_ino): i.st_blocks * 512 for i in (p.lstat() for p in paths)}.values())


@pytest.mark.parametrize("where", ["du", "statvfs"])
def test_the_bytes_said_to_be_freed_are_the_file_systems_own_within_one_per_cent(lab, where, tmp_path):
    def measure():
        if where == "du":
            return disk(lab.place.path)
        room = os.statvfs(mount)
        return (room.f_blocks - room.f_bfree) * room.f_frsize

    mount = tmp_path / "mounted"
    with clients.tmpfs(mount) if where == "statvfs" else contextlib.nullcontext():
        if where == "statvfs":
            lab.environ["PIP_CACHE_DIR"] = str(mount / "pip")
        lab.fill()
        assert str(lab.place.path).startswith(str(mount)) == (where == "statvfs")
        os.sync() if where == "du" else None  # some file systems give a file its blocks late
        before = measure()
        said, (status,) = entrepot(lab.environ, ["clean", "--all", "-y", "--force", "--json"])
        document = json.loads(said[said.index("{") : said.rindex("}") + 1])
        assert status == 0, said
        given = before - measure()
    assert given > 50_000
    assert abs(document["freed"] - given) <= given / 100, (document["freed"], given)


EVERY_VERB = (
    ["status"], ["where"], ["list"], ["list", "--json"], ["verify"], ["verify", "--repair"], ["clean", "-n"],
    ["clean", "--all", "-y"], ["remove", "pure", "-y"], ["config", "list"],
)  # fmt: skip
LOOKING = EVERY_VERB[:5] + EVERY_VERB[6:7]


def reachable(folder):
    """Let others pass through the directories above."""
    for path in (folder, *folder.parents):
        if path != Path("/") and path.stat().st_uid == os.getuid():
            path.chmod(path.stat().st_mode | 0o055)


def test_another_user_changes_nothing_and_is_told_why(lab, other_user, tmp_path):
    lab.download("pure")
    root = lab.place.path
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o600)
    reachable(root)
    before = snapshot(root)
    environ = {**lab.environ, "PIP_CACHE_DIR": str(root), "HOME": "/nonexistent"}
    said, statuses = entrepot(environ, *EVERY_VERB, user=other_user.uid)
    assert snapshot(root) == before
    assert len(statuses) == len(EVERY_VERB), said
    assert "no permission to remove it" in said
    assert "may not write to it" in said


def test_root_on_somebody_elses_cache_is_told_that_pip_would_not_use_it(lab, other_user, tmp_path):
    lab.download("pure")
    root = lab.place.path
    for path in (root, *root.rglob("*")):
        os.chown(path, other_user.uid, other_user.gid)
    before = snapshot(root)
    environ = {**lab.environ, "PIP_CACHE_DIR": str(root)}
    said, statuses = entrepot(environ, *LOOKING)
    assert snapshot(root) == before
    assert len(statuses) == len(LOOKING), said
    assert other_user.name in said
    assert "pure" in said  # root may read what pip would not use


def test_a_read_only_file_system_is_named(lab, tmp_path):
    mount = tmp_path / "mounted"
    with clients.tmpfs(mount):
        lab.environ["PIP_CACHE_DIR"] = str(mount / "pip")
        lab.download("pure")
        before = snapshot(mount)
        remounted = subprocess.run(["mount", "-o", "remount,ro", mount], capture_output=True, text=True, check=False)
        if remounted.returncode:
            pytest.skip(f"it cannot be made read-only: {remounted.stderr}")
        said, statuses = entrepot(lab.environ, *EVERY_VERB)
        assert snapshot(mount) == before
    assert len(statuses) == len(EVERY_VERB), said
    assert "the file system is read-only" in said
