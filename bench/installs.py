"""How long an install takes through entrepot, against the same install without it.

Cold, warm, offline; pip and uv.

    python bench/installs.py [ROUNDS] [--loopback] [--http] [--small] [--many] [--expired] [--plain]
    [--pip VERSION] [--only pip|uv]

Runs an origin of its own on loopback, in a process of its own: 10 requirements that pull 30
packages of together 10.7 MB, with metadata files (``--small``: 1.4 MB; ``--many``: 102 packages of
36 MB). It answers after 30 ms and shares 100 Mbit/s among all, or with ``--loopback`` is as fast as
it can; it speaks https, or http with ``--http``. Pages are fresh for ten minutes, or with
``--expired`` for no time, as when the second install comes a day later. The clients keep nothing of
their own (``--no-cache-dir``, ``--no-cache``) but in the row "own cache": that is pip with its own
full cache and no entrepot.

All rows of a round are taken one after the other, and the order turns with each round. A row's
figure is the median of its rounds. Start-up of ``run`` is measured in the same rounds (``entrepot
run -- true`` less ``true``) and reported apart: ``ratio`` is (row - start-up) / direct. ``cpu`` is
processor time of the client and entrepot together, in seconds; ``upstream`` counts requests that
reached the origin.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "src"), str(HERE / "tests")]

ORIGIN = """
import sys
sys.path[:0] = [{src!r}]
from entrepot.testing.origin import Origin
sizes, count = {sizes}, {count}
with Origin(host="localhost" if {tls} else "127.0.0.1", tls={tls}) as origin:
    for i in range(count):
        needs = [f"synth-{{j:04d}}>=1.0" for j in (i + 1, i + 2) if i % 3 == 0 and j < count]
        for version in ("1.0", "1.1"):
            origin.add_project(f"synth-{{i:04d}}", version, requires=needs, size=sizes[i % len(sizes)])
    origin.index_max_age = 0 if {expired} else 600
    if {link}:
        origin.latency, origin.link.rate = 0.03, 12_500_000
    print(origin.index_url, origin.ca_file if origin.tls else "-", *(f"synth-{{i:04d}}" for i in range(0, count, 3)), flush=True)
    for _ in sys.stdin:
        print(len(origin.log), flush=True)
        origin.log.clear()
