"""pip's HTTP cache entries: their names, their bytes, and where the body lies.

Reads bounded amounts; a body is never loaded whole.

Two layouts share one key function. ``http-v2`` (pip 23.3 and later) keeps the metadata in ``NAME``
and the body in ``NAME.body``; ``http`` keeps both in one file, the body inside the msgpack map,
first. Both start with ``cc=4,``.

Source: pip's ``network/cache.py`` and CacheControl's ``serialize.py``; compared with caches written
by pip 20.3 to 26.3.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgpack

from entrepot.httpcache.messages import Headers
from entrepot.tools._shared.noatime import open_quietly

PREFIX = b"cc=4,"
NAME_LENGTH = 56
V2, V1 = "http-v2", "http"
LAYOUTS = (V2, V1)
HEAD_LIMIT = 4 << 20
"""Bytes of metadata that are read at most: a real head has a few kilobytes."""
_RESPONSE_KEYS = frozenset("body headers status version reason strict decode_content".split())


def entry_name(url: str) -> str:
    """The 56 digits under which pip keeps a URL's response.

    Scheme and authority in lower case, credentials and fragment dropped, an empty path is ``/``;
    nothing else is normalised.

    >>> entry_name("HTTPS://me:pw@Index.Test#x") == entry_name("https://index.test/")
    True
    """
    return hashlib.sha224(key_of(url)).hexdigest()


def key_of(url: str) -> bytes:
    """The bytes whose digest names a URL's entry."""
    rest = url.partition("#")[0]
    scheme, found, tail = rest.partition("://")
    if found:
        end = min((i for i in (tail.find("/"), tail.find("?")) if i >= 0), default=len(tail))
        authority, path = tail[:end].rpartition("@")[2].lower(), tail[end:]
        rest = f"{scheme.lower()}://{authority}{path if path.startswith('/') else '/' + path}"
    return rest.encode("utf-8", "surrogatepass")


def entry_folder(layout: str, name: str) -> str:
    """The directory of an entry below the cache's root: five levels of one digit."""
    return f"{layout}/{name[0]}/{name[1]}/{name[2]}/{name[3]}/{name[4]}"


def entry_path(root: Path, layout: str, name: str) -> Path:
    """Where an entry's metadata lies."""
    return root / entry_folder(layout, name) / name


@dataclass(frozen=True, slots=True)
class Meta:
    """What an entry says of its response."""

    top: dict[str, Any]
    """The whole map, for writing it back."""
    fields: dict[str, str]
    """The header by name in lower case, as pip looks into it: of two names that differ in case
    alone the last counts."""
    body_offset: int = 0
    """Of the body within the file that holds it: 0 in ``http-v2``."""
    body_size: int | None = None
    """Known from the metadata in the old layout only."""

    @property
    def headers(self) -> Headers:
        """The header as it was written."""
        return Headers(self.top["response"]["headers"])

    @property
    def status(self) -> int:
        """The status; 0 when it is no number."""
        value = self.top["response"].get("status")
        return value if isinstance(value, int) else 0

    @property
    def reason(self) -> str:
        """The words beside the status; ``None`` is what pip writes after a resumed download."""
        text = str(self.top["response"].get("reason"))
        return "" if text == "None" else text

    @property
    def length(self) -> int | None:
        """``Content-Length``; ``None`` when it is no number. Of an overlong one the beginning."""
        told = self.fields.get("content-length", "").strip()
        return int(told[:30]) if told.isdecimal() else None

    @property
    def coding(self) -> str:
        """The content coding, in lower case."""
        return self.fields.get("content-encoding", "").strip().lower()

    @property
    def says_page(self) -> bool:
        """Whether its content type may be an index page's."""
        said = self.fields.get("content-type", "").lower()
        return "html" in said or "simple.v1" in said

    @property
    def is_resumed(self) -> bool:
        """Whether pip stored it after a resumed download, without the request that it answers."""
        response = self.top["response"]
        return response.get("version") == 0 and str(response.get("reason")) == "None"

    @property
    def vary(self) -> dict[str, str | None]:
        """The request's values of the fields that ``Vary`` names."""
        return {str(k): None if v is None else str(v) for k, v in self.top.get("vary", {}).items()}


@dataclass(frozen=True, slots=True)
class Damage:
    """Why an entry cannot be read.

    ``crashes``: pip ends with a traceback; else it warns and downloads again.
    """

    problem: str
    text: str
    crashes: bool = False


class Region(io.RawIOBase):
    """Part of a file as a seekable stream of its own; closes the file."""

    def __init__(self, file: io.FileIO, offset: int, size: int) -> None:
        super().__init__()
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As :meth:`io.IOBase.seek`, within the region."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read what fits."""
        self._file.seek(self._offset + self._at)
        data = self._file.read(min(len(buffer), max(0, self._size - self._at))) or b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file too."""
        self._file.close()
        super().close()


def open_region(path: Path | str, offset: int = 0, size: int | None = None) -> io.BufferedReader:
    """A body as a stream; ``size`` of ``None`` means to the file's end.

    Raises:
        OSError: it cannot be opened.
    """
    file = _opened(path)
    whole = os.fstat(file.fileno()).st_size
    return io.BufferedReader(
        Region(file, offset, whole - offset if size is None else size), 1 << 16
    )


def read_meta(path: Path | str, layout: str) -> Meta | Damage:
    """The metadata of an entry.

    Raises:
        OSError: the file cannot be read.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if layout == V1:
            return _read_old(file, size)
        if size > HEAD_LIMIT:
            return Damage("unreadable-entry", f"its metadata has {size} bytes, no real one has")
        return decode(file.read(size + 1) or b"")


