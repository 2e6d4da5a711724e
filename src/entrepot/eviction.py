"""Which bodies go when a store is too big: the choice alone, from values.

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
    """The body's name, whatever names it; ``None`` for a head without one."""
    used: float
    """Last use of this head, seconds since the epoch."""
    disk: int
    """Bytes of disk of the body; the same on every head of it."""


@dataclass(slots=True)
class Victim:
    """What goes together: a body and all heads that name it, or one head without a body."""

    body: str | None
    heads: list[str] = field(default_factory=list)
    used: float = float("-inf")
    """The newest use of its heads."""
    disk: int = 0
    """Bytes of disk that its going gives."""


def victims(
    uses: Iterable[Use],
    budget: int,
    *,
    in_use: Callable[[str], bool] = lambda _: False,
    head_disk: int = 0,
    idle_before: float = float("-inf"),
) -> list[Victim]:
    """What has to go so that at most ``budget`` bytes of disk remain, in the order in which it goes.

    Nothing goes while everything fits. Else, in this order: heads without a body that were last
    used before ``idle_before`` (they are cheap, but pile up); then bodies, least recently used
    first, whose last use is the newest of their heads; then, should that not do, other heads
    without a body. A body in use never goes; ties are broken by name, so the choice does not depend
    on the order of ``uses``.

    Args:
        uses: every head.
        budget: bytes that may remain.
        in_use: whether a body is open; asked of those only whose turn it is.
        head_disk: bytes of disk that each head takes beside its body.
        idle_before: seconds since the epoch.

    >>> old, new = Use("heads/a", "x", used=1, disk=60), Use("heads/b", "y", used=2, disk=60)
    >>> [v.body for v in victims([new, old], 100)]
    ['x']
    """
    groups = _grouped(uses, head_disk)
    remaining = sum(each.disk for each in groups)
    chosen: list[Victim] = []
    if remaining <= budget:
        return chosen
    for each in sorted(groups, key=lambda v: (_rank(v, idle_before), v.used, v.body or v.heads[0])):
        if remaining <= budget and _rank(each, idle_before):
            break
        if each.body is None or not in_use(each.body):
            chosen.append(each)
            remaining -= each.disk
    return chosen


def _rank(victim: Victim, idle_before: float) -> int:
    if victim.body is not None:
        return 1
    return 0 if victim.used < idle_before else 2


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
