"""What a lock file fixes.

Files at a URL (:class:`Link`), and digests of files whose URL it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from entrepot.digests import Digest
from entrepot.links import Link


@dataclass(frozen=True, slots=True)
class Allowed:
    """Digests of which a body must match at least one (a :class:`Link`'s must all match).

    Poetry and pdm fix files by name, ``--hash`` lines fix a version whose files may be any of
    several.
    """

    digests: tuple[Digest, ...]
    project: str | None = None
    """Normalized name (PEP 503)."""
    version: str | None = None
    """Normalized (PEP 440); ``None``: any version."""
    filename: str | None = None
    """``None``: any file of the version."""
    url: str = ""
    """Canonical; empty: wherever it lies."""
    source: str = ""
    """The file that said so."""
    binds: bool = False
    """Whether it refuses what it does not prove: a ``--hash``, which its reader goes by, is not
    there by accident."""


@dataclass(frozen=True, slots=True)
class Known:
    """What one file, or a command line, says beforehand."""

    links: tuple[Link, ...] = ()
    allowed: tuple[Allowed, ...] = ()
    hosts: frozenset[str] = frozenset()
    """``HOST:PORT`` of its files and indexes; never those of version control."""
    includes: tuple[str, ...] = ()
    """Other requirement and constraint files that it names, as written."""
    problem: str = ""
    """Why nothing could be read; the tool itself will complain, so nothing is raised."""


class Pins:
    """Finds what is allowed for a file.

    The most exact statement decides: of the URL, the file name, the version, the project.

    Args:
        allowed: from any number of lock files. Statements about the same thing are added up, so
            that two lock files which differ never make a good file look wrong.
    """

    __slots__ = ("_index",)

    def __init__(self, allowed: Iterable[Allowed]) -> None:
        self._index: dict[tuple[Any, ...], set[Digest]] = {}
        for each in allowed:
            self._index.setdefault(_subject(each), set()).update(each.digests)

    def __len__(self) -> int:
        return len(self._index)

    def allowed(
        self,
        *,
        url: str = "",
        project: str | None = None,
        version: str | None = None,
        filename: str | None = None,
    ) -> frozenset[Digest]:
        """The digests of which a body must match one; empty when nothing is known.

        ``url`` is canonical.
        """
        for subject in (
            ("url", url),
            ("file", filename),
            ("version", project, version),
            ("version", project, None),
        ):
            found = self._index.get(subject)
            if found and all(subject[:2]):
                return frozenset(found)
        return frozenset()


def _subject(allowed: Allowed) -> tuple[Any, ...]:
    if allowed.url:
        return ("url", allowed.url)
    if allowed.filename:
        return ("file", allowed.filename)
    return ("version", allowed.project, allowed.version)