def _opened(path: Path | str) -> io.FileIO:
    number = open_quietly(path)
    try:
        return os.fdopen(number, "rb", buffering=0)
    except OSError:  # a directory
        os.close(number)
        raise


def _read_old(file: io.FileIO, size: int) -> Meta | Damage:
    """The old layout, with the body cut out of the bytes before they are decoded."""
    start = file.read(64) or b""
    offset, length = _inline_body(start)
    if length < 0:
        if size > HEAD_LIMIT:
            return Damage("unreadable-entry", "its body does not stand where pip puts it")
        file.seek(0)
        return decode(file.read(size + 1) or b"")
    if offset + length > size:
        return Damage("unreadable-entry", "it is cut off inside the body")
    file.seek(offset + length)
    tail = file.read(min(size, HEAD_LIMIT)) or b""
    found = decode(start[: start.index(b"body") + 4] + b"\xc4\x00" + tail)
    if isinstance(found, Damage):
        return found
    return Meta(found.top, found.fields, offset, length)


def _inline_body(start: bytes) -> tuple[int, int]:
    """Offset and length of the body in an old entry's first bytes.

    A length of -1 when it does not come first.
    """
    at = len(PREFIX)
    for word in (b"\xa8response", b"\xa4body"):
        if (
            len(start) <= at
            or not 0x80 <= start[at] <= 0x8F
            or start[at + 1 : at + 1 + len(word)] != word
        ):
            return 0, -1
        at += 1 + len(word)
    kinds = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
    form = kinds.get(start[at]) if len(start) > at else None
    if form is None or len(start) < at + 1 + struct.calcsize(form):
        return 0, -1
    return at + 1 + struct.calcsize(form), struct.unpack_from(form, start, at + 1)[0]


def decode(raw: bytes) -> Meta | Damage:
    """Metadata from its bytes, judged as pip's own reader would.

    An unknown key beside ``response`` or an unknown header does no harm; one *inside* ``response``
    makes pip crash.
    """
    if not raw.startswith(PREFIX):
        why = "it does not start with cc=4," if raw else "it is empty"
        return Damage("unreadable-entry", why)
    try:
        top = msgpack.unpackb(raw[len(PREFIX) :], raw=False, strict_map_key=False)
    # TypeError: a key that is a map
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as exc:
        why = f"its msgpack is broken: {str(exc) or type(exc).__name__}"
        return Damage("unreadable-entry", why)
    if not isinstance(top, dict):
        return Damage("crashes-pip", "its top value is no map", crashes=True)
    response = top.get("response")
    if not isinstance(response, dict):
        return Damage("unreadable-entry", "it has no response")
    if "body" not in response:
        return Damage("crashes-pip", "its response has no body", crashes=True)
    if unknown := sorted(str(key) for key in response if key not in _RESPONSE_KEYS):
        why = f"its response has the unknown key {unknown[0]!r}"
        return Damage("crashes-pip", why, crashes=True)
    headers = response.get("headers")
    if not isinstance(headers, dict) or not isinstance(top.get("vary", {}), dict):
        return Damage("crashes-pip", "its headers are no map", crashes=True)
    if not all(isinstance(text, str) for line in headers.items() for text in line):
        return Damage("crashes-pip", "a header is no text", crashes=True)
    return Meta(top, {name.lower(): value for name, value in headers.items()})


def encode(top: dict[str, Any]) -> bytes:
    """The bytes pip would write for this map; the order of keys is kept."""
    packed: bytes = msgpack.packb(top, use_bin_type=True)
    return PREFIX + packed


def fresh_until(fields: Mapping[str, str], status: int) -> float | None:
    """When pip stops taking a response for fresh, seconds since the epoch.

    Infinity for permanent redirects, ``None``: it never is.

    pip looks at ``max-age``, else at ``Expires``, counts from ``Date`` and knows nothing of ``Age``
    or ``no-cache``; directives are compared with regard to case and a quoted number is none.
    ``fields`` are named in lower case.
    """
    if status in (301, 308):
        return float("inf")
    date = http_time(fields.get("date"))
    if date is None:
        return None
    lifetime = _max_age(fields.get("cache-control", ""))
    if lifetime is not None:
        return date + lifetime
    expires = http_time(fields.get("expires"))
    return date if expires is None else max(date, expires)


def _max_age(text: str) -> int | None:
    """Seconds of ``max-age`` as pip reads it."""
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name == "max-age" and value.strip().isdecimal():  # not "²", which is no number to int
            return int(value.strip()[:12])
    return None


@lru_cache(maxsize=4096)
def http_time(text: str | None) -> float | None:
    """An HTTP date as seconds since the epoch; ``None`` for anything else."""
    try:
        parsed = parsedate_tz(text) if text else None
        return float(mktime_tz(parsed)) if parsed else None
    except (ValueError, OverflowError, TypeError):
        return None
