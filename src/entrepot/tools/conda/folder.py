"""What lies in one folder of packages, whichever client filled it.

Conda, mamba (each leaf of its nested layout) or rattler.

Nothing is changed and nothing is locked for longer than a look. Source of the layout: conda 26.7
and py-rattler 0.28, by experiment; mamba 2.8 by its source.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from entrepot.digests import Digest
from entrepot.errors import FormatError
from entrepot.names import CONDA_SUFFIXES
from entrepot.ports.tool import Block, BlockedBy, Entry, Kind, Progress
from entrepot.redaction import redacted_url
from entrepot.tools._shared.disk_usage import KnownLinks, Tree, measure
from entrepot.tools._shared.noatime import quick_allocation
from entrepot.tools.conda.environments import Mention, Mentions, has_link_into, load_json
from entrepot.tools.conda.indexes import index_entries
from entrepot.tools.conda.locked import is_locked
from entrepot.tools.conda.mamba_dirs import SCHEMES
from entrepot.tools.conda.proof import (
    RATTLER_LOCK,
    base,
    is_downloaded,
    is_left_over,
    is_logs,
    is_rattler_lock,
    names,
)
from entrepot.tools.conda.urls import Urls, is_log, read_urls, stem
from entrepot.tools.conda.writable import MAGIC

BUSY_S = 600.0
"""A package that was unpacked less than this ago may be about to be linked: no lock tells."""
STALE_TEMPORARY_S = 3600.0
"""A left-over that was not changed for so long is in no use any more."""
FRESH = Block(BlockedBy.RECENT, "unpacked less than ten minutes ago (--force takes it)")
FRESH_ARCHIVE = Block(BlockedBy.RECENT, "downloaded less than ten minutes ago (--force takes it)")
BEING_WRITTEN = Block(BlockedBy.BEING_WRITTEN, "being written")
OUTSIDE = "a hard link outside the caches"
HALF_UNPACKED = "half unpacked"
NO_PACKAGE = Block(BlockedBy.NOT_OURS, "not a package")
UNKNOWN_LAYOUT = Block(BlockedBy.UNKNOWN, "unknown layout: sizes only")
NOT_LOGGED = Block(BlockedBy.NOT_OURS, "neither urls.txt nor a package names it")


@dataclass(slots=True)
class Look:
    """What a scan of one folder is asked, and what it needs to know of the world."""

    tool: str
    place: Path
    folder: Path
    now: float
    known_links: KnownLinks
    mentions: Mentions
    known: frozenset[str] = frozenset()
    """Names of top-level folders that belong to another part of the cache and are not looked at."""
    progress: Progress | None = None
    urls: Urls = field(default_factory=lambda: Urls({}))
    block: Block | None = None
    """Why packages stay for now."""
    is_cache: bool = True
    """Whether the folder is a package cache at all; nothing in another one is looked at."""


@dataclass(slots=True)
class _Listing:
    folders: list[str] = field(default_factory=list)
    files: list[tuple[str, os.stat_result]] = field(default_factory=list)
    links: list[tuple[str, os.stat_result]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a package is, by its record."""

    name: str | None = None
    version: str | None = None
    build: str = ""
    subdir: str = ""
    channel: str = ""
    url: str = ""
    filename: str | None = None
    digest: Digest | None = None
    recorded: bool = False
    """A record of the channel's is there, not the package's own ``index.json`` alone."""
    proven: bool = False
    """The record or ``index.json`` is of the package that the folder is called after."""


def entries(look: Look) -> Iterator[Entry]:
    """Every entry of one folder; one that is unreadable or no package cache has none."""
    if not look.is_cache:
        return
    with quick_allocation():
        found = list(_entries(look))
    yield from found


