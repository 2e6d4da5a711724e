"""rattler's own cache, filled by the real thing.

Listed, cleaned and verified, and the real thing works on afterwards.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

import clients
from conda_lab import LATER, contents
from entrepot.caches.removal import Requirement, plan_cleaning
from entrepot.ports.tool import Entry, Kind, Surroundings
from entrepot.testing.channel import Channel
from entrepot.testing.origin import Origin
from entrepot.tools.conda.tool import rattler

SCRIPT = Path(__file__).parents[1] / "rattling.py"


class RattlerHome:
    """A channel, one cache of rattler's, and environments made from it."""

    def __init__(self, origin: Origin, environment: dict[str, str], base: Path) -> None:
        self.channel = Channel(origin)
        for number in range(4):
            self.channel.add(f"demo{number}", size=200_000)
        self.channel.publish()
        self.environment, self.base = environment, base
        self.cache = base / "cache"
        self.around = Surroundings({"RATTLER_CACHE_DIR": str(self.cache), "PATH": ""}, base, base)
        self.tool = rattler(now=lambda: time.time() + LATER)

    def install(self, prefix: Path, *names: str) -> Path:
        """Make an environment with the real rattler."""
        done = clients.run(
            [*clients.rattler(), SCRIPT, self.channel.url, self.cache, prefix, *names],
            self.environment,
        )
        assert done.returncode == 0, done.stderr
        return prefix

    def entries(self) -> list[Entry]:
        return [
            e
            for place in self.tool.places(self.around)
            if place.exists
            for e in self.tool.scan(place, self.around)
        ]

    def clean(self, **wanted: object):
        entries = self.entries()
        plan = plan_cleaning(entries, Requirement(**wanted), now=time.time() + LATER)
        return self.tool.remove(plan.entries, self.around)


@pytest.fixture
def rattlers(origin: Origin, environment, tmp_path) -> RattlerHome:
    return RattlerHome(origin, environment, tmp_path)


def test_what_rattler_unpacked_is_listed_by_name_and_digest(rattlers):
    rattlers.install(rattlers.base / "env", "demo0", "demo1")
    unpacked = {e.project: e for e in rattlers.entries() if e.kind is Kind.UNPACKED}
    assert sorted(unpacked) == ["demo0", "demo1"]
    package = next(p for p in rattlers.channel.packages if p.record["name"] == "demo0")
    assert unpacked["demo0"].version == "1.0"
    assert str(unpacked["demo0"].digest) == f"sha256:{package.content.sha256}"
    assert unpacked["demo0"].used_by
    assert [e for e in rattlers.entries() if e.kind is Kind.PAGE]


def test_cleaning_the_unused_keeps_every_environment_and_rattler_installs_again(rattlers):
    env = rattlers.install(rattlers.base / "env", "demo0")
    gone = rattlers.install(rattlers.base / "gone", "demo1", "demo2")
    subprocess.run(["rm", "-r", gone], check=True)
    before = contents(env)
    removed = rattlers.clean(unused=True)
    assert sorted(e.project for e in removed.entries) == ["demo1", "demo2"]
    assert contents(env) == before
    rattlers.install(rattlers.base / "new", "demo0", "demo1", "demo2", "demo3")
    assert rattlers.clean(everything=True).entries
    assert contents(env) == before
    rattlers.install(rattlers.base / "newer", "demo0", "demo3")


def test_what_a_killed_unpacking_leaves_is_removable(rattlers):
    rattlers.install(rattlers.base / "env", "demo0")
    hidden = rattlers.cache / "pkgs/.demo1-1.0-h0_0Ab3dEf/info"
    hidden.mkdir(parents=True)
    assert [e.key for e in rattlers.entries() if e.removable_because] == [
        "pkgs/.demo1-1.0-h0_0Ab3dEf"
    ]
    rattlers.clean()
    assert not hidden.parent.exists()


def test_damage_that_rattler_does_not_see_is_found_and_the_package_taken_away(rattlers):
    rattlers.install(rattlers.base / "env", "demo0")
    found = rattlers.cache / "pkgs/demo0-1.0-h0_0/share/demo0/data.bin"
    right = found.read_bytes()
    data = rattlers.base / "copy"
    data.write_bytes(b"x" + right[1:])
    data.replace(found)
    place = rattlers.tool.places(rattlers.around)[0]
    assert [
        f.problem for f in rattlers.tool.verify(place, rattlers.around, full=True, repair=True)
    ] == ["digest-mismatch"]
    env = rattlers.install(rattlers.base / "new", "demo0")
    assert (env / "share/demo0/data.bin").read_bytes() == right


def test_cleaning_and_verifying_in_a_loop_disturbs_no_installation(rattlers):
    command = [*clients.rattler(), SCRIPT, rattlers.channel.url]
    running = [
        subprocess.Popen(
            [
                *command,
                rattlers.cache,
                rattlers.base / f"env{n}",
                "demo0",
                "demo1",
                "demo2",
                "demo3",
            ],
            env=rattlers.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for n in range(4)
    ]
    try:
        rounds = 0
        while any(each.poll() is None for each in running) and rounds < 200:
            rattlers.clean(unused=True)
            for place in rattlers.tool.places(rattlers.around):
                list(rattlers.tool.verify(place, rattlers.around, repair=True))
            rounds += 1
        ends = [each.communicate(timeout=60)[1] for each in running]
        assert [each.returncode for each in running] == [0, 0, 0, 0], ends
    finally:
        for each in running:
            each.kill()
            each.wait()
    for n in range(4):
        for name in ("demo0", "demo1", "demo2", "demo3"):
            assert (rattlers.base / f"env{n}/share/{name}/data.bin").stat().st_size == 200_000
