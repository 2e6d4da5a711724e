"""Keeping a store's directory below its cap and free of what nothing needs.

Which entries go when room is needed is decided in :mod:`entrepot.eviction`, from values; here is
what is asked of it and how it is carried out. All of it is synchronous and slow: for threads.

What is removed is removed under the exclusive lock of its prefix, a head before its body, and only
after a second look. Nothing goes but what has a name that entrepot makes, in its place.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrepot.digests import Digest
from entrepot.errors import Busy, FormatError
from entrepot.eviction import Victim, victims
from entrepot.fs import disk_of
from entrepot.ports.store import ObjectMeta
from entrepot.store.disk import Disk
from entrepot.store.layout import LOCK, PART, PARTIALS, STATE, is_own, partial_name
from entrepot.store.locks import NoLocks, WriteLock, try_lock
from entrepot.stored import BODIES, FORMAT, HEADS, body_key, is_body_key, is_head_key

if TYPE_CHECKING:
    from entrepot.store.catalogue import SqliteCatalogue

PARTIAL_S = 7 * 86400
"""Age at which a partial download that no process writes is swept, in seconds."""
SWEEP_EACH_S = 86400
"""Seconds between two sweeps."""
SWEEP_AGAIN_S = 3600
"""Seconds after which one that was broken off is begun again."""
IDLE_HEAD_S = 180 * 86400
"""Age at which a head without a body goes when room is needed, in seconds."""
MAX_HEAD = 1 << 20
"""Bytes that are read of a head; a larger one is broken."""
ROUNDS = 40
"""Choices in one eviction at most: others use and store things meanwhile, and a choice may only
bring to light that what was chosen was used later than the catalogue knew."""
LOW_WATER = 0.95
"""Eviction goes down to this part of the cap, so that it does not run at every put."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of disk of a store."""

    bodies: int = 0
    heads: int = 0
    """With their folders, estimated at a block each."""
    partials: int = 0
    """Partial downloads and temporary files."""
    catalogue: int = 0
    """Beside the cap: it is derived, and no eviction makes it smaller."""

    @property
    def total(self) -> int:
        """What counts towards the cap."""
        return self.bodies + self.heads + self.partials


@dataclass(slots=True)
class Swept:
    """What a sweep removed: counts, and the bytes of disk that gave."""

    freed: int = 0
    bodies: int = 0
    heads: int = 0
    temps: int = 0
    partials: int = 0


@dataclass(slots=True)
class Evicted:
    """What an eviction removed."""

    freed: int = 0
    """Bytes of disk."""
    bodies: int = 0
    heads: int = 0
    kept: int = 0
    """Bodies whose turn it was but that are in use."""
    room: int | None = None
    """Bytes below the cap afterwards; negative when too much is in use; ``None``: another process
    was at it."""


# -- usage -----------------------------------------------------------------------------------------


def usage(disk: Disk, catalogue: SqliteCatalogue | None) -> Usage:
    """Bytes of disk by kind of file.

    By a scan of the whole store when there is no catalogue, or one that may lack heads.
    """
    block = _block(disk)
    own = [0, 0]
    for number, folder in enumerate((disk.partials, str(disk.root))):
        with suppress(OSError), os.scandir(folder) as found:
            for entry in found:
                if (number == 0 or is_own(entry.name)) and entry.is_file(follow_symlinks=False):
                    with suppress(OSError):
                        own[number] += disk_of(entry.stat(follow_symlinks=False))
    if catalogue is not None and not catalogue.needs_rebuild:
        count, bodies = catalogue.sizes()
        return Usage(bodies, count * 2 * block, *own)
    bodies = sum(each.disk for each in disk.walk(BODIES))
    return Usage(bodies, sum(each.disk + block for each in disk.walk(HEADS)), *own)


def _block(disk: Disk) -> int:
    try:
        return os.statvfs(disk.root).f_frsize
    except OSError:
        return 4096


# -- sweeping --------------------------------------------------------------------------------------


