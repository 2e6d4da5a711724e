"""A power cut imitated at the file level: `python bench/powercut.py [CUTS] [SEED]`.

What is done and checked is in tests/crash_world.py.

First a store is worked on in this process and its calls are recorded; of everything that was not
synced each name and each content is kept or lost for itself, fifty times as often as there are
other cuts (tests/power_model.py).

Then two runs install and are killed at random instants (every other time they end well); then files
are emptied, filled with zeros, cut, unlinked or given their old names, and another boot is made up.
"""

import random
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "src"), str(HERE / "tests")]

from crash_world import CrashWorld, check_after_power_cut, killed_at_random, power_cut, when_begun
from entrepot.store import layout
from entrepot.testing.origin import Origin
from power_model import PowerWorld
from power_model import cuts as model_cuts

real_boot_id = layout.boot_id


def main():
    cuts = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as base:
        boot = ["?"]
        layout.boot_id = lambda: boot[0]
        modelled, given = model_cuts(
            PowerWorld(Path(base), lambda name: boot.__setitem__(0, name)), chance, 50 * cuts
        )
        print(
            f"{modelled} states of a disk that forgets (seed {seed}): {given} bodies given out, all right; no orphan left",
            flush=True,
        )
    layout.boot_id = real_boot_id
    with tempfile.TemporaryDirectory() as base, Origin() as origin:
        world = CrashWorld(Path(base), origin)
        for number in range(cuts):
            if number % 2 == 0:
                processes = [world.install() for _ in range(2)]
                when_begun(world, processes)
                killed_at_random(processes, chance, 1.2)
            power_cut(world.store, chance)
            check_after_power_cut(world)
            if number % 20 == 19:
                print(f"{number + 1} cuts", flush=True)
    print(f"{cuts} cuts (seed {seed}): every body and every install right; no orphan left")


if __name__ == "__main__":
    main()
