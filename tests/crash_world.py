"""What is killed, and what must hold afterwards.

Runs on one store at random instants, and the store's own upkeep.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from crowd_world import SOURCE, digest_key
from entrepot.digests import Digest
from entrepot.store.catalogue import open_catalogue
from entrepot.store.directory import DirectoryStore
from entrepot.stored import Head, body_key
from entrepot.testing.origin import Origin

INSTALL = """
import hashlib, json, sys, urllib.request
def get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()
for page, url, digest in json.load(open(sys.argv[1])):
    get(page)
    if hashlib.sha256(get(url)).hexdigest() != digest:
        sys.exit(99)
"""
"""An installer, as far as a cache can tell: each project's page, then its file. 99: a whole file
was wrong."""
EVICT = """
import sys, time
from pathlib import Path
from entrepot.store.catalogue import open_catalogue
from entrepot.store.directory import DirectoryStore
root = Path(sys.argv[1])
catalogue = open_catalogue(root)
for cap in range(5_000_000, 0, -250_000):
    DirectoryStore(root, cap=cap).evict(catalogue)
    time.sleep(0.005)
"""
UPKEEP = {
    "clean": ("clean", "--older", "30d", "-y"),
    "clean --all": ("clean", "--all", "-y"),
    "verify": ("verify", "--repair"),
    "eviction": ("-c", EVICT),
}
SIZES = (3_000_000, 20_000, 200_000, 1_500_000, 60_000, 400_000)
DAY = 86_400


class CrashWorld:
    """One origin, one store.

    Args:
        directory: for the store and the rest.
        origin: running; gets some projects.
        rate: bytes a second of its link: so that instants fall into transfers.
        sizes: bytes of the files.
        name: of the projects.
    """

    def __init__(
        self,
        directory: Path,
        origin: Origin,
        *,
        rate: float = 8_000_000,
        sizes: Sequence[int] = SIZES,
        name: str = "part",
    ) -> None:
        self.directory, self.origin = directory, origin
        self.store = directory / "store"
        self.plan = directory / f"plan-{name}.json"
        files = [origin.add_project(f"{name}-{i}", size=size)[0] for i, size in enumerate(sizes)]
        rows = [
            (
                f"{origin.index_url}{name}-{i}/",
                origin.url(file),
                Digest.parse(f"sha256:{file.content.sha256}").value,
            )
            for i, file in enumerate(files)
        ]
        self.plan.write_text(json.dumps(rows))
        self.more: dict[str, str] = {}
        self.script = directory / "install.py"
        self.script.write_text(INSTALL)
        origin.link.rate = rate

    def environ(self) -> dict[str, str]:
        """Of every process: nothing of this machine's settings."""
        keep = {
            name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ
        }
        return {
            **keep,
            "HOME": str(self.directory / "home"),
            "PYTHONPATH": str(SOURCE),
            **self.more,
        }

    def entrepot(self, *words: str) -> subprocess.Popen:
        """Start the command on this store."""
        command = [sys.executable, "-m", "entrepot", "--store", str(self.store), *words]
        return subprocess.Popen(
            command,
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def upkeep(self, name: str) -> subprocess.Popen:
        """Start one of :data:`UPKEEP`."""
        words = UPKEEP[name]
        if words[0] != "-c":
            return self.entrepot(*words)
        command = [sys.executable, *words, str(self.store)]
        return subprocess.Popen(
            command,
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def install(self) -> subprocess.Popen:
        """Start a run with an installer as its child."""
        return self.entrepot(
            "run",
            "--host",
            self.origin.address,
            "--",
            sys.executable,
            str(self.script),
            str(self.plan),
        )

    def installs(self) -> str:
        """Install to the end; the last line."""
        process = self.install()
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
        return out.strip().splitlines()[-1]

    def half_full(self) -> None:
        """A store with everything in it, and something for each kind of upkeep to do."""
        self.installs()
        store = DirectoryStore(self.store, cap=10**9)
        for number, meta in enumerate(sorted(store.list("heads"), key=lambda m: m.key)):
            old = time.time() - 40 * DAY - number
            os.utime(self.store / meta.key, (old, old))
        store.close()

    def check_store(self) -> None:
        """It opens, every body has its digest, every head can be read and leads to a whole body or to none."""
        bodies = self.check_bodies()
        store = DirectoryStore(self.store, cap=10**9)
        for key, head in heads(store):
            if head.body is not None and body_key(head.body) in bodies:
                assert head.response.size == bodies[body_key(head.body)], key
        store.close()

    def check_bodies(self) -> dict[str, int]:
        """Every body has its digest; their sizes."""
        store = DirectoryStore(self.store, cap=10**9)
        bodies = {meta.key: meta.size for meta in store.list("bodies")}
        assert [key for key in bodies if digest_key(store, key) != key] == []
        store.close()
        return bodies

    def check_sweep(self) -> None:
        """After a sweep there is no orphan.

        Every body is named, every head has its body, no flight is left.
        """
        store, catalogue = DirectoryStore(self.store, cap=10**9), open_catalogue(self.store)
        store.sweep(time.time() + 8 * DAY, catalogue=catalogue)
        named = {body_key(head.body) for _, head in heads(store) if head.body is not None}
        assert {meta.key for meta in store.list("bodies")} == named
        assert list((self.store / "flights").iterdir()) == []
        assert {row.key for row in catalogue.listing()} == {key for key, _ in heads(store)}
        catalogue.close()
        store.close()


def heads(store: DirectoryStore) -> list[tuple[str, Head]]:
    """Every head, read."""
    found = []
    for meta in store.list("heads"):
        blob = store.open(meta.key)
        assert blob is not None
        found.append((meta.key, Head.from_bytes(blob.read(0, blob.size), key=meta.key)))
        blob.close()
    return found


def power_cut(root: Path, chance: random.Random) -> None:
    """Do to a store's files what a power cut may.

    Each in its own way, and the machine has booted since.

    Unsynced files (heads, notes, the catalogue) are whole, empty, full of zeros or cut; those that
    were being renamed have their old name, their new one or none. Bodies were synced before they
    got their name: they are whole or were never renamed.
    """
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        top = path.relative_to(root).parts[0]
        if top in {"CACHEDIR.TAG", "entrepot-store", "locks"}:
            continue
        what = chance.randrange(8)
        if top == "bodies" and what not in {0, 1}:
            continue
        if what == 0:
            path.unlink()
        elif what == 1:
            unnamed = root / "flights" / f"put-{chance.randrange(16**16):016x}.tmp"
            path.rename(unnamed) if top in {"bodies", "heads"} else path.unlink()
        elif what in {2, 3}:
            size = path.stat().st_size
            path.write_bytes(chance.choice([b"", b"\0" * size, path.read_bytes()[: size // 2]]))
    (root / "boot").write_text("another-boot open 0.000\n")


def check_after_power_cut(world: CrashWorld) -> None:
    """An install succeeds, every body is right after it, and nothing is left over."""
    world.installs()
    world.check_bodies()
    world.check_sweep()


def killed_at_random(
    processes: list[subprocess.Popen], instants: random.Random, longest_s: float
) -> int:
    """Kill each at an instant of its own; how many were still at work."""
    start = time.monotonic()
    caught = 0
    for moment, process in sorted(
        ((instants.uniform(0.0, longest_s), p) for p in processes), key=lambda each: each[0]
    ):
        time.sleep(max(0.0, start + moment - time.monotonic()))
        caught += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    return caught


def kill_upkeep(
    world: CrashWorld, name: str, instants: random.Random, times: int
) -> tuple[int, int]:
    """Kill this upkeep so often, each time of the same store.

    How many were still at work, and how many were killed.
    """
    kept = world.directory / "kept"
    shutil.copytree(world.store, kept)
    start = time.monotonic()
    process = world.upkeep(name)
    out, _ = process.communicate(timeout=60)
    longest = time.monotonic() - start
    assert process.returncode == 0, out
    caught = 0
    for _ in range(times):
        shutil.rmtree(world.store)
        shutil.copytree(kept, world.store)
        caught += killed_at_random([world.upkeep(name)], instants, longest)
        world.check_store()
    shutil.rmtree(kept)
    return caught, times


def when_begun(world: CrashWorld, processes: list[subprocess.Popen]) -> None:
    """Wait until the first of them has begun to download, or has ended."""
    seen = len(world.origin.log)
    while len(world.origin.log) == seen and all(p.poll() is None for p in processes):
        time.sleep(0.005)
