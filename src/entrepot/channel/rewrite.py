"""Channel indexes rewritten so that no address in them leads past the cache.

Bytes in, bytes out; nothing is fetched.

Only the addresses are touched: ``info.base_url`` of repodata in any form, ``base_url`` and
``shards_base_url`` of the shard *index*. Every other byte stays as it came, records and unknown
keys too. A shard is never rewritten: it is named by the sha256 of its bytes, and holds no address.
Where an address leads instead is the caller's to say.

- In repodata ``base_url`` is dropped or absolute: conda reads anything else as the name of a
  channel, and asks a host of its own choice for it.
- In the shard index both keys stay, because rattler demands them; what lies beside the index or
  below it stays relative.

Source: CEP 15, CEP 16; conda 26.7 ``core/subdir_data.py``; py-rattler 0.28; conda-index 0.7.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from entrepot.channel.coding import LARGEST_WHOLE, unzstd, zstd
from entrepot.errors import InvalidRepodata
from entrepot.simple.urls import Resolver

if TYPE_CHECKING:
    import msgpack

Address = Callable[[str], str]
"""From a canonical upstream URL that ends with a slash to the one that clients shall use; empty:
none, use the default."""

BESIDE = "./"
"""The default in words: packages and shards lie where the index lies."""


def rewrite_repodata(body: bytes, *, url: str, address: Address) -> bytes:
    """``repodata.json`` or ``current_repodata.json`` with ``info.base_url`` led through the cache.

    Args:
        body: the JSON text, decompressed.
        url: where upstream has it.
        address: for packages that lie elsewhere; absolute or empty.

    Returns:
        The same object when there is nothing to change.

    Raises:
        InvalidRepodata: not one JSON object in UTF-8. Records are not looked at.
    """
    if not _STARTS(body) or not body[-_TAIL:].rstrip().endswith(b"}") or b"\0" in body:
        raise InvalidRepodata("repodata is a JSON object", text=repr(body[:40]))
    if b"base_url" not in body and _ESCAPED_LETTER(body) is None:
        return body  # nothing in it can have that name
    wheres = _Wheres(url, address)
    edits = [
        (span, _rewritten_info(body, span, wheres)) for key, span in _whole(body) if key == "info"
    ]
    return _spliced(body, [(span, new) for span, new in edits if new is not None])


def rewrite_repodata_zst(
    body: bytes, *, url: str, address: Address, limit: int = LARGEST_WHOLE
) -> bytes:
    """The same for ``repodata.json.zst``, compressed before and after.

    Raises:
        InvalidRepodata: see :func:`rewrite_repodata`; or damaged, or more than ``limit`` bytes.
    """
    plain = unzstd(body, limit=limit)
    rewritten = rewrite_repodata(plain, url=url, address=address)
    return body if rewritten is plain else zstd(rewritten)


def rewrite_shard_index(
    body: bytes, *, url: str, address: Address, limit: int = LARGEST_WHOLE
) -> bytes:
    """``repodata_shards.msgpack.zst`` with both base URLs led through the cache.

    The map of shards keeps its bytes.

    Args:
        body: as upstream sends it, compressed.
        url: where upstream has it; a shard without its base lies beside it.
        address: for shards and packages that lie elsewhere; what lies below the index's directory
            stays relative.
        limit: most bytes that it may have decompressed.

    Returns:
        The same object when there is nothing to change.

    Raises:
        InvalidRepodata: no shard index, damaged, or too large.
    """
    plain = unzstd(body, limit=limit)
    wheres = _Wheres(url, address)
    edits = [
        (span, _pack(new))
        for span, value in _packed_bases(plain)
        if (new := wheres.relative(value)) != value
    ]
    return zstd(_spliced(plain, edits)) if edits else body


def stand_in(url: str) -> bytes | None:
    """What is sent in place of upstream's 404: an empty ``noarch/repodata.json`` or ``.zst``.

    ``None`` for everything else.

    conda gives a channel up when its ``noarch/repodata.json`` is missing; every other 404 has a
    meaning that clients know. One for shards is remembered for days, so neither an index of them
    nor a 404 is made up.

    >>> stand_in("https://channel.test/lab/noarch/repodata.json")
    b'{"info":{"subdir":"noarch"},"packages":{},"packages.conda":{},"removed":[],"repodata_version":1}'
    """
    path = url.partition("#")[0].partition("?")[0]
    if path.endswith("/noarch/repodata.json"):
        return _EMPTY
    return _packed_empty() if path.endswith("/noarch/repodata.json.zst") else None


_EMPTY = b'{"info":{"subdir":"noarch"},"packages":{},"packages.conda":{},"removed":[],"repodata_version":1}'


@cache
def _packed_empty() -> bytes:
    return zstd(_EMPTY)


Span = tuple[int, int]


def _spliced(body: bytes, edits: Iterable[tuple[Span, bytes]]) -> bytes:
    """``body`` with some of its spans, in order, replaced; itself when there are none."""
    pieces, done = [], 0
    for (start, end), new in edits:
        pieces += [body[done:start], new]
        done = end
    return b"".join([*pieces, body[done:]]) if pieces else body


@dataclass(frozen=True, slots=True)
class _Wheres:
    """Where an index's addresses lead."""

    url: str
    address: Address

    def absolute(self, value: object) -> str | None:
        """What stands for a ``base_url`` in repodata; ``None``: it is dropped."""
        target = self._target(value)
        return self.address(target) or None if target and target != self._beside() else None

    def relative(self, value: object) -> str:
        """What stands for a base URL in the shard index."""
        if value == "":
            return ""
        target, beside = self._target(value), self._beside()
        if target.startswith(beside):
            return BESIDE + target[len(beside) :]
        return (target and self.address(target)) or BESIDE

    def _beside(self) -> str:
        return Resolver(self.url)(urljoin(self.url, "."))

    def _target(self, value: object) -> str:
        """The canonical URL with a slash at its end.

        Empty for what no client could use: no text, another scheme, a query.
        """
        if not isinstance(value, str) or "?" in value or "#" in value or len(value) > _LONGEST:
            return ""
        return Resolver(self.url)(value.rstrip("/") + "/" if value.strip() else BESIDE)


