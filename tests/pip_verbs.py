"""The verbs over a cache of a real pip, run in a process of their own.

And the scene in which four pips install meanwhile.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from functional.test_pip_cache_real import Lab
from pip_lab import ForkedPip, pip_python

SOURCE = Path(__file__).parents[1] / "src"
DRIVER = """
import importlib, json, os, pkgutil, sys, time, traceback
now, later = time.time, float(os.environ.get("LAB_LATER", "0"))
time.time = lambda: now() + later
sys.executable = os.environ.get("LAB_PYTHON", sys.executable)
import entrepot
for found in pkgutil.walk_packages(entrepot.__path__, "entrepot."):
    if found.name.startswith(("entrepot.cli", "entrepot.serving", "entrepot.caches", "entrepot.tools.pip", "entrepot.store", "entrepot.config")):
        # What is imported later may be out of the other user's reach
        importlib.import_module(found.name)
from entrepot.tools.pip import running
running.JUST_NOW_S = float(os.environ.get("LAB_JUST_NOW", running.JUST_NOW_S))
import bz2, csv, email.parser, encodings.idna, gzip, html.parser, lzma, pwd, shlex, tarfile, zipfile
from entrepot.cli.main import main
user, lines = json.loads(sys.argv[1])
if user is not None:
    os.setgroups([]); os.setgid(user); os.setuid(user)
for argv in lines:
    time.sleep(float(os.environ.get("LAB_PAUSE", "0")))
    print("$", *argv, flush=True)
    print("->", main(argv), flush=True)
    sys.stderr.flush()
"""
"""Runs commands one after another in one process, after it has become another user; with
``LAB_LATER`` seconds later than it is, with ``LAB_PAUSE`` seconds before each, and with
``LAB_PYTHON`` as if it ran there; with ``LAB_JUST_NOW`` what was written so many seconds ago is as
safe as it else is after a minute."""


def entrepot(
    environ: Mapping[str, str], *lines: Sequence[str], user: int | None = None
) -> tuple[str, list[int]]:
    """Run commands; all that they printed, and their exit statuses."""
    argument = json.dumps([user, [["--tool", "pip", *line] for line in lines]])
    command = [sys.executable, "-c", DRIVER, argument]
    environ = {**environ, "PYTHONPATH": str(SOURCE), "ENTREPOT_STORE": "/nonexistent/store"}
    done = subprocess.run(
        command,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd="/",
    )
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    assert "entrepot itself failed" not in done.stdout
    return done.stdout, [
        int(status) for status in re.findall(r"^-> (\d+)$", done.stdout, re.MULTILINE)
    ]


def made(folder: Path, version: str = "26.3") -> Lab:
    """A lab whose pip is the first one on PATH."""
    python = pip_python(version)
    lab = Lab(version, folder)
    lab.environ["PATH"] = f"{python.parent}{os.pathsep}{lab.environ['PATH']}"
    return lab


@dataclass
class InUse:
    """What came of a scene."""

    installs: int = 0
    failed: list[str] = field(default_factory=list)
    """What the pips said that ended with an error."""
    said: str = ""
    statuses: list[int] = field(default_factory=list)


KINDS = (
    ["clean", "--all", "-y"],
    ["remove", "pure", "-y", "--ignore-missing"],
    ["clean", "-y"],
    ["verify", "--repair"],
    ["remove", "*", "-y", "--ignore-missing"],
)


def in_use(lab: Lab, rounds: int, *, pips: int = 4, pause_s: float = 0.1) -> InUse:
    """So many `clean`, `remove` and `verify --repair` runs, one after another, while pips install from the same cache all the time.

    Wheels from the index and one that is built from an sdist, into directories of their own, again
    and again.
    """
    ended, over, begun = InUse(), threading.Event(), threading.Barrier(pips + 1, timeout=120)

    def install(number: int) -> None:
        words = [
            "install",
            "-q",
            "--no-deps",
            "--upgrade",
            "--target",
            str(lab.folder / f"site{number}"),
            "pure",
            "multi-tag",
            "source",
        ]
        with ForkedPip(lab.version, lab.folder, lab.environ) as pip:
            begun.wait()
            while not over.is_set():
                status, said = pip.run(*words, environ=lab.environ, cwd=lab.folder)
                ended.installs += 1
                if status:
                    ended.failed.append(said)

    workers = [threading.Thread(target=install, args=(number,)) for number in range(pips)]
    for worker in workers:
        worker.start()
    begun.wait()
    try:
        # loopback answers within milliseconds: after a second nobody waits for one any more
        environ = {**lab.environ, "LAB_PAUSE": str(pause_s), "LAB_JUST_NOW": "1"}
        ended.said, ended.statuses = entrepot(
            environ, *(KINDS[number % len(KINDS)] for number in range(rounds))
        )
    finally:
        over.set()
        for worker in workers:
            worker.join(120)
    return ended
