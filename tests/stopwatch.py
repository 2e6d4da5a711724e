"""How long this process has been at something.

What others do on the machine meanwhile does not count.
"""

from __future__ import annotations

import time


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._began, self._used = time.perf_counter(), time.process_time()

    def seconds(self) -> float:
        """Seconds by the clock, but no more than this process has computed.

        Who only waits for a busy processor is not late.
        """
        return min(time.perf_counter() - self._began, time.process_time() - self._used)


def crowding() -> float:
    """How many times longer than alone something takes here and now, because others use the processors: 1 where nobody does."""
    began, used = time.perf_counter(), time.process_time()
    while (computed := time.process_time() - used) < 0.1:
        pass
    return max(1.0, (time.perf_counter() - began) / computed)
