"""Removing entries of a package cache without breaking an environment, and counting bytes freed.

A package's folder is first renamed into ``.trash`` of the same cache, in one step: no client ever
sees half of it. There it is looked at once more: if something links to it meanwhile it is put
back. Files that environments hold as hard links live on under their other names. What environments
reach by symbolic links stays.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from entrepot.cache_root import Folder, Freed, Root
from entrepot.fs import disk_of
from entrepot.ports.tool import Entry, Kind, Progress, Removed, Surroundings, not_permitted
from entrepot.tools._shared.disk_usage import measure
from entrepot.tools._shared.permission_errors import reason
from entrepot.tools.conda import running
from entrepot.tools.conda.environments import in_use_perhaps, links_into, mentions
from entrepot.tools.conda.folder import HALF_UNPACKED, stamp
from entrepot.tools.conda.locked import byte_lock, folder_lock, is_locked
from entrepot.tools.conda.registered_environments import package_folders, survey
from entrepot.tools.conda.urls import prune
from entrepot.tools.conda.writable import MAGIC

TRASH = ".trash"
LOOK_EVERY_S = 0.25


def remove(
    entries: Sequence[Entry],
    around: Surroundings,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Removed:
    """Remove entries; what may not go is kept with its reason.

    Args:
        entries: as listed.
        around: where to look for environments.
        force: also packages that were unpacked or downloaded within ten minutes; it overrides no
            other reason to stay.
        progress: told after each ten.
    """
    work = _Work(around, force=force)
    if any(map(_is_unpacked, entries)):
        work.look_for_links()
    folders: dict[tuple[Path, Path], list[Entry]] = {}
    for entry in entries:
        folders.setdefault((entry.place, _folder_of(entry)), []).append(entry)
    done = 0
    for (place, folder), mine in folders.items():
        try:
            root = Root(_root_of(place, folder), work.freed)
        except OSError as exc:
            work.kept += [not_permitted(entry, reason(exc, folder)) for entry in mine]
            continue
        with root, folder_lock(folder) as free:
            for entry in mine:
                busy = "" if free else "an installation holds the lock of this cache"
                work.take(entry, root, folder, busy)
                done += 1
                if progress and not done % 10:
                    progress(done, len(entries), "entries")
            work.finish(root, folder)
    return Removed(tuple(work.gone), work.freed.bytes, work.freed.files, tuple(work.kept))


def _is_unpacked(entry: Entry) -> bool:
    return entry.kind is Kind.UNPACKED or entry.removable_because == HALF_UNPACKED


def _folder_of(entry: Entry) -> Path:
    first = entry.paths[0].parent if entry.paths else entry.place
    return first.parent if entry.extra.get("index") and first.name == "cache" else first


def _root_of(place: Path, folder: Path) -> Path:
    """The cache's root: rattler's ``pkgs``, if its user put it elsewhere by a link."""
    if folder.parent == place and folder.is_symlink() and hasattr(os, "geteuid"):
        return folder if folder.lstat().st_uid in (0, os.geteuid()) else place
    return place


class _Work:
    """One removal."""

    def __init__(self, around: Surroundings, *, force: bool) -> None:
        self._around = around
        self._force = force
        self._linked: dict[str, Path] = {}
        self._unknown = ""
        self._pruned: set[Path] = set()
        self._looked_s = 0.0
        self._running = ""
        self.freed = Freed()
        self.gone: list[Entry] = []
        self.kept: list[tuple[Entry, str]] = []

    def look_for_links(self) -> None:
        """Find every symbolic link of a known environment into a known cache, records or not."""
        known = survey(self._around)
        self._linked = links_into(known.prefixes, package_folders(self._around), known.unknown)
        self._unknown = in_use_perhaps([*known.unknown, *mentions(known.prefixes).unknown])

    def take(self, entry: Entry, root: Root, folder: Path, busy: str) -> None:
        """Remove one entry or keep it with a reason."""
        why = busy or self._refusal(entry)
        if not why:
            try:
                why = self._remove(entry, root, folder)
            except OSError as exc:
                entry, why = not_permitted(entry, reason(exc, entry.paths[0].parent))
        if why:
            self.kept.append((entry, why))
        else:
            self.gone.append(entry)

    def finish(self, root: Root, folder: Path) -> None:
        """Drop the lines of ``urls.txt`` that nothing needs any more, and an empty trash."""
        with suppress(OSError), root.folder(folder) as opened:
            if folder in self._pruned:
                with suppress(OSError):
                    self._prune(opened)
            opened.rmdir(TRASH, ours=True)

    def _prune(self, folder: Folder) -> None:
        before = disk_of(folder.stat(MAGIC))
        prune(folder, folder.names())
        self.freed.bytes += before - disk_of(folder.stat(MAGIC))

    def _refusal(self, entry: Entry) -> str:
        if not entry.is_removable(force=self._force):
            return entry.blocked
        if not entry.paths:
            return "it has no place"
        try:
            about = entry.paths[0].lstat()
        except FileNotFoundError:
            return "it is gone already"
        except OSError as exc:
            return reason(exc, entry.paths[0].parent)
        if entry.stamp and stamp(about) != entry.stamp:
            return "it changed since it was listed"
        if (
            entry.kind in (Kind.UNPACKED, Kind.ARCHIVE)
            and not self._force
            and (busy := self._client(entry))
        ):
            return busy
        if self._unknown and _is_unpacked(entry):
            return self._unknown
        user = self._linked.get(os.path.realpath(entry.paths[0]))
        return f"{user} links to it symbolically: it would break" if user else ""

    def _client(self, entry: Entry) -> str:
        """Whether conda or mamba runs, looked at four times a second.

        Rattler's lock was taken already.
        """
        if entry.tool == "rattler":
            return ""
        if time.monotonic() - self._looked_s > LOOK_EVERY_S:
            number = running.client(self._around.euid)
            self._running = running.reason(number) if number is not None else ""
            self._looked_s = time.monotonic()
        return self._running

    def _remove(self, entry: Entry, root: Root, folder: Path) -> str:
        if entry.extra.get("prune") == "urls":
            with root.folder(folder) as opened:
                self._prune(opened)
            return ""
        if entry.kind in (Kind.UNPACKED, Kind.ARCHIVE, Kind.TEMP):
            self._pruned.add(folder)
        if entry.paths[0].is_dir() and not entry.paths[0].is_symlink():
            return self._remove_folder(entry, root, folder)
        return self._remove_files(entry, root, folder)

    def _remove_folder(self, entry: Entry, root: Root, folder: Path) -> str:
        path = entry.paths[0]
        if path.name == TRASH:
            root.remove(path)
            return ""
        if self._is_being_written(path.name, folder):
            return "being written"
        trash = folder / TRASH
        root.make_folder(trash)
        aside = trash / f"entrepot-{secrets.token_hex(4)}-{path.name}"[:200]
        root.move(path, aside)
        expected = int(entry.extra.get("links", "0"))
        if expected and measure(str(aside)).links > expected:
            root.move(aside, path)
            return "an installation began to link to it"
        for beside in entry.paths[1:]:
            root.remove(beside)
        try:
            root.remove(aside)
        except OSError as exc:
            return f"part of it is left in {trash}: {exc.strerror}"
        return ""

    def _is_being_written(self, name: str, folder: Path) -> bool:
        return any(is_locked(folder / f"{name}{end}.partial") for end in ("", ".conda", ".tar.bz2"))

    def _remove_files(self, entry: Entry, root: Root, folder: Path) -> str:
        """Files one after the other, under the lock that their writer would take."""
        if self._is_being_written(entry.paths[0].name, folder):
            return "being written"
        with ExitStack() as locks:
            lockable = [
                path for path in entry.paths if path.name.endswith((".info.json", ".partial"))
            ]
            if not all(locks.enter_context(byte_lock(path)) for path in lockable):
                return "being written"
            for path in entry.paths:
                root.remove(path)
        return ""
