"""What a cache's own pages, headers, addresses and origin files say of its entries.

An entry's key is the digest of its URL. So a page that names the URL proves the entry's name, and
its hashes tell what the body must be.

Source: index pages (PEP 503, 592, 658, 691, 714); ``Content-MD5``, ``Digest`` and ``Repr-Digest``
(RFC 9530), ``X-Checksum-*``; the default index's file addresses, which hold the blake2b-256 digest
of the file.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from entrepot.digests import Digest
from entrepot.errors import FormatError, InvalidPage
from entrepot.httpcache.messages import Headers
from entrepot.links import Link
from entrepot.names import classify
from entrepot.ports.tool import Kind
from entrepot.redaction import redacted_url
from entrepot.simple.page import Flaw, Page, read_page
from entrepot.tools.pip.httpentry import entry_name
from entrepot.tools.pip.record import Record

_ANYWHERE = "https://page.invalid"
"""Stands for the host of a page whose URL is not known (RFC 2606)."""
_FIELDS = {"sha-256": "sha256", "sha-512": "sha512", "sha": "sha1", "md5": "md5"}


@dataclass(frozen=True, slots=True)
class StoredPage:
    """An index page out of a cache; its URL is not known yet."""

    body: bytes
    read: Page
    """As it would be at :data:`_ANYWHERE`."""

    @property
    def project(self) -> str:
        """Normalized; empty when the page does not say."""
        return self.read.project or ""

    def url(self, name: str, bases: Iterable[str]) -> str | None:
        """The URL under which pip asked for it, if its entry has this name.

        ``None`` when it is of no likely index: ``bases``, then what the page's own links speak for.
        """
        links = [link.url for link in self.read.links[:50] if not link.url.startswith(_ANYWHERE)]
        hosts = sorted({"/".join(url.split("/")[:3]) + "/simple" for url in links})
        urls = page_urls(self.project, (*bases, *hosts)) if self.project else ()
        return next((url for url in urls if entry_name(url) == name), None)

    def links(self, url: str | None) -> list[Link]:
        """Its files; without its own URL only those whose links are absolute."""
        absolute = [link for link in self.read.links if not link.url.startswith(_ANYWHERE)]
        if url is None or len(absolute) == len(self.read.links):
            return absolute
        return read_page(self.body, content_type="", url=url).links


def stored_page(body: bytes) -> StoredPage | None:
    """An index page in its JSON or HTML form; ``None`` when the bytes are neither."""
    try:
        found = read_page(body, content_type="", url=f"{_ANYWHERE}/simple/project/")
    except InvalidPage:
        return None
    return None if found.flaw is Flaw.NO_INDEX else StoredPage(body, found)


def page_urls(project: str, bases: Iterable[str]) -> Iterator[str]:
    """Where pip would have asked for a project's page: each index, the normalized name, a slash."""
    for base in bases:
        yield f"{base.rstrip('/')}/{project}/"


@dataclass(frozen=True, slots=True)
class Proof:
    """What an entry is, by a page that names its URL or its digest."""

    name: str
    """The entry's 56 digits."""
    url: str
    """Empty when the digest alone was named."""
    filename: str
    project: str
    digests: tuple[Digest, ...] = ()
    """What the page says that its body must be."""

    def apply(self, record: Record) -> None:
        """Write it into the entry's record."""
        named = classify(self.filename, project=self.project or None)
        record.kind = named.kind if named else _kind(self.filename)
        record.filename, record.tags = self.filename, named.tags if named else ""
        record.project = named.project if named else self.project or record.project
        record.version = named.version if named else record.version
        if record.kind == Kind.METADATA:
            record.tags = ""
        record.origin = redacted_url(self.url)
        record.certainty = "proven" if self.url else "hash"
        record.extra.pop("name", None)


def _kind(filename: str) -> str:
    if filename.endswith(".metadata"):
        return str(Kind.METADATA)
    return str(Kind.WHEEL if filename.endswith(".whl") else Kind.OTHER)


def proofs(page: StoredPage, url: str | None, names: Collection[str]) -> Iterator[Proof]:
    """Entries that a page's links prove, and the ``.metadata`` siblings of its files.

    Args:
        page: the page.
        url: its own URL, for relative links; ``None``: it is not known.
        names: the names of the entries in the cache.
    """
    for link in page.links(url):
        if (name := entry_name(link.url)) in names:
            yield Proof(name, link.url, link.filename or "", page.project, link.digests)
        if link.kind != "metadata" and (name := entry_name(f"{link.url}.metadata")) in names:
            filename = f"{link.filename or ''}.metadata"
            yield Proof(name, f"{link.url}.metadata", filename, page.project)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a source says that an entry's body must be."""

    digest: Digest
    said_by: str
    """For people: ``the page of numpy``."""
    page: str = ""
    """The key of the page's entry, when a page said it."""


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
        if value and algorithm:
            return [Claim(Digest(algorithm, value), f"its header {field_name}")]
    return []


def address_of(digest: Digest, filename: str, host: str) -> str:
    """Where the default index keeps a file with this digest and name."""
    value = digest.value
    return f"https://{host}/packages/{value[:2]}/{value[2:4]}/{value[4:]}/{filename}"
