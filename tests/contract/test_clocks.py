"""Every clock keeps the contract of ``ports/clock.py``."""

import pytest

from entrepot.ports.clock import SystemClock
from entrepot.testing.clock import ManualClock


@pytest.fixture(params=[SystemClock, ManualClock], ids=lambda kind: kind.__name__)
def clock(request):
    return request.param()


def test_now_is_seconds_since_the_epoch(clock):
    assert 1_700_000_000 < clock.now() < 4_000_000_000
    assert isinstance(clock.now(), float)


def test_monotonic_never_runs_backwards(clock):
    seen = [clock.monotonic() for _ in range(100)]
    assert seen == sorted(seen)


def test_no_clock_runs_backwards_or_jumps_by_itself(clock):
    before = clock.now(), clock.monotonic()
    after = clock.now(), clock.monotonic()
    assert 0 <= after[1] - before[1] < 60
    assert abs((after[0] - before[0]) - (after[1] - before[1])) < 60
