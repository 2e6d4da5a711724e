"""Files of entries that have several names.

What the store took over from pip's cache by a hard link is a file of both.

The disk gets such a file's bytes back when the last of its names goes, and two caches that hold it
hold it once. Directories of unpacked files are not looked into: their tool has judged them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from entrepot.fs import disk_of
from entrepot.ports.tool import Entry, Kind

Inode = tuple[int, int]
"""Device and number."""


def linked_files(entry: Entry) -> Iterator[tuple[Inode, str, os.stat_result]]:
    """The plain files of an entry that have other names too, each with its path.

    Only looked for where the entry says so.
    """
    if entry.kind is Kind.UNPACKED or entry.freeable >= entry.disk:
        return
    for path in entry.paths:
        try:
            found = os.lstat(path)
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            yield (found.st_dev, found.st_ino), str(path), found


class LastNames:
    """Counts what the disk gets back of linked files while entries go one by one."""

    def __init__(self) -> None:
        self._gone: dict[Inode, set[str]] = {}

    def drop(self, entry: Entry) -> int:
        """Bytes of disk that this entry gives back because it has the last names of files that others had names of."""
        freed = 0
        for inode, path, found in linked_files(entry):
            names = self._gone.setdefault(inode, set())
            is_new = path not in names
            names.add(path)
            if is_new and len(names) == found.st_nlink:
                freed += disk_of(found)
        return freed


def counted_again(entries: Iterable[Entry]) -> int:
    """Bytes of disk that are in the sizes of several entries although they are on the disk once."""
    seen: dict[Inode, set[str]] = {}
    again = 0
    for entry in entries:
        for inode, path, found in linked_files(entry):
            names = seen.setdefault(inode, set())
            again += disk_of(found) if names and path not in names else 0
            names.add(path)
    return again
