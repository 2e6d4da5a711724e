"""Where things lie in a store's directory: the only place that knows the names of its files.

::

    CACHEDIR.TAG        tells backups to leave it out (bford.info/cachedir)
    entrepot-store      the marker, with the format's version
    boot                the boot in which it was last written, and whether it was closed cleanly
    bodies/ heads/      objects, by key
    flights/            partial downloads (NAME.part, the state in NAME.note, the lock NAME.lock)
                        and temporary files
    locks/              empty files that locks are taken on; never removed
    catalogue*.sqlite   derived

A key is turned into a path by :func:`key_path` and in no other way. What has another name than one
of these is somebody else's and stays; a directory without the marker is no store.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from entrepot.errors import FormatError, StoreError, StoreFull, StoreUnavailable
from entrepot.fs import make_folder, make_folders, open_or_make

FORMAT = 1
"""Version of the directory's layout; another one is left untouched."""

MARKER = "entrepot-store"
TAG = "CACHEDIR.TAG"
TAG_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This directory is a package cache made by entrepot; all of it can be fetched again.\n"
    "# For information about cache directory tags see https://bford.info/cachedir/\n"
)
BOOT = "boot"
PARTIALS = "flights"
LOCKS = "locks"
PART, STATE, LOCK = ".part", ".note", ".lock"
_MARKER_TEXT = f"entrepot store, format {FORMAT}\n"
_MARKER_FORM = re.compile(r"entrepot store, format (\d{1,9})\n")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,200}")
_NOT_KEYS = frozenset({MARKER, TAG, BOOT, PARTIALS, LOCKS})
_CATALOGUE = "catalogue"
_FOLDERS = ("bodies", "heads", PARTIALS, LOCKS)
_NAME = r"[0-9a-f]{40}(?:\.[\w-]+)?"
_PARTIAL = re.compile(rf"({_NAME})\.(part|note|lock)")
_TEMPORARY = re.compile(rf"put-[0-9a-f]{{16}}\.tmp(?:\.link)?|{_NAME}\.note\.[0-9a-f]{{12}}")
_FRESH_VOLUME = re.compile(r"lost\+found|\.Trash-.+|\.Trashes|\.snapshots?")
_HALF_MADE = re.compile(rf"(?:{MARKER}|{re.escape(TAG)})\.[0-9a-f]{{12}}")

ELSEWHERE = "set ENTREPOT_STORE, --store or the setting `store` to a new or an empty directory"
READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""Without waiting: where a file belongs somebody may have put a pipe."""
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


# -- keys ------------------------------------------------------------------------------------------


def checked_segment(name: str) -> str:
    """``name`` itself, when it is one segment of a key.

    Raises:
        FormatError: other characters than ``[A-Za-z0-9._-]``, ``.`` or ``..``, empty, or longer
            than 200.
    """
    if name in {".", ".."} or not _SEGMENT.fullmatch(name):
        raise FormatError(f"{name[:80]!r} is no segment of a store's key", text=name)
    return name


def checked_key(key: str) -> str:
    """``key`` itself, when it is one: segments joined by ``/``.

    Raises:
        FormatError: a segment is none, or the whole is longer than 1,000 characters.
    """
    if len(key) > 1000:
        raise FormatError("a store's key has at most 1,000 characters", text=key[:80])
    for segment in key.split("/"):
        checked_segment(segment)
    return key


def key_path(root: str, key: str) -> str:
    """The file of a key: the only place where a key becomes a path.

    Raises:
        FormatError: not a key, or one that would reach the store's own files.
    """
    if is_own(checked_key(key).partition("/")[0]):
        raise FormatError(f"{key!r} is a name the store keeps for itself", text=key)
    return os.path.join(root, key)  # a str: this runs for every request


def may_hold(folder: str, name: str) -> bool:
    """Whether a name in a folder may be an object's, or that of a folder of objects."""
    if (not folder and is_own(name)) or len(folder) + len(name) >= 1000:
        return False
    return _SEGMENT.fullmatch(name) is not None


