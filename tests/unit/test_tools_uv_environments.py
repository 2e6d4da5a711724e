"""What is not known of uv's environments, or of its cache, protects archives.

What could not be read counts as no empty list.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

import clients
from entrepot.caches.removal import Requirement, plan_cleaning
from entrepot.caches.selection import is_unused
from entrepot.ports.tool import Entry, Surroundings
from entrepot.tools.uv.environments import remember, remembered
from entrepot.tools.uv.tool import UvTool

pytestmark = pytest.mark.skipif(os.name == "nt", reason="symbolic links and pipes are POSIX's")
LATER_S = 7200.0


class Made:
    """A cache made by hand.

    A wheel that a pointer leads to, and an archive that nothing leads to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "cache"
        (folder / "home").mkdir()
        self.around = Surroundings(
            {"UV_CACHE_DIR": str(self.root)},
            folder / "home",
            folder / "home",
            "linux",
            os.geteuid(),
        )
        self.tool = UvTool(folder / "state", lambda: time.time() + LATER_S, wait_s=0.2)
        self.memory = folder / "state/uv-environments.json"
        self.memory.parent.mkdir()
        for name in ("used", "orphan"):
            (self.root / f"archive-v0/{name}").mkdir(parents=True)
            (self.root / f"archive-v0/{name}/module.py").write_bytes(b"x" * 5000)
        self.pointers = self.root / "wheels-v5/pypi/a"
        self.pointers.mkdir(parents=True)
        (self.pointers / "1.0-py3-none-any").symlink_to("../../../archive-v0/used")

    def environment(self, path: Path) -> Path:
        path.mkdir(parents=True)
        (path / "pyvenv.cfg").touch()
        (path / "module.py").symlink_to(self.root / "archive-v0/used/module.py")
        return path

    def entries(self) -> list[Entry]:
        return [
            e
            for e in self.tool.scan(self.tool.places(self.around)[0], self.around)
            if e.extra.get("archive")
        ]

    def assert_all_stay(self, *named: str) -> None:
        """No plan and no removal takes an archive, and the plan says why."""
        entries = self.entries()
        assert len(entries) == 2
        assert not any(map(is_unused, entries))
        for wish in (
            Requirement(),
            Requirement(unused=True),
            Requirement(everything=True, force=True),
            Requirement(to_bytes=0),
        ):
            assert plan_cleaning(entries, wish, now=time.time() + LATER_S).entries == []
        plan = plan_cleaning(entries, Requirement(unused=True), now=time.time() + LATER_S)
        assert plan.staying
        assert all(name in why for name in named for _, why in plan.staying)
        self.tool.remove([replace(entry, block=None) for entry in entries], self.around, force=True)
        assert all(
            (self.root / f"archive-v0/{name}/module.py").exists() for name in ("used", "orphan")
        )


@pytest.fixture
def made(tmp_path) -> Made:
    return Made(tmp_path)


def test_what_is_known_decides_where_all_could_be_read(made):
    assert [e.removable_because for e in made.entries()] == ["", "orphan"]
    assert [is_unused(e) for e in made.entries()] == [True, True]
    made.memory.write_text(json.dumps([str(made.environment(made.folder / "env"))]))
    assert [is_unused(e) for e in made.entries()] == [False, True]


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        os.mkfifo,
        Path.touch,
        lambda path: path.symlink_to("/nowhere/at/all"),
        lambda path: path.write_bytes(bytes(100)),
        lambda path: path.write_bytes(b'["/opt/\xff"]'),
        lambda path: path.write_text('["/opt/a", "/op'),
        lambda path: path.write_text("{}"),
        lambda path: path.write_text("null"),
        lambda path: path.write_text("[1]"),
        lambda path: path.write_text('["relative"]'),
        lambda path: path.write_text('["/opt/a\\u0000b"]'),
        lambda path: path.write_text("[" * 100_000),
        lambda path: (path.touch(), os.truncate(path, (64 << 20) + 1)),
    ],
)
def test_a_memory_that_cannot_be_read_whole_keeps_every_archive_and_stays_as_it_is(made, make):
    make(made.memory)
    before = made.memory.lstat()
    made.environment(made.folder / "home/.venv")
    made.assert_all_stay(str(made.memory))
    assert (made.memory.lstat().st_ino, made.memory.lstat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )


def test_an_environment_whose_parent_is_gone_as_well_is_kept_in_mind_and_keeps_every_archive(made):
    env = made.environment(made.folder / "disk/project/env")
    made.memory.write_text(json.dumps([str(env)]))
    (made.folder / "disk/project").rename(made.folder / "elsewhere")
    made.environment(made.folder / "home/.venv")
    made.assert_all_stay(str(env), str(made.memory))
    assert str(env) in json.loads(made.memory.read_text())


def test_an_environment_that_is_gone_from_its_project_is_dead_and_forgotten(made):
    env = made.environment(made.folder / "project/env")
    (made.folder / "project/file").touch()
    made.memory.write_text(json.dumps([str(env)]))
    shutil.rmtree(env)
    assert [is_unused(e) for e in made.entries()] == [True, True]
    remember(made.memory, ["/opt/new"])
    assert json.loads(made.memory.read_text()) == ["/opt/new"]


@pytest.mark.slow
def test_as_many_environments_are_kept_in_mind_as_there_are(made):
    names = [str(made.folder / f"{'long' * 50}-{number}") for number in range(4_500)]
    for name in names:
        Path(name).mkdir()
        Path(name, "file").touch()
    remember(made.memory, names)
    assert made.memory.stat().st_size > 1 << 20
    assert len(remembered(made.memory).there) == len(names)


@pytest.mark.parametrize(
    "name", ["2.0-py3-none-any.http", "2.0-py3-none-any.rev", "2.0-py3-none-any"]
)
def test_a_pointer_that_cannot_be_read_may_lead_to_any_archive(made, name):
    os.mkfifo(made.pointers / name)
    (orphan,) = [e for e in made.entries() if e.problem == "orphan-archive"]
    assert (orphan.removable_because, str(made.pointers / name) in orphan.blocked) == ("", True)


@pytest.mark.root
def test_a_folder_of_the_cache_or_of_an_environment_that_may_not_be_read_leaves_no_orphan(
    other_user,
):
    program = """
import sys, time
from pathlib import Path
from entrepot.ports.tool import Surroundings
from entrepot.tools.uv.tool import UvTool
folder = Path(sys.argv[2])
around = Surroundings({"UV_CACHE_DIR": f"{folder}/cache"}, folder / "home", folder / "home", "linux", int(sys.argv[1]))
tool = UvTool(folder / "state", lambda: time.time() + 7200)
import entrepot.tools.uv.buckets, entrepot.tools.uv.rows, entrepot.tools.uv.environments, os
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
for entry in tool.scan(tool.places(around)[0], around):
    if entry.extra.get("archive"):
        print(entry.key, "|", entry.removable_because, "|", entry.blocked)
"""
    import subprocess
    import sys
    import tempfile

    def asked(folder: Path) -> list[str]:
        command = [sys.executable, "-c", program, str(other_user.uid), str(folder)]
        done = subprocess.run(
            command,
            env={"PYTHONPATH": str(clients.ROOT / "src")},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        made = Made(Path(place))
        assert any("| orphan |" in line for line in asked(made.folder))
        made.pointers.chmod(0o700)
        assert not any("| orphan |" in line for line in asked(made.folder))
        made.pointers.chmod(0o755)
        env = made.environment(made.folder / "home/.venv")
        (env / "lib").mkdir(mode=0o700)
        assert any(str(env / "lib") in line for line in asked(made.folder) if "orphan" in line)
