"""What lies in a pip cache: both HTTP layouts, built wheels, self-checks, left-overs, and whatever is not pip's (by size alone).

A look has four steps: walk the directories (remembered shards whose directories have not changed are taken as they were), read
the metadata of what is new, let the pages prove names, and open the bodies of what is still unnamed. Nothing is changed, not
even a time of last use.
"""

from __future__ import annotations

import gc
import os
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from entrepot.names import normalize
from entrepot.ports.tool import Kind, Progress
from entrepot.tools.pip.examine import Known, apply_proofs, examine_bodies, examine_heads, name_of
from entrepot.tools.pip.httpentry import LAYOUTS, V1, V2
from entrepot.tools.pip.index import Index, Row, Shard
from entrepot.tools.pip.pages import Proof
from entrepot.tools.pip.rows import (
    CERTAINTY,
    DISK,
    EXTRA,
    FILES,
    FREEABLE,
    KEY,
    KIND,
    LITTER,
    NAME,
    PATHS,
    PINNED,
    PROJECT,
    SIZE,
    STAMP,
    TEMPORARY,
    blank,
    disk_of,
    measure,
    touch,
)
from entrepot.tools.pip.wheels import wheel_rows
from entrepot.tools.pip.worker import Work, finish, start

KNOWN_NAMES = frozenset((V2, V1, "wheels", "selfcheck", "selfcheck.json", "CACHEDIR.TAG"))
TRUSTED_AGE_NS = 2_000_000_000
"""A directory changed less than this before it was read may change again without its time moving (coarse clocks)."""
RECHECK_S = 3600.0
"""After this many seconds the files of an unchanged directory are looked at again: reading moves their access times only."""
MANY = 20_000
"""So many entries to read are worth a second process."""
CHUNK = 500
SHARDS = 128
"""So many shards are worth a copy of this process; a cache of some thousand entries fills all 256 of them."""

Files = list[tuple[str, os.stat_result]]
Looked = tuple[str, "tuple[dict[str, int], list[Row], float, list[int]] | None", int]
"""A shard's name, what :meth:`Scan._shard` said of it, and the directories that were listed."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a scan is asked."""

    root: str
    bases: tuple[str, ...]
    """Index URLs to prove pages with, credentials included."""
    now: float
    recheck: bool = False
    """Look at every file again, also where no directory has changed: a file may have been written to in place."""


@dataclass(slots=True)
class Tally:
    """What a scan had to do; for tests and ``-v``."""

    read: int = 0
    """Entries whose files were opened."""
    walked: int = 0
    """Directories that were listed."""


