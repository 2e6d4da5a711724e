"""The table of docs/explanation/failures.md, row by row: real clients through ``entrepot run`` against an origin that fails."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import clients
from entrepot.testing.origin import Origin
from failure_table import BROKEN, CUT, EITHER, LATE, REFUSED, ROWS, SIZED, TIMEOUT_S, WHOLE, Row

JSON = "application/vnd.pypi.simple.v1+json"
RATE = 6_000_000
"""Bytes a second from the origin: bodies come in pieces, as they do from far away."""
BY_ROW = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


class Scene:
    """An origin with one project for each row, failing as the row says, and an empty store."""

    def __init__(self, origin: Origin, home: Path) -> None:
        self.origin, self.home, self.out = origin, home, home / "out"
        self.out.mkdir(parents=True)
        origin.link.rate = RATE
        self.files = {}
        for row in ROWS:
            file = self.files[row.name] = origin.add_project(row.name, size=row.size)[0]
            match = f"^/simple/{row.name}/$" if row.kind == "wronghash" else f"/{re.escape(file.filename)}$"
            origin.fault(match, row.kind, row.times, at=row.at, value=row.value)

    def run(self, script: str, **extra: str):
        """Carry out a shell script through the cache."""
        tls = {"SSL_CERT_FILE": str(self.origin.ca_file), "ENTREPOT_RESOLVE": self.origin.resolve} if self.origin.tls else {}
        source = os.pathsep.join(p for p in sys.path if p.endswith("src"))
        settings = {"ENTREPOT_TIMEOUT": f"{TIMEOUT_S}s", "PYTHONPATH": source, **tls, **extra}
        options = ["--store", self.home / "store", "--host", self.origin.name or self.origin.address]
        run = [sys.executable, "-m", "entrepot", "run", *options, "--", "sh", "-c", script]
        return clients.run(run, clients.clean_environment(self.home, **settings), timeout_s=100)

    def requests(self, row: Row) -> int:
        return self.origin.count(f"/{re.escape(self.files[row.name].filename)}$")

    def wrong_bodies(self) -> list[str]:
        """Bodies of wheels' size that are no file's, or lie under another name than their own; everything readable is right."""
        sizes = {file.content.size for file in self.files.values()}
        right = {file.content.sha256 for file in self.files.values()}
        wrong = []
        for path in (self.home / "store" / "bodies" / "sha256").glob("*/*"):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest != path.parent.name + path.name or (path.stat().st_size in sizes and digest not in right):
                wrong.append(path.name)
        return wrong

    def has(self, row: Row) -> bool:
        digest = self.files[row.name].content.sha256
        return (self.home / "store" / "bodies" / "sha256" / digest[:2] / digest[2:]).exists()


def opened(scheme: str) -> Origin:
    """Over https with a name, because some pips cannot speak TLS to an address through a proxy."""
    return Origin(tls=True, name="index.test") if scheme == "https" else Origin()


def words(*parts) -> str:
    return shlex.join(str(part) for part in parts)


# One client that asks once: curl


@dataclass
class Seen:
    status: int
    exit: int
    content: bytes
    head: str


@pytest.fixture(scope="module", params=["http", "https"])
def by_curl(request, tmp_path_factory):
    """Every row's file was asked for once, all at the same time, after the pages; the scene and what curl saw."""
    curl = clients.curl()
    with opened(request.param) as origin:
        scene = Scene(origin, tmp_path_factory.mktemp("curl"))
        show = "%{http_code} %{exitcode}"
        lines = [words(*curl, "-sS", "-H", f"Accept: {JSON}", "-o", os.devnull, f"{origin.index_url}{row.name}/") for row in ROWS]
        for row in ROWS:
            to = scene.out / row.name
            asked = words(*curl, "-s", "-D", f"{to}.head", "-o", f"{to}.body", "-w", show, origin.url(scene.files[row.name]))
            lines.append(f"{asked} > {shlex.quote(f'{to}.said')} &")
        done = scene.run("\n".join([*lines, "wait"]))
        assert done.returncode == 0, done.stderr
        yield scene, {row.name: read(scene.out / row.name) for row in ROWS}


def read(to: Path) -> Seen:
    status, code = Path(f"{to}.said").read_text().split()
    body, head = Path(f"{to}.body"), Path(f"{to}.head")
    heads = head.read_text().split("\n\n") if head.exists() else [""]  # before it that of CONNECT, when there was one
    return Seen(int(status), int(code), body.read_bytes() if body.exists() else b"", next(h for h in reversed(heads) if h.strip()))


