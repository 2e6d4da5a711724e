"""Is conda or mamba changing an environment now? Neither locks the packages it is about to link.

Only processes of the same user are looked for, and only where the system shows them (``/proc``);
elsewhere nothing is known and a package that was unused for long may go while an installation has
just chosen it. It would have to be started again.
"""

from __future__ import annotations

import re
from pathlib import Path

from entrepot.tools._shared import processes

_PROGRAM = re.compile(r"(?:conda|mamba|micromamba|conda-env|mamba-exe)(?:\.exe)?")
_VERBS = frozenset(
    "create install update upgrade remove uninstall env rename build clean self".split()
)
"""Subcommands that read packages for longer than a moment."""
_RUNNING = "conda or mamba is running"


def is_client(argv: list[str]) -> bool:
    """Whether a command line is one of conda's or mamba's that links packages.

    >>> is_client(["/opt/conda/bin/python", "/opt/conda/bin/conda", "create", "-n", "x"])
    True
    >>> is_client(["conda", "info"])
    False
    """
    words = processes.words_of(argv[:9])
    return (
        bool(words)
        and _PROGRAM.fullmatch(words[0]) is not None
        and not _VERBS.isdisjoint(words[1:6])
    )


def client(euid: int, proc: Path = Path("/proc")) -> int | None:
    """The process id of a client of this user that may be about to link packages.

    ``None`` when none is seen.

    Args:
        euid: the user; -1 finds no process.
        proc: the process file system.
    """
    return next((number for number, argv in processes.of_user(euid, proc) if is_client(argv)), None)


def reason(number: int) -> str:
    """Why a package stays while a client runs."""
    return f"{_RUNNING} (process {number}) and may be about to link to it"
