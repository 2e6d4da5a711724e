"""``urls.txt``, the log of where archives came from.

Read for origins, and pruned of lines that no file needs.

conda appends to it without a lock and takes the last line with the right base name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from entrepot.cache_root import Folder
from entrepot.names import CONDA_SUFFIXES
from entrepot.tools._shared.safe_read import is_file, open_regular
from entrepot.tools.conda.pkgs_dirs import MAGIC

LIMIT_BYTES = 256 << 20
_LOOK_BYTES = 1 << 20
_LOGGED = re.compile(
    rb"[a-z0-9+]+://.*/(?:noarch|(?:linux|osx|win|freebsd|emscripten|wasi|zos)-\w+)/"
    rb"[^/]+-[^/-]+-[^/-]+\.(?:conda|tar\.bz2)"
)
"""``SCHEME://CHANNEL/SUBDIR/NAME-VERSION-BUILD.EXTENSION``"""


@dataclass(frozen=True, slots=True)
class Urls:
    """The file taken apart."""

    by_name: dict[str, str]
    """Archive's file name -> URL of the last line that has it."""
    logged: frozenset[str] = frozenset()
    """Of these, what was downloaded from a channel: only conda and mamba write such lines."""
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
    raw = _read(folder, LIMIT_BYTES)
    wanted = {stem(name) for name in names}
    lines = raw.splitlines(keepends=True)
    keep = _needed(lines, wanted)
    by_name = {
        _name(line): line.strip().decode("utf-8", "replace").partition("#")[0]
        for line in lines
        if line.strip()
    }
    gone = [line for line, kept in zip(lines, keep, strict=True) if not kept]
    logged = frozenset(_name(line) for line in lines if _is_logged(line))
    return Urls(by_name, logged, len(gone), sum(map(len, gone)))


def is_log(folder: Path) -> bool:
    """Whether there is a ``urls.txt`` of conda's: an empty one, or one that names an archive.

    The name is a usual one for a list of addresses: such a list makes no cache, and no line of it
    is ours to drop.
    """
    if not is_file(folder / MAGIC):
        return False
    lines = _read(folder, _LOOK_BYTES).splitlines()
    return not any(map(bytes.strip, lines)) or any(map(_is_logged, lines))


def _read(folder: Path, limit_bytes: int) -> bytes:
    """The file's beginning; empty when it cannot be read: then it proves no archive."""
    try:
        with os.fdopen(open_regular(folder / MAGIC), "rb") as file:
            return file.read(limit_bytes)
    except OSError:
        return b""


def _is_logged(line: bytes) -> bool:
    """Whether a line is conda's: a channel's address, a platform's folder, an archive's name."""
    return _LOGGED.fullmatch(line.strip().partition(b"#")[0]) is not None


def _name(line: bytes) -> str:
    """The base name as conda sees it; one without an extension is a ``.tar.bz2``."""
    name = line.strip().decode("utf-8", "replace").partition("#")[0].rpartition("/")[2]
    return name if name.endswith(CONDA_SUFFIXES) or not name else f"{name}.tar.bz2"


def _needed(lines: list[bytes], wanted: set[str]) -> list[bool]:
    seen: set[str] = set()
    keep = []
    for line in reversed(lines):
        name = _name(line)
        # what is no line of conda's somebody has written
        keep.append(not _is_logged(line) or (name not in seen and stem(name) in wanted))
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
