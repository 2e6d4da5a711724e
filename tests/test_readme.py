"""The README's two commands can be read by machines, and what the documents point at is there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

import clients

ROOT = clients.ROOT
COMMAND = re.compile(r"<!-- command: (\w+) -->\n```sh\n(.*?)\n```\n", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def commands() -> dict[str, str]:
    return dict(COMMAND.findall((ROOT / "README.md").read_text(encoding="utf-8")))


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("changelog.d/*.md")])


def test_there_is_one_command_to_install_and_one_to_test():
    assert list(commands()) == ["install", "test"]


@pytest.mark.parametrize("name", ["install", "test"])
def test_a_command_is_one_line_of_shell(name):
    line = commands()[name]
    assert "\n" not in line
    assert subprocess.run(["sh", "-n", "-c", line], check=False).returncode == 0


def test_ci_reads_the_very_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    function = script[script.index("readme_command()") : script.index("debian_packages()")]
    for name, line in commands().items():
        got = subprocess.run(
            ["bash", "-c", f"{function}\nreadme_command {name}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert got.stdout == f"{line}\n"


def test_ci_is_sound_shell_and_may_be_run():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_points_at_is_there(document):
    links = [link.partition("#")[0] for link in LINK.findall(document.read_text(encoding="utf-8"))]
    local = [link for link in links if link and "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


@pytest.mark.slow
@pytest.mark.registry
def test_the_install_command_works_in_a_fresh_clone_and_installs_from_the_cache(tmp_path):
    """Word for word, with an empty HOME.

    The machine's own pip configuration says where packages come from.
    """
    clone, home = tmp_path / "clone", tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [*clients.git(), "clone", "-q", ROOT, clone], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this is no git repository that can be cloned: {done.stderr.strip()}")
    environment = {
        name: value
        for name, value in clients.MACHINE.items()
        if not name.startswith(("XDG_", "ENTREPOT_"))
    }
    done = clients.run(
        ["sh", "-c", commands()["install"]],
        environment | {"HOME": str(home)},
        cwd=clone,
        timeout_s=280,
    )
    if "No matching distribution" in done.stderr and "entrepot:" not in done.stderr:
        pytest.skip("the default index cannot be reached")
    assert done.returncode == 0, done.stderr
    assert list(clone.glob(".venv/lib/python*/site-packages/flask-*.dist-info"))
    (served,) = re.findall(r"^entrepot: (\d+) of (\d+) requests from", done.stderr, re.MULTILINE)
    assert served[0] == served[1] != "0"
