"""The lock that conda and mamba take while they write a download or an index.

One byte at offset 21 of the file.

Source: conda 26.7, ``gateways/disk/lock.py``: a POSIX record lock, 10 tries, on ``X.info.json`` and
``X.partial``; on Windows ``msvcrt.locking`` of the same byte. rattler locks its whole folder with
``flock`` on ``.cache.lock``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OFFSET = 21
"""Byte; chosen by mamba and shared by conda."""


@contextmanager
def byte_lock(path: Path) -> Iterator[bool]:
    """Hold the byte's lock while a file is removed; yields whether it was free.

    A file that cannot be opened counts as free.
    """
    try:
        number = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        yield True
        return
    try:
        yield _take(number)
    finally:
        os.close(number)


def is_locked(path: Path) -> bool:
    """Whether another process writes the file right now."""
    with byte_lock(path) as free:
        return not free


@contextmanager
def folder_lock(folder: Path) -> Iterator[bool]:
    """Hold rattler's lock of a package folder while something in it is removed.

    Yields whether it was free.

    A folder without ``.cache.lock`` was never used by rattler and counts as free.
    """
    try:
        number = os.open(folder / ".cache.lock", os.O_RDWR)
    except OSError:
        yield True
        return
    try:
        yield _flock(number)
    finally:
        os.close(number)


if sys.platform == "win32":  # pragma: no cover  # by construction only
    import msvcrt

    def _take(number: int) -> bool:
        os.lseek(number, OFFSET, os.SEEK_SET)
        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(number, OFFSET, os.SEEK_SET)
        msvcrt.locking(number, msvcrt.LK_UNLCK, 1)
        return True

    def _flock(number: int) -> bool:
        return _take(number)

else:
    import fcntl

    def _take(number: int) -> bool:
        try:
            fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, OFFSET)
        except OSError:
            return False
        return True

    def _flock(number: int) -> bool:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
