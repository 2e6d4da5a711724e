"""Keeping a store's directory within bounds and free of litter: usage, sweeping, eviction.

Synchronous and slow: for threads.

What is removed is removed under the exclusive lock of its prefix, a head before its body, and only
after a second look. Nothing goes but what :mod:`entrepot.ownership` knows as ours by its name and
its place.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.digests import Digest
from entrepot.errors import Busy, FormatError
from entrepot.eviction import Use, Victim, victims
from entrepot.ownership import FlightFile, flight_file, is_body_key, is_head_key
from entrepot.ports.store import ObjectMeta
from entrepot.store.disk import Disk
from entrepot.store.layout import FLIGHTS, is_own, translated
from entrepot.store.locks import Lead, NoLocks, try_lock
from entrepot.stored import FORMAT, body_key

if TYPE_CHECKING:
    from entrepot.store.catalogue import SqliteCatalogue

DEFAULT_CAP = 20 * 10**9
"""Bytes: the most that a store takes unless it is told otherwise."""
PARTIAL_S = 7 * 86400
"""Age at which a partial download that nobody leads is swept, in seconds."""
SWEEP_EACH_S = 86400
"""Seconds between two sweeps."""
SWEEP_AGAIN_S = 3600
"""Seconds after which one that was broken off is begun again."""
IDLE_HEAD_S = 180 * 86400
"""Age at which a head without a body goes when room is needed, in seconds."""
MAX_HEAD = 1 << 20
"""Bytes that are read of a head; a larger one is broken."""
WINDOW = 500
"""Bodies, or heads without one, that eviction looks at together."""
LOW_WATER = 0.95
"""Eviction goes down to this part of the cap, so that it does not run at every put."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of disk of a store."""

    bodies: int = 0
    heads: int = 0
    """With their folders, estimated at a block each."""
    flights: int = 0
    """Partial downloads and temporary files."""
    catalogue: int = 0
    """Beside the cap: it is derived, and no eviction makes it smaller."""

    @property
    def total(self) -> int:
        """What counts towards the cap."""
        return self.bodies + self.heads + self.flights


@dataclass(slots=True)
class Swept:
    """What a sweep removed: counts, and the bytes of disk that gave."""

    freed: int = 0
    bodies: int = 0
    heads: int = 0
    temps: int = 0
    flights: int = 0


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