@BY_ROW
def test_one_client_sees_what_the_table_says(row, by_curl):
    scene, all_seen = by_curl
    seen, file = all_seen[row.name], scene.files[row.name].content
    if row.sees == WHOLE:
        assert (seen.status, seen.exit) == (200, 0)
        assert hashlib.sha256(seen.content).hexdigest() == file.sha256
    elif row.sees == CUT:
        assert seen.exit != 0
        assert len(seen.content) < file.size
    else:
        assert (seen.status, seen.exit) == ({REFUSED: 502, LATE: 504, BROKEN: 500}[row.sees], 0)
        assert seen.content.strip()
    if row.sees in {REFUSED, LATE}:
        # the reason phrase carries the reason: pip and uv show nothing else
        assert seen.content.decode().strip().startswith(seen.head.splitlines()[0].split(" ", 2)[2].strip()[:100])


@BY_ROW
def test_the_store_holds_what_the_table_says(row, by_curl):
    scene, _ = by_curl
    assert scene.has(row) is (row.stored == WHOLE)


@BY_ROW
def test_upstream_is_asked_as_often_as_the_table_says(row, by_curl):
    scene, _ = by_curl
    assert scene.requests(row) == row.requests


def test_nothing_wrong_is_in_the_store(by_curl):
    assert by_curl[0].wrong_bodies() == []


# Tools that ask again by themselves

TOOLS = [("pip", "22.0.4", "http"), ("pip", "25.3", "https"), ("pip", "26.3", "https"), ("uv", "", "https")]
FEW = {"wrong-hash", "short-once", "flip-once", "flip-always-small", "cut-once", "reset-once", "status-once", "status-five"}
"""The rows that older pips are tried on: to start them all takes its time."""


def tried(tool: tuple[str, str, str]) -> list[Row]:
    return [row for row in ROWS if tool[1] not in {"22.0.4", "25.3"} or row.name in FEW]


def name_of(value) -> str:
    return value.name if isinstance(value, Row) else "-".join(filter(None, value))


@pytest.fixture(scope="module", params=TOOLS, ids=name_of)
def by_tool(request, tmp_path_factory):
    """Every row's project was installed, all at the same time; the scene and each one's exit status."""
    tool, version, scheme = request.param
    command = clients.pip(version) if tool == "pip" else clients.uv()
    with opened(scheme) as origin:
        scene = Scene(origin, tmp_path_factory.mktemp(tool))
        lines = []
        for row in tried(request.param):
            to = scene.out / row.name
            if tool == "pip":
                options = [
                    "--quiet",
                    "--disable-pip-version-check",
                    "--no-cache-dir",
                    "--no-deps",
                    "-i",
                    origin.index_url,
                    "-d",
                    to,
                ]
                asked = words(*command, "download", *options, row.name)
            else:
                options = [
                    "--no-cache",
                    "--no-deps",
                    "--default-index",
                    origin.index_url,
                    "--python",
                    sys.executable,
                    "--target",
                    to,
                ]
                asked = words(*command, "pip", "install", "--quiet", *options, row.name)
            lines.append(f"({asked}; echo $? > {shlex.quote(f'{to}.status')}) 2> {shlex.quote(f'{to}.err')} &")
        done = scene.run("\n".join([*lines, "wait"]), UV_HTTP_RETRIES="2", PIP_RETRIES="1", PIP_RESUME_RETRIES="1")
        assert done.returncode == 0, done.stderr
        yield f"{tool}-{version}", scene


@pytest.mark.slow
@pytest.mark.parametrize(("by_tool", "row"), [(t, row) for t in TOOLS for row in tried(t)], indirect=["by_tool"], ids=name_of)
def test_tools_fare_as_the_table_says(row, by_tool):
    tool, scene = by_tool
    status = int((scene.out / f"{row.name}.status").read_text())
    if row.tools != EITHER and (row.tools, tool) != (SIZED, "pip-22.0.4"):
        assert (status == 0) is (row.tools in {"works", SIZED}), (scene.out / f"{row.name}.err").read_text()
    if tool.startswith("pip"):
        for path in (scene.out / row.name).glob("*.whl"):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == scene.files[row.name].content.sha256
            assert zipfile.is_zipfile(path)


@pytest.mark.slow
def test_no_tool_leaves_anything_wrong_in_the_store(by_tool):
    assert by_tool[1].wrong_bodies() == []


@pytest.mark.slow
def test_every_file_that_a_tool_has_got_is_stored(by_tool):
    _, scene = by_tool
    statuses = {row.name: scene.out / f"{row.name}.status" for row in ROWS}
    got = [row for row in ROWS if statuses[row.name].exists() and statuses[row.name].read_text().strip() == "0"]
    assert len(got) >= 4
    assert [row.name for row in got if not scene.has(row)] == []