def sweep(
    disk: Disk,
    now: float,
    *,
    grace_s: float,
    catalogue: SqliteCatalogue | None = None,
    go_on: Callable[[], object] = lambda: None,
) -> Swept:
    """Remove what nothing needs: what crashes, kills and lost races leave.

    Bodies that no head names; heads that cannot be read or whose body is gone; temporary files; all
    of these only when they are older than ``grace_s``. Partial downloads that no process writes
    after seven days. Heads of a later format stay, with their bodies.

    Args:
        disk: the store.
        now: seconds since the epoch.
        grace_s: seconds during which something may be unfinished without being left over.
        catalogue: told of the heads that went.
        go_on: called for every head; may raise to stop.
    """
    done = Swept()
    disk.begin()
    before = now - grace_s
    bodies = {each.key for each in disk.walk(BODIES) if is_body_key(each.key)}
    named: set[str] = set()
    broken: list[tuple[ObjectMeta, str | None]] = []
    for head in disk.walk(HEADS):
        go_on()
        try:
            readable, body = _body_of(disk, head.key)
        except OSError:
            continue  # it went meanwhile, or cannot be read by us: not ours to judge
        if body:
            named.add(body)  # whatever it is that names it
        if is_head_key(head.key) and (not readable or (body and body not in bodies)):
            broken.append((head, body))
    for key in bodies - named:
        freed = None
        if _is_idle(disk, key, before):
            with suppress(Busy), disk.hold(key, exclusive=True):
                freed = disk.remove(key) if _is_idle(disk, key, before) else None
        done.bodies += freed is not None
        done.freed += freed or 0
    gone = []
    for head, body in broken:
        freed = None
        if head.modified < before:
            with suppress(Busy, OSError), disk.hold(body or head.key, exclusive=True):
                readable, now_named = _body_of(disk, head.key)
                if not readable or (now_named is not None and disk.meta(now_named) is None):
                    freed = disk.remove(head.key)
        if freed is not None:
            gone.append(head.key)
            done.freed += freed
    done.heads = len(gone)
    if catalogue is not None and gone:
        catalogue.forget(gone)
    _sweep_partials(disk, now, before, done)
    return done


def _body_of(disk: Disk, key: str) -> tuple[bool, str | None]:
    """Whether a head can be read, and the key of the body it names.

    A later format counts as readable.
    """
    with open(disk.open_fd(key), "rb") as file:
        raw = file.read(MAX_HEAD + 1)
    try:
        data = json.loads(raw)
        is_later = data["format"] != FORMAT
    except (ValueError, KeyError, TypeError):
        return False, None
    try:
        return True, body_key(Digest.parse(data["body"])) if data["body"] else None
    except (FormatError, KeyError, TypeError, AttributeError):
        return is_later, None


def _is_idle(disk: Disk, key: str, before: float) -> bool:
    """Whether an object was neither made nor wanted since ``before``."""
    try:
        found = disk.stat(key)
    except OSError:
        return False
    return max(found.st_mtime, found.st_atime) < before


def _sweep_partials(disk: Disk, now: float, before: float, done: Swept) -> None:
    changed: dict[str, float] = {}
    whole = set[str]()
    with suppress(OSError):
        for name in os.listdir(disk.partials):
            path = f"{PARTIALS}/{name}"
            found, file = disk.lstat(path), partial_name(name)
            if found is None or file is None:
                continue
            if file.kind != "temporary":
                changed[file.stem] = max(changed.get(file.stem, 0.0), found.st_mtime)
                if file.kind == "part":
                    whole.add(file.stem)
            elif found.st_mtime < before:
                freed = disk.remove(path)
                done.temps += freed is not None
                done.freed += freed or 0
    for stem, modified in changed.items():
        if modified >= (now - PARTIAL_S if stem in whole else before):
            continue
        # Where there are no locks, a week without a change has to be sign enough.
        with suppress(Busy, OSError):
            freed = drop_partial(disk, stem)
            done.freed += freed or 0
            done.partials += stem in whole