"""
SMALL, LARGE = (1_000, 8_000, 30_000, 60_000, 120_000), (20_000, 120_000, 300_000, 500_000, 850_000)


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    for name in ("loopback", "http", "small", "many", "expired"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--pip", default="26.3")
    parser.add_argument("--only", choices=("pip", "uv"))
    parser.add_argument("--plain", action="store_true", help="rows without asking ahead, too")
    parser.add_argument("--run", default="", help="more options of `entrepot run`")
    parser.add_argument(
        "--log", help="append a line of each request that entrepot answered to this file"
    )
    return parser.parse_args()


class Bench:
    def __init__(self, args, folder, index, ca, names, origin):
        import clients

        self.args, self.folder, self.names, self.origin = args, folder, names, origin
        for name in ("home", "own"):
            (folder / name).mkdir()
        self.environ = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull, "PYTHONPATH": ""}
        if ca != "-":
            self.environ |= {"SSL_CERT_FILE": ca, "PIP_CERT": ca}
        if args.log:
            self.environ["ENTREPOT_LOG"] = args.log
        pip = [
            *clients.pip(args.pip),
            "install",
            "-q",
            "--disable-pip-version-check",
            "--no-compile",
            "-i",
            index,
        ]
        uv = [
            *clients.uv(),
            "pip",
            "install",
            "-q",
            "--index-url",
            index,
            "--no-cache",
            "--python",
            sys.executable,
        ]
        self.commands = {"pip": [*pip, "--no-cache-dir"], "uv": uv}
        self.own = pip
        self.launch = [sys.executable, "-m", "entrepot", "run", "-q", *args.run.split()]
        if args.only:
            self.commands = {args.only: self.commands[args.only]}
        self.rows = {}

    def take(self, name, command, *, installs=True):
        target = self.folder / "target"
        words = [*command, "--target", str(target), *self.names] if installs else command
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        environ = self.environ | {
            "HOME": str(self.folder / ("own" if "own cache" in name else "home"))
        }  # else it would be a donor
        subprocess.run(words, env=environ, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        shutil.rmtree(target, ignore_errors=True)
        self.origin.stdin.write("\n")
        self.origin.stdin.flush()
        self.rows.setdefault(name, []).append((wall, cpu, int(self.origin.stdout.readline())))

    def round(self, number):
        if not number:
            self.environ["PYTHONPATH"] = str(HERE / "src")
            self.take(
                "start",
                [*self.launch, "--store", str(self.folder / "store"), "--", "true"],
                installs=False,
            )  # byte code
            self.rows.clear()
        for client, command in self.commands.items():
            store = str(self.folder / f"store-{client}-{number}")
            run = [*self.launch, "--store", store]
            self.environ.pop("PYTHONPATH")
            if client == "pip":
                if not number:
                    self.take("filling own cache", self.own)
                    del self.rows["filling own cache"]
            ways = [(f"{client} direct", command)] + (
                [("pip own cache", self.own)] if client == "pip" else []
            )
            for name, words in ways:
                self.take(name, words)
            self.environ["PYTHONPATH"] = str(HERE / "src")
            for row, more in (("cold", []), ("warm", []), ("offline", ["--offline"])):
                self.take("true", ["true"], installs=False)
                self.take("start", [*self.launch, "--store", store, "--", "true"], installs=False)
                self.take(f"{client} {row}", [*run, *more, "--", *command])
                if self.args.plain and row != "offline":
                    self.environ["ENTREPOT_AHEAD"] = "false"
                    self.take(
                        f"{client} {row} plain",
                        [*self.launch, "--store", f"{store}-plain", "--", *command],
                    )
                    del self.environ["ENTREPOT_AHEAD"]

    def report(self):
        median = {
            name: [statistics.median(column) for column in zip(*taken, strict=True)]
            for name, taken in self.rows.items()
        }
        start = median["start"][0] - median["true"][0]
        print(
            f"start-up of run: {start:.3f} s, {median['start'][1]:.2f} s of processor time",
            flush=True,
        )
        print(
            f"{'':<16}{'wall s':>8}{'least':>8}{'cpu s':>8}{'upstream':>10}{'ratio':>8}{'with start-up':>15}"
        )
        for name, (wall, cpu, asked) in median.items():
            client, _, row = name.partition(" ")
            if not row:
                continue
            direct = median[f"{client} direct"][0]
            through = row.split()[0] in {"cold", "warm", "offline"}
            ratio = (wall - start if through else wall) / direct
            least = min(each[0] for each in self.rows[name])
            shown = f"{wall / direct:15.2f}" if through else ""
            print(f"{name:<16}{wall:8.2f}{least:8.2f}{cpu:8.2f}{asked:10.0f}{ratio:8.2f}{shown}")
        if "pip own cache" in median:
            print(
                f"pip warm / pip with its own full cache: {(median['pip warm'][0] - start) / median['pip own cache'][0]:.2f}"
            )


def main():
    args = options()
    print(json.dumps({**vars(args), "load": os.getloadavg()}), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        sizes, count = (SMALL if args.small else LARGE), (102 if args.many else 30)
        code = ORIGIN.format(
            src=str(HERE / "src"),
            link=not args.loopback,
            tls=not args.http,
            sizes=sizes,
            count=count,
            expired=args.expired,
        )
        origin = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            index, ca, *names = origin.stdout.readline().split()
            bench = Bench(args, Path(scratch), index, ca, names, origin)
            for number in range(args.rounds):
                bench.round(number)
            bench.report()
        finally:
            origin.stdin.close()
            origin.wait()
    print(json.dumps({"load": os.getloadavg()}))


if __name__ == "__main__":
    main()
