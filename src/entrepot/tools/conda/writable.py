"""Whether conda would write to a cache, by its own test, and which of several it would take.

Nothing is created.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from entrepot.ports.tool import Surroundings

MAGIC = "urls.txt"
"""The file that makes a directory a package cache."""

NEW_PACKAGES = "new packages go here"
"""Label of the first cache in a tool's list that it can write to."""
_ORDINALS = ("", "first", "second", "third", "fourth", "fifth")


def order_label(number: int, *, first: bool) -> str:
    """What ``where`` calls the cache with that number in a tool's list, counted from 1.

    Args:
        number: its number.
        first: whether it is the first one that can be written to.
    """
    if first:
        return NEW_PACKAGES
    return f"searched {_ORDINALS[number] if number < len(_ORDINALS) else f'as number {number}'}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What conda makes of one directory."""

    exists: bool
    """Something is there."""
    is_cache: bool
    """There is a ``urls.txt``."""
    writable: bool
    """conda would take it: ``urls.txt`` can be appended to, or it can be created."""
    why_not: str = ""
    trap: str = ""


def judge(path: Path, around: Surroundings) -> Verdict:
    """Conda's verdict: a ``urls.txt`` that can be opened for appending.

    Or none, and one could be made.

    Source: conda 26.7, ``core/package_cache_data.py``, ``_check_writable`` and ``first_writable``.
    """
    magic = path / MAGIC
    here = _lookable(path)
    if here is None:
        parent = next((p for p in path.parents if _lookable(p) is not None), None)
        if parent is not None and not parent.is_dir():
            return Verdict(
                exists=False, is_cache=False, writable=False, why_not=f"{parent} is no directory"
            )
        can = parent is not None and may_write(parent, around)
        return Verdict(
            exists=False,
            is_cache=False,
            writable=can,
            why_not="" if can else f"{parent or path} may not be written to",
        )
    if not stat.S_ISDIR(here.st_mode):
        return Verdict(
            exists=True, is_cache=False, writable=False, why_not=f"{path} is no directory"
        )
    if not os.access(path, os.R_OK | os.X_OK):
        return Verdict(
            exists=True, is_cache=False, writable=False, why_not=f"{path} may not be looked into"
        )
    about = _lookable(magic)
    if about is not None and stat.S_ISREG(about.st_mode):
        if may_write(magic, around):
            return Verdict(exists=True, is_cache=True, writable=True)
        why = f"{magic} may not be written to: conda takes packages from it and puts none in"
        return Verdict(exists=True, is_cache=True, writable=False, why_not=why)
    can = may_write(path, around)
    trap = (
        f"no urls.txt: conda stops at packages that lie here; cure: touch {shlex.quote(str(magic))}"
        if _holds_packages(path)
        else ""
    )
    return Verdict(
        exists=True,
        is_cache=False,
        writable=can,
        why_not="" if can else f"{path} may not be written to",
        trap=trap,
    )


def first_writable(paths: Iterable[Path], around: Surroundings) -> Path | None:
    """The cache that conda downloads into: the first that is writable or can be made."""
    return next((path for path in paths if judge(path, around).writable), None)


def may_write(path: Path, around: Surroundings) -> bool:
    """Whether this process's user could write there, by ``access(2)`` (read-only mounts, ACLs)."""
    del around
    return os.access(path, os.W_OK)


def _lookable(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


def _holds_packages(path: Path) -> bool:
    try:
        with os.scandir(path) as found:
            return any(
                each.is_dir() and os.path.isfile(f"{each.path}/info/index.json") for each in found
            )
    except OSError:
        return False
