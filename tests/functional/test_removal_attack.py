"""Somebody swaps folders for links while a cache is removed.

`python bench/removal_attack.py 10000` does it for longer.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORLD = Path(__file__).parent.parent / "removal_world.py"
ROUNDS = 150
NOBODY = 65_534

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="mounts and users as Linux has them"
)


def played(rounds, uid=None, attacker=None, by_path=0):
    words = [
        str(rounds),
        *("" if each is None else str(each) for each in (uid, attacker)),
        str(by_path),
    ]
    done = subprocess.run(
        [sys.executable, WORLD, *words], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_nothing_outside_a_cache_changes_while_folders_are_swapped_for_links():
    status, said = played(ROUNDS)
    assert (status, f"{ROUNDS} rounds" in said) == (0, True), said
    assert "'partly'" in said, "the attacker was never quick enough to be met"


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize(
    ("uid", "attacker"), [(None, NOBODY), (NOBODY, None)], ids=["root", "user"]
)
def test_nothing_outside_changes_whoever_removes(uid, attacker):
    status, said = played(ROUNDS, uid, attacker)
    assert (status, f"{ROUNDS} rounds" in said) == (0, True), said


def test_the_same_attack_gets_out_of_a_removal_by_path():
    status, said = played(2_000, by_path=1)
    assert (status, "AssertionError: seed" in said) == (1, True), said
