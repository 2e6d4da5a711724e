"""What trees of files take of the disk, what removing them frees, and what else links to them.

Reads names and inodes, no file's content. A hard link shows by its count alone: a file is used
elsewhere when it has more links than are found inside all known caches.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from entrepot.fs import disk_of
from entrepot.ports.tool import Progress

Inode = tuple[int, int]
"""Device and number."""


@dataclass(slots=True)
class Linked:
    """An inode with more than one link, as one tree sees it."""

    disk: int
    """Bytes of disk."""
    links: int
    """As the file system counts them, wherever they lie."""
    here: int = 0
    """How many of them lie in this tree."""


@dataclass(slots=True)
class Tree:
    """What some files and directories take; fed by :meth:`add` and :func:`measure`."""

    files: int = 0
    size: int = 0
    """Bytes of content of the files."""
    own: int = 0
    """Bytes of disk of all that has a single link, and of directories."""
    written: float = 0.0
    """Latest modification of a plain file (mtime); seconds since the epoch."""
    read: float = 0.0
    """Latest reading of a plain file (atime)."""
    changed: float = 0.0
    """Latest change of anything in the tree (ctime, mtime)."""
    linked: dict[Inode, Linked] = field(default_factory=dict)
    symlinks: list[tuple[str, str]] = field(default_factory=list)
    """Path and target, as written."""
    unread: list[str] = field(default_factory=list)
    """What could not be looked at, with the reason: it may hold more of all this."""

    @property
    def disk(self) -> int:
        """Bytes of disk, directories included, each inode once."""
        return self.own + sum(each.disk for each in self.linked.values())

    @property
    def freeable(self) -> int:
        """Bytes of disk that removing all of it gives back: inodes all of whose links lie in it."""
        return self.own + sum(each.disk for each in self.linked.values() if each.here >= each.links)

    @property
    def links(self) -> int:
        """Links of all its files, wherever they lie: it grows when something links to the tree."""
        return self.files + sum(each.links - each.here for each in self.linked.values())

    @property
    def used(self) -> tuple[float, Literal["atime", "mtime"]]:
        """The last use and how it is known."""
        return (self.read, "atime") if self.read > self.written else (self.written, "mtime")

    def add(self, path: str, info: os.stat_result) -> None:
        """Count one file, directory or symbolic link; a directory's content not."""
        newest = max(info.st_mtime, info.st_ctime)
        self.changed = max(self.changed, newest)
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFDIR:
            self.own += disk_of(info)
            return
        self.files += 1
        self.size += info.st_size
        if kind == stat.S_IFLNK:
            with suppress(OSError):
                self.symlinks.append((path, os.readlink(path)))
        else:
            self.written = max(self.written, info.st_mtime)
            self.read = max(self.read, info.st_atime)
        if info.st_nlink <= 1:
            self.own += disk_of(info)
            return
        key = (info.st_dev, info.st_ino)
        linked = self.linked.get(key)
        if linked is None:
            linked = self.linked[key] = Linked(disk_of(info), info.st_nlink)
        linked.here += 1

    def merge(self, other: Tree) -> None:
        """Take another tree's figures in."""
        self.files += other.files
        self.size += other.size
        self.own += other.own
        self.written = max(self.written, other.written)
        self.read = max(self.read, other.read)
        self.changed = max(self.changed, other.changed)
        self.symlinks += other.symlinks
        self.unread += other.unread
        for key, theirs in other.linked.items():
            mine = self.linked.setdefault(key, Linked(theirs.disk, theirs.links))
            mine.here += theirs.here


def measure(path: str) -> Tree:
    """All that lies at a path; what goes meanwhile is left out, what cannot be read is noted.

    Symbolic links are not followed.
    """
    tree = Tree()
    try:
        info = os.lstat(path)
    except OSError:
        return tree
    tree.add(path, info)
    waiting = [path] if stat.S_ISDIR(info.st_mode) else []
    while waiting:
        for item in _items(waiting.pop(), tree.unread):
            try:
                info = item.stat(follow_symlinks=False)
            except OSError:
                continue
            tree.add(item.path, info)
            if stat.S_ISDIR(info.st_mode):
                waiting.append(item.path)
    return tree


def listed(folder: str | Path, unread: list[str] | None = None) -> list[os.DirEntry[str]]:
    """A directory's names in order; empty when it is absent or cannot be read.

    Args:
        folder: the directory.
        unread: gets it with the reason when it is there and cannot be read.
    """
    return sorted(_items(folder, unread), key=lambda item: item.name)


def _items(folder: str | Path, unread: list[str] | None) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return list(items)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        if unread is not None:
            unread.append(f"{folder} cannot be read: {exc.strerror}")
        return []


class KnownLinks:
    """How many links of each inode lie inside the known caches; each file is counted once.

    A link too many would make a package that is in use look unused; a link too few only keeps one.
    A folder that two tools see under two names is one cache.

    Args:
        caches: every known cache, a folder with packages side by side; those that are not asked
            for are measured when a question needs them.
    """

    def __init__(self, caches: Iterable[Path]) -> None:
        self._caches = {os.path.realpath(cache) for cache in caches}
        self._above = {
            str(above) for cache in self._caches for above in (Path(cache), *Path(cache).parents)
        }
        self._waiting = set(self._caches)
        self._counted: set[str] = set()
        self._trees: dict[str, dict[str, Tree]] = {}
        self._links: dict[Inode, int] = {}

    def trees(self, cache: Path, progress: Progress | None = None) -> dict[str, Tree]:
        """What lies in a cache by name: its folders, and its files that have more than one link.

        Folders that hold another known cache are left out: that cache counts for itself.
        """
        real = os.path.realpath(cache)
        self._count(real, progress)
        # Given away once, since the links of a large cache are many
        found = self._trees.pop(real, None)
        return self._measured(real, progress) if found is None else found

    def is_linked_outside(self, tree: Tree) -> bool:
        """Whether a file of the tree has a link that lies in no known cache."""
        while self._has_unknown_links(tree):
            if not self._waiting:
                return True
            self._count(self._waiting.pop())
        return False

    def _has_unknown_links(self, tree: Tree) -> bool:
        return any(each.links > self._links.get(key, 0) for key, each in tree.linked.items())

    def _count(self, real: str, progress: Progress | None = None) -> None:
        if real in self._counted:
            return
        self._counted.add(real)
        self._waiting.discard(real)
        self._trees[real] = trees = self._measured(real, progress)
        if real not in self._caches and any(str(p) in self._caches for p in Path(real).parents):
            return  # counted with the cache that it lies in
        for tree in trees.values():
            for key, each in tree.linked.items():
                self._links[key] = self._links.get(key, 0) + each.here

    def _measured(self, real: str, progress: Progress | None) -> dict[str, Tree]:
        trees: dict[str, Tree] = {}
        entries = listed(real)
        for number, each in enumerate(entries):
            if progress and not number % 50:
                progress(number, len(entries), "packages")
            with suppress(OSError):
                is_folder = each.is_dir(follow_symlinks=False)
                if each.path not in self._above and (
                    is_folder or each.stat(follow_symlinks=False).st_nlink > 1
                ):
                    trees[each.name] = measure(each.path)
        return trees
