"""What a tool is, to the application.

Where its caches are and why, what is in them, and how an entry is removed.

The verbs (``status``, ``where``, ``list``, ``remove``, ``clean``, ``verify``, ``config``) are
written once over this; a new tool is a new folder under ``tools/`` and nothing else. Everything a
tool needs of the world comes in as :class:`Surroundings`; nothing here reads the environment. These
functions are synchronous and may be slow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from entrepot.digests import Digest
from entrepot.edits import Patch

Found = TypeVar("Found")


class Kind(StrEnum):
    """What an entry is. The value is the word people type after ``--kind`` and read in ``list``."""

    WHEEL = "wheel"
    SDIST = "sdist"
    METADATA = "metadata"
    """A core metadata file (PEP 658)."""
    PAGE = "page"
    """An index page, repodata or a shard: volatile."""
    BUILT = "built"
    """A wheel built on this machine."""
    ARCHIVE = "archive"
    """A conda archive, ``.conda`` or ``.tar.bz2``."""
    UNPACKED = "unpacked"
    """An unpacked package or wheel that environments link to."""
    LOG = "log"
    TEMP = "temp"
    """What an interrupted download, build or unpacking has left."""
    OTHER = "other"

    @property
    def group(self) -> str:
        """The heading that sizes are summed under.

        Downloads, pages, built, unpacked, logs, temp or other.
        """
        return _GROUPS[self]


_GROUPS = {
    Kind.WHEEL: "downloads",
    Kind.SDIST: "downloads",
    Kind.ARCHIVE: "downloads",
    Kind.METADATA: "pages",
    Kind.PAGE: "pages",
    Kind.BUILT: "built",
    Kind.UNPACKED: "unpacked",
    Kind.LOG: "logs",
    Kind.TEMP: "temp",
    Kind.OTHER: "other",
}


class BlockedBy(Enum):
    """Why an entry may not go now."""

    RECENT = "made, read or unpacked a moment ago"
    IN_USE = "a running tool may need it"
    MAYBE_LINKED = "environments may link to it symbolically"
    BEING_WRITTEN = "it is written to, or was a moment ago"
    LINKED = "an environment breaks without it"
    UNKNOWN = "it cannot be told whether something needs it"
    NOT_OURS = "it is none of the tool's packages, or the tool's cache needs it"
    NOT_PERMITTED = "the user may not: owner, permissions, a mount, a read-only file system"

    @property
    def can_be_forced(self) -> bool:
        """Whether ``--force`` overrides it."""
        return self in _FORCED


_FORCED = frozenset((BlockedBy.RECENT, BlockedBy.IN_USE, BlockedBy.MAYBE_LINKED))


@dataclass(frozen=True, slots=True)
class Block:
    """Why an entry may not go now, and the sentence for people."""

    by: BlockedBy
    text: str


@dataclass(frozen=True, slots=True)
class SharedFile:
    """The part of an entry that others of its place share: removed with the last of them."""

    key: str
    """Names it within the place."""
    disk: int
    """Bytes of disk."""
    entries: int
    """How many entries share it."""


class Look:
    """One look at several caches: what their tools work out for all of them, each thing once."""

    def __init__(self) -> None:
        self._found: dict[type[object], object] = {}

    def once(self, kind: type[Found], make: Callable[[], Found]) -> Found:
        """The one of its kind that this look has worked out; made when it is the first."""
        found = self._found.get(kind)
        if not isinstance(found, kind):
            found = self._found[kind] = make()
        return found


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The world a tool's rules are worked out against; tests make their own."""

    environ: Mapping[str, str]
    home: Path
    cwd: Path
    platform: Literal["linux", "darwin", "win32"] = "linux"
    euid: int = -1
    """Effective user id; -1 where there is none (Windows)."""
    python: Path | None = None
    """The interpreter whose pip is meant; ``None``: the one that runs ``pip`` on PATH, else ours.
    """
    environments: tuple[Path, ...] = ()
    """Environments that the user named: they are looked at beside those that are found."""
    look: Look | None = field(default=None, compare=False, repr=False)
    """The look at several caches that a scan belongs to; ``None``: it is a look of its own."""

    def for_one_look(self) -> Surroundings:
        """The same world, in which what several scans need is worked out once.

        For scans that follow each other at once, each cache at most once; not for what changes a
        cache.
        """
        return self if self.look is not None else replace(self, look=Look())


