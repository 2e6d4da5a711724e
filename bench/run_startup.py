"""How long after its own start `entrepot run` starts the command, beside starting the command alone.

    python bench/run_startup.py [RUNS]

The command is a shell that prints the clock. Both take turns, so that whatever else the machine
does hits both. The processor time is what entrepot had used up when its child began (from /proc, in
steps of 10 ms): the firmer figure on a busy machine. Byte code is cached, as it is once installed;
the store is new at the first run and kept.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"
CHILD = ["sh", "-c", "date +%s%N; cat /proc/$PPID/stat"]
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def once(words: list[str], environ: dict[str, str]) -> tuple[float, float, float]:
    """Milliseconds until the child's first word, of processor time by then, and until everything has ended."""
    begun = time.time_ns()
    done = subprocess.run([*words, *CHILD], env=environ, capture_output=True, text=True, check=True)
    ended = time.time_ns()
    clock, stat = done.stdout.split("\n")[:2]
    fields = stat.rpartition(")")[2].split()
    return (
        (int(clock) - begun) / 1e6,
        (int(fields[11]) + int(fields[12])) * TICK_MS,
        (ended - begun) / 1e6,
    )


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as home:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "PYTHONPATH": str(SOURCE),
            "PYTHONPYCACHEPREFIX": f"{home}/pyc",
        }
        ways = {
            "the command alone": [],
            "entrepot run --": [sys.executable, "-m", "entrepot", "run", "-q", "--"],
        }
        for words in ways.values():
            once(words, environ)
        taken = {name: [] for name in ways}
        for _ in range(runs):
            for name, words in ways.items():
                taken[name].append(once(words, environ))
    print(f"median of {runs}, ms       to the child   (least)  cpu by then  to the end")
    for name, each in taken.items():
        start, cpu, end = (statistics.median(column) for column in zip(*each, strict=True))
        cpu = f"{cpu:12.0f}" if name != "the command alone" else " " * 12
        print(f"{name:<24} {start:12.0f} {min(row[0] for row in each):8.0f} {cpu} {end:11.0f}")


if __name__ == "__main__":
    main()
