"""Repodata of a large channel read on its way through.

Processor time in the worker, memory, and how long the event loop was held.

    python bench/repodata.py [THOUSANDS_OF_RECORDS]

The index is made up, in the shape that conda-index writes, as `repodata.json.zst`. `json.loads` of
the same text is the measure: its time and its memory are given with ours. `find` is one archive
asked for.
"""

import asyncio
import hashlib
import io
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "src")]

import zstandard

from entrepot.serving.channels import RepodataReader, Span
from entrepot.worker_pool import WorkerPool

URL = "https://channel.test/c/linux-64/repodata.json.zst"


def name(i):
    return f"project-{i % 9000}-1.{i}-py311h{i:07x}_0.conda"


def packed(count):
    """The index, made piece by piece."""
    compressor = zstandard.ZstdCompressor(3).compressobj()
    parts = [compressor.compress(b'{"info":{"subdir":"linux-64"},"packages":{},"packages.conda":{')]
    size = 0
    for i in range(count):
        record = {
            "build": f"py311h{i:07x}_0",
            "build_number": 0,
            "constrains": ["other >=2"],
            "license": "BSD-3-Clause",
        }
        record |= {
            "depends": [
                "python >=3.11,<3.12.0a0",
                "numpy >=1.19,<3",
                "libgcc >=13",
                "libstdcxx >=13",
            ],
            "name": f"project-{i % 9000}",
        }
        record |= {
            "md5": hashlib.md5(b"%d" % i).hexdigest(),
            "sha256": hashlib.sha256(b"%d" % i).hexdigest(),
            "size": i + 1,
        }
        record |= {"subdir": "linux-64", "timestamp": 1700000000000, "version": f"1.{i}"}
        text = f'{"," if i else ""}"{name(i)}":{json.dumps(record)}'.encode()
        size += len(text)
        parts.append(compressor.compress(text))
    parts.append(compressor.compress(b'},"removed":[],"repodata_version":1}') + compressor.flush())
    return b"".join(parts), size


PLAIN = """
import io, json, resource, sys, time, zstandard
data = sys.stdin.buffer.read()
began = time.process_time()
json.loads(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read())
print(time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


async def ours(data, count):
    pool = WorkerPool(workers=1)
    reader = RepodataReader(pool)
    longest, stop = 0.0, False

    async def watch():
        nonlocal longest
        while not stop:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began)

    watching = asyncio.create_task(watch())
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    await reader.read("k", Span.of(data), url=URL)
    read_s = time.perf_counter() - began
    (process,) = pool._executor._processes.values()
    times = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(times[11]) + int(times[12])) / 100
    memory = next(
        line
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    ).split()[1]
    began = time.perf_counter()
    for i in range(0, count, max(1, count // 1000)):
        assert (await reader.find("k", name(i))).size == i + 1
    find_s = (time.perf_counter() - began) / 1000
    stop = True
    await watching
    after = resource.getrusage(resource.RUSAGE_SELF)
    await reader.aclose()
    await pool.aclose()
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"ours        {cpu:6.1f} s processor in the worker, {int(memory) // 1024} MB there; {read_s:.1f} s until it is read"
    )
    print(
        f"            {own:6.1f} s processor here, {(after.ru_maxrss - before.ru_maxrss) // 1024} MB more here; loop held {longest * 1000:.0f} ms at most"
    )
    print(f"find        {find_s * 1e6:6.0f} us")


def main():
    count = int(sys.argv[1] if len(sys.argv) > 1 else 500) * 1000
    data, size = packed(count)
    print(f"{count} records, {size >> 20} MB of JSON, {len(data) >> 20} MB packed")
    done = subprocess.run(
        [sys.executable, "-c", PLAIN], input=data, capture_output=True, check=True
    )
    seconds, memory = done.stdout.split()
    print(f"json.loads  {float(seconds):6.1f} s processor, {int(memory)} MB")
    asyncio.run(ours(data, count))


if __name__ == "__main__":
    main()
