"""What conda's family notes of an entry beyond what every tool does, and how it reads JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entrepot.ports.tool import Block, BlockedBy, Entry
from entrepot.tools._shared.safe_read import read_regular

RECORD_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class CondaEntry(Entry):
    """An entry of a cache of conda's, mamba's or rattler's."""

    folder: Path = field(kw_only=True)
    """The folder of packages that it belongs to, with the locks, the log of downloads and the
    trash of its removal."""
    is_package: bool = False
    """Whether it is an unpacked package, whole or in part: environments may link to it."""
    links: int = 0
    """Links of all files of a whole package when it was listed; more of them: something links to
    it since."""
    stale_lines: int = 0
    """Lines of the log of downloads that nothing needs: they are the entry, not the file."""


UNKNOWN_LAYOUT = Block(BlockedBy.UNKNOWN, "unknown layout: sizes only")
BEING_WRITTEN = Block(BlockedBy.BEING_WRITTEN, "being written")


def load_json(path: Path | str) -> dict[str, Any]:
    """A JSON object out of a regular file; empty when it is absent, broken or none."""
    try:
        data = json.loads(read_regular(path, RECORD_LIMIT_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
