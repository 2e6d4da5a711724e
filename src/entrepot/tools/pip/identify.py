"""What the bytes of a cached body are, and the exact name of a wheel or sdist out of them alone.

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
from entrepot.tools._shared.archives import (
    BROKEN_ZIP,
    decompressed,
    open_zip,
    tar_root,
    zip_member,
)
from entrepot.tools.pip.evidence import StoredPage, stored_page

PAGE_LIMIT = 64 << 20
"""Bytes of an index page after its content coding is removed."""

TARS = (
    (b"\x1f\x8b", "gzip", ".tar.gz"),
    (b"BZh", "bz2", ".tar.bz2"),
    (b"\xfd7zXZ", "xz", ".tar.xz"),
)
"""How compressed tars begin, the compression and the suffix."""


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
