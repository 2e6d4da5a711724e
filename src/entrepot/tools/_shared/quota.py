"""How much of a user's quota is used: by the site's command, or by the ``quota`` program.

``quota`` is asked for local file systems alone, since a file server may be slow to answer. Those of
NFS, Lustre and the like are told by a command (``quota -w``, ``lfs quota -u me /home``) that is
run because the setting ``quota.command`` says so. Each may take five seconds. Project quotas need
no question: the free space of such a directory is already what its project may still use.

Source: quota(1), lfs-quota(1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from entrepot.errors import EntrepotError, FormatError
from entrepot.sizes import parse_size

PATIENCE_S = 5.0
"""Seconds that a command may take; a file server that hangs must not take ``status`` along."""


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit on what a user or a group may keep on one file system."""

    where: str
    """A file system, for people."""
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


def told_by_quota(environ: Mapping[str, str]) -> list[Quota]:
    """The limits of the user and of its groups on local file systems, where ``quota`` tells them.

    None without such a program; one that fails is not named, since nobody asked for it.
    """
    import shutil  # noqa: PLC0415  # with the command line alone

    program = shutil.which("quota", path=environ.get("PATH", ""))
    found: list[Quota] = []
    for whose, option in (("user", "-u"), ("group", "-g")) if program else ():
        with suppress(QuotaUnknown):
            found += told_by([str(program), option, "-l", "-w"], environ, whose=whose)
    return found


def told_by(
    command: Sequence[str], environ: Mapping[str, str], *, whose: str = "command"
) -> list[Quota]:
    """What a command says.

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
    found = read(text, whose)
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


def read(text: str, whose: str = "command") -> list[Quota] | None:
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
            files = [_number(word, 1000, 1) for word in plain[2:]]
            if None in files:
                return None
            files = files or [None, None]
            return [Quota("", whose, sizes[0], sizes[1] or None, files[0], files[1] or None)]
    lines = text.splitlines()
    heads = [number for number, line in enumerate(lines) if line.split()[:1] == ["Filesystem"]]
    if not heads:
        return [] if re.search(r"Disk quotas for .*: none", text) else None
    found = [_row(words, whose) for words in _joined(lines[heads[0] + 1 :])]
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
        yield [*name, *words] if name and _number(words[0], 1024, 1024) is not None else words
        name = []


def _row(words: Sequence[str], whose: str) -> Quota | None:
    """One row: name, then used, quota, limit and perhaps a grace time, for bytes and for files."""
    name, used, soft, hard, *rest = [*words, "", "", ""]
    rest = rest[: max(0, len(words) - 4)]
    if len(rest) > 4 or (len(rest) == 4 and used.endswith("*")):
        rest = rest[1:]  # the grace time of the bytes
    size, quota, limit = (_number(word, 1024, 1024) for word in (used, soft, hard))
    files, files_quota, files_limit = [*(_number(w, 1000, 1) for w in rest[:3]), None, None, None][
        :3
    ]
    if size is None or quota is None or limit is None:
        return None
    return Quota(
        name, whose, size, limit or quota or None, files, files_limit or files_quota or None
    )


def _number(word: str, base: int, bare: int) -> int | None:
    """A number with a unit of powers of ``base``; one without a unit counts in ``bare``."""
    found = re.fullmatch(r"\[?(\d+(?:\.\d+)?)([kKMGTPE]?)\]?\*?", word)
    if not found:
        return None
    unit = "KMGTPE".find(found[2].upper()) + 1 if found[2] else 0
    return int(float(found[1]) * (base**unit if unit else bare))
