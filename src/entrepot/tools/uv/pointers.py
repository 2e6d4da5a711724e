"""What files in uv's cache say of themselves.

Read only, bounded, never moving a time of last use.

Pointer files lie beside the link to an unpacked archive. ``.http`` (from the network), ``.rev``
(from a local path), ``.msgpack`` (core metadata) and ``revision.http`` (an sdist) hold a
MessagePack value. What came over HTTP is followed by uv's cache policy (rkyv: the URL, validators,
times), and the file's last eight bytes are a length, little-endian: the policy's up to uv 0.8, the
value's in 0.13. ``.rkyv`` pages end the same way. ``.rev``, an sdist's ``metadata.msgpack`` and
interpreters have no policy.

An archive's value is ``[id]``, ``[id, hashes]`` (to 0.7), ``[id, hashes, wheel's file name, bucket
version]`` (0.8) and with the download's size as a fifth (0.13, hashes always filled); 0.12 writes
the same as a map. ``.rev`` puts ``[seconds, nanoseconds]`` before it.

Source: uv 0.2.37, 0.5.31, 0.8.24, 0.13.8 by experiment; ``crates/uv-client/src/cached_client.rs``
for the tail.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from entrepot.digests import Digest
from entrepot.errors import FormatError
from entrepot.names import normalize
from entrepot.redaction import redacted_url
from entrepot.tools._shared.disk_usage import listed
from entrepot.tools._shared.noatime import open_quietly

LIMIT_BYTES = 1 << 20
"""Of a pointer."""
TAIL_BYTES = 8
_URL = re.compile(rb"https?://[!-~]+")


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a pointer says; what it does not say is ``None`` or empty."""

    archive: str | None = None
    """The directory's name in ``archive-v0``."""
    filename: str | None = None
    digest: Digest | None = None
    origin: str = ""
    """URL it came from, redacted."""


def read_bytes(path: Path | str, limit: int = LIMIT_BYTES) -> bytes:
    """The beginning of a regular file.

    Raises:
        OSError: it cannot be read.
    """
    with os.fdopen(open_quietly(path), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))
        return file.read(limit)


def has_whole_tail(path: Path | str) -> bool:
    """Whether a file that should end in a policy does so.

    The length in its last eight bytes fits into it.

    Raises:
        OSError: it cannot be read.
    """
    with os.fdopen(open_quietly(path), "rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < TAIL_BYTES:
            return False
        file.seek(size - TAIL_BYTES)
        return _is_whole(file.read(TAIL_BYTES), size)


def _is_whole(tail: bytes, size: int) -> bool:
    return len(tail) == TAIL_BYTES and 0 < int.from_bytes(tail, "little") <= size - TAIL_BYTES


def read_pointer(path: Path | str) -> Pointer:
    """What a ``.http`` or ``.rev`` pointer says.

    Raises:
        FormatError: it is damaged: uv takes it for absent and fetches again.
        OSError: it cannot be read.
    """
    name = os.fspath(path)
    data = read_bytes(path)
    if name.endswith(".http") and not _is_whole(data[-TAIL_BYTES:], len(data)):
        raise FormatError("it is cut short", text=name)
    value = unpacked(data)
    if name.endswith(".rev") and isinstance(value, list) and len(value) == 2:
        value = value[1]
    if isinstance(value, Mapping):
        value = [value.get(key) for key in ("id", "hashes", "filename")]
    archive, hashes, filename = [*(value if isinstance(value, list) else ()), None, None, None][:3]
    if not isinstance(archive, str) or "/" in archive or archive in ("", ".", ".."):
        raise FormatError("it holds no archive", text=name)
    filename = filename if isinstance(filename, str) else None
    return Pointer(archive, filename, _digest(hashes), origin(data, filename))


def unpacked(data: bytes) -> Any:
    """The first MessagePack value of some bytes.

    Raises:
        FormatError: there is none, or it is too large.
    """
    import msgpack  # noqa: PLC0415  # late: `where` must not pay for it

    reader = msgpack.Unpacker(
        raw=False,
        strict_map_key=False,
        max_buffer_size=LIMIT_BYTES,
        max_array_len=10_000,
        max_map_len=10_000,
    )
    try:
        reader.feed(data)
        return next(reader)
    except Exception as exc:  # every kind of damage has its own class in there
        raise FormatError("it is no MessagePack") from exc


def _digest(hashes: Any) -> Digest | None:
    """The strongest of uv's forms ``[{"Sha256": hex}]`` and ``[["Sha256", hex]]``."""
    pairs: list[tuple[Any, Any]] = []
    for item in hashes if isinstance(hashes, list) else ():
        if isinstance(item, Mapping):
            pairs += item.items()
        elif isinstance(item, list) and len(item) == 2:
            pairs.append((item[0], item[1]))
    for algorithm, hexadecimal in sorted(pairs, key=lambda pair: str(pair[0]) != "Sha256"):
        try:
            return Digest(str(algorithm).lower(), str(hexadecimal).lower())
        except FormatError:
            continue
    return None


def origin(data: bytes, filename: str | None) -> str:
    """The URL in a pointer's policy, redacted.

    Strings stand there without a separator: what follows the file's name is cut off.

    >>> origin(b'aabhttp://index.test/a/b-1.0-py3-none-any.whl"etag"gzip', "b-1.0-py3-none-any.whl")
    'http://index.test/a/b-1.0-py3-none-any.whl'
    """
    if not filename:
        return ""
    for found in _URL.findall(data):
        text = found.decode("ascii")
        for spelling in dict.fromkeys((filename, quote(filename), quote(filename, safe="+!"))):
            head, mark, _ = text.partition("/" + spelling)
            if mark:
                return redacted_url(head + mark)
    return ""


def metadata_name(path: Path | str) -> tuple[str | None, str | None]:
    """Project and version out of an sdist's ``metadata.msgpack``, normalized.

    ``(None, None)`` when it cannot be told.
    """
    try:
        value = unpacked(read_bytes(path))
    except (OSError, FormatError):
        return None, None
    if isinstance(value, Mapping):
        value = [value.get("name"), value.get("version")]
    match value:
        case [str(name), str(version), *_]:
            return normalize(name), version
    return None, None


def dist_info(folder: str) -> str | None:
    """The one ``.dist-info`` directory of an unpacked wheel, by name; ``None`` without just one."""
    found = [item.name for item in listed(folder) if item.name.endswith(".dist-info")]
    return found[0] if len(found) == 1 else None


def shard_files(paths: Iterable[Path]) -> Iterator[os.DirEntry[str]]:
    """What lies in a source distribution's shard, and one directory deeper."""
    for path in paths:
        items = listed(path)
        yield from items
        for item in items:
            if item.is_dir(follow_symlinks=False):
                yield from listed(item.path)
