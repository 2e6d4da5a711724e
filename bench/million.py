"""Whether a store stays quick as it grows.

Look-up, put, eviction and start with a thousand and with a million entries.

    python bench/million.py [DIRECTORY] [COUNT ...]

The heads and bodies are made in the catalogue; on the disk lie as many real ones as the figures
need (the least recently used, which eviction takes, and some that are looked up). With COUNT a
million it takes some minutes and about 1.5 GB.
"""

import asyncio
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE / "src"))

from entrepot.serving.lookup import Entries
from entrepot.digests import Digest
from entrepot.stored import Head, body_key, cache_key
from entrepot.httpcache.messages import Headers, ResponseHead, StoredResponse
from entrepot.ports.clock import SystemClock
from entrepot.store.catalogue import open_catalogue
from entrepot.store.directory import DirectoryStore

REAL = 2000
SIZE = 4096


def entry(number: int) -> tuple[str, str, Head, bytes]:
    data = b"%015d\n" % number * (SIZE // 16)
    url = f"https://files.test/packages/{number:040x}/demo-1.{number}-py3-none-any.whl"
    digest = Digest("sha256", hashlib.sha256(data).hexdigest())
    stored = StoredResponse(
        ResponseHead(200, Headers([("ETag", f'"{number}"')])), (), 1.0, 1.0, SIZE
    )
    head = Head(
        url,
        "GET",
        stored,
        digest,
        proven=(digest,),
        project="demo",
        version=f"1.{number}",
        filename=url[-30:],
        kind="wheel",
    )
    return url, f"{cache_key(url)}/0", head, data


def fill(root: Path, count: int) -> float:
    store, catalogue = DirectoryStore(root, cap=10**15), open_catalogue(root)
    start, now = time.perf_counter(), time.time()
    batch = []
    for number in range(count):
        url, key, head, data = entry(number)
        batch.append((key, head, now - 10**7 + number, SIZE))
        if len(batch) == 5000:
            catalogue._record(batch)
            batch = []
    catalogue._record(batch)
    took = time.perf_counter() - start

    def real() -> None:
        for number in range(min(count, REAL)):
            _, key, head, data = entry(number)
            store.put(body_key(head.body), data)
            store.put(key, head.to_bytes())
            for each in (key, body_key(head.body)):
                os.utime(root / each, (now - 10**7 + number,) * 2)

    real()
    catalogue._write(lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES ('complete', '1')"))
    catalogue.close()
    store.close()
    return took / count * 1e6


def median_us(work, times: int) -> float:
    took = []
    for number in range(times):
        start = time.perf_counter()
        work(number)
        took.append(time.perf_counter() - start)
    return statistics.median(took) * 1e6


def measure(root: Path, count: int) -> dict[str, float]:
    figures = {"fill, us an entry": fill(root, count)}
    runner = asyncio.Runner()
    code = (
        "import sys; from pathlib import Path; from entrepot.store.catalogue import open_catalogue;"
        "from entrepot.store.directory import DirectoryStore; p = Path(sys.argv[1]);"
        "s, c = DirectoryStore(p), open_catalogue(p); c.needs_rebuild; c.hosts(); s.usage(c)"
    )
    environ = {**os.environ, "PYTHONPATH": str(HERE / "src")}
    starts = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, root], env=environ, check=True)
        starts.append(time.perf_counter() - start)
    figures["a process that opens it and asks its size, ms"] = min(starts) * 1e3
    store, catalogue = DirectoryStore(root, cap=10**15), open_catalogue(root)
    entries = Entries(store, catalogue, SystemClock())
    known = [entry(REAL - 1 - n % 500) for n in range(500)]

    def look(n: int) -> None:
        (head,) = runner.run(entries.load(known[n % 500][0]))
        runner.run(entries.open_body(head)).close()

    figures["look-up of an entry and its body, us"] = median_us(look, 1000)
    figures["put of a head with its record, us"] = median_us(
        lambda n: runner.run(entries.save(known[n % 500][0], known[n % 500][2])), 500
    )
    figures["usage, us"] = median_us(lambda n: store.usage(catalogue), 200)
    figures["eviction that finds room, us"] = median_us(lambda n: store.evict(catalogue), 100)
    took = []
    for _ in range(8):
        total = store.usage(catalogue).total
        small = DirectoryStore(root, cap=int((total - 100 * (SIZE + 8192)) / 0.95))
        start = time.perf_counter()
        done = small.evict(catalogue) if small.cap < total else None
        if (
            done is None
        ):  # a store so big that 5 per cent are more than these: ask for the room instead
            big = DirectoryStore(root, cap=total)
            start = time.perf_counter()
            from entrepot.store import gc

            gc.LOW_WATER = (total - 100 * (SIZE + 8192)) / total
            done = big.evict(catalogue, needed=1)
            gc.LOW_WATER = 0.95
        took.append((time.perf_counter() - start) / max(1, done.bodies))
        assert 90 <= done.bodies <= 210, done
    figures["eviction, us a body"] = statistics.median(took) * 1e6
    catalogue.close()
    store.close()
    figures["catalogue on disk, MB"] = sum(p.stat().st_size for p in root.glob("catalogue*")) / 1e6
    return figures


def main() -> None:
    counts = [int(each) for each in sys.argv[2:]] or [2000, 100_000, 1_000_000]
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as base:
        found = {}
        for count in counts:
            found[count] = measure(Path(base, str(count)), count)
            shutil.rmtree(Path(base, str(count)))
        print(f"{'entries':46}" + "".join(f"{count:>12,}" for count in counts))
        for name in found[counts[0]]:
            print(f"{name:46}" + "".join(f"{found[count][name]:12.1f}" for count in counts))


if __name__ == "__main__":
    main()
