"""Work in worker processes: lost at worst, and nothing outlives the pool."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import pytest

from entrepot.errors import RepodataTooLarge
from entrepot.worker_pool import WorkerPool

# The work; it stands in a module, so that workers find it.


def kill_myself(marks):
    """End the worker as a lack of memory does, at every call."""
    with (Path(marks) / str(os.getpid())).open("w"):
        os.kill(os.getpid(), signal.SIGKILL)


def kill_the_first(mark):
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def refuse(text):
    raise RepodataTooLarge("not that", text=text, position=3)


def run_out_of_memory():
    raise MemoryError


def sleep(mark):
    Path(mark).write_text(str(os.getpid()))
    time.sleep(60)


class Cut:
    """A result in whose sending the worker is killed: its parent is stopped until that is begun."""

    def __reduce__(self):
        threading.Thread(target=self._kill, daemon=True).start()
        return bytes, (b"x" * (50 << 20),)

    @staticmethod
    def _kill():
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(os.getppid(), signal.SIGCONT)
        os.kill(os.getpid(), signal.SIGKILL)


def about_me():
    return {
        "isolated": sys.flags.isolated,
        "nice": os.nice(0),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "blocked": signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "out": [os.path.samestat(os.fstat(fd), os.stat(os.devnull)) for fd in (1, 2)],
    }


def run(work, **options):
    """Run ``work(pool)`` and close the pool."""

    async def main():
        pool = WorkerPool(**options)
        try:
            return await asyncio.wait_for(work(pool), 60)
        finally:
            await pool.aclose()

    return asyncio.run(main())


def pids(pool):
    return list(pool._executor._processes) if pool._executor is not None else []


async def written(path):
    while not path.exists() or not path.read_text():
        await asyncio.sleep(0.01)
    return int(path.read_text())


def test_nothing_is_started_before_the_first_work_and_workers_are_kept():
    async def work(pool):
        return pids(pool), {await pool.run(60, os.getpid) for _ in range(9)}, pids(pool)

    before, used, after = run(work)
    assert before == []
    assert used <= set(after)
    assert len(after) <= 2


def test_never_more_than_two_workers_and_none_after_the_end():
    async def main():
        pool = WorkerPool()
        took = await asyncio.gather(*(pool.run(60, time.sleep, 0.05) for _ in range(6)))
        started = pids(pool)
        await pool.aclose()
        await pool.aclose()
        return took, started, await pool.run(60, len, "abc")

    took, started, after = asyncio.run(main())
    assert took == [None] * 6
    assert len(started) == 2
    assert after is None
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_worker_is_isolated_silent_nice_and_deaf_to_the_terminal():
    async def work(pool):
        return await pool.run(60, about_me)

    about = run(work)
    assert about["parent"] == os.getpid()
    assert about["isolated"] == 1
    assert about["nice"] >= min(os.nice(0) + 5, 19)
    assert about["session"] != os.getsid(0)
    assert about["blocked"]
    assert about["out"] == [True, True]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize("module", ["multiprocessing", "pickle", "signal", "json", "struct"])
def test_a_module_of_the_working_directory_is_never_imported_by_a_worker(
    module, tmp_path, monkeypatch
):
    (tmp_path / f"{module}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def work(pool):
        return await pool.run(60, os.getpid)

    assert run(work) not in {None, os.getpid()}


def test_what_the_work_refuses_is_raised_with_all_it_says():
    async def work(pool):
        with pytest.raises(RepodataTooLarge) as refused:
            await pool.run(60, refuse, "text")
        return refused.value, await pool.run(60, len, "abc")

    error, after = run(work)
    assert (error.message, error.text, error.position, after) == ("not that", "text", 3, 3)


def test_work_whose_worker_is_killed_is_done_again_once(tmp_path):
    async def work(pool):
        return await pool.run(60, kill_the_first, str(tmp_path / "mark"))

    assert run(work) == "done"


def test_work_that_kills_every_worker_is_lost_and_never_done_in_this_process(tmp_path):
    async def work(pool):
        return await pool.run(60, kill_myself, str(tmp_path)), await pool.run(60, len, "abc")

    assert run(work) == (None, 3)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_worker_killed_between_two_works_is_replaced():
    async def work(pool):
        first = await pool.run(60, os.getpid)
        os.kill(first, signal.SIGKILL)
        return first, await pool.run(60, os.getpid)

    first, second = run(work)
    assert second not in {None, first, os.getpid()}


def test_work_that_takes_too_long_or_too_much_memory_is_lost(tmp_path):
    async def work(pool):
        lost = await pool.run(60, run_out_of_memory), await pool.run(1, sleep, tmp_path / "pid")
        return lost, pids(pool), await pool.run(60, len, "abc")

    assert run(work) == ((None, None), [], 3)


def test_work_that_nobody_wants_any_more_ends_its_worker_and_the_other_one_goes_on(tmp_path):
    async def work(pool):
        unwanted = asyncio.create_task(pool.run(60, sleep, tmp_path / "pid"))
        pid = await written(tmp_path / "pid")
        other = asyncio.create_task(pool.run(60, time.sleep, 0.5))
        while len(pids(pool)) < 2:
            await asyncio.sleep(0.01)
        unwanted.cancel()
        with pytest.raises(asyncio.CancelledError):
            await unwanted
        await other
        return pid, await pool.run(60, len, "abc")

    pid, after = run(work)
    assert after == 3
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_work_that_another_caller_has_cancelled_with_the_executor_is_done_again():
    """What no worker had begun is cancelled when all are ended, and its own caller wants it still."""

    async def work(pool):
        executor = await pool._ready()
        submit = executor.submit

        def begun_by_nobody(*_args):
            executor.submit = submit
            never = Future()
            asyncio.get_running_loop().call_soon(never.cancel)
            return never

        executor.submit = begun_by_nobody
        return await pool.run(60, len, "abc")

    assert run(work) == 3


def test_a_worker_killed_while_it_sends_its_result_keeps_this_process_from_nothing():
    code = """
