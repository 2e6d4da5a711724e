"""conda's caches through the command line.

What is cleaned, what stays, and what people are told.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import clients
from conda_lab import Lab, contents

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")
SOURCE = str(clients.ROOT / "src")


class Shell:
    """A home with a conda in it, and the command.

    Args:
        home: an empty folder.
    """

    def __init__(self, home: Path) -> None:
        self.lab = Lab(home)
        self.environ = clients.clean_environment(
            home, PYTHONPATH=SOURCE, ENTREPOT_STORE=str(home / "no-store")
        )

    def run(self, *words: str, status: int = 0, user: int | None = None) -> str:
        """What a command printed on both streams; as another user where one is named."""
        command = (
            [sys.executable, "-m", "entrepot"]
            if user is None
            else [sys.executable, "-c", clients.AS_USER, str(user)]
        )
        done = clients.run([*command, *words], self.environ, cwd=self.lab.home)
        assert done.returncode == status, (
            f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr
        return done.stdout + done.stderr

    def plan(self, *words: str) -> str:
        """What would be done."""
        return self.run("clean", *words, "--tool", "conda", "-n")

    def asked(self, *words: str, status: int = 0) -> dict[str, Any]:
        """A command's JSON."""
        said = self.run(*words, "--tool", "conda", "--json", status=status)
        document: dict[str, Any] = json.loads(said[said.index("{") : said.rindex("}") + 1])
        return document


def free(path: Path) -> int:
    about = os.statvfs(path)
    return about.f_bfree * about.f_frsize


@pytest.mark.root
def test_four_kinds_of_environment_keep_every_file_and_the_disk_gets_back_what_is_said(tmp_path):
    with clients.tmpfs(tmp_path / "disk") as disk, clients.tmpfs(tmp_path / "far") as far:
        shell = Shell(disk / "me")
        lab = shell.lab
        linked, symbolic, copied, away, *unused = [
            lab.package(f"demo{n}", size=300_000) for n in range(7)
        ]
        prefixes = [
            lab.environment(lab.home / "linked", [linked], "hard", registered=False),
            lab.environment(lab.home / "symbolic", [symbolic], "symbolic"),
            lab.environment(lab.home / "copied", [copied], "copy", registered=False),
            lab.environment(far / "away", [away], "copy"),
        ]
        before = [contents(prefix) for prefix in prefixes]
        for wish, left in (
            (
                ["--unused"],
                {linked, symbolic, away},
            ),  # nobody knows of the copies, and they need nothing
            (["--to", "700kB"], {linked, symbolic}),
            (["--to", "400kB"], {symbolic}),
        ):
            assert "No environment is touched" in shell.plan(*wish, "--force")
            was, plan = free(disk), shell.asked("clean", *wish, "--force", "-n")
            done = shell.asked("clean", *wish, "--force", "-y")
            gained = free(disk) - was
            assert abs(done["freed"] - gained) <= gained / 100, wish
            assert abs(plan["freed"] - gained) <= max(gained / 100, 4096), (
                wish
            )  # urls.txt gets shorter, too
            assert {
                path for path in (linked, symbolic, copied, away, *unused) if path.exists()
            } == left, wish
            assert [contents(prefix) for prefix in prefixes] == before, wish


@pytest.mark.root
def test_a_cache_that_may_not_be_looked_into_is_named_by_every_verb(other_user):
    with tempfile.TemporaryDirectory() as place:  # the folders of pytest are root's alone
        Path(place).chmod(0o755)
        shell = Shell(Path(place, "me"))
        shell.lab.package("demo")
        os.chown(shell.lab.home, other_user.uid, other_user.gid)
        shell.lab.cache.chmod(0o700)
        for words in (
            ["status"],
            ["list"],
            ["clean", "-n"],
            ["remove", "demo", "-n", "--ignore-missing"],
        ):
            said = shell.run(*words, "--tool", "conda", status=3, user=other_user.uid)
            assert f"{shell.lab.cache}: Permission denied" in said
        told = shell.run("where", "conda", user=other_user.uid)
        assert f"{shell.lab.cache} may not be looked into" in told
        assert ".conda/pkgs   new packages go here" in told


def test_a_folder_that_is_no_cache_is_named_neither_counted_nor_cleaned(tmp_path):
    shell = Shell(tmp_path / "me")
    folder = tmp_path / "x"
    for name in (".trash", "src/info", "data-2024-01"):
        (folder / name).mkdir(parents=True)
    for name in (".trash/notes.txt", "src/info/x", "data-2024-01/keep", "data-2024-01.tar.bz2"):
        (folder / name).write_text("mine")
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (1, 1))
    shell.environ["CONDA_PKGS_DIRS"] = str(folder)
    before = contents(folder)
    assert "not a package cache" in shell.run("where", "conda")
    for tool in ("conda", "mamba"):
        said = shell.run("status", "--tool", tool)
        assert "not a package cache" in said or tool == "mamba"
        assert "entrepot clean" not in said
    assert [c for c in shell.asked("status")["caches"] if c["path"] == str(folder)] == []
    assert shell.run("clean", "-y").startswith("Nothing to clean: ")
    assert shell.run("clean", "--all", "-y").startswith("Nothing to clean: ")
    assert "x" not in shell.run("list", "--tool", "conda").split()
    shell.run("verify", "--repair")
    assert contents(folder) == before


@pytest.mark.parametrize("entry", ["''", "."])
def test_the_directory_one_stands_in_is_never_cleaned(tmp_path, entry):
    shell = Shell(tmp_path / "me")
    shell.lab.package("demo")
    (shell.lab.home / ".condarc").write_text(f"pkgs_dirs: [{entry}]\n")
    os.rename(shell.lab.cache / "urls.txt", shell.lab.home / "urls.txt")
    os.rename(shell.lab.cache / "demo-1.0-h0_0", shell.lab.home / "demo-1.0-h0_0")
    (shell.lab.home / ".old-settings-dir").mkdir()
    before = contents(shell.lab.home)
    assert "not a package cache" in shell.run("where", "conda")
    assert "Nothing to clean: " in shell.run("clean", "--all", "--force", "-y", "--tool", "conda")
    assert contents(shell.lab.home) == before


def test_the_plan_says_why_nothing_is_unused(tmp_path):
    shell = Shell(tmp_path / "me")
    folder = shell.lab.package("demo")
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (1, 1))
    env = Path(os.fsdecode(os.fsencode(shell.lab.home) + b"/gone/caf\xe9"))
    shell.lab.environment(env, [folder], "copy")
    env.parent.rename(shell.lab.home / "elsewhere")
    said = shell.plan("--unused", "--force")
    assert "an environment may need it" in said
    assert "environments.txt" in said
    assert "neither it nor the directory that it was in is there" in said
    document = shell.asked("clean", "--unused", "-n")
    assert [verdict["entry"]["key"] for verdict in document["staying"]] == ["demo-1.0-h0_0"]
    shell.run("clean", "--unused", "--force", "-y", "--tool", "conda")
    assert folder.exists()
    (shell.lab.home / "elsewhere").rename(env.parent)
    assert "an environment may need it" not in shell.plan("--unused")
