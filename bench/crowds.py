"""Fifty clients at once for one cold file of 50 MB, behind a link of 30 ms and 100 Mbit/s.

What each scene takes.

    python bench/crowds.py [MEGABYTES] [SCENE ...]

Each scene has a store of its own. The crowd sets out at one instant, when every run has started and
has the index page. `first` is the median time to a client's first byte (`direct`: of one client
without a cache); `all` the time until the last of the clients that stay has everything, and how
many times that of `one`, a single client of a cold run, it is. Processor seconds while the crowd
was at it: of the entrepot processes (the one that was killed left out), of the clients, which
compare every byte, and of the origin. `memory` is the peak of the entrepot process beyond what it
had before the crowd, of the largest of them where there are several.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "src"), str(HERE / "tests")]

from crowd_world import CrowdWorld
from entrepot.testing.origin import Origin

LINK = 12_500_000
"""Bytes a second; fifty times that is what the machine has to copy to its own clients."""
COLUMNS = "clients right fetches first direct all of_one cpu cpu_clients cpu_origin memory".split()


def one(world):
    return [world.start(1, waits=True)]


def fifty(world):
    return [world.start(50, waits=True)]


def ten_runs(world):
    return [world.start(5, waits=True) for _ in range(10)]


leader_killed = ten_runs


def twenty_leave(world):
    return [world.start(50, waits=True, leave=20)]


def wrong_digest(world):
    world.origin.fault("simple/big", "wronghash", times=-1)
    return [world.start(50, waits=True)]


SCENES = {"one": one, "fifty": fifty, "ten_runs": ten_runs, "leader_killed": leader_killed}
SCENES |= {"twenty_leave": twenty_leave, "wrong_digest": wrong_digest}


def kill_leader(world, parties):
    """Kill the run that fetches, half-way; those that are left.

    A crowd of its own goes first, so that it is known who leads.
    """
    leader, *others = parties
    leader.comes_to("flowing")
    world.let_go(others)
    while world.arrived() < world.file.content.size // 2:
        time.sleep(0.005)
    leader.kill()
    assert not any(row["complete"] for row in leader.result()["rows"])
    return others


def scene(name, size):
    """One row's values by column."""
    with tempfile.TemporaryDirectory() as base, Origin() as origin:
        world = CrowdWorld(Path(base), origin, size * 1_000_000)
        origin.link.rate = LINK
        direct = world.direct()
        origin.reset()
        if name == "leader_killed":
            parties = [world.start(5, waits=n > 0) for n in range(10)]
            parties = kill_leader(world, parties)
            used = time.process_time()
        else:
            parties = SCENES[name](world)
            used = time.process_time()
            world.let_go(parties)
        results = [party.wait() for party in parties]
        used = time.process_time() - used
        rows = [row for result in results for row in result["rows"]]
        assert world.wrong_bodies() == []
        assert not any(row["complete"] and row["wrong"] for row in rows)
        firsts = [row["first"] for row in rows if row["first"]]
        return {
            "clients": len(rows),
            "right": sum(row["right"] for row in rows),
            "fetches": len(world.fetches()),
            "first": statistics.median(firsts) if firsts else float("nan"),
            "direct": direct["first"],
            "all": max(row["total"] for row in rows if not row["left"]),
            "cpu": sum(result["run_cpu"] for result in results),
            "cpu_clients": sum(result["cpu"] for result in results),
            "cpu_origin": used,
            "memory": max(result["peak_kb"] or 0 for result in results) / 1000,
        }


def main():
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    names = sys.argv[2:] or list(SCENES)
    print(f"{'scene':14}" + "".join(f"{name:>12}" for name in COLUMNS))
    alone = None
    for name in names:
        row = scene(name, size)
        alone = row["all"] if name == "one" else alone
        row["of_one"] = row["all"] / alone if alone else float("nan")
        shown = [f"{row[c]:.2f}" if isinstance(row[c], float) else str(row[c]) for c in COLUMNS]
        print(f"{name:14}" + "".join(f"{value:>12}" for value in shown), flush=True)


if __name__ == "__main__":
    main()
