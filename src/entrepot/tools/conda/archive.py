"""Archives of conda packages: checked against what is known of them, and files taken out of them.

A ``.conda`` is a zip of two zstd-compressed tars, a ``.tar.bz2`` one tar. Nothing is unpacked but
the members asked for, and each only up to the size that was promised for it.
"""

from __future__ import annotations

import bz2
import hashlib
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import zstandard

CHUNK = 1 << 20
BROKEN: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zstandard.ZstdError,
)
"""What reading a damaged archive may raise."""


def archive_problem(path: Path, record: Mapping[str, Any], size: int) -> tuple[str, str] | None:
    """What is wrong with an archive, a kebab-case word and a sentence; ``None``: nothing is.

    Args:
        path: the archive.
        record: with ``size``, ``md5`` and ``sha256`` as far as they are known.
        size: of the file, in bytes.

    Raises:
        OSError: it cannot be read.
    """
    expected = record.get("size")
    if size == 0:
        return "empty-archive", "it holds no byte"
    if isinstance(expected, int) and size < expected:
        return "truncated-archive", f"it has {size} bytes of {expected}"
    if isinstance(expected, int) and size > expected:
        return "wrong-size", f"{size} bytes, not {expected}"
    for algorithm in ("sha256", "md5"):
        if isinstance(known := record.get(algorithm), str):
            actual = digest_of(path, algorithm)
            is_right = actual == known.lower()
            return None if is_right else ("digest-mismatch", f"its {algorithm} is {actual}")
    return None if _is_readable(path) else ("broken-archive", "it cannot be read to its end")


def digest_of(path: Path, algorithm: str) -> str:
    """The digest of a file, in hex.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        made = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return made.hexdigest()


def _is_readable(path: Path) -> bool:
    """Whether an archive of which nothing is known can be read to its end."""
    try:
        if path.name.endswith(".conda"):
            with zipfile.ZipFile(path) as file:
                return file.testzip() is None and len(file.namelist()) >= 3
        with bz2.open(path) as stream:
            while stream.read(CHUNK):
                pass
    except BROKEN:
        return False
    return True


def restore(
    path: Path, wanted: Mapping[str, int], write: Callable[[str, int, bytes], None]
) -> set[str]:
    """Take members out of an archive.

    Args:
        path: the archive, known to be right.
        wanted: member -> most bytes it may have.
        write: called with the name, the mode and the bytes of each plain file.

    Returns:
        The names that were written. A damaged archive gives what could be read.
    """
    done: set[str] = set()
    try:
        for tar in _tars(path):
            for member in tar:
                name = member.name.removeprefix("./")
                if name not in wanted or name in done or not (member.isreg() or member.islnk()):
                    continue
                stream = tar.extractfile(member)
                data = stream.read(wanted[name] + 1) if stream else b""
                if stream and len(data) <= wanted[name]:
                    write(name, member.mode, data)
                    done.add(name)
    except BROKEN:
        pass
    return done


def _tars(path: Path) -> Iterator[tarfile.TarFile]:
    if path.name.endswith(".tar.bz2"):
        with tarfile.open(path, "r:bz2") as tar:
            yield tar
        return
    with zipfile.ZipFile(path) as file:
        for name in sorted(file.namelist()):
            if not name.endswith(".tar.zst"):
                continue
            # through a temporary file: a hard link in a tar may point back
            with file.open(name) as packed, tempfile.TemporaryFile() as plain:
                zstandard.ZstdDecompressor(max_window_size=1 << 31).copy_stream(packed, plain)
                plain.seek(0)
                with tarfile.open(fileobj=plain, mode="r:") as tar:
                    yield tar
