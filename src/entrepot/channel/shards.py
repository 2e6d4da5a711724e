"""Reading sharded repodata: the index that names a shard for each project, and one shard.

Both are msgpack, packed with zstd, and come from remote servers: whatever they hold, reading ends
in a value or in :class:`~entrepot.errors.InvalidRepodata`. No part is made into objects before its
bytes have been counted.

Source: CEP 16.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from entrepot.channel.coding import unpacked
from entrepot.channel.forms import resolved, split
from entrepot.channel.records import Record
from entrepot.channel.repodata import is_secret
from entrepot.digests import Digest
from entrepot.errors import InvalidRepodata
from entrepot.links import Link
from entrepot.names import is_plain_filename
from entrepot.stored import authority_of, canonical_url, has_secret

LARGEST = 64 << 20
"""Bytes an index or a shard may unpack to: several times the largest there are."""
LONGEST = 1 << 20
"""Bytes of one record, or of what an index says of itself."""
SHARD = "shard"
"""The ``source`` of what shards say of archives."""


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """What a shard index says."""

    url: str
    base: str
    """The directory of the archives, a canonical URL; empty when that cannot be understood."""
    shards_base: str
    """The directory of the shards."""
    shards: dict[str, bytes]
    """Project -> the sha256 of its shard."""
    secret: bool = False
    """Whether a base URL carries a credential: such an index is never stored."""

    @property
    def hosts(self) -> frozenset[str]:
        """``HOST:PORT`` of archives and shards."""
        return frozenset(filter(None, map(authority_of, (self.base, self.shards_base))))

    def links(self) -> Iterator[Link]:
        """A link for each shard.

        Its digest, and as ``source`` where its archives lie, unless that would tell a secret.
        """
        if not self.shards_base:
            return
        source = relative(self.base, self.shards_base)
        for project, sha256 in self.shards.items():
            value = sha256.hex()
            url = f"{self.shards_base}{value}.msgpack.zst"
            yield Link(url, (Digest("sha256", value),), project=project, kind="page", source=source)


def read_shard_index(
    pieces: Iterable[bytes], *, url: str, codings: Sequence[str] = ()
) -> ShardIndex:
    """A shard index, read from its packed bytes; ``codings`` as for repodata.

    Raises:
        InvalidRepodata: it is none, is damaged, cut off or too large.
    """
    info: dict[str, Any] = {}
    shards: dict[str, bytes] = {}
    known = False
    for keys, value in _members(_whole(pieces, codings), {"shards"}):
        if keys == ("info",) and isinstance(value, dict):
            info = value
        elif keys[0] == "shards":
            known = True
            if len(keys) > 1 and (sha256 := _sha256(value)):
                shards[keys[1]] = sha256
    if not known:
        raise InvalidRepodata("a shard index without shards")
    said = [info.get(name) for name in ("base_url", "shards_base_url")]
    base, shards_base = (resolved(each, url) for each in said)
    return ShardIndex(url, base, shards_base, shards, any(is_secret(each, url) for each in said))


def read_shard(pieces: Iterable[bytes], *, base: str, codings: Sequence[str] = ()) -> list[Link]:
    """The archives that a shard lists.

    Args:
        pieces: the shard as transferred.
        base: the directory of the archives, from the index that named the shard.
        codings: as for repodata.

    Raises:
        InvalidRepodata: it is none, is damaged, cut off or too large.
    """
    return [
        Record.of(value).link(base + keys[1], keys[1], source=SHARD)
        for keys, value in _members(_whole(pieces, codings), {"packages", "packages.conda"})
        if len(keys) > 1 and isinstance(value, dict) and is_plain_filename(keys[1])
    ]


def relative(directory: str, other: str) -> str:
    """A directory as seen from another, so that what both have in common, a token in the path above all, is not said.

    Empty when what is left would still tell a credential, or when there is no directory.

    >>> relative("https://c.test/t/tk/x/noarch/", "https://c.test/t/tk/x/noarch/shards/")
    '../'
    """
    if not directory:
        return ""
    here, there = urlsplit(other), urlsplit(directory)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        return "" if has_secret(directory) else directory
    mine, wanted = here.path.split("/")[:-1], there.path.split("/")[:-1]
    common = 0
    while common < min(len(mine), len(wanted)) and mine[common] == wanted[common]:
        common += 1
    rest = [".."] * (len(mine) - common) + wanted[common:]
    said = "/".join(rest) + "/" if rest else "./"
    return "" if has_secret(f"https://host/{said}") or _is_risky(wanted, common) else said


def _is_risky(wanted: list[str], common: int) -> bool:
    """Whether the part that differs is itself a token."""
    return common > 0 and wanted[common - 1] == "t" and common < len(wanted)


def base_of(link: Link) -> str:
    """The directory of the archives of a shard; empty when it is not known.

    Args:
        link: of the shard, as :meth:`ShardIndex.links` gives it.
    """
    return resolved(link.source, split(canonical_url(link.url))[0]) if link.source else ""


def _sha256(value: object) -> bytes:
    return Record.of({"sha256": value}).sha256


def _whole(pieces: Iterable[bytes], codings: Sequence[str]) -> bytes:
    return b"".join(unpacked(pieces, [*codings, "zst"], limit=LARGEST))


def _members(data: bytes, opened: set[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The members of a map by their keys.

    Those of the maps that are ``opened`` one by one, after the map itself (``None``).
    """
    import msgpack  # noqa: PLC0415 - late: most runs read no channel

    try:
        walk = _Walk(data)
        for key in walk.each_key():
            if key in opened and walk.is_map():
                yield (key,), None
                for name in walk.each_key():
                    yield (key, name), walk.value()
            elif key in opened:
                walk.skip()
            else:
                yield (key,), walk.value()
    except InvalidRepodata:
        raise
    except (
        ValueError,
        TypeError,
        RecursionError,
        OverflowError,
        LookupError,
        msgpack.UnpackException,
    ) as exc:
        raise InvalidRepodata(f"not sharded repodata: {exc}", text=repr(data[:40])) from exc


class _Walk:
    """Goes through msgpack without making anything of it but what is asked for."""

    def __init__(self, data: bytes) -> None:
        import msgpack  # noqa: PLC0415 - late: most runs read no channel

        self._data = data
        self._unpacker = msgpack.Unpacker(max_buffer_size=len(data) + 1)
        self._unpacker.feed(data)
        self._unpack = msgpack.unpackb

    def each_key(self) -> Iterator[str]:
        """The keys of the map that begins here.

        Whoever takes a key reads its value before the next.
        """
        for _ in range(self._unpacker.read_map_header()):
            key = self.value()
            if not isinstance(key, str):
                raise InvalidRepodata("a key that is no text")
            yield key

    def is_map(self) -> bool:
        """Whether a map begins here."""
        at = self._unpacker.tell()
        return at < len(self._data) and (
            self._data[at] & 0xF0 == 0x80 or self._data[at] in {0xDE, 0xDF}
        )

    def skip(self) -> bytes:
        """The bytes of the value that begins here."""
        start = self._unpacker.tell()
        self._unpacker.skip()
        return self._data[start : self._unpacker.tell()]

    def value(self) -> Any:
        """The value that begins here; one that is too long is nothing.

        It is gone through once before anything is made of it: no head then claims more than there
        is.
        """
        raw = self.skip()
        if len(raw) > LONGEST:
            return None
        return self._unpack(raw, strict_map_key=False)
