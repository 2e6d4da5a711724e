"""What clients write down is the same with and without ``run``: lock files, reports, records."""

from __future__ import annotations

import json
import shutil

import pytest

import clients
from entrepot.testing.origin import Origin
from running import Desk, Ran

DEPENDENCIES = '["synth-0000", "synth-0003"]'
PROJECT = f'[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = {DEPENDENCIES}\n'
POETRY = '[tool.poetry]\npackage-mode = false\n[tool.poetry.dependencies]\npython = ">=3.11"\nsynth-0000 = "*"\nsynth-0003 = "*"\n'
BOTH = pytest.mark.parametrize("origin", ["http", "https"], indirect=True)
HTTPS = pytest.mark.parametrize("origin", ["https"], indirect=True)
pytestmark = pytest.mark.slow
TIMES = frozenset(("upload_time", "upload-time", "time", "date", "created_at"))


@pytest.fixture
def origin(request):
    """An index that a client can reach without entrepot too.

    On loopback, its files on another port.

    Over https by name: pip 24.3 and 25.3 cannot do TLS with an address for a host, with or without
    a proxy.
    """
    with Origin(files_host="127.0.0.1", tls=request.param == "https") as running:
        if running.tls:
            running.name, running.files_name = (
                f"localhost:{running.port}",
                running.files_base.removeprefix("https://").replace("127.0.0.1", "localhost"),
            )
        running.synth(6, sdist=True)
        yield running


def desk_for(origin, path) -> Desk:
    """A desk whose clients keep nothing themselves and trust the origin without entrepot too."""
    desk = Desk.under(path, origin, PIP_NO_CACHE_DIR="1", UV_NO_CACHE="1", ENTREPOT_RESOLVE="")
    if origin.tls:
        desk.environ["REQUESTS_CA_BUNDLE"] = desk.environ["SSL_CERT_FILE"]
    return desk


def locks(tmp_path, origin, files, *command) -> tuple[Desk, Ran]:
    """The same command at two desks, one without ``run``; the desk with it."""
    plain = desk_for(origin, tmp_path / "plain")
    plain.write(files)
    done = plain.directly(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    desk = desk_for(origin, tmp_path / "cached")
    desk.write(files)
    for attempt in ("cold", "warm"):
        for name in ("pdm", "pypoetry"):
            shutil.rmtree(desk.home / ".cache" / name, ignore_errors=True)
        ran = desk.run(*command)
        assert ran.status == 0, ran.said
        assert ran.report["requests"] > 4, ran.said
        assert ran.report["misses"] == 0 or attempt == "cold", ran.said
        for path in sorted(plain.project.glob("*.lock")) or sorted(plain.project.glob("*.json")):
            assert (desk.project / path.name).read_bytes() == path.read_bytes(), attempt
            if attempt == "cold":
                (desk.project / path.name).unlink()
    return desk, ran


@BOTH
def test_uv_lock_is_the_same(tmp_path, origin):
    index = f'[[tool.uv.index]]\nurl = "{origin.index_url}"\ndefault = true\n'
    desk, _ran = locks(
        tmp_path, origin, {"pyproject.toml": PROJECT + index}, *clients.uv(), "lock", "-q"
    )
    assert origin.files_base in (desk.project / "uv.lock").read_text()


@pytest.mark.parametrize(
    ("origin", "options"),
    [("http", ()), ("https", ()), ("https", ("--static-urls",))],
    ids=["http", "https", "https, URLs"],
    indirect=["origin"],
)
def test_pdm_lock_is_the_same(tmp_path, origin, options):
    index = f'[[tool.pdm.source]]\nname = "pypi"\nurl = "{origin.index_url}"\n'
    desk, _ran = locks(
        tmp_path,
        origin,
        {"pyproject.toml": PROJECT + index},
        *clients.pdm(),
        "lock",
        "-q",
        *options,
    )
    assert "synth-0003" in (desk.project / "pdm.lock").read_text()


@HTTPS
def test_poetry_lock_is_the_same(tmp_path, origin):
    index = (
        f'[[tool.poetry.source]]\nname = "own"\nurl = "{origin.index_url}"\npriority = "primary"\n'
    )
    command = (*clients.poetry(), "lock", "-q")
    desk, _ran = locks(tmp_path, origin, {"pyproject.toml": POETRY + index}, *command)
    assert origin.index_url.rstrip("/") in (desk.project / "poetry.lock").read_text()


def without_times(value):
    """A document without its fields that hold times."""
    if isinstance(value, dict):
        return {name: without_times(item) for name, item in value.items() if name not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("origin", "version"),
    [("http", "26.3"), *(("https", version) for version in ("23.2.1", "24.3.1", "25.3", "26.3"))],
    indirect=["origin"],
)
def test_the_report_of_pip_is_the_same(tmp_path, origin, version):
    words = (
        "install",
        "-q",
        "--dry-run",
        "--ignore-installed",
        "--report",
        "pip.json",
        "-i",
        origin.index_url,
    )
    desk = desk_for(origin, tmp_path / "desk")
    reports = []
    for led in (False, True, True):
        command = (*clients.pip(version), *words, "synth-0000")
        done = desk.run(*command) if led else desk.directly(*command)
        assert done.stderr.count("rror") == 0
        reports.append(json.loads((desk.project / "pip.json").read_text()))
    assert len(reports[0]["install"]) == 3
    assert all(origin.files_base in item["download_info"]["url"] for item in reports[0]["install"])
    assert without_times(reports[0]) == without_times(reports[1]) == without_times(reports[2])


@HTTPS
@pytest.mark.parametrize("client", ["pip 20.3.4", "pip 26.3", "uv"])
def test_direct_url_json_is_the_same(tmp_path, origin, client):
    desk = desk_for(origin, tmp_path / "desk")
    program = [*clients.uv(), "pip"] if client == "uv" else clients.pip(client.removeprefix("pip "))
    file = next(file for file in origin.files("synth-0001") if file.filename.endswith(".whl"))
    written = []
    for number, led in enumerate((False, True, True)):
        command = (
            *program,
            "install",
            "-q",
            "--no-deps",
            "--target",
            f"out{number}",
            f"synth-0001 @ {origin.url(file)}",
        )
        done = desk.run(*command) if led else desk.directly(*command)
        assert (done.status if led else done.returncode) == 0, done.stderr
        (path,) = (desk.project / f"out{number}").glob("*.dist-info/direct_url.json")
        written.append(path.read_bytes())
        if led:
            assert set(done.urls()) == {origin.url(file)}
    assert written[0] == written[1] == written[2]
    assert origin.files_base.encode() in written[0]