@dataclass(frozen=True, slots=True)
class Layer:
    """One setting that could decide a path, strongest first in :class:`Place`."""

    kind: Literal["option", "environment", "file", "default"]
    source: str
    """A variable's or flag's name, or ``PATH:LINE``, or ``default``."""
    value: str
    """As written, secrets masked."""
    wins: bool = False
    note: str = ""


ORPHANED = "orphaned"
"""Label of a cache that its tool does not look at any more."""


@dataclass(frozen=True, slots=True)
class Place:
    """One cache directory of a tool and the reason why it is there."""

    tool: str
    path: Path | None
    """Absolute; ``None`` when caching is off."""
    layers: tuple[Layer, ...]
    """Strongest first; exactly one ``wins`` unless several parts add up (conda's list)."""
    label: str = ""
    """Tells places of one tool apart: an interpreter, ``new packages go here``, ``orphaned``."""
    exists: bool = False
    """Whether a cache is there: a directory that is none of the tool's is not one."""
    usable: bool = True
    """Whether the tool itself would use it as it is (ownership, permissions)."""
    why_not: str = ""
    """When not usable: the tool's reason in a sentence, with the cure."""
    notes: tuple[str, ...] = ()
    """Traps worth telling: ``PIP_NO_CACHE_DIR=0 turns the cache off``."""
    sources: tuple[str, ...] = ()
    """Indexes or channels in force, redacted."""
    rank: int = 0
    """Its number in the tool's own list, from 1; 0 where the order of the list is not the tool's.
    """


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a cache: the row of ``list``."""

    tool: str
    place: Path
    """The cache directory it lies in."""
    key: str
    """Names it within its place, for the tool that made it; stable between scans."""
    kind: Kind
    size: int
    """Bytes of content, of all its files."""
    disk: int
    """Bytes of disk of all its files (``st_blocks * 512``), each inode once."""
    freeable: int
    """Bytes of disk that removing it alone would give back: inodes all of whose links lie in it."""
    files: int
    project: str | None = None
    """Normalized name, when it is known."""
    version: str | None = None
    filename: str | None = None
    """The exact file name of the distribution or archive."""
    certainty: Literal["proven", "hash", "content", "unknown"] = "unknown"
    """How the name is known: proven by the key or URL, by a digest on a page, by the content alone,
    or not."""
    used: float | None = None
    """Last use, seconds since the epoch."""
    used_from: Literal["record", "mtime", "atime", ""] = ""
    used_by: tuple[str, ...] = ()
    """Environments that need it; removing it may cost them nothing (copies) or everything (links):
    see ``block``."""
    block: Block | None = None
    """Why it may not go now; ``None``: it may."""
    removable_because: str = ""
    """Why plain ``clean`` takes it (``superseded layout``, ``stale temporary``, ``orphan``,
    ``expired page``); empty: it stays."""
    origin: str = ""
    """URL it came from, redacted; empty when it cannot be proved."""
    digest: Digest | None = None
    state: Literal["fresh", "stale", ""] = ""
    trust: Literal["proven", "unproven", "bad", ""] = ""
    """``proven``: its body was checked against a digest known from elsewhere."""
    tags: str = ""
    """Wheel tags, or conda's subdir and build."""
    locations: tuple[str, ...] = ()
    """Its files or top directory, absolute, in the order in which they must be removed. Text:
    making 200,000 ``Path`` takes a second."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Facts of this tool alone, shown by ``list --json``."""
    stamp: str = ""
    """What changes when it is replaced or written to; its tool compares it before it removes."""
    problem: str = ""
    """What its tool saw to be wrong with it: a word of :class:`Finding`."""
    shared: SharedFile | None = None
    """What it shares with other entries of its place."""
    hard_linked: bool = False
    """Whether a file of it has another name outside this cache: removing it frees nothing of it."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its ``locations``."""
        return tuple(map(Path, self.locations))

    @property
    def blocked(self) -> str:
        """The sentence of ``block``; empty when it may go."""
        return self.block.text if self.block else ""

    def is_permitted(self) -> bool:
        """Whether the system lets this user remove it, as far as it was looked at."""
        return self.block is None or self.block.by is not BlockedBy.NOT_PERMITTED

    def is_removable(self, *, force: bool = False) -> bool:
        """Whether it may go now, or by ``force``."""
        return self.block is None or (force and self.block.by.can_be_forced)


