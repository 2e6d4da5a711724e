"""Removing entries so that uv and every environment survive it, under the lock that uv keeps.

In this order: pointer files are renamed into a trash directory, then what they lead to (uv without
a pointer fetches again; a pointer without its archive it takes for absent, too), then all of that
is deleted. What a hard-linked environment uses keeps its inode; an archive that a known environment
links to symbolically stays, and environments are asked again at this moment. A removal that is cut
short leaves at worst an orphaned archive or a ``.entrepot-trash-`` directory, which the next
``clean`` (and ``uv cache prune``) takes.

Since 0.8.19 every uv holds a shared lock (``flock``; ``LockFileEx`` on Windows) on ``.lock`` in the
cache's root as long as it runs, ``uv run`` for as long as its command does, and ``uv cache clean``
and ``prune`` take it exclusively: seen in ``/proc/locks`` with 0.8.24 and 0.13.8. A uv that comes
while we hold it waits (five minutes, ``UV_LOCK_TIMEOUT``). Older ones take none: a process called
``uv`` that has no cache's ``.lock`` open is one of those and keeps everything from being removed;
that is seen on Linux only, and of one's own processes. When one has come while things were moved,
they are put back.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from entrepot.cache_root import Refused, Root
from entrepot.fs import open_or_make
from entrepot.ports.tool import Entry, Progress, Surroundings
from entrepot.tools._shared.processes import environment_of
from entrepot.tools._shared.removal import CHANGED, GONE, Removal
from entrepot.tools._shared.safe_read import read_toml
from entrepot.tools.uv.buckets import MARKS, TRASH
from entrepot.tools.uv.configuration import user_file
from entrepot.tools.uv.environments import References
from entrepot.tools.uv.places import default
from entrepot.tools.uv.rows import UvEntry, stamp_of

LOCK = ".lock"
STEP_S = 0.05
"""Seconds between two attempts to get the lock."""

Moved = list[tuple[str, str]]
"""Where files were, and where in the trash they are, in the order of moving."""


class UvRemoval(Removal[UvEntry]):
    """One removal.

    Args:
        references: gives what known environments need of a cache at this moment.
        force: do not wait for running uvs, and take what is kept only because uv is set to link
            symbolically.
        progress: told after each batch.
        wait_s: how long to wait for uv's lock.
    """

    listed_as = UvEntry
    batch = 32

    def __init__(
        self,
        references: Callable[[Path], References],
        *,
        force: bool = False,
        progress: Progress | None = None,
        wait_s: float = 5.0,
    ) -> None:
        super().__init__(force=force, progress=progress)
        self._references = references
        self._wait_s = wait_s

    @contextmanager
    def held(self, root: Root, folder: Path) -> Iterator[str]:
        """Uv's lock; afterwards the trash goes, which is empty unless something stayed in it."""
        self._needed = self._references(folder)
        self._trash = f"{root.path}/{TRASH}{secrets.token_hex(8)}"
        self._left: dict[str, int] = {}  # entries that share an archive and have not gone yet
        with ExitStack() as stack:
            try:
                stack.enter_context(exclusive(folder, wait_s=0 if self.force else self._wait_s))
            except Busy:
                if not self.force:
                    raise
            try:
                yield ""
            finally:
                with suppress(OSError), root.folder(root.path) as opened:
                    opened.rmdir(os.path.basename(self._trash), ours=True)

    def take_all(self, entries: Sequence[UvEntry], root: Root, folder: Path) -> None:
        """Move out of the way, check that no older uv has started meanwhile, then delete."""
        if why := self._older_uv(folder):
            self.keep(entries, why)
            return
        staged: list[tuple[UvEntry, Moved]] = []
        for entry in entries:
            if why := self._may_not(entry):
                self.keep([entry], why)
                continue
            moved: Moved = []
            try:
                self._stage(entry, root, moved)
            except OSError as exc:
                self._put_back(entry, root, moved)
                self.fail([entry], exc, _failed_in(exc, folder))
            else:
                staged.append((entry, moved))
        why = self._older_uv(folder) if staged else ""
        for entry, moved in staged:
            if why:
                self._put_back(entry, root, moved)
                self.keep([entry], why)
                continue
            try:
                for _, away in moved:
                    root.remove(away)
            except OSError as exc:
                left = f"; what is left of it lies in {self._trash}"
                self.fail([entry], exc, _failed_in(exc, folder), left)
            else:
                _tidy(root, entry, [path for path, _ in moved])
                self.went(entry)

    def _older_uv(self, folder: Path) -> str:
        return "" if self.force else lockless_uv(folder)

    def _may_not(self, entry: UvEntry) -> str:
        if why := self.blocked(entry):
            return why
        for archive in entry.archives:
            if users := self._needed.archives.get(archive):
                return f"{users[0]} links to it symbolically"
        if entry.archives and not entry.is_environment and (why := self._needed.in_use_perhaps):
            return why
        if not any(map(os.path.lexists, entry.locations)):
            return GONE
        return CHANGED if stamp_of(entry.paths) != entry.stamp else ""

    def _stage(self, entry: UvEntry, root: Root, moved: Moved) -> None:
        """Rename an entry's files into the trash, pointers first, and note them in ``moved``.

        An archive that other entries lead to as well is left until the last of them goes.

        Raises:
            OSError: something cannot be moved.
        """
        paths = list(entry.locations)
        if shared := entry.shared:
            left = self._left[shared.key] = self._left.get(shared.key, shared.entries) - 1
            if left > 0:
                paths = [path for path in paths if not path.endswith(f"/{shared.key}")]
        root.make_folder(self._trash, 0o700)
        for path in paths:
            away = f"{self._trash}/{secrets.token_hex(8)}"
            with suppress(FileNotFoundError):
                root.move(path, away)  # from now on no uv finds half of it
                moved.append((path, away))

    def _put_back(self, entry: UvEntry, root: Root, moved: Moved) -> None:
        """Undo renames, the last first; where something new has come meanwhile it stays."""
        if shared := entry.shared:
            self._left[shared.key] += 1
        for path, away in reversed(moved):
            with suppress(OSError):
                if not os.path.lexists(path):
                    root.move(away, path)


