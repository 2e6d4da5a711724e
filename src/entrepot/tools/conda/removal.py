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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from entrepot.cache_root import Folder, Root
from entrepot.fs import disk_of, stamp
from entrepot.ports.tool import Entry, Kind, Progress, Removed, Surroundings
from entrepot.tools._shared.disk_usage import measure
from entrepot.tools._shared.permission_errors import reason
from entrepot.tools._shared.removal import CHANGED, GONE, Removal
from entrepot.tools.conda.entry import BEING_WRITTEN, CondaEntry
from entrepot.tools.conda.environments import links_into, mentions, package_folders, survey
from entrepot.tools.conda.locks import byte_lock, client_at_work, folder_lock, is_locked
from entrepot.tools.conda.pkgs_dirs import MAGIC
from entrepot.tools.conda.urls import prune

TRASH = ".trash"
LOOK_EVERY_S = 0.25


class CondaRemoval(Removal[CondaEntry]):
    """One removal: what has to be known for it, and how entries go.

    Args:
        around: where to look for environments.
        force: also packages that were unpacked or downloaded within ten minutes; it overrides no
            other reason to stay.
        progress: told after each ten.
    """

    listed_as = CondaEntry

    def __init__(
        self, around: Surroundings, *, force: bool = False, progress: Progress | None = None
    ) -> None:
        super().__init__(force=force, progress=progress)
        self._around = around
        self._linked: dict[str, Path] = {}
        self._unknown = ""
        self._to_prune: set[Path] = set()
        self._looked_s = 0.0
        self._client = ""

    def run(self, entries: Sequence[Entry]) -> Removed:
        """Find every symbolic link of a known environment into a known cache, then remove."""
        if any(isinstance(entry, CondaEntry) and entry.is_package for entry in entries):
            known = survey(self._around)
            self._linked = links_into(known, package_folders(self._around))
            self._unknown = mentions(known).in_use_perhaps
        return super().run(entries)

    def folder_of(self, entry: CondaEntry) -> Path:
        """The folder of packages."""
        return entry.folder

    def root_of(self, place: Path, folder: Path) -> Path:
        """The cache's root: rattler's ``pkgs``, if its user put it elsewhere by a link."""
        if folder.parent == place and folder.is_symlink() and hasattr(os, "geteuid"):
            return folder if folder.lstat().st_uid in (0, os.geteuid()) else place
        return place

    @contextmanager
    def held(self, root: Root, folder: Path) -> Iterator[str]:
        """Rattler's lock.

        Afterwards the lines of ``urls.txt`` that nothing needs any more go, and an empty trash.
        """
        with folder_lock(folder) as free:
            yield "" if free else "an installation holds the lock of this cache"
            with suppress(OSError), root.folder(folder) as opened:
                if folder in self._to_prune:
                    with suppress(OSError):
                        self._prune(opened)
                opened.rmdir(TRASH, ours=True)

    def _prune(self, folder: Folder) -> None:
        before = disk_of(folder.stat(MAGIC))
        prune(folder, folder.names())
        self.freed.bytes += before - disk_of(folder.stat(MAGIC))

    def _refusal(self, entry: CondaEntry) -> str:
        if not entry.paths:
            return "it has no place"
        path = entry.paths[0]
        try:
            about = path.lstat()
        except FileNotFoundError:
            return GONE
        except OSError as exc:
            return reason(exc, path.parent)
        if entry.stamp and stamp(about) != entry.stamp:
            return CHANGED
        is_used_by_clients = entry.kind in (Kind.UNPACKED, Kind.ARCHIVE) and entry.tool != "rattler"
        if is_used_by_clients and not self.force and (busy := self._client_at_work()):
            return busy  # rattler's lock was taken already
        if self._unknown and entry.is_package:
            return self._unknown
        user = self._linked.get(os.path.realpath(path))
        return f"{user} links to it symbolically: it would break" if user else ""

    def _client_at_work(self) -> str:
        """As :func:`client_at_work`, looked at four times a second."""
        if time.monotonic() - self._looked_s > LOOK_EVERY_S:
            self._client = client_at_work(self._around.euid)
            self._looked_s = time.monotonic()
        return self._client

    def take(self, entry: CondaEntry, root: Root, folder: Path) -> str:
        """Remove one entry or say why it stays."""
        if why := self._refusal(entry):
            return why
        if entry.stale_lines:
            with root.folder(folder) as opened:
                self._prune(opened)
            return ""
        if entry.kind in (Kind.UNPACKED, Kind.ARCHIVE, Kind.TEMP):
            self._to_prune.add(folder)
        path = entry.paths[0]
        if path.name == TRASH and path.is_dir() and not path.is_symlink():
            root.remove(path)
            return ""
        downloads = (folder / f"{path.name}{end}.partial" for end in ("", ".conda", ".tar.bz2"))
        if any(map(is_locked, downloads)):
            return BEING_WRITTEN.text
        if path.is_dir() and not path.is_symlink():
            return self._remove_folder(entry, root)
        with ExitStack() as locks:  # files one after the other, under their writer's lock
            for each in entry.paths:
                lockable = each.name.endswith((".info.json", ".partial"))
                if lockable and not locks.enter_context(byte_lock(each)):
                    return BEING_WRITTEN.text
            for each in entry.paths:
                root.remove(each)
        return ""

    def _remove_folder(self, entry: CondaEntry, root: Root) -> str:
        path, trash = entry.paths[0], entry.folder / TRASH
        root.make_folder(trash)
        aside = trash / f"entrepot-{secrets.token_hex(4)}-{path.name}"[:200]
        root.move(path, aside)
        if entry.links and measure(str(aside)).links > entry.links:
            root.move(aside, path)
            return "an installation began to link to it"
        for beside in entry.paths[1:]:
            root.remove(beside)
        try:
            root.remove(aside)
        except OSError as exc:
            return f"part of it is left in {trash}: {exc.strerror}"
        return ""
