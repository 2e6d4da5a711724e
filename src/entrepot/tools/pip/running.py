"""Is pip asking its index now? It takes no lock, and needs the entry when the answer comes.

pip sends what it has of an entry (its ETag) and waits; if the index says "not modified" and the
entry is gone meanwhile, pip takes the empty answer for the page and fails (20.3 to 26.3;
CacheControl's ``update_cached_response``). Up to 26.1 it asks about every page of every install,
later ones about what is stale. So while a pip of the same user works with the same cache such
entries stay, and so does what was just written: another pip may have seen it come. Where no
processes are shown nothing is known.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from entrepot.ports.tool import Entry, Kind, Surroundings
from entrepot.tools._shared import processes
from entrepot.tools.pip.interpreters import pip_of
from entrepot.tools.pip.locations import real
from entrepot.tools.pip.places import cache_of

JUST_NOW_S = 60.0
"""Seconds after which an answer about an entry has come: pip waits a quarter of that at most,
unless it is told otherwise."""
CHECK_EACH_S = 0.1
"""Seconds between two searches: a pip that starts between them has not read a page yet."""
LAYOUTS = ("http-v2/", "http/")

_PROGRAM = re.compile(r"pip(\d+(\.\d+)?)?(\.exe|\.pyz)?|__pip-runner__\.py")
_VERBS = frozenset("install download wheel index lock".split())


def verb_of(argv: list[str]) -> str:
    """The subcommand of a pip that asks indexes; empty when a command line is something else.

    >>> verb_of(["python", "-m", "pip", "-q", "install", "x"])
    'install'
    >>> verb_of(["/usr/bin/pip3.11", "wheel", "."])
    'wheel'
    """
    words = processes.words_of(argv)
    if not words or not _PROGRAM.fullmatch(words[0]):
        return ""
    return next((word for word in words[1:12] if word in _VERBS), "")


def at_work(root: Path, euid: int) -> int | None:
    """The process id of a pip of this user that works with the cache at ``root``.

    ``None`` when none is seen.
    """
    return next(
        (
            n
            for n, argv in processes.of_user(euid)
            if (verb := verb_of(argv)) and _uses(n, argv, verb, root)
        ),
        None,
    )


def _uses(number: int, argv: list[str], verb: str, root: Path) -> bool:
    """Whether a pip's cache is this one, by its own variables and options.

    What cannot be found out may be so.
    """
    try:
        environ, cwd = processes.environment_of(number)
    except OSError:
        return True
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    around = Surroundings(environ, home, cwd)
    return cache_of(around, pip_of(Path(argv[0]), around), command=verb, options=argv) == real(
        str(root), around
    )


class RunningPips:
    """Pips at work, searched for again and again but not all the time.

    Args:
        euid: whose.
        find: the process id of one, ``None`` for none.
    """

    def __init__(self, euid: int, find: Callable[[Path, int], int | None] = at_work) -> None:
        self._euid, self._find = euid, find
        self._seen: dict[Path, tuple[float, int | None]] = {}

    def why_not(self, entry: Entry, newest: float, now: float) -> str:
        """Why an entry stays because of a pip at work; empty when it may go.

        Args:
            entry: one of pip's.
            newest: when its files were changed last, seconds since the epoch.
            now: the same, of now.
        """
        # An index's answer that a pip could use: whole, and where pips of today look.
        is_answer = (
            entry.key.startswith(LAYOUTS)
            and entry.kind is not Kind.TEMP
            and entry.removable_because not in ("superseded layout", "orphan")
        )
        is_settled = (
            entry.kind is not Kind.PAGE and entry.state == "fresh" and now - newest > JUST_NOW_S
        )
        if not is_answer or is_settled or (number := self.number(entry.place)) is None:
            return ""
        return f"pip is running (process {number}) and may be asking its index about it"

    def number(self, root: Path) -> int | None:
        """The process id of a pip at work with this cache; ``None`` when none is seen."""
        checked, number = self._seen.get(root, (float("-inf"), None))
        if time.monotonic() - checked > CHECK_EACH_S:
            number = self._find(root, self._euid)
            self._seen[root] = time.monotonic(), number
        return number
