"""``clean --to SIZE`` with real caches.

Uv's linked into an environment by hard links, pip's, and the store.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

import clients
from entrepot.testing.origin import Origin
from uv_lab import Lab

PROJECTS = [f"demo{number}" for number in range(8)]


class Filled(Lab):
    """A home with all three caches."""

    def __init__(self, folder: Path, origin: Origin) -> None:
        super().__init__("0.13.9", folder, origin)
        self.environ |= {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "XDG_CONFIG_DIRS": str(folder / "no-site"),
            "PIP_INDEX_URL": origin.index_url,
            "PIP_TRUSTED_HOST": origin.address,  # over plain http pip keeps nothing without that
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        self.env = self.environment("env", *PROJECTS)
        for project in PROJECTS[:4]:
            done = clients.run(
                [*clients.pip("26.3"), "download", "-d", folder / "out", project],
                self.environ,
                cwd=folder,
            )
            assert done.returncode == 0, done.stderr
        store = (
            "run",
            "--",
            *map(str, clients.pip("26.3")),
            "download",
            "--no-cache-dir",
            "-d",
            "again",
            "demo5",
            "demo6",
        )
        self.entrepot(*store)

    def entrepot(self, *words: str) -> dict | None:
        done = clients.run(
            [sys.executable, "-m", "entrepot", *words], self.environ, cwd=self.folder
        )
        assert done.returncode in (0, 3), done.stderr
        self.said = done.stdout + done.stderr
        return json.loads(done.stdout) if "--json" in words else None

    def held(self, *words: str) -> dict[str, int]:
        """Tool to bytes of disk, as ``status`` counts them, without the store's own files."""
        caches = self.entrepot("status", "--json", *words)["caches"]
        return {cache["tool"]: cache["disk"] - cache["overhead"] for cache in caches}

    def linked(self) -> set[str]:
        """Projects that uv's cache holds unpacked."""
        entries = self.entrepot("list", "--tool", "uv", "--kind", "unpacked", "--json")["entries"]
        return {entry["project"] for entry in entries}


@pytest.fixture
def filled(tmp_path, origin):
    for number, project in enumerate(PROJECTS):
        origin.add_project(project, size=200_000 + 50_000 * number)
    return Filled(tmp_path, origin)


def test_it_stops_at_the_size_and_takes_what_environments_hold_only_where_it_must(filled: Filled):
    before = filled.held()
    files = sorted(path for path in filled.env.rglob("*") if path.is_file())
    assert before.keys() >= {"entrepot", "pip", "uv"}
    total = sum(before.values())
    # 1. what frees something is enough: nothing of uv's goes, which frees nothing
    size = total - before["pip"] // 2
    plan = filled.entrepot("clean", "--to", str(size), "--force", "-n", "--json")
    assert sum(filled.held().values()) == total, "a dry run changes nothing"
    done = filled.entrepot("clean", "--to", str(size), "--force", "-y", "--json")
    after = filled.held()
    assert size - 600_000 < sum(after.values()) <= size
    assert abs(sum(after.values()) - plan["left"]) < 100_000, "and that is what the plan said"
    assert filled.linked() == set(PROJECTS)
    assert abs(done["freed"] - plan["freed"]) < 100_000
    # 2. all that frees something is not enough: then of what environments hold as much as is
    # needed, and no more
    size = before["uv"] * 2 // 3
    filled.entrepot("clean", "--to", str(size), "--force", "-y")
    assert "stays in the caches" in filled.said
    after = filled.held()
    assert size - 700_000 < sum(after.values()) <= size
    assert 3 <= len(filled.linked()) < len(PROJECTS)
    # 3. there is nothing to do twice
    filled.entrepot("clean", "--to", str(size), "--force", "-y")
    assert "Nothing to clean: no superseded layout" in filled.said
    assert filled.held() == after
    assert sorted(path for path in filled.env.rglob("*") if path.is_file()) == files


def test_with_one_tool_the_size_is_that_tools(filled: Filled):
    before = filled.held()
    size = before["uv"] // 2
    filled.entrepot("clean", "--tool", "uv", "--to", str(size), "-y")
    after = filled.held()
    assert size - 700_000 < after["uv"] <= size
    assert {**after, "uv": 0} == {**before, "uv": 0}


def test_a_size_that_cannot_be_reached_leaves_what_frees_nothing(filled: Filled):
    """What a later uv made has to stay.

    What the environment holds would have to be fetched again, for nothing.
    """
    (filled.cache / "unheard-of-v7").mkdir()
    (filled.cache / "unheard-of-v7/data").write_bytes(os.urandom(20_000))
    filled.entrepot("clean", "--to", "1kB", "-y")
    assert "would be left, more than the 1.0 kB of --to" in filled.said
    assert filled.linked() == set(PROJECTS)
    after = filled.held()
    assert (after["pip"], after["entrepot"]) == (0, 0)
