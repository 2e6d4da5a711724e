"""Is conda or mamba changing an environment right now? Neither locks the packages that it is about to link.

Only processes of the same user are looked for, and only where the system shows them (``/proc``); elsewhere nothing is known and a
package that was unused for long may go while an installation has just chosen it. It would have to be started again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_PROGRAM = re.compile(r"(?:conda|mamba|micromamba|conda-env|mamba-exe)(?:\.exe)?")
_VERBS = frozenset("create install update upgrade remove uninstall env rename build clean self".split())
"""Subcommands that read packages for longer than a moment."""
_RUNNING = "conda or mamba is running"


def is_client(argv: list[str]) -> bool:
    """Whether a command line is one of conda's or mamba's that links packages.

    >>> is_client(["/opt/conda/bin/python", "/opt/conda/bin/conda", "create", "-n", "x"]), is_client(["conda", "info"])
    (True, False)
    """
    words = [os.path.basename(word) for word in argv[:9]]  # noqa: PTH119  # words, not paths
    if words and words[0].startswith("python"):
        words = words[2:] if words[1:2] == ["-m"] else words[1:]
    return bool(words) and _PROGRAM.fullmatch(words[0]) is not None and not _VERBS.isdisjoint(words[1:6])


def client(euid: int, proc: Path = Path("/proc")) -> int | None:
    """The process id of a client of this user that may be about to link packages; ``None`` when none is seen.

    Args:
        euid: the user; -1 looks for nobody.
        proc: the process file system.
    """
    if euid < 0:
        return None
    try:
        numbers = [name for name in os.listdir(proc) if name.isdigit() and int(name) != os.getpid()]  # noqa: PTH208
    except OSError:
        return None
    for number in numbers:
        try:
            folder = proc / number
            if folder.stat().st_uid == euid and is_client((folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")):
                return int(number)
        except OSError:
            continue
    return None


def reason(number: int) -> str:
    """Why a package stays while a client runs."""
    return f"{_RUNNING} (process {number}) and may be about to link to it"


def is_for_client(pinned: str) -> bool:
    """Whether a package stays because a client runs."""
    return pinned.startswith(_RUNNING)
