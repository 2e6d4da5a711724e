"""A second process that reads half of a large cache: rows in on its stdin, rows out on its stdout.

A process of its own, because ``multiprocessing`` runs the caller's main module again, whatever that does. Both ends of
the pipe are ours.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from entrepot.tools.pip.examine import Examined, Known, examine_bodies, examine_heads
from entrepot.tools.pip.index import Row

Work = Callable[[Sequence[Row], Known], Examined]

_WORKS: dict[str, Work] = {"examine_heads": examine_heads, "examine_bodies": examine_bodies}


def start(work: Work, rows: Sequence[Row], known: Known) -> subprocess.Popen[bytes] | None:
    """Begin the work elsewhere; ``None`` when no process could be started."""
    source = str(Path(__file__).parents[3])  # where this package was imported from
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "entrepot.tools.pip.worker"]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        )
        assert process.stdin is not None
        pickle.dump((work.__name__, list(rows), known), process.stdin, pickle.HIGHEST_PROTOCOL)
        process.stdin.close()
    except OSError:
        return None
    return process


def finish(process: subprocess.Popen[bytes]) -> Examined | None:
    """What the other process read; ``None`` when it failed."""
    assert process.stdout is not None
    with process:
        try:
            done = pickle.load(process.stdout)  # noqa: S301  # our own process wrote it
        except (EOFError, pickle.UnpicklingError, OSError):
            done = None
    return done if isinstance(done, Examined) and process.returncode == 0 else None


def main() -> None:
    """Do one piece of work."""
    name, rows, known = pickle.load(sys.stdin.buffer)  # noqa: S301  # our own parent wrote it
    pickle.dump(_WORKS[name](rows, known), sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)


if __name__ == "__main__":
    main()
