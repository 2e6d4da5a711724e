"""The runtime directory of a run: holds the child's CA bundle and goes with the run.

It lies where only the user can write, never in a shared temporary directory: a daemon that the
child leaves behind still has the bundle's path in its environment after the run, and another user
who can make that path again would be trusted by it. What a killed run left goes with the next one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from entrepot.errors import ConfigError

PREFIX = "entrepot-run-"
UNLOCKED = "entrepot-new-"
"""How a directory is called until its lock is held: nobody can take a run that is just starting for
a dead one."""
LOCK = "alive"
STARTING_S = 3600.0
"""Seconds after which a directory without its lock is one whose run was killed in its first moment.
"""
EXPIRED_S = 31 * 86_400.0
"""Seconds after which the authority of another machine's run has expired (``authority.py``)."""
HINT = "set XDG_STATE_HOME to a directory that only you can write"


@contextmanager
def scratch_directory(bases: Sequence[Path]) -> Iterator[Path]:
    """A directory of mode 0700 that is removed at the end.

    What dead runs of this user left is removed first.

    A run is alive as long as it holds the lock on the file in its directory; the system lets go of
    it whatever ends the run.

    Args:
        bases: where it may lie, the preferred one first; missing ones are made.

    Raises:
        ConfigError: others could write in each of them, or we cannot.
    """
    directory, lock = _make(bases)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _make(bases: Sequence[Path]) -> tuple[Path, int]:
    """A new directory in the first base where that works, and its lock's descriptor."""
    refusals = []
    for each in bases:
        try:
            base = private_directory(each)
            remove_left_overs(base)
            return _locked(base)
        except OSError as exc:
            refusals.append(f"{each}: {exc.strerror or exc}")
    text = f"there is no private place for this run's CA bundle ({'; '.join(refusals)})"
    raise ConfigError(text, name="XDG_STATE_HOME", hint=HINT)


def _locked(base: Path) -> tuple[Path, int]:
    unlocked, lock = Path(tempfile.mkdtemp(prefix=f"{UNLOCKED}{_boot()}-", dir=base)), -1
    try:
        lock = os.open(unlocked / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        _lock(lock)
        return unlocked.rename(base / unlocked.name.replace(UNLOCKED, PREFIX, 1)), lock
    except BaseException:
        shutil.rmtree(unlocked, ignore_errors=True)
        if lock >= 0:
            os.close(lock)
        raise


# -- where only the user can write ----------------------------------------------------------------


def private_directory(path: Path) -> Path:
    """Make sure that a directory is there with mode 0700; its path without symbolic links.

    Nobody but this user and root can put anything in its place, now or when it is gone: no
    directory above it belongs to another user or lets others write, but for the sticky bit.

    Raises:
        OSError: that does not hold (PermissionError), or it cannot be made. Where it does not hold
            nothing is made.
    """
    real = Path(os.path.realpath(path))
    missing = []
    for each in (real, *real.parents):
        if os.path.lexists(each):
            break
        missing.append(each)
    _require_private(each)
    for folder in reversed(missing):
        folder.mkdir(0o700, exist_ok=True)
    if _require_private(real).st_uid != _euid():
        raise PermissionError(f"{real} belongs to another user")
    real.chmod(0o700)
    return real


def _require_private(path: Path) -> os.stat_result:
    """The status of a directory that other users can neither write nor replace.

    Raises:
        OSError: they could (PermissionError), or it is not a directory; it says where.
    """
    trusted = {0, _euid(), *_unmapped()}
    for each in (path, *path.parents):
        status = each.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(f"{each} is not a directory")
        if not hasattr(os, "geteuid"):
            break  # Windows: the user's profile is the user's by its access list
        if status.st_uid not in trusted:
            raise PermissionError(f"{each} belongs to another user")
        # In a sticky directory others cannot rename or remove what is ours, and they own nothing of
        # the rest of the path.
        is_open = status.st_mode & stat.S_IWOTH or _group_may_write(each, status)
        if is_open and not status.st_mode & stat.S_ISVTX:
            raise PermissionError(f"other users can write in {each}")
    return path.lstat()


def _euid() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _unmapped() -> tuple[int, ...]:
    """The number that a user namespace shows for users outside it, where none inside has it."""
    try:
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
        lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
        ranges = [(int(first), int(length)) for first, _, length in map(str.split, lines)]
    except (OSError, ValueError):
        return ()
    return () if any(0 <= overflow - first < length for first, length in ranges) else (overflow,)


def _group_may_write(path: Path, status: os.stat_result) -> bool:
    """Whether members of the group other than the user may write.

    A umask of 002 is usual where each user has a group. Access lists show in the group's bits:
    where there is one, those bits are not taken for the group's alone.
    """
    if not status.st_mode & stat.S_IWGRP:
        return False
    import grp  # noqa: PLC0415  (not on Windows, and hardly ever needed)
    import pwd  # noqa: PLC0415

    with suppress(OSError):
        if hasattr(os, "listxattr") and "system.posix_acl_access" in os.listxattr(path):
            return True
    try:
        me, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(status.st_gid)
    except KeyError:
        return True
    is_own = group.gr_gid == me.pw_gid and group.gr_name == me.pw_name
    return not is_own or any(member != me.pw_name for member in group.gr_mem)


# -- what dead runs left --------------------------------------------------------------------------


def remove_left_overs(base: Path) -> int:
    """Remove the directories of this user's dead runs; how many there were.

    Links are neither followed nor removed.

    Args:
        base: a directory that nobody else can write.
    """
    try:
        with os.scandir(base) as entries:
            found = [
                Path(entry.path) for entry in entries if entry.name.startswith((PREFIX, UNLOCKED))
            ]
    except OSError:
        return 0
    return sum(_remove_if_dead(directory) for directory in found)


def _remove_if_dead(directory: Path) -> bool:
    try:
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != _euid():
            return False
        age = time.time() - status.st_mtime
        if not directory.name.startswith(f"{PREFIX}{_boot()}-"):
            # Still without its lock, or another machine's in a home directory on the network: its
            # lock may not be seen from here.
            limit = STARTING_S if directory.name.startswith(UNLOCKED) else EXPIRED_S
            return age > limit and _removed(directory)
        lock = os.open(directory / LOCK, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False  # just being removed: not ours to judge
    try:
        return _lock(lock) and _removed(directory)
    finally:
        os.close(lock)


def _removed(directory: Path) -> bool:
    shutil.rmtree(directory, ignore_errors=True)
    return True


def _boot() -> str:
    """Names the running system: within it the locks of all processes are seen."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        text = os.uname().nodename if hasattr(os, "uname") else ""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _lock(descriptor: int) -> bool:
    try:
        import fcntl  # noqa: PLC0415  (not on Windows)

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return False  # nobody can be told dead without locks: leave everything
    except OSError:
        return False
    return True
