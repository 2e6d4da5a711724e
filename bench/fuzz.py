"""Fuzzing for as long as one likes.

    # A million inputs unless said otherwise
    python bench/fuzz.py socket [INPUTS] [SEED] [SECONDS]
    # 60 s each; needs `pip install atheris`
    python bench/fuzz.py parsers [SECONDS] [NAME ...]

`socket` sends generated inputs to the door of a run with everything behind it (tests/socket_fuzz.py
says what is sent and what must hold). `parsers` lets atheris, which is led by the branches that an
input reaches, look for bytes at which one of the readers of foreign bytes raises what it may not
(tests/parser_fuzz.py).
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "src"), str(HERE / "tests")]
MEMORY = Path("/dev/shm")


def socket(count=1_000_000, seed=1, seconds=1e9):
    from socket_fuzz import fuzz

    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as base:
        found = fuzz(
            Path(base), count, seed, seconds=seconds, told=lambda f: print(said(f), flush=True)
        )
    print(said(found))
    print("answers: " + ", ".join(f"{status} {n}" for status, n in found.statuses.most_common()))
    print(*found.wrong or ["nothing wrong"], sep="\n")
    sys.exit(bool(found.wrong))


def said(found):
    used = time.process_time()
    return f"{found.inputs} inputs on {found.connections} connections in {found.seconds:.0f} s ({used:.0f} s of processor time)"


def parsers(seconds=60, *names):
    """Each in a process of its own: atheris ends its process."""
    from parser_fuzz import READERS

    failed = []
    for name in names or READERS:
        command = [
            sys.executable,
            __file__,
            "one",
            name,
            f"-max_total_time={seconds}",
            "-max_len=4096",
            "-verbosity=0",
            "-print_final_stats=1",
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir())
        runs = done.stderr.partition("stat::number_of_executed_units:")[2].split()
        print(
            f"{name:16} {runs[0] if runs else '?':>10} inputs  {'FAILED' if done.returncode else 'nothing found'}",
            flush=True,
        )
        if done.returncode:
            failed.append(name)
            print(done.stdout[-3000:], done.stderr[-3000:])
    sys.exit(bool(failed))


def one(name, *options):
    import atheris

    with atheris.instrument_imports(include=["entrepot"]):
        from parser_fuzz import READERS, STARTS

    with tempfile.TemporaryDirectory() as corpus:
        for number, start in enumerate(STARTS[name]):
            Path(corpus, str(number)).write_bytes(start)
        atheris.Setup([sys.argv[0], *options, corpus], READERS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    what, *rest = sys.argv[1:] or ["socket"]
    numbers = [int(word) if word.isdigit() else word for word in rest]
    {"socket": socket, "parsers": parsers, "one": lambda *words: one(rest[0], *rest[1:])}[what](
        *numbers
    )
