"""Large pages, read beside."""

import asyncio
import gc
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entrepot.errors import InvalidPage
from entrepot.simple.page import read_page
from entrepot.simple.worker import SMALL, PageReader
from stopwatch import Stopwatch

JSON = "application/vnd.pypi.simple.v1+json"
URL = "https://index.test/simple/some-project/"


def json_page(files):
    entries = []
    for i in range(files):
        digest = hashlib.sha256(b"%d" % i).hexdigest()
        name = f"some_project-{i // 40}.{i % 40}.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
        entries.append(
            {
                "filename": name,
                "url": f"https://files.test/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{name}",
                "hashes": {"sha256": digest},
                "core-metadata": {"sha256": digest[::-1]},
                "requires-python": ">=3.8",
                "size": i,
                "upload-time": "2024-01-02T03:04:05.123456Z",
                "yanked": False,
            }
        )
    return json.dumps(
        {"meta": {"api-version": "1.1"}, "name": "some-project", "files": entries}
    ).encode()


def run(work):
    """Run ``work(reader)`` and close the reader."""

    async def main():
        reader = PageReader()
        try:
            return await asyncio.wait_for(work(reader), 60)
        finally:
            await reader.aclose()

    return asyncio.run(main())


def test_a_small_page_is_read_without_a_process():
    async def work(reader):
        page = await reader.read(json_page(3), content_type=JSON, url=URL)
        return page, len(reader._all)

    assert run(work) == (read_page(json_page(3), content_type=JSON, url=URL), 0)


@pytest.mark.parametrize("form", ["bytes", "path", "gzip"])
def test_a_large_page_read_beside_says_the_same(form, tmp_path):
    body = json_page(800)
    assert len(body) > SMALL
    (tmp_path / "page").write_bytes(body)
    given = {"bytes": body, "path": tmp_path / "page", "gzip": gzip.compress(body)}[form]

    async def work(reader):
        coding = "gzip" if form == "gzip" else None
        page = await reader.read(given, content_type=JSON, url=URL, content_encoding=coding)
        again = await reader.read(given, content_type=JSON, url=URL, content_encoding=coding)
        return page, again, len(reader._all)

    expected = read_page(body, content_type=JSON, url=URL)
    assert run(work) == (expected, expected, 1)


def test_a_large_page_that_is_none_is_invalid_and_the_next_one_is_read():
    async def work(reader):
        for body, coding in (
            (b"{" * SMALL, None),
            (b"\x1f\x8b" * SMALL, "gzip"),
            (b"x" * SMALL, "br"),
        ):
            with pytest.raises(InvalidPage):
                await reader.read(body, content_type=JSON, url=URL, content_encoding=coding)
        return len((await reader.read(json_page(800), content_type=JSON, url=URL)).links), len(
            reader._all
        )

    assert run(work) == (1600, 1)


def test_odd_text_comes_back_as_it_would_inline():
    body = json_page(800).replace(b"some_project-0.0.0", b"so\\u0000me-\\ud800-0.0")

    async def work(reader):
        return await reader.read(body, content_type=JSON, url=URL)

    assert run(work) == read_page(body, content_type=JSON, url=URL)


def test_a_page_whose_process_dies_is_lost_and_the_next_one_is_read():
    async def work(reader):
        first = await reader.read(json_page(800), content_type=JSON, url=URL)
        (process,) = reader._all
        os.kill(process.pid, signal.SIGKILL)
        lost = await reader.read(json_page(800), content_type=JSON, url=URL)
        third = await reader.read(json_page(800), content_type=JSON, url=URL)
        return first == third, lost

    assert run(work) == (True, None)


def test_a_page_that_takes_too_long_is_lost_and_its_process_ended():
    async def main():
        reader = PageReader(timeout_s=0.001)
        page = await reader.read(json_page(800), content_type=JSON, url=URL)
        left = len(reader._all)
        await reader.aclose()
        return page, left

    assert asyncio.run(main()) == (None, 0)


def test_never_more_than_two_processes_and_none_after_the_end():
    async def main():
        reader = PageReader()
        pages = await asyncio.gather(
            *(reader.read(json_page(800), content_type=JSON, url=URL) for _ in range(5))
        )
        pids = [process.pid for process in reader._all]
        await reader.aclose()
        await reader.aclose()
        lost = await reader.read(json_page(800), content_type=JSON, url=URL)
        return [len(page.links) for page in pages], pids, lost

    counts, pids, lost = asyncio.run(main())
    assert counts == [1600] * 5
    assert 1 <= len(pids) <= 2
    assert lost is None
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_cancelled_read_ends_its_process():
    async def work(reader):
        task = asyncio.create_task(reader.read(json_page(20_000), content_type=JSON, url=URL))
        while not reader._all:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(reader._all), len(
            (await reader.read(json_page(800), content_type=JSON, url=URL)).links
        )

    assert run(work) == (0, 1600)


def test_a_file_that_is_gone_is_a_lost_page(tmp_path):
    async def work(reader):
        return await reader.read(tmp_path / "gone", content_type=JSON, url=URL)

    assert run(work) is None


def test_a_module_of_the_working_directory_is_never_imported_by_the_process(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def work(reader):
        return await reader.read(json_page(800), content_type=JSON, url=URL)

    assert len(run(work).links) == 1600


def test_twenty_megabytes_of_json_hold_up_nobody():
    """A ticker of 5 ms on the loop.

    Measured on two cores: held up by 30 to 45 ms at most, 20 ms in 99 of 100.
    """
    body = json_page(33_000)
    assert len(body) > 18 << 20

    async def work(reader):
        late = []

        async def tick():
            while True:
                watch = Stopwatch()
                await asyncio.sleep(0.005)
                late.append(watch.seconds())

        ticker = asyncio.create_task(tick())
        await asyncio.sleep(0.02)
        page = await reader.read(body, content_type=JSON, url=URL)
        ticker.cancel()
        return len(page.links), len(late), max(late)

    gc.collect()  # what other tests have left is not to be looked through meanwhile
    links, ticks, worst = run(work)
    assert links == 66_000
    assert ticks > 40
    assert worst < 0.5


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks /proc which processes run")
def test_a_process_ends_when_its_parent_is_killed():
    code = """
import asyncio, os, signal
from entrepot.simple.worker import PageReader
async def main():
    reader = PageReader()
    process = await reader._start()
    print(process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while _is_running(int(done.stdout)):
        assert time.monotonic() < deadline, "the process outlives its parent"
        time.sleep(0.05)


def _is_running(pid):
    """A process that has ended but that nobody has waited for yet does not run."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
