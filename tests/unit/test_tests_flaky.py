"""What is run once more.

A test that passes then is named and listed, and the list is not for ever.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

import clients
import flaky

FAILED, PASSED = "failed", "passed"


def listed(path):
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(
    ("first", "second", "known", "right"),
    [
        ({"a": PASSED, "b": FAILED}, {"b": PASSED}, [], True),
        ({"a": FAILED, "b": FAILED}, {"a": PASSED, "b": PASSED}, [], True),
        (dict.fromkeys("abc", FAILED), dict.fromkeys("abc", PASSED), [], False),
        ({"a": FAILED}, {"a": PASSED}, ["a"], False),
        ({"a": FAILED}, {"a": PASSED}, ["b"], True),
        ({"a": FAILED}, {"a": FAILED}, [], False),
        ({"a": FAILED, "b": FAILED}, {"a": PASSED}, [], False),
        ({"a": FAILED}, {"a": "skipped"}, [], False),
        ({"a": FAILED}, {"a": PASSED, "b": FAILED}, [], False),
        ({"a": PASSED}, {}, [], False),
    ],
    ids=[
        "one passes the second time",
        "two do",
        "three do",
        "one that did before",
        "another one did before",
        "one fails twice",
        "one was not run again",
        "one is skipped the second time",
        "another one fails the second time",
        "the first run failed and nothing in it did",
    ],
)
def test_two_may_pass_the_second_time_and_none_again(first, second, known, right):
    assert (flaky.judge(first, second, known).wrong == "") is right


def test_the_list_gets_what_needed_it_with_the_date_and_keeps_what_stands_there(tmp_path):
    path = tmp_path / "flaky.txt"
    path.write_text("# why\ntests/test_a.py::test[# 1]\n")
    assert flaky.known(path) == ["tests/test_a.py::test[# 1]"]
    flaky.note(path, ["tests/test_b.py::test"], "2026-11-30")
    assert path.read_text() == (
        "# why\ntests/test_a.py::test[# 1]\n# 2026-11-30: failed, then passed\ntests/test_b.py::test\n"
    )


@pytest.fixture
def project(tmp_path):
    """A project whose tests `.ci/run` runs, as far as that function goes.

    Says its exit status and what it wrote.
    """
    script = (clients.ROOT / ".ci/run").read_text(encoding="utf-8")
    functions = script[script.index("reports=") : script.index("debian_packages()")]
    functions += script[script.index("tests() {") : script.index("\nstep ")]
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "tests").mkdir()
    shutil.copy(flaky.__file__, tmp_path / "tests/flaky.py")
    (tmp_path / "tests/flaky.txt").touch()
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def run(command=".venv/bin/python -m pytest -q tests"):
        (tmp_path / "README.md").write_text(f"<!-- command: test -->\n```sh\n{command}\n```\n")
        words = [
            "bash",
            "-c",
            f"set -euo pipefail\n{functions}\nstatus=0; tests || status=$?; exit $status",
        ]
        done = subprocess.run(
            words,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin"},
        )
        return done.returncode, done.stdout + done.stderr

    run.tests, run.list = tmp_path / "tests/test_it.py", tmp_path / "tests/flaky.txt"
    return run


RACE = """
from pathlib import Path
def test_race():
    seen = Path(__file__).with_name("seen")
    if not seen.exists():
        seen.touch()
        assert False
    seen.unlink()
class TestSound:
    def test_it(self):
        pass
"""


@pytest.mark.slow
def test_a_race_is_let_through_once_and_fails_the_next_time(project):
    project.tests.write_text(RACE)
    status, said = project()
    assert (status, listed(project.list)) == (0, ["tests/test_it.py::test_race"]), said
    status, said = project()
    assert (status, listed(project.list)) == (1, ["tests/test_it.py::test_race"]), said
    assert "needed a second run before" in said


@pytest.mark.slow
def test_what_fails_twice_fails(project):
    project.tests.write_text("class TestIt:\n    def test_it(self):\n        assert False\n")
    status, said = project()
    assert (status, listed(project.list)) == (1, []), said
    assert "tests/test_it.py::TestIt::test_it" in said


@pytest.mark.slow
@pytest.mark.parametrize("command", ["false", "kill -KILL $$", "sh -c 'exit 3'"])
def test_a_first_run_that_did_not_get_to_its_end_fails_also_when_an_earlier_one_left_failures(
    project, command
):
    """What failed yesterday and passes now says nothing of the tests that were not run today."""
    project.tests.write_text(RACE)
    project()
    project.list.write_text("")
    project.tests.with_name("seen").touch()
    status, said = project(f"{command} && .venv/bin/python -m pytest -q tests")
    assert (status != 0, listed(project.list)) == (True, []), said


def test_the_list_names_tests_that_are_there():
    """Each is to be mended and taken off."""
    path = clients.ROOT / "tests/flaky.txt"
    files = {entry.partition("::")[0] for entry in flaky.known(path)}
    assert all((clients.ROOT / file).is_file() for file in files)
