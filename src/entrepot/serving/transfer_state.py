"""What a process leaves beside a partial file for those who follow it or resume it.

A value alone: also ``caches/own.py`` reads it, which looks at a store without an event loop.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from entrepot.errors import FormatError
from entrepot.stored import Head


@dataclass(frozen=True, slots=True)
class TransferState:
    """What a process tells others, and later ones, of the file that it writes."""

    head: Head
    total: int | None
    mark: str
    """Another one for each beginning at byte 0, by whichever process: bytes under two marks are
    never joined."""
    holds: bool
    whole: bool = False
    """Whether all of it has arrived and is right for who wrote it: ``total`` is its size, the head
    says what is proven."""

    def to_bytes(self) -> bytes:
        """One JSON object."""
        told = {"total": self.total, "mark": self.mark, "holds": self.holds, "whole": self.whole}
        return json.dumps({**told, "head": self.head.to_bytes().decode()}).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> TransferState | None:
        """What :meth:`to_bytes` gave; ``None`` for anything else."""
        try:
            told = json.loads(raw)
            head, whole = Head.from_bytes(told["head"].encode()), bool(told.get("whole"))
            return cls(head, told["total"], str(told["mark"]), bool(told["holds"]), whole)
        except (ValueError, KeyError, TypeError, AttributeError, FormatError):
            return None
