"""The JSON of entries, places, findings and sums.

One form each, for every command (docs/reference/json.md).
"""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from entrepot.ports.tool import Change, Entry, Finding, Place, Sum


def rfc3339(moment: float | None) -> str | None:
    """Seconds since the epoch as ``2026-11-21T06:18:58Z``; ``None`` stays ``None``."""
    return None if moment is None else _rfc3339(int(moment))


@lru_cache(maxsize=1 << 12)
def _rfc3339(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def entry_record(entry: Entry) -> dict[str, Any]:
    """One entry."""
    return {
        "tool": entry.tool,
        "place": str(entry.place),
        "key": entry.key,
        "kind": entry.kind,
        "project": entry.project,
        "version": entry.version,
        "filename": entry.filename,
        "certainty": entry.certainty,
        "size": entry.size,
        "disk": entry.disk,
        "freeable": entry.freeable,
        "files": entry.files,
        "last_used": rfc3339(entry.used),
        "last_used_from": entry.used_from,
        "used_by": list(entry.used_by),
        "pinned": entry.blocked,
        "litter": entry.removable_because,
        "origin": entry.origin,
        "digest": str(entry.digest) if entry.digest else None,
        "state": entry.state,
        "trust": entry.trust,
        "tags": entry.tags,
        "paths": list(entry.locations),
        "extra": _facts(entry),
    }


def _facts(entry: Entry) -> dict[str, str]:
    """Facts of its tool alone, and what is told of few entries."""
    facts = dict(entry.extra)
    if entry.problem:
        facts["problem"] = entry.problem
    if entry.shared:
        facts |= {"shares": entry.shared.key, "shared-disk": str(entry.shared.disk)}
    if entry.hard_linked:
        facts["linked"] = "yes"
    return facts


def sum_record(total: Sum) -> dict[str, Any]:
    """Sizes of several entries."""
    return {
        "entries": total.entries,
        "files": total.files,
        "size": total.size,
        "disk": total.disk,
        "freeable": total.freeable,
        "last_used": rfc3339(total.used),
    }


def place_record(place: Place) -> dict[str, Any]:
    """One cache directory and why it is there."""
    return {**asdict(place), "path": str(place.path) if place.path else None}


def finding_record(finding: Finding) -> dict[str, Any]:
    """One thing that ``verify`` saw."""
    return {
        "tool": finding.tool,
        "problem": finding.problem,
        "text": finding.text,
        "path": str(finding.path) if finding.path else None,
        "repaired": finding.repaired,
        "entry": entry_record(finding.entry) if finding.entry else None,
    }


def change_record(change: Change) -> dict[str, Any]:
    """One change of a configuration."""
    shown = ("key", "before", "after", "native", "verified", "differs")
    path = str(change.path) if change.path else None
    return {"path": path, **{name: getattr(change, name) for name in shown}}
