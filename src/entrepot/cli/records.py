"""The JSON of entries, places, findings and sums.

One form each, for every command (docs/reference/json.md).
"""

from __future__ import annotations

from typing import Any

from entrepot.caches.inventory import Sum
from entrepot.cli.output import rfc3339
from entrepot.ports.tool import Change, Entry, Finding, Place, texts_of


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
        "pinned": entry.pinned,
        "litter": entry.litter,
        "origin": entry.origin,
        "digest": str(entry.digest) if entry.digest else None,
        "state": entry.state,
        "trust": entry.trust,
        "tags": entry.tags,
        "paths": texts_of(entry.paths),
        "extra": dict(entry.extra),
    }


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
    return {
        "tool": place.tool,
        "path": str(place.path) if place.path else None,
        "label": place.label,
        "rank": place.rank,
        "exists": place.exists,
        "usable": place.usable,
        "why_not": place.why_not,
        "layers": [
            {
                "kind": layer.kind,
                "source": layer.source,
                "value": layer.value,
                "wins": layer.wins,
                "note": layer.note,
            }
            for layer in place.layers
        ],
        "notes": list(place.notes),
        "sources": list(place.sources),
    }


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
    return {
        "path": str(change.path) if change.path else None,
        "key": change.key,
        "before": change.before,
        "after": change.after,
        "native": change.native,
        "verified": change.verified,
        "differs": change.differs,
    }
