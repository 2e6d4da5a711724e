"""Removals of random trees while a second process swaps folders for links, and nothing outside may change.

    python bench/removal_attack.py [ROUNDS]

As the user that starts it; as root also with bind mounts, against an attacker of another user, and
as that user. Exit status 1 and the seed when something outside changed.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "src"), str(HERE / "tests")]

from removal_world import main

NOBODY = 65_534

if __name__ == "__main__":
    ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for users in (
        [(None, None), (None, NOBODY), (NOBODY, None)] if os.geteuid() == 0 else [(None, None)]
    ):
        main(ROUNDS, *users)
