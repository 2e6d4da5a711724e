"""The table of docs/explanation/failures.md, row by row.

Real clients through ``entrepot run`` against an origin that fails.
"""

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
from entrepot.testing.distributions import Content
from entrepot.testing.origin import Origin
from failure_table import BROKEN, CUT, EITHER, LATE, REFUSED, ROWS, SIZED, TIMEOUT_S, WHOLE, Row

JSON = "application/vnd.pypi.simple.v1+json"
RATE = 6_000_000
"""Bytes a second from the origin: bodies come in pieces, as they do from far away."""


class Scene:
    """An origin with one project for each row, failing as the row says, and an empty store."""

    def __init__(self, origin: Origin, home: Path) -> None:
        self.origin, self.home, self.out = origin, home, home / "out"
        self.out.mkdir(parents=True)
        origin.link.rate = RATE
        self.files = {}
        for row in ROWS:
            file = self.files[row.name] = origin.add_project(row.name, size=row.size)[0]
            match = (
                f"^/simple/{row.name}/$"
                if row.kind == "wronghash"
                else f"/{re.escape(file.filename)}$"
            )
            origin.fault(match, row.kind, row.times, at=row.at, value=row.value)

    def run(self, script: str, **extra: str):
        """Carry out a shell script through the cache."""
        tls = (
            {"SSL_CERT_FILE": str(self.origin.ca_file), "ENTREPOT_RESOLVE": self.origin.resolve}
            if self.origin.tls
            else {}
        )
        source = os.pathsep.join(p for p in sys.path if p.endswith("src"))
        settings = {"ENTREPOT_TIMEOUT": f"{TIMEOUT_S}s", "PYTHONPATH": source, **tls, **extra}
        options = [
            "--store",
            self.home / "store",
            "--host",
            self.origin.name or self.origin.address,
        ]
        run = [sys.executable, "-m", "entrepot", "run", *options, "--", "sh", "-c", script]
        return clients.run(run, clients.clean_environment(self.home, **settings), timeout_s=250)

    def requests(self, row: Row) -> int:
        return self.origin.count(f"/{re.escape(self.files[row.name].filename)}$")

    def wrong_bodies(self) -> list[str]:
        """Bodies of wheels' size that are no file's, or lie under another name than their own.

        Everything readable is right.
        """
        sizes = {file.content.size for file in self.files.values()}
        right = {file.content.sha256 for file in self.files.values()}
        wrong = []
        for path in (self.home / "store" / "bodies" / "sha256").glob("*/*"):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest != path.parent.name + path.name or (
                path.stat().st_size in sizes and digest not in right
            ):
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


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_one_client_the_store_and_upstream_see_what_the_table_says(scheme, tmp_path):
    with opened(scheme) as origin:
        scene = Scene(origin, tmp_path)
        ask_once_for_each(scene)
        seen = {row: read(scene.out / row.name) for row in ROWS}
        assert [
            row.name for row in ROWS if ending(seen[row], scene.files[row.name].content) != row.sees
        ] == []
        assert [
            row.name for row in ROWS if row.sees in {REFUSED, LATE} and not tells_why(seen[row])
        ] == []
        assert [row.name for row in ROWS if scene.has(row) is not (row.stored == WHOLE)] == []
        assert {row.name: scene.requests(row) for row in ROWS} == {
            row.name: row.requests for row in ROWS
        }
        assert scene.wrong_bodies() == []


def ask_once_for_each(scene: Scene) -> None:
    """Every row's file is asked for once, all at the same time, after the pages."""
    curl, origin = clients.curl(), scene.origin
    show = "%{http_code} %{exitcode}"
    pages = [part for row in ROWS for part in ("-o", os.devnull, f"{origin.index_url}{row.name}/")]
    lines = [words(*curl, "-sS", "-H", f"Accept: {JSON}", *pages)]
    for row in ROWS:
        to = scene.out / row.name
        asked = words(
            *curl,
            "-s",
            "-D",
            f"{to}.head",
            "-o",
            f"{to}.body",
            "-w",
            show,
            origin.url(scene.files[row.name]),
        )
        lines.append(f"{asked} > {shlex.quote(f'{to}.said')} &")
    done = scene.run("\n".join([*lines, "wait"]))
    assert done.returncode == 0, done.stderr


