"""How much of a user's quota is used where some directories lie.

Asked of the kernel, or of a command that the user named.

The kernel knows the quotas of local file systems. Those of NFS, Lustre and the like are known to a
command only (``quota -w``, ``lfs quota -u me /home``), which is run because the setting
``quota.command`` says so, for five seconds at most.

Source: quotactl(2), quota(1), lfs-quota(1).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.errors import EntrepotError, FormatError
from entrepot.sizes import parse_size

PATIENCE_S = 5.0
"""Seconds that the command may take; a file server that hangs must not take ``status`` along."""
BLOCK = 1024
"""Bytes of the blocks in which quotas are counted (quotactl(2): ``QIF_DQBLKSIZE``)."""


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit on what a user or a group may keep on one file system."""

    where: str
    """A directory or a file system, for people."""
    whose: str
    """``user``, ``group`` or ``command``."""
    used: int
    """Bytes."""
    limit: int | None
    """Bytes; ``None``: no limit."""
    files: int | None = None
    files_limit: int | None = None

    @property
    def share(self) -> float:
        """The used part of the limit that is nearer."""
        files = (
            self.files / self.files_limit if self.files is not None and self.files_limit else 0.0
        )
        return max(self.used / self.limit if self.limit else 0.0, files)


class QuotaUnknown(EntrepotError):
    """The command failed, or said nothing that is understood."""

    reference = "quota-command"


# -- the command -----------------------------------------------------------------------------------


