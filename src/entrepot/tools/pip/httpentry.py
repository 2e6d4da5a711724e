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
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import msgpack

from entrepot.httpcache.messages import Headers
from entrepot.tools._shared.noatime import open_quietly

PREFIX = b"cc=4,"
NAME_LENGTH = 56
V2, V1 = "http-v2", "http"
LAYOUTS = (V2, V1)
HEAD_LIMIT = 4 << 20
"""Bytes of metadata that are read at most: a real head has a few kilobytes."""

SMALL = 1 << 18
"""Bytes up to which a body is read whole to see what it is."""

_HEAD = 1 << 15
"""Bytes of metadata that are read at once; all of it, as a rule."""
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
    if _AS_IT_STANDS(url):
        return url.encode()
    rest = url.partition("#")[0]
    scheme, found, tail = rest.partition("://")
    if found:
        end = tail.find("/")
        if end < 0 or "?" in tail[:end]:
            end = tail.find("?")
        end = len(tail) if end < 0 else end
        authority, path = tail[:end].rpartition("@")[2].lower(), tail[end:]
        rest = f"{scheme.lower()}://{authority}{path if path.startswith('/') else '/' + path}"
    return rest.encode("utf-8", "surrogatepass")


_AS_IT_STANDS = re.compile(r"https?://[a-z0-9_.~:-]*/[A-Za-z0-9_.~/-]*").fullmatch
"""A URL that is its own key: most of them are."""


def entry_path(root: Path, layout: str, name: str) -> Path:
    """Where an entry's metadata lies: five levels of one digit, then the whole name."""
    return root / layout / name[0] / name[1] / name[2] / name[3] / name[4] / name


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
        return _number(self.top["response"].get("status"))

    @property
    def version(self) -> int:
        """Of HTTP: 11 for HTTP/1.1; 0 when it is no number."""
        return _number(self.top["response"].get("version"))

    @property
    def reason(self) -> str:
        """The words beside the status."""
        return str(self.top["response"].get("reason"))

    @property
    def vary(self) -> dict[str, str | None]:
        """The request's values of the fields that ``Vary`` names."""
        return {str(k): None if v is None else str(v) for k, v in self.top.get("vary", {}).items()}


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


@dataclass(frozen=True, slots=True)
class Damage:
    """Why an entry cannot be read.

    ``crashes``: pip ends with a traceback; else it warns and downloads again.
    """

    problem: str
    text: str
    crashes: bool = False


class Region(io.RawIOBase):
    """Part of a file as a seekable stream of its own; closes the descriptor."""

    def __init__(self, number: int, offset: int, size: int) -> None:
        super().__init__()
        self._number = number
        self._offset = offset
        self._size = size
        self._at = 0

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

    def tell(self) -> int:
        """Bytes from the region's start."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read what fits."""
        want = min(len(buffer), max(0, self._size - self._at))
        if hasattr(os, "preadv"):
            count = os.preadv(self._number, [memoryview(buffer)[:want]], self._offset + self._at)
        else:
            os.lseek(self._number, self._offset + self._at, os.SEEK_SET)
            data = os.read(self._number, want)
            count = len(data)
            buffer[:count] = data
        self._at += count
        return count

    def close(self) -> None:
        """Close the descriptor too."""
        if not self.closed:
            os.close(self._number)
        super().close()


def open_region(path: Path | str, offset: int = 0, size: int | None = None) -> io.BufferedReader:
    """A body as a stream; ``size`` of ``None`` means to the file's end.

    Raises:
        OSError: it cannot be opened.
    """
    number = open_quietly(path)
    whole = os.fstat(number).st_size
    return io.BufferedReader(
        Region(number, offset, whole - offset if size is None else size), 1 << 16
    )


def open_body(path: Path | str, offset: int = 0, size: int | None = None) -> BinaryIO:
    """As :func:`open_region`, but a small body is read at once.

    One call to the system in place of four.

    Raises:
        OSError: it cannot be opened.
    """
    number = open_quietly(path)
    whole = os.fstat(number).st_size
    length = whole - offset if size is None else size
    if length > SMALL or not hasattr(os, "pread"):
        return io.BufferedReader(Region(number, offset, length), 1 << 16)
    try:
        return io.BytesIO(os.pread(number, length, offset))
    finally:
        os.close(number)