def _entries(look: Look) -> Iterator[Entry]:
    found = _list(look.folder)
    look.urls = read_urls(look.folder, [*found.folders, *(name for name, _ in found.files)])
    identities: dict[str, Identity] = {}
    trees = _trees(look, found)
    for number, (name, tree) in enumerate(trees):
        if look.progress and not number % 50:
            look.progress(number, len(trees), "entries")
        if name == "cache" and not _has_info(look.folder / name):
            # only conda and mamba keep their indexes here, and they log what they download
            is_proven = is_log(look.folder)
            yield from index_entries(
                look.tool, look.place, look.folder / name, look.now, is_proven=is_proven
            )
            continue
        if name == ".logs" and is_logs(look.folder / name):
            yield _plain(look, name, tree, Kind.LOG)
            continue
        if is_left_over(look.folder, name, look.urls):
            yield _leftover(look, name, tree)
            continue
        who = (
            identify(look.folder / name, name, look.urls) if _has_info(look.folder / name) else None
        )
        if who is None or not (who.proven or is_downloaded(look.folder, name, look.urls)):
            yield _strange(look, name, tree)
            continue
        identities[stem(name)] = who
        yield _unpacked(look, name, tree, who)
    yield from _files(look, found, identities)


def _trees(look: Look, found: _Listing) -> list[tuple[str, Tree]]:
    """Measure every folder before a question is asked.

    A package may share files with one that comes later.
    """
    trees = look.known_links.trees(look.folder, look.progress)
    names = [name for name in found.folders if name not in look.known]
    return [(name, trees.get(name) or measure(f"{look.folder}/{name}")) for name in names]


def _list(folder: Path) -> _Listing:
    found = _Listing()
    try:
        with os.scandir(folder) as names:
            for each in sorted(names, key=lambda entry: entry.name):
                if each.is_dir(follow_symlinks=False):
                    found.folders.append(each.name)
                    continue
                try:
                    about = each.stat(follow_symlinks=False)
                except OSError:
                    continue
                (found.files if stat.S_ISREG(about.st_mode) else found.links).append(
                    (each.name, about)
                )
    except OSError:
        pass
    return found


def _has_info(folder: Path) -> bool:
    return os.path.isdir(f"{folder}/info")  # a thousand of these


# -- packages --------------------------------------------------------------------------------------


def identify(folder: Path, name: str, urls: Urls) -> Identity:
    """Who an unpacked package is.

    By the record, else its ``index.json``, else its folder's name.
    """
    record = load_json(f"{folder}/info/repodata_record.json")
    data = record or load_json(f"{folder}/info/index.json")
    if not data.get("name"):
        return named(name, urls)
    proven = names(data, name) or (
        bool(record) and names(load_json(f"{folder}/info/index.json"), name)
    )
    filename = _text(data, "fn") or next(
        (stem(name) + e for e in CONDA_SUFFIXES if stem(name) + e in urls.by_name), None
    )
    url = _text(data, "url") or urls.by_name.get(filename or "", "")
    channel = _text(data, "channel")
    return Identity(
        _text(data, "name").lower(),
        _text(data, "version") or None,
        _text(data, "build") or _text(data, "build_string"),
        _text(data, "subdir"),
        redacted_url(channel) if "://" in channel else channel,
        redacted_url(url) if "://" in url else url,
        filename if filename and filename.endswith(CONDA_SUFFIXES) else None,
        _digest(data),
        recorded=bool(record),
        proven=proven,
    )


def named(name: str, urls: Urls) -> Identity:
    """Who an archive or a folder is by its name alone.

    The last two dashes part name, version and build.
    """
    parts = stem(base(name)).rsplit("-", 2)
    url = urls.by_name.get(name, "")
    filename = name if name.endswith(CONDA_SUFFIXES) else None
    if len(parts) < 3:
        return Identity(filename=filename, url=redacted_url(url) if url else "")
    channel, _, subdir = url.rpartition("/")[0].rpartition("/")
    channel = f"{channel}/{subdir}" if channel else ""
    return Identity(
        parts[0].lower(),
        parts[1],
        parts[2],
        subdir,
        redacted_url(channel) if channel else "",
        redacted_url(url) if url else "",
        filename,
    )


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _digest(data: dict[str, Any]) -> Digest | None:
    for algorithm in ("sha256", "md5"):
        try:
            return Digest(algorithm, _text(data, algorithm).lower())
        except FormatError:
            continue
    return None


