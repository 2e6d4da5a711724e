"""From what a scan saw to entries: names, sizes, who uses it, what may go."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from entrepot.ports.tool import Block, BlockedBy, Entry, Kind, SharedFile
from entrepot.redaction import redacted_url
from entrepot.tools._shared.safe_read import read_text
from entrepot.tools.uv.cache import Archive, Part, Scan
from entrepot.tools.uv.environments import References, linked_archives
from entrepot.tools.uv.pointers import metadata_name
from entrepot.tools.uv.trees import Tree, listed

STALE_S = 3600.0
"""Seconds after which a temporary directory, or an archive without a pointer, is abandoned."""
SYMLINKS = "uv is set to link symbolically: an environment that needs it could not be seen"
"""The one reason that ``force`` overrides."""
UNKNOWN = "unknown layout: sizes only"
Name = tuple[str | None, str | None, str | None, str]
"""Project, version, file name, tags."""
Certainty = Literal["proven", "hash", "content", "unknown"]


class Rows:
    """Entries of one scan.

    Args:
        scan: what was seen.
        references: what known environments need.
        now: seconds since the epoch.
        links_symbolically: uv is set to ``link-mode = "symlink"``.
    """

    def __init__(
        self, scan: Scan, references: References, now: float, *, links_symbolically: bool = False
    ) -> None:
        self._scan = scan
        self._refs = references
        self._now = now
        self._symlinks = links_symbolically
        self._seen: set[tuple[int, int]] = set()
        """Inodes whose blocks an entry has counted already."""
        self._inside = self._links_inside()

    def entries(self) -> Iterator[Entry]:
        """Every entry, cached environments last.

        What they share with a wheel counts as the wheel's.
        """
        for part in sorted(self._scan.parts, key=self._is_environment):
            yield self._entry(part)

    def _links_inside(self) -> dict[str, list[str]]:
        """Archives that cached environments link to symbolically, and those environments."""
        found: dict[str, list[str]] = {}
        for archive in self._scan.archives.values():
            if archive.is_environment:
                for name in linked_archives(self._scan.root, archive.tree) - {archive.name}:
                    found.setdefault(name, []).append(_cached(archive.name))
        for part in self._scan.parts:
            if part.what == "environment":
                for name in linked_archives(self._scan.root, part.tree) - {
                    *part.archives,
                    *part.missing,
                }:
                    found.setdefault(name, []).append(_cached(part.key))
        return found

    def _is_environment(self, part: Part) -> bool:
        return part.what == "environment" or any(
            self._scan.archives[name].is_environment for name in part.archives
        )

    def _entry(self, part: Part) -> Entry:
        tree, shared = self._whole(part)
        kind = self._kind(part)
        project, version, filename, tags, certainty = self._named(part)
        used_by, block = self._users(part)
        removable_because, wait = self._removable(part, tree, kind)
        block = wait or block or self._guess(kind, used_by)
        used, used_from = tree.used if tree.read or tree.written else (None, "")
        pointer = part.pointer
        paths = [*part.paths, *(self._scan.archives[name].path for name in part.archives)]
        return Entry(
            tool="uv",
            place=Path(self._scan.root),
            key=part.key,
            kind=kind,
            size=tree.size,
            disk=self._disk(tree),
            freeable=0
            if part.what == "unknown"
            else tree.freeable - sum(self._freeable(a) for a in shared),
            files=tree.files,
            project=project,
            version=version,
            filename=filename,
            certainty=certainty,
            used=used,
            used_from=used_from,  # type: ignore[arg-type]  # one of the port's words
            used_by=used_by,
            block=block,
            removable_because="" if block else removable_because,
            origin=(pointer.origin if pointer else "")
            or (_repository(part) if part.what == "git" else ""),
            digest=pointer.digest if pointer else None,
            tags=tags,
            paths=tuple(map(Path, paths)),
            extra=self._extra(part),
            stamp=stamp(paths),
            problem=_problem(part),
            shared=SharedFile(shared[0].name, shared[0].tree.freeable, shared[0].pointers)
            if shared
            else None,
        )

    def _named(self, part: Part) -> tuple[str | None, str | None, str | None, str, Certainty]:
        if part.what == "archive" and not self._is_environment(part):
            folder = dist_info(self._scan.archives[part.archives[0]].path)
            name, _, version = (folder or "").removesuffix(".dist-info").partition("-")
            if version:
                return re.sub(r"[-_.]+", "-", name).lower(), version, None, "", "content"
        return _named(part)

    def _whole(self, part: Part) -> tuple[Tree, list[Archive]]:
        """A part's figures with its archives', and the archives that other parts share."""
        tree = Tree()
        tree.merge(part.tree)
        archives = [self._scan.archives[name] for name in part.archives]
        for archive in archives:
            tree.merge(archive.tree)
        return tree, [archive for archive in archives if archive.pointers > 1]

    def _disk(self, tree: Tree) -> int:
        disk = tree.own
        for key, each in tree.linked.items():
            if key not in self._seen:
                self._seen.add(key)
                disk += each.disk
        return disk

    @staticmethod
    def _freeable(archive: Archive) -> int:
        return archive.tree.freeable

    def _kind(self, part: Part) -> Kind:
        if part.what in ("temp", "trash"):
            return Kind.TEMP
        if part.what == "sdist":
            return Kind.BUILT
        if part.what == "page":
            return Kind.PAGE
        if part.what == "archive" and not self._is_environment(part):
            return Kind.UNPACKED
        if part.what == "wheel":
            if part.archives:
                return Kind.UNPACKED
            names = [os.path.splitext(path)[1] for path in part.paths]
            return (
                Kind.WHEEL
                if ".whl" in names
                else Kind.METADATA
                if ".msgpack" in names
                else Kind.OTHER
            )
        return Kind.OTHER

    def _users(self, part: Part) -> tuple[tuple[str, ...], Block | None]:
        """Environments that link to its archives, and why it may not go.

        A symbolic link would dangle.
        """
        if self._is_environment(part):
            return (), None
        named: dict[str, None] = {}
        cached: dict[str, None] = {}
        block: Block | None = None
        outside = 0
        for name in part.archives:
            for user in (*self._refs.archives.get(name, ()), *self._inside.get(name, ())):
                (cached if user.startswith(_CACHED) else named)[user] = None
                block = block or Block(BlockedBy.LINKED, f"{user} links to it symbolically")
            for key, each in self._scan.archives[name].tree.linked.items():
                owners = self._scan.links[key]
                outside = max(outside, each.links - len(owners))
                named.update(dict.fromkeys(self._refs.inodes.get(key, ())))
                for owner in owners:
                    if owner != name and self._holds_environment(owner):
                        cached[_cached(owner)] = None
        if part.archives and block is None and (why := self._refs.in_use_perhaps):
            block = Block(BlockedBy.UNKNOWN, why)
        others = outside - len(named)
        more = (
            (f"linked from {others} unknown place{'' if others == 1 else 's'}",)
            if others > 0
            else ()
        )
        return (*named, *cached, *more), block

    def _holds_environment(self, owner: str) -> bool:
        archive = self._scan.archives.get(owner)
        return archive.is_environment if archive else owner.startswith("environments-")

    def _guess(self, kind: Kind, used_by: tuple[str, ...]) -> Block | None:
        if self._symlinks and kind in (Kind.UNPACKED, Kind.BUILT) and not used_by:
            return Block(BlockedBy.MAYBE_LINKED, SYMLINKS)
        return None

    def _removable(self, part: Part, tree: Tree, kind: Kind) -> tuple[str, Block | None]:
        """Why plain ``clean`` takes it, and why it may not go now."""
        unread = self._scan.unread
        young = (
            Block(BlockedBy.BEING_WRITTEN, "it may still be written to")
            if self._now - tree.changed < STALE_S
            else None
        )
        if part.what == "unknown":
            return "", Block(BlockedBy.UNKNOWN, UNKNOWN)
        if kind is Kind.TEMP:
            return ("", young) if young else ("stale temporary", None)
        if part.bucket in self._scan.superseded:
            return "superseded layout", None
        if part.what == "archive":
            if not self._scan.is_understood:
                return "", Block(BlockedBy.UNKNOWN, "an unknown layout may lead to it")
            if unread:
                return "", Block(BlockedBy.UNKNOWN, f"something may lead to it: {unread[0]}")
            return ("", young) if young else ("orphan", None)
        if part.what in ("wheel", "environment") and _leads_nowhere(part) and not young:
            if unread:
                return "", Block(BlockedBy.UNKNOWN, f"it may lead somewhere: {unread[0]}")
            return "orphan", None
        return "", None

    def _extra(self, part: Part) -> Mapping[str, str]:
        extra = {"bucket": part.bucket or part.key}
        if part.archives:
            extra["archive"] = " ".join(part.archives)
        if self._is_environment(part):
            extra["environment"] = "cached"
        return extra


def _problem(part: Part) -> str:
    if part.what == "archive":
        return "orphan-archive"
    return part.problem or ("missing-archive" if part.missing else "")


_CACHED = "cached environment "


def _cached(name: str) -> str:
    return f"{_CACHED}{name}"


def _leads_nowhere(part: Part) -> bool:
    """Whether it leads to archives that are all gone, or is a lock that nothing is left of."""
    if part.missing:
        return not part.archives
    return all(path.endswith(".lock") for path in part.paths)


def stamp(paths: list[str]) -> str:
    """What changes when one of these is replaced, or names come or go in it."""
    found = []
    for path in paths:
        try:
            info = os.lstat(path)
        except OSError:
            found.append("-")
        else:
            found.append(f"{info.st_ino}:{info.st_mtime_ns}")
    return ";".join(found)


# -- names -----------------------------------------------------------------------------------------


def _named(part: Part) -> tuple[str | None, str | None, str | None, str, Certainty]:
    if part.what == "wheel":
        folder, _, stem = part.key.rpartition("/")
        name = part.pointer.filename if part.pointer and part.pointer.filename else None
        return (*wheel_of(folder.rpartition("/")[2], stem, name), "proven")
    if part.what == "sdist":
        return _sdist(part)
    if part.what == "page" and part.key.endswith(".rkyv"):
        return part.key.rpartition("/")[2].removesuffix(".rkyv"), None, None, "", "proven"
    return None, None, None, "", "unknown"


def wheel_of(project: str, stem: str, filename: str | None = None) -> Name:
    """What a pointer's place says.

    It lies in its project's directory, and its stem is the wheel's or lacks the project.

    Up to ``wheels-v3`` the stem is the whole of the file's name (uv 0.2 leaves the build number
    out); later ones leave the project out, and where the rest is long, a digest stands for the
    tags.

    >>> wheel_of("big-one", "1.0+l-3-py3-none-any")
    ('big-one', '1.0+l', 'big_one-1.0+l-3-py3-none-any.whl', 'py3-none-any')
    >>> wheel_of("big-one", "Big_One-1.0-py3-none-any")[:3]
    ('big-one', '1.0', 'Big_One-1.0-py3-none-any.whl')
    """
    if filename is None:
        parts = stem.split("-")
        if len(parts) < 4:
            return project, parts[0] or None, None, ""
        whole = len(parts) > 4 and re.sub(r"[-_.]+", "-", parts[0]).lower() == project
        filename = f"{stem}.whl" if whole else f"{project.replace('-', '_')}-{stem}.whl"
    parts = filename.removesuffix(".whl").split("-")
    if len(parts) < 5:
        return project, None, filename, ""
    return project, parts[1], filename, "-".join(parts[-3:])


def _sdist(part: Part) -> tuple[str | None, str | None, str | None, str, Certainty]:
    """From an index the path says it; for URLs, paths and git the metadata does."""
    wheels, metadata = [], ""
    shard = part.paths[-1]
    for folder in (
        shard,
        *(item.path for item in listed(shard) if item.is_dir(follow_symlinks=False)),
    ):
        for item in listed(folder):
            if item.name.endswith(".whl"):
                wheels.append(item.name)
            elif item.name == "metadata.msgpack":
                metadata = item.path
    filename = wheels[0] if len(wheels) == 1 else None
    tags = "-".join(wheels[0][:-4].split("-")[-3:]) if filename else ""
    parts = part.key.split("/")
    if parts[1] in ("pypi", "index") and len(parts) == (4 if parts[1] == "pypi" else 5):
        return parts[-2], parts[-1], filename, tags, "proven"
    project, version = metadata_name(metadata) if metadata else (None, None)
    if project is None and filename:
        found = filename.split("-")
        project, version = re.sub(r"[-_.]+", "-", found[0]).lower(), found[1]
    return project, version, filename, tags, "content" if project else "unknown"


def dist_info(folder: str) -> str | None:
    """The one ``.dist-info`` directory of an unpacked wheel, by name.

    ``None`` when there is none or several.
    """
    found = [item.name for item in listed(folder) if item.name.endswith(".dist-info")]
    return found[0] if len(found) == 1 else None


def _repository(part: Part) -> str:
    """The URL that a git database was fetched from."""
    for path in part.paths:
        found = re.search(r"\bof (\S+)", read_text(Path(path, "FETCH_HEAD"), 4096))
        if found:
            return redacted_url(found[1])
    return ""
