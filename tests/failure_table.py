"""What upstream does wrong, and what comes of it.

The rows of docs/explanation/failures.md, and what tests make of them.
"""

from __future__ import annotations

from dataclasses import dataclass

LARGE = 200_000
SMALL = 5_000
"""Bytes of data in the file; a small one is held back whole until it is known to be right."""

WHOLE = "the file"
CUT = "a connection that breaks off"
REFUSED = "502 that says why"
LATE = "504 that says why"
BROKEN = "500"
SIZED = "works; with HTML pages, which tell no sizes, as the next row"
EITHER = "works where a cut download is begun again"


@dataclass(frozen=True, slots=True)
class Row:
    """One way to fail."""

    name: str
    """A project's name at the origin."""
    says: str
    """The first column of the table."""
    kind: str
    """See :class:`entrepot.testing.faults.Fault`."""
    times: int = 1
    at: float = 0.5
    value: float = 0
    size: int = LARGE
    sees: str = WHOLE
    """What one request of one client ends in."""
    requests: int = 2
    """Upstream requests for the file, for one request of one client."""
    tools: str = "works"
    """What pip and uv make of it, which ask again by themselves."""
    left: str = ""

    @property
    def stored(self) -> str:
        """What lies in the store afterwards."""
        return self.left or (WHOLE if self.sees == WHOLE else "nothing")


ROWS = (
    Row("wrong-hash", "wrong hash on the page", "wronghash", -1, sees=CUT, tools="fails"),
    Row(
        "wrong-hash-small",
        "the same, small file",
        "wronghash",
        -1,
        size=SMALL,
        sees=REFUSED,
        tools="fails",
    ),
    Row("short-once", "body shorter than the page says, announced so, once", "short", tools=SIZED),
    Row("short-always", "the same, always", "short", -1, sees=CUT, requests=6, tools="fails"),
    Row(
        "flip-once", "one flipped byte, once", "corrupt", at=0.2, sees=CUT, left=WHOLE, tools=EITHER
    ),
    Row(
        "flip-once-end",
        "the same, in the last 64 KiB",
        "corrupt",
        at=0.9,
        sees=CUT,
        left=WHOLE,
        tools=EITHER,
    ),
    Row("flip-once-small", "the same, small file", "corrupt", size=SMALL),
    Row("flip-always", "one flipped byte, always", "corrupt", -1, sees=CUT, tools="fails"),
    Row(
        "flip-always-small",
        "the same, small file",
        "corrupt",
        -1,
        size=SMALL,
        sees=REFUSED,
        tools="fails",
    ),
    Row("cut-once", "connection closed in mid-body, once", "truncate"),
    Row("cut-always", "the same, always", "truncate", -1, sees=CUT, requests=6, tools="fails"),
    Row("reset-once", "connection reset in mid-body, once", "reset"),
    Row("reset-at-once", "reset before the answer, once", "reset", at=0),
    Row(
        "reset-always",
        "reset before the answer, always",
        "reset",
        -1,
        at=0,
        sees=REFUSED,
        requests=3,
        tools="fails",
    ),
    Row("garbage-once", "something that is no HTTP, once", "garbage"),
    Row("stall-once", "silence in mid-body, once", "stall"),
    Row("stall-always", "the same, always", "stall", -1, sees=CUT, tools="fails"),
    Row("silence-once", "no answer, once", "silence"),
    Row("silence-always", "the same, always", "silence", -1, sees=LATE, tools="fails"),
    Row("status-once", "one 500", "status", value=500),
    Row("status-five", "five 500s", "status", 5, value=500, sees=BROKEN, requests=3),
    Row("slow", "slow: 400 kB/s", "slow", value=400_000, requests=1),
)
TIMEOUT_S = 2
"""Seconds of silence in the tests."""


def table() -> str:
    """The rows as the document shows them."""
    lines = [
        "| upstream | one client sees | in the store afterwards | requests | pip and uv |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.says} | {row.sees} | {row.stored} | {row.requests} | {row.tools} |" for row in ROWS
    ]
    return "\n".join(lines)
