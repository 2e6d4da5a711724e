"""A donor: another tool's cache that may hold what a URL brings, so that it need not be fetched again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from entrepot.httpcache.messages import ResponseHead


class Donation(Protocol):
    """A response that a tool has stored. Whether its bytes are right is the taker's to check."""

    @property
    def tool(self) -> str:
        """Whose cache it lies in, for messages."""
        ...

    @property
    def path(self) -> Path:
        """The file that holds the body."""
        ...

    @property
    def offset(self) -> int:
        """Of the body within it, in bytes."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the body as transferred."""
        ...

    @property
    def is_whole_file(self) -> bool:
        """Whether the body is a file of its own that its owner never writes in place.

        It may be linked.
        """
        ...

    @property
    def head(self) -> ResponseHead:
        """As the tool stored it, less what carries credentials."""
        ...

    @property
    def vary(self) -> tuple[tuple[str, str | None], ...]:
        """Selecting values of the tool's request, names in lower case."""
        ...

    @property
    def stored(self) -> float:
        """When the tool stored or last validated it, seconds since the epoch."""
        ...

    @property
    def credentialed(self) -> bool:
        """Whether it depended on credentials."""
        ...

    @property
    def needs_proof(self) -> bool:
        """Whether it may be another body than the URL's, so that only a digest lets it be taken."""
        ...


Donor = Callable[[str], Donation | None]
"""What a cache has for an absolute URL. Cheap: a stat or two."""