_LONGEST = 2000
"""Characters of a base URL; servers take no longer ones."""


# repodata: spans of its text, found without parsing the records


_TAIL = 64
_STARTS = re.compile(rb"[ \t\r\n]*\{").match
_ESCAPED_LETTER = re.compile(rb"\\u00[567]").search
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_A_STRING = re.compile(_STRING, re.DOTALL).match
_SCALAR = re.compile(rb'[^][{}",: \t\r\n]+').match
_SPACE = re.compile(rb"[ \t\r\n]*+").match
_FLAT = rb"\{[^][{}\"]*+(?:(?:%s|\[[^][{}\"]*+(?:%s[^][{}\"]*+)*+\])[^][{}\"]*+)*+\}" % (
    _STRING,
    _STRING,
)
_NEXT = re.compile(rb"%s|[][{}]|%s" % (_FLAT, _STRING), re.DOTALL).finditer
"""A whole record at once (an object with nothing but texts, numbers and lists of them in it), else
one bracket or text."""


def _whole(body: bytes) -> Iterator[tuple[object, Span]]:
    """Members of the one object that a text is."""
    end = yield from _members(body, _skip_space(body, 0))
    if _skip_space(body, end) != len(body):
        raise _broken(body, end)


def _members(body: bytes, position: int) -> Generator[tuple[object, Span], None, int]:
    """Keys of the object that starts at a position, each with its value's span.

    Where the object ends.
    """
    if body[position : position + 1] != b"{":
        raise _broken(body, position)
    position = _skip_space(body, position + 1)
    while body[position : position + 1] != b"}":
        named = _A_STRING(body, position)
        colon = _skip_space(body, named.end()) if named else position
        if named is None or body[colon : colon + 1] != b":":
            raise _broken(body, position)
        start = _skip_space(body, colon + 1)
        end = _end_of_value(body, start)
        yield _decoded(named[0], position), (start, end)
        position = _skip_space(body, end)
        if body[position : position + 1] == b",":
            position = _skip_space(body, position + 1)
            if body[position : position + 1] == b"}":
                raise _broken(body, position)
        elif body[position : position + 1] != b"}":
            raise _broken(body, position)
    return position + 1


