"""What lies in the caches of conda, mamba (each leaf of its nested layout) and rattler.

Nothing is changed and nothing is locked for longer than a look.

Source of the layouts: conda 26.7 and py-rattler 0.28, by experiment; mamba 2.8 by its source.
rattler keeps no record of a package's origin; what the environments' records say of it is shown.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from entrepot.digests import Digest
from entrepot.errors import FormatError
from entrepot.fs import stamp
from entrepot.names import CONDA_SUFFIXES
from entrepot.ports.tool import Block, BlockedBy, Kind, Progress, Surroundings
from entrepot.redaction import redacted_url
from entrepot.tools._shared.disk_usage import KnownLinks, Tree, listed, measure
from entrepot.tools._shared.safe_read import read_regular
from entrepot.tools.conda.entry import (
    BEING_WRITTEN,
    UNKNOWN_LAYOUT,
    CondaEntry,
    load_json,
)
from entrepot.tools.conda.environments import (
    Mentions,
    has_link_into,
    mentions,
    package_folders,
    survey,
)
from entrepot.tools.conda.indexes import index_entries, is_index_file
from entrepot.tools.conda.locks import client_at_work, is_locked
from entrepot.tools.conda.pkgs_dirs import MAGIC, SCHEMES
from entrepot.tools.conda.proof import (
    RATTLER_LOCK,
    base,
    is_downloaded,
    is_left_over,
    is_logs,
    is_rattler_lock,
    names,
    why_no_cache,
)
from entrepot.tools.conda.urls import Urls, is_log, read_urls, stem

BUSY_S = 600.0
"""A package that was unpacked less than this ago may be about to be linked: no lock tells."""
STALE_TEMPORARY_S = 3600.0
"""A left-over that was not changed for so long is in no use any more."""
FRESH = Block(BlockedBy.RECENT, "unpacked less than ten minutes ago (--force takes it)")
FRESH_ARCHIVE = Block(BlockedBy.RECENT, "downloaded less than ten minutes ago (--force takes it)")
OUTSIDE = "a hard link outside the caches"
_REVISION_BYTES, _SHA256_BYTES = 8, 32


class Usage:
    """What decides whether packages are in use, each part worked out on first use.

    Args:
        around: where to look for caches, environments and clients.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    @classmethod
    def of(cls, around: Surroundings) -> Usage:
        """That of this look at several caches; a new one for a scan by itself."""
        return around.look.once(cls, lambda: cls(around)) if around.look else cls(around)

    @cached_property
    def client(self) -> Block | None:
        """Why packages of conda and mamba stay for now: a client is at work."""
        why = client_at_work(self._around.euid)
        return Block(BlockedBy.IN_USE, why) if why else None

    @cached_property
    def known_links(self) -> KnownLinks:
        """Links of each inode; folders that are not scanned are walked when a question needs it."""
        return KnownLinks(package_folders(self._around))

    @cached_property
    def mentions(self) -> Mentions:
        """Records of all known environments, and what of them could not be read."""
        return mentions(survey(self._around))


@dataclass(frozen=True, slots=True)
class Identity:
    """Which package something is, by its record."""

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


