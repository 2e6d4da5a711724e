"""The lines of a text that one change replaced, so that it can be taken back to the byte.

Text in, text out.

Bytes that are no UTF-8 travel as surrogates. Whether a line may be remembered is not for this
module to say.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patch:
    """One change of a text, from the first line that changed to the last."""

    at: int
    """Characters in front of it."""
    before: str
    """The lines as they were."""
    after: str
    """The lines as they were made."""
    check: int
    """Tells the whole changed text from another one. A CRC: a digest would help to guess what else
    is in the file."""
    made: bool = False
    """Whether there was no file before."""

    def taken_back(self, text: str) -> str | None:
        """The text as it was before the change; ``None`` when it is not as the change left it."""
        if check_of(text) != self.check or not text.startswith(self.after, self.at):
            return None
        return text[: self.at] + self.before + text[self.at + len(self.after) :]

    def or_else(self, edit: Callable[[str], str]) -> Callable[[str], str]:
        """What takes the change back to the byte where that can be done, else as ``edit`` does."""

        def taken(text: str) -> str:
            exact = self.taken_back(text)
            return edit(text) if exact is None else exact

        return taken


def check_of(text: str) -> int:
    """See :attr:`Patch.check`."""
    return zlib.crc32(text.encode("utf-8", "surrogateescape"))


def patch_of(before: str, after: str, *, made: bool = False) -> Patch:
    r"""What changed between two texts, by whole lines.

    >>> patch_of("a\nb\nc\n", "a\nB\nc\n").before
    'b\n'
    """
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    start = _alike(old, new)
    end = _alike(old[start:][::-1], new[start:][::-1])
    head = "".join(old[:start])
    return Patch(
        len(head),
        "".join(old[start : len(old) - end]),
        "".join(new[start : len(new) - end]),
        check_of(after),
        made=made,
    )


def _alike(old: list[str], new: list[str]) -> int:
    """How many lines the two have in common from the start."""
    return next(
        (n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b),
        min(len(old), len(new)),
    )
