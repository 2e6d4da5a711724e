"""Whether a pip is at work with a cache: by its command line, its variables and its options."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.ports.tool import Kind
from entrepot.tools._shared import processes
from entrepot.tools.pip.running import RunningPips, at_work, verb_of
from entries import NOW, entry

HERE = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="processes are not shown here"
)


@pytest.mark.parametrize(
    ("line", "verb"),
    [
        ("python -m pip install x", "install"),
        ("/v/bin/python3.11 -I -X dev -m pip --no-color -q download x", "download"),
        ("/v/bin/python /v/bin/pip3.11 wheel .", "wheel"),
        ("/v/bin/python /v/lib/pip/__pip-runner__.py install --ignore-installed x", "install"),
        ("python -m pip list", ""),
        ("python -m pip cache purge", ""),
        ("python setup.py install", ""),
        ("pipx install x", ""),
        ("grep pip install", ""),
        ("", ""),
    ],
)
def test_a_pip_that_asks_indexes_is_known_by_its_command_line(line, verb):
    assert verb_of(line.split()) == verb


@HERE
@pytest.mark.parametrize(
    ("variables", "options", "uses"),
    [
        ({"PIP_CACHE_DIR": "{root}"}, [], True),
        ({"PIP_CACHE_DIR": "/elsewhere"}, [], False),
        ({"PIP_CACHE_DIR": "/elsewhere"}, ["--cache-dir", "{root}"], True),
        ({"PIP_CACHE_DIR": "cache"}, [], True),
        ({"PIP_NO_CACHE_DIR": "1"}, [], False),
        ({"HOME": "/elsewhere"}, [], False),
    ],
    ids=str,
)
def test_only_a_pip_that_uses_this_cache_counts(tmp_path, variables, options, uses):
    root = tmp_path / "cache"
    (tmp_path / "pip").write_text("print(flush=True)\ninput()\n")
    filled = {
        name: value.format(root=root)
        for name, value in {"HOME": str(tmp_path), **variables}.items()
    }
    words = [
        sys.executable,
        tmp_path / "pip",
        "install",
        *(word.format(root=root) for word in options),
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, env=filled, cwd=tmp_path, **pipes) as process:
        process.stdout.readline()
        found = at_work(root, os.geteuid())
        process.communicate(b"\n")
    assert found == (process.pid if uses else None)
    assert at_work(root, os.geteuid()) is None


@pytest.mark.parametrize(
    ("fields", "age", "stays"),
    [
        ({"kind": Kind.PAGE, "state": "fresh"}, 9999, True),
        ({"state": "stale"}, 9999, True),
        ({"state": "fresh"}, 9999, False),
        ({"state": "fresh"}, 5, True),
        ({"kind": Kind.PAGE, "key": "http/x", "removable_because": "superseded layout"}, 5, False),
        ({"removable_because": "orphan"}, 5, False),
        ({"kind": Kind.TEMP}, 5, False),
        ({"kind": Kind.BUILT, "key": "wheels/x"}, 5, False),
    ],
    ids=str,
)
def test_what_pip_may_be_asking_about_stays(fields, age, stays):
    mine = replace(entry(key="http-v2/x"), **fields)
    told = RunningPips(0, lambda _root, _euid: 4711).why_not(mine, NOW - age, NOW)
    assert told == (
        "pip is running (process 4711) and may be asking its index about it" if stays else ""
    )
    assert RunningPips(0, lambda _root, _euid: None).why_not(mine, NOW - age, NOW) == ""


def test_where_no_processes_are_shown_nobody_is_seen(tmp_path):
    assert list(processes.of_user(os.geteuid(), tmp_path / "none")) == []
    assert list(processes.of_user(-1)) == []
