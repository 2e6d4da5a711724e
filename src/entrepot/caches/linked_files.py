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


class Names:
    """The names that linked files have in some entries, and what goes while entries go one by one.

    Args:
        entries: all there are.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._names: dict[Inode, set[str]] = {}
        self._gone: dict[Inode, set[str]] = {}
        self.counted_again = 0
        """Bytes of disk in the sizes of several entries although they are on the disk once."""
        for entry in entries:
            for inode, path, found in linked_files(entry):
                names = self._names.setdefault(inode, set())
                self.counted_again += disk_of(found) if names and path not in names else 0
                names.add(path)

    def gone(self, entry: Entry) -> tuple[int, int]:
        """Bytes of disk of an entry's linked files that have no name now, and of those named still."""
        freed = held = 0
        for inode, _, found in linked_files(entry):
            gone = self._gone.get(inode, set())
            freed += disk_of(found) if len(gone) == found.st_nlink else 0
            held += disk_of(found) if self._names.get(inode, set()) - gone else 0
        return freed, held

    def drop(self, entry: Entry) -> tuple[int, int]:
        """Let an entry go.

        Returns:
            Bytes of disk that are freed because it has the last names of files that others had
            names of, and bytes of its size that the caches hold still, under other names.
        """
        freed = held = 0
        for inode, path, found in linked_files(entry):
            gone = self._gone.setdefault(inode, set())
            if path in gone:
                continue
            gone.add(path)
            freed += disk_of(found) if len(gone) == found.st_nlink else 0
            held += disk_of(found) if self._names.get(inode, set()) - gone else 0
        return freed, held
