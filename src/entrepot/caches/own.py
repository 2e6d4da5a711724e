"""The store of entrepot as one more tool: every verb sees it through ``ports/tool.py``.

Rows come from the catalogue, which may lag behind; everything that is removed is looked at in the
store first. ``status`` and ``list`` never load asyncio.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from entrepot.caches import NAME
from entrepot.caches.inventory import GROUPS, cache_total
from entrepot.digests import Digest
from entrepot.errors import Busy, EntrepotError, StoreError
from entrepot.ports.store import read_object
from entrepot.ports.tool import (
    Block,
    BlockedBy,
    CacheTotal,
    Entry,
    Finding,
    Kind,
    Layer,
    Place,
    Progress,
    Removed,
    Settings,
    SharedFile,
    Sum,
    Surroundings,
    Tool,
    not_permitted,
)

if TYPE_CHECKING:  # `where` says where the store is without loading what reads it
    from entrepot.ports.catalogue import Listed, Opened

HEAD_DISK = 4096
"""Bytes of disk a head is counted with when no head can be looked at: it is smaller than a block on
the common file systems."""

READ_ONLY = "the file system is read-only"


State = Literal["fresh", "stale", ""]


class _Waits(NamedTuple):
    """What a leftover is called, and from which age in seconds it may go.

    ``busy_s`` is for where no lock tells; at ``removable_s`` it goes by itself.
    """

    busy_s: float
    removable_s: float
    busy: str
    removable: str


PARTIAL = _Waits(600, 7 * 86_400, "a download in progress", "unfinished download")
"""A later run would resume it: for a week it goes only when it is asked for."""

TEMPORARY = _Waits(3_600, 3_600, "being written", "stale temporary")


class Directory(Protocol):
    """What can be told of a store's directory without opening it."""

    def is_store(self, root: str | os.PathLike[str], /) -> bool:
        """Whether it has a store's marker."""
        ...

    def looks_like_a_store(self, root: Path, /) -> bool:
        """Whether it is a store or was one."""
        ...

    def why_no_store(self, path: Path, /) -> str:
        """Why what is there cannot be made a store; empty when it can."""
        ...


