"""The private directory of a run.

Holds the child's CA bundle, goes with the run, and is found again if the run was killed.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "entrepot-run-"
UNLOCKED = "entrepot-new-"
"""How a directory is called until its lock is held: nobody can take a run that is just starting for
a dead one."""
LOCK = "alive"
STARTING_S = 3600.0
"""Seconds after which a directory without its lock is one whose run was killed in its first moment.
"""


@contextmanager
def scratch_directory(parent: Path | None = None) -> Iterator[Path]:
    """A directory of mode 0700 that is removed at the end.

    What dead runs of this user left is removed first.

    A run is alive as long as it holds the lock on the file in its directory; the system lets go of
    it whatever ends the run.
    """
    base = parent or Path(tempfile.gettempdir())
    remove_left_overs(base)
    unlocked = Path(tempfile.mkdtemp(prefix=UNLOCKED, dir=base))
    directory, lock = unlocked, -1
    try:
        lock = os.open(unlocked / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        _lock(lock)
        directory = unlocked.rename(base / unlocked.name.replace(UNLOCKED, PREFIX, 1))
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if lock >= 0:
            os.close(lock)


def remove_left_overs(base: Path) -> int:
    """Remove the directories of this user's dead runs; how many there were.

    In a directory that everybody may write, nobody but their owner can rename or replace what is
    judged here (sticky bit), and links are neither followed nor removed.
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
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != _uid():
            return False
        if directory.name.startswith(UNLOCKED):
            dead = time.time() - status.st_mtime > STARTING_S
            if dead:
                shutil.rmtree(directory, ignore_errors=True)
            return dead
        lock = os.open(directory / LOCK, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False  # another user's, or just being removed: not ours to judge
    try:
        dead = _lock(lock)
        if dead:
            shutil.rmtree(directory, ignore_errors=True)
        return dead
    finally:
        os.close(lock)


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