def read_meta(path: Path | str, layout: str) -> Meta | Damage:
    """The metadata of an entry.

    Raises:
        OSError: the file cannot be read.
    """
    number = open_quietly(path)
    try:
        if layout == V2:
            data = os.read(number, _HEAD)
            if len(data) < _HEAD:
                return decode(data)
            os.lseek(number, 0, os.SEEK_SET)
        size = os.fstat(number).st_size
        if layout != V2:
            return _read_old(number, size)
        if size > HEAD_LIMIT:
            return Damage("unreadable-entry", f"its metadata has {size} bytes, no real one has")
        return decode(
            os.read(number, size + 1)
        )  # never the limit: so large a buffer costs more than the reading
    finally:
        os.close(number)


def _read_old(number: int, size: int) -> Meta | Damage:
    """The old layout, with the body cut out of the bytes before they are decoded."""
    start = os.read(number, 64)
    offset, length = _inline_body(start)
    if length < 0:
        if size > HEAD_LIMIT:
            return Damage("unreadable-entry", "its body does not stand where pip puts it")
        os.lseek(number, 0, os.SEEK_SET)
        return decode(os.read(number, size + 1))
    if offset + length > size:
        return Damage("unreadable-entry", "it is cut off inside the body")
    os.lseek(number, offset + length, os.SEEK_SET)
    tail = os.read(number, min(size, HEAD_LIMIT))
    key_end = start.index(b"body") + 4
    found = decode(start[:key_end] + b"\xc4\x00" + tail)
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
        return Damage(
            "unreadable-entry", "it is empty" if not raw else "it does not start with cc=4,"
        )
    try:
        top = msgpack.unpackb(raw[len(PREFIX) :], raw=False, strict_map_key=False)
    except (
        ValueError,
        TypeError,
        msgpack.UnpackException,
        RecursionError,
    ) as exc:  # TypeError: a key that is a map
        return Damage(
            "unreadable-entry", f"its msgpack is broken: {str(exc) or type(exc).__name__}"
        )
    return _judge(top)


def _judge(top: Any) -> Meta | Damage:
    if not isinstance(top, dict):
        return Damage("crashes-pip", "its top value is no map", crashes=True)
    response = top.get("response")
    if not isinstance(response, dict):
        return Damage("unreadable-entry", "it has no response")
    if "body" not in response:
        return Damage("crashes-pip", "its response has no body", crashes=True)
    if not response.keys() <= _RESPONSE_KEYS:
        unknown = sorted(str(key) for key in response if key not in _RESPONSE_KEYS)
        return Damage(
            "crashes-pip", f"its response has the unknown key {unknown[0]!r}", crashes=True
        )
    headers, vary = response.get("headers"), top.get("vary", {})
    if not isinstance(headers, dict) or not isinstance(vary, dict):
        return Damage("crashes-pip", "its headers are no map", crashes=True)
    try:
        "".join(headers)  # quicker than to look at each
        "".join(headers.values())
    except TypeError:
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


@lru_cache(maxsize=1024)
def _max_age(text: str) -> int | None:
    """Seconds of ``max-age`` as pip reads it; a cache has few different lines of the kind."""
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name == "max-age" and value.strip().isdigit():
            return int(value.strip()[:12])
    return None


_FIXED_DATE = re.compile(
    r"[A-Z][a-z]{2}, (\d{2} [A-Z][a-z]{2} \d{4}) ([01]\d|2[0-3]):([0-5]\d):([0-5]\d) GMT", re.ASCII
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(maxsize=4096)
def _day(text: str) -> float | None:
    """Seconds since the epoch of the midnight of ``06 Nov 1994``.

    ``None`` when there is no such day.
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    try:
        return datetime(
            int(text[7:]), _MONTHS.index(text[3:6]) + 1, int(text[:2]), tzinfo=UTC
        ).timestamp()
    except ValueError:
        return None


def http_time(text: str | None) -> float | None:
    """An HTTP date as seconds since the epoch; ``None`` for anything else."""
    found = _FIXED_DATE.fullmatch(text) if text else None
    if found:
        midnight, hours, minutes, seconds = found.groups()
        if (day := _day(midnight)) is not None:
            return day + int(hours) * 3600.0 + int(minutes) * 60 + int(seconds)
    # -- 13 ms that `where` and `status` can do without
    from email.utils import mktime_tz, parsedate_tz  # noqa: PLC0415

    try:
        parsed = parsedate_tz(text) if text else None
        return float(mktime_tz(parsed)) if parsed else None
    except (ValueError, OverflowError, TypeError):
        return None
