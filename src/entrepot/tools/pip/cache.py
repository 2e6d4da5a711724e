"""What lies in a pip cache.

Both HTTP layouts, built wheels, self-checks, left-overs, and whatever is not pip's (by size alone).

A scan has four steps: list the directories that have changed, read the metadata of what is new, let
the pages prove names, and open the bodies of what is still unnamed. Nothing is changed, not even a
time of last use.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass

from entrepot.fs import disk_of
from entrepot.ports.tool import Kind, Progress
from entrepot.tools.pip.evidence import Proof
from entrepot.tools.pip.httpentry import LAYOUTS, V1, V2, entry_folder
from entrepot.tools.pip.identify import Reader
from entrepot.tools.pip.index import Index
from entrepot.tools.pip.record import NAME, TEMPORARY, Files, Record, found
from entrepot.tools.pip.wheels import wheel_records

KNOWN_NAMES = frozenset((V2, V1, "wheels", "selfcheck", "selfcheck.json", "CACHEDIR.TAG"))
TRUSTED_AGE_NS = 2_000_000_000
"""A directory changed less than this before it was read may change again without its time moving
(coarse clocks)."""
RECHECK_S = 3600.0
"""After this many seconds every file is looked at again: reading moves access times only."""
CHUNK = 500


@dataclass(slots=True)
class ScanStats:
    """What a scan did; for tests."""

    read: int = 0
    """Entries whose files were opened."""
    listed: int = 0
    """Directories that were listed."""


class Scan:
    """One look at one cache.

    Args:
        root: the cache directory.
        bases: index URLs to prove pages with, credentials included: they are not kept.
        now: seconds since the epoch.
        index: what is remembered of the cache; updated.
        progress: told now and then.
        anew: look at every file again, also where no directory has changed: a file may have been
            written to in place, and last uses move no directory's time.
    """

    def __init__(
        self,
        root: str,
        bases: tuple[str, ...],
        now: float,
        index: Index,
        *,
        progress: Progress | None = None,
        anew: bool = False,
    ) -> None:
        self._root, self._bases, self._now = root, bases, now
        self._index, self._progress = index, progress
        self._anew = anew or not 0 <= now - index.checked <= RECHECK_S
        self._changed: dict[str, tuple[str, list[Record]]] = {}
        self._before: dict[str, list[Record]] | None = None
        self._marks: dict[str, str] = {}
        self.stats = ScanStats()

    def records(self, projects: Collection[str] | None = None) -> list[Record]:
        """Every entry's record; ``projects`` (normalized names) limits it to these.

        Raises:
            OSError: the root cannot be listed.
            sqlite3.Error: the index failed.
        """
        loose, parts = self._top()
        gone = self._walk(parts)
        if new := [r for _, records in self._changed.values() for r in records if not r.kind]:
            self._read(new)
        if self._changed or gone or self._anew:
            checked = self._now if self._anew else self._index.checked
            self._index.save(self._changed, gone, checked)
        return self._index.records(projects) + (loose if projects is None else [])

    def _top(self) -> tuple[list[Record], list[str]]:
        """The root's own files and what is no part of a pip cache; and the parts to walk."""
        loose, parts = [], []
        files, folders = self._list("")
        for file in files:
            why = "" if file[0] in KNOWN_NAMES else "not written by pip"
            layout = "selfcheck" if file[0] == "selfcheck.json" else "other"
            loose.append(found("", [file], layout, kind=str(Kind.OTHER), not_ours=why))
        for name in folders:
            if name in (*LAYOUTS, "wheels"):
                parts.append(name)
            elif name == "selfcheck":
                loose += [
                    found(at, [file], name, kind=str(Kind.OTHER))
                    for at, inside in self._tree(name)
                    for file in inside
                ]
            else:  # how big it is, and nothing else
                info = os.lstat(f"{self._root}/{name}")
                why = "unknown layout: sizes only"
                whole = found("", [(name, info)], "other", kind=str(Kind.OTHER), not_ours=why)
                infos = [info for _, inside in self._tree(name) for _, info in inside]
                whole.size, whole.disk = sum(i.st_size for i in infos), sum(map(disk_of, infos))
                whole.freeable, whole.files = 0, len(infos)
                loose.append(whole)
        return loose, parts

    def _tree(self, folder: str) -> list[tuple[str, Files]]:
        """Every directory at and below one, with its files; what cannot be listed is left out."""
        inside, waiting = [], [folder]
        while waiting:
            at = waiting.pop()
            try:
                files, below = self._list(at)
            except OSError:
                continue
            inside.append((at, files))
            waiting += [f"{at}/{name}" for name in below]
        return inside

    def _walk(self, waiting: list[str]) -> list[str]:
        """Note what has changed in these directories and below; those that are gone.

        Files that come, go or are replaced move the time of their directory, so what was listed
        before need not be listed again: that takes most of the time of a scan.
        """
        self._marks, below = self._index.folders(), dict[str, list[str]]()
        for path in self._marks:
            below.setdefault(path.rpartition("/")[0], []).append(path)
        left, told = set(self._marks), 0
        while waiting:
            at = waiting.pop()
            left.discard(at)
            before = self._marks.get(at)
            try:
                info = os.lstat(f"{self._root}/{at}")
                mark = f"{info.st_ino}:{info.st_mtime_ns}" if stat.S_ISDIR(info.st_mode) else ""
                if mark and mark == before and not self._anew:
                    waiting += below.get(at, ())
                    continue
                files, folders = self._list(at) if mark else ([], [])
            except OSError:
                self._changed[at] = "", []
                continue
            waiting += [f"{at}/{name}" for name in folders]
            if self._now * 1e9 - info.st_mtime_ns <= TRUSTED_AGE_NS:
                mark = ""
            remembered = self._remembered(at) if before is not None else []
            records = self._records(at, files, remembered)
            if mark != before or records != remembered:
                self._changed[at] = mark, records
            if self._progress and self.stats.listed >= told:
                self._progress(self.stats.listed, None, "directories")
                told = self.stats.listed + CHUNK
        for path in left:
            del self._marks[path]
        return sorted(left)

    def _list(self, folder: str) -> tuple[Files, list[str]]:
        """Files (symbolic links and other oddities among them) and directories of one directory."""
        self.stats.listed += 1
        files: Files = []
        folders: list[str] = []
        with os.scandir(f"{self._root}/{folder}" if folder else self._root) as items:
            for item in items:
                if item.is_dir(follow_symlinks=False):
                    folders.append(item.name)
                    continue
                try:
                    files.append((item.name, item.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue
        files.sort()
        folders.sort()
        return files, folders

    def _remembered(self, folder: str) -> list[Record]:
        if not self._anew:
            return self._index.in_folder(folder)
        if self._before is None:
            self._before = {}
            for record in self._index.records():
                self._before.setdefault(record.folder, []).append(record)
        return self._before.get(folder, [])

    def _records(self, folder: str, files: Files, remembered: list[Record]) -> list[Record]:
        """The records of one directory; one that is still to be read has no kind."""
        plain = [file for file in files if stat.S_ISREG(file[1].st_mode)]
        why = "a symbolic link or no plain file: not written by pip"
        records = [
            found(folder, [file], "other", kind=str(Kind.OTHER), not_ours=why)
            for file in files
            if not stat.S_ISREG(file[1].st_mode)
        ]
        if folder.partition("/")[0] == "wheels":
            records += wheel_records(folder, plain, self._root)
        else:
            records += http_records(folder, plain)
        known = {record.key: record for record in remembered}
        for record in records:
            if (before := known.get(record.key)) and before.stamp == record.stamp:
                record.learn(before)
        return sorted(records, key=lambda record: record.key)

    def _read(self, new: list[Record]) -> None:
        """Read what is new, prove what can be proved, and open what is left."""
        self.stats.read += len(new)
        here: dict[str, list[Record]] = {}
        for _, records in self._changed.values():
            for record in records:
                if record.layout in LAYOUTS and not record.is_orphan:
                    here.setdefault(record.name, []).append(record)
        reader = Reader(self._root, self._bases, frozenset(self._index.names() | here.keys()))
        proofs: list[Proof] = []
        for number, record in enumerate(new):
            record.kind = str(Kind.OTHER)
            proofs += reader.read_head(record)
            if self._progress and not number % CHUNK:
                self._progress(number, len(new), "entries")
        self._apply(proofs, here)
        left = [r for r in new if r.certainty == "unknown" and not r.is_orphan]
        proofs = [proof for record in left for proof in reader.read_body(record)]
        # Pages that are not new may prove what is: they are read once more.
        wanted = {r.project for r in new if r.certainty == "content" and r.kind != Kind.PAGE}
        seen = {(record.folder, record.key) for record in new}
        for page in self._index.pages(wanted - {""}):
            if (page.folder, page.key) not in seen:
                proofs += reader.read_body(page)
        self._apply(proofs, here)

    def _apply(self, proofs: list[Proof], here: dict[str, list[Record]]) -> None:
        """Name every entry that a page proves; a new page may name an old file."""
        for name, proof in {proof.name: proof for proof in reversed(proofs)}.items():
            for record in here.get(name, ()):
                proof.apply(record)
            for folder in (entry_folder(layout, name) for layout in LAYOUTS):
                if folder in self._changed or folder not in self._marks:
                    continue
                records = self._index.in_folder(folder)
                for record in records:
                    if record.layout in LAYOUTS and record.name == name and not record.is_orphan:
                        proof.apply(record)
                        self._changed[folder] = self._marks[folder], records


def http_records(folder: str, files: Files) -> list[Record]:
    """Records of one directory of an HTTP layout; one that is still to be read has no kind."""
    layout = folder.partition("/")[0]
    by_name = dict(files)
    records = []
    for name, info in files:
        if name.endswith(".body") and NAME.fullmatch(name[:-5]):
            if name[:-5] not in by_name:
                records.append(_orphan(folder, [(name, info)], layout, "body-without-metadata"))
        elif NAME.fullmatch(name):
            parts = [(name, info)]
            if (body := by_name.get(f"{name}.body")) is not None:
                parts.append((f"{name}.body", body))
            if folder != entry_folder(layout, name):
                records.append(_orphan(folder, parts, layout, "wrong-place"))
            elif layout == V2 and body is None:
                key, why = f"{layout}/{name}", "metadata-without-body"
                records.append(_orphan(folder, parts, layout, why, key=key))
            else:
                records.append(found(folder, parts, layout, key=f"{layout}/{name}"))
        elif TEMPORARY.fullmatch(name):
            records.append(found(folder, [(name, info)], layout, kind=str(Kind.TEMP)))
        else:
            why = "not written by pip"
            records.append(
                found(folder, [(name, info)], "other", kind=str(Kind.OTHER), not_ours=why)
            )
    return records


def _orphan(folder: str, files: Files, layout: str, problem: str, *, key: str = "") -> Record:
    return found(
        folder, files, layout, key=key, kind=str(Kind.OTHER), is_orphan=True, problem=problem
    )