@dataclass(slots=True)
class FolderScan:
    """A look at one folder in which packages lie side by side.

    Args:
        tool: whose it is.
        place: the place that it belongs to; keys are relative to it.
        folder: itself.
        around: where to look.
        now: seconds since the epoch.
        keeps_records: whether the tool keeps archives, records and ``urls.txt`` (conda, mamba) or
            unpacked packages and a lock alone (rattler).
        progress: told now and then.
    """

    tool: str
    place: Path
    folder: Path
    around: Surroundings
    now: float
    keeps_records: bool = True
    progress: Progress | None = None
    urls: Urls = field(default_factory=lambda: Urls({}))
    """The log of downloads, once it was looked at."""
    _usage: Usage = field(init=False)
    _identities: dict[str, Identity] = field(default_factory=dict)

    def entries(self) -> list[CondaEntry]:
        """Every entry; none where it is unreadable or no package cache."""
        if why_no_cache(self.folder, self.around):
            return []
        self._usage = Usage.of(self.around)
        modes: dict[str, int] = {}
        for each in listed(self.folder):
            with suppress(OSError):
                modes[each.name] = stat.S_IFMT(each.stat(follow_symlinks=False).st_mode)
        folders = [name for name, mode in modes.items() if mode == stat.S_IFDIR]
        files = [name for name, mode in modes.items() if mode == stat.S_IFREG]
        self.urls = read_urls(self.folder, [*folders, *files])
        found: list[CondaEntry] = []
        # all is measured before a question is asked: a package may share files with a later one
        trees = self._usage.known_links.trees(self.folder, self.progress)
        if self.keeps_records and self.folder == self.place:
            # what lies in mamba's nested folders are entries of its own
            folders = [name for name in folders if name not in SCHEMES]
        measured = {name: trees.get(name) or measure(f"{self.folder}/{name}") for name in folders}
        for number, (name, tree) in enumerate(measured.items()):
            if self.progress and not number % 50:
                self.progress(number, len(measured), "entries")
            for entry in self._in_folder(name, tree):
                is_rattlers = entry.kind is Kind.UNPACKED and not self.keeps_records
                found.append(_with_origin(entry, self._usage.mentions) if is_rattlers else entry)
        for name in files:
            found += self._in_file(name, measure(f"{self.folder}/{name}"))
        for name, mode in modes.items():
            if mode not in (stat.S_IFDIR, stat.S_IFREG):
                what = "a symbolic link" if mode == stat.S_IFLNK else "no plain file"
                tree = measure(f"{self.folder}/{name}")
                found.append(self._not_ours(name, tree, f"{what}: conda ignores it"))
        return found

    def _in_folder(self, name: str, tree: Tree) -> Iterable[CondaEntry]:
        path = self.folder / name
        has_info = os.path.isdir(f"{path}/info")
        if name == "cache" and not has_info:
            # only conda and mamba keep their indexes here, and they log what they download
            return index_entries(
                self.tool,
                self.place,
                path,
                self.now,
                owner=self.folder,
                is_proven=is_log(self.folder),
            )
        if name == ".logs" and is_logs(path):
            return [self._plain(name, tree, Kind.LOG)]
        if is_left_over(self.folder, name, self.urls):
            return [self._left_over(name, tree)]
        if has_info:
            who = identify(path, name, self.urls)
            if who.proven or is_downloaded(self.folder, name, self.urls):
                self._identities[stem(name)] = who
                return [self._unpacked(name, tree, who)]
        elif is_downloaded(self.folder, name, self.urls):
            return [self._half(name, tree, named(name, self.urls))]
        if name in SCHEMES:
            return [self._not_ours(name, tree, "mamba's part of a shared folder")]
        return [replace(self._plain(name, tree, Kind.OTHER), block=UNKNOWN_LAYOUT, freeable=0)]

    def _in_file(self, name: str, tree: Tree) -> Iterable[CondaEntry]:
        if name.endswith(CONDA_SUFFIXES):
            return [self._archive(name, tree)]
        if name in {MAGIC, "urls"}:
            kept = self._not_ours(name, tree, f"{name}: conda does not see the cache without it")
            if name != MAGIC or not self.urls.stale:
                return [kept]
            stale = replace(
                self._plain(MAGIC, Tree(size=self.urls.stale_bytes), Kind.OTHER),
                key=f"{kept.key}#stale",
                removable_because="stale lines of urls.txt",
                extra={"lines": str(self.urls.stale)},
                stamp="",  # what is appended meanwhile does not matter: the file is read again
                stale_lines=self.urls.stale,
            )
            return [kept, stale]
        if is_left_over(self.folder, name, self.urls):
            return [self._left_over(name, tree)]
        is_lock = name.endswith(".lock") and is_rattler_lock(self.folder, name)
        if name == RATTLER_LOCK or is_lock:
            return []
        return [self._not_ours(name, tree, "not a package")]

    # -- packages ----------------------------------------------------------------------------------

    def _unpacked(self, name: str, tree: Tree, who: Identity) -> CondaEntry:
        path = self.folder / name
        if not os.path.isfile(f"{path}/info/index.json"):
            return self._half(name, tree, who)
        found = self._usage.mentions.of(base(name))
        outside = self._usage.known_links.is_linked_outside(tree)
        users = tuple(dict.fromkeys(str(mention.prefix) for mention in found))
        block, real = None, os.path.realpath(path)
        linked = (mention.prefix for mention in found if has_link_into(mention, real))
        if not outside and (prefix := next(linked, None)):
            text = f"{prefix} links to it symbolically: it would break"
            block = Block(BlockedBy.LINKED, text)
        block = block or self._may_be_in_use()
        if not block and self.now - tree.changed < BUSY_S:
            block = FRESH
        lock = path.with_name(f"{name}.lock")
        # the latest installation that is known, else when it was unpacked: no more is recorded
        used = max((mention.written for mention in found), default=tree.changed)
        if not found:
            with suppress(OSError):
                used = (path / "info/repodata_record.json").stat().st_mtime
        return replace(
            self._identified(self._plain(name, tree, Kind.UNPACKED), who),
            used=used,
            used_from="record" if found else "mtime",
            used_by=users or ((OUTSIDE,) if outside else ()),
            block=block or self._client(),
            certainty="proven"
            if who.recorded and who.url
            else "content"
            if who.name
            else "unknown",
            locations=(str(path), str(lock))
            if lock.is_file()
            else (str(path),),  # rattler's lock goes with it
            hard_linked=outside,
            is_package=True,
            links=tree.links,
        )

    def _half(self, name: str, tree: Tree, who: Identity) -> CondaEntry:
        """A package without ``index.json``: unpacking was interrupted, or it was damaged."""
        entry = self._identified(self._plain(name, tree, Kind.UNPACKED), who)
        if self._usage.known_links.is_linked_outside(tree):
            return replace(entry, used_by=(OUTSIDE,), hard_linked=True, is_package=True)
        if self.now - tree.changed < STALE_TEMPORARY_S:
            return replace(entry, kind=Kind.TEMP, block=BEING_WRITTEN)
        return replace(
            entry,
            kind=Kind.TEMP,
            block=self._may_be_in_use(),
            removable_because="half unpacked",
            is_package=True,
        )

    def _client(self) -> Block | None:
        """Why packages stay for now; rattler takes a lock instead, see removal."""
        return self._usage.client if self.keeps_records else None

    def _may_be_in_use(self) -> Block | None:
        why = self._usage.mentions.in_use_perhaps
        return Block(BlockedBy.UNKNOWN, why) if why else None

    def _archive(self, name: str, tree: Tree) -> CondaEntry:
        who = named(name, self.urls)
        record = self._identities.get(stem(name))
        if record and record.proven and record.filename == name:
            who = record
        elif name not in self.urls.logged:
            # conda does not use it either: somebody has put it there
            return self._not_ours(name, tree, "neither urls.txt nor a package names it")
        entry = self._identified(self._plain(name, tree, Kind.ARCHIVE), replace(who, filename=name))
        return replace(
            entry,
            certainty="proven" if who.recorded and who.url else "hash" if who.url else "content",
            block=FRESH_ARCHIVE if self.now - tree.changed < BUSY_S else self._client(),
        )

    # -- everything else ---------------------------------------------------------------------------

    def _left_over(self, name: str, tree: Tree) -> CondaEntry:
        entry = self._plain(name, tree, Kind.TEMP)
        is_young = self.now - tree.changed < STALE_TEMPORARY_S
        if name.endswith(".partial") and (self.folder / name).is_file():
            entry = self._identified(entry, named(name.removesuffix(".partial"), self.urls))
            if is_young or is_locked(self.folder / name):
                return replace(entry, block=BEING_WRITTEN)
        elif is_young:
            text = "left-over younger than an hour"
            return replace(entry, block=Block(BlockedBy.BEING_WRITTEN, text))
        return replace(entry, removable_because="stale temporary")

    def _not_ours(self, name: str, tree: Tree, why: str) -> CondaEntry:
        entry = self._plain(name, tree, Kind.OTHER)
        return replace(entry, block=Block(BlockedBy.NOT_OURS, why), freeable=0)

    def _identified(self, entry: CondaEntry, who: Identity) -> CondaEntry:
        facts = {"build": who.build, "subdir": who.subdir, "channel": who.channel}
        return replace(
            entry,
            project=who.name,
            version=who.version,
            filename=who.filename,
            origin=who.url,
            digest=who.digest,
            tags=" ".join(part for part in (who.subdir, who.build) if part),
            extra={key: value for key, value in facts.items() if value},
        )

    def _plain(self, name: str, tree: Tree, kind: Kind) -> CondaEntry:
        path = self.folder / name
        try:
            about = path.lstat()
        except OSError:
            about = None
        return CondaEntry(
            self.tool,
            self.place,
            path.relative_to(self.place).as_posix(),
            kind,
            size=tree.size,
            disk=tree.disk,
            freeable=tree.freeable,
            files=tree.files,
            used=about.st_mtime if about else None,
            used_from="mtime" if about else "",
            locations=(str(path),),
            stamp=stamp(about) if about else "",
            folder=self.folder,
        )