def share_key(entry: Entry) -> tuple[str, str, str] | None:
    """What names the file that this entry shares with others of its place.

    ``None`` when it shares nothing.
    """
    return (entry.tool, str(entry.place), entry.shared.key) if entry.shared else None


def shared_disk(entry: Entry) -> int:
    """Bytes of disk of the part that is shared."""
    return entry.shared.disk if entry.shared else 0


@dataclass(slots=True)
class Sum:
    """Sizes of some entries, files counted once however many entries share them.

    Fed by :meth:`add`.
    """

    entries: int = 0
    files: int = 0
    size: int = 0
    """Bytes of content, as the tools count them."""
    used: float | None = None
    """The latest use."""
    _own_disk: int = 0
    _own_freeable: int = 0
    _shared: dict[tuple[str, str, str] | None, tuple[int, int]] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Count one more entry."""
        shares = share_key(entry)
        again = shares in self._shared
        self.entries += 1
        self.files += entry.files - (1 if again else 0)
        self.size += 0 if again else entry.size
        if entry.used is not None:
            self.used = max(self.used or 0.0, entry.used)
        if shares is None:
            self._own_disk += entry.disk
            self._own_freeable += 0 if entry.block else entry.freeable
            return
        body = shared_disk(entry)
        self._own_disk += entry.disk - body
        self._own_freeable += 0 if entry.block else entry.disk - body
        seen, blocked = self._shared.get(shares, (body, 0))
        self._shared[shares] = (seen, blocked + bool(entry.block or entry.hard_linked))

    def add_bare(
        self, entries: int, *, files: int, size: int, disk: int, used: float | None, freeable: int
    ) -> None:
        """Count more entries, which share nothing with others, by their numbers alone."""
        self.entries += entries
        self.files += files
        self.size += size
        self._own_disk += disk
        self._own_freeable += freeable
        if used is not None:
            self.used = max(self.used or 0.0, used)

    def merge(self, other: Sum) -> None:
        """Count all that another sum has; the two must share no files."""
        self.add_bare(
            other.entries,
            files=other.files,
            size=other.size,
            disk=other.disk,
            used=other.used,
            freeable=other.freeable,
        )

    @property
    def disk(self) -> int:
        """Bytes of disk, shared files once."""
        return self._own_disk + sum(body for body, _ in self._shared.values())

    @property
    def freeable(self) -> int:
        """Bytes of disk that removing all of them would give back."""
        return self._own_freeable + sum(
            body for body, blocked in self._shared.values() if not blocked
        )


@dataclass(frozen=True, slots=True)
class CacheTotal:
    """One cache directory and what lies in it."""

    place: Place
    total: Sum
    groups: Mapping[str, Sum]
    """By heading, those that occur."""
    removable: Mapping[str, Sum]
    """What plain ``clean`` would take, by reason."""
    linked: int = 0
    """Bytes of disk, in the total, of files that are another cache's as well."""
    overhead: int = 0
    """Bytes of disk, in the total, of what is no entry and no removal gives back: a catalogue,
    directories."""


def not_permitted(entry: Entry, why: str) -> tuple[Entry, str]:
    """An entry that the system does not let go, with the reason, for :attr:`Removed.kept`."""
    return replace(entry, block=Block(BlockedBy.NOT_PERMITTED, why)), why


@dataclass(frozen=True, slots=True)
class Removed:
    """What removing entries really did."""

    entries: tuple[Entry, ...] = ()
    freed: int = 0
    """Bytes of disk given back, measured by blocks and link counts while deleting."""
    files: int = 0
    kept: tuple[tuple[Entry, str], ...] = ()
    """Entries that could not or may not go, with the reason; those that the system does not let go
    are blocked by ``NOT_PERMITTED``."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that ``verify`` saw."""

    tool: str
    entry: Entry | None
    problem: str
    """A kebab-case word: ``digest-mismatch``, ``truncated``, ``orphan-body`` ..."""
    text: str
    """The sentence for people."""
    path: Path | None = None
    repaired: str = ""
    """What ``--repair`` did about it; empty: nothing was done."""


