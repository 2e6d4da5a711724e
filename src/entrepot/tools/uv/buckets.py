"""What lies in uv's cache: its buckets, and in them the files that go together.

Nothing is changed, not even a time of last use.

A bucket is a directory right below the cache, called ``FAMILY-vNUMBER``; uv raises the number when
it changes what lies in it, starts a new one and leaves the old one behind until ``uv cache prune``.
Seen in the source and in real caches:

    uv      archive  wheels  sdists              simple  flat-index  interpreter  environments
    0.2.37  0        1       built-wheels 3      12      0           2            1
    0.5.31  0        3       7                   15      2           4            1
    0.8.24  0        5       9                   18      2           4            2
    0.12.5  0        6       9                   24      4           4            2
    0.13.8  0        7       10                  27      7           5            2
    0.13.9  0        8       11                  28      7           5            2

``builds-v0`` and ``git-v0`` never changed; ``python-v0`` and ``binaries-v0`` came before 0.8.24,
``osv-v0`` before 0.12.

A part is what goes together, and becomes one entry:

- a wheel's pointer (``.http`` or ``.rev``, ``.msgpack``, ``.lock`` and the link) with the unpacked
  archive that it leads to: *unpacked*; a pointer with core metadata alone: *metadata*; with the
  packed wheel alone: *wheel*;
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
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from entrepot.errors import FormatError
from entrepot.ports.tool import Progress
from entrepot.tools._shared.disk_usage import Inode, Tree, listed, measure
from entrepot.tools._shared.safe_read import open_regular
from entrepot.tools.uv.pointers import Pointer, read_pointer

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
"""How directories on their way out begin; ``uv cache prune`` takes them too."""
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

    No uv that wrote the newer one uses them any more.

    >>> names = ["wheels-v5", "wheels-v7", "built-wheels-v3", "sdists-v7", "simple-v18"]
    >>> sorted(superseded(map(bucket_of, names)))
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


SUFFIXES = ".http", ".rev", ".msgpack", "", ".whl", ".lock"
"""What stands after the stem of a wheel's pointer files, in the order of removal; the link to the
archive has no suffix."""
SHARD_MARKS = frozenset({"revision.http", "revision.rev", "manifest.msgpack", "metadata.msgpack"})
"""A directory with one of these is one source distribution."""


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
    """Empty for what lies in none."""
    key: str
    """Its path in the cache."""
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
        self.links: dict[Inode, list[str]] = {}
        """Owners (archives' names, keys of other parts) of each inode with several links, one for
        every link in the cache."""
        self.is_understood = True
        """Whether everything that can lead to an archive is of a known layout: else nothing is an
        orphan."""
        self.unread: list[str] = []
        """What could not be read, with the reason: it may lead to any archive."""
        self._files = 0

    def run(self) -> Scan:
        """Look; itself."""
        top = self._listed(self.root)
        named = [(item, bucket_of(item.name)) for item in top]
        self.buckets = [b for item, b in named if b and item.is_dir(follow_symlinks=False)]
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
                self._whole("", item.path, "trash")
            elif bucket is None or not (bucket.is_known or item.name in self.superseded):
                self._whole(item.name, item.path, "unknown")
            else:
                self._bucket(bucket.name, bucket.family, item.path)
        for name, archive in self.archives.items():
            if not archive.pointers:
                self.parts.append(
                    Part("archive-v0", f"archive-v0/{name}", "archive", [], Tree(), [name])
                )
        for owner, tree in (
            *((name, archive.tree) for name, archive in self.archives.items()),
            *((part.key, part.tree) for part in self.parts),
        ):
            for inode, each in tree.linked.items():
                self.links.setdefault(inode, []).extend([owner] * each.here)
        return self

    def _bucket(self, name: str, family: str, folder: str) -> None:
        match family:
            case "wheels" | "wheel-metadata":
                self._wheels(name, folder)
            case "sdists" | "built-wheels":
                self._sdists(name, folder)
            case "environments":
                self._environments(name, folder)
            case "simple" | "flat-index":
                for files in self._walk(name, folder):
                    for item in files:
                        self._whole(name, item.path, "page")
            case "git":
                self._git(name, folder)
            case "builds" | "python" | "binaries":
                for item in self._listed(folder):
                    if item.name not in MARKS:
                        self._whole(name, item.path, "temp" if family == "builds" else "other")
            case _ if any(item.name not in MARKS for item in self._listed(folder)):
                self._whole(name, folder, "page" if family == "osv" else "other")

    def _listed(self, folder: str) -> list[os.DirEntry[str]]:
        return listed(folder, self.unread)

    def _key(self, path: str) -> str:
        return path[len(self.root) + 1 :].replace(os.sep, "/")

    def _whole(self, bucket: str, path: str, what: str) -> None:
        """Everything at one path as one part."""
        self._add(Part(bucket, self._key(path), what, [path], measure(path)))

    def _add(self, part: Part) -> None:
        self.parts.append(part)
        self._looked_at(part.tree)

    def _looked_at(self, tree: Tree) -> None:
        self.unread += tree.unread
        before, self._files = self._files, self._files + tree.files
        if self._progress and before // 256 != self._files // 256:
            self._progress(self._files, None, "files")

    def _archives(self, folder: str) -> None:
        for item in self._listed(folder):
            if item.name.startswith(TEMPORARY):
                self._whole("archive-v0", item.path, "temp")
            elif item.name not in MARKS:
                is_environment = os.path.lexists(f"{item.path}/pyvenv.cfg")
                archive = Archive(item.name, item.path, measure(item.path), is_environment)
                self.archives[item.name] = archive
                self._looked_at(archive.tree)

    def _walk(self, bucket: str, folder: str) -> Iterator[list[os.DirEntry[str]]]:
        """The files of each directory of a bucket; what is temporary becomes a part of its own."""
        waiting = [folder]
        while waiting:
            files = []
            for item in self._listed(waiting.pop()):
                if item.name.startswith(TEMPORARY):
                    self._whole(bucket, item.path, "temp")
                elif item.is_dir(follow_symlinks=False):
                    waiting.append(item.path)
                elif item.name not in MARKS:
                    files.append(item)
            yield files

    def _wheels(self, bucket: str, folder: str) -> None:
        """Every directory with files in it is a project's; those of one stem belong together."""
        for files in self._walk(bucket, folder):
            stems: dict[str, dict[str, os.DirEntry[str]]] = {}
            for item in files:
                suffix = next((s for s in SUFFIXES if s and item.name.endswith(s)), "")
                stems.setdefault(item.path.removesuffix(suffix), {})[suffix] = item
            for stem, found in stems.items():
                paths = [found[suffix].path for suffix in SUFFIXES if suffix in found]
                part = Part(bucket, self._key(stem), "wheel", paths, Tree())
                for item in found.values():
                    _count(part.tree, item)
                if "" in found:
                    self._follow(part, found[""].path)
                if (pointing := found.get(".http") or found.get(".rev")) is not None:
                    self._read(part, pointing.path)
                self._add(part)

    def _read(self, part: Part, path: str) -> None:
        """Read a pointer: it names the archive even where the link is gone, and uv goes by it."""
        try:
            part.pointer = read_pointer(path)
        except FormatError:
            part.problem = "truncated-pointer"
        except FileNotFoundError:
            return
        except OSError as exc:
            self.unread.append(f"{path} cannot be read: {exc.strerror}")
        else:
            if part.pointer.archive is not None:
                self._lead(part, part.pointer.archive)

    def _follow(self, part: Part, link: str) -> None:
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
        if before.endswith("archive-v0") and name:
            self._lead(part, name)

    def _lead(self, part: Part, name: str) -> None:
        """Note that a part leads to this archive."""
        if name in part.archives or name in part.missing:
            return
        if archive := self.archives.get(name):
            archive.pointers += 1
            part.archives.append(name)
        else:
            part.missing.append(name)

    def _sdists(self, bucket: str, folder: str) -> None:
        """Every directory with a shard's mark, or with files alone, is one source distribution.

        The pointer to its revision goes first, then everything else, then the shard itself.
        """
        waiting = [folder]
        while waiting:
            at = waiting.pop()
            items = [item for item in self._listed(at) if not (at == folder and item.name in MARKS)]
            marks = [item.path for item in items if item.name in SHARD_MARKS]
            folders = [item for item in items if item.is_dir(follow_symlinks=False)]
            if marks or (items and not folders):
                part = Part(bucket, self._key(at), "sdist", [*marks, at], measure(at))
                for path, target in part.tree.symlinks:
                    if "archive-v0/" in target.replace("\\", "/"):
                        self._follow(part, path)
                self._add(part)
                continue
            for item in items:
                if item.name.startswith(TEMPORARY):
                    self._whole(bucket, item.path, "temp")
            waiting += [item.path for item in folders if not item.name.startswith(TEMPORARY)]

    def _environments(self, bucket: str, folder: str) -> None:
        """``HASH/HASH`` leads to an archive that is an environment.

        What is a directory itself lies here as a whole.
        """
        for item in self._listed(folder):
            if item.name in MARKS or not item.is_dir(follow_symlinks=False):
                continue
            if os.path.lexists(f"{item.path}/pyvenv.cfg"):
                self._whole(bucket, item.path, "environment")
                continue
            below = {below.name: below for below in self._listed(item.path)}
            for name, link in below.items():
                if name.endswith(".lock") and name.removesuffix(".lock") in below:
                    continue
                if link.is_dir(follow_symlinks=False):
                    is_temporary = name.startswith(TEMPORARY)
                    self._whole(bucket, link.path, "temp" if is_temporary else "environment")
                    continue
                files = [link, *([lock] if (lock := below.get(f"{name}.lock")) else [])]
                paths = [file.path for file in files]
                part = Part(bucket, self._key(link.path), "environment", paths, Tree())
                for file in files:
                    _count(part.tree, file)
                self._follow(part, link.path)
                self._add(part)

    def _git(self, bucket: str, folder: str) -> None:
        """A repository's database with the checkouts made from it, which hold hard links to it."""
        kinds = "checkouts", "db"
        names = {i.name for kind in kinds for i in self._listed(f"{folder}/{kind}")} - MARKS
        for name in sorted(names):
            paths = [f"{folder}/{kind}/{name}" for kind in kinds]
            part = Part(bucket, f"{bucket}/db/{name}", "git", [], Tree())
            for path in filter(os.path.lexists, paths):
                part.paths.append(path)
                part.tree.merge(measure(path))
            self._add(part)


def _count(tree: Tree, item: os.DirEntry[str]) -> None:
    with suppress(OSError):
        tree.add(item.path, item.stat(follow_symlinks=False))