def _failed_in(exc: OSError, cache: Path) -> Path:
    """The directory of what could not be moved or removed; the trash is made in the cache."""
    path = Path(exc.filename or "")
    return path.parent if path.is_absolute() else cache


def _tidy(root: Root, entry: Entry, paths: Iterable[str]) -> None:
    """Take the directories in a bucket that became empty.

    Of a superseded bucket also uv's marks and the bucket itself.
    """
    for path in paths:
        name = path[len(root.path) + 1 :].partition("/")[0]
        bucket, at = f"{root.path}/{name}", os.path.dirname(path)
        with suppress(OSError):  # something else is in it
            while len(at) > len(bucket):
                root.rmdir(at)
                at = os.path.dirname(at)
        if entry.removable_because == "superseded layout":
            with suppress(OSError), root.folder(bucket) as folder:
                names = folder.names()
                if set(names) <= MARKS:
                    for mark in names:
                        folder.unlink(mark)
                    folder.rmdir_upwards(keep=0)


# -- uv's lock -------------------------------------------------------------------------------------


class Busy(Refused):
    """Another process works with the cache; ``strerror`` says which."""


@contextmanager
def exclusive(root: Path, *, wait_s: float = 5.0) -> Iterator[None]:
    """Hold uv's lock on a cache.

    Args:
        root: the cache's directory.
        wait_s: how long to wait for a uv to end.

    Raises:
        Busy: another process holds it.
        OSError: the lock file cannot be opened. A file system without locks is no error: uv goes on
            without, too.
    """
    flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    number = open_or_make(root / LOCK, flags, 0o666)  # uv makes no link
    end = time.monotonic() + wait_s
    try:
        while not _is_locked_now(number):
            if time.monotonic() >= end:
                raise Busy(errno.EAGAIN, _who(number, root), str(root))
            time.sleep(STEP_S)
        yield
    finally:
        os.close(number)


def _is_locked_now(number: int) -> bool:
    """Lock an open file, or say that another process has it locked."""
    try:
        try:
            import fcntl  # noqa: PLC0415  # there is none on Windows
        except ImportError:
            import msvcrt  # noqa: PLC0415

            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        if exc.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
            raise
    return True


def _who(number: int, root: Path) -> str:
    """The sentence that names the process which holds the lock, where the system tells."""
    inode = os.fstat(number).st_ino
    with suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines():
            words = line.split()
            if words[1:2] == ["FLOCK"] and words[4].isdigit() and words[5].endswith(f":{inode}"):
                return f"the cache is in use by {_process(words[4])}"
    return f"the cache {root} is in use by another process"


def _process(pid: str) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").split("\0")
    except OSError:
        words = ["uv"]
    return f"process {pid} ({' '.join([os.path.basename(words[0]), *words[1:2]]).strip()})"


def lockless_uv(root: Path) -> str:
    """The sentence that names a running uv which may use this cache and has no lock open.

    Empty when none is seen.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text("utf-8", "replace").strip() not in ("uv", "uvx"):
                continue
            numbers = list((folder / "fd").iterdir())
        except OSError:
            continue
        opened: list[str] = []
        for number in numbers:
            with suppress(OSError):  # closed meanwhile
                opened.append(os.readlink(number))
        if (
            opened
            and not any(path.endswith(f"/{LOCK}") and _is_root(path) for path in opened)
            and _may_use(folder, root)
        ):
            return f"the cache may be in use by {_process(folder.name)}, a uv that takes no lock"
    return ""


def _is_root(lock: str) -> bool:
    """Whether a lock lies in a cache's root.

    Uv locks environments and source distributions by the same name.
    """
    folder = lock.removesuffix(LOCK)
    return os.path.lexists(f"{folder}CACHEDIR.TAG") and not os.path.lexists(f"{folder}pyvenv.cfg")


def _may_use(process: Path, root: Path) -> bool:
    """Whether a uv may use this cache.

    Not when its variables and its user's file name another one. A project's own file is not looked
    for above its directory.
    """
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        environ, cwd = environment_of(int(process.name), process.parent)
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return False
    except OSError:
        return True
    if any(word.startswith(b"--cache-dir") for word in words):
        return True
    real = os.path.realpath(root)
    if named := environ.get("UV_CACHE_DIR"):
        return os.path.realpath(cwd / named) == real
    around = Surroundings(environ, Path(environ.get("HOME", "/")), cwd)
    told = [read_toml(file).get("cache-dir") for file in (user_file(around), cwd / "uv.toml")]
    caches: list[Path] = [
        Path(default(around)[0]),
        *(cwd / name for name in told if isinstance(name, str)),
    ]
    return real in map(os.path.realpath, caches)
