"""Measuring directories: sizes, blocks, inodes with several links, symbolic links.

Reads names and inodes, no file's content.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from entrepot.fs import disk_of


@dataclass(slots=True)
class Linked:
    """An inode with more than one link, as one tree sees it."""

    disk: int
    links: int
    """As the file system counts them, wherever they lie."""
    here: int = 0
    """How many of them lie in this tree."""


@dataclass(slots=True)
class Tree:
    """What some files and directories take; fed by :func:`add` and :func:`measure`."""

    size: int = 0
    """Bytes of content."""
    own: int = 0
    """Bytes of disk of all that has a single link, directories and symbolic links among them."""
    files: int = 0
    written: float = 0.0
    read: float = 0.0
    changed: float = 0.0
    linked: dict[tuple[int, int], Linked] = field(default_factory=dict)
    symlinks: list[tuple[str, str]] = field(default_factory=list)
    """Path and target, as written."""
    unread: list[str] = field(default_factory=list)
    """What could not be looked at, with the reason: it may hold more of all this."""

    def merge(self, other: Tree) -> None:
        """Take another tree's figures in."""
        self.size += other.size
        self.own += other.own
        self.files += other.files
        self.written = max(self.written, other.written)
        self.read = max(self.read, other.read)
        self.changed = max(self.changed, other.changed)
        self.symlinks += other.symlinks
        self.unread += other.unread
        for key, theirs in other.linked.items():
            mine = self.linked.get(key)
            if mine is None:
                self.linked[key] = Linked(theirs.disk, theirs.links, theirs.here)
            else:
                mine.here += theirs.here

    @property
    def freeable(self) -> int:
        """Bytes of disk that removing all of it gives back: inodes all of whose links lie in it."""
        return self.own + sum(each.disk for each in self.linked.values() if each.here >= each.links)

    @property
    def used(self) -> tuple[float, str]:
        """The last use and how it is known."""
        return (self.read, "atime") if self.read > self.written else (self.written, "mtime")


def add(tree: Tree, path: str, info: os.stat_result) -> None:
    """Count one file, directory or symbolic link; a directory's content not."""
    if stat.S_ISDIR(info.st_mode):
        tree.own += disk_of(info)
        tree.changed = max(tree.changed, info.st_mtime)
        return
    tree.files += 1
    tree.size += info.st_size
    newest = max(info.st_mtime, info.st_ctime)
    tree.changed = max(tree.changed, newest)
    if stat.S_ISLNK(info.st_mode):
        tree.own += disk_of(info)
        try:
            tree.symlinks.append((path, os.readlink(path)))  # strings are quicker
        except OSError:
            return
        return
    tree.written = max(tree.written, info.st_mtime)
    tree.read = max(tree.read, info.st_atime)
    if info.st_nlink <= 1:
        tree.own += disk_of(info)
        return
    key = (info.st_dev, info.st_ino)
    mine = tree.linked.get(key)
    if mine is None:
        mine = tree.linked[key] = Linked(disk_of(info), info.st_nlink)
    mine.here += 1


def measure(path: str) -> Tree:
    """All that lies at a path; what cannot be read, or goes meanwhile, is left out.

    Symbolic links are not followed.
    """
    tree = Tree()
    try:
        info = os.lstat(path)
    except OSError:
        return tree
    add(tree, path, info)
    if stat.S_ISDIR(info.st_mode):
        for at, found in walk(path, tree.unread):
            add(tree, at, found)
    return tree


def walk(folder: str, unread: list[str] | None = None) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below a directory with its inode, parents first.

    Args:
        folder: the directory.
        unread: gets what cannot be looked at, with the reason; what is gone meanwhile is not there.
    """
    waiting = [folder]
    while waiting:
        at = waiting.pop()
        try:
            with os.scandir(at) as items:
                for item in items:
                    try:
                        info = item.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    yield item.path, info
                    if stat.S_ISDIR(info.st_mode):
                        waiting.append(item.path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            if unread is not None:
                unread.append(f"{at} cannot be read: {exc.strerror}")


def listed(folder: str, unread: list[str] | None = None) -> list[os.DirEntry[str]]:
    """A directory's names in order; empty when it is absent or cannot be read.

    Args:
        folder: the directory.
        unread: gets it with the reason when it is there and cannot be read.
    """
    try:
        with os.scandir(folder) as items:
            return sorted(items, key=lambda item: item.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        if unread is not None:
            unread.append(f"{folder} cannot be read: {exc.strerror}")
        return []
