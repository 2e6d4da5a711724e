"""The loop that removes entries of a tool's cache, over the removal by descriptor.

A tool derives a class from :class:`Removal` for its own class of entries, writes
:meth:`Removal.take`, which removes one entry or says why it stays, and overrides what else differs
for it: what is locked together (:meth:`~Removal.folder_of`, :meth:`~Removal.held`), where the
root's descriptor is opened (:meth:`~Removal.root_of`), or several entries at a time
(:meth:`~Removal.take_all`, for a trash with a second look). ``TheClass(force=...,
progress=...).run(entries)`` is all of it.

An entry that is blocked never reaches ``take``. An ``OSError`` there keeps the entry as not
permitted; to keep one so for a reason of the tool's own, raise :class:`.cache_root.Refused`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from entrepot.cache_root import Freed, Root
from entrepot.ports.tool import Entry, Progress, Removed, not_permitted
from entrepot.tools._shared.permission_errors import reason

GONE = "it is gone already"
CHANGED = "it changed since it was listed"
E = TypeVar("E", bound=Entry)


class Removal(Generic[E]):
    """One removal of entries.

    Args:
        force: take also what is blocked for a reason that force overrides.
        progress: told after each ten entries, or each batch.
    """

    listed_as: type[E]
    """The class of entries that the tool lists."""
    batch = 1
    """How many entries :meth:`take_all` gets at most."""

    def __init__(self, *, force: bool = False, progress: Progress | None = None) -> None:
        self.force = force
        self.freed = Freed()
        self._progress = progress
        self._gone: list[Entry] = []
        self._kept: list[tuple[Entry, str]] = []

    def run(self, entries: Sequence[Entry]) -> Removed:
        """Remove entries; what may not go is kept with its reason.

        Raises:
            TypeError: an entry that the tool has not listed.
        """
        folders: dict[tuple[Path, Path], list[E]] = {}
        for entry in entries:
            if not isinstance(entry, self.listed_as):
                raise TypeError(f"{entry.key} is no {self.listed_as.__name__}")
            folders.setdefault((entry.place, self.folder_of(entry)), []).append(entry)
        done = 0
        for (place, folder), mine in folders.items():
            with ExitStack() as opened:
                try:
                    root = opened.enter_context(Root(self.root_of(place, folder), self.freed))
                    busy = opened.enter_context(self.held(root, folder))
                except OSError as exc:
                    self.fail(mine, exc, folder)
                    continue
                for first in range(0, len(mine), self.batch):
                    part = mine[first : first + self.batch]
                    if busy:
                        self.keep(part, busy)
                    else:
                        self.take_all(part, root, folder)
                    done += len(part)
                    if self._progress and (self.batch > 1 or not done % 10):
                        self._progress(done, len(entries), "entries")
        return Removed(tuple(self._gone), self.freed.bytes, self.freed.files, tuple(self._kept))

    # -- what a tool says ------------------------------------------------------------------------

    def folder_of(self, entry: E) -> Path:
        """What entries lie in that are locked and tidied together: the cache."""
        return entry.place

    def root_of(self, place: Path, folder: Path) -> Path:
        """The directory below which everything is reached by descriptor: the cache."""
        del folder
        return place

    @contextmanager
    def held(self, root: Root, folder: Path) -> Iterator[str]:
        """Locks around the entries of one folder, and what is tidied after them.

        Yields why none of them may go now; empty when they may.

        Raises:
            OSError: none of them may go, as not permitted.
        """
        del root, folder
        yield ""

    def take(self, entry: E, root: Root, folder: Path) -> str:
        """Remove one entry; why it stays, if it does.

        Raises:
            OSError: it could not be removed.
        """
        raise NotImplementedError

    def take_all(self, entries: Sequence[E], root: Root, folder: Path) -> None:
        """Remove some entries, each of which is then told to :meth:`went`, ``keep`` or ``fail``."""
        for entry in entries:
            try:
                why = self.blocked(entry) or self.take(entry, root, folder)
            except OSError as exc:
                self.fail([entry], exc)
                continue
            if why:
                self.keep([entry], why)
            else:
                self.went(entry)

    # -- what has become of entries --------------------------------------------------------------

    def blocked(self, entry: Entry) -> str:
        """Why an entry may not go by what its listing says; empty when it may."""
        return "" if entry.is_removable(force=self.force) else entry.blocked

    def went(self, entry: Entry) -> None:
        """An entry was removed."""
        self._gone.append(entry)

    def keep(self, entries: Iterable[Entry], why: str) -> None:
        """Entries stay."""
        self._kept += [(entry, why) for entry in entries]

    def fail(
        self, entries: Iterable[E], exc: OSError, folder: Path | None = None, more: str = ""
    ) -> None:
        """Entries stay because the system, or a rule of ours, does not let them go.

        Args:
            entries: they.
            exc: why.
            folder: whose owner and mode are told; ``None``: the one that the entry lies in.
            more: is added to the reason.
        """
        for entry in entries:
            why = reason(exc, folder or entry.paths[0].parent) + more
            self._kept.append(not_permitted(entry, why))
