"""What conda's family notes of an entry beyond what every tool does."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from entrepot.ports.tool import Block, BlockedBy, Entry


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


def stamp(about: os.stat_result) -> str:
    """What changes when a file or folder is replaced or written to."""
    return f"{about.st_ino}:{about.st_mtime_ns}:{about.st_size}"