# -- which package something is --------------------------------------------------------------------


def identify(folder: Path, name: str, urls: Urls) -> Identity:
    """Which package an unpacked one is: by the record, ``index.json``, or its folder's name."""
    record, index = load_json(f"{folder}/info/repodata_record.json"), f"{folder}/info/index.json"
    data = record or load_json(index)
    if not data.get("name"):
        return named(name, urls)
    filename = _text(data, "fn") or next(
        (stem(name) + e for e in CONDA_SUFFIXES if stem(name) + e in urls.by_name), None
    )
    return Identity(
        _text(data, "name").lower(),
        _text(data, "version") or None,
        _text(data, "build") or _text(data, "build_string"),
        _text(data, "subdir"),
        _redacted(_text(data, "channel")),
        _redacted(_text(data, "url") or urls.by_name.get(filename or "", "")),
        filename if filename and filename.endswith(CONDA_SUFFIXES) else None,
        _digest(data),
        recorded=bool(record),
        proven=names(data, name) or (bool(record) and names(load_json(index), name)),
    )


def named(name: str, urls: Urls) -> Identity:
    """Which package an archive or a folder is by its name alone: NAME-VERSION-BUILD."""
    url = urls.by_name.get(name, "")
    shown = redacted_url(url) if url else ""
    filename = name if name.endswith(CONDA_SUFFIXES) else None
    parts = stem(base(name)).rsplit("-", 2)
    if len(parts) < 3:
        return Identity(filename=filename, url=shown)
    channel = url.rpartition("/")[0]
    above, _, subdir = channel.rpartition("/")
    channel = redacted_url(channel) if above else ""
    return Identity(parts[0].lower(), parts[1], parts[2], subdir, channel, shown, filename)


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _redacted(text: str) -> str:
    return redacted_url(text) if "://" in text else text


