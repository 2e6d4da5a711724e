"""The lock by which uv keeps its cache while it runs.

Since 0.8.19 every uv holds a shared lock (``flock``; ``LockFileEx`` on Windows) on ``.lock`` in the
cache's root as long as it runs, ``uv run`` for as long as its command does, and ``uv cache clean``
and ``prune`` take it exclusively: seen in ``/proc/locks`` with 0.8.24 and 0.13.8. A uv that comes
while we hold it waits (five minutes, ``UV_LOCK_TIMEOUT``). Older ones take none: a process called
``uv`` that has no cache's ``.lock`` open is one of those and keeps everything from being removed;
that is seen on Linux only, and of one's own processes.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from entrepot.fs import open_or_make
from entrepot.tools._shared.safe_read import read_toml

LOCK = ".lock"
STEP_S = 0.05


class Busy(Exception):
    """Another process works with the cache; the message says which."""


@contextmanager
def exclusive(root: Path, *, wait_s: float = 5.0) -> Iterator[None]:
    """Hold uv's lock on a cache.

    Args:
        root: the cache's directory.
        wait_s: how long to wait for a uv to end.

    Raises:
        Busy: another process holds it.
        OSError: the lock file cannot be opened. A file system without locks is no error: uv goes on
            without, too.
    """
    flags = (
        os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    )  # uv makes no link
    number = open_or_make(root / LOCK, flags, 0o666)
    try:
        _acquire(number, root, wait_s)
        yield
    finally:
        os.close(number)


def _acquire(number: int, root: Path, wait_s: float) -> None:
    end = time.monotonic() + wait_s
    while True:
        try:
            _try(number)
        except OSError as exc:
            if exc.errno in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
                return
            if exc.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                raise
        else:
            return
        if time.monotonic() >= end:
            raise Busy(_who(number, root))
        time.sleep(STEP_S)


def _try(number: int) -> None:
    try:
        import fcntl  # noqa: PLC0415  # there is none on Windows
    except ImportError:
        import msvcrt  # noqa: PLC0415

        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _who(number: int, root: Path) -> str:
    """The sentence that names the process which holds the lock, where the system tells."""
    inode = os.fstat(number).st_ino
    with suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines():
            fields = line.split()
            if (
                len(fields) > 5
                and fields[1] == "FLOCK"
                and fields[5].endswith(f":{inode}")
                and fields[4].isdigit()
            ):
                return f"the cache is in use by process {fields[4]} ({_command(int(fields[4]))})"
    return f"the cache {root} is in use by another process"


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "uv"
    shown = [
        os.path.basename(words[0].decode(errors="replace")),
        *(w.decode(errors="replace") for w in words[1:2]),
    ]
    return " ".join(shown).strip()


def lockless_uv(root: Path) -> str | None:
    """The sentence that names a running uv which may use this cache and has no lock open.

    ``None``: none is seen.
    """
    try:
        numbers = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return None
    for name in numbers:
        try:
            if Path(f"/proc/{name}/comm").read_text(
                encoding="utf-8", errors="replace"
            ).strip() not in ("uv", "uvx"):
                continue
            opened = [os.readlink(f"/proc/{name}/fd/{fd}") for fd in os.listdir(f"/proc/{name}/fd")]
        except OSError:
            continue
        if opened and not any(
            path.endswith(f"/{LOCK}") and _is_cache(path.removesuffix(LOCK)) for path in opened
        ):
            if not _may_use(name, root):
                continue
            return (
                f"the cache may be in use by process {name} ({_command(int(name))}), a uv that "
                "takes no lock"
            )
    return None


def _is_cache(folder: str) -> bool:
    """Whether a lock lies in a cache's root.

    Uv locks environments and source distributions by the same name.
    """
    return os.path.lexists(f"{folder}CACHEDIR.TAG") and not os.path.lexists(f"{folder}pyvenv.cfg")


def _may_use(pid: str, root: Path) -> bool:
    """Whether a uv may use this cache.

    Not when its variables and its user's file name another one.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        raw = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        cwd = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return True
    if any(word.startswith(b"--cache-dir") for word in words):
        return True
    environ = {
        name.decode(): os.fsdecode(value)
        for name, _, value in (pair.partition(b"=") for pair in raw)
        if name.isascii()
    }
    return os.path.realpath(root) in {os.path.realpath(path) for path in _caches(environ, cwd)}


def _caches(environ: Mapping[str, str], cwd: str) -> Iterator[Path]:
    """Caches that a process with these variables may use.

    A project's own file is not looked for above its directory.
    """
    home = environ.get("HOME", "/")
    if named := environ.get("UV_CACHE_DIR"):
        yield Path(cwd, named)
        return
    xdg = environ.get("XDG_CACHE_HOME", "")
    yield Path(xdg if xdg.startswith("/") else f"{home}/.cache", "uv")
    config = environ.get("XDG_CONFIG_HOME", "")
    for path in (
        Path(config if config.startswith("/") else f"{home}/.config", "uv", "uv.toml"),
        Path(cwd, "uv.toml"),
    ):
        if isinstance(value := read_toml(path).get("cache-dir"), str):
            yield Path(cwd, value)
