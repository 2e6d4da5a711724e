"""What one run did: counts of its requests, the report, and the line that the user reads."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from entrepot.redaction import redacted_url, redacted_words
from entrepot.sizes import show_size

OUTCOMES = ("hit", "revalidated", "miss", "stale", "error", "bypass")
"""``bypass``: passed on without being looked up or kept (an upload, a range of a file that is not
here, ``--no-store``)."""


@dataclass(frozen=True, slots=True)
class Line:
    """One request as the report lists it."""

    url: str
    status: int
    outcome: str
    bytes: int
    project: str | None = None
    version: str | None = None


@dataclass(slots=True)
class PrefetchStats:
    """What was asked of upstream before the client did."""

    asked: int = 0
    """Requests; none of them is one of the lines."""
    used: int = 0
    """Those that the client then made itself, and was answered from."""
    bytes: int = 0
    """Of content that came."""
    bytes_unused: int = 0
    """Those of it that no client has wanted."""


@dataclass(slots=True)
class RunStats:
    """Counts of one run; not for threads."""

    started: float = field(default_factory=time.monotonic)
    log: Callable[[str], None] | None = None
    """Told a line of each request."""
    lines: list[Line] = field(default_factory=list)
    bytes_from_cache: int = 0
    bytes_downloaded: int = 0
    uncached_hosts: Counter[str] = field(default_factory=Counter)
    """Host -> connections or requests that went past the cache."""
    uncached_bytes: int = 0
    unseen: dict[str, str] = field(default_factory=dict)
    """What was asked for offline and never seen: name -> redacted URL."""
    warnings: list[str] = field(default_factory=list)
    flawed: dict[str, list[str]] = field(default_factory=dict)
    """What upstream did in place of giving an index -> redacted URLs."""
    prefetch: PrefetchStats = field(default_factory=PrefetchStats)

    def note(
        self,
        url: str,
        status: int,
        outcome: str,
        *,
        size: int = 0,
        project: str | None = None,
        version: str | None = None,
    ) -> None:
        """One request was answered; ``size`` in bytes of content."""
        line = Line(redacted_url(url), status, outcome, size, project, version)
        self.lines.append(line)
        if self.log is not None:
            self.log(f"{line.outcome} {line.status} {line.bytes} {line.url}")
        if outcome in {"hit", "revalidated", "stale"}:
            self.bytes_from_cache += size

    def warn(self, text: str) -> None:
        """Something the user should know at the end; said once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def note_flaw(self, url: str, text: str) -> None:
        """Upstream gave no index where it was asked for one: what it did, in words."""
        urls = self.flawed.setdefault(text, [])
        if redacted_url(url) not in urls:
            urls.append(redacted_url(url))

    def all_warnings(self) -> list[str]:
        """What the user should know at the end."""
        return [*self.warnings, *(f"{_some(urls, 3)} {text}" for text, urls in self.flawed.items())]

    def counts(self) -> dict[str, int]:
        """How many requests ended in each outcome."""
        found = Counter(line.outcome for line in self.lines)
        return {name: found[name] for name in OUTCOMES}

    def report(self, command: Sequence[str], status: int) -> dict[str, Any]:
        """The object that ``--report`` writes (docs/reference/json.md)."""
        counts = self.counts()
        return {
            "schema": 1,
            "command": redacted_words(command),
            "exit": status,
            "seconds": round(time.monotonic() - self.started, 3),
            "requests": len(self.lines),
            "hits": counts["hit"],
            "revalidated": counts["revalidated"],
            "misses": counts["miss"],
            "stale": counts["stale"],
            "errors": counts["error"],
            "bypassed": counts["bypass"],
            "bytes_from_cache": self.bytes_from_cache,
            "bytes_downloaded": self.bytes_downloaded,
            "uncached_hosts": dict(self.uncached_hosts),
            "warnings": self.all_warnings(),
            "ahead": {
                "requests": self.prefetch.asked,
                "unused": self.prefetch.asked - self.prefetch.used,
                "bytes_unused": self.prefetch.bytes_unused,
            },
            "entries": [asdict(line) for line in self.lines],
        }

    def last_line(self, *, offline: bool) -> str:
        """What was saved, in one line; ends with what was missing and what went past the cache."""
        counts = self.counts()
        saved = counts["hit"] + counts["revalidated"] + counts["stale"]
        size = show_size(self.bytes_from_cache)
        parts = [f"{saved} of {len(self.lines)} requests from the cache ({size})"]
        if not offline:
            parts.append(f"{show_size(self.bytes_downloaded)} downloaded")
        if counts["stale"]:
            stale = counts["stale"]
            parts.append(f"{stale} page{'' if stale == 1 else 's'} older than the index allows")
        if counts["error"] and not self.unseen:
            parts.append(f"{counts['error']} failed")
        if self.uncached_hosts:
            hosts = [name for name, _ in self.uncached_hosts.most_common(3)]
            past = f"{show_size(self.uncached_bytes)} went past it ({', '.join(hosts)}"
            parts.append(f"{past}; to cache packages from there: --host {hosts[0]})")
        if self.unseen:
            were = "was" if len(self.unseen) == 1 else "were"
            names = _some(list(self.unseen))
            parts.append(f"offline: {names} {were} never downloaded through entrepot")
        return "; ".join([*parts, *self.all_warnings()])


def _some(names: Sequence[str], most: int = 5) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
