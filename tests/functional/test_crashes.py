"""kill -9 at random instants, in a short form.

Bench/kill9.py and bench/powercut.py are the long ones.
"""

from __future__ import annotations

import random

import pytest

from crash_world import (
    UPKEEP,
    CrashWorld,
    check_after_power_cut,
    kill_upkeep,
    killed_at_random,
    power_cut,
    when_begun,
)
from entrepot.store import layout
from power_model import PowerWorld, cuts


@pytest.fixture
def world(tmp_path, origin):
    return CrashWorld(tmp_path, origin)


def test_whenever_four_installs_are_killed_the_store_is_right_and_the_next_install_resumes(world):
    world.origin.link.rate = 3_000_000  # an install takes longer than the last instant
    instants = random.Random(7)
    caught = 0
    for _ in range(3):
        processes = [world.install() for _ in range(4)]
        when_begun(world, processes)
        caught += killed_at_random(processes, instants, 1.2)
        world.check_store()
    assert caught >= 6, "the instants missed"
    world.installs()
    world.check_store()
    assert any(seen.ranged for seen in world.origin.seen("whl$")), "nothing was resumed"
    world.check_sweep()
    for seen in world.origin.seen("whl$"):
        assert seen.status in {200, 206, 0}


@pytest.mark.parametrize("name", UPKEEP)
def test_whenever_upkeep_is_killed_the_store_is_right_and_the_next_install_succeeds(world, name):
    world.half_full()
    caught, kills = kill_upkeep(world, name, random.Random(5), 3)
    assert (kills, caught >= 1) == (3, True)
    world.installs()
    world.check_store()
    world.check_sweep()


def test_after_a_power_cut_the_store_gives_right_bytes_or_none(world):
    chance = random.Random(3)
    for _ in range(3):
        processes = [world.install() for _ in range(2)]
        when_begun(world, processes)
        killed_at_random(processes, chance, 1.5)
        for _ in range(2):
            power_cut(world.store, chance)
            check_after_power_cut(world)


def test_whichever_directory_entries_and_contents_a_power_cut_loses_nothing_wrong_is_given(
    tmp_path, monkeypatch
):
    """Each unsynced name and content for itself, so renames are kept and lost in both orders.

    Bench/powercut.py does some hundred.
    """
    world = PowerWorld(tmp_path, lambda name: monkeypatch.setattr(layout, "boot_id", lambda: name))
    count, given = cuts(world, random.Random(2), 60)
    assert (count, given > 20) == (60, True)
