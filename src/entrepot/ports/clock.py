"""Time, as the application sees it. Two clocks, because one may jump."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """``now`` for what is stored and compared with headers, ``monotonic`` for durations.

    Both in seconds.
    """

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never runs backwards."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()
