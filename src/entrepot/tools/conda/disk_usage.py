"""Files counted by inode.

What a tree takes of the disk, what removing it gives back, and whether something else links to it.

A hard link is seen by its count alone: a file is used elsewhere when it has more links than are
found inside all known caches.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from entrepot.fs import disk_of
from entrepot.ports.tool import Progress


@dataclass(slots=True)
class Tree:
    """What lies below one directory, or one file."""

    files: int = 0
    size: int = 0
    """Bytes of content of the files."""
    disk: int = 0
    """Bytes of disk, directories included, each inode once."""
    single: int = 0
    """Of these, of inodes that have no other link."""
    changed: float = 0.0
    """Latest change of an inode in the tree (ctime); seconds since the epoch."""
    device: int = 0
    linked: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """Inode -> (links found here, links it has, bytes of disk), of files with more than one link.
    """

    @property
    def freeable(self) -> int:
        """Bytes of disk that removing the tree alone gives back."""
        return self.single + sum(
            disk for here, links, disk in self.linked.values() if here >= links
        )

    @property
    def links(self) -> int:
        """Links of all its files, wherever they lie: it grows when something links to the tree."""
        own = sum(here for here, _, _ in self.linked.values())
        return self.files - own + sum(links for _, links, _ in self.linked.values())


def measure(top: str) -> Tree:
    """Walk a tree; what disappears meanwhile is left out.

    Symbolic links are counted, never followed.

    This loop sees every file of a cache: it is written for speed.
    """
    tree = Tree()
    try:
        about = os.lstat(top)
    except OSError:
        return tree
    tree.device = about.st_dev
    tree.disk = tree.single = disk_of(about)
    tree.changed = about.st_ctime
    if not os.path.isdir(top) or os.path.islink(top):  # strings are quicker
        tree.files, tree.size = 1, about.st_size
        if about.st_nlink > 1:
            tree.single, tree.linked = 0, {about.st_ino: (1, about.st_nlink, tree.disk)}
        return tree
    _below(top, tree)
    return tree


def _below(top: str, tree: Tree) -> None:
    scandir, linked, has_blocks = os.scandir, tree.linked, hasattr(os.stat_result, "st_blocks")
    files = size = disk = shared = 0
    changed = tree.changed
    waiting = [top]
    while waiting:
        try:
            found = scandir(waiting.pop())
        except OSError:
            continue
        with found:
            for each in found:
                try:
                    about = each.stat(follow_symlinks=False)
                except OSError:
                    continue
                takes = about.st_blocks * 512 if has_blocks else about.st_size
                if about.st_ctime > changed:  # noqa: PLR1730  # max() costs a call a file
                    changed = about.st_ctime
                if about.st_mode & 0o170000 == 0o040000:
                    waiting.append(each.path)
                    disk += takes
                    continue
                files += 1
                size += about.st_size
                links = about.st_nlink
                if links == 1:
                    disk += takes
                    continue
                inode = about.st_ino
                if inode in linked:
                    here, links, takes = linked[inode]
                    linked[inode] = (here + 1, links, takes)
                else:
                    linked[inode] = (1, links, takes)
                    shared += takes
    tree.files += files
    tree.size += size
    tree.disk += disk + shared
    tree.single += disk
    tree.changed = changed


class Census:
    """How many links of each inode lie inside the known caches; each file is counted once.

    A link too many would make a package that is in use look unused; a link too few only keeps one.

    Args:
        folders: every known package cache; those not asked for are measured when a question needs
            them.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = {os.path.realpath(folder) for folder in folders}
        self._above = {
            str(above)
            for folder in self._folders
            for above in (Path(folder), *Path(folder).parents)
        }
        self._waiting = set(self._folders)
        self._counted: set[str] = set()
        self._trees: dict[str, dict[str, Tree]] = {}
        self._links: dict[int, dict[int, int]] = {}

    def trees(self, folder: Path, progress: Progress | None = None) -> dict[str, Tree]:
        """What lies in a folder of packages, by name.

        Its folders, and its files that have more links than one.

        Folders that hold another known cache are left out: that cache counts for itself.
        """
        real = os.path.realpath(folder)
        self._count(real, progress)
        found = self._trees.pop(
            real, None
        )  # kept no longer than needed: large caches have many links
        return self._measured(real, progress) if found is None else found

    def is_linked_outside(self, tree: Tree) -> bool:
        """Whether a file of the tree has a link that lies in no known cache."""
        if not self._open(tree):
            return False
        while self._waiting:
            self._count(self._waiting.pop(), None)
        return self._open(tree)

    def _count(self, real: str, progress: Progress | None) -> None:
        if real in self._counted:
            return
        self._counted.add(real)
        self._waiting.discard(real)
        self._trees[real] = trees = self._measured(real, progress)
        if real not in self._folders and any(
            str(above) in self._folders for above in Path(real).parents
        ):
            return  # counted with the cache that it lies in
        for tree in trees.values():
            links = self._links.setdefault(tree.device, {})
            for inode, (here, _, _) in tree.linked.items():
                links[inode] = links.get(inode, 0) + here

    def _measured(self, real: str, progress: Progress | None) -> dict[str, Tree]:
        trees: dict[str, Tree] = {}
        try:
            with os.scandir(real) as found:
                entries = list(found)
        except OSError:
            return trees
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

    def _open(self, tree: Tree) -> bool:
        links = self._links.get(tree.device, {})
        return any(has > links.get(inode, 0) for inode, (_, has, _) in tree.linked.items())
