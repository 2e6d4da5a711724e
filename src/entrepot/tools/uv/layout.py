"""uv's buckets: the directories right below its cache, by family and version. No I/O.

A bucket is called ``FAMILY-vNUMBER``; uv raises the number when it changes what lies in it, starts
a new one and leaves the old one behind until ``uv cache prune``. Seen in the source and in real
caches:

    uv      archive  wheels  sdists              simple  flat-index  interpreter  environments
    0.2.37  0        1       built-wheels 3      12      0           2            1
    0.5.31  0        3       7                   15      2           4            1
    0.8.24  0        5       9                   18      2           4            2
    0.12.5  0        6       9                   24      4           4            2
    0.13.8  0        7       10                  27      7           5            2
    0.13.9  0        8       11                  28      7           5            2

``builds-v0`` and ``git-v0`` never changed; ``python-v0`` and ``binaries-v0`` came before 0.8.24,
``osv-v0`` before 0.12.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

NEWEST = {
    "archive": 0,
    "binaries": 0,
    "builds": 0,
    "built-wheels": 4,
    "environments": 2,
    "flat-index": 7,
    "git": 0,
    "interpreter": 5,
    "osv": 0,
    "python": 0,
    "sdists": 11,
    "simple": 28,
    "wheel-metadata": 0,
    "wheels": 8,
}
"""The highest number of each family whose layout is known (uv 0.13.9)."""
FOLLOWED_BY = {"built-wheels": "sdists", "wheel-metadata": "wheels"}
"""Families that another one took the place of."""
POINTING = frozenset({"wheels", "sdists", "built-wheels", "environments"})
"""Families whose links keep archives alive."""
MARKS = frozenset({"CACHEDIR.TAG", ".gitignore", ".git", ".lock"})
"""Files that uv writes to mark its directories; they belong to no entry and stay."""
TRASH = ".entrepot-trash-"
"""How directories on their way out are called. ``uv cache prune`` takes them too, as it does all
that it does not know."""
TEMPORARY = ".tmp"
"""How uv's temporary directories begin."""

_NAME = re.compile(r"([a-z][a-z-]*)-v(\d{1,5})")


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket by its name."""

    name: str
    family: str
    version: int

    @property
    def is_known(self) -> bool:
        """Whether its layout is one that was looked at; of what is newer only the size is told."""
        return self.version <= NEWEST.get(self.family, -1)


def bucket_of(name: str) -> Bucket | None:
    """The bucket of this name; ``None`` when it is not called like one.

    >>> bucket_of("flat-index-v7").family, bucket_of("flat-index-v8").is_known, bucket_of("notes")
    ('flat-index', False, None)
    """
    found = _NAME.fullmatch(name)
    return Bucket(name, found[1], int(found[2])) if found else None


def superseded(buckets: Iterable[Bucket]) -> frozenset[str]:
    """Names of the buckets that a newer one stands beside.

    What every uv that wrote the newer one has left behind.

    >>> sorted(superseded(map(bucket_of, ["wheels-v5", "wheels-v7", "built-wheels-v3", "sdists-v7", "simple-v18"])))
    ['built-wheels-v3', 'wheels-v5']
    """
    every = list(buckets)
    newest: dict[str, int] = {}
    for bucket in every:
        newest[bucket.family] = max(newest.get(bucket.family, -1), bucket.version)
    return frozenset(
        bucket.name
        for bucket in every
        if bucket.family in NEWEST
        and (bucket.version < newest[bucket.family] or FOLLOWED_BY.get(bucket.family) in newest)
    )
