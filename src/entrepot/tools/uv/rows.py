"""From what a scan saw to entries: names, sizes, who uses it, what may go."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from entrepot.fs import stamp
from entrepot.names import normalize
from entrepot.ports.tool import Block, BlockedBy, Entry, Kind, SharedFile
from entrepot.redaction import redacted_url
from entrepot.tools._shared.disk_usage import Inode, Tree
from entrepot.tools._shared.safe_read import read_text
from entrepot.tools.uv.buckets import Archive, Part, Scan
from entrepot.tools.uv.environments import References, linked_archives
from entrepot.tools.uv.pointers import dist_info, metadata_name, shard_files

STALE_S = 3600.0
"""Seconds after which a temporary directory, or an archive without a pointer, is abandoned."""
SYMLINKS = "uv is set to link symbolically: an environment that needs it could not be seen"
UNKNOWN = "unknown layout: sizes only"
CACHED = "cached environment "
Certainty = Literal["proven", "hash", "content", "unknown"]


@dataclass(frozen=True, slots=True)
class UvEntry(Entry):
    """An entry of uv's cache."""

    archives: tuple[str, ...] = ()
    """Directories of ``archive-v0`` that belong to it."""
    is_environment: bool = False
    """Whether it is an environment that uv keeps in its cache, or leads to one."""


@dataclass(frozen=True, slots=True)
class Name:
    """What an entry is called, and how that is known."""

    project: str | None = None
    version: str | None = None
    filename: str | None = None
    tags: str = ""
    certainty: Certainty = "unknown"


def entries(
    scan: Scan, references: References, now: float, *, links_symbolically: bool = False
) -> Iterator[UvEntry]:
    """Entries of one scan, cached environments last: what they share with a wheel is the wheel's.

    Args:
        scan: what was seen.
        references: what known environments need.
        now: seconds since the epoch.
        links_symbolically: uv is set to ``link-mode = "symlink"``.
    """
    inside = _links_inside(scan)
    seen = set[Inode]()
    for part in sorted(scan.parts, key=lambda part: _is_environment(scan, part)):
        archives = [scan.archives[name] for name in part.archives]
        is_environment = _is_environment(scan, part)
        tree = Tree()
        tree.merge(part.tree)
        for archive in archives:
            tree.merge(archive.tree)
        disk = tree.own + sum(each.disk for key, each in tree.linked.items() if key not in seen)
        seen.update(tree.linked)
        shared = [archive for archive in archives if archive.pointers > 1]
        freeable = tree.freeable - sum(archive.tree.freeable for archive in shared)
        kind, name = _kind(part, is_environment=is_environment), _named(scan, part)
        used, used_from = tree.used
        needing = [] if is_environment else archives
        used_by, linked = _users(scan, references, inside, needing)
        why, wait = _removable(
            scan, part, is_temporary=kind is Kind.TEMP, is_young=now - tree.changed < STALE_S
        )
        block = wait or linked
        if links_symbolically and kind in (Kind.UNPACKED, Kind.BUILT) and not used_by:
            block = block or Block(BlockedBy.MAYBE_LINKED, SYMLINKS)
        paths = tuple(map(Path, [*part.paths, *(archive.path for archive in archives)]))
        extra = {"bucket": part.bucket or part.key}
        if archives:
            extra["archive"] = " ".join(part.archives)
        if is_environment:
            extra["environment"] = "cached"
        pointer = part.pointer
        yield UvEntry(
            tool="uv",
            place=Path(scan.root),
            key=part.key,
            kind=kind,
            size=tree.size,
            disk=disk,
            freeable=0 if part.what == "unknown" else freeable,
            files=tree.files,
            project=name.project,
            version=name.version,
            filename=name.filename,
            certainty=name.certainty,
            used=used or None,
            used_from=used_from if used else "",
            used_by=used_by,
            block=block,
            removable_because="" if block else why,
            origin=(pointer.origin if pointer else "") or _repository(part),
            digest=pointer.digest if pointer else None,
            tags=name.tags,
            locations=tuple(map(str, paths)),
            extra=extra,
            stamp=stamp_of(paths),
            problem="orphan-archive"
            if part.what == "archive"
            else part.problem or ("missing-archive" if part.missing else ""),
            shared=SharedFile(shared[0].name, shared[0].tree.freeable, shared[0].pointers)
            if shared
            else None,
            archives=tuple(part.archives),
            is_environment=is_environment,
        )


