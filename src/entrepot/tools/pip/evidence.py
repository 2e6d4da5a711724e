"""Digests that a cache's own pages, headers, addresses and origin files give for its bodies, and the bodies' own digests.

Sources: index pages (PEP 503 fragments, PEP 691 hashes, PEP 714 metadata hashes), ``Content-MD5``,
``Digest`` and ``Repr-Digest`` (RFC 9530), ``X-Checksum-*``; the default index's file addresses,
which hold the blake2b-256 digest of the file; ``origin.json``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from entrepot.digests import Digest, Hasher
from entrepot.errors import FormatError
from entrepot.httpcache.messages import Headers

CHUNK = 1 << 18

_FIELDS = {"sha-256": "sha256", "sha-512": "sha512", "sha": "sha1", "md5": "md5"}


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody's word on what an entry's body must be."""

    digest: Digest
    said_by: str
    """For people: ``the page of numpy``."""
    page: str = ""
    """The key of the page's entry, when a page said it."""


@dataclass(slots=True)
class Evidence:
    """All claims of one cache, by the name of the entry they are about."""

    claims: dict[str, list[Claim]] = field(default_factory=dict)
    names_of: dict[str, tuple[str, str]] = field(default_factory=dict)
    """sha256 value -> (file name, project) as pages tell it."""

    def add(self, name: str, claim: Claim) -> None:
        """Note a claim about one entry."""
        known = self.claims.setdefault(name, [])
        if claim not in known:
            known.append(claim)

    def about(self, name: str) -> list[Claim]:
        """What is claimed about one entry, the strongest algorithms first."""
        return sorted(self.claims.get(name, ()), key=lambda c: not c.digest.is_strong)


def header_claims(headers: Headers) -> list[Claim]:
    """Digests in a response's own header.

    They vouch for the bytes as transferred only when no content coding is in force.
    """
    found: list[Claim] = []
    for algorithm in ("sha256", "sha1", "md5"):
        value = headers.get(f"X-Checksum-{algorithm}")
        found += _claim(algorithm, (value or "").strip().lower(), f"X-Checksum-{algorithm}")
    found += _claim("md5", _hex(headers.get("Content-MD5") or ""), "Content-MD5")
    for name in ("Repr-Digest", "Content-Digest", "Digest"):
        for part in (headers.get(name) or "").split(","):
            key, _, value = part.strip().partition("=")
            found += _claim(_FIELDS.get(key.lower(), ""), _hex(value.strip(":")), name)
    return found


def _hex(text: str) -> str:
    with suppress(binascii.Error, ValueError):
        return base64.b64decode(text, validate=True).hex() if text else ""
    return ""


def _claim(algorithm: str, value: str, field_name: str) -> list[Claim]:
    with suppress(FormatError):
        return (
            [Claim(Digest(algorithm, value), f"its header {field_name}")]
            if value and algorithm
            else []
        )
    return []


def address_of(digest: Digest, filename: str, host: str) -> str:
    """Where the default index keeps a file with this digest and name."""
    value = digest.value
    return f"https://{host}/packages/{value[:2]}/{value[2:4]}/{value[4:]}/{filename}"


def digests_of(source: BinaryIO, algorithms: Iterable[str]) -> Hasher:
    """All digests of a body, read in pieces.

    Raises:
        OSError: it cannot be read.
    """
    hasher = Hasher(algorithms)
    while data := source.read(CHUNK):
        hasher.feed(data)
    return hasher
