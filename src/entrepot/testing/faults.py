"""What can go wrong on purpose at a made-up origin."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection
from dataclasses import dataclass

BEFORE = frozenset({"status", "garbage", "delay", "silence"})
"""Faults that stand in place of a head, or before it."""
IN_BODY = frozenset({"truncate", "short", "corrupt", "slow", "stall", "reset"})
ON_PAGE = frozenset({"wronghash"})
ON_HEAD = frozenset({"novalidators"})
KINDS = BEFORE | IN_BODY | ON_PAGE | ON_HEAD


@dataclass(slots=True)
class Fault:
    """One fault and for how many more requests it lasts.

    ``status`` answers with ``value`` (500). ``garbage`` sends something that is no HTTP head.
    ``delay`` waits ``value`` seconds before the answer. ``silence`` takes the request and never
    answers.

    At the share ``at`` of the body, 0 to 1: ``truncate`` closes the connection although more was
    announced; ``short`` announces only what comes until there, so that nothing but a digest or a
    known size can tell; ``corrupt`` flips one byte; ``stall`` sends no more and holds the
    connection; ``reset`` aborts it (``at=0``: before the head as well). ``slow`` sends the body
    with ``value`` bytes a second.

    ``wronghash`` makes a project's page name wrong digests. ``novalidators`` leaves out ETag and
    Last-Modified.
    """

    match: re.Pattern[str]
    kind: str
    times: int = 1
    """How many requests it hits; -1: all."""
    at: float = 0.5
    value: float = 0
    skip: int = 0
    """How many matching requests pass before it begins."""
    hits: int = 0
    """How many it has hit so far."""

    def take(self, target: str) -> bool:
        """Whether it hits this request; counts it if so."""
        if self.times == 0 or not self.match.search(target):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1 if self.times > 0 else 0
        self.hits += 1
        return True


class Faults:
    """All faults of an origin."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Put a fault into force.

        Raises:
            ValueError: there is no such kind.
        """
        if fault.kind not in KINDS:
            raise ValueError(f"{fault.kind!r} is none of {', '.join(sorted(KINDS))}")
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """End all of them."""
        with self._lock:
            self._faults.clear()

    def take(self, target: str, kinds: Collection[str]) -> Fault | None:
        """The first fault of these kinds that hits this request; ``None`` if none does."""
        with self._lock:
            return next(
                (fault for fault in self._faults if fault.kind in kinds and fault.take(target)),
                None,
            )
