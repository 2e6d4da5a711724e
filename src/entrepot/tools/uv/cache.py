"""uv's entries: what lies in its buckets, by project and version.

Nothing is changed, not even a time of last use.

One entry is what goes together:

- a wheel's pointer (``.http`` or ``.rev``, ``.msgpack``, ``.lock`` and the link) with the unpacked
  archive that it leads to:
  *unpacked*; a pointer with core metadata alone: *metadata*; with the packed wheel alone: *wheel*;
- a source distribution's shard: its source tree, the wheels built from it and their unpacked
  archives: *built*;
- an index page (``.rkyv``, ``flat-index``): *page*; a temporary directory: *temp*;
- the rest (cached environments of ``uvx`` and ``uv run --with``, git databases with their
  checkouts, interpreters): *other*.

Link counts decide what removing gives back. A hard-linked environment outside shows as links that
do not lie in the cache; cached environments inside hold links too and count as users.

Source: ``crates/uv-cache/src/lib.rs`` and the caches of uv 0.2.37, 0.5.31, 0.8.24 and 0.13.8.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from entrepot.errors import FormatError
from entrepot.ports.tool import Progress
from entrepot.tools._shared.safe_read import open_regular
from entrepot.tools.uv.layout import (
    MARKS,
    POINTING,
    TEMPORARY,
    TRASH,
    Bucket,
    bucket_of,
    superseded,
)
from entrepot.tools.uv.pointers import Pointer, read_pointer
from entrepot.tools.uv.trees import Linked, Tree, add, listed, measure

MADE_UP = ".http", ".rev", ".msgpack", ".whl", ".lock"
"""What stands after the stem of a wheel's pointer files; the link to the archive has no suffix."""
SHARD_MARKS = frozenset({"revision.http", "revision.rev", "manifest.msgpack", "metadata.msgpack"})


@dataclass(slots=True)
class Archive:
    """A directory of ``archive-v0``."""

    name: str
    path: str
    tree: Tree
    is_environment: bool = False
    pointers: int = 0
    """How many entries lead to it."""


@dataclass(slots=True)
class Part:
    """One entry before it has a form: its files and where they lie."""

    bucket: str
    key: str
    what: str
    """``wheel``, ``sdist``, ``page``, ``temp``, ``git``, ``environment``, ``archive``, ``trash``,
    ``unknown`` or ``other``."""
    paths: list[str]
    """In the order in which they must be removed."""
    tree: Tree
    archives: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Archives that it leads to and that are not there."""
    pointer: Pointer | None = None
    """What a wheel's pointer file says."""
    problem: str = ""
    """``truncated-pointer``: uv takes it for absent."""


