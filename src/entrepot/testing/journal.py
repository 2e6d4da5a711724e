"""What an origin was asked: every request, written down as it arrives, and questions about them."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(slots=True)
class Seen:
    """One request in the log; the last fields are filled in as the answer goes out."""

    method: str
    target: str
    """Path and query."""
    headers: dict[str, str]
    """Names in lower case."""
    connection: int
    """The same number for requests that came over the same connection."""
    listener: str
    """``index`` or ``files``: which of the two addresses was asked."""
    started: float
    """Monotonic seconds."""
    ended: float | None = None
    """Monotonic seconds; ``None`` while the answer goes out, and for ever when it was broken off.
    """
    status: int = 0
    """0 until the head is sent, and for ever when none was."""
    sent: int = 0
    """Bytes of the body that were sent."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def conditional(self) -> bool:
        """Whether it asked only for what it had not."""
        return "if-none-match" in self.headers or "if-modified-since" in self.headers

    @property
    def ranged(self) -> bool:
        """Whether it asked for a part."""
        return "range" in self.headers


class Journal:
    """The log of an origin."""

    def __init__(self) -> None:
        self.log: list[Seen] = []

    def count(
        self, match: str = "", *, method: str | None = None, status: int | None = None
    ) -> int:
        """How many requests matched, counted from their arrival."""
        return len(self.seen(match, method=method, status=status))

    def seen(
        self, match: str = "", *, method: str | None = None, status: int | None = None
    ) -> list[Seen]:
        """The requests whose path and query match, in order of arrival."""
        wanted = re.compile(match)
        return [
            seen
            for seen in list(self.log)
            if wanted.search(seen.target)
            and method in (None, seen.method)
            and status in (None, seen.status)
        ]

    def bytes_sent(self, match: str = "") -> int:
        """Bytes of bodies that were sent for these requests."""
        return sum(seen.sent for seen in self.seen(match))

    def most_at_once(self, match: str = "") -> int:
        """How many of these requests were being answered at the same time, at most."""
        ends = [(seen.started, seen.ended or float("inf")) for seen in self.seen(match)]
        return max(
            (sum(start <= moment < end for start, end in ends) for moment, _ in ends), default=0
        )