def is_own(name: str) -> bool:
    """Whether a name at the top is the store's own and no key begins with it."""
    return name in _NOT_KEYS or name.startswith(_CATALOGUE)


# -- other files -----------------------------------------------------------------------------------


class PartialName(NamedTuple):
    """A file of ours in ``flights/``."""

    kind: str
    """``part``, ``note`` or ``lock`` of a partial download, or ``temporary``."""
    stem: str
    """The name of the download; of a temporary file its own name."""


def partial_name(name: str) -> PartialName | None:
    """What a file in ``flights/`` is by its name; ``None``: not ours."""
    if found := _PARTIAL.fullmatch(name):
        return PartialName(found[2], found[1])
    return PartialName("temporary", name) if _TEMPORARY.fullmatch(name) else None


def catalogue_path(root: Path) -> Path:
    """The database of the store at ``root``: one a host where the disk is a network's.

    SQLite's write-ahead log works between processes of one host only.
    """
    host = f"-{host_name()}" if is_network(str(root)) else ""
    return root / f"{_CATALOGUE}{host}.sqlite"


# -- what a directory is ---------------------------------------------------------------------------


def is_store(root: str | os.PathLike[str]) -> bool:
    """Whether the marker lies in a directory. A link does not count. Never raises."""
    try:
        return stat.S_ISREG(os.lstat(f"{os.fspath(root)}/{MARKER}").st_mode)
    except (OSError, ValueError):
        return False


def foreign_name(root: str | os.PathLike[str]) -> str | None:
    """A name that keeps a directory from becoming a store; ``None`` when it counts as empty.

    What a fresh volume has of itself does not count, nor does what is left of a store that was
    being made.

    Raises:
        OSError: no directory, or it may not be read.
    """
    with os.scandir(root) as found:
        return min((entry.name for entry in found if not _counts_for_nothing(entry)), default=None)


def _counts_for_nothing(entry: os.DirEntry[str]) -> bool:
    if _FRESH_VOLUME.fullmatch(entry.name):
        return entry.is_dir(follow_symlinks=False)
    if not entry.is_file(follow_symlinks=False):
        return False
    if entry.name != TAG:
        return _HALF_MADE.fullmatch(entry.name) is not None
    try:  # another program's cache has a tag of its own
        return (
            entry.stat().st_size == len(TAG_TEXT) and Path(entry).read_text("latin-1") == TAG_TEXT
        )
    except OSError:
        return False


def looks_like_a_store(root: Path) -> bool:
    """Whether a directory is a store or was one: opening it tells what is wrong."""
    return is_store(root) or os.path.isdir(root / "heads")


def why_no_store(path: Path) -> str:
    """Why what is there cannot be made a store; empty when it can."""
    try:
        strange = foreign_name(path)
    except NotADirectoryError:
        return f"{path} is no directory"
    except OSError as exc:
        return f"{path} cannot be read: {exc.strerror}"
    return f"{path} holds other things than a store" if strange is not None else ""


def translated(exc: OSError, doing: str) -> StoreError:
    """The store's error for the system's.

    No space, inodes or quota is :class:`StoreFull`, all else ``StoreUnavailable``.
    """
    if exc.errno in NO_ROOM:
        return StoreFull(
            f"no room in the store while {doing}: {exc.strerror}",
            hint="free some space, or lower the cap of the store",
        )
    return StoreUnavailable(f"the store failed while {doing}: {exc.strerror or exc}")


@dataclass(frozen=True, slots=True)
class Modes:
    """Permission bits of what the store makes, following those of its root.

    Only ``share`` widens a store.
    """

    root: int

    @property
    def shared(self) -> bool:
        """Whether group or others may write."""
        return bool(self.root & 0o022)

    @property
    def file(self) -> int:
        """For files: the root's read and write bits, always readable and writable for the owner."""
        return (self.root & 0o066) | 0o600

    @property
    def folder(self) -> int:
        """For directories: the root's bits, with its set-group-id."""
        return (self.root & 0o2077) | 0o700

    @property
    def is_wide(self) -> bool:
        """Whether a umask could take away bits that are meant."""
        return bool(self.root & 0o077)


