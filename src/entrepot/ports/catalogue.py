"""The catalogue: what can be made again from the store, kept where it can be asked quickly.

Losing it costs time, never correctness. Counters, learned hosts and links are lossy on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from entrepot.digests import Digest
from entrepot.links import Link
from entrepot.stored import Head

__all__ = ["Catalogue", "Link", "Noted", "Row"]


@dataclass(frozen=True, slots=True)
class Noted:
    """A link with the page that said it."""

    link: Link
    page: str
    """The page's cache key; empty for what no page said."""
    state: str
    """What tells the page's content from what it was before, or is since."""


@dataclass(frozen=True, slots=True)
class Row:
    """One head as the catalogue knows it."""

    key: str
    """The head's key in the store."""
    head: Head
    used: float
    """Last use, seconds since the epoch."""
    disk: int
    """Bytes of disk of the body, 0 without one."""


class Catalogue(Protocol):
    """The derived index of one store, on this host."""

    def record(self, key: str, head: Head, *, used: float, disk: int) -> None:
        """A head was stored or refreshed."""
        ...

    def forget(self, keys: Iterable[str]) -> None:
        """Heads are gone."""
        ...

    def rows(self) -> Iterator[Row]:
        """Every head known."""
        ...

    def totals(self) -> Mapping[str, tuple[int, int]]:
        """Kind -> (entries, bytes of disk of distinct bodies)."""
        ...

    def heads_of(self, body: Digest) -> list[str]:
        """Keys of the heads that name this body."""
        ...

    def learn(self, links: Iterable[Link], *, page: str = "", state: str = "") -> bool:
        """Remember what a page said in a state; its latest word on a URL wins.

        Whether it is remembered.
        """
        ...

    def link(self, url: str) -> Link | None:
        """What is known of a canonical URL, whoever said it: what no page said first."""
        ...

    def links(self, url: str) -> list[Noted]:
        """What every page said of a canonical URL."""
        ...

    def learn_host(self, authority: str) -> None:
        """Remember ``HOST:PORT`` as one that serves packages, because an index page named it."""
        ...

    def hosts(self) -> frozenset[str]:
        """Every remembered ``HOST:PORT``."""
        ...

    def count(self, **amounts: int) -> None:
        """Add to the lossy counters (``hits``, ``bytes_from_cache`` ...)."""
        ...

    def counters(self) -> Mapping[str, int]:
        """The counters since the store was made."""
        ...

    def close(self) -> None:
        """Write what is pending and close."""
        ...