def told_by(command: Sequence[str], environ: Mapping[str, str]) -> list[Quota]:
    """What the command says.

    Raises:
        QuotaUnknown: it failed, or took too long, or gave no output that is understood.
    """
    import subprocess  # noqa: PLC0415  # most users name no command

    shown = " ".join(command)
    try:
        done = subprocess.run(
            command,
            env={**environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise QuotaUnknown(
            f"the quota command `{shown}` did not end within {PATIENCE_S:g} seconds"
        ) from exc
    except (OSError, ValueError) as exc:
        raise QuotaUnknown(
            f"the quota command `{shown}` cannot be run: {getattr(exc, 'strerror', None) or exc}"
        ) from exc
    text = done.stdout.decode("utf-8", "replace")
    found = read(text)
    if found is None or (
        not found and done.returncode
    ):  # `quota` exits 1 when a limit is passed, and prints all the same
        said = (done.stderr.decode("utf-8", "replace") or text).strip().partition("\n")[0][:200]
        why = (
            f"ended with status {done.returncode}"
            if done.returncode
            else "said what is not understood"
        )
        raise QuotaUnknown(f"the quota command `{shown}` {why}{f': {said}' if said else ''}")
    return found


def read(text: str) -> list[Quota] | None:
    """Limits out of a command's output; ``None`` when it is of no known form.

    Known are the tables of ``quota`` and ``lfs quota`` (also with ``-s``, ``-h``, ``-p``, and lines
    broken after a long name), and one line ``USED LIMIT [FILES FILES-LIMIT]`` in bytes or with
    units.

    >>> read("41.2GB 50GB")[0].limit
    50000000000
    >>> read("95G 100G 900k 1M")[0].files_limit
    1000000
    """
    plain = text.split()
    if len(plain) in (2, 4) and len(text.strip().splitlines()) == 1:
        with suppress(FormatError, ValueError):
            sizes = [parse_size(word) for word in plain[:2]]
            files = [_count(word) for word in plain[2:]]
            if None in files:
                return None
            files = files or [None, None]
            return [Quota("", "command", sizes[0], sizes[1] or None, files[0], files[1] or None)]
    lines = text.splitlines()
    heads = [number for number, line in enumerate(lines) if line.split()[:1] == ["Filesystem"]]
    if not heads:
        return [] if re.search(r"Disk quotas for .*: none", text) else None
    rows = _joined(lines[heads[0] + 1 :])
    found = [_row(row) for row in rows]
    return [quota for quota in found if quota is not None and (quota.limit or quota.files_limit)]


def _joined(lines: Sequence[str]) -> Iterator[list[str]]:
    """Each row's words: a long name stands on a line of its own."""
    name: list[str] = []
    for line in lines:
        words = line.split()
        if not words or words[0] == "Filesystem" or line.startswith("Disk quotas"):
            continue
        if len(words) == 1:
            name = words
            continue
        yield [*name, *words] if _size(words[0]) is not None and name else words
        name = []


def _row(words: Sequence[str]) -> Quota | None:
    """One row: name, then used, quota, limit and perhaps a grace time, for bytes and for files."""
    name, *rest = words
    used, soft, hard, *rest = rest if len(rest) >= 6 else [*rest, *[""] * 6]
    if len(rest) > 4 or (len(rest) == 4 and used.endswith("*")):
        rest = rest[1:]  # the grace time of the bytes
    sizes = [_size(word) for word in (used, soft, hard)]
    files = [_count(word) for word in rest[:3]]
    if sizes[0] is None or sizes[1] is None or sizes[2] is None:
        return None
    files += [None] * (3 - len(files))
    return Quota(
        name,
        "command",
        sizes[0],
        sizes[2] or sizes[1] or None,
        files[0],
        files[2] or files[1] or None,
    )


def _size(word: str) -> int | None:
    """Bytes of a number of kibibytes, or of one with a unit of 1024s (``-s``, ``-h``)."""
    found = re.fullmatch(r"\[?(\d+(?:\.\d+)?)([kKMGTPE]?)\]?\*?", word)
    if not found:
        return None
    return int(
        float(found[1]) * 1024 ** (" kMGTPE".index(found[2].replace("K", "k")) if found[2] else 1)
    )


def _count(word: str) -> int | None:
    found = re.fullmatch(r"\[?(\d+(?:\.\d+)?)([kKMGT]?)\]?\*?", word)
    return (
        int(
            float(found[1]) * 1000 ** (" kMGT".index(found[2].replace("K", "k")) if found[2] else 0)
        )
        if found
        else None
    )


# -- the kernel ------------------------------------------------------------------------------------

_QUOTACTL_FD = 443
"""The system call's number, the same on every Linux since 5.14."""
_GET_QUOTA = 0x800007 << 8
_KINDS = {"user": 0, "group": 1}


def told_by_kernel(folders: Sequence[Path], euid: int) -> list[Quota]:
    """The limits of the user, and of each directory's group, where the file system keeps quotas.

    One for each file system.

    Project quotas need no question: the free space of such a directory is already what its project
    may still use.
    """
    found: dict[tuple[int, str], Quota] = {}
    with_quotas = _devices_with_quotas()
    for folder in folders if with_quotas else ():
        with suppress(OSError):
            info = folder.stat()
            if info.st_dev not in with_quotas:
                continue
            for whose, number in (("user", euid), ("group", info.st_gid)):
                if (info.st_dev, whose) not in found and (
                    quota := _ask(folder, whose, number)
                ) is not None:
                    found[info.st_dev, whose] = quota
    return list(found.values())


def _devices_with_quotas(table: str = "/proc/self/mountinfo") -> frozenset[int]:
    """Device numbers of the file systems that were mounted with quotas.

    None where the kernel does not say.
    """
    found = set()
    try:
        text = Path(table).read_text("utf-8", "replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        words = line.split()
        if len(words) > 5 and re.search(r"(?<!no)quota", words[-1]):
            major, _, minor = words[2].partition(":")
            found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)


def _ask(folder: Path, whose: str, number: int) -> Quota | None:
    """One question to quotactl_fd(2).

    ``None`` when there is no limit, or no answer (no quotas, not allowed, an old kernel).
    """
    import ctypes  # noqa: PLC0415  # few file systems keep quotas
    import struct  # noqa: PLC0415

    answer = ctypes.create_string_buffer(8 * 8 + 8)
    opened = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        call = ctypes.CDLL(None, use_errno=True).syscall
        if call(_QUOTACTL_FD, opened, _GET_QUOTA | _KINDS[whose], number, answer) != 0:
            return None
    except (OSError, AttributeError):
        return None
    finally:
        os.close(opened)
    hard, soft, used, files_hard, files_soft, files = struct.unpack_from("6Q", answer.raw)
    limit, files_limit = (hard or soft) * BLOCK or None, files_hard or files_soft or None
    return (
        Quota(str(folder), whose, used, limit, files, files_limit) if limit or files_limit else None
    )
