"""`config --tool pip` as a process, with a real pip that is asked afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import clients
from pip_lab import clean_environ

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")

BEFORE = "# the lab's own\n[global]\ntimeout = 60   \n; why\nretries = 2\n"


class Machine:
    """A home with a pip.conf in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.python = str(clients.pip_python("26.3"))
        self.file = home / ".config/pip/pip.conf"
        self.file.parent.mkdir(parents=True)
        self.file.write_text(BEFORE)

    def run(self, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
        words = [
            sys.executable,
            "-m",
            "entrepot",
            "config",
            "--tool",
            "pip",
            "--python",
            self.python,
            *argv,
        ]
        source = str(Path(__file__).parents[2] / "src")
        around = clean_environ(self.home, PYTHONPATH=source, SHELL="/bin/bash", **environ)
        return subprocess.run(
            words, env=around, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_a_change_names_pips_own_command_and_what_pip_says_now(machine):
    done = machine.run("set", "timeout", "30")
    assert done.stdout.splitlines() == [
        "global.timeout: '30' (was '60') in ~/.config/pip/pip.conf",
        "the same by hand: pip config --user set global.timeout 30",
        "pip confirms: global.timeout is 30",
    ]
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.file.read_text() == BEFORE.replace("60", "30").replace("30   ", "30")


def test_a_change_is_taken_back_and_the_one_before_it_too(machine):
    machine.run("set", "timeout", "30")
    machine.run("unset", "retries")
    assert machine.run("--undo").stdout.startswith("Undone: global.retries is '2' again")
    assert "retries = 2" in machine.file.read_text()
    assert machine.run("--undo").stdout.startswith("Undone: global.timeout is '60' again")
    assert machine.file.read_text() == BEFORE
    assert machine.run("--undo").returncode == 1
    assert (machine.home / ".local/state/entrepot/settings.jsonl").stat().st_mode & 0o777 == 0o600


def test_what_somebody_else_changed_since_is_not_taken_back(machine):
    machine.run("set", "timeout", "30")
    machine.file.write_text("[global]\ntimeout = 99\n")
    done = machine.run("--undo")
    assert done.returncode == 1
    assert "changed since" in done.stderr
    assert (
        "put back these lines:\n    timeout = 60   \nin place of:\n    timeout = 30\n"
        in done.stderr
    )
    assert machine.file.read_text() == "[global]\ntimeout = 99\n"
    again = machine.run(
        "--undo"
    )  # it does not stand in the way of those before it: here there are none
    assert "Nothing to undo for pip." in again.stderr


def test_a_stronger_variable_is_named_and_the_exit_status_is_3(machine):
    done = machine.run("set", "timeout", "30", PIP_TIMEOUT="7")
    assert done.returncode == 3
    assert "saved, but not in force: PIP_TIMEOUT=7 is stronger" in done.stderr
    assert "hint: entrepot config --tool pip list --origin" in done.stderr
    done = machine.run("set", "cache-dir", "/c", PIP_CACHE_DIR="/d")
    assert "hint: entrepot where pip" in done.stderr


def test_as_a_variable_only_the_line_for_the_shell_is_printed(machine):
    done = machine.run("set", "cache-dir", "/my cache", "--persist", "env")
    assert done.stdout == "export PIP_CACHE_DIR='/my cache'\n"
    assert "~/.bashrc" in done.stderr
    assert machine.file.read_text() == BEFORE
    assert "Nothing to undo for pip." in machine.run("--undo").stderr
    assert "--undo cannot unset a variable" in machine.run("--undo", "--persist", "env").stderr
    (machine.home / ".bashrc").write_text(done.stdout)
    assert (
        f"{machine.home}/.bashrc:1" in machine.run("unset", "cache-dir", "--persist", "env").stderr
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[global]\ntimeout = 60\n# keep me\n[global]\nretries = 2\n", "line 4"),
        ("\ufeff[global]\ntimeout = 60\n", "line 1"),
        ("timeout = 60\n", "line 1"),
        ("[global]\ntimeout = 60\n# K\udce4se, keep me\n", "line 3"),
    ],
    ids=["section twice", "byte order mark", "no section", "bad encoding"],
)
def test_a_broken_file_is_named_with_its_line_and_left_alone(machine, text, line):
    machine.file.write_bytes(text.encode("utf-8", "surrogateescape"))
    refused = machine.run("set", "timeout", "30")
    assert refused.returncode == 1
    assert line in refused.stderr
    assert "hint: entrepot config --tool pip edit" in refused.stderr
    assert machine.file.read_bytes() == text.encode("utf-8", "surrogateescape")
    named = machine.run("list")
    assert f"pip cannot read {machine.file}: {line}" in named.stderr


def test_a_credential_is_shown_and_remembered_nowhere(machine):
    done = machine.run("set", "index-url", "https://me:pw@index.test/simple", "--json")
    assert done.returncode == 0, done.stderr
    assert "me:pw@" in machine.file.read_text()
    done = machine.run("set", "index-url", "https://index.test/simple")
    assert "pw" not in done.stdout + done.stderr
    assert not [
        f
        for f in (machine.home / ".local").rglob("*")
        if f.is_file() and b"me:pw" in f.read_bytes()
    ]
    back = machine.run("--undo")
    assert back.returncode == 1
    assert "credential" in back.stderr


def test_the_editor_gets_the_file_and_what_it_broke_is_named(machine):
    done = machine.run("edit", VISUAL='sh -c \'printf "[global]\\n" >> "$0"\'')
    assert done.returncode == 0, done.stderr
    assert "line 6" in done.stderr
    assert machine.run("--undo").stdout == "~/.config/pip/pip.conf is as it was before\n"
    assert machine.file.read_text() == BEFORE


def test_an_edit_that_may_hold_a_credential_is_not_remembered_and_that_is_said(machine):
    done = machine.run("edit", VISUAL="sed -i s!60!https://me:pw@index.test!")
    assert "--undo cannot take this back" in done.stderr
    assert "me:pw" not in (machine.home / ".local/state/entrepot/settings.jsonl").read_text()
    assert f"what was edited in {machine.file} cannot be put back" in machine.run("--undo").stderr
    assert "Nothing to undo for pip." in machine.run("--undo").stderr
