"""How long an install takes through entrepot, against the same install without it: cold, warm, offline; pip and uv.

    python bench/installs.py [ROUNDS] [--link | --loopback]

Runs an origin of its own on loopback in a process of its own: 10 requirements that pull 30 packages of together 1.4 MB, with
metadata files. With ``--link`` (the default) it answers after 30 ms and shares 100 Mbit/s; with ``--loopback`` it is as fast as it can.
The clients keep nothing of their own (``--no-cache-dir``, ``--no-cache``) but in the row "own cache", which is pip with its own full
cache and no entrepot. Every ratio's two sides are medians of the same rounds, alternating. Start-up of ``run`` is part of its times.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "src")]
ROUNDS = next((int(word) for word in sys.argv[1:] if word.isdigit()), 3)
LINK = "--loopback" not in sys.argv

ORIGIN = """
import sys
sys.path[:0] = [{src!r}]
from entrepot.testing.origin import Origin
with Origin(host="localhost" if {tls} else "127.0.0.1", tls={tls}) as origin:
    firsts = origin.synth(30)
    if {link}:
        origin.latency, origin.link.rate = 0.03, 12_500_000
    print(origin.index_url, origin.ca_file if origin.tls else "-", *firsts, flush=True)
    sys.stdin.read()
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for tls in (False, True):
            code = ORIGIN.format(src=str(HERE / "src"), link=LINK, tls=tls)
            origin = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            try:
                index, ca, *names = origin.stdout.readline().split()
                measure(index, ca, names, Path(scratch, "https" if tls else "http"), tls)
            finally:
                origin.stdin.close()
                origin.wait()


def measure(index: str, ca: str, names: list[str], folder: Path, tls: bool) -> None:
    folder.mkdir()
    home = folder / "home"
    home.mkdir()
    environ = {"HOME": str(home), "PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull, "PYTHONPATH": str(HERE / "src")}
    if tls:
        environ |= {"SSL_CERT_FILE": ca, "PIP_CERT": ca}
    uv = str(Path(sys.prefix, "bin", "uv"))
    clients = {
        "pip": [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--no-compile",
            "-i",
            index,
            "--no-cache-dir",
        ],
        "uv": [uv, "pip", "install", "-q", "--index-url", index, "--no-cache", "--python", sys.executable],
    }
    run = [sys.executable, "-m", "entrepot", "run", "-q", "--store"]
    rows: dict[str, dict[str, list[float]]] = {name: {} for name in clients}

    def timed(client: str, row: str, command: list[str]) -> None:
        target = folder / "target"
        start = time.perf_counter()
        subprocess.run([*command, "--target", str(target), *names], env=environ, check=True, stdout=subprocess.DEVNULL)
        rows[client].setdefault(row, []).append(time.perf_counter() - start)
        shutil.rmtree(target)

    for number in range(ROUNDS):
        for client, command in clients.items():
            store = str(folder / f"store-{client}-{number}")
            timed(client, "direct", command)
            timed(client, "cold", [*run, store, "--", *command])
            timed(client, "warm", [*run, store, "--", *command])
            timed(client, "offline", [*run, store, "--offline", "--", *command])
            if client == "pip" and tls:
                own = [word for word in command if word != "--no-cache-dir"]
                if not number:
                    timed(client, "filling own cache", own)
                timed(client, "own cache", own)
    for client, times in rows.items():
        medians = {row: statistics.median(values) for row, values in times.items()}
        line = {row: f"{value:.2f} s, {value / medians['direct']:.2f} of direct" for row, value in medians.items()}
        print(
            json.dumps({"scheme": "https" if tls else "http", "link": LINK, "client": client, "rounds": ROUNDS, **line}, indent=1),
            flush=True,
        )


if __name__ == "__main__":
    main()
