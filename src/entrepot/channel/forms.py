"""The files of a channel's subdir, by their names.

Which are indexes, in which form, and which of them go together.

Source: conda 26.7 and rattler 0.28 as they ask (their requests were recorded); CEP 16 for the
shards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urljoin

from entrepot.digests import Digest
from entrepot.stored import authority_of, canonical_url

SHARD_INDEX = "repodata_shards.msgpack.zst"
INDEXES = (
    SHARD_INDEX,
    *(
        f"{stem}.json{coding}"
        for stem in ("repodata", "current_repodata", "patched_repodata")
        for coding in ("", ".zst", ".bz2")
    ),
)
"""Every index file that a client is known to ask for; all of one subdir tell of one state of the
channel."""

_SHARD = re.compile(r"([0-9a-f]{64})\.msgpack\.zst").fullmatch


@dataclass(frozen=True, slots=True)
class IndexName:
    """An index file of a subdir."""

    directory: str
    """The canonical URL of its subdir, with a slash at its end."""
    name: str

    @property
    def url(self) -> str:
        """Its own."""
        return self.directory + self.name

    @property
    def codings(self) -> tuple[str, ...]:
        """How it is packed: by ``zst``, ``bz2`` or not at all."""
        suffix = self.name.rpartition(".")[2]
        return () if suffix == "json" else (suffix,)

    @property
    def lists_shards(self) -> bool:
        """Whether it names shards instead of archives."""
        return self.name == SHARD_INDEX

    def siblings(self) -> list[str]:
        """The URLs of the other forms of this subdir."""
        return [self.directory + name for name in INDEXES if name != self.name]


def index_name(url: str) -> IndexName | None:
    """Which index a URL is; ``None`` when it is none. A query makes it another resource.

    >>> index_name("https://channel.test/c/noarch/repodata.json.zst").codings
    ('zst',)
    """
    directory, name = split(canonical_url(url))
    return IndexName(directory, name) if name in INDEXES else None


def shard_digest(url: str) -> Digest | None:
    """What a shard's bytes must be: its name says it (CEP 16); ``None`` for any other file.

    >>> str(shard_digest("https://channel.test/c/noarch/shards/" + "ab" * 32 + ".msgpack.zst"))[:12]
    'sha256:ababa'
    """
    match = _SHARD(split(url)[1])
    return Digest("sha256", match[1]) if match else None


def tells_of_archives(url: str) -> bool:
    """Whether a URL is an index or a shard of a channel."""
    return index_name(url) is not None or shard_digest(url) is not None


def split(url: str) -> tuple[str, str]:
    """A URL's directory, with its slash, and its last segment, as written."""
    path = url.partition("?")[0]
    at = path.rfind("/") + 1
    return url[:at], url[at:]


def resolved(base: object, url: str) -> str:
    """The directory that a ``base_url`` means, with a slash at its end.

    The index's own where there is none.

    Args:
        base: as the index says it: absolute, relative to the index, or nothing that can be
            understood.
        url: the index's.

    Returns:
        A canonical URL; empty when what it says cannot be asked for over HTTP.

    >>> resolved("../pkgs", "https://channel.test/c/noarch/repodata.json")
    'https://channel.test/c/pkgs/'
    """
    own = split(canonical_url(url))[0]
    if base is None or base == "":
        return own
    if (
        not isinstance(base, str)
        or len(base) > _LONGEST
        or _UNSAFE(base)
        or "?" in base
        or "#" in base
    ):
        return ""
    try:
        joined = canonical_url(urljoin(own, base if base.endswith("/") else f"{base}/"))
    except ValueError:
        return ""
    return joined if authority_of(joined) else ""


_LONGEST = 2000
_UNSAFE = re.compile(r"[\x00-\x20\x7f\ud800-\udfff\\]").search