# -- opening ---------------------------------------------------------------------------------------


def open_root(root: str, *, create: bool) -> int:
    """A descriptor of ``root``, checked to be a store of this format; made when it may be.

    Nothing is written into one that exists.

    Raises:
        StoreUnavailable: no store there, one of another format, somebody else's directory, or no
            permission.
    """
    try:
        fd = _open_marked(root)
        if fd is None:
            strange = None
            with suppress(FileNotFoundError):
                strange = foreign_name(root)
            # The marker is made before all else: if it is there now, another process made it.
            if strange is not None and not is_store(root):
                raise StoreUnavailable(
                    f"{root} is not a store of entrepot and not empty ({strange!r} lies in it)",
                    hint=ELSEWHERE,
                )
            if not create:
                raise StoreUnavailable(
                    f"there is no store at {root}", hint="`entrepot run` makes one at its first use"
                )
            _make_root(root)
            fd = _open_marked(root)
            if fd is None:
                raise FileNotFoundError(errno.ENOENT, "it was removed at once", root)
    except OSError as exc:
        raise StoreUnavailable(
            f"cannot open a store at {root}: {exc.strerror}",
            hint="set ENTREPOT_STORE to another place",
        ) from exc
    else:
        return fd


def _open_marked(root: str) -> int | None:
    """A descriptor of a directory with a marker of this format; ``None``: there is no marker."""
    try:
        fd = os.open(root, _FOLDER_FLAGS)
    except FileNotFoundError:
        return None
    try:
        text = _read_small(MARKER, dir_fd=fd)
        if text is None:
            os.close(fd)
            return None
        found = _MARKER_FORM.fullmatch(text)
        if not found or int(found[1]) != FORMAT:
            what = f"has format {found[1]}" if found else "does not say its format"
            raise StoreUnavailable(  # noqa: TRY301
                f"the store at {root} {what}; this version of entrepot reads format {FORMAT} "
                "and leaves it alone",
                hint="use the entrepot that made it, or set ENTREPOT_STORE to another place",
            )
        # A link at the top would lead all that is stored, swept and evicted to another place.
        for name in _FOLDERS:
            with suppress(FileNotFoundError):
                if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    raise StoreUnavailable(  # noqa: TRY301
                        f"the store at {root} cannot be used: {name!r} in it is a link or a file",
                        hint=f"remove {os.path.join(root, name)}, or {ELSEWHERE}",
                    )
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_beneath(root: int, folder: str) -> int:
    """A descriptor of a directory below another one, for the caller to close; no link is followed.

    Raises:
        OSError: as the system says; ``NotADirectoryError`` for a link.
    """
    fd = root
    for segment in folder.split("/") if folder else (".",):
        try:
            below = os.open(segment, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=fd)
        except OSError as exc:
            if exc.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise
            text = f"{segment!r} in {folder} is a link or a file, not a directory"
            raise NotADirectoryError(errno.ENOTDIR, text) from exc
        finally:
            if fd != root:
                os.close(fd)
        fd = below
    return fd


def _make_root(root: str) -> None:
    """Make the directory, the tag and, last, the marker; safe against others who do the same."""
    make_folders(os.path.dirname(root) or ".")
    with suppress(FileExistsError):
        make_folder(root, 0o700)
    mode = Modes(stat.S_IMODE(os.stat(root).st_mode)).file
    for name, text in ((TAG, TAG_TEXT), (MARKER, _MARKER_TEXT)):
        # synced: an empty marker after a power cut would lock everybody out
        write_small(os.path.join(root, name), text.encode(), mode, sync=True)


