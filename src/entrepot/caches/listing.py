"""Entries as the lines of ``list``, in columns and in order.

The listing of a large cache is kept in this form. A hundred thousand entries take seconds to make,
to sort and to write out; ten columns do not. They hold only what does not depend on the time of
day, and only what the plain listing shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

from entrepot.caches.inventory import Sum, withheld
from entrepot.caches.selection import Filter, Order, version_order
from entrepot.ports.tool import Entry, Place, Progress, Surroundings, Tool
from entrepot.sizes import show_size

UNPROVEN = "*"
"""Stands behind the kind of an entry whose bytes could be compared with no checksum."""
NEVER = float("-inf")
"""The last use where it is not known."""
MANY = 5_000
"""Entries of one place from which on its lines are kept."""
KEPT_S = 86_400.0
"""Seconds for which they are good, when nothing changes."""
BUSY_S = 600.0
"""The same when something is blocked, which may be for a moment only."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Columns of equal length, sorted by ``keys``."""

    keys: Sequence[str]
    """In this order by project, version, tool and file name."""
    names: Sequence[str]
    versions: Sequence[str]
    kinds: Sequence[str]
    """With :data:`UNPROVEN` where that is so."""
    tools: Sequence[str]
    sizes: Sequence[str]
    """The bytes of disk for people."""
    used_by: Sequence[str]
    disk: Sequence[int]
    freeable: Sequence[int]
    """Bytes of disk; 0 for what may not go."""
    used: Sequence[float]
    """Seconds since the epoch; minus infinity when it is not known."""

    def packed(self) -> bytes:
        """As bytes, for :func:`unpacked`."""
        return json.dumps([list(column) for column in _all(self)]).encode()


def unpacked(data: bytes) -> Lines | None:
    """Lines from their bytes; ``None`` when they are not whole."""
    try:
        columns = json.loads(data)
        whole = len(columns) == len(Lines.__slots__) and len(set(map(len, columns))) == 1
        return Lines(*columns) if whole else None
    except (ValueError, TypeError):
        return None


def kept_lines(
    tool: Tool, place: Place, around: Surroundings, *, now: float, progress: Progress | None = None
) -> Lines | Iterable[Entry]:
    """The lines of a place as they were kept, when nothing has changed since.

    Else its entries, or lines of them to keep.
    """
    keep = getattr(tool, "keep_lines", None)
    data = tool.lines(place, around, progress=progress) if keep else None  # type: ignore[attr-defined]
    lines = unpacked(data) if data else None
    if lines is not None:
        return lines
    entries = withheld(place, around, tool.scan(place, around, progress=progress))
    if not keep:
        return entries
    whole = list(entries)
    lines = lines_of(whole)
    if len(whole) >= MANY:
        is_busy = any(entry.block for entry in whole)
        keep(place, around, now + (BUSY_S if is_busy else KEPT_S), lines.packed())
    return lines


def lines_of(entries: Iterable[Entry]) -> Lines:
    """Entries as lines, in order by name."""
    return _in_order(lined(map(line, entries)))


def lined(rows: Iterable[Sequence[Any]]) -> Lines:
    """Lines of what :func:`line` gave, in their order."""
    rows = list(rows)
    return Lines(*([row[number] for row in rows] for number in range(len(Lines.__slots__))))


def line(entry: Entry) -> tuple[Any, ...]:
    """What stands of an entry in each column of :class:`Lines`."""
    return (
        _key(entry),
        _safe(called(entry)),
        _safe(entry.version or "-"),
        f"{entry.kind}{UNPROVEN}" if entry.trust == "unproven" else f"{entry.kind}",
        entry.tool,
        show_size(entry.disk),
        _safe(_used_by(entry)),
        entry.disk,
        0 if entry.block else entry.freeable,
        NEVER if entry.used is None else entry.used,
    )


def together(several: Sequence[Lines]) -> Lines:
    """All lines of several, in order."""
    if len(several) == 1:
        return several[0]
    columns = zip(*map(_all, several), strict=True) if several else [()] * len(Lines.__slots__)
    return _in_order(Lines(*(list(chain.from_iterable(column)) for column in columns)))


def _in_order(lines: Lines) -> Lines:
    return _chosen(lines, sorted(range(len(lines.keys)), key=lines.keys.__getitem__))


def picked(lines: Lines, wanted: Filter, *, now: float) -> Lines:
    """Those that a filter means which has neither patterns nor asks for what is stale or unused."""
    chosen: Sequence[int] = range(len(lines.keys))
    if wanted.kinds:
        kinds = {str(kind) for kind in wanted.kinds}
        chosen = [n for n in chosen if lines.kinds[n].rstrip(UNPROVEN) in kinds]
    if wanted.older_s is not None:
        before = now - wanted.older_s
        chosen = [n for n in chosen if NEVER < lines.used[n] < before]
    return lines if isinstance(chosen, range) else _chosen(lines, chosen)


def by(lines: Lines, order: Order) -> Lines:
    """The lines in another order than by name.

    By disk from the largest, or by last use from the longest ago.
    """
    if order == "name":
        return lines
    keys: Callable[[int], float] = (
        (lambda n: -lines.disk[n]) if order == "size" else lines.used.__getitem__
    )
    return _chosen(lines, sorted(range(len(lines.keys)), key=keys))


def summed(lines: Lines) -> Sum:
    """Bytes of disk and what of them can go; the lines share no files."""
    total = Sum()
    total.add_bare(
        len(lines.keys),
        files=0,
        size=0,
        disk=sum(lines.disk),
        used=None,
        freeable=sum(lines.freeable),
    )
    return total


def _all(lines: Lines) -> tuple[Sequence[Any], ...]:
    return tuple(getattr(lines, name) for name in Lines.__slots__)


def _chosen(lines: Lines, positions: Sequence[int]) -> Lines:
    return Lines(*(list(map(column.__getitem__, positions)) for column in _all(lines)))


def _used_by(entry: Entry) -> str:
    if len(entry.used_by) == 1:
        user = entry.used_by[0]
        return (
            user if "/" in user or "\\" in user else user.partition(" (")[0]
        )  # how it is known stands in the JSON
    return f"{len(entry.used_by)} environments" if entry.used_by else "-"


def called(entry: Entry) -> str:
    """What to call an entry in a table: its project, else its file name, URL or key."""
    if entry.project or entry.filename or entry.origin:
        return entry.project or entry.filename or entry.origin
    location = entry.extra.get("location")
    return f"redirect to {location}" if location else _DIGITS.sub(r"/\1..", entry.key)


_DIGITS = re.compile(r"(?:/[0-9a-f])*/([0-9a-f]{12})[0-9a-f]{44}")
"""An entry's name in pip's cache, and the directories that repeat its digits."""


def _safe(text: str) -> str:
    """Names come from the network, and a line is a line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _key(entry: Entry) -> str:
    """Text that sorts as :func:`.selection.ordered` does by name."""
    first = "0" + entry.project if entry.project else "1" + entry.origin
    return _safe(
        f"{first} {_version_key(entry.version)} {entry.tool} {entry.filename or entry.key}"
    )


@lru_cache(maxsize=1 << 14)
def _version_key(version: str | None) -> str:
    pieces = (
        f"{rank}{chr(48 + len(str(number)))}{number}{word}"
        for rank, number, word in version_order(version)
    )
    return ",".join(pieces)