def read(to: Path) -> Seen:
    status, code = Path(f"{to}.said").read_text().split()
    body, head = Path(f"{to}.body"), Path(f"{to}.head")
    heads = (
        head.read_text().split("\n\n") if head.exists() else [""]
    )  # before it that of CONNECT, when there was one
    return Seen(
        int(status),
        int(code),
        body.read_bytes() if body.exists() else b"",
        next(h for h in reversed(heads) if h.strip()),
    )


def ending(seen: Seen, file: Content) -> str:
    """What curl saw, in the table's words; all that can be told when it is none of them."""
    if (seen.status, seen.exit) == (200, 0) and hashlib.sha256(
        seen.content
    ).hexdigest() == file.sha256:
        return WHOLE
    if seen.exit != 0 and len(seen.content) < file.size:
        return CUT
    answer = {502: REFUSED, 504: LATE, 500: BROKEN}.get(seen.status)
    return answer if answer and seen.exit == 0 and seen.content.strip() else repr(seen)


def tells_why(seen: Seen) -> bool:
    """Whether the reason phrase carries the reason: pip and uv show nothing else."""
    phrase = seen.head.splitlines()[0].split(" ", 2)[2].strip()
    return bool(phrase) and seen.content.decode().strip().startswith(phrase[:100])


# Tools that ask again by themselves

TOOLS = [
    ("pip", "22.0.4", "http"),
    ("pip", "25.3", "https"),
    ("pip", "26.3", "https"),
    ("uv", "", "https"),
]
FEW = {
    "wrong-hash",
    "short-once",
    "flip-once",
    "flip-always-small",
    "cut-once",
    "reset-once",
    "status-once",
    "status-five",
}
"""The rows that older pips are tried on: to start them all takes its time."""


def tried(tool: tuple[str, str, str]) -> list[Row]:
    return [row for row in ROWS if tool[1] not in {"22.0.4", "25.3"} or row.name in FEW]


def name_of(value) -> str:
    return value.name if isinstance(value, Row) else "-".join(filter(None, value))


@pytest.mark.slow
@pytest.mark.parametrize("tool", TOOLS, ids=name_of)
def test_a_tool_fares_as_the_table_says_and_leaves_nothing_wrong_in_the_store(tool, tmp_path):
    rows = tried(tool)
    with opened(tool[2]) as origin:
        scene = Scene(origin, tmp_path)
        install_each(scene, tool, rows)
        works = {row: (scene.out / f"{row.name}.status").read_text().strip() == "0" for row in rows}
        told = [
            row
            for row in rows
            if row.tools != EITHER and (row.tools, *tool[:2]) != (SIZED, "pip", "22.0.4")
        ]
        surprises = [row.name for row in told if works[row] is not (row.tools in {"works", SIZED})]
        assert surprises == [], [(scene.out / f"{name}.err").read_text() for name in surprises]
        assert [
            path.name
            for row in rows
            for path in (scene.out / row.name).glob("*.whl")
            if not is_right(path, scene, row)
        ] == []
        assert scene.wrong_bodies() == []
        assert len([row for row in rows if works[row]]) >= 4
        assert [row.name for row in rows if works[row] and not scene.has(row)] == []


def install_each(scene: Scene, tool: tuple[str, str, str], rows: list[Row]) -> None:
    """Every row's project is installed, all at the same time.

    Each one's exit status lies beside it.
    """
    name, version, _ = tool
    index = scene.origin.index_url
    if name == "pip":
        quiet = ["--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-deps"]
        command = [*clients.pip(version), "download", *quiet, "-i", index, "-d"]
    else:
        quiet = ["--quiet", "--no-cache", "--no-deps"]
        command = [
            *clients.uv(),
            "pip",
            "install",
            *quiet,
            "--default-index",
            index,
            "--python",
            sys.executable,
            "--target",
        ]
    lines = []
    for row in rows:
        to = scene.out / row.name
        asked = words(*command, to, row.name)
        lines.append(
            f"({asked}; echo $? > {shlex.quote(f'{to}.status')}) 2> {shlex.quote(f'{to}.err')} &"
        )
    done = scene.run(
        "\n".join([*lines, "wait"]), UV_HTTP_RETRIES="2", PIP_RETRIES="1", PIP_RESUME_RETRIES="1"
    )
    assert done.returncode == 0, done.stderr


def is_right(wheel: Path, scene: Scene, row: Row) -> bool:
    """Whether a wheel that pip has kept is the row's own, whole."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return digest == scene.files[row.name].content.sha256 and zipfile.is_zipfile(wheel)