def _unpacked(look: Look, name: str, tree: Tree, who: Identity) -> Entry:
    path = look.folder / name
    if not os.path.isfile(f"{path}/info/index.json"):
        return _half(look, name, tree, who)
    mentions = look.mentions.of(base(name))
    outside = look.known_links.is_linked_outside(tree)
    users = tuple(dict.fromkeys(str(mention.prefix) for mention in mentions))
    block = None if outside else _symbolic(mentions, path)
    block = block or _unknown(look.mentions.in_use_perhaps)
    if not block and look.now - tree.changed < BUSY_S:
        block = FRESH
    block = block or look.block
    used, used_from = _last_use(path, tree, mentions)
    entry = _plain(look, name, tree, Kind.UNPACKED)
    return replace(
        _identified(entry, who),
        used=used,
        used_from=used_from,  # type: ignore[arg-type]  # one of the words
        used_by=users or ((OUTSIDE,) if outside else ()),
        block=block,
        certainty="proven" if who.recorded and who.url else "content" if who.name else "unknown",
        paths=(path, *_lock_beside(path)),
        extra={
            **_facts(who),
            **entry.extra,
            "links": str(tree.links),
        },
        hard_linked=outside,
    )


def _unknown(why: str) -> Block | None:
    return Block(BlockedBy.UNKNOWN, why) if why else None


def _symbolic(mentions: list[Mention], path: Path) -> Block | None:
    package = os.path.realpath(path)
    for mention in mentions:
        if has_link_into(mention, package):
            text = f"{mention.prefix} links to it symbolically: it would break"
            return Block(BlockedBy.LINKED, text)
    return None


def _last_use(path: Path, tree: Tree, mentions: list[Mention]) -> tuple[float, str]:
    """The latest installation that is known, else when it was unpacked: no more is recorded."""
    if mentions:
        return max(mention.written for mention in mentions), "record"
    for name in ("info/repodata_record.json", "info/index.json"):
        try:
            return (path / name).stat().st_mtime if name.endswith(
                "record.json"
            ) else tree.changed, "mtime"
        except OSError:
            continue
    return tree.changed, "mtime"


def _half(look: Look, name: str, tree: Tree, who: Identity) -> Entry:
    """An ``info`` folder without ``index.json``: unpacking was interrupted, or it was damaged."""
    entry = _identified(_plain(look, name, tree, Kind.UNPACKED), who)
    if look.known_links.is_linked_outside(tree):
        return replace(
            entry, used_by=(OUTSIDE,), extra={**entry.extra, **_facts(who)}, hard_linked=True
        )
    if look.now - tree.changed < STALE_TEMPORARY_S:
        return replace(entry, kind=Kind.TEMP, block=BEING_WRITTEN)
    return replace(
        entry,
        kind=Kind.TEMP,
        block=_unknown(look.mentions.in_use_perhaps),
        removable_because=HALF_UNPACKED,
        extra={**entry.extra, **_facts(who)},
    )


def _lock_beside(path: Path) -> tuple[Path, ...]:
    """Rattler's lock file beside a package goes with it."""
    lock = path.with_name(path.name + ".lock")
    return (lock,) if lock.is_file() else ()


def _facts(who: Identity) -> dict[str, str]:
    return {key: value for key in ("build", "subdir", "channel") if (value := getattr(who, key))}


def _identified(entry: Entry, who: Identity) -> Entry:
    return replace(
        entry,
        project=who.name,
        version=who.version,
        filename=who.filename,
        origin=who.url,
        digest=who.digest,
        tags=" ".join(part for part in (who.subdir, who.build) if part),
    )


# -- everything else -------------------------------------------------------------------------------


def stamp(about: os.stat_result) -> str:
    """What changes when a file or folder is replaced or written to."""
    return f"{about.st_ino}:{about.st_mtime_ns}:{about.st_size}"


def _plain(look: Look, name: str, tree: Tree, kind: Kind) -> Entry:
    path = look.folder / name
    try:
        about = path.lstat()
    except OSError:
        about = None
    return Entry(
        look.tool,
        look.place,
        path.relative_to(look.place).as_posix(),
        kind,
        size=tree.size,
        disk=tree.disk,
        freeable=tree.freeable,
        files=tree.files,
        used=about.st_mtime if about else None,
        used_from="mtime" if about else "",
        paths=(path,),
        stamp=stamp(about) if about else "",
    )