class OwnCache(Tool):
    """The store behind the tool port.

    Args:
        root: the store's directory, absolute.
        layers: why it is there, strongest first.
        directory: judges directories.
        open_store: opens it on first need; it is called only when the directory exists.
        settings: entrepot's own configuration.
        now: the clock, seconds since the epoch.
    """

    name = NAME

    def __init__(
        self,
        root: Path,
        *,
        layers: tuple[Layer, ...],
        directory: Directory,
        open_store: Callable[[], Opened],
        settings: Settings | None = None,
        now: Callable[[], float],
    ) -> None:
        self._root = root
        self._layers = layers
        self._directory = directory
        self._open_store = open_store
        self._settings = settings
        self._now = now
        self._opened: Opened | None = None
        self._head_disk = 0

    def _open(self) -> Opened:
        if self._opened is None:
            self._opened = self._open_store()
        return self._opened

    def counters(self) -> Mapping[str, int]:
        """What the store has saved so far (lossy); only for a place that exists."""
        return self._open().catalogue.counters()

    def close(self) -> None:
        """Close the catalogue, when it was opened."""
        if self._opened is not None:
            self._opened.catalogue.close()
            self._opened = None

    def places(self, around: Surroundings) -> Sequence[Place]:
        """The one directory; only looked at, not opened and not made."""
        del around
        root = self._root
        marked = self._directory.is_store(root)
        # What looks like a store and is none is opened all the same: that says why, and fails.
        exists = self._directory.looks_like_a_store(root)
        why_not = ""
        if marked:
            block = self._refusal()
            why_not = block.text if block else ""
            why_not = f"{root}: {why_not}" if why_not == READ_ONLY else why_not
        elif os.path.lexists(root):
            why_not = self._directory.why_no_store(root)
        cure = "; set another with --store or ENTREPOT_STORE" if why_not else ""
        # Nothing uses a store at the default place when another was chosen since.
        notes = tuple(
            f"{old} is not in use and still holds a store; to empty it: "
            f"entrepot clean --tool entrepot --all --store {old}"
            for old in (layer.value for layer in self._layers if layer.kind == "default")
            if old not in ("", str(root)) and self._directory.is_store(old)
        )
        return (
            Place(
                NAME,
                root,
                self._layers,
                exists=exists,
                usable=not why_not,
                why_not=f"{why_not}{cure}",
                notes=notes,
            ),
        )

    def settings(self, around: Surroundings) -> Settings | None:
        """The settings of entrepot itself."""
        del around
        return self._settings

    # -- looking -----------------------------------------------------------------------------------

    def scan(
        self, place: Place, around: Surroundings, *, progress: Progress | None = None
    ) -> Iterator[Entry]:
        """One entry a head, from the catalogue, and one a partial download.

        None may go where the store cannot be written.
        """
        del around
        yield from self._entries(place, progress)

    def _entries(
        self, place: Place, progress: Progress | None = None, *, with_state: bool = True
    ) -> Iterator[Entry]:
        refusal = self._refusal()
        rows = list(self._open().catalogue.listing())
        sharers = Counter(row.body for row in rows if row.body)
        for number, row in enumerate(rows):
            if progress and number % 1000 == 0:
                progress(number, len(rows), "entries")
            state = self._state(row) if with_state else ""
            yield self._entry(row, refusal, state, sharers=sharers[row.body] if row.body else 0)
        yield from self._leftovers(place, refusal)

    def _refusal(self) -> Block | None:
        """Why nothing of the store may be removed; ``None`` when it may."""
        if os.access(self._root, os.W_OK | os.X_OK):
            return None
        text = f"{self._root} is not yours to write"
        with suppress(OSError, AttributeError):
            if os.statvfs(self._root).f_flag & os.ST_RDONLY:
                text = READ_ONLY
        return Block(BlockedBy.NOT_PERMITTED, text)

    def _leftovers(self, place: Place, refusal: Block | None) -> Iterator[Entry]:
        """One entry a partial download, with its state, and one a temporary file."""
        from entrepot.stored import TransferState  # noqa: PLC0415

        for each in self._open().store.leftovers():
            waits, age = PARTIAL if each.is_partial else TEMPORARY, self._now() - each.modified
            is_busy = age < waits.busy_s if each.locked is None else each.locked
            # What a download was to become. Project and version are not told: it is neither yet.
            told = TransferState.from_bytes(each.state) if each.state else None
            yield Entry(
                tool=place.tool,
                place=self._root,
                key=each.key,
                kind=Kind.TEMP,
                size=each.size,
                disk=each.disk,
                freeable=each.disk,
                files=len(each.paths),
                filename=told.head.filename if told else None,
                used=each.modified,
                used_from="mtime",
                block=refusal or (Block(BlockedBy.IN_USE, waits.busy) if is_busy else None),
                removable_because=waits.removable if age > waits.removable_s else "",
                locations=tuple(map(str, each.paths)),
            )

    def _entry(self, row: Listed, refusal: Block | None, state: State, *, sharers: int) -> Entry:
        from entrepot.stored import body_key  # noqa: PLC0415

        body = Digest.parse(row.body) if row.body else None
        head_disk = self._disk_of_a_head(row.key)
        keys = (row.key, body_key(body)) if body else (row.key,)
        paths = tuple(self._root / key for key in keys)
        linked = body is not None and _has_other_names(paths[-1])
        proven = bool(row.proven)
        return Entry(
            tool=NAME,
            place=self._root,
            key=row.key,
            kind=_kind(row.kind),
            size=row.size or 0,
            disk=row.disk + head_disk,
            freeable=head_disk if sharers > 1 or linked else row.disk + head_disk,
            files=len(paths),
            project=row.project,
            version=row.version,
            filename=row.filename,
            certainty="proven" if proven else ("content" if row.project else "unknown"),
            used=row.used,
            used_from="record",
            block=refusal,
            origin=row.url,
            digest=body,
            state=state,
            trust="proven" if proven else ("unproven" if body and row.status == 200 else ""),
            locations=tuple(map(str, paths)),
            extra={"status": str(row.status)},
            shared=SharedFile(row.body, row.disk, sharers) if row.body and sharers > 1 else None,
            hard_linked=linked,
        )

    def _state(self, row: Listed) -> State:
        """Fresh or stale by RFC 9111; what is immutable is fresh for ever.

        The head has to be read for all else.
        """
        if row.proven and row.body:
            return "fresh"
        from entrepot.httpcache.freshness import (  # noqa: PLC0415
            current_age,
            freshness_lifetime,
            is_from_the_future,
        )
        from entrepot.stored import Head  # noqa: PLC0415

        store = self._open().store
        try:
            raw = read_object(store, row.key)
            if raw is None:
                return ""
            stored = Head.from_bytes(raw).response
        except EntrepotError:
            return ""
        lifetime = freshness_lifetime(stored, shared=store.shared)
        return (
            "fresh"
            if lifetime is not None
            and current_age(stored, self._now()) < lifetime
            and not is_from_the_future(stored, self._now())
            else "stale"
        )

    def _disk_of_a_head(self, key: str) -> int:
        """Bytes of disk that a head gives back, its directory counted.

        Those of the first one are taken for all.
        """
        if not self._head_disk:
            self._head_disk = HEAD_DISK
            with suppress(OSError, AttributeError):
                path = self._root / key
                self._head_disk = (path.stat().st_blocks + path.parent.stat().st_blocks) * 512
        return self._head_disk

    def summary(self, place: Place, around: Surroundings) -> CacheTotal:
        """What ``cache_total`` makes of a scan, without a look into heads, and the overhead."""
        del around
        entries = list(self._entries(place, with_state=False))
        held, overhead = cache_total(place, entries), self._open().store.overhead()
        groups = {Kind.OTHER.group: Sum(), **held.groups}
        for each in (held.total, groups[Kind.OTHER.group]):
            each.add_bare(0, files=0, size=0, disk=overhead, used=None, freeable=0)
        bodies = {each.digest: each.disk - self._head_disk for each in entries if each.hard_linked}
        return replace(
            held,
            groups={name: groups[name] for name in GROUPS if name in groups},
            linked=sum(bodies.values()),
            overhead=overhead,
        )

    # -- removing ----------------------------------------------------------------------------------

    def remove(
        self,
        entries: Sequence[Entry],
        around: Surroundings,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Removed:
        """Remove heads, then the bodies that no other head names.

        ``freed`` is what the store says it gave back.
        """
        del around
        opened = self._open()
        gone: list[Entry] = []
        kept: list[tuple[Entry, str]] = []
        freed = files = 0
        for number, entry in enumerate(entries):
            if progress:
                progress(number, len(entries), "entries")
            try:
                if entry.kind is Kind.TEMP:
                    size = None if force else entry.size
                    given = opened.store.remove_leftover(entry.key, size=size)
                    outcome: tuple[int, int] | str = (
                        given or 0,
                        0 if given is None else entry.files,
                    )
                else:
                    outcome = _remove_one(opened, entry)
            except Busy as exc:
                kept.append((entry, exc.message))
                continue
            except StoreError as exc:
                kept.append(not_permitted(entry, exc.message))
                continue
            if isinstance(outcome, str):
                kept.append((entry, outcome))
            else:
                gone.append(entry)
                freed, files = freed + outcome[0], files + outcome[1]
        if opened.catalogue.degraded:  # a full disk would not let it be written; now there is room
            opened.catalogue.close()
            opened.catalogue.forget([entry.key for entry in gone])
        return Removed(tuple(gone), freed, files, tuple(kept))

    # -- checking ----------------------------------------------------------------------------------

    def verify(
        self,
        place: Place,
        around: Surroundings,
        *,
        repair: bool = False,
        full: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Finding]:
        """Every head and every body; bodies are always hashed, so ``full`` changes nothing here."""
        del place, around, full
        # Hashing is not needed to list
        from entrepot.caches.verify import verify_store  # noqa: PLC0415

        yield from verify_store(self._open(), repair=repair, progress=progress)


def _remove_one(opened: Opened, entry: Entry) -> tuple[int, int] | str:
    """Remove a head and, when no other head names it, its body.

    Returns:
        Bytes of disk given back, and files deleted; or why it stays.
    """
    from entrepot.stored import Head, body_key, is_head_key  # noqa: PLC0415

    key, body = entry.key, entry.digest
    if not is_head_key(key):
        return "it is not entrepot's"
    freed = files = 0
    with opened.store.hold(body_key(body) if body else key, exclusive=True):
        raw = read_object(opened.store, key)
        named = None
        with suppress(EntrepotError):
            named = Head.from_bytes(raw).body if raw is not None else None
        if body is not None and named not in (body, None):
            return "it was replaced meanwhile"
        if (given := opened.store.delete(key)) is not None:
            freed, files = given, 1
        opened.catalogue.forget([key])
        if body is not None and not any(other != key for other in opened.catalogue.heads_of(body)):
            given = opened.store.delete(body_key(body))
            if given is not None:
                freed, files = freed + given, files + 1
    return freed, files


def _has_other_names(path: Path) -> bool:
    """Whether a file is somebody else's as well, pip's for one.

    Then removing it gives nothing back.
    """
    try:
        return os.lstat(path).st_nlink > 1
    except OSError:
        return False


def _kind(word: str) -> Kind:
    try:
        return Kind(word)
    except ValueError:
        return Kind.OTHER
