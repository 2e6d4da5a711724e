"""What ``entrepot run`` promises beside the cache: its report, its options, its exit statuses."""

from __future__ import annotations

import json
import signal
import sys

import pytest

import clients
from acceptance import FILES, PAGES, Lab, expected, install_command
from entrepot.testing import profiles
from entrepot.testing.origin import Origin

FIELDS = {
    "schema": int,
    "command": list,
    "exit": int,
    "seconds": float,
    "requests": int,
    "hits": int,
    "revalidated": int,
    "misses": int,
    "stale": int,
    "errors": int,
    "bytes_from_cache": int,
    "bytes_downloaded": int,
    "uncached_hosts": dict,
    "entries": list,
}
"""Of the report, as its reference has them."""
ENTRY = {
    "url": str,
    "status": int,
    "outcome": str,
    "bytes": int,
    "project": str | None,
    "version": str | None,
}
FETCH = "import sys, urllib.request as u; print(len(u.urlopen(sys.argv[1]).read()))"


@pytest.fixture
def lab(tmp_path, origin):
    """A store before the origin."""
    return Lab(tmp_path, (origin,))


@pytest.mark.parametrize("tool", ["26.3", "uv"])
def test_the_report_has_its_fields_and_its_sums_are_right(lab, origin, tool):
    names = origin.synth(3)
    lab.install(tool, names).ok()
    ran = lab.install(tool, [*names, "no-such-thing"])
    report = ran.report
    assert {name: type(report[name]) for name in FIELDS} == FIELDS
    assert (report["schema"], report["exit"]) == (1, ran.status)
    assert ran.status != 0
    assert report["command"] == [
        str(word).replace("TARGET", str(ran.target))
        for word in install_command(tool, origin.index_url, [*names, "no-such-thing"])
    ]
    assert 0 < report["seconds"] < ran.seconds
    for entry in report["entries"]:
        assert entry.keys() == ENTRY.keys()
        assert all(isinstance(entry[name], kind) for name, kind in ENTRY.items())
    of = {
        name: [e for e in report["entries"] if e["outcome"] == name]
        for name in ("hit", "revalidated", "miss", "stale", "error", "bypass")
    }
    assert sum(map(len, of.values())) == len(report["entries"]) == report["requests"]
    sums = (
        report["hits"],
        report["revalidated"],
        report["misses"],
        report["stale"],
        report["errors"],
    )
    assert sums == tuple(len(of[name]) for name in ("hit", "revalidated", "miss", "stale", "error"))
    assert report["bytes_from_cache"] == sum(
        e["bytes"] for name in ("hit", "revalidated", "stale") for e in of[name]
    )


def test_a_miss_counts_its_bytes_as_downloaded_and_names_project_and_version(lab, origin):
    file = origin.add_project("plain", size=50_000)[0]
    report = lab.install("uv", ["plain"]).ok().report
    entry = next(e for e in report["entries"] if e["url"].endswith(".whl"))
    assert entry == {
        "url": origin.url(file),
        "status": 200,
        "outcome": "miss",
        "bytes": file.content.size,
        "project": "plain",
        "version": "1.0",
    }
    assert report["bytes_downloaded"] >= file.content.size
    assert report["bytes_downloaded"] == origin.bytes_sent()


def test_a_report_that_cannot_be_written_stops_the_run_before_it_begins(lab, origin):
    user = lab.fresh()
    words = [
        *lab.words(())[:3],
        "run",
        "--report",
        str(user / "no" / "report.json"),
        "--",
        "touch",
        str(user / "done"),
    ]
    ran = clients.run(words, lab.environment(user))
    assert ran.returncode == 125
    assert not (user / "done").exists()


@pytest.mark.parametrize("tool", ["25.3", "uv"])
def test_refresh_asks_about_every_page_and_fetches_no_proven_file_again(lab, origin, tool):
    origin.index_max_age = 3600
    names = origin.synth(3)
    lab.install(tool, names).ok()
    origin.reset()
    assert lab.install(tool, names, options=("--refresh",)).ok().installed() == expected(3)
    assert origin.count(PAGES) == 3
    assert origin.count(FILES) == 0