def _end_of_value(body: bytes, start: int) -> int:
    if body[start : start + 1] in (b"{", b"["):
        depth = 0
        for found in _NEXT(body, start):
            first = found[0][:1]
            if first == b'"' or (first == b"{" and len(found[0]) > 1):
                if depth == 0:
                    return found.end()
                continue
            depth += 1 if first in b"{[" else -1
            if depth == 0:
                return found.end()
        raise _broken(body, start)
    scalar = _A_STRING(body, start) or _SCALAR(body, start)
    if scalar is None:
        raise _broken(body, start)
    return scalar.end()


def _skip_space(body: bytes, position: int) -> int:
    found = _SPACE(body, position)
    assert found is not None
    return found.end()


def _decoded(text: bytes, position: int) -> object:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise _broken(text, position) from exc


def _broken(body: bytes, position: int) -> InvalidRepodata:
    return InvalidRepodata(
        "repodata is not JSON", text=repr(body[position : position + 40]), position=position
    )


def _rewritten_info(body: bytes, span: Span, wheres: _Wheres) -> bytes | None:
    """The object ``info`` with another ``base_url``, or none.

    ``None`` when it has none, or is no object.
    """
    if body[span[0] : span[0] + 1] != b"{":
        return None
    members = list(_members(body, span[0]))
    if not any(key == "base_url" for key, _ in members):
        return None
    kept = []
    for key, (start, end) in members:
        value: bytes | None = body[start:end]
        if key == "base_url":
            told = wheres.absolute(_decoded_or_none(body[start:end]))
            value = None if told is None else json.dumps(told).encode()
        if value is not None:
            kept.append(json.dumps(key).encode() + b":" + value)
    return b"{" + b",".join(kept) + b"}"


def _decoded_or_none(value: bytes) -> object:
    try:
        return json.loads(value) if len(value) <= 6 * _LONGEST else None
    except (ValueError, RecursionError):
        return None


# The shard index: spans of its msgpack


_BASES = frozenset({"base_url", "shards_base_url"})
_MOST_ITEMS = 1 << 16
"""Of a key or a base URL, which are texts: a header that promises more would only fill memory."""
_LONGEST_TEXT = 1 << 20


def _packed_bases(plain: bytes) -> list[tuple[Span, object]]:
    """The span and value of each base URL in ``info``; everything else is only skipped over."""
    import msgpack  # noqa: PLC0415 - late: most runs see no channel

    reader = msgpack.Unpacker(
        max_buffer_size=len(plain) or 1,
        strict_map_key=False,
        max_array_len=_MOST_ITEMS,
        max_map_len=_MOST_ITEMS,
        max_str_len=_LONGEST_TEXT,
        max_bin_len=_LONGEST_TEXT,
        max_ext_len=_LONGEST_TEXT,
    )
    reader.feed(plain)
    found: list[tuple[Span, object]] = []
    try:
        for _ in _keys(reader, frozenset({"info"})):
            for start in _keys(reader, _BASES):
                value = reader.unpack()
                found.append(((start, reader.tell()), value))
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as exc:
        raise InvalidRepodata(
            f"not a shard index: {str(exc) or type(exc).__name__}", position=reader.tell()
        ) from exc
    if reader.tell() != len(plain):
        raise InvalidRepodata("something stands behind the shard index", position=reader.tell())
    return found


def _keys(reader: msgpack.Unpacker, wanted: frozenset[str]) -> Iterator[int]:
    """Where the values of wanted keys of the next map start: the reader stands there.

    Values of others are skipped.
    """
    for _ in range(reader.read_map_header()):
        key = reader.unpack()
        text = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
        if isinstance(text, str) and text in wanted:
            yield reader.tell()
        else:
            reader.skip()


def _pack(value: object) -> bytes:
    import msgpack  # noqa: PLC0415 - late: see above

    packed: bytes = msgpack.packb(value)
    return packed
