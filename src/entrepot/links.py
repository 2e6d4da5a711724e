"""Links: what an index page or a lock file says about one file.

A value of the domain; the catalogue remembers it.
"""

from __future__ import annotations

from dataclasses import dataclass

from entrepot.digests import Digest


@dataclass(frozen=True, slots=True)
class Link:
    """What an index page or a lock file says about one file.

    Its URL and the facts that travel with it.
    """

    url: str
    """Canonical upstream URL."""
    digests: tuple[Digest, ...] = ()
    size: int | None = None
    project: str | None = None
    version: str | None = None
    filename: str | None = None
    kind: str = "other"
    upload_time: str | None = None
    source: str = ""
    """Where it was said: the cache key of a page, or a file's path."""
