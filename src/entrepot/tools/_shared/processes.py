"""Which programs of a user are at work right now, where the system shows them (``/proc``).

Elsewhere nothing is known.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

_WITH_VALUE = frozenset(("-X", "-W"))


def words_of(argv: Sequence[str]) -> list[str]:
    """A command line from its program on, less the Python that runs it and that one's options.

    Base names, not paths.

    >>> words_of(["/usr/bin/python3", "-X", "dev", "-m", "pip", "list"])
    ['pip', 'list']
    >>> words_of(["/opt/conda/bin/python", "/opt/conda/bin/conda", "create"])
    ['conda', 'create']
    """
    words = [os.path.basename(word) for word in argv]  # words, not paths
    if words and words[0].startswith("python"):
        words = words[1:]
        while words and words[0].startswith("-"):
            words = words[2 if words[0] in _WITH_VALUE else 1 :]
    return words


def of_user(euid: int, proc: Path = Path("/proc")) -> Iterator[tuple[int, list[str]]]:
    """The other processes of a user, each with its command line.

    Args:
        euid: the user; -1 is none.
        proc: the process file system.
    """
    try:
        numbers = [int(name) for name in os.listdir(proc) if name.isdigit()] if euid >= 0 else []
    except OSError:
        return
    for number in numbers:
        try:
            folder = proc / str(number)
            if number != os.getpid() and folder.stat().st_uid == euid:
                yield (
                    number,
                    (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0"),
                )
        except OSError:
            continue


def environment_of(number: int, proc: Path = Path("/proc")) -> tuple[dict[str, str], Path]:
    """The variables that a process was started with, and its working directory.

    Raises:
        OSError: they cannot be read.
    """
    folder = proc / str(number)
    pairs = (
        pair.partition("=") for pair in os.fsdecode((folder / "environ").read_bytes()).split("\0")
    )
    return {name: value for name, found, value in pairs if found}, (folder / "cwd").readlink()
