"""From the pieces a lock file gives of one file to a link or a pin; shared by all readers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from entrepot.digests import Digest
from entrepot.errors import FormatError
from entrepot.links import Link
from entrepot.lockfiles.pins import Allowed, Known
from entrepot.names import classify, filename_of
from entrepot.simple.urls import Resolver, spellings
from entrepot.stored import authority_of


def digest_or_none(text: object) -> Digest | None:
    """``sha256:...`` or ``sha256=...``.

    A bare value as conda writes it is md5 or sha256 by its length.
    """
    if not isinstance(text, str):
        return None
    if _MD5(text):
        text = f"md5:{text}"
    elif _SHA256(text):
        text = f"sha256:{text}"
    try:
        return Digest.parse(text)
    except FormatError:
        return None


_MD5 = re.compile("[0-9a-fA-F]{32}").fullmatch
_SHA256 = re.compile("[0-9a-fA-F]{64}").fullmatch


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
        resolve = Resolver(base or "http://0.invalid/")
        target = resolve(url) if url and (base or "://" in url) else ""
        filename = filename_of(target) if target else filename
        name = classify(filename, project=project) if filename else None
        if not target:
            if known and filename:
                self._allowed.append(
                    Allowed(
                        known,
                        project,
                        name.version if name else version,
                        filename,
                        source=self._source,
                    )
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
            for target in self._targets(url):
                self._allowed.append(
                    Allowed(known, project, version, None, target, self._source, binds)
                )

    def _targets(self, url: str) -> Iterator[str]:
        if not url:
            yield ""
            return
        resolve = Resolver("http://0.invalid/")
        if target := resolve(url):
            self._hosts.add(resolve.authority(target))
            yield from spellings(target)

    def known(self, problem: str = "") -> Known:
        """All that was found."""
        return Known(
            tuple(self._links.values()),
            tuple(self._allowed),
            frozenset(self._hosts),
            tuple(self.includes),
            problem,
        )
