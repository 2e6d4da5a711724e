"""What a lock file fixes: files at a URL (:class:`Link`), and digests of files without one.

:class:`Collector` makes either of the pieces that a lock file gives; all readers share it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from entrepot.digests import LENGTHS, Digest
from entrepot.errors import FormatError
from entrepot.links import Link
from entrepot.names import classify, filename_of
from entrepot.urls import Resolver, authority_of, spellings


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
    """What is allowed for a file: by its URL, else its name, else the version, else the project.

    Args:
        allowed: from any number of lock files. Statements about the same thing are added up, so
            that two lock files which differ never make a good file look wrong.
    """

    __slots__ = ("_index",)

    def __init__(self, allowed: Iterable[Allowed]) -> None:
        self._index: dict[tuple[Any, ...], set[Digest]] = {}
        for each in allowed:
            subject: tuple[Any, ...] = ("version", each.project, each.version)
            if each.url:
                subject = ("url", each.url)
            elif each.filename:
                subject = ("file", each.filename)
            self._index.setdefault(subject, set()).update(each.digests)

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


def digest_or_none(text: object) -> Digest | None:
    """``sha256:...`` or ``sha256=...``; a bare value (conda's) is md5 or sha256 by its length."""
    if not isinstance(text, str):
        return None
    if _BARE(text):
        text = f"{'md5' if len(text) == LENGTHS['md5'] else 'sha256'}:{text}"
    try:
        return Digest.parse(text)
    except FormatError:
        return None


_BARE = re.compile("[0-9a-fA-F]{32}|[0-9a-fA-F]{64}").fullmatch


_NO_BASE = "http://0.invalid/"


class Collector:
    """Gathers what the readers find in one file.

    Args:
        source: the file's path, kept in what is found.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._links: dict[str, Link] = {}
        self._allowed: list[Allowed] = []
        self._hosts: set[str] = set()
        self.includes: list[str] = []

    def host(self, url: object) -> None:
        """An index or channel is named."""
        if isinstance(url, str) and (authority := authority_of(url.strip())):
            self._hosts.add(authority)

    def file(
        self,
        *,
        url: str = "",
        base: str = "",
        filename: str = "",
        project: str | None = None,
        version: str | None = None,
        digests: Iterable[Digest] = (),
        size: object = None,
        upload_time: object = None,
    ) -> None:
        """One file with all its digests; without a URL it becomes a pin by file name."""
        known = tuple(digests)
        resolve = Resolver(base or _NO_BASE)
        target = resolve(url) if url and (base or "://" in url) else ""
        filename = filename_of(target) if target else filename
        name = classify(filename, project=project) if filename else None
        if not target:
            if known and filename:
                version = name.version if name else version
                self._allowed.append(
                    Allowed(known, project, version, filename, source=self._source)
                )
            return
        self._hosts.add(resolve.authority(target))
        if name:
            project, version = name.project, name.version
        for spelling in spellings(target):
            if spelling in self._links and not known:
                continue
            self._links[spelling] = Link(
                spelling,
                known,
                size if type(size) is int and 0 <= size < 1 << 63 else None,
                project,
                version,
                filename or None,
                name.kind if name else "other",
                upload_time if isinstance(upload_time, str) else None,
                self._source,
            )

    def any_of(
        self,
        digests: Iterable[Digest],
        *,
        project: str | None,
        version: str | None,
        url: str = "",
        binds: bool = False,
    ) -> None:
        """A requirement with several hashes, any of which may be met; ``binds``: or must."""
        if known := tuple(dict.fromkeys(digests)):
            resolve = Resolver(_NO_BASE)
            target = resolve(url) if url else ""
            if target:
                self._hosts.add(resolve.authority(target))
            for each in spellings(target) if target else [] if url else [""]:
                self._allowed.append(
                    Allowed(known, project, version, None, each, self._source, binds)
                )

    def known(self, problem: str = "") -> Known:
        """All that was found."""
        return Known(
            tuple(self._links.values()),
            tuple(self._allowed),
            frozenset(self._hosts),
            tuple(self.includes),
            problem,
        )
