"""What an entry of the HTTP cache is: by its metadata, its pages, or the bytes of its body alone.

The content type is never trusted. A wheel is named by its dist-info directory and the ``Tag`` lines
of ``WHEEL`` *in their order* (sorting them gives a wrong name for every sixth wheel); an sdist by
its top directory. Nothing is unpacked to disk.

Source: the wheel format (PEP 427, PEP 425 compressed tags), PEP 643, PEP 625.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from itertools import product
from typing import BinaryIO

from entrepot.names import classify, is_plain_filename, normalize
from entrepot.ports.tool import Kind
from entrepot.redaction import redacted_url
from entrepot.tools._shared.archives import (
    BROKEN_ZIP,
    decompressed,
    open_zip,
    tar_root,
    zip_member,
)
from entrepot.tools.pip.evidence import Proof, StoredPage, page_urls, proofs, stored_page
from entrepot.tools.pip.httpentry import (
    V2,
    Damage,
    Meta,
    entry_name,
    fresh_until,
    open_region,
    read_meta,
)
from entrepot.tools.pip.record import Record

PAGE_LIMIT = 64 << 20
"""Bytes of an index page after its content coding is removed."""

TARS = (
    (b"\x1f\x8b", "gzip", ".tar.gz"),
    (b"BZh", "bz2", ".tar.bz2"),
    (b"\xfd7zXZ", "xz", ".tar.xz"),
)
"""How compressed tars begin, the compression and the suffix."""
_REDIRECTS = (301, 302, 307, 308)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a body is by its content."""

    kind: Kind
    project: str = ""
    version: str = ""
    filename: str = ""
    tags: str = ""
    approximate: bool = False
    """The tags are no product of three sets, so the file name may have been another."""
    page: StoredPage | None = field(default=None, compare=False)


UNKNOWN = Identity(Kind.OTHER)


def identify(source: BinaryIO, coding: str = "") -> Identity:
    """Say what a body is.

    Args:
        source: seekable.
        coding: ``Content-Encoding``.
    """
    source.seek(0)
    try:
        if coding in ("gzip", "x-gzip", "deflate"):
            engine = "deflate" if coding == "deflate" else "gzip"
            source = io.BytesIO(decompressed(source, engine, PAGE_LIMIT).read())
        return _identify(source)
    except BROKEN_ZIP:
        return UNKNOWN


def _identify(source: BinaryIO) -> Identity:
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    start = source.read(512)
    if start.startswith(b"PK\x03\x04"):
        return _zip(source, size)
    for magic, engine, suffix in TARS:
        if start.startswith(magic):
            source.seek(0)
            root, info = tar_root(source, engine) or ("", None)
            return sdist(root, suffix, info)
    text = start.lstrip()
    if text.startswith(b"Metadata-Version:"):
        return core_metadata(start + source.read(1 << 16))
    if text[:1] in (b"{", b"<") and size <= PAGE_LIMIT:
        page = stored_page(start + source.read())
        return Identity(Kind.PAGE, project=page.project, page=page) if page else UNKNOWN
    return UNKNOWN


def _zip(source: BinaryIO, size: int) -> Identity:
    archive = open_zip(source, size)
    if archive is None:
        return UNKNOWN
    names = archive.namelist()
    wheels = [n for n in names if n.endswith(".dist-info/WHEEL") and n.count("/") == 1]
    if len(wheels) == 1:
        text = zip_member(archive, wheels[0])
        return wheel(wheels[0].removesuffix(".dist-info/WHEEL"), text) if text else UNKNOWN
    roots = {n.partition("/")[0] for n in names}
    if len(roots) != 1 or wheels:
        return UNKNOWN
    info = f"{min(roots)}/PKG-INFO"
    return sdist(min(roots), ".zip", zip_member(archive, info) if info in names else None)


def wheel(stem: str, text: bytes) -> Identity:
    r"""A wheel's name from its dist-info directory and the text of ``WHEEL``.

    >>> wheel("six-1.0", b"Tag: py2-none-any\nTag: py3-none-any\n").filename
    'six-1.0-py2.py3-none-any.whl'
    """
    tags, build = [], ""
    for line in text.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == "tag" and value.count("-") == 2:
            tags.append(value.strip())
        elif name.strip().lower() == "build":
            build = value.strip()
    if not tags or "/" in stem or "-" not in stem:
        return UNKNOWN
    parts = zip(*(each.split("-") for each in tags), strict=True)
    columns = [".".join(dict.fromkeys(column)) for column in parts]
    every = {"-".join(each) for each in product(*(column.split(".") for column in columns))}
    tag = "-".join(columns)
    filename = f"{stem}-{build}-{tag}.whl" if build else f"{stem}-{tag}.whl"
    named = classify(filename)
    project, version = (named.project, named.version) if named else ("", "")
    return Identity(Kind.WHEEL, project, version, filename, tag, approximate=every != set(tags))


