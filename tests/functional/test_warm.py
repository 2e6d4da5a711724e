"""`entrepot warm` and the offline install after it, with a real pip."""

import json
import re
import shutil
import sys

import pytest

import clients
from entrepot.testing.origin import Origin
from functional.test_run_terminal import Terminal
from running import Desk

pytestmark = pytest.mark.slow


@pytest.fixture
def index():
    with Origin(tls=True, name="index.test", files_name="files.test") as running:
        running.add_project("leaf", sdist=True)
        running.add_project("demo", requires=["leaf"])
        running.add_project("tool-below", requires=[])
        running.add_project("back-end", requires=["tool-below"])
        running.add_project(
            "source", wheel=False, sdist=True, build_requires=["back-end"], requires=["leaf"]
        )
        yield running


@pytest.fixture
def desk(index, tmp_path):
    return Desk.under(tmp_path, index, PIP_INDEX_URL=index.index_url)


def warm(desk, *argv):
    words = [
        sys.executable,
        "-m",
        "entrepot",
        "warm",
        "--python",
        str(clients.pip_python("26.3")),
        *argv,
    ]
    return clients.run(words, desk.environ, cwd=desk.project)


def install_offline(desk, *names):
    """Into a fresh virtual environment, with the cable out where this machine allows that (the origin is gone anyway)."""
    python = clients.venv(desk.root / f"fresh-{names[0]}")
    pip = [*clients.pip("26.3"), "--python", str(python), "install", "-q", *names]
    desk.environ["PIP_NO_CACHE_DIR"] = "1"
    return desk.run(*pip, options=["--offline"], unplugged=clients.can_unplug())


def test_an_sdist_whose_back_end_needs_a_dependency_installs_offline_afterwards(desk, index):
    done = warm(desk, "source")
    assert done.returncode == 0, done.stdout + done.stderr
    assert index.count("tool_below.*whl$") == 1
    index.stop()
    ran = install_offline(desk, "source")
    assert ran.status == 0, ran.said
    assert {"source", "leaf", "back-end", "tool-below"} <= {
        entry["project"] for entry in ran.report["entries"]
    }


def test_what_pips_own_cache_holds_comes_to_the_store_too(desk, index):
    """pip's cache, filled by a run with another store, would answer pip, and the pip that fetches build requirements below it."""
    filled = desk.run(
        *clients.pip("26.3"),
        "download",
        "-q",
        "-d",
        "out",
        "source",
        options=["--store", str(desk.root / "other")],
    )
    assert filled.status == 0, filled.said
    assert warm(desk, "source").returncode == 0
    shutil.rmtree(desk.home / ".cache/pip")
    index.stop()
    assert install_offline(desk, "source").status == 0


def test_each_items_result_is_told_and_some_failures_are_3(desk, index):
    desk.write({"r.txt": "# the lab's\ndemo\nnosuch>=3\ntool-below ; python_version < '3'\n"})
    done = warm(desk, "-r", "r.txt", "--json")
    assert done.returncode == 3, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert [(item["item"], item["status"]) for item in said["items"]] == [
        ("demo", "ready"),
        ("nosuch>=3", "failed"),
        ("tool-below ; python_version < '3'", "not needed"),
    ]
    assert said["items"][0]["filename"] == "demo-1.0-py3-none-any.whl"
    assert "nosuch" in said["items"][1]["why"]
    assert said["bytes_downloaded"] > 0
    index.stop()
    ran = install_offline(desk, "demo")
    assert ran.status == 0, ran.said


def test_the_text_names_every_item_and_when_all_fail_it_is_1(desk):
    done = warm(desk, "demo")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        "ITEM  RESULT  FILE",
        "demo  ready   demo-1.0-py3-none-any.whl",
    ]
    done = warm(desk, "nosuch")
    assert done.returncode == 1
    assert "failed" in done.stdout


def test_source_archives_come_too_when_they_are_wanted(desk, index):
    done = warm(desk, "demo", "--with-sdists", "--json")
    assert done.returncode == 3, done.stdout + done.stderr  # demo has none
    said = json.loads(done.stdout)
    assert "leaf-1.0.tar.gz" in said["files"]
    assert [warning["text"] for warning in said["warnings"]] == [
        "demo==1.0: its source archive cannot be had"
    ]
    index.stop()
    python = clients.venv(desk.root / "from-source")
    pip = [
        *clients.pip("26.3"),
        "--python",
        str(python),
        "install",
        "-q",
        "--no-cache-dir",
        "--no-binary",
        "leaf",
        "leaf",
    ]
    ran = desk.run(*pip, options=["--offline"])
    assert ran.status == 0, ran.said


def test_for_another_platform_its_wheels_are_fetched(desk, index):
    index.add_project("native", tag="cp311-cp311-manylinux_2_17_aarch64")
    index.add_project("native", tag="cp311-cp311-win_amd64")
    done = warm(desk, "native", "--platform", "manylinux_2_17_aarch64", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["files"] == ["native-1.0-cp311-cp311-manylinux_2_17_aarch64.whl"]


@pytest.mark.parametrize("argv", [[], ["-r", "none.txt"], ["demo", "--python", "/nonexistent"]])
def test_nothing_to_fetch_is_a_usage_error(desk, argv):
    assert warm(desk, *argv).returncode == 2


def test_on_a_terminal_it_shows_how_much_has_come_and_in_a_pipe_nothing(desk, index):
    index.add_project("large", size=3_000_000)
    index.link.rate = 1_000_000
    words = [
        sys.executable,
        "-m",
        "entrepot",
        "warm",
        "--python",
        str(clients.pip_python("26.3")),
        "large",
    ]
    terminal = Terminal(words, {**desk.environ, "TERM": "xterm"}, desk.project)
    assert terminal.end() == 0
    assert len(set(re.findall(r"\r(\d[\d.]* [kM]B)", terminal.said))) > 3, terminal.said
    assert terminal.said.count("large-1.0") == 1
    assert "\r" not in (done := warm(desk, "large")).stdout + done.stderr


def test_a_second_warming_fetches_no_file(desk, index):
    warm(desk, "demo")
    index.reset()
    assert warm(desk, "demo").returncode == 0
    assert index.count("whl$") == 0