def write_small(path: str, data: bytes, mode: int, *, sync: bool = False) -> None:
    """Replace one of the store's own small files, atomically.

    With ``sync`` no power cut takes it back afterwards.
    """
    temp = f"{path}.{os.urandom(6).hex()}"
    fd = open_or_make(temp, os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            if mode & 0o077:
                os.fchmod(fd, mode)
            os.write(fd, data)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temp, path)
    except BaseException:
        os.unlink(temp)
        raise
    if sync:
        with suppress(OSError):  # not every file system syncs directories
            fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _read_small(path: str, *, dir_fd: int | None = None) -> str | None:
    try:
        fd = os.open(path, READ, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
    try:
        return os.read(fd, 4096).decode("utf-8", "replace")
    finally:
        os.close(fd)


# -- boots -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BootState:
    """What the ``boot`` file says, and what follows for partial downloads.

    Nothing has synced them.
    """

    boot: str
    """The boot in which the store was last written; ``?`` where the system does not name its boots.
    """
    clean: bool
    """Whether all writers have closed it since: what they left behind was synced then."""
    suspect_before: float = 0.0
    """Partial downloads modified before this moment (seconds since the epoch) are not resumed; 0:
    all are."""

    def to_bytes(self) -> bytes:
        """One line of three words."""
        word = "clean" if self.clean else "open"
        return f"{self.boot} {word} {self.suspect_before:.3f}\n".encode()


def boot_id() -> str:
    """The name of this boot of the machine; ``?`` where there is none (only Linux has them)."""
    try:
        return (_read_small("/proc/sys/kernel/random/boot_id") or "?").strip() or "?"
    except OSError:
        return "?"


def read_boot(root: str, *, boot: str, now: float) -> BootState:
    """How the store was left, seen from ``boot``.

    A state for this boot, in which new suspicion has been noted.

    A marker of the same boot is believed: the page cache outlives any process. A clean one of an
    earlier boot too. An open one of an earlier boot means that the machine went down while the
    store was in use. Without names of boots every open marker counts so: slow, never wrong.
    """
    path = os.path.join(root, BOOT)
    try:
        text = _read_small(path)
        written = os.stat(path).st_mtime if text is not None else 0.0
    except OSError:
        text, written = "", now
    words = (text or "").split()
    with suppress(IndexError, ValueError):
        last, clean, before = words[0], words[1] == "clean", float(words[2])
        if clean or (last == boot and boot != "?"):
            return BootState(boot, clean=clean, suspect_before=before)
    # In doubt is what was written before this boot. The clock may have been set back by the boot,
    # so the newest partial download counts as well. A second less than now, because the times of
    # files lag some milliseconds behind the clock and no machine boots within a second.
    newest = 0.0
    with suppress(OSError), os.scandir(os.path.join(root, PARTIALS)) as found:
        for each in found:
            with suppress(OSError):
                newest = max(newest, written, each.stat(follow_symlinks=False).st_mtime)
    doubt = max(now - 1.0, newest + 0.001) if newest else 0.0
    return BootState(boot, clean=False, suspect_before=doubt)


# -- hosts -----------------------------------------------------------------------------------------

_NETWORK = frozenset(
    (
        "nfs nfs4 cifs smb3 smbfs 9p afs ceph glusterfs lustre gpfs beegfs fuse.sshfs "
        "fuse.glusterfs fuse.s3fs"
    ).split()
)


def is_network(path: str, mounts: str = "/proc/self/mountinfo") -> bool:
    """Whether a path lies on a network file system, as far as Linux tells; elsewhere ``False``.

    Source: proc(5), ``/proc/PID/mountinfo``: field 3 is the device, the field after `` - `` the
    type.
    """
    try:
        device = os.stat(path).st_dev
        with open(mounts, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        mount, _, rest = line.partition(" - ")
        if mount.split()[2:3] == [wanted]:
            return rest.partition(" ")[0] in _NETWORK
    return False


def host_name() -> str:
    """This host's name, as far as it can be part of a file's name."""
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "host")
    return "".join(c if c.isalnum() else "-" for c in name)[:48] or "host"
