"""kill -9 at random instants of installs on one store, and of its upkeep; what is checked after each is in tests/crash_world.py.

    python bench/kill9.py [KILLS] [SEED]

Half of the kills are of cold installs (four runs at once, each killed at an instant of its own; the store begins empty every
ten rounds), the rest of clean, clean --all, verify and eviction. After every round of kills the store is opened and every
body hashed; after every ten an install must succeed and a sweep must leave no orphan.
"""

import random
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "src"), str(HERE / "tests")]

from crash_world import UPKEEP, CrashWorld, kill_upkeep, killed_at_random, when_begun
from entrepot.testing.origin import Origin


def main():
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    instants = random.Random(seed)
    kills = caught = resumed = rounds = installs = 0
    start = time.monotonic()
    while kills < wanted // 2:
        with tempfile.TemporaryDirectory() as base, Origin() as origin:
            world = CrashWorld(Path(base), origin)
            for _ in range(10):
                if kills >= wanted // 2:
                    break
                processes = [world.install() for _ in range(4)]
                when_begun(world, processes)
                caught += killed_at_random(processes, instants, 1.5)
                kills += 4
                rounds += 1
                world.check_store()
            world.installs()
            installs += 1
            world.check_store()
            world.check_sweep()
            resumed += sum(seen.ranged for seen in origin.seen("whl$"))
        print(
            f"installs: {kills} killed, {caught} of them at work, {rounds} rounds, {resumed} resumed, {time.monotonic() - start:.0f} s",
            flush=True,
        )
    for name in UPKEEP:
        done = at_work = 0
        while done < wanted // 8:
            with tempfile.TemporaryDirectory() as base, Origin() as origin:
                world = CrashWorld(Path(base), origin, rate=0)
                world.half_full()
                more, times = kill_upkeep(world, name, instants, min(20, wanted // 8 - done))
                done, at_work = done + times, at_work + more
                world.installs()
                installs += 1
                world.check_store()
                world.check_sweep()
        kills, caught = kills + done, caught + at_work
        print(f"{name}: {done} killed, {at_work} of them at work, {time.monotonic() - start:.0f} s", flush=True)
    print(f"{kills} kills, {caught} at work; {installs} installs afterwards, all right; no wrong byte, no orphan (seed {seed})")


if __name__ == "__main__":
    main()
