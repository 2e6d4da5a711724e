"""``urls.txt``, the log of where archives came from.

Read for origins, and pruned of lines that no file needs.

conda appends to it without a lock and takes the last line with the right base name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from entrepot.cache_root import Folder
from entrepot.names import CONDA_SUFFIXES
from entrepot.tools.condakit.writable import MAGIC

LIMIT_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Urls:
    """The file taken apart."""

    by_name: dict[str, str]
    """Archive's file name -> URL of the last line that has it."""
    lines: int = 0
    stale: int = 0
    """Lines that nothing in the folder needs: of what is gone, and earlier ones of the same name.
    """
    stale_bytes: int = 0


def stem(name: str) -> str:
    """An archive's name without its extension.

    >>> stem("numpy-1.26-py311_0.tar.bz2"), stem("numpy-1.26-py311_0")
    ('numpy-1.26-py311_0', 'numpy-1.26-py311_0')
    """
    return next((name[: -len(e)] for e in CONDA_SUFFIXES if name.endswith(e)), name)


def read_urls(folder: Path, names: Iterable[str]) -> Urls:
    """Read the file.

    Args:
        folder: the cache.
        names: what lies in it: archives and unpacked packages.
    """
    try:
        with (folder / MAGIC).open("rb") as file:
            raw = file.read(LIMIT_BYTES)
    except OSError:
        return Urls({})
    wanted = {stem(name) for name in names}
    lines = raw.splitlines(keepends=True)
    keep = _needed(lines, wanted)
    by_name = {
        _name(line): line.strip().decode("utf-8", "replace").partition("#")[0]
        for line in lines
        if line.strip()
    }
    gone = [line for line, kept in zip(lines, keep, strict=True) if not kept]
    return Urls(by_name, len(lines), len(gone), sum(map(len, gone)))


def _name(line: bytes) -> str:
    """The base name as conda sees it; one without an extension is a ``.tar.bz2``."""
    name = line.strip().decode("utf-8", "replace").partition("#")[0].rpartition("/")[2]
    return name if name.endswith(CONDA_SUFFIXES) or not name else f"{name}.tar.bz2"


def _needed(lines: list[bytes], wanted: set[str]) -> list[bool]:
    seen: set[str] = set()
    keep = []
    for line in reversed(lines):
        name = _name(line)
        keep.append(bool(name) and name not in seen and stem(name) in wanted)
        seen.add(name)
    return keep[::-1]


def prune(folder: Folder, names: Iterable[str]) -> int:
    """Drop the lines that nothing in the folder needs; how many went.

    The new file replaces the old one in one step. What a running conda appends to the old one
    meanwhile is carried over.

    Raises:
        OSError: it cannot be written.
    """
    with os.fdopen(folder.open(MAGIC), "rb") as old:
        lines = old.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            return 0  # somebody is writing this line
        keep = _needed(lines, {stem(name) for name in names})
        left = [line for line, kept in zip(lines, keep, strict=True) if kept]
        if len(left) == len(lines):
            return 0
        folder.replace(MAGIC, b"".join(left), temporary=".urls.{}.tmp")
        if late := old.read():
            with os.fdopen(folder.open(MAGIC, os.O_WRONLY | os.O_APPEND), "ab") as new:
                new.write(late)
    return len(lines) - len(left)