class Scan:
    """One look at one cache.

    Args:
        root: the cache's directory.
        progress: told now and then.
    """

    def __init__(self, root: str, progress: Progress | None = None) -> None:
        self.root = root
        self._progress = progress
        self.buckets: list[Bucket] = []
        self.superseded: frozenset[str] = frozenset()
        self.archives: dict[str, Archive] = {}
        self.parts: list[Part] = []
        self.links: dict[tuple[int, int], list[str]] = {}
        """Owners (archives' names, keys of other parts) of each inode with several links, one for
        every link in the cache."""
        self.is_understood = True
        """Whether everything that can lead to an archive is of a known layout: else nothing is an
        orphan."""
        self.unread: list[str] = []
        """What could not be read, with the reason: it may lead to any archive."""
        self.files = 0

    def run(self) -> Scan:
        """Look; itself."""
        top = self._listed(self.root)
        self.buckets = [
            bucket
            for item in top
            if (bucket := bucket_of(item.name)) and item.is_dir(follow_symlinks=False)
        ]
        self.superseded = superseded(self.buckets)
        self.is_understood = all(b.is_known for b in self.buckets if b.family in POINTING)
        names = {bucket.name: bucket for bucket in self.buckets}
        if "archive-v0" in names:
            self._archives(f"{self.root}/archive-v0")
        for item in top:
            bucket = names.get(item.name)
            if item.name in MARKS or item.name == "archive-v0":
                continue
            if item.name.startswith(TRASH):
                self._whole("", item.name, "trash")
            elif bucket is None or not (bucket.is_known or item.name in self.superseded):
                self._whole(item.name, item.name, "unknown")
            else:
                self._bucket(bucket)
        self._loose_archives()
        self._count_links()
        return self

    # -- buckets -----------------------------------------------------------------------------------

    def _bucket(self, bucket: Bucket) -> None:
        folder = f"{self.root}/{bucket.name}"
        if bucket.family in ("wheels", "wheel-metadata"):
            self._wheels(bucket.name, folder)
        elif bucket.family in ("sdists", "built-wheels"):
            self._sdists(bucket.name, folder)
        elif bucket.family == "environments":
            self._environments(bucket.name, folder)
        elif bucket.family in ("simple", "flat-index"):
            self._pages(bucket.name, folder)
        elif bucket.family == "git":
            self._git(bucket.name, folder)
        elif bucket.family == "builds":
            for item in self._listed(folder):
                if item.name not in MARKS:
                    self._whole(bucket.name, f"{bucket.name}/{item.name}", "temp")
        elif bucket.family in ("python", "binaries"):
            for item in self._listed(folder):
                if item.name not in MARKS:
                    self._whole(bucket.name, f"{bucket.name}/{item.name}", "other")
        elif any(item.name not in MARKS for item in self._listed(folder)):
            self._whole(bucket.name, bucket.name, "page" if bucket.family == "osv" else "other")

    def _listed(self, folder: str) -> list[os.DirEntry[str]]:
        return listed(folder, self.unread)

    def _whole(self, bucket: str, key: str, what: str) -> Part:
        """Everything at one path as one part."""
        part = Part(bucket, key, what, [f"{self.root}/{key}"], measure(f"{self.root}/{key}"))
        self._add(part)
        return part

    def _add(self, part: Part) -> None:
        self.parts.append(part)
        self.unread += part.tree.unread
        self.files += part.tree.files
        if self._progress and not len(self.parts) % 64:
            self._progress(self.files, None, "files")

    def _archives(self, folder: str) -> None:
        for item in self._listed(folder):
            if item.name in MARKS:
                continue
            if item.name.startswith(TEMPORARY):
                self._whole("archive-v0", f"archive-v0/{item.name}", "temp")
                continue
            is_environment = os.path.lexists(f"{item.path}/pyvenv.cfg")
            archive = Archive(item.name, item.path, measure(item.path), is_environment)
            self.archives[item.name] = archive
            self.unread += archive.tree.unread
            self.files += archive.tree.files
            if self._progress and not len(self.archives) % 32:
                self._progress(self.files, None, "files")

    def _wheels(self, bucket: str, folder: str) -> None:
        """Every directory with files in it is a project's.

        The files of one stem belong together.
        """
        waiting = [folder]
        while waiting:
            at = waiting.pop()
            stems: dict[str, dict[str, os.DirEntry[str]]] = {}
            for item in self._listed(at):
                if item.name.startswith(TEMPORARY):
                    self._whole(bucket, self._key(item.path), "temp")
                elif item.is_dir(follow_symlinks=False):
                    waiting.append(item.path)
                elif item.name not in MARKS:
                    suffix = next((s for s in MADE_UP if item.name.endswith(s)), "")
                    stems.setdefault(item.name.removesuffix(suffix), {})[suffix] = item
            for stem, found in stems.items():
                self._wheel(bucket, f"{at}/{stem}", found)

    def _wheel(self, bucket: str, stem: str, found: Mapping[str, os.DirEntry[str]]) -> None:
        order = [s for s in (".http", ".rev", ".msgpack", "", ".whl", ".lock") if s in found]
        part = Part(bucket, self._key(stem), "wheel", [found[s].path for s in order], Tree())
        for suffix in order:
            _count(part.tree, found[suffix])
        if "" in found:
            self._lead(part, found[""].path)
        if (pointing := found.get(".http") or found.get(".rev")) is not None:
            self._ask(part, pointing.path)
        self._add(part)

    def _ask(self, part: Part, path: str) -> None:
        """Read a pointer: it names the archive even where the link is gone, and uv goes by it."""
        try:
            part.pointer = read_pointer(path)
        except FormatError:
            part.problem = "truncated-pointer"
        except FileNotFoundError:
            return
        except OSError as exc:
            self.unread.append(f"{path} cannot be read: {exc.strerror}")
            return
        if part.pointer is not None and part.pointer.archive is not None:
            self.lead_to(part, part.pointer.archive)

    def _lead(self, part: Part, link: str) -> None:
        """Follow a link: a symbolic one, or on Windows a file that says ``archive-v0/NAME``."""
        try:
            if stat.S_ISLNK(os.lstat(link).st_mode):
                target = os.readlink(link)
            else:
                with os.fdopen(open_regular(link), encoding="utf-8") as file:
                    target = file.read(256)
        except (FileNotFoundError, UnicodeDecodeError):
            return
        except OSError as exc:
            self.unread.append(f"{link} cannot be read: {exc.strerror}")
            return
        before, _, name = target.replace("\\", "/").rpartition("/")
        if not before.endswith("archive-v0") or not name:
            return
        self.lead_to(part, name)

    def lead_to(self, part: Part, name: str) -> None:
        """Note that a part leads to this archive."""
        if name in part.archives or name in part.missing:
            return
        if name not in self.archives:
            part.missing.append(name)
            return
        self.archives[name].pointers += 1
        part.archives.append(name)

    def _sdists(self, bucket: str, folder: str) -> None:
        waiting = [folder]
        while waiting:
            at = waiting.pop()
            items = [item for item in self._listed(at) if not (at == folder and item.name in MARKS)]
            names = {item.name for item in items}
            if names & SHARD_MARKS or (
                items and not any(item.is_dir(follow_symlinks=False) for item in items)
            ):
                self._shard(
                    bucket,
                    at,
                    sorted(
                        names, key=lambda name: (name not in SHARD_MARKS, name == ".lock", name)
                    ),
                )
                continue
            for item in items:
                if item.name.startswith(TEMPORARY):
                    self._whole(bucket, self._key(item.path), "temp")
                elif item.is_dir(follow_symlinks=False):
                    waiting.append(item.path)

    def _shard(self, bucket: str, at: str, names: list[str]) -> None:
        """One source distribution.

        The pointer to its revision goes first, then everything else, then the shard itself.
        """
        pointers = [f"{at}/{name}" for name in names if name in SHARD_MARKS]
        part = Part(bucket, self._key(at), "sdist", [*pointers, at], measure(at))
        for path, target in part.tree.symlinks:
            if "archive-v0/" in target.replace("\\", "/"):
                self._lead(part, path)
        self._add(part)

    def _environments(self, bucket: str, folder: str) -> None:
        """``HASH/HASH`` leads to an archive that is an environment.

        What is a directory itself lies here as a whole.
        """
        for item in self._listed(folder):
            if item.name in MARKS or not item.is_dir(follow_symlinks=False):
                continue
            if os.path.lexists(f"{item.path}/pyvenv.cfg"):
                self._whole(bucket, self._key(item.path), "environment")
                continue
            below = {below.name: below for below in self._listed(item.path)}
            for name, link in below.items():
                if name.endswith(".lock") and name.removesuffix(".lock") in below:
                    continue
                if link.is_dir(follow_symlinks=False):
                    self._whole(
                        bucket,
                        self._key(link.path),
                        "temp" if name.startswith(TEMPORARY) else "environment",
                    )
                    continue
                part = Part(bucket, self._key(link.path), "environment", [link.path], Tree())
                _count(part.tree, link)
                if (lock := below.get(f"{name}.lock")) is not None:
                    part.paths.append(lock.path)
                    _count(part.tree, lock)
                self._lead(part, link.path)
                self._add(part)

    def _pages(self, bucket: str, folder: str) -> None:
        waiting = [folder]
        while waiting:
            for item in self._listed(waiting.pop()):
                if item.name.startswith(TEMPORARY):
                    self._whole(bucket, self._key(item.path), "temp")
                elif item.is_dir(follow_symlinks=False):
                    waiting.append(item.path)
                elif item.name not in MARKS:
                    self._whole(bucket, self._key(item.path), "page")

    def _git(self, bucket: str, folder: str) -> None:
        """A repository's database with the checkouts made from it.

        The checkouts hold hard links to its objects.
        """
        names = {
            item.name
            for kind in ("db", "checkouts")
            for item in self._listed(f"{folder}/{kind}")
            if item.name not in MARKS
        }
        for name in sorted(names):
            part = Part(bucket, f"{bucket}/db/{name}", "git", [], Tree())
            for kind in ("checkouts", "db"):
                path = f"{folder}/{kind}/{name}"
                if os.path.lexists(path):
                    part.paths.append(path)
                    part.tree.merge(measure(path))
            self._add(part)

    def _loose_archives(self) -> None:
        for name, archive in self.archives.items():
            if not archive.pointers:
                part = Part("archive-v0", f"archive-v0/{name}", "archive", [], Tree(), [name])
                self.parts.append(part)

    def _count_links(self) -> None:
        for name, archive in self.archives.items():
            _own(self.links, name, archive.tree.linked)
        for part in self.parts:
            _own(self.links, part.key, part.tree.linked)

    def _key(self, path: str) -> str:
        return path[len(self.root) + 1 :].replace(os.sep, "/")


def _own(
    links: dict[tuple[int, int], list[str]], owner: str, linked: Mapping[tuple[int, int], Linked]
) -> None:
    for key, each in linked.items():
        links.setdefault(key, []).extend([owner] * each.here)


def _count(tree: Tree, item: os.DirEntry[str]) -> None:
    try:
        add(tree, item.path, item.stat(follow_symlinks=False))
    except OSError:
        return


def folders_above(root: str, paths: list[str]) -> Iterator[str]:
    """Directories above these paths and below the root, the deepest first.

    What may be empty when they are gone.
    """
    seen: set[str] = set()
    for path in paths:
        at = os.path.dirname(path)
        while at.startswith(root + "/") and at not in seen:
            seen.add(at)
            yield at
            at = os.path.dirname(at)
