"""Removing entries so that every running pip survives it, and counting the bytes freed.

pip run by root uses no cache that root does not own, and neither do we change one
(:func:`entrepot.cache_root.foreign`). pip takes no lock. So metadata goes before the body (a body
alone is never found, metadata alone is a silent miss), temporary files that may still be written to
stay, and so do built wheels that an install may be using, and what a pip at work may be asking its
index about (:mod:`.running`). What changed since it was listed stays too.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from heapq import heapify, heappop, heappush
from pathlib import Path

from entrepot.cache_root import Folder, Freed, Root, foreign
from entrepot.fs import disk_of
from entrepot.ports.tool import Entry, Kind, Progress, Removed, Surroundings, not_permitted
from entrepot.tools._shared.permission_errors import reason
from entrepot.tools.pip.record import BUSY_WHEEL_S, RECENT, STALE_TEMPORARY_S, stamp
from entrepot.tools.pip.running import RunningPips
from entrepot.tools.pip.wheels import ORIGIN_FILE


def not_removable(place: Path, around: Surroundings) -> Callable[[Path], str] | None:
    """What tells of a folder below a cache directory why nothing in it may be removed.

    ``None`` when all of it may.
    """
    if around.platform == "win32":
        return None
    if why := foreign(place, around.euid):
        return lambda _folder: why
    if os.access(place, os.W_OK):
        return None

    def refusal(folder: Path) -> str:
        if os.access(folder, os.W_OK | os.X_OK):
            return ""
        code = errno.EACCES
        with suppress(OSError):
            code = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else code
        return reason(OSError(code, ""), folder)

    return refusal


def remove(
    entries: Sequence[Entry],
    *,
    force: bool = False,
    progress: Progress | None = None,
    now: float | None = None,
    pips: RunningPips | None = None,
) -> Removed:
    """Remove entries one by one; what may not go is kept with its reason.

    Args:
        entries: as listed.
        force: also remove entries that are blocked for a reason that force overrides.
        progress: told after each hundred.
        now: seconds since the epoch, for tests.
        pips: the pips at work; ``None``: those of the current user.
    """
    pips = pips or RunningPips(os.geteuid() if hasattr(os, "geteuid") else -1)
    freed = Freed()
    gone: list[Entry] = []
    kept: list[tuple[Entry, str]] = []
    with ExitStack() as opened:
        roots: dict[Path, Root | str] = {}
        for number, entry in enumerate(entries):
            if (root := roots.get(entry.place)) is None:
                try:
                    root = opened.enter_context(Root(entry.place, freed))
                except OSError as exc:
                    root = reason(exc, entry.place)
                roots[entry.place] = root
            try:
                if isinstance(root, str):
                    raise _NotPermitted(root)  # noqa: TRY301  # as for each of its entries
                why = _remove_one(
                    entry, root, None if force else pips, now=time.time() if now is None else now
                )
            except _NotPermitted as exc:
                kept.append(not_permitted(entry, exc.why))
                continue
            if why:
                kept.append((entry, why))
            else:
                gone.append(entry)
            if progress and number % 100 == 0:
                progress(number, len(entries), "entries")
    return Removed(tuple(gone), freed.bytes, freed.files, tuple(kept))


def emptied(entries: Sequence[Entry], *, progress: Progress | None = None) -> int:
    """Bytes of disk that :func:`remove` gives back beside the entries' own files.

    Of directories that it leaves empty.
    """
    going: dict[str, set[str]] = {}
    tops: dict[str, bool] = {}  # directories below which empty ones go, and whether of wheels
    for entry in entries:
        part = entry.key.partition("/")[0]
        tops[f"{entry.place}{os.sep}{part}{os.sep}"] = part == "wheels"
        for path in entry.locations:
            folder, _, name = path.rpartition(os.sep)
            going.setdefault(folder, set()).add(name)
    waiting = [(-folder.count(os.sep), folder) for folder in going]
    heapify(waiting)
    own, freed, seen = set(going), 0, 0
    while waiting:  # the deepest first: it may be all that its parent has
        _, folder = heappop(waiting)
        seen += 1
        if progress and seen % 1000 == 0:
            progress(seen, len(going), "directories")
        top = next((top for top in tops if folder.startswith(top)), None)
        with suppress(OSError):
            left = (
                set(os.listdir(folder)) - going[folder] if top else {folder}
            )  # names are what is wanted
            if top and folder in own and tops[top] and left == {ORIGIN_FILE}:
                freed += disk_of(os.lstat(f"{folder}{os.sep}{ORIGIN_FILE}"))
                left = set()
            if left:
                continue
            freed += disk_of(os.lstat(folder))
            parent, _, name = folder.rpartition(os.sep)
            if parent not in going:
                heappush(waiting, (-parent.count(os.sep), parent))
            going.setdefault(parent, set()).add(name)
    return freed


class _NotPermitted(Exception):
    """The system does not let it go."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def _remove_one(entry: Entry, root: Root, pips: RunningPips | None, *, now: float) -> str:
    """Remove one entry, by force without ``pips``; why it stays, if it does."""
    if not entry.is_removable(force=pips is None):
        return entry.blocked
    place, names = str(entry.paths[0].parent), [path.name for path in entry.paths]
    try:
        with root.folder(place) as folder:
            infos = [folder.stat(name) for name in names]
            if any(not stat.S_ISREG(info.st_mode) for info in infos):
                return "it is no plain file"
            if ";".join(map(stamp, infos)) != entry.stamp:
                return "it changed since it was listed"
            if pips and (why := _busy(entry, infos, now, pips)):
                return why
            _unlink_all(entry, folder, names, infos)
            return ""
    except FileNotFoundError:
        return "it is gone already, or was replaced while it was looked at"
    except OSError as exc:
        raise _NotPermitted(reason(exc, Path(place))) from exc


def _busy(entry: Entry, infos: list[os.stat_result], now: float, pips: RunningPips) -> str:
    newest = max(max(i.st_mtime, i.st_ctime) for i in infos)
    if entry.kind is Kind.TEMP and now - newest < STALE_TEMPORARY_S:
        return "it may still be written to"
    if entry.kind is Kind.BUILT and now - max(newest, *(i.st_atime for i in infos)) < BUSY_WHEEL_S:
        return RECENT
    return pips.why_not(entry, newest, now)


def _unlink_all(
    entry: Entry, folder: Folder, names: list[str], infos: list[os.stat_result]
) -> None:
    """Metadata first. When the first file cannot go nothing goes.

    When a later one cannot, an orphan is left and said.
    """
    for number, (name, info) in enumerate(zip(names, infos, strict=True)):
        try:
            folder.unlink(name, info)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise _NotPermitted(
                reason(exc, Path(folder.path)) + (" (its metadata is gone)" if number else "")
            ) from exc
    with suppress(OSError):  # a wheel directory's origin.json goes with its last wheel
        if entry.key.startswith("wheels/") and folder.names() == [ORIGIN_FILE]:
            folder.unlink(ORIGIN_FILE)
    folder.rmdir_upwards(keep=1)  # the directories that became empty, but the part's own