def stamp_of(paths: Iterable[Path]) -> str:
    """What changes when one of these is replaced, or names come or go in it."""
    return stamp(*map(_lstat, paths))


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None


def _is_environment(scan: Scan, part: Part) -> bool:
    return part.what == "environment" or any(
        scan.archives[name].is_environment for name in part.archives
    )


def _kind(part: Part, *, is_environment: bool) -> Kind:
    match part.what:
        case "temp" | "trash":
            return Kind.TEMP
        case "sdist":
            return Kind.BUILT
        case "page":
            return Kind.PAGE
        case "archive" if not is_environment:
            return Kind.UNPACKED
        case "wheel" if part.archives:
            return Kind.UNPACKED
        case "wheel":
            ends = {os.path.splitext(path)[1] for path in part.paths}
            if ".whl" in ends:
                return Kind.WHEEL
            return Kind.METADATA if ".msgpack" in ends else Kind.OTHER
    return Kind.OTHER


# -- who needs it ----------------------------------------------------------------------------------


def _links_inside(scan: Scan) -> dict[str, list[str]]:
    """Archives that cached environments link to symbolically, and those environments."""
    environments = [
        *((a.name, a.tree, {a.name}) for a in scan.archives.values() if a.is_environment),
        *(
            (part.key, part.tree, {*part.archives, *part.missing})
            for part in scan.parts
            if part.what == "environment"
        ),
    ]
    found: dict[str, list[str]] = {}
    for user, tree, own in environments:
        for name in linked_archives(scan.root, tree) - own:
            found.setdefault(name, []).append(f"{CACHED}{user}")
    return found


def _users(
    scan: Scan, references: References, inside: dict[str, list[str]], archives: Iterable[Archive]
) -> tuple[tuple[str, ...], Block | None]:
    """Environments that link to these archives, and why they may not go.

    A symbolic link would dangle.
    """
    named: dict[str, None] = {}
    cached: dict[str, None] = {}
    block: Block | None = None
    outside = 0
    for archive in archives:
        for users, found in ((references.archives, named), (inside, cached)):
            for user in users.get(archive.name, ()):
                found[user] = None
                block = block or Block(BlockedBy.LINKED, f"{user} links to it symbolically")
        for key, each in archive.tree.linked.items():
            owners = scan.links[key]
            outside = max(outside, each.links - len(owners))
            named.update(dict.fromkeys(references.inodes.get(key, ())))
            for owner in owners:
                other = scan.archives.get(owner)
                if owner != archive.name and (
                    other.is_environment if other else owner.startswith("environments-")
                ):
                    cached[f"{CACHED}{owner}"] = None
    if archives and block is None and (why := references.in_use_perhaps):
        block = Block(BlockedBy.UNKNOWN, why)
    others = outside - len(named)
    more = [f"linked from {others} unknown place{'' if others == 1 else 's'}"] if others > 0 else []
    return (*named, *cached, *more), block


