"""Which bodies are evicted when a store is too big: the choice alone, from values.

No files, no clock, no locks: ``store/gc.py`` asks for it and carries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Use:
    """One head, as far as eviction cares."""

    key: str
    """The head's key."""
    body: str | None
    """The body's name; ``None`` for a head without one."""
    used: float
    """Last use of this head, seconds since the epoch."""
    disk: int
    """Bytes of disk of the body; the same on every head of it."""


@dataclass(slots=True)
class Victim:
    """What is evicted together: a body and all heads that name it, or one head without a body."""

    body: str | None
    heads: list[str] = field(default_factory=list)
    used: float = float("-inf")
    """The newest use of its heads."""
    disk: int = 0
    """Bytes of disk that are freed."""


def victims(
    uses: Iterable[Use],
    budget: int,
    *,
    in_use: Callable[[str], bool] = lambda _: False,
    head_disk: int = 0,
    idle_before: float = float("-inf"),
) -> list[Victim]:
    """What is evicted so that at most ``budget`` bytes of disk remain, in that order.

    Nothing while everything fits. Else: heads without a body that were last used before
    ``idle_before`` (they are cheap, but pile up); then bodies, least recently used first, whose
    last use is the newest of their heads; then, when that is not enough, other heads without a
    body. A body in use is never evicted; ties are broken by name, so the choice does not depend on
    the order of ``uses``.

    Args:
        uses: every head.
        budget: bytes that may remain.
        in_use: whether a body is open; asked only for bodies whose turn it is.
        head_disk: bytes of disk of each head itself.
        idle_before: seconds since the epoch.

    >>> old, new = Use("heads/a", "x", used=1, disk=60), Use("heads/b", "y", used=2, disk=60)
    >>> [v.body for v in victims([new, old], 100)]
    ['x']
    """

    def rank(victim: Victim) -> int:
        if victim.body is not None:
            return 1
        return 0 if victim.used < idle_before else 2

    groups = _grouped(uses, head_disk)
    remaining = sum(each.disk for each in groups)
    chosen: list[Victim] = []
    if remaining <= budget:
        return chosen
    for each in sorted(groups, key=lambda v: (rank(v), v.used, v.body or v.heads[0])):
        if remaining <= budget and rank(each):
            break
        if each.body is None or not in_use(each.body):
            chosen.append(each)
            remaining -= each.disk
    return chosen


def _grouped(uses: Iterable[Use], head_disk: int) -> list[Victim]:
    """Heads put together by body."""
    bodies: dict[str, Victim] = {}
    alone: list[Victim] = []
    for use in uses:
        if use.body is None:
            alone.append(Victim(None, [use.key], use.used, head_disk))
            continue
        found = bodies.setdefault(use.body, Victim(use.body))
        if not found.heads:
            found.disk = use.disk
        found.heads.append(use.key)
        found.used = max(found.used, use.used)
        found.disk += head_disk
    return [*bodies.values(), *alone]
