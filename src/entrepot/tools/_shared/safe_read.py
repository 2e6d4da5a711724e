"""Reading other people's files without ever failing.

Bounded, regular files only, broken ones count as empty.

Nothing here knows a tool. What cannot be read, is too large to be parsed, or does not follow its
format gives an empty value, because a command that the tool would have run must not stop for it.
Pipes and devices are never opened, because ``-r <(make-list)`` can be read only once, and by the
child.

A list that decides what may be removed is read by :func:`read_whole`: there an empty value means
that the file is absent, and everything else that keeps the list from being known is an error.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

BEGINNING = 1 << 10
"""Bytes in which a NUL shows that a file is no text: a command may well be the path of a program of
fifty megabytes."""
LIMIT_BYTES = 1 << 20
"""Of a file that people write."""
LOCK_LIMIT_BYTES = 8 << 20
"""Of a lock file, which a machine writes."""
LIST_LIMIT_BYTES = 64 << 20
"""Of a file that decides what may be removed; a larger one could not be read."""
_NO_WAIT = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


def open_regular(path: Path | str, *, follow: bool = True) -> int:
    """A descriptor for reading a regular file; opening a pipe or a device never waits.

    Args:
        path: the file.
        follow: also where the last name is a symbolic link.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    try:
        # some devices do things when they are opened: look first, and once more at what was opened
        if not stat.S_ISREG(os.stat(path, follow_symlinks=follow).st_mode):  # thousands of records
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        number = os.open(path, _NO_WAIT | (0 if follow else _NOFOLLOW))
    except ValueError as exc:  # a NUL in the name
        raise FileNotFoundError(errno.ENOENT, "no file has such a name", str(path)) from exc
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return number


def read_regular(path: Path | str, limit_bytes: int = LIST_LIMIT_BYTES) -> bytes:
    """All of a regular file.

    Raises:
        OSError: it is absent, or cannot be read whole: no permission, no regular file, more than
            ``limit_bytes``.
    """
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        data = file.read(min(os.fstat(file.fileno()).st_size, limit_bytes) + 1)
        while len(data) <= limit_bytes and (more := file.read(1 << 20)):
            data += more
    if len(data) > limit_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {limit_bytes >> 20} MiB", str(path))
    return data


def read_whole(path: Path | str, limit_bytes: int = LIST_LIMIT_BYTES) -> bytes | None:
    """All of a regular file; ``None`` when it is absent.

    What decides over a removal needs the difference between a file that is not there and one that
    could not be read. A symbolic link that leads nowhere is there: what it leads to may lie on a
    disk that is not mounted.

    Raises:
        OSError: it is there and could not be read whole.
    """
    try:
        return read_regular(path, limit_bytes)
    except FileNotFoundError:
        for part in (Path(path), *Path(path).parents):
            if part.is_symlink() and not part.exists():
                text = f"the symbolic link {part} leads nowhere"
                raise OSError(errno.ENOENT, text, str(path)) from None
        return None


def read_text(path: Path | str, limit_bytes: int = LIMIT_BYTES) -> str:
    """The first ``limit_bytes`` of a regular file as text.

    Empty when it is absent, special, unreadable or a program's.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            raw = file.read(min(limit_bytes, BEGINNING))
            if b"\0" in raw:
                return ""
            raw += file.read(limit_bytes - len(raw))
    except OSError:
        return ""
    return raw.decode("utf-8-sig", "replace")


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file; empty when it is absent or broken."""
    return parse_toml(read_text(path))


@lru_cache(maxsize=64)  # several client setups read the same project files
def parse_toml(text: str) -> dict[str, Any]:
    """TOML text; empty when it is broken. The result is shared: do not change it."""
    if not text.strip():
        return {}
    import tomllib  # noqa: PLC0415  # 8 ms that a start without such files does not pay

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}


def line_of(path: Path, word: str) -> str:
    """``PATH:LINE`` of the first line that starts with ``word`` (blanks and marks aside).

    ``PATH`` if there is none.
    """
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.lstrip(" \t\"'-[").lower().startswith(word.lower()):
            return f"{path}:{number}"
    return str(path)


def table(data: Any, *keys: str) -> dict[str, Any]:
    """A nested table; empty when anything on the way is absent or no table."""
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data if isinstance(data, dict) else {}


def tables(value: Any) -> list[dict[str, Any]]:
    """An array of tables, or the values of a table of tables.

    What is no table in it is left out.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def is_file(path: Path | str) -> bool:
    """Whether a regular file is there; False for names no file can have."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # asked hundreds of times at each start
    except (OSError, ValueError):
        return False


def is_dir(path: Path | str) -> bool:
    """Whether a directory is there; False for names no file can have."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False
