"""`entrepot list --used-by`: what one environment needs, with the real rattler and uv."""

import json
import os
import sys
from pathlib import Path

import pytest

import clients
from entrepot.testing.channel import Channel

SCRIPT = Path(__file__).parents[1] / "rattling.py"


@pytest.fixture
def scene(origin, environment, tmp_path):
    """An environment each of rattler's and of uv's, where nobody would look, and another of rattler's that needs less."""
    channel = Channel(origin)
    channel.add("demo", depends=["low"])
    channel.add("low", subdir="linux-64")
    channel.publish()
    origin.add_project("leaf")
    environ = environment | {
        "RATTLER_CACHE_DIR": str(tmp_path / "rattler"),
        "UV_CACHE_DIR": str(tmp_path / "uv"),
    }
    for folder, spec in (("far/lab", "demo"), ("far/less", "low")):
        words = [SCRIPT, channel.url, tmp_path / "rattler", tmp_path / folder, spec]
        done = clients.run([*clients.rattler(), *words], environ)
        assert done.returncode == 0, done.stderr
    uv = clients.uv()
    for words in (
        ("venv", "--python", sys.executable, tmp_path / "site/.venv"),
        (
            "pip",
            "install",
            "--python",
            tmp_path / "site/.venv/bin/python",
            "--index-url",
            origin.index_url,
            "leaf",
        ),
    ):
        done = clients.run([*uv, *words], environ)
        assert done.returncode == 0, done.stderr
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path.endswith("src"))
    (tmp_path / "cwd").mkdir()

    def listed(env, *options):
        return clients.run(
            [sys.executable, "-m", "entrepot", "list", "--used-by", env, *options],
            environ,
            cwd=tmp_path / "cwd",
        )

    return listed, tmp_path


def projects(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return {(entry["tool"], entry["project"]) for entry in json.loads(done.stdout)["entries"]}


def test_what_an_environment_needs_is_listed_whichever_tool_made_it(scene):
    listed, root = scene
    assert projects(listed(root / "far/lab", "--json")) == {("rattler", "demo"), ("rattler", "low")}
    assert projects(listed("../far/less", "--json")) == {("rattler", "low")}
    assert projects(listed(root / "site", "--json")) == {("uv", "leaf")}
    done = listed("nosuch")
    assert done.returncode == 2
    assert "there is no environment 'nosuch'" in done.stderr