def test_refresh_sees_a_new_release_that_a_fresh_page_hides(lab, origin):
    origin.index_max_age = 3600
    origin.add_project("plain", "1.0")
    lab.install("uv", ["plain"]).ok()
    origin.add_project("plain", "2.0")
    assert lab.install("uv", ["plain"]).ok().installed() == {"plain-1.0"}
    assert lab.install("uv", ["plain"], options=("--refresh",)).ok().installed() == {"plain-2.0"}


def test_no_store_keeps_nothing_and_looks_nothing_up(lab, origin):
    names = origin.synth(3)
    lab.install("uv", names, options=("--no-store",)).ok()
    assert lab.heads() == []
    assert lab.bodies() == set()
    lab.install("uv", names).ok()
    kept = lab.bodies()
    origin.reset()
    ran = lab.install("uv", names, options=("--no-store",)).ok()
    assert origin.count(FILES) == 3
    assert ran.report["hits"] == ran.report["revalidated"] == 0
    assert lab.bodies() == kept


def test_store_names_another_directory(lab, origin, tmp_path):
    names = origin.synth(3)
    lab.install("uv", names, options=("--store", str(tmp_path / "elsewhere"))).ok()
    assert not lab.store.exists()
    assert (tmp_path / "elsewhere" / "CACHEDIR.TAG").exists()
    origin.reset()
    lab.install("uv", names, ENTREPOT_STORE=str(tmp_path / "elsewhere")).ok()
    assert origin.count(FILES) == 0


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_host_that_no_tool_knows_is_cached_when_host_names_it(tmp_path, tls):
    with Origin(tls=tls, name="data.test", profile=profiles.index_like) as origin:
        lab = Lab(tmp_path, (origin,))
        url = origin.add("/data.bin", b"x" * 5000)
        for _ in range(2):
            past = lab.run(sys.executable, "-c", FETCH, url).ok()
        assert origin.count("data.bin") == 2
        assert set(past.report["uncached_hosts"]) == {"data.test"}
        for _ in range(2):
            cached = lab.run(sys.executable, "-c", FETCH, url, options=("--host", "data.test")).ok()
        assert origin.count("data.bin") == 3
        assert cached.stdout == "5000\n"
        assert cached.report["uncached_hosts"] == {}
        assert cached.report["hits"] == 1


@pytest.mark.parametrize("status", [0, 1, 2, 125, 255])
def test_the_childs_exit_status_is_the_runs(lab, status):
    assert lab.run(sys.executable, "-c", f"import sys; sys.exit({status})").status == status


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV], ids=lambda each: each.name
)
def test_a_child_that_a_signal_ends_gives_128_and_its_number(lab, number):
    assert (
        lab.run(sys.executable, "-c", f"import os; os.kill(os.getpid(), {int(number)})").status
        == 128 + number
    )


def test_a_command_that_is_not_there_gives_127(lab):
    ran = lab.run("no-such-command-anywhere")
    assert ran.status == 127
    assert ran.last_line == "entrepot: no-such-command-anywhere: command not found"


def test_a_command_that_may_not_be_executed_gives_126(lab, tmp_path):
    (tmp_path / "text").write_text("no program\n")
    ran = lab.run(tmp_path / "text")
    assert ran.status == 126
    assert "permission denied" in ran.last_line


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "--"],
        ["run", "--host", "a b", "--", "true"],
        ["run", "--store", "/dev/null/x", "--", "true"],
    ],
    ids=" ".join,
)
def test_entrepots_own_failure_gives_125(lab, words):
    ran = clients.run([*lab.words(())[:3], *words], lab.environment(lab.fresh()))
    assert ran.returncode == 125, ran.stderr
    assert "Traceback" not in ran.stderr


def test_nothing_is_left_of_the_runtime_directory_or_in_the_temporary_one(lab, origin):
    lab.install("uv", origin.synth(3)).ok()
    assert list(lab.runtime.iterdir()) == []
    assert list(lab.temporary.glob("entrepot-*")) == []


def test_the_report_is_json_that_other_programs_read(lab, tmp_path):
    report = tmp_path / "report.json"
    clients.run(lab.words(["true"], ("--report", str(report))), lab.environment(lab.fresh()))
    assert json.loads(report.read_text())["requests"] == 0
