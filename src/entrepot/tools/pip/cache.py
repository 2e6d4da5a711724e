"""What lies in a pip cache.

Both HTTP layouts, built wheels, self-checks, left-overs, and whatever is not pip's (by size alone).

A look has four steps: walk the directories (remembered shards whose directories have not changed
are taken as they were), read the metadata of what is new, let the pages prove names, and open the
bodies of what is still unnamed. Nothing is changed, not even a time of last use.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from entrepot.fs import disk_of
from entrepot.names import normalize
from entrepot.ports.tool import Kind, Progress
from entrepot.tools._shared.noatime import quick_allocation
from entrepot.tools.pip.httpentry import LAYOUTS, NAME_LENGTH, V1, V2
from entrepot.tools.pip.index import Folders, Index, Row, Shard, shard_of
from entrepot.tools.pip.pair import Alone, Lost, Other, Peer, can_copy, copied
from entrepot.tools.pip.rows import (
    CERTAINTY,
    DISK,
    EXTRA,
    FILES,
    FREEABLE,
    KEY,
    KIND,
    LAYOUT,
    LITTER,
    MEASURES,
    NAME,
    NEWEST,
    PATHS,
    PINNED,
    PROJECT,
    SIZE,
    STAMP,
    TEMPORARY,
    blank,
    measured,
)

if TYPE_CHECKING:
    from entrepot.tools.pip.examine import Known, Naming

# What reads entries is imported where it is used: most looks see that nothing has changed.

KNOWN_NAMES = frozenset((V2, V1, "wheels", "selfcheck", "selfcheck.json", "CACHEDIR.TAG"))
TRUSTED_AGE_NS = 2_000_000_000
"""A directory changed less than this before it was read may change again without its time moving
(coarse clocks)."""
RECHECK_S = 3600.0
"""After this many seconds the files of an unchanged directory are looked at again: reading moves
their access times only."""
CHUNK = 500
SHARDS = 128
"""So many shards are worth a copy of this process; a cache of some thousand entries fills all 256
of them."""

MARK = 0x7FFFFFFFFFFFFFFF
"""The bits of a mark: times of the far future and some inodes have more."""

T = TypeVar("T")
Files = list[tuple[str, os.stat_result]]
_OTHER, _PAGE = str(Kind.OTHER), str(Kind.PAGE)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a scan is asked."""

    root: str
    bases: tuple[str, ...]
    """Index URLs to prove pages with, credentials included."""
    now: float
    recheck: bool = False
    """Look at every file again, also where no directory has changed: a file may have been written
    to in place."""


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
        self.index = index
        self._progress = progress
        self._old: dict[str, Shard] = {}
        self._new: dict[str, Shard] = {}
        self._changed: set[str] = set()
        self._names: list[str] = []
        self._loose: list[Row] | None = None
        self._differs = False
        self.tally = Tally()

    def look(self) -> bool:
        """See what has changed, read that, and remember it.

        ``False`` when nothing has changed since the last look.

        Raises:
            OSError: the root cannot be listed.
        """
        if self._loose is None:
            with quick_allocation():
                self._old = self.index.load(self._root)
                loose = self._top()
                self._all_shards()
                self._new = {name: self._new[name] for name in sorted(self._new)}
                gone = [name for name in self._old if name not in self._new]
                self._differs = bool(self._changed or gone)
                if self._differs:
                    self.index.save(
                        self._root, ((name, self._new[name]) for name in self._changed), gone
                    )
                self._loose = loose
        return self._differs

    @property
    def mark(self) -> str:
        """What changes with whatever lies outside the shards: it is looked at anew each time."""
        rows = [
            *(self._loose or ()),
            *(
                row
                for name, shard in self._new.items()
                if name.endswith("/.")
                for row in shard.rows
            ),
        ]
        return "\n".join(f"{row[KEY]} {row[STAMP]} {row[SIZE]}" for row in rows)

    def rows(self, projects: Collection[str] | None = None) -> list[Row]:
        """Every entry's row; ``projects`` (normalized names) limits it to these, which reads less.

        Raises:
            OSError: the root cannot be listed.
        """
        self.look()
        with quick_allocation():
            if projects is None:
                return _rows_in(self._new.values()) + (self._loose or [])
            wanted = self.index.shards_of(self._root, projects)
            rows = _rows_in(
                shard for name, shard in self._new.items() if wanted is None or name in wanted
            )
            return [row for row in rows if row[PROJECT] and normalize(row[PROJECT]) in projects]

    def in_parts(self, work: Callable[[list[Row]], T]) -> list[T]:
        """What some work makes of the rows.

        Half of a large cache's are worked on in a second process.

        Args:
            work: gives plain values (see :meth:`.pair.Peer.exchange`) and does no more than that.

        Raises:
            OSError: the root cannot be listed.
        """
        self.look()
        shards, loose = list(self._new.values()), self._loose or []
        if len(shards) >= SHARDS and can_copy():
            half = len(shards) // 2
            with (
                suppress(Lost),
                copied(lambda other: other.send(work(_rows_in(shards[:half])))) as other,
            ):
                mine = work(_rows_in(shards[half:]) + loose)
                return [other.receive(), mine]
        return [work(_rows_in(shards) + loose)]

    def _all_shards(self) -> None:
        """Every shard, half of them in a second process when there are many."""
        if len(self._names) >= SHARDS and can_copy():
            half = len(self._names) // 2
            try:
                with copied(partial(self._for_the_other, self._names[:half])) as other:
                    self._part(self._names[half:], other)
                    self._take(self._names[:half], *other.receive())
            except Lost:
                self._changed.clear()
                self.tally = Tally()
            else:
                return
        self._part(self._names, Alone())

    def _for_the_other(self, names: list[str], other: Other) -> None:
        """In the second process: its half, and what came of it."""
        self._progress, self.tally = None, Tally()
        self._part(names, other)
        other.send(
            (
                [(name, *self._new[name].packed()) for name in self._changed],
                self.tally.read,
                self.tally.walked,
            )
        )

    def _take(
        self,
        names: list[str],
        changed: list[tuple[str, bytes, float, bytes, bytes]],
        read: int,
        walked: int,
    ) -> None:
        """What the second process found."""
        shards = {
            name: shard_of(folders, checked, projects, data)
            for name, folders, checked, projects, data in changed
        }
        self._new |= {name: shards.get(name) or self._old[name] for name in names}
        self._changed |= set(shards)
        self.tally.read += read
        self.tally.walked += walked

    def _part(self, names: list[str], other: Peer) -> None:
        """Some of the shards: walk what has changed, read what is new."""
        fresh: list[Row] = []
        for number, name in enumerate(names):
            found = self._shard(name)
            if found is None:
                self._new[name] = self._old[name]
                continue
            self._new[name] = found[0]
            self._changed.add(name)
            fresh += found[1]
            self._tell(number, len(names), "directories")
        if len(fresh) + other.exchange(len(fresh)):
            self._read_new(names, fresh, other)

    def _tell(self, done: int, total: int, what: str) -> None:
        if self._progress:
            self._progress(done, total, what)

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
            shard = Shard(Folders(), self._rows_of(folder, files), self._scope.now)
            self._new[f"{folder}/."] = shard

    def _shard(self, name: str) -> tuple[Shard, list[Row]] | None:
        """A shard that has changed and its rows still to be read.

        ``None`` when all is as it was.
        """
        old = self._old.get(name)
        if old is not None and self._unchanged(name, old):
            if not self._scope.recheck and 0 <= self._scope.now - old.checked <= RECHECK_S:
                return None
            again = self._looked_at_again(old)
            if again is not None:
                return again, []
        folders: dict[str, int] = {}
        rows: list[Row] = []
        known = {row[KEY]: row for row in old.rows} if old else {}
        fresh = []
        for folder, files in self._walk(name, folders):
            for row in self._rows_of(folder, files):
                before = known.get(row[KEY])
                if before is not None and before[STAMP] == row[STAMP]:
                    _carry(before, row)
                elif row[KIND] is None:
                    row[KIND] = _OTHER
                    fresh.append(row)
                rows.append(row)
        marks = {folder[len(name) :]: mark for folder, mark in folders.items()}
        return Shard(Folders.of(marks), rows, self._scope.now), fresh

    def _unchanged(self, name: str, shard: Shard) -> bool:
        """Whether every directory of a shard is as it was.

        Files that come, go or are replaced move its time.
        """
        base = f"{self._root}/{name}"
        # Full paths: names below an open directory cost Python more than the longer way costs the
        # system
        try:
            infos = map(os.lstat, [base + path for path in shard.folders.paths])
            marks = array(
                "q", [(info.st_mtime_ns ^ info.st_ino) & MARK for info in infos]
            )  # as _mark, without the call
        except OSError:
            return False
        return bool(marks) and marks.tobytes() == shard.folders.marks

    def _looked_at_again(self, shard: Shard) -> Shard | None:
        """The same shard with its files' times; ``None`` when one was written to in place."""
        for row in shard.rows:
            try:
                infos = [
                    os.lstat(f"{self._root}/{path}") for path in row[PATHS]
                ]  # strings are quicker
            except OSError:
                return None
            size, before = row[SIZE], row[STAMP]
            measures, newest = measured(infos)
            if measures[0] != before:
                return None
            row[MEASURES], row[NEWEST] = measures, newest
            row[SIZE] = max(size, row[SIZE])
        shard.checked = self._scope.now
        return shard

    def _walk(self, folder: str, folders: dict[str, int]) -> Iterator[tuple[str, Files]]:
        """Each directory with its files, parents first.

        Notes the directories' times *before* they are read.
        """
        waiting = [folder]
        while waiting:
            at = waiting.pop()
            try:
                info = os.lstat(f"{self._root}/{at}")
                files, below = self._list(at)
            except OSError:
                folders[at] = 0
                continue
            folders[at] = (
                _mark(info) if self._scope.now * 1e9 - info.st_mtime_ns > TRUSTED_AGE_NS else 0
            )
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
        folders.sort()
        return files, folders

    def _rows_of(self, folder: str, files: Files) -> list[Row]:
        odd = []
        for name, info in files:
            if not stat.S_ISREG(info.st_mode):
                row = blank(f"{folder}/{name}", "other", [(f"{folder}/{name}", info)])
                row[PINNED] = "a symbolic link or no plain file: not written by pip"
                odd.append(row)
        plain = (
            [(name, info) for name, info in files if stat.S_ISREG(info.st_mode)] if odd else files
        )
        if folder.startswith("wheels"):
            from entrepot.tools.pip.wheels import wheel_rows  # noqa: PLC0415

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
        row[SIZE], row[DISK], row[FREEABLE] = (
            sum(i.st_size for i in infos),
            sum(map(disk_of, infos)),
            0,
        )
        row[FILES] = len(infos)
        row[PINNED] = "unknown layout: sizes only"
        return row

    def _read_new(self, names: list[str], new: list[Row], other: Peer) -> None:
        """Read what is new, prove what can be proved, and open what is left."""
        from entrepot.tools.pip.examine import Known, examine_bodies, examine_heads  # noqa: PLC0415

        self.tally.read += len(new)
        rows = [row for name in names for row in self._new[name].rows]
        here = {row[KEY][-NAME_LENGTH:] for row in rows if row[LAYOUT] in LAYOUTS}
        known = Known(self._root, self._scope.bases, frozenset(here | other.exchange(here)))
        found = self._in_chunks(examine_heads, new, known)
        self._apply(
            names, found + other.exchange([naming for naming in found if naming[0] not in here])
        )
        left = [row for row in new if row[CERTAINTY] == "unknown" and not row[LITTER]]
        found = self._in_chunks(examine_bodies, left, known)
        wanted = {row[PROJECT] for row in new if row[CERTAINTY] == "content" and row[KIND] != _PAGE}
        found += self._pages_again(names, new, wanted | other.exchange(wanted), known)
        self._apply(
            names, found + other.exchange([naming for naming in found if naming[0] not in here])
        )

    def _apply(self, names: list[str], found: list[Naming]) -> None:
        """Name every entry that a page proves.

        An old page may name a new file, and a new page an old one.
        """
        from entrepot.tools.pip.examine import apply_naming  # noqa: PLC0415

        wanted = {naming[0]: naming for naming in reversed(found)}  # of two the first
        starts = {name[:2] for name in wanted}
        for shard in {
            f"{layout}/{start[0]}/{start[1]}" for layout in LAYOUTS for start in starts
        } & set(names):
            for row in self._new[shard].rows:
                if (
                    (naming := wanted.get(row[KEY][-NAME_LENGTH:]))
                    and row[LAYOUT] in LAYOUTS
                    and not row[LITTER]
                ):
                    apply_naming(row, naming)
                    self._changed.add(shard)

    def _pages_again(
        self, names: list[str], new: list[Row], wanted: set[str], known: Known
    ) -> list[Naming]:
        """Old pages of the projects of new files that no new page has proved.

        They are read once more.
        """
        from entrepot.tools.pip.examine import examine_bodies  # noqa: PLC0415

        if not self._old or not wanted:
            return []
        fresh = {id(row) for row in new}
        rows = [row for name in names if name.startswith("http") for row in self._new[name].rows]
        return examine_bodies(
            [r for r in rows if r[KIND] == _PAGE and r[PROJECT] in wanted and id(r) not in fresh],
            known,
        )

    def _in_chunks(
        self, work: Callable[[list[Row], Known], list[Naming]], rows: list[Row], known: Known
    ) -> list[Naming]:
        found: list[Naming] = []
        for at in range(0, len(rows), CHUNK):
            found += work(rows[at : at + CHUNK], known)
            self._tell(min(at + CHUNK, len(rows)), len(rows), "entries")
        return found


def _rows_in(shards: Iterable[Shard]) -> list[Row]:
    return [row for shard in shards for row in shard.rows]


def _mark(info: os.stat_result) -> int:
    """Changes when names come or go in a directory, or a backup puts another one in its place."""
    return (info.st_mtime_ns ^ info.st_ino) & MARK


def _carry(before: Row, row: Row) -> None:
    """Take over what was learnt of an entry whose files have not changed.

    Sizes, times and paths are the new ones.
    """
    row[9:] = [*before[9:23], row[23]]


def http_rows(folder: str, files: Files) -> list[Row]:
    """Rows of one directory of an HTTP layout; a row still to be read has no kind."""
    layout = folder.partition("/")[0]
    by_name = dict(files)
    first = files[0][0] if files else ""
    if (
        len(files) == 2 and files[1][0] == f"{first}.body" and NAME.fullmatch(first)
    ):  # nearly every directory
        return [_http_row(folder, layout, first, by_name)]
    rows = []
    for name, info in files:
        path = f"{folder}/{name}"
        if name.endswith(".body") and NAME.fullmatch(name[:-5]):
            if name[:-5] not in by_name:
                rows.append(
                    _litter(path, layout, [(path, info)], "orphan", "body-without-metadata")
                )
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