class Scan:
    """One look at one cache.

    Args:
        scope: where, when and with which indexes.
        index: what is remembered; updated.
        progress: told now and then.
    """

    def __init__(self, scope: Scope, index: Index, progress: Progress | None = None) -> None:
        self._scope = scope
        self._root = scope.root
        self._index = index
        self._progress = progress
        self._old: dict[str, Shard] = {}
        self._new: dict[str, Shard] = {}
        self._changed: set[str] = set()
        self._fresh: list[tuple[str, Row]] = []
        self._names: list[str] = []
        self.tally = Tally()

    def rows(self, projects: Collection[str] | None = None) -> list[Row]:
        """Every entry's row; with ``projects`` (normalized names) those of these projects alone, which is much less to read.

        Raises:
            OSError: the root cannot be listed.
        """
        with quick_allocation():
            self._old = self._index.load(self._root)
            loose = self._top()
            self._look_at_shards()
            self._read_new()
            gone = [name for name in self._old if name not in self._new]
            if self._changed or gone:
                self._index.save(self._root, ((name, self._new[name]) for name in self._changed), gone)
            if projects is None:
                return [row for shard in self._new.values() for row in shard.rows] + loose
            wanted = self._index.shards_of(self._root, projects)
            shards = [shard for name, shard in self._new.items() if wanted is None or name in wanted]
            return [row for shard in shards for row in shard.rows if row[PROJECT] and normalize(row[PROJECT]) in projects]

    def _look_at_shards(self) -> None:
        """See which shards have changed, and walk those: half of them in a second process when there are many."""
        for name, result, walked in in_two(self._look_at_all, self._names):
            if result is None:
                self._new[name] = self._old[name]
                continue
            folders, rows, checked, fresh = result
            self._new[name] = Shard(folders, rows, checked)
            self._fresh += [(name, rows[number]) for number in fresh]
            self._changed.add(name)
            self.tally.walked += walked

    def _look_at_all(self, names: Sequence[str]) -> list[Looked]:
        done: list[Looked] = []
        for number, name in enumerate(names):
            before = self.tally.walked
            done.append((name, self._shard(name), self.tally.walked - before))
            if self._progress and number % 4 == 0:
                self._progress(number, len(names), "directories")
        self.tally.walked -= sum(walked for _, _, walked in done)
        return done

    def _top(self) -> list[Row]:
        """The root's own names; everything below the known ones becomes shards."""
        loose: list[Row] = []
        files, folders = self._list("")
        for name, info in files:
            row = blank(name, "selfcheck" if name == "selfcheck.json" else "other", [(name, info)])
            if name not in KNOWN_NAMES:
                row[PINNED] = "not written by pip"
            loose.append(row)
        for name in folders:
            if name in LAYOUTS:
                self._layout(name)
            elif name == "wheels":
                self._shards_below(name)
            elif name == "selfcheck":
                loose += self._self_checks(name)
            else:
                loose.append(self._unknown(name))
        return loose

    def _layout(self, layout: str) -> None:
        """Shards are the directories of two digits: http-v2/a/b."""
        files, folders = self._list(layout)
        self._odd_files(layout, files)
        for folder in folders:
            self._shards_below(f"{layout}/{folder}")

    def _shards_below(self, folder: str) -> None:
        files, folders = self._list(folder)
        self._odd_files(folder, files)
        self._names += [f"{folder}/{name}" for name in folders]

    def _odd_files(self, folder: str, files: Files) -> None:
        if files:
            shard = Shard(rows=self._rows_of(folder, files), checked=self._scope.now)
            self._new[f"{folder}/."] = shard

    def _shard(self, name: str) -> tuple[dict[str, int], list[Row], float, list[int]] | None:
        """Folders, rows, time and the positions of the rows still to be read; ``None`` when all is as it was."""
        old = self._old.get(name)
        if old is not None and self._unchanged(old):
            if not self._scope.recheck and 0 <= self._scope.now - old.checked <= RECHECK_S:
                return None
            again = self._looked_at_again(old)
            if again is not None:
                return again.folders, again.rows, again.checked, []
        shard = Shard(checked=self._scope.now)
        known = {row[KEY]: row for row in old.rows} if old else {}
        fresh = []
        for folder, files in self._walk(name, shard.folders):
            for row in self._rows_of(folder, files):
                before = known.get(row[KEY])
                if before is not None and before[STAMP] == row[STAMP]:
                    _carry(before, row)
                elif row[KIND] is None:
                    row[KIND] = str(Kind.OTHER)
                    fresh.append(len(shard.rows))
                shard.rows.append(row)
        return shard.folders, shard.rows, shard.checked, fresh

    def _unchanged(self, shard: Shard) -> bool:
        look, root = os.stat, self._root
        try:
            return all(_mark(look(f"{root}/{folder}")) == mark for folder, mark in shard.folders.items())
        except OSError:
            return False

    def _looked_at_again(self, shard: Shard) -> Shard | None:
        """The same shard with its files' times; ``None`` when one was written to in place."""
        for row in shard.rows:
            try:
                infos = [os.lstat(f"{self._root}/{path}") for path in row[PATHS]]  # strings are quicker
            except OSError:
                return None
            before = row[STAMP]
            size = row[SIZE]
            touch(row, infos)
            if ";".join(f"{i.st_ino}:{i.st_mtime_ns}:{i.st_size}" for i in infos) != before:
                return None
            measure(row, infos)
            row[SIZE] = max(size, row[SIZE])
        shard.checked = self._scope.now
        return shard

    def _walk(self, folder: str, folders: dict[str, int]) -> Iterator[tuple[str, Files]]:
        """Each directory with its files, parents first; notes the directories' times *before* they are read."""
        waiting = [folder]
        while waiting:
            at = waiting.pop()
            try:
                info = os.stat(f"{self._root}/{at}", follow_symlinks=False)  # noqa: PTH116  # strings are quicker
                files, below = self._list(at)
            except OSError:
                folders[at] = 0
                continue
            folders[at] = _mark(info) if self._scope.now * 1e9 - info.st_mtime_ns > TRUSTED_AGE_NS else 0
            waiting += [f"{at}/{name}" for name in below]
            if files:
                yield at, files

    def _list(self, folder: str) -> tuple[Files, list[str]]:
        """Files (symbolic links and other oddities among them) and directories of one directory."""
        self.tally.walked += 1
        files: Files = []
        folders: list[str] = []
        with os.scandir(f"{self._root}/{folder}" if folder else self._root) as found:
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    folders.append(item.name)
                    continue
                try:
                    files.append((item.name, item.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue
        files.sort()
        return files, sorted(folders)

    def _rows_of(self, folder: str, files: Files) -> list[Row]:
        links = [(name, info) for name, info in files if not stat.S_ISREG(info.st_mode)]
        odd = []
        for name, info in links:
            row = blank(f"{folder}/{name}", "other", [(f"{folder}/{name}", info)])
            row[PINNED] = "a symbolic link or no plain file: not written by pip"
            odd.append(row)
        plain = [pair for pair in files if pair not in links] if links else files
        if folder.startswith("wheels"):
            return odd + wheel_rows(folder, plain, self._root)
        return odd + http_rows(folder, plain)

    def _self_checks(self, folder: str) -> list[Row]:
        return [
            blank(f"{at}/{name}", "selfcheck", [(f"{at}/{name}", info)])
            for at, files in self._walk(folder, {})
            for name, info in files
        ]

    def _unknown(self, folder: str) -> Row:
        """A directory that is no part of any pip's cache: how big it is, and nothing else."""
        info = os.lstat(f"{self._root}/{folder}")  # strings are quicker
        row = blank(folder, "other", [(folder, info)])
        infos = [info for _, files in self._walk(folder, {}) for _, info in files]
        row[SIZE], row[DISK], row[FREEABLE] = sum(i.st_size for i in infos), sum(map(disk_of, infos)), 0
        row[FILES] = len(infos)
        row[PINNED] = "unknown layout: sizes only"
        return row

    def _read_new(self) -> None:
        """Read what is new, prove what can be proved, and open what is left."""
        new = [row for _, row in self._fresh]
        if not new:
            return
        self.tally.read += len(new)
        http = [row for shard in self._new.values() for row in shard.rows if row[KEY].startswith("http")]
        known = Known(self._root, self._scope.bases, frozenset(name_of(row) for row in http if NAME.fullmatch(name_of(row))))
        done = self._in_parallel(examine_heads, new, known)
        apply_proofs(http, done)
        left = [row for row in new if row[CERTAINTY] == "unknown" and not row[LITTER]]
        done = self._in_parallel(examine_bodies, left, known)
        done += self._pages_again(new, http, known)
        if apply_proofs(http, done):
            self._changed |= set(self._new)  # an old page may have named a new file, and a new page an old one

    def _pages_again(self, new: list[Row], http: list[Row], known: Known) -> list[Proof]:
        """Old pages of the projects of new files that no new page has proved: they are read once more."""
        wanted = {row[PROJECT] for row in new if row[CERTAINTY] == "content" and row[KIND] != str(Kind.PAGE)}
        fresh = {id(row) for row in new}
        pages = [r for r in http if r[KIND] == str(Kind.PAGE) and r[PROJECT] in wanted and id(r) not in fresh]
        return examine_bodies(pages, known).proofs if pages and self._old else []

    def _in_parallel(self, work: Work, rows: list[Row], known: Known) -> list[Proof]:
        """Do the work, half of it in a second process when there is much; the rows are updated in place."""
        half = len(rows) // 2 if len(rows) >= MANY and (os.cpu_count() or 1) > 1 else 0
        process = start(work, rows[:half], known) if half else None
        found = self._in_chunks(work, rows[half:] if process else rows, known)
        done = finish(process) if process else None
        if done is not None:
            for row, read in zip(rows[:half], done.rows, strict=True):
                row[:] = read
            found += done.proofs
        elif process:
            found += self._in_chunks(work, rows[:half], known)
        return found

    def _in_chunks(self, work: Work, rows: list[Row], known: Known) -> list[Proof]:
        found: list[Proof] = []
        for at in range(0, len(rows), CHUNK):
            found += work(rows[at : at + CHUNK], known).proofs
            if self._progress:
                self._progress(min(at + CHUNK, len(rows)), len(rows), "entries")
        return found


def in_two(work: Callable[[list[str]], list[Looked]], names: list[str]) -> list[Looked]:
    """The results of the work on some names, half of it done by a copy of this process where that is safe and worth it.

    A copy of a process with several threads may hang, so such a process does all of it itself.
    """
    half = len(names) // 2
    import pickle  # noqa: PLC0415  # only for large caches

    alone = threading.active_count() > 1 or (os.cpu_count() or 1) < 2 or not hasattr(os, "fork")
    if alone or len(names) < SHARDS:
        return work(names)
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(receiver)
            with open(sender, "wb") as file:  # noqa: PTH123  (a descriptor)
                pickle.dump(work(names[:half]), file, pickle.HIGHEST_PROTOCOL)
            status = 0
        finally:
            os._exit(status)  # nothing of the parent's may be closed or flushed twice
    os.close(sender)
    with open(receiver, "rb") as file:  # noqa: PTH123  (a descriptor)
        try:
            mine = work(names[half:])
            theirs = file.read()
        finally:
            _, status = os.waitpid(child, 0)
    done: list[Looked] = pickle.loads(theirs) if status == 0 else work(names[:half])  # noqa: S301  # our own copy wrote it
    return done + mine


@contextmanager
def quick_allocation() -> Iterator[None]:
    """Without the cycle collector, which would walk a hundred thousand new lists again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _mark(info: os.stat_result) -> int:
    """What changes when names come or go in a directory, and when it is another one, put back from a backup with its old time."""
    return info.st_mtime_ns ^ (info.st_ino & 0x7FFFFFFFFFFFFFFF)


def _carry(before: Row, row: Row) -> None:
    """Take over what was learnt of an entry whose files have not changed; sizes, times and paths are the new ones."""
    row[9:] = [*before[9:23], row[23]]


def http_rows(folder: str, files: Files) -> list[Row]:
    """Rows of one directory of an HTTP layout; a row still to be read has no kind."""
    layout = folder.partition("/")[0]
    by_name = dict(files)
    rows = []
    for name, info in files:
        path = f"{folder}/{name}"
        if name.endswith(".body") and NAME.fullmatch(name[:-5]):
            if name[:-5] not in by_name:
                rows.append(_litter(path, layout, [(path, info)], "orphan", "body-without-metadata"))
            continue
        if NAME.fullmatch(name):
            rows.append(_http_row(folder, layout, name, by_name))
        elif TEMPORARY.fullmatch(name):
            row = blank(path, layout, [(path, info)])
            row[KIND] = str(Kind.TEMP)
            rows.append(row)
        else:
            row = blank(path, "other", [(path, info)])
            row[PINNED] = "not written by pip"
            rows.append(row)
    return rows


def _http_row(folder: str, layout: str, name: str, by_name: dict[str, os.stat_result]) -> Row:
    path = f"{folder}/{name}"
    parts = [(path, by_name[name])]
    body = by_name.get(f"{name}.body")
    if body is not None:
        parts.append((f"{path}.body", body))
    if folder != f"{layout}/{'/'.join(name[:5])}":
        return _litter(path, layout, parts, "orphan", "wrong-place")
    if layout == V2 and body is None:
        return _litter(f"{layout}/{name}", layout, parts, "orphan", "metadata-without-body")
    row = blank(f"{layout}/{name}", layout, parts)
    row[KIND] = None
    return row


def _litter(key: str, layout: str, files: Files, why: str, problem: str) -> Row:
    row = blank(key, layout, files)
    row[LITTER] = why
    row[EXTRA] = {"problem": problem}
    return row