import asyncio, test_worker_pool
from entrepot.worker_pool import WorkerPool
async def main():
    pool = WorkerPool(workers=1)
    lost = await pool.run(3, test_worker_pool.Cut)
    print(lost, await pool.run(60, len, "abc"))
    await pool.aclose()
asyncio.run(main())
"""
    done = _run_python(code)
    assert (done.returncode, done.stdout) == (0, b"None 3\n")


@pytest.mark.parametrize(
    "wrong",
    [OSError("no room for a process"), ImportError("no semaphores"), NotImplementedError()],
    ids=["OSError", "ImportError", "NotImplementedError"],
)
def test_where_no_worker_can_be_made_a_thread_does_the_work(wrong, monkeypatch):
    def fail(*_args, **_options):
        raise wrong

    monkeypatch.setattr(ProcessPoolExecutor, "__init__", fail)

    async def work(pool):
        return await pool.run(60, os.getpid), await pool.run(60, os.getpid)

    assert run(work) == (os.getpid(), os.getpid())


def test_where_processes_cannot_be_started_or_end_at_once_a_thread_does_the_work(monkeypatch):
    async def work(pool):
        return await pool.run(60, os.getpid)

    def refuse_to_start(_self):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(multiprocessing.context.SpawnProcess, "start", refuse_to_start)
        assert run(work) == os.getpid()
    with monkeypatch.context() as patched:
        patched.setattr("multiprocessing.spawn.get_executable", lambda: b"/bin/false")
        assert run(work) == os.getpid()


@pytest.mark.parametrize("how", [signal.SIGKILL, None], ids=["killed", "ended"])
def test_workers_end_with_their_parent_and_it_says_nothing(how):
    code = f"""
import asyncio, os, time
from entrepot.worker_pool import WorkerPool
async def main():
    pool = WorkerPool()
    print(await pool.run(60, os.getpid), flush=True)
    if {how is not None}:
        os.kill(os.getpid(), {int(how or 0)})
    await pool.aclose()
asyncio.run(main())
"""
    done = _run_python(code)
    assert (done.returncode, done.stderr) == (-int(how or 0), b"")
    deadline = time.monotonic() + 20
    while _is_running(int(done.stdout)):
        assert time.monotonic() < deadline, "the worker outlives its parent"
        time.sleep(0.05)


def _run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        check=False,
        timeout=60,
    )


def _is_running(pid):
    """A process that has ended but that nobody has waited for yet does not run."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_pool_that_is_closed_while_it_starts_leaves_no_process():
    async def main():
        pool = WorkerPool()
        task = asyncio.create_task(pool.run(60, time.sleep, 30))
        await asyncio.sleep(0)
        await pool.aclose()
        return await task, pids(pool)

    assert asyncio.run(main()) == (None, [])
    assert multiprocessing.active_children() == []


def test_closing_while_work_is_under_way_waits_for_the_end_of_its_worker(tmp_path):
    async def main():
        pool = WorkerPool()
        task = asyncio.create_task(pool.run(60, sleep, tmp_path / "pid"))
        pid = await written(tmp_path / "pid")
        task.cancel()
        await pool.aclose()
        await asyncio.gather(task, return_exceptions=True)
        await pool.aclose()
        return pid

    pid = asyncio.run(main())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
