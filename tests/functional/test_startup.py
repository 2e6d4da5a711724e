"""What the quick commands import, and how long they take.

The limit in the design is 150 ms on an idle core; a test machine is not idle, so the import set is
what is kept here, and time only against a bound that no accident reaches. ``bench/startup.py``
measures.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from own_store import World

HEAVY = frozenset(
    (
        "asyncio ssl rich uvicorn uvloop httptools cryptography pyreqwest packaging tomlkit ruamel concurrent email http.client "
        "aiohttp msgpack zstandard multiprocessing urllib.request pip"
    ).split()
)
"""Modules, with all below them, that a command which only looks may not load."""

SCRIPT = """
import sys
from entrepot.cli.main import main
status = main(sys.argv[1:])
print("\\n".join(sorted(sys.modules)), file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture
def environ(tmp_path):
    source = Path(__file__).parents[2] / "src"
    keep = {
        name: os.environ[name]
        for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
        if name in os.environ
    }
    return {
        **keep,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(source),
        "XDG_CONFIG_DIRS": str(tmp_path / "site"),
    }


@pytest.fixture
def filled(environ, tmp_path):
    """The environment with a store that holds a page and a file, and a configuration file."""
    world = World(tmp_path / ".cache/entrepot")
    world.add(data=b"x" * 9000)
    world.add("https://index.test/simple/demo/", b"page", kind="page", proven=False, version=None)
    world.close()
    config = tmp_path / ".config/entrepot/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("offline = false\n")
    return environ


def start(environ, *argv):
    """Run a command in a process of its own.

    What it printed and what it had imported by its end.
    """
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *argv],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, set(done.stderr.split())


def heavy(modules):
    return sorted(m for m in modules if any(m == h or m.startswith(h + ".") for h in HEAVY))


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["--version"],
        ["where"],
        ["where", "--path"],
        ["status"],
        ["list"],
        ["config", "list"],
        ["verify"],
    ],
    ids=" ".join,
)
def test_a_quick_command_loads_nothing_heavy(filled, argv):
    _, modules = start({**filled, "ENTREPOT_LIMIT": "1GB"}, "--tool=entrepot", *argv)
    assert heavy(modules) == []
    assert "entrepot.cli.main" in modules


@pytest.mark.parametrize("argv", [["where"], ["status"], []], ids=["where", "status", "nothing"])
def test_all_tools_together_load_nothing_heavy_either(filled, argv):
    assert heavy(start(filled, *argv)[1]) == []


def test_help_and_where_do_not_load_what_reads_the_store(filled):
    assert "entrepot.config.settings" not in start(filled, "--help")[1]
    _, modules = start(filled, "where", "entrepot")
    assert {"sqlite3", "entrepot.store.directory", "entrepot.httpcache"} & modules == set()


def test_only_the_command_that_is_asked_for_is_imported(filled):
    commands = {
        m for m in start(filled, "where", "entrepot")[1] if m.startswith("entrepot.cli.cmd_")
    }
    assert commands == {"entrepot.cli.cmd_where"}


def test_nothing_is_written_by_looking(environ, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    for argv in (["where"], ["status"], ["list"], ["verify"], ["config", "list"]):
        start(environ, "--tool=entrepot", *argv)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_status_of_a_small_store_takes_no_second(filled):
    start(filled, "status")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out, _ = start(filled, "--tool=entrepot", "status")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
    assert "entrepot  ~/.cache/entrepot" in out