def _leftover(look: Look, name: str, tree: Tree) -> Entry:
    entry = _plain(look, name, tree, Kind.TEMP)
    if look.now - tree.changed < STALE_TEMPORARY_S:
        text = "left-over younger than an hour"
        return replace(entry, block=Block(BlockedBy.BEING_WRITTEN, text))
    return replace(entry, removable_because="stale temporary")


def _strange(look: Look, name: str, tree: Tree) -> Entry:
    """A folder that does not say what it is: half a package, or nothing of the tool's."""
    entry = _plain(look, name, tree, Kind.OTHER)
    if not _has_info(look.folder / name) and is_downloaded(look.folder, name, look.urls):
        return _half(look, name, tree, named(name, look.urls))
    mambas = Block(BlockedBy.NOT_OURS, "mamba's part of a shared folder")
    return replace(entry, block=mambas if name in SCHEMES else UNKNOWN_LAYOUT, freeable=0)


def _files(look: Look, found: _Listing, identities: dict[str, Identity]) -> Iterator[Entry]:
    for name, _ in found.files:
        tree = measure(f"{look.folder}/{name}")
        if name.endswith(CONDA_SUFFIXES):
            yield _archive(look, name, tree, identities)
        elif name.endswith(".partial") and is_left_over(look.folder, name, look.urls):
            yield _partial(look, name, tree)
        elif name in {MAGIC, "urls"}:
            yield replace(
                _plain(look, name, tree, Kind.OTHER),
                block=Block(BlockedBy.NOT_OURS, f"{name}: conda does not see the cache without it"),
                freeable=0,
            )
            if name == MAGIC and look.urls.stale:
                yield _stale_lines(look)
        elif is_left_over(look.folder, name, look.urls):
            yield _leftover(look, name, tree)
        elif name != RATTLER_LOCK and not (
            name.endswith(".lock") and is_rattler_lock(look.folder, name)
        ):
            yield replace(_plain(look, name, tree, Kind.OTHER), block=NO_PACKAGE, freeable=0)
    for name, about in found.links:
        tree = measure(f"{look.folder}/{name}")
        what = "a symbolic link" if stat.S_ISLNK(about.st_mode) else "no plain file"
        block = Block(BlockedBy.NOT_OURS, f"{what}: conda ignores it")
        yield replace(_plain(look, name, tree, Kind.OTHER), block=block, freeable=0)


def _archive(look: Look, name: str, tree: Tree, identities: dict[str, Identity]) -> Entry:
    who = named(name, look.urls)
    record = identities.get(stem(name))
    if record and record.proven and record.filename == name:
        who = record
    elif name not in look.urls.logged:
        # conda does not use it either: somebody has put it there
        return replace(_plain(look, name, tree, Kind.OTHER), block=NOT_LOGGED, freeable=0)
    entry = _identified(_plain(look, name, tree, Kind.ARCHIVE), replace(who, filename=name))
    certainty = "proven" if who.recorded and who.url else "hash" if who.url else "content"
    block = FRESH_ARCHIVE if look.now - tree.changed < BUSY_S else look.block
    return replace(
        entry,
        certainty=certainty,  # type: ignore[arg-type]  # one of the words
        block=block,
        extra={**entry.extra, **_facts(who)},
    )


def _partial(look: Look, name: str, tree: Tree) -> Entry:
    entry = _identified(
        _plain(look, name, tree, Kind.TEMP), named(name[: -len(".partial")], look.urls)
    )
    if is_locked(look.folder / name) or look.now - tree.changed < STALE_TEMPORARY_S:
        return replace(entry, block=BEING_WRITTEN)
    return replace(entry, removable_because="stale temporary")


def _stale_lines(look: Look) -> Entry:
    entry = _plain(look, MAGIC, Tree(size=look.urls.stale_bytes), Kind.OTHER)
    extra = {"lines": str(look.urls.stale), "prune": "urls"}
    key = (look.folder.relative_to(look.place) / f"{MAGIC}#stale").as_posix()
    return replace(entry, key=key, removable_because="stale lines of urls.txt", extra=extra)