def _removable(
    scan: Scan, part: Part, *, is_temporary: bool, is_young: bool
) -> tuple[str, Block | None]:
    """Why plain ``clean`` takes it, and why it may not go now."""
    young = Block(BlockedBy.BEING_WRITTEN, "it may still be written to") if is_young else None
    if part.what == "unknown":
        return "", Block(BlockedBy.UNKNOWN, UNKNOWN)
    if is_temporary:
        return "stale temporary", young
    if part.bucket in scan.superseded:
        return "superseded layout", None
    if part.what == "archive":
        if not scan.is_understood:
            return "", Block(BlockedBy.UNKNOWN, "an unknown layout may lead to it")
        if scan.unread:
            return "", Block(BlockedBy.UNKNOWN, f"something may lead to it: {scan.unread[0]}")
        return "orphan", young
    # it leads to archives that are all gone, or is a lock that nothing is left of
    leads_nowhere = (
        not part.archives if part.missing else all(path.endswith(".lock") for path in part.paths)
    )
    if part.what in ("wheel", "environment") and leads_nowhere and not young:
        if scan.unread:
            return "", Block(BlockedBy.UNKNOWN, f"it may lead somewhere: {scan.unread[0]}")
        return "orphan", None
    return "", None


# -- names -----------------------------------------------------------------------------------------


def _named(scan: Scan, part: Part) -> Name:
    folder, _, last = part.key.rpartition("/")
    match part.what:
        case "archive" if not _is_environment(scan, part):
            found = dist_info(scan.archives[part.archives[0]].path) or ""
            name, _, version = found.removesuffix(".dist-info").partition("-")
            if version:
                return Name(normalize(name), version, certainty="content")
        case "wheel":
            told = part.pointer.filename if part.pointer else None
            return Name(*wheel_of(folder.rpartition("/")[2], last, told), "proven")
        case "sdist":
            return _sdist(part)
        case "page" if part.key.endswith(".rkyv"):
            return Name(last.removesuffix(".rkyv"), certainty="proven")
    return Name()


def wheel_of(
    project: str, stem: str, filename: str | None = None
) -> tuple[str, str | None, str | None, str]:
    """What a pointer's place says.

    Project, version, file name and tags. It lies in its project's directory, and its stem is the
    wheel's or lacks the project.

    Up to ``wheels-v3`` the stem is the whole of the file's name (uv 0.2 leaves the build number
    out); later ones leave the project out, and where the rest is long, a digest stands for the
    tags.

    >>> wheel_of("big-one", "1.0+l-3-py3-none-any")
    ('big-one', '1.0+l', 'big_one-1.0+l-3-py3-none-any.whl', 'py3-none-any')
    >>> wheel_of("big-one", "Big_One-1.0-py3-none-any")[:3]
    ('big-one', '1.0', 'Big_One-1.0-py3-none-any.whl')
    """
    if not filename:
        parts = stem.split("-")
        if len(parts) < 4:
            return project, parts[0] or None, None, ""
        whole = len(parts) > 4 and normalize(parts[0]) == project
        filename = f"{stem}.whl" if whole else f"{project.replace('-', '_')}-{stem}.whl"
    parts = filename.removesuffix(".whl").split("-")
    if len(parts) < 5:
        return project, None, filename, ""
    return project, parts[1], filename, "-".join(parts[-3:])


def _sdist(part: Part) -> Name:
    """From an index the path says it; for URLs, paths and git the metadata does."""
    files = list(shard_files([Path(part.paths[-1])]))
    wheels = [item.name for item in files if item.name.endswith(".whl")]
    filename = wheels[0] if len(wheels) == 1 else None
    words = filename.removesuffix(".whl").split("-") if filename else []
    tags = "-".join(words[-3:])
    parts = part.key.split("/")
    if (parts[1], len(parts)) in (("pypi", 4), ("index", 5)):
        return Name(parts[-2], parts[-1], filename, tags, "proven")
    metadata = [item.path for item in files if item.name == "metadata.msgpack"]
    project, version = metadata_name(metadata[-1]) if metadata else (None, None)
    if project is None and len(words) > 1:
        project, version = normalize(words[0]), words[1]
    return Name(project, version, filename, tags, "content" if project else "unknown")


def _repository(part: Part) -> str:
    """The URL that a git database was fetched from; empty for what is none."""
    for path in part.paths if part.what == "git" else ():
        if found := re.search(r"\bof (\S+)", read_text(Path(path, "FETCH_HEAD"), 4096)):
            return redacted_url(found[1])
    return ""
