"""Who uses a cache right now: the clients' locks, and which of them are at work.

conda and mamba lock a download or an index while they write it: one byte at offset 21 of the file.
Neither locks the packages that it is about to link, so their processes are looked for, of the same
user and where the system shows them (``/proc``); elsewhere nothing is known, and a package that was
unused for long may go while an installation has just chosen it. It would have to be started again.
rattler locks its whole folder with ``flock`` on ``.cache.lock``.

Source: conda 26.7, ``gateways/disk/lock.py``: a POSIX record lock, 10 tries, on ``X.info.json`` and
``X.partial``; on Windows ``msvcrt.locking`` of the same byte.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from entrepot.tools._shared import processes

OFFSET = 21
"""Byte; chosen by mamba and shared by conda."""
_PROGRAM = re.compile(r"(?:conda|mamba|micromamba|conda-env|mamba-exe)(?:\.exe)?")
_VERBS = frozenset(
    "create install update upgrade remove uninstall env rename build clean self".split()
)
"""Subcommands that read packages for longer than a moment."""


def links_packages(argv: list[str]) -> bool:
    """Whether a command line is one of conda's or mamba's that links packages.

    >>> links_packages(["/opt/conda/bin/python", "/opt/conda/bin/conda", "create", "-n", "x"])
    True
    >>> links_packages(["conda", "info"])
    False
    """
    words = processes.words_of(argv[:9])
    return (
        bool(words)
        and _PROGRAM.fullmatch(words[0]) is not None
        and not _VERBS.isdisjoint(words[1:6])
    )


def client_at_work(euid: int) -> str:
    """Why packages stay: a client of this user that may be about to link them; empty without one.

    Args:
        euid: the user; -1 finds no process.
    """
    for number, argv in processes.of_user(euid):
        if links_packages(argv):
            return f"conda or mamba is running (process {number}) and may be about to link to it"
    return ""


def byte_lock(path: Path) -> AbstractContextManager[bool]:
    """Hold the byte's lock while a file is removed; yields whether it was free.

    A file that cannot be opened counts as free, so does a symbolic link.
    """
    return _held(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), _take)


def is_locked(path: Path) -> bool:
    """Whether another process writes the file right now."""
    with byte_lock(path) as free:
        return not free


def folder_lock(folder: Path) -> AbstractContextManager[bool]:
    """Hold rattler's lock of a package folder while something in it is removed.

    Yields whether it was free. A folder without ``.cache.lock`` was never used by rattler: it is
    free.
    """
    return _held(folder / ".cache.lock", os.O_RDWR, _flock)


@contextmanager
def _held(path: Path, flags: int, take: Callable[[int], bool]) -> Iterator[bool]:
    try:
        number = os.open(path, flags)
    except OSError:
        yield True
        return
    try:
        yield take(number)
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

    _flock = _take

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
