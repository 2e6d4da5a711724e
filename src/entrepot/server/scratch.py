"""The private directory of a run: holds the child's CA bundle, goes with the run, and is found again if the run was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "entrepot-run-"
UNLOCKED = "entrepot-new-"
"""How a directory is called until its lock is held: nobody can take a run that is just starting for a dead one."""
LOCK = "alive"


@contextmanager
def scratch_directory(parent: Path | None = None) -> Iterator[Path]:
    """A directory of mode 0700 that is removed at the end; what dead runs of this user left is removed first.

    A run is alive as long as it holds the lock on the file in its directory; the system lets go of it whatever ends the run.
    """
    base = parent or Path(tempfile.gettempdir())
    remove_left_overs(base)
    unlocked = Path(tempfile.mkdtemp(prefix=UNLOCKED, dir=base))
    lock = os.open(unlocked / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    _lock(lock)
    directory = unlocked.rename(base / unlocked.name.replace(UNLOCKED, PREFIX, 1))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def remove_left_overs(base: Path) -> int:
    """Remove the directories of this user's dead runs; how many there were."""
    removed = 0
    for directory in base.glob(f"{PREFIX}*"):
        try:
            status = directory.lstat()
            if directory.is_symlink() or not directory.is_dir() or status.st_uid != _uid():
                continue
            lock = os.open(directory / LOCK, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        except OSError:
            continue  # another user's, or between mkdir and lock: never ours to judge
        try:
            if _lock(lock):
                shutil.rmtree(directory, ignore_errors=True)
                removed += 1
        finally:
            os.close(lock)
    return removed


def _uid() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _lock(descriptor: int) -> bool:
    try:
        import fcntl  # noqa: PLC0415  (not on Windows)

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return False  # nobody can be told dead without locks: leave everything
    except OSError:
        return False
    return True
