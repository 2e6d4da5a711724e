"""What crowds meet in.

An origin with one large file behind a link, a store, and runs whose children are crowds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from entrepot.digests import Hasher
from entrepot.store.directory import DirectoryStore
from entrepot.stored import body_key
from entrepot.testing.origin import Origin

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src"
LINK = 25_000_000
"""Bytes a second of the way to the origin."""
LATENCY_S = 0.03


class CrowdWorld:
    """One origin, one store, and as many runs as are wanted.

    Args:
        directory: for the store, plans and results.
        size: bytes of the file.
        origin: running; it gets a project ``big``.
    """

    def __init__(self, directory: Path, origin: Origin, size: int) -> None:
        self.directory, self.origin = directory, origin
        self.store = directory / "store"
        (self.file,) = origin.add_project("big", size=size)
        self.url = origin.url(self.file)
        self.page = f"{origin.index_url}big/"
        self.body = directory / "right"
        self.body.write_bytes(self.file.content.whole())
        self.gate = directory / "gate"
        self.numbers = iter(range(1000))
        origin.latency, origin.link.rate = LATENCY_S, LINK

    def start(
        self,
        clients: int,
        *,
        leave: int = 0,
        direct: bool = False,
        waits: bool = False,
        **environ: str,
    ) -> Party:
        """Start one run with a crowd as its child (or a crowd alone).

        With ``waits`` it sets out at :meth:`let_go`.
        """
        base = self.directory / f"party{next(self.numbers)}"
        plan = {
            "url": self.url,
            "page": self.page,
            "body": str(self.body),
            "clients": clients,
            "leave": leave,
            "direct": direct,
        }
        plan |= {
            "ready": f"{base}.ready",
            "gate": str(self.gate) if waits else "",
            "flowing": f"{base}.flowing",
        }
        base.with_suffix(".json").write_text(json.dumps(plan))
        command = [sys.executable, str(TESTS / "crowd.py"), f"{base}.json", f"{base}.result"]
        if not direct:
            run = [
                sys.executable,
                "-m",
                "entrepot",
                "--store",
                str(self.store),
                "run",
                "--report",
                f"{base}.report",
            ]
            command = [*run, "--host", self.origin.address, "--", *command]
        keep = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "LD_LIBRARY_PATH")
            if name in os.environ
        }
        environment = {**keep, "PYTHONPATH": str(SOURCE), **environ}
        with Path(f"{base}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        return Party(process, base)

    def let_go(self, parties: Sequence[Party]) -> None:
        """Let those who wait set out, once all of them are ready.

        They do so within a hundredth of a second.
        """
        for party in parties:
            party.comes_to("ready")
        self.gate.touch()

    def arrived(self) -> int:
        """Bytes of the file that are in the store's growing file."""
        total = 0
        for part in (self.store / "flights").glob("*.part"):
            with suppress(FileNotFoundError):
                total += part.stat().st_size
        return total

    def direct(self) -> dict:
        """One client without a cache."""
        party = self.start(1, direct=True)
        (row,) = party.wait()["rows"]
        return row

    def fetches(self) -> list:
        """Requests for the file that the origin has seen."""
        return self.origin.seen(r"big-.*whl$")

    def wrong_bodies(self, root: Path | None = None) -> list[str]:
        """Bodies of the store whose digest is not their key; every one is hashed."""
        store = DirectoryStore(root or self.store, create=False)
        wrong = [
            meta.key for meta in store.list("bodies") if digest_key(store, meta.key) != meta.key
        ]
        store.close()
        return wrong

    def bodies(self) -> int:
        """Number of large bodies in the store."""
        store = DirectoryStore(self.store, create=False)
        found = sum(meta.size > 100_000 for meta in store.list("bodies"))
        store.close()
        return found


def digest_key(store: DirectoryStore, key: str) -> str:
    """The key that an object's bytes ought to have."""
    blob, hasher = store.open(key), Hasher()
    assert blob is not None
    while piece := blob.read(hasher.size, 1 << 20):
        hasher.feed(piece)
    blob.close()
    return body_key(hasher.digest())


class Party:
    """A run with its crowd."""

    def __init__(self, process: subprocess.Popen, base: Path) -> None:
        self.process, self.base = process, base

    def wait(self, timeout_s: float = 120) -> dict:
        """What became of the crowd."""
        self.process.wait(timeout_s)
        return self.result(timeout_s)

    def result(self, timeout_s: float = 30) -> dict:
        """The crowd's result, also when the run was killed."""
        return json.loads(self.comes_to("result", timeout_s).read_text())

    def comes_to(self, stage: str, timeout_s: float = 60) -> Path:
        """Wait until the crowd is ``ready``, ``flowing`` or has its ``result``.

        The file that says so.
        """
        end = time.monotonic() + timeout_s
        path = Path(f"{self.base}.{stage}")
        while not path.exists():
            assert time.monotonic() < end, self.log()
            time.sleep(0.005)
        return path

    def log(self) -> str:
        """What it wrote to its standard output and error."""
        return Path(f"{self.base}.log").read_text()

    def report(self) -> dict:
        """The run's own report."""
        return json.loads(Path(f"{self.base}.report").read_text())

    def kill(self) -> None:
        """As a machine without memory does it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
