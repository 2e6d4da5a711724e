"""What the bytes of a cached body are.

The exact file name of a wheel or sdist, out of its content alone.

The content type is never trusted.

A wheel is named by its dist-info directory and the ``Tag`` lines of ``WHEEL`` *in their order*
(sorting them gives a wrong name for every sixth wheel); an sdist by its top directory. Nothing is
unpacked to disk.

Source: the wheel format (PEP 427, PEP 425 compressed tags), PEP 643, PEP 625.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from entrepot.ports.tool import Kind
from entrepot.tools.pip.archives import (
    BROKEN,
    BROKEN_ZIP,
    decompressed,
    local_member,
    open_zip,
    tar_root,
    wheel_members,
    zip_member,
)
from entrepot.tools.pip.pages import CachedPage, read_page

PAGE_LIMIT = 64 << 20
"""Bytes of an index page after its content coding is removed."""

_TARS = (
    (b"\x1f\x8b", "gzip", ".tar.gz"),
    (b"BZh", "bz2", ".tar.bz2"),
    (b"\xfd7zXZ", "xz", ".tar.xz"),
)


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
    page: CachedPage | None = field(default=None, compare=False)


UNKNOWN = Identity(Kind.OTHER)


def identify(source: BinaryIO, size: int, coding: str = "") -> Identity:
    """Say what a body is.

    Args:
        source: seekable, at its start.
        size: its bytes.
        coding: ``Content-Encoding``.
    """
    try:
        if coding in ("gzip", "x-gzip", "deflate"):
            data = decompressed(
                source, "deflate" if coding == "deflate" else "gzip", PAGE_LIMIT
            ).read()
            return _identify(io.BytesIO(data), len(data))
        return _identify(source, size)
    except BROKEN_ZIP:
        return UNKNOWN


def _identify(source: BinaryIO, size: int) -> Identity:
    start = source.read(512)
    if start.startswith(b"PK\x03\x04"):
        return _zip(source, size)
    for magic, kind, suffix in _TARS:
        if start.startswith(magic):
            source.seek(0)
            return _tar(source, kind, suffix)
    text = start.lstrip()
    if text.startswith(b"Metadata-Version:"):
        return core_metadata(start + source.read(1 << 16))
    if text[:1] in (b"{", b"<") and size <= PAGE_LIMIT:
        page = read_page(start + source.read())
        return Identity(Kind.PAGE, project=page.project, page=page) if page else UNKNOWN
    return UNKNOWN


def _zip(source: BinaryIO, size: int) -> Identity:
    members = wheel_members(source, size)
    if members is not None and len(members) == 1:
        stem, offset = members[0]
        text = local_member(source, offset)
        if text is not None and b"Tag:" in text:
            return wheel(stem, text)
    archive = open_zip(source, size)
    if archive is None:
        return UNKNOWN
    names = archive.namelist()
    wheels = [n for n in names if n.endswith(".dist-info/WHEEL") and n.count("/") == 1]
    if len(wheels) == 1:
        text = zip_member(archive, wheels[0])
        return (
            wheel(wheels[0].removesuffix(".dist-info/WHEEL"), text) if text is not None else UNKNOWN
        )
    roots = {n.partition("/")[0] for n in names}
    if len(roots) != 1 or wheels:
        return UNKNOWN
    root = roots.pop()
    return sdist(
        root,
        ".zip",
        zip_member(archive, f"{root}/PKG-INFO") if f"{root}/PKG-INFO" in names else None,
    )


def _tar(source: BinaryIO, kind: str, suffix: str) -> Identity:
    try:
        found = tar_root(source, kind)
    except BROKEN:
        return UNKNOWN
    return sdist(found[0], suffix, found[1]) if found else UNKNOWN


def _distinct(values: list[str]) -> str:
    return ".".join(dict.fromkeys(values))


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
    parts = [tag.split("-") for tag in tags]
    if not parts or "/" in stem or stem.count("-") < 1:
        return UNKNOWN
    columns = [_distinct([p[i] for p in parts]) for i in range(3)]
    product = {
        f"{a}-{b}-{c}"
        for a in columns[0].split(".")
        for b in columns[1].split(".")
        for c in columns[2].split(".")
    }
    tag = "-".join(columns)
    filename = f"{stem}-{build}-{tag}.whl" if build else f"{stem}-{tag}.whl"
    project, version = named(filename)
    return Identity(Kind.WHEEL, project, version, filename, tag, approximate=product != set(tags))


def sdist(root: str, suffix: str, info: bytes | None) -> Identity:
    """An sdist's name from its top directory.

    Without ``PKG-INFO`` it is an archive of unknown make.
    """
    if info is None:
        return Identity(Kind.OTHER, filename=root + suffix) if _is_plain(root) else UNKNOWN
    told = core_metadata(info)
    if not told.project or not _is_plain(root):
        return UNKNOWN
    return Identity(Kind.SDIST, told.project, told.version, root + suffix)


def _is_plain(name: str) -> bool:
    return (
        bool(name)
        and not re.search(r"[/\\\x00-\x1f]", name)
        and name not in (".", "..")
        and len(name) <= 255
    )


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
    return Identity(Kind.METADATA, canonicalize_name(project), version)


def named(filename: str) -> tuple[str, str]:
    """Normalized project and version of a distribution's file name; empty when it is none."""
    plain = _PLAIN_NAME.fullmatch(filename)
    if plain:  # as `packaging` would say, in a tenth of the time
        return re.sub(r"[-_.]+", "-", plain[1]).lower(), plain[2]
    try:
        if filename.endswith(".whl"):
            project, version, _, _ = parse_wheel_filename(filename)
            return project, str(version)
        project, version = parse_sdist_filename(filename)
    except (InvalidSdistFilename, InvalidWheelFilename, ValueError):
        return _roughly(filename)
    return project, str(version)


_PLAIN_NAME = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9_.]*[A-Za-z0-9])?)-((?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))*)"
    r"(?:(?:-\d[A-Za-z0-9_]*)?-[a-z0-9.]+-[a-z0-9._]+-[a-z0-9._]+\.whl|\.tar\.gz|\.zip)",
    re.ASCII,
)
"""Names of wheels and sdists whose version is numbers and dots alone."""


def _roughly(filename: str) -> tuple[str, str]:
    """Names from before the rules: the version starts at the first dash before a digit."""
    stem = re.sub(r"\.(whl|zip|egg|tar\.(gz|bz2|xz|Z)|tgz|tar)$", "", filename)
    found = re.match(r"(.+?)-(\d[^-]*)", stem)
    return (canonicalize_name(found[1]), found[2]) if found else ("", "")


@lru_cache(maxsize=1 << 12)  # a wheel and its metadata come one after the other
def told_by(filename: str) -> tuple[str, str, str, str]:
    """What the file name of a distribution says.

    Normalized project, version, kind by the suffix, a wheel's tags.
    """
    project, version = named(filename)
    if filename.endswith(".whl"):
        parts = filename.removesuffix(".whl").split("-")
        return project, version, str(Kind.WHEEL), "-".join(parts[-3:]) if len(parts) > 4 else ""
    return project, version, str(Kind.SDIST if _SDIST.search(filename) else Kind.OTHER), ""


_SDIST = re.compile(r"\.(zip|tgz|tar|tar\.(gz|bz2|xz|Z))$")
