"""Fifty clients at once for one cold file of 50 MB, behind a link of 30 ms and 25 MB/s: what each scene takes.

    python bench/crowds.py [MEGABYTES] [SCENE ...]

Each scene has a store of its own. `first` is the median time to a client's first byte, `all` the time until the last of the
clients that stay has everything, `one` that of a single client of a cold run; `memory` is the peak of the entrepot process
beyond what it had before the crowd (of the first of them, where there are several); `cpu s` what the entrepot processes used.
"""

import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "src"), str(HERE / "tests")]

from crowd_world import CrowdWorld
from entrepot.testing.origin import Origin


def spent():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wait(claim):
    while not claim():
        time.sleep(0.01)


def half(world):
    return lambda: sum(p.stat().st_size for p in (world.store / "flights").glob("*.part")) > world.file.content.size // 2


def one(world):
    return [world.start(1)]


def fifty(world):
    return [world.start(50)]


def ten_runs(world):
    return [world.start(5) for _ in range(10)]


def leader_killed(world):
    leader = world.start(5)
    wait(world.fetches)
    parties = [world.start(5) for _ in range(9)]
    wait(half(world))
    leader.kill()
    assert not any(row["complete"] for row in leader.result()["rows"])
    return parties


def twenty_leave(world):
    return [world.start(50, leave=20)]


def wrong_digest(world):
    world.origin.fault("simple/big", "wronghash", times=-1)
    return [world.start(50)]


SCENES = {f.__name__: f for f in (one, fifty, ten_runs, leader_killed, twenty_leave, wrong_digest)}


def main():
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    print(
        f"{'scene':14} {'clients':>7} {'right':>6} {'fetches':>8} {'first':>7} {'direct':>7} {'all':>7} {'cpu s':>6} {'memory':>8}  bodies kept"
    )
    for name in sys.argv[2:] or SCENES:
        with tempfile.TemporaryDirectory() as base, Origin() as origin:
            world = CrowdWorld(Path(base), origin, size * 1_000_000)
            direct = world.direct()
            origin.reset()
            before = spent()
            parties = SCENES[name](world)
            results = [party.wait() for party in parties]
            used = spent() - before - sum(result["cpu"] for result in results)
            rows = [row for result in results for row in result["rows"]]
            stay = [row for row in rows if not row["left"]]
            right = sum(row["right"] for row in rows)
            assert world.wrong_bodies() == []
            assert not any(row["complete"] and row["wrong"] for row in rows)
            firsts = [row["first"] for row in rows if row["first"]]
            first = statistics.median(firsts) if firsts else float("nan")
            memory = (results[0].get("peak_kb", 0) - (results[0]["before_kb"] or 0)) / 1000
            last = max(row["total"] for row in stay)
            print(
                f"{name:14} {len(rows):7} {right:6} {len(world.fetches()):8} {first:7.2f} {direct['first']:7.2f} {last:7.2f} {used:6.2f} {memory:6.0f}MB  {world.bodies()}",
                flush=True,
            )


if __name__ == "__main__":
    main()
