"""Removing entries so that uv and every environment survive it, and counting the bytes freed.

Under uv's own lock, and in this order: pointer files are renamed into a trash directory, then what
they lead to (uv without a pointer fetches again; a pointer without its archive it takes for absent,
too), then all of that is deleted. Uvs before 0.8.19 take no lock: when one has come while things
were moved, they are put back. What a hard-linked environment uses keeps its inode; an archive that
a known environment links to symbolically stays, and environments are asked again at this moment. A
removal that is cut short leaves at worst an orphaned archive or a ``.entrepot-trash-`` directory,
which the next ``clean`` (and ``uv cache prune``) takes.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from entrepot.cache_root import Root
from entrepot.ports.tool import Entry, Progress, Removed, not_permitted
from entrepot.tools._shared.permission_errors import reason
from entrepot.tools.uv.cache import folders_above
from entrepot.tools.uv.environments import References
from entrepot.tools.uv.layout import MARKS, TRASH
from entrepot.tools.uv.lock import Busy, exclusive, lockless_uv
from entrepot.tools.uv.rows import stamp

BATCH = 32
"""Entries that are moved away before they are deleted."""


def remove(
    root: Path,
    entries: Sequence[Entry],
    references: References,
    *,
    force: bool = False,
    progress: Progress | None = None,
    wait_s: float = 5.0,
) -> Removed:
    """Remove entries of one cache; what may not go is kept with its reason.

    Args:
        root: the cache's directory.
        entries: as listed.
        references: what known environments need at this moment.
        force: do not wait for running uvs, and take what is kept only because uv is set to link
            symbolically.
        progress: told after each entry.
        wait_s: how long to wait for uv's lock.
    """
    try:
        with Root(root) as opened:
            work = _Work(opened, references, force=force, progress=progress)
            try:
                with exclusive(root, wait_s=0 if force else wait_s):
                    return work.done(entries)
            except Busy:
                if force:
                    return work.done(entries)
                raise
    except Busy as exc:
        return Removed(kept=tuple(not_permitted(entry, str(exc)) for entry in entries))
    except OSError as exc:
        return Removed(kept=tuple(not_permitted(entry, reason(exc, root)) for entry in entries))


class _Work:
    def __init__(
        self, root: Root, references: References, *, force: bool, progress: Progress | None
    ) -> None:
        self._cache = root
        self._root = root.path
        self._refs = references
        self._force = force
        self._progress = progress
        self._trash = f"{self._root}/{TRASH}{secrets.token_hex(8)}"
        self._gone: list[Entry] = []
        self._kept: list[tuple[Entry, str]] = []
        self._left: dict[str, int] = {}
        """How many of the entries that share an archive have not gone yet."""

    def done(self, entries: Sequence[Entry]) -> Removed:
        try:
            for first in range(0, len(entries), BATCH):
                batch = entries[first : first + BATCH]
                if (why := self._older_uv()) is not None:
                    self._kept += [(entry, why) for entry in entries[first:]]
                    break
                self._batch(batch)
                if self._progress:
                    self._progress(first + len(batch), len(entries), "entries")
        finally:
            with suppress(OSError), self._cache.folder(self._root) as folder:
                folder.rmdir(os.path.basename(self._trash), ours=True)
        freed = self._cache.freed
        return Removed(tuple(self._gone), freed.bytes, freed.files, tuple(self._kept))

    def _older_uv(self) -> str | None:
        return None if self._force else lockless_uv(Path(self._root))

    def _batch(self, entries: Sequence[Entry]) -> None:
        """Move out of the way, check that no older uv has started meanwhile, then delete."""
        staged: list[tuple[Entry, list[tuple[str, str]]]] = []
        for entry in entries:
            try:
                why, moved = self._stage(entry)
            except OSError as exc:
                self._kept.append(not_permitted(entry, reason(exc, Path(exc.filename).parent)))
                continue
            if why:
                self._kept.append((entry, why))
            else:
                staged.append((entry, moved))
        if staged and (why_not := self._older_uv()) is not None:
            for entry, moved in staged:
                self._put_back(moved)
                self._kept.append((entry, why_not))
            return
        for entry, moved in staged:
            self._delete(entry, moved)

    def _stage(self, entry: Entry) -> tuple[str, list[tuple[str, str]]]:
        """Rename an entry's files into the trash, pointers first; the reason when it may not go.

        Raises:
            OSError: it cannot; everything is where it was.
        """
        paths = [str(path) for path in entry.paths]
        if why := self._may_not(entry, paths):
            return why, []
        moved: list[tuple[str, str]] = []
        try:
            self._cache.make_folder(self._trash, 0o700)
            for path in self._without_shared(entry, paths):
                away = f"{self._trash}/{secrets.token_hex(8)}"
                try:
                    self._cache.move(path, away)  # from now on no uv finds half of it
                except FileNotFoundError:
                    continue
                moved.append((path, away))
        except OSError as exc:
            self._put_back(moved)
            exc.filename = exc.filename or paths[0]
            raise
        return "", moved

    def _may_not(self, entry: Entry, paths: list[str]) -> str:
        if not entry.is_removable(force=self._force):
            return entry.blocked
        for archive in entry.extra.get("archive", "").split():
            if users := self._refs.archives.get(archive):
                return f"{users[0]} links to it symbolically"
        if (
            entry.extra.get("archive")
            and "environment" not in entry.extra
            and (why := self._refs.in_use_perhaps)
        ):
            return why
        if not any(map(os.path.lexists, paths)):
            return "it is gone already"
        if stamp(paths) != entry.stamp:
            return "it changed since it was listed"
        return ""

    def _without_shared(self, entry: Entry, paths: list[str]) -> list[str]:
        """Leave an archive that other entries lead to as well until the last of them goes."""
        if not (shared := entry.shared):
            return paths
        left = self._left.setdefault(shared.key, shared.entries) - 1
        self._left[shared.key] = left
        return paths if left <= 0 else [p for p in paths if not p.endswith(f"/{shared.key}")]

    def _delete(self, entry: Entry, moved: Sequence[tuple[str, str]]) -> None:
        try:
            for _, away in moved:
                self._cache.remove(away)
        except OSError as exc:
            cause = reason(exc, Path(exc.filename or self._trash).parent)
            why = f"{cause}; what is left of it lies in {self._trash}"
            self._kept.append(not_permitted(entry, why))
            return
        self._tidy(entry, [path for path, _ in moved])
        self._gone.append(entry)

    def _tidy(self, entry: Entry, paths: Iterable[str]) -> None:
        """Take the directories that became empty.

        Of a superseded bucket also uv's marks and the bucket itself.
        """
        for folder in folders_above(self._root, list(paths)):
            if os.path.dirname(folder) == self._root:
                if entry.removable_because == "superseded layout":
                    self._end(folder)
            else:
                with suppress(OSError):  # something else is in it
                    self._cache.rmdir(folder)

    def _end(self, bucket: str) -> None:
        with suppress(OSError), self._cache.folder(bucket) as folder:
            names = folder.names()
            if set(names) <= MARKS:
                for name in names:
                    folder.unlink(name)
                folder.rmdir_upwards(keep=0)

    def _put_back(self, moved: Sequence[tuple[str, str]]) -> None:
        """Undo renames, the last first; where something new has come meanwhile it stays."""
        for path, away in reversed(moved):
            with suppress(OSError):
                if not os.path.lexists(path):
                    self._cache.move(away, path)
