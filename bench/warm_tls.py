"""How fast warm answers go through TLS.

One file of 100 MB to one curl, and small answers one after another.

    python bench/warm_tls.py [ROUNDS]

Runs `entrepot run` against an origin of its own on loopback, fetches a file of 100 MB and one of 2
kB once, and then measures inside one run with everything warm: MB/s of curl for the large file
(`speed_download` of curl, best and median of the rounds), the processor time of entrepot for each,
requests a second over one kept connection, and with new connections.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "src")]
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 7

CHILD = r"""
import http.client, json, os, ssl, statistics, subprocess, sys, time, urllib.parse
big, small, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
parent = os.getppid()
tick = 1 / os.sysconf("SC_CLK_TCK")

def cpu():
    fields = open(f"/proc/{parent}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * tick

def curl(*words):
    done = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{speed_download} %{http_code}\n", *words], capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return [float(line.split()[0]) / 1e6 for line in done.stdout.splitlines()]

curl(big); curl(small)
begun = cpu()
speeds = [curl(big)[0] for _ in range(rounds)]
used = (cpu() - begun) / rounds
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
import base64
basic = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
target = urllib.parse.urlsplit(small)
context = ssl.create_default_context()

def connection():
    c = http.client.HTTPSConnection(proxy.hostname, proxy.port, context=context)
    c.set_tunnel(target.hostname, target.port or 443, {"Proxy-Authorization": "Basic " + basic})
    return c

def ask(c):
    c.request("GET", target.path)
    answer = c.getresponse()
    assert answer.status == 200
    answer.read()

c = connection(); ask(c)
begun, start = cpu(), time.perf_counter()
for _ in range(1500): ask(c)
rate = 1500 / (time.perf_counter() - start); each = (cpu() - begun) / 1500
start = time.perf_counter()
for _ in range(100):
    c = connection(); ask(c); c.close()
new = 100 / (time.perf_counter() - start)
print(json.dumps({"speeds": speeds, "used": used, "rate": rate, "each": each, "new": new}))
"""


def main() -> None:
    from entrepot.testing.origin import Origin

    with tempfile.TemporaryDirectory() as home, Origin(tls=True, name="index.test") as origin:
        # random bytes: nothing on the way may make them smaller
        urls = [
            origin.add(f"/files/{name}-1.0.tar.gz", os.urandom(size))
            for name, size in (("big", 100_000_000), ("small", 2000))
        ]
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "PYTHONPATH": str(HERE / "src"),
            "SSL_CERT_FILE": str(origin.ca_file),
            "ENTREPOT_RESOLVE": origin.resolve,
        }
        words = [sys.executable, "-m", "entrepot", "run", "--host", "index.test", "--"]
        done = subprocess.run(
            [*words, sys.executable, "-c", CHILD, *urls, str(ROUNDS)],
            env=environ,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(done.stderr)
        got = json.loads(done.stdout)
        print(
            f"100 MB warm to one curl: median {statistics.median(got['speeds']):.0f} MB/s, best {max(got['speeds']):.0f}, "
            f"{1000 * got['used']:.0f} ms of entrepot's processor time each"
        )
        print(
            f"2 kB warm: {got['rate']:.0f} requests/s on one connection ({1e6 * got['each']:.0f} us of entrepot's), "
            f"{got['new']:.0f}/s with a new connection each"
        )
        print(done.stderr.strip())


if __name__ == "__main__":
    main()