def sdist(root: str, suffix: str, info: bytes | None) -> Identity:
    """An sdist's name from its top directory.

    Without ``PKG-INFO`` it is an archive of unknown make.
    """
    if not is_plain_filename(root):
        return UNKNOWN
    if info is None:
        return Identity(Kind.OTHER, filename=root + suffix)
    told = core_metadata(info)
    if not told.project:
        return UNKNOWN
    return Identity(Kind.SDIST, told.project, told.version, root + suffix)


def core_metadata(text: bytes) -> Identity:
    """Name and version of a core metadata file (PEP 566); the header's first ones count."""
    values: dict[str, str] = {}
    for line in text.decode("utf-8", "replace").splitlines():
        if not line.strip():
            break
        name, _, value = line.partition(":")
        values.setdefault(name.strip().lower(), value.strip())
    project, version = values.get("name", ""), values.get("version", "")
    if not project or "metadata-version" not in values:
        return UNKNOWN
    return Identity(Kind.METADATA, normalize(project), version)


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads entries of one cache and writes what they are into their records."""

    root: str
    bases: tuple[str, ...]
    """Index URLs to prove pages with, credentials included: they never leave this value."""
    names: frozenset[str]
    """The names of all entries of the cache."""

    def read_head(self, record: Record) -> list[Proof]:
        """Read an entry's metadata, and its body when that says it is a page.

        A page may prove others.
        """
        meta = self._meta(record)
        if meta is None:
            return []
        record.fresh_until, record.trust = fresh_until(meta.fields, meta.status), "unproven"
        project, version = (meta.fields.get(f"x-pypi-file-{w}") for w in ("project", "version"))
        if (
            project and version
        ):  # the default index's metadata files have them too: they say no kind
            record.project, record.version = normalize(project[:200]), version[:100]
        if meta.status in _REDIRECTS:
            self._redirect(record, meta)
        elif meta.says_page:
            return self._body(record, meta)
        return []

    def read_body(self, record: Record) -> list[Proof]:
        """Name an entry by its content."""
        meta = self._meta(record)
        if meta is None or meta.status in _REDIRECTS:
            return []
        return self._body(record, meta)

    def _meta(self, record: Record) -> Meta | None:
        try:
            meta = read_meta(self._path(record, 0), record.layout)
        except OSError as exc:
            record.problem = f"cannot be read: {exc.strerror}"
            return None
        if isinstance(meta, Damage):
            record.problem, record.trust = f"{meta.problem}: {meta.text}", "bad"
            return None
        return meta

    def _path(self, record: Record, number: int) -> str:
        return f"{self.root}/{record.folder}/{record.names.split('/')[number]}"

    def _redirect(self, record: Record, meta: Meta) -> None:
        """Where it leads; and its own address, when an index that is asked has such a page."""
        record.extra["status"], record.certainty = str(meta.status), "content"
        target = meta.fields.get("location", "").partition("#")[0]
        if not target:
            return
        record.extra["location"] = redacted_url(target)
        project = target.partition("?")[0].rstrip("/").rpartition("/")[2]
        for url in page_urls(project, self.bases):
            if project and entry_name(url) == record.name:
                record.project, record.certainty = normalize(project), "proven"
                record.origin = redacted_url(url)

    def _body(self, record: Record, meta: Meta) -> list[Proof]:
        path = self._path(record, -1 if record.layout == V2 else 0)
        try:
            with open_region(path, meta.body_offset, meta.body_size) as body:
                found = identify(body, meta.coding)
        except (OSError, ValueError) as exc:
            record.problem = f"body cannot be read: {exc}"
            return []
        record.kind = str(found.kind)
        if found.kind is Kind.OTHER and not found.filename:
            return []
        record.certainty = "content"
        record.project = found.project or record.project
        record.version = found.version or record.version
        record.filename, record.tags = found.filename, found.tags
        if found.approximate:
            record.extra["name"] = "approximate"
        if found.page is None:
            return []
        url = found.page.url(record.name, self.bases)
        if url is not None:
            record.certainty, record.origin = "proven", redacted_url(url)
        return list(proofs(found.page, url, self.names))
