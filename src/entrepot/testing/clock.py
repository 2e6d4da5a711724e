"""A clock that goes only when it is told to; it keeps the contract of ``ports/clock.py``."""

from __future__ import annotations


class ManualClock:
    """Both clocks of :class:`entrepot.ports.clock.Clock`, standing still.

    >>> clock = ManualClock(1_000.0)
    >>> clock.advance(5)
    >>> clock.now(), clock.monotonic()
    (1005.0, 5.0)
    """

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass; never backwards."""
        if seconds < 0:
            raise ValueError("time passes forwards: use set_back for a wall clock that jumps")
        self._now += seconds
        self._monotonic += seconds

    def set_back(self, seconds: float) -> None:
        """Turn the wall clock back, as an administrator or a boot without a battery does.

        Durations are not touched.
        """
        self._now -= seconds
