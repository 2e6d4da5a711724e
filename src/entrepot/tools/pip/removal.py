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
from contextlib import suppress
from heapq import heapify, heappop, heappush
from pathlib import Path

from entrepot.cache_root import Folder, Refused, Root, foreign
from entrepot.fs import disk_of, stamp
from entrepot.ports.tool import Entry, Kind, Progress, Surroundings
from entrepot.tools._shared.permission_errors import reason
from entrepot.tools._shared.removal import CHANGED, Removal
from entrepot.tools.pip.record import BUSY_WHEEL_S, RECENT, STALE_TEMPORARY_S
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


class PipRemoval(Removal[Entry]):
    """One removal.

    Args:
        force: also remove entries that are blocked for a reason that force overrides.
        progress: told after each ten entries.
        now: seconds since the epoch; ``None``: by the clock, at each entry.
    """

    listed_as = Entry

    def __init__(
        self,
        *,
        force: bool = False,
        progress: Progress | None = None,
        now: float | None = None,
    ) -> None:
        super().__init__(force=force, progress=progress)
        self._now = now
        self._pips = RunningPips(os.geteuid() if hasattr(os, "geteuid") else -1)

    def take(self, entry: Entry, root: Root, folder: Path) -> str:
        """Remove one entry while it is as it was listed and no pip may need it."""
        del folder
        names = [path.name for path in entry.paths]
        try:
            with root.folder(entry.paths[0].parent) as opened:
                infos = [opened.stat(name) for name in names]
                if any(not stat.S_ISREG(info.st_mode) for info in infos):
                    return "it is no plain file"
                if stamp(*infos) != entry.stamp:
                    return CHANGED
                if not self.force and (why := self._busy(entry, infos)):
                    return why
                _unlink_all(entry, opened, names, infos)
                return ""
        except FileNotFoundError:
            return "it is gone already, or was replaced while it was looked at"

    def _busy(self, entry: Entry, infos: list[os.stat_result]) -> str:
        now = time.time() if self._now is None else self._now
        newest = max(max(i.st_mtime, i.st_ctime) for i in infos)
        if entry.kind is Kind.TEMP and now - newest < STALE_TEMPORARY_S:
            return "it may still be written to"
        used = max(newest, *(i.st_atime for i in infos))
        if entry.kind is Kind.BUILT and now - used < BUSY_WHEEL_S:
            return RECENT
        return self._pips.why_not(entry, newest, now)


def emptied(entries: Sequence[Entry], *, progress: Progress | None = None) -> int:
    """Bytes of disk that a removal gives back beside the entries' own files.

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
            if not number:
                raise
            text = f"{reason(exc, Path(folder.path))} (its metadata is gone)"
            raise Refused(exc.errno, text, folder.path) from exc
    with suppress(OSError):  # a wheel directory's origin.json goes with its last wheel
        if entry.key.startswith("wheels/") and folder.names() == [ORIGIN_FILE]:
            folder.unlink(ORIGIN_FILE)
    folder.rmdir_upwards(keep=1)  # the directories that became empty, but the part's own