def _digest(data: dict[str, Any]) -> Digest | None:
    for algorithm in ("sha256", "md5"):
        try:
            return Digest(algorithm, _text(data, algorithm).lower())
        except FormatError:
            continue
    return None


# -- rattler and pixi ------------------------------------------------------------------------------


def _with_origin(entry: CondaEntry, known: Mentions) -> CondaEntry:
    """A package with its lock file's digest and the origin that an environment records."""
    path = entry.paths[0]
    for mention in known.of(path.name)[:1]:
        record = load_json(mention.record)
        url, channel = str(record.get("url") or ""), str(record.get("channel") or "")
        if url:
            told = {"channel": _redacted(channel)} if channel else {}
            entry = replace(
                entry,
                origin=redacted_url(url),
                filename=str(record.get("fn") or "") or entry.filename,
                extra={**entry.extra, **told},
                certainty="hash",
            )
    return replace(entry, digest=_lock_digest(path.with_name(f"{path.name}.lock")) or entry.digest)


def _lock_digest(path: Path) -> Digest | None:
    """The sha256 of the archive that a package came from; ``None`` when it was not noted.

    Source: py-rattler 0.28: ``NAME.lock`` is 8 bytes of revision and 32 of it, or empty.
    """
    try:
        raw = read_regular(path)
    except OSError:
        return None
    digest = raw[_REVISION_BYTES : _REVISION_BYTES + _SHA256_BYTES]
    return Digest("sha256", digest.hex()) if len(digest) == _SHA256_BYTES else None


def scan_rest(tool: str, root: Path, part: str, now: float) -> Iterator[CondaEntry]:
    """What lies in a folder of rattler's beside packages: indexes; all else by its size.

    Args:
        tool: whose it is.
        root: the place.
        part: what it is for; see :func:`.rattler_dirs.part_of`.
        now: seconds since the epoch.
    """
    if part in ("repodata", "conda-packages"):
        if part == "repodata":
            yield from index_entries(tool, root, root, now, owner=root, is_proven=False)
        return
    loose = False
    for name in [each.name for each in listed(root)]:
        path = root / name
        if name == "pkgs":
            continue
        if is_index_file(name) or name == "shards-v1":
            loose = True
        elif name in ("repodata", "run-exports"):
            yield from index_entries(tool, root, path, now, owner=path, is_proven=False)
        else:
            tree = measure(str(path))
            is_uvs = name == "uv-cache"
            why = "uv's cache inside pixi's" if is_uvs else UNKNOWN_LAYOUT.text
            yield CondaEntry(
                tool,
                root,
                name,
                Kind.OTHER,
                size=tree.size,
                disk=tree.disk,
                freeable=0,
                files=tree.files,
                block=Block(BlockedBy.NOT_OURS, why),
                locations=(str(path),),
                folder=root,
            )
    if loose:
        for entry in index_entries(tool, root, root, now, owner=root, is_proven=False):
            if is_index_file(entry.paths[0].name) or entry.key == "shards-v1":
                yield entry
