"""kill -9 at random instants of installs on one store, and of its upkeep.

What is checked after each is in tests/crash_world.py.

    python bench/kill9.py [KILLS] [SEED]

KILLS (500) processes that install are killed at work: four runs at once, each at an instant of its
own, on a store that is replaced by an empty one as soon as a run has come to its end, so that the
installs are cold. As many of clean, clean --all, verify and eviction together. Kills that came too
late do not count. After every round of kills the store is opened and every body hashed; before a
store is replaced an install must succeed and a sweep leave no orphan.
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


ROUNDS = 10
"""Of kills on one store at the most."""


class Count:
    """What was done so far."""

    def __init__(self):
        self.start = time.monotonic()
        self.sent = self.caught = self.rounds = self.installs = self.resumed = 0

    def said(self, name):
        took = time.monotonic() - self.start
        return f"{name}: {self.sent} killed, {self.caught} of them at work, {self.rounds} rounds, {self.resumed} resumed, {took:.0f} s"


def kill_installs(wanted, instants):
    count = Count()
    while count.caught < wanted:
        with tempfile.TemporaryDirectory() as base, Origin() as origin:
            world = CrashWorld(Path(base), origin)
            for _ in range(ROUNDS):
                processes = [world.install() for _ in range(4)]
                when_begun(world, processes)
                at_work = killed_at_random(processes, instants, 1.5)
                count.sent, count.caught, count.rounds = (
                    count.sent + 4,
                    count.caught + at_work,
                    count.rounds + 1,
                )
                world.check_store()
                if at_work < len(processes):
                    break  # one has come to its end: nothing is cold any more
            finish(world, count)
            count.resumed += sum(seen.ranged for seen in origin.seen("whl$"))
        if count.rounds % 20 < 2:
            print(count.said("installs"), flush=True)
    return count


def kill_upkeeps(name, wanted, instants):
    count = Count()
    while count.caught < wanted:
        with tempfile.TemporaryDirectory() as base, Origin() as origin:
            world = CrashWorld(Path(base), origin, rate=0)
            world.half_full()
            at_work, times = kill_upkeep(world, name, instants, min(20, wanted - count.caught))
            count.sent, count.caught, count.rounds = (
                count.sent + times,
                count.caught + at_work,
                count.rounds + times,
            )
            finish(world, count)
    return count


def finish(world, count):
    """What must be possible afterwards."""
    world.installs()
    count.installs += 1
    world.check_store()
    world.check_sweep()


def main():
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    instants = random.Random(seed)
    counts = {"installs": kill_installs(wanted, instants)}
    print(counts["installs"].said("installs"), flush=True)
    for name in UPKEEP:
        counts[name] = kill_upkeeps(name, wanted // len(UPKEEP), instants)
        print(counts[name].said(name), flush=True)
    caught, installs = (
        sum(each.caught for each in counts.values()),
        sum(each.installs for each in counts.values()),
    )
    print(
        f"{caught} killed at work; {installs} installs afterwards, all right; no wrong byte, no orphan (seed {seed})"
    )


if __name__ == "__main__":
    main()
