"""Caches written by real uvs.

Every name right, freed bytes as the file system counts them, environments unharmed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import clients
from entrepot.caches.removal import Requirement, plan_cleaning
from entrepot.caches.selection import is_unused
from entrepot.ports.tool import Kind
from entrepot.testing.origin import Origin
from uv_lab import LATER_S, VERSIONS, Lab, fill_origin, hashes, usage

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")


@pytest.fixture(params=VERSIONS)
def lab(request: pytest.FixtureRequest, tmp_path: Path, origin: Origin) -> Lab:
    fill_origin(origin)
    return Lab(request.param, tmp_path, origin)


def fetched(origin: Origin) -> list[str]:
    return [seen.path for seen in origin.log if seen.path.endswith((".whl", ".tar.gz"))]


def test_where_agrees_with_uv_itself(lab: Lab):
    assert str(lab.place.path) == lab.uv("cache", "dir").stdout.strip()


def test_every_entry_has_its_exact_name_and_its_users(lab: Lab):
    environments = lab.fill()
    entries = lab.entries()
    names = {
        (e.kind, e.project, e.version, e.filename)
        for e in entries
        if e.project and e.kind is not Kind.PAGE
    }
    assert names == {
        (Kind.UNPACKED, "alpha", "1.0", "alpha-1.0-py3-none-any.whl"),
        (Kind.UNPACKED, "beta", "2.1", "beta-2.1-py3-none-any.whl"),
        (Kind.UNPACKED, "big-one", "1.0+local1", "big_one-1.0+local1-3-py3-none-any.whl"),
        (Kind.UNPACKED, "direct", "1.5", "direct-1.5-py3-none-any.whl"),
        (Kind.BUILT, "source-pkg", "0.3", "source_pkg-0.3-py3-none-any.whl"),
    }
    assert {e.project for e in entries if e.kind is Kind.PAGE} == {
        "alpha",
        "beta",
        "big-one",
        "source-pkg",
    }
    (beta,), (big,) = lab.named("beta", entries), lab.named("big-one", entries)
    assert set(beta.used_by) == {str(environments["hardlink"]), str(environments["symlink"])}
    assert "symbolically" in beta.blocked
    assert big.used_by == (str(environments["hardlink"]),)
    assert not big.blocked


def test_sizes_are_those_of_the_file_system(lab: Lab):
    lab.fill()
    entries = lab.entries()
    mine = {path for entry in entries for path in entry.paths}
    frames = [
        path for path in (lab.cache, *lab.cache.rglob("*")) if not mine & {path, *path.parents}
    ]
    assert sum(e.disk for e in entries) + sum(
        path.lstat().st_blocks * 512 for path in frames
    ) == usage(lab.cache)


def test_removing_everything_frees_what_it_says_and_no_environment_loses_a_byte(lab: Lab):
    environments = lab.fill()
    before = {mode: hashes(path) for mode, path in environments.items()}
    entries = lab.entries()
    used = usage(lab.folder)
    done = lab.tool.remove(entries, lab.around)
    assert {e.project for e, _ in done.kept} == {"alpha", "beta"}
    assert used - usage(lab.folder) == done.freed > 0
    assert {mode: hashes(path) for mode, path in environments.items()} == before
    assert "dangling" not in {digest for found in before.values() for digest in found.values()}
    assert {e.project for e in lab.entries()} - {None} == {"alpha", "beta"}


def test_the_same_uv_works_afterwards_and_fetches_only_what_went(lab: Lab):
    environments = lab.fill()
    big = lab.named("big-one")
    assert lab.tool.remove(big, lab.around).entries == tuple(big)
    lab.origin.reset()
    lab.install(environments["copy"], "beta", "big-one", "source-pkg", mode="copy")
    assert [path.rpartition("/")[2] for path in fetched(lab.origin)] == [
        "big_one-1.0+local1-3-py3-none-any.whl"
    ]
    assert lab.named("big-one")


def test_freed_bytes_are_the_file_systems_where_nothing_is_linked(lab: Lab):
    lab.environment("copied", "beta", "source-pkg", mode="copy")
    entries = [e for e in lab.entries() if e.project]
    promised = sum(e.freeable for e in entries)
    used = usage(lab.cache)
    done = lab.tool.remove(entries, lab.around)
    assert used - usage(lab.cache) == done.freed
    assert promised <= done.freed <= promised + 20 * 4096  # the empty directories above


def test_unused_is_what_no_environment_links_to(lab: Lab):
    lab.environment("linked", "alpha")
    lab.environment("copied", "direct", mode="copy")
    assert [e.project for e in lab.entries() if is_unused(e)] == ["direct"]


def test_an_environment_nobody_knows_still_shows_by_its_links(lab: Lab):
    away = lab.environment("sub/deep/hidden", "alpha")
    (alpha,) = lab.named("alpha")
    assert alpha.used_by == ("linked from 1 unknown place",)
    before = hashes(away)
    lab.tool.remove([alpha], lab.around)
    assert hashes(away) == before


def test_a_symlinked_environment_seen_once_is_remembered(lab: Lab):
    away = lab.environment("sub/deep/hidden", "alpha", mode="symlink")
    list(lab.tool.scan(lab.place, replace(lab.around, cwd=away.parent)))
    (alpha,) = lab.named("alpha")
    assert alpha.used_by == (str(away),)
    assert lab.tool.remove([alpha], lab.around, force=True).kept


def test_a_uv_that_links_symbolically_keeps_what_nobody_seems_to_need(lab: Lab):
    lab.environment("sub/deep/hidden", "alpha", mode="symlink")
    lab.environ["UV_LINK_MODE"] = "symlink"
    (alpha,) = lab.named("alpha")
    assert "link symbolically" in alpha.blocked


def test_a_cached_environment_of_uvx_counts_as_a_user(lab: Lab):
    lab.uv("tool", "run", "--from", "alpha", "--python", lab.python, "alpha")
    (alpha,) = lab.named("alpha")
    assert alpha.used_by[0].startswith("cached environment")
    (cached,) = [e for e in lab.entries() if e.extra.get("environment")]
    lab.tool.remove([cached], lab.around)
    assert (
        lab.uv("tool", "run", "--from", "alpha", "--python", lab.python, "alpha").stdout
        == "alpha 1.0\n"
    )


def test_an_archive_that_lost_its_pointer_is_litter_and_clean_takes_it(lab: Lab):
    lab.environment("copied", "alpha", mode="copy")
    (alpha,) = lab.named("alpha")
    for path in alpha.paths[:-1]:
        path.unlink()
    (orphan,) = [e for e in lab.entries() if e.problem == "orphan-archive"]
    assert "may still be written to" in orphan.blocked
    lab.later = LATER_S
    plan = plan_cleaning(lab.entries(), Requirement(), now=lab.now())
    assert [(e.project, e.version, reason) for e, reason in plan.going] == [
        ("alpha", "1.0", "orphan")
    ]
    assert lab.tool.remove(plan.entries, lab.around).freed == orphan.disk


def test_a_running_uv_keeps_its_cache(lab: Lab):
    lab.environment("copied", "alpha", mode="copy")
    command = [
        *lab.words,
        "run",
        "--no-project",
        "--python",
        str(lab.python),
        "python",
        "-c",
        "print(1, flush=True); input()",
    ]
    process = subprocess.Popen(
        command, env=lab.environ, cwd=lab.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == b"1\n"
        done = lab.tool.remove(lab.named("alpha"), lab.around)
        assert not done.entries
        assert "in use by process" in done.kept[0][1]
        assert "uv run" in done.kept[0][1]
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def test_installs_survive_constant_removal(lab: Lab):
    lab.environment("first", "beta", "big-one")
    command = [
        *lab.words,
        "pip",
        "install",
        "--reinstall",
        "--link-mode",
        "copy",
        "--python",
        "first/bin/python",
        "beta",
        "big-one",
    ]
    removed = 0
    for _ in range(5):
        process = subprocess.Popen(
            command, env=lab.environ, cwd=lab.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        while process.poll() is None:
            removed += len(lab.tool.remove(lab.entries(), lab.around).entries)
        _, told = process.communicate()
        assert process.returncode == 0, told.decode()
        removed += len(lab.tool.remove(lab.entries(), lab.around).entries)
    assert removed


def test_caches_of_three_uvs_in_one_directory_superseded_buckets_go_and_the_newest_works(
    tmp_path, origin
):
    fill_origin(origin)
    cache = tmp_path / "cache"
    labs = []
    for version in VERSIONS:
        folder = tmp_path / version
        folder.mkdir()
        labs.append(Lab(version, folder, origin, cache=cache))
    environments = [lab.environment("e", "beta", "source-pkg") for lab in labs]
    before = [hashes(path) for path in environments]
    newest = labs[-1]
    plan = plan_cleaning(newest.entries(), Requirement(), now=newest.now())
    assert {reason for _, reason in plan.going} == {"superseded layout"}
    assert {"wheels-v3", "wheels-v5", "sdists-v7", "sdists-v9"} <= {
        e.extra["bucket"] for e in plan.entries
    }
    used = usage(tmp_path)
    done = newest.tool.remove(plan.entries, newest.around)
    assert not done.kept
    assert used - usage(tmp_path) == done.freed
    assert [hashes(path) for path in environments] == before
    assert not {"wheels-v3", "wheels-v5", "sdists-v7", "sdists-v9", "simple-v15"} & {
        path.name for path in cache.iterdir()
    }
    origin.reset()
    newest.install(environments[-1], "beta", "source-pkg")
    assert not fetched(origin)
    assert [hashes(path) for path in environments[:2]] == before[:2]
    assert newest.uv("cache", "prune").returncode == 0


def test_the_command_line_lists_and_cleans_it(lab: Lab):
    lab.environment("linked", "alpha")
    lab.environment("copied", "direct", mode="copy")
    entrepot = [sys.executable, "-m", "entrepot"]
    source = str(Path(__file__).resolve().parents[2] / "src")
    environ = lab.environ | {"PYTHONPATH": source}
    where = clients.run([*entrepot, "where", "uv", "--path"], environ, cwd=lab.folder)
    assert where.stdout == f"{lab.cache}\n"
    listed = clients.run(
        [*entrepot, "list", "--tool", "uv", "--unused", "--json"], environ, cwd=lab.folder
    )
    assert '"direct"' in listed.stdout
    assert '"alpha"' not in listed.stdout
    cleaned = clients.run(
        [*entrepot, "clean", "--tool", "uv", "--unused", "-y"], environ, cwd=lab.folder
    )
    assert cleaned.returncode == 0, cleaned.stderr
    assert not lab.named("direct")
    assert lab.named("alpha")