def drop_partial(disk: Disk, stem: str, *, size: int | None = None) -> int | None:
    """Remove a partial download under its lock; bytes of disk given back, ``None``: there was none.

    Raises:
        Busy: a process writes it, or it does not have ``size`` bytes any more.
        OSError: its lock cannot be taken.
    """
    lock = WriteLock(os.path.join(disk.partials, stem + LOCK))
    if not lock.take(disk.modes.file):
        raise Busy("a download in progress")
    is_gone = False
    try:
        found = disk.lstat(f"{PARTIALS}/{stem}{PART}")
        if size is not None and (found is None or found.st_size != size):
            raise Busy("it grew meanwhile")
        # the state first: bytes without one are not resumed, and a state with others could be
        freed = [disk.remove(f"{PARTIALS}/{stem}{suffix}") for suffix in (STATE, PART)]
        is_gone = True
    finally:
        lock.release(remove=is_gone)
    return sum(filter(None, freed)) if freed != [None, None] else None


# -- eviction --------------------------------------------------------------------------------------


def evict(disk: Disk, catalogue: SqliteCatalogue, *, cap: int, needed: int = 0) -> Evicted:
    """Remove least recently used bodies, with their heads, until ``needed`` more bytes fit.

    Old heads without a body go first, then bodies, then other heads without one. Only one process
    evicts at a time; another gets nothing done and need not: the first sees what both have written.
    The catalogue proposes; a head's own file time, another head that came meanwhile and an open
    body each save a body.
    """
    done, started = Evicted(), time.time()
    head_disk, idle_before = 2 * _block(disk), disk.now() - IDLE_HEAD_S
    busy, refused = set[str](), set[str]()

    def in_use(body: str) -> bool:
        if _is_open(disk, body_key(Digest.parse(body))):
            busy.add(body)
        return body in busy or body in refused

    with suppress(Busy), disk.lock("evict", exclusive=True, wait_s=0.0):
        now = usage(disk, catalogue)
        goal = int(cap * LOW_WATER) if now.total + needed > cap else cap
        for _ in range(ROUNDS):
            if now.total + needed <= goal:
                break
            budget = max(0, goal - needed - now.partials)
            chosen = victims(
                catalogue.uses(),
                budget,
                in_use=in_use,
                head_disk=head_disk,
                idle_before=idle_before,
            )
            removed: list[str] = []
            renewed: list[tuple[str, float]] = []
            try:
                for each in chosen:
                    newer = []
                    for key in each.heads:  # a hit touches nothing but the head's file
                        with suppress(OSError):
                            modified = disk.stat(key).st_mtime
                            if modified > each.used + 1:
                                newer.append((key, modified))
                    renewed += newer
                    if not newer and _evict(disk, catalogue, each, started, done):
                        removed += each.heads
                    elif not newer and each.body:
                        refused.add(each.body)
            finally:
                catalogue.forget(removed)
                catalogue.note_used(renewed)
            # Counted by the catalogue, not by what came back: of a body that another cache has
            # linked nothing does, and more would go in its place.
            now = usage(disk, catalogue)
            if not removed and not renewed:
                break
        done.kept = len(busy | refused)
        done.room = cap - now.total
    return done


def _evict(
    disk: Disk, catalogue: SqliteCatalogue, victim: Victim, started: float, done: Evicted
) -> bool:
    """Remove what was chosen, after a second look; whether it went."""
    if not all(map(is_head_key, victim.heads)):
        return False  # what the catalogue took for a head is none of ours
    digest = Digest.parse(victim.body) if victim.body else None
    key = body_key(digest) if digest else ""
    try:
        with disk.hold(key or victim.heads[0], exclusive=True):
            if key and (
                _is_open(disk, key) or not (_is_idle(disk, key, started) or disk.meta(key) is None)
            ):
                return False
            if digest and not set(catalogue.heads_of(digest)) <= set(victim.heads):
                return False
            # heads first: a body without one is swept
            done.freed += sum(disk.remove(each) or 0 for each in victim.heads)
            done.freed += (disk.remove(key) or 0) if key else 0
    except Busy:
        return False
    done.bodies += bool(key)
    done.heads += len(victim.heads)
    return True


def _is_open(disk: Disk, key: str) -> bool:
    """Whether somebody has a body open for reading.

    Readers hold a shared lock on the file itself.
    """
    try:
        fd = disk.open_fd(key)
    except OSError:
        return False
    try:
        return not try_lock(fd, exclusive=True)
    except (NoLocks, OSError):
        return False
    finally:
        os.close(fd)
