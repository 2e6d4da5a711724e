"""The catalogue: what can be made again from the store, kept where it can be asked quickly.

Losing it costs time, never correctness. Counters, learned hosts, links and notes are lossy on
purpose. Reading never waits for a writer; writing may wait a second for another process's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from entrepot.digests import Digest
from entrepot.links import Link

if TYPE_CHECKING:
    from entrepot.ports.store import Store
    from entrepot.stored import Head

__all__ = ["Catalogue", "Link", "Listed", "Noted", "Opened"]


@dataclass(frozen=True, slots=True)
class Noted:
    """A link with the page that said it."""

    link: Link
    page: str
    """The page's cache key; empty for what no page said."""
    state: str
    """What tells the page's content from what it was before, or is since."""


class Listed(NamedTuple):
    """One head, as light as ``list`` and ``status`` need it; its flags are 0 or 1."""

    key: str
    url: str
    kind: str
    project: str | None
    version: str | None
    filename: str | None
    size: int | None
    disk: int
    """Bytes of disk of the body; heads of one body each have it in full."""
    body: str | None
    """``sha256:...``."""
    used: float
    response_time: float
    status: int
    proven: int
    credentialed: int
    shared: int
    upload_time: str | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A store and its catalogue, open."""

    store: Store
    catalogue: Catalogue


class Catalogue(Protocol):
    """The derived index of one store, on this host."""

    @property
    def degraded(self) -> bool:
        """Whether the disk refused: what is recorded now is forgotten with the process."""
        ...

    def record(self, key: str, head: Head, *, used: float, disk: int) -> None:
        """A head was stored or refreshed."""
        ...

    def forget(self, keys: Iterable[str]) -> None:
        """Heads are gone."""
        ...

    def listing(self) -> Iterator[Listed]:
        """Every head known, light."""
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
        """What is known of a canonical URL, from every page: what no page said first."""
        ...

    def links(self, url: str) -> list[Noted]:
        """What every page said of a canonical URL."""
        ...

    def write_notes(self, notes: Mapping[str, str]) -> None:
        """Remember a text under each of some names, which are for their writers to choose."""
        ...

    def note(self, name: str) -> str | None:
        """The text last written under a name."""
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