class Progress(Protocol):
    """Called by slow work; cheap to call often."""

    def __call__(self, done: int, total: int | None, what: str) -> None:
        """``done`` of ``total`` (``None``: not known yet) of ``what`` (``entries``, ``bytes``)."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a tool's configuration, made or planned."""

    path: Path | None
    """The file; ``None`` when it is a variable that the user has to set."""
    key: str
    """Empty: the file was edited as a whole."""
    before: str | None
    after: str | None
    native: str
    """The tool's own command that does the same; empty: it has none."""
    verified: str = ""
    """What the tool said when it was asked afterwards; empty: it was not asked."""
    differs: bool = False
    """Whether the tool, asked afterwards, sees something else: another layer is stronger."""
    patch: Patch | None = None
    """The lines of the file that it replaced, for ``--undo``; ``None``: it replaced none."""


class Settings(Protocol):
    """A tool's own configuration, edited without losing a comment.

    Raises:
        ConfigError: of all that changes: a file is broken or may not be written, the tool would
            stop at the value, or no file sets the key. Nothing was changed then.
        UsageError: the tool is entrepot, which knows all its keys, and this is none.
    """

    def items(self) -> Iterable[tuple[str, str, str]]:
        """``(key, value, PATH:LINE or variable)``, weakest first; secrets masked."""
        ...

    def get(self, key: str) -> str | None:
        """The value in force."""
        ...

    def file(self) -> Path:
        """The file that is written unless a stronger one has the key; it need not be there."""
        ...

    def set(self, key: str, value: str) -> Change:
        """Set a key where it takes effect: in the strongest file that has it, else in ``file``."""
        ...

    def unset(self, key: str) -> Change:
        """Remove a key from the strongest file that sets it."""
        ...

    def export(self, key: str, value: str | None) -> tuple[str, Change]:
        """The variable that stands for a key, and the change that setting it would be.

        ``None``: unsetting it. Nothing is changed.
        """
        ...

    def ask(self, change: Change) -> Change:
        """The change with what the tool itself says of it; the same object: it was not asked."""
        return change

    def problems(self) -> Sequence[tuple[Path, str]]:
        """Files that the tool cannot read, each with a sentence that names the line."""
        return ()


class Tool(Protocol):
    """A tool with caches of its own. Tools inherit what they have no better answer to."""

    name: str

    def places(self, around: Surroundings) -> Sequence[Place]:
        """Every cache of the tool, the one in use first."""
        ...

    def scan(
        self, place: Place, around: Surroundings, *, progress: Progress | None = None
    ) -> Iterator[Entry]:
        """What lies in one place.

        An unknown layout yields entries of kind ``other`` with a ``block``: sizes only.
        """
        ...

    def scan_named(
        self,
        place: Place,
        around: Surroundings,
        projects: Collection[str],
        *,
        progress: Progress | None = None,
    ) -> Iterator[Entry]:
        """As :meth:`scan`; only what belongs to these projects (normalized names) is asked for.

        There may be more.
        """
        del projects
        return self.scan(place, around, progress=progress)

    def scan_anew(
        self, place: Place, around: Surroundings, *, progress: Progress | None = None
    ) -> Iterator[Entry]:
        """As :meth:`scan`, with last uses as they are now: they decide over a removal."""
        return self.scan(place, around, progress=progress)

    def summary(self, place: Place, around: Surroundings) -> CacheTotal | None:
        """What the entries of one place come to, where that is known without a scan."""
        del place, around
        return None

    def environments(self, around: Surroundings) -> Sequence[tuple[str, Path]]:
        """The environments that are known, each with the name that people give it.

        Never all that there are.
        """
        del around
        return ()

    def emptied(self, entries: Sequence[Entry], *, progress: Progress | None = None) -> int:
        """Disk bytes of the directories that removing these entries empties and removes."""
        del entries, progress
        return 0

    def remove(
        self,
        entries: Sequence[Entry],
        around: Surroundings,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Removed:
        """Remove entries the way the tool survives.

        What changed since the scan, or is in use, is kept with its reason.
        """
        ...

    def verify(
        self,
        place: Place,
        around: Surroundings,
        *,
        repair: bool = False,
        full: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Finding]:
        """Check what lies in one place; with ``repair`` remove or replace what is damaged."""
        ...

    def settings(self, around: Surroundings) -> Settings | None:
        """The tool's configuration; ``None`` when entrepot cannot edit it."""
        ...

    def close(self) -> None:
        """Close what was opened."""
        return
