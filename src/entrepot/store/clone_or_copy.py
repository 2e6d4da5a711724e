"""Taking over a file of another cache.

Cloned where the file system can, linked where that is safe, copied otherwise.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from entrepot.ports.store import Check, ObjectMeta
from entrepot.store.disk import Disk

CHUNK = 1 << 20
_FICLONE = 0x40049409
"""``ioctl_ficlone(2)`` on most architectures; where the number is another one the call fails and we
copy."""


def adopt(
    disk: Disk, path: str, offset: int, size: int, check: Check, *, link: bool
) -> ObjectMeta | None:
    """Make part of a file an object; see the port.

    Raises:
        OSError: our side failed. What is wrong with the source gives ``None``.
    """
    source = _open_source(path, offset + size)
    if source < 0:
        return None
    try:
        fd, temp = disk.temp()
        try:
            whole = offset == 0 and os.fstat(source).st_size == size
            if whole and link and _linked(path, source, temp):
                linked = os.dup(source)
                os.close(fd)
                fd = linked
            elif not (whole and _cloned(source, fd)):
                for at in range(0, size, CHUNK):
                    # less than it should be if the source shrank meanwhile: the check refuses it
                    os.pwrite(fd, os.pread(source, min(CHUNK, size - at), offset + at), at)
            key = check(lambda start, count: os.pread(fd, count, start), size)
            if key is None:
                return None
            os.fsync(fd)
            # In place of what may be there, which nobody has looked at: these bytes are right.
            return disk.publish(fd, temp, key)
        finally:
            os.close(fd)
            with suppress(OSError):  # it has its name now, unless it was refused
                os.unlink(temp)
    finally:
        os.close(source)


def _open_source(path: str, least: int) -> int:
    """A descriptor of a regular file of that many bytes at least; -1 when there is none for us."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return -1
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_size >= least:
        return fd
    os.close(fd)
    return -1


def _linked(path: str, source: int, temp: str) -> bool:
    """Give the file a second name if it is our own and nobody else can write it.

    ``False`` when that cannot be.
    """
    found = os.fstat(source)
    if not hasattr(os, "geteuid") or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        return False
    with suppress(OSError):
        other = f"{temp}.link"
        os.link(path, other, follow_symlinks=False)
        if os.path.samestat(os.stat(other), found):  # the path may name another file by now
            os.replace(other, temp)
            return True
        os.unlink(other)
    return False


def _cloned(source: int, target: int) -> bool:
    try:
        import fcntl  # noqa: PLC0415 -- not on Windows

        fcntl.ioctl(target, _FICLONE, source)
    except (ImportError, OSError):
        return False
    return True