def default_cap(root: Path) -> int:
    """The smaller of 20 GB and a tenth of the disk that ``root`` is or will be on, in bytes."""
    for place in (root, *root.parents):
        with suppress(OSError):
            found = os.statvfs(place)
            return min(DEFAULT_CAP, found.f_blocks * found.f_frsize // 10)
    return DEFAULT_CAP


def note_wanted(disk: Disk, key: str) -> None:
    """Mark an object as wanted now, by its access time.

    A sweep that has looked already looks again and leaves it.
    """
    with suppress(OSError):
        disk.set_times(key, time.time(), None)


# -- usage -----------------------------------------------------------------------------------------


def usage(disk: Disk, catalogue: SqliteCatalogue | None) -> Usage:
    """Bytes of disk by kind of file.

    By a scan of the whole store when there is no catalogue, or one that may lack heads.
    """
    block = _block(disk)
    flights, derived = _own_files(disk)
    if catalogue is not None and not catalogue.needs_rebuild:
        heads, bodies = catalogue.sizes()
        return Usage(bodies, heads * 2 * block, flights, derived)
    return Usage(
        sum(each.disk for each in disk.walk("bodies")),
        sum(each.disk + block for each in disk.walk("heads")),
        flights,
        derived,
    )


def _block(disk: Disk) -> int:
    try:
        return os.statvfs(disk.root).f_frsize
    except OSError:
        return 4096


def _own_files(disk: Disk) -> tuple[int, int]:
    """Bytes of disk of the flights, and of the catalogue."""
    sums = [0, 0]
    for i, folder in enumerate((disk.flights, disk.root)):
        with suppress(OSError), os.scandir(folder) as found:
            for entry in found:
                if (i == 0 or is_own(entry.name)) and entry.is_file(follow_symlinks=False):
                    with suppress(OSError):
                        sums[i] += entry.stat(follow_symlinks=False).st_blocks * 512
    return sums[0], sums[1]


# -- sweeping --------------------------------------------------------------------------------------


class BrokenOffError(Exception):
    """The sweep is to stop; raised by its ``go_on``. Never leaves the adapters of this folder."""


@contextmanager
def turn_to_sweep(disk: Disk) -> Iterator[bool]:
    """Whether it is this process's turn to sweep: once a day, and one at a time.

    The block may then raise BrokenOffError.

    ``locks/swept`` has the time of the last one; a time in the future counts as long ago: the clock
    was set back.
    """
    now, path = disk.now(), disk.lock_path("swept")
    try:
        with disk.lock("sweep", exclusive=True, wait_s=0.0):
            due = not os.path.exists(path) or abs(now - os.stat(path).st_mtime) >= SWEEP_EACH_S
            if due:
                os.close(disk.new_file(path, os.O_WRONLY))
                os.utime(path, (now, now), follow_symlinks=False)
            try:
                yield due
            except BrokenOffError:
                os.utime(path, (now, now - SWEEP_EACH_S + SWEEP_AGAIN_S), follow_symlinks=False)
    except Busy:
        yield False
    except OSError as exc:
        raise translated(exc, "it was swept") from exc


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
    of these only when they are older than ``grace_s``. Partial downloads that nobody leads after
    seven days. Heads of a later format stay, with their bodies.

    Args:
        disk: the store.
        now: seconds since the epoch.
        grace_s: seconds during which something may be unfinished without being litter.
        catalogue: told of the heads that went.
        go_on: called for every head; may raise to stop.
    """
    done = Swept()
    disk.begin()
    before = now - grace_s
    bodies = {each.key for each in disk.walk("bodies") if is_body_key(each.key)}
    orphans, lame = _compare(disk, bodies, go_on)
    for key in orphans:
        if _is_idle(disk, key, before):
            freed = _remove_idle(disk, key, before)
            done.bodies += freed is not None
            done.freed += freed or 0
    gone = []
    for head, body in lame:
        freed = _remove_lame(disk, head, body, before)
        if freed is not None:
            gone.append(head.key)
            done.freed += freed
    done.heads = len(gone)
    if catalogue is not None and gone:
        catalogue.forget(gone)
    _sweep_flights(disk, now, before, done)
    return done


def _compare(
    disk: Disk, bodies: set[str], go_on: Callable[[], object]
) -> tuple[set[str], list[tuple[ObjectMeta, str | None]]]:
    """Bodies that no head names, and heads that are broken or whose body is missing (with its key)."""
    named: set[str] = set()
    lame: list[tuple[ObjectMeta, str | None]] = []
    for head in disk.walk("heads"):
        go_on()
        try:
            readable, body = _body_of(disk, head.key)
        except OSError:
            continue  # it went meanwhile, or cannot be read by us: not ours to judge
        if body:
            named.add(body)  # whatever it is that names it
        if is_head_key(head.key) and (not readable or (body and body not in bodies)):
            lame.append((head, body))
    return bodies - named, lame


def _body_of(disk: Disk, key: str) -> tuple[bool, str | None]:
    """Whether a head can be read, and the key of the body it names.

    A later format counts as readable.
    """
    with open(disk.open(key), "rb") as file:
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


def _remove_idle(disk: Disk, key: str, before: float) -> int | None:
    try:
        with disk.hold(key, exclusive=True):
            return disk.remove(key) if _is_idle(disk, key, before) else None
    except Busy:
        return None


def _remove_lame(disk: Disk, head: ObjectMeta, body: str | None, before: float) -> int | None:
    if head.modified >= before:
        return None
    try:
        with disk.hold(body or head.key, exclusive=True):
            readable, named = _body_of(disk, head.key)
            mended = readable and (named is None or disk.meta(named) is not None)
            return None if mended else disk.remove(head.key)
    except (Busy, OSError):
        return None


def _sweep_flights(disk: Disk, now: float, before: float, done: Swept) -> None:
    changed: dict[str, float] = {}
    whole = set[str]()
    for file, modified in _flight_files(disk):
        if file.kind != "temporary":
            changed[file.stem] = max(changed.get(file.stem, 0.0), modified)
            if file.kind == "part":
                whole.add(file.stem)
        elif modified < before:
            freed = disk.remove(f"{FLIGHTS}/{file.stem}")
            done.temps += freed is not None
            done.freed += freed or 0
    for stem, modified in changed.items():
        if modified < (now - PARTIAL_S if stem in whole else before):
            _drop_flight(disk, stem, done)


def _flight_files(disk: Disk) -> Iterator[tuple[FlightFile, float]]:
    with suppress(OSError), os.scandir(disk.flights) as found:
        for entry in list(found):
            file = flight_file(entry.name)
            if file is not None and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    yield file, entry.stat(follow_symlinks=False).st_mtime


def _drop_flight(disk: Disk, stem: str, done: Swept) -> None:
    lead = Lead(os.path.join(disk.flights, f"{stem}.lock"))
    try:
        if not lead.take(disk.modes.file):
            return
    except NoLocks:
        pass  # then a week of silence has to be sign enough
    except OSError:
        return
    try:
        for suffix in (".note", ".part"):
            freed = disk.remove(f"{FLIGHTS}/{stem}{suffix}")
            done.freed += freed or 0
            done.flights += suffix == ".part" and freed is not None
    finally:
        lead.release(remove=True)


# -- eviction --------------------------------------------------------------------------------------


def evict(disk: Disk, catalogue: SqliteCatalogue, *, cap: int, needed: int = 0) -> Evicted:
    """Remove least recently used bodies, with their heads, until the store and ``needed`` more bytes fit into ``cap``.

    Only one process evicts at a time; another gets nothing done and need not: the first sees what
    both have written. The catalogue proposes, some hundred bodies at a time, so that the work goes
    with what has to go and not with what is there; a head's own file time, another head that came
    meanwhile and an open body each save a body.
    """
    eviction = _Eviction(disk, catalogue)
    done = eviction.done
    try:
        with disk.lock("evict", exclusive=True, wait_s=0.0):
            total = usage(disk, catalogue).total
            if total + needed > cap:
                eviction.free(total + needed - int(cap * LOW_WATER))
                total = usage(disk, catalogue).total
            done.room = cap - total
    except Busy:
        pass
    return done


Window = tuple[list[Use], int, tuple[float, str | bytes] | None]
"""Heads, the bytes of disk of their bodies, and behind what to go on."""


def _alone(
    catalogue: SqliteCatalogue, before: float, after: tuple[float, str | bytes] | None
) -> Window:
    """Heads without a body that were last used before a moment, least recently used first."""
    found = [each for each in catalogue.oldest_alone(WINDOW, after) if each[0] < before]
    return [Use(key, None, used, 0) for used, key in found], 0, found[-1] if found else None


def _bodies(catalogue: SqliteCatalogue, after: tuple[float, str | bytes] | None) -> Window:
    """Bodies with all their heads, least recently used first."""
    found = catalogue.oldest_bodies(WINDOW, after)
    uses = []
    for used, body, disk in found:
        digest = Digest("sha256", body.hex())
        uses += [Use(key, str(digest), used, disk) for key in catalogue.heads_of(digest)]
    return uses, sum(disk for _, _, disk in found), found[-1][:2] if found else None


class _Eviction:
    """One process's turn at making room."""

    def __init__(self, disk: Disk, catalogue: SqliteCatalogue) -> None:
        self._disk = disk
        self._catalogue = catalogue
        self._started = time.time()
        self._head_disk = 2 * _block(disk)
        self._idle = disk.now() - IDLE_HEAD_S
        self._less = 0
        """Bytes of disk by which the store has become smaller. Of a body that another cache has
        linked none may have been freed."""
        self.done = Evicted()

    def free(self, excess: int) -> None:
        """Make the store so many bytes smaller.

        Old heads without a body, then bodies, then other heads without one.
        """
        goal = self._less + excess
        limit = (
            8 + 3 * self._catalogue.sizes()[0] // WINDOW
        )  # others use and store things meanwhile: not for ever
        for before in (self._idle, None, float("inf")):
            after: tuple[float, str | bytes] | None = None
            while limit and (self._less < goal or before == self._idle):
                limit -= 1
                window, size, last = (
                    _bodies(self._catalogue, after)
                    if before is None
                    else _alone(self._catalogue, before, after)
                )
                if not window:
                    break
                size += len(window) * self._head_disk
                # Uses that the catalogue did not know of have changed the order: from the start
                # again.
                after = None if self._shrink(window, max(0, size - (goal - self._less))) else last
                self.done.kept = 0 if after is None else self.done.kept

    def _shrink(self, window: list[Use], budget: int) -> bool:
        """One choice and its execution.

        Whether uses were found to be newer, so that the order is another one now.
        """
        renewed: list[tuple[str, float]] = []
        removed: list[str] = []
        chosen = victims(
            window, budget, in_use=self._in_use, head_disk=self._head_disk, idle_before=self._idle
        )
        try:
            for each in chosen:
                newer = _newer_uses(self._disk, each)
                if newer:
                    renewed += newer
                elif self._remove(each):
                    removed += each.heads
        finally:
            self._catalogue.forget(removed)
            self._catalogue.note_used(renewed)
        return bool(renewed)

    def _in_use(self, body: str) -> bool:
        busy = _is_open(self._disk, body_key(Digest.parse(body)))
        self.done.kept += busy
        return busy

    def _remove(self, victim: Victim) -> bool:
        disk, done = self._disk, self.done
        key = body_key(Digest.parse(victim.body)) if victim.body else ""
        if not all(map(is_head_key, victim.heads)):
            return False  # what the catalogue took for a head is none of ours
        try:
            with disk.hold(key or victim.heads[0], exclusive=True):
                if key and (_is_open(disk, key) or not _is_idle_or_gone(disk, key, self._started)):
                    done.kept += 1
                    return False
                if victim.body and not set(
                    self._catalogue.heads_of(Digest.parse(victim.body))
                ) <= set(victim.heads):
                    return False
                # heads first: a body without one is only litter
                freed = sum(disk.remove(each) or 0 for each in victim.heads)
                body = (disk.remove(key) or 0) if key else 0
                done.freed += freed + body
                self._less += freed + max(body, victim.disk - len(victim.heads) * self._head_disk)
        except Busy:
            return False
        done.bodies += bool(key)
        done.heads += len(victim.heads)
        return True


def _newer_uses(disk: Disk, victim: Victim) -> list[tuple[str, float]]:
    """Heads used later than the catalogue knew.

    Last use is the file's time (a hit touches nothing else).
    """
    newer = []
    for key in victim.heads:
        with suppress(OSError):
            modified = disk.stat(key).st_mtime
            if modified > victim.used + 1:
                newer.append((key, modified))
    return newer


def _is_idle_or_gone(disk: Disk, key: str, before: float) -> bool:
    return _is_idle(disk, key, before) or disk.meta(key) is None


def _is_open(disk: Disk, key: str) -> bool:
    """Whether somebody has a body open for reading.

    Readers hold a shared lock on the file itself.
    """
    try:
        fd = disk.open(key)
    except OSError:
        return False
    try:
        return not try_lock(fd, exclusive=True)
    except (NoLocks, OSError):
        return False
    finally:
        os.close(fd)
