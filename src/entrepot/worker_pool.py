"""Work that would hold up the event loop, done in worker processes.

What takes a second of Python on the event loop stops every other client, in a thread it slows them
down; so large index pages and repodata are read by a ``ProcessPoolExecutor``. It is started at the
first need, with fresh interpreters (a fork of a process with threads may deadlock), and has at most
two workers. Whatever becomes of them, a caller gets a result, a :class:`FormatError` or ``None``.
"""

# ruff: noqa: SLF001 - the executor's kill_workers comes with Python 3.14, and does less

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_OPTIONS = threading.Lock()


class WorkerPool:
    """Runs functions in worker processes, for one event loop. Close it with :meth:`aclose`."""

    def __init__(self, *, workers: int = 2) -> None:
        self._workers = workers
        self._turns = asyncio.Semaphore(workers)
        self._starting = asyncio.Lock()
        self._executor: ProcessPoolExecutor | None = None
        self._ending: list[threading.Thread] = []
        self._uses_threads = False
        self._closed = False

    async def run(self, timeout_s: float, work: Callable[[*Ts], T], *arguments: *Ts) -> T | None:
        """What ``work`` returns; ``None`` when it was lost, which is no error.

        Lost is what takes too long, kills its worker twice, or needs more memory than there is.
        Where no worker can be started (no semaphores, too many processes), a thread does the work.

        Args:
            timeout_s: seconds that it may take, the wait for a free worker included.
            work: a function of a module; it, its arguments and its result are pickled.
            arguments: of ``work``.

        Raises:
            FormatError: as ``work`` does.
        """
        with suppress(TimeoutError, MemoryError, OSError):
            async with asyncio.timeout(timeout_s), self._turns:
                for _ in range(2):
                    executor = await self._ready()
                    if self._closed:
                        break
                    if executor is None:
                        return await asyncio.to_thread(work, *arguments)
                    with suppress(BrokenExecutor):
                        return await self._result(executor, work, *arguments)
        return None

    async def aclose(self) -> None:
        """End the workers; what they are at is lost. May be called twice."""
        self._closed = True
        if self._executor is not None:
            self._end(self._executor)
        for thread in self._ending:
            await asyncio.to_thread(thread.join)

    async def _ready(self) -> ProcessPoolExecutor | None:
        """The executor; ``None`` where no worker can be started."""
        async with self._starting:
            if self._executor is None and not (self._uses_threads or self._closed):
                try:
                    executor = await asyncio.to_thread(_start, self._workers)
                    if not self._closed:
                        self._executor = executor
                        # Tells workers that cannot run here from work that kills them.
                        await self._result(executor, os.getpid)
                except (ImportError, NotImplementedError, OSError, BrokenExecutor):
                    self._uses_threads = True
        return self._executor

    async def _result(
        self, executor: ProcessPoolExecutor, work: Callable[[*Ts], T], *arguments: *Ts
    ) -> T:
        """What ``work`` returns in a worker.

        Raises:
            BrokenExecutor: a worker was killed or could not be started; the executor has ended.
        """
        try:
            try:
                with _isolated():
                    future = executor.submit(work, *arguments)
            except (OSError, RuntimeError) as exc:
                raise BrokenExecutor(str(exc)) from exc
            return await asyncio.wrap_future(future)
        except BrokenExecutor:
            self._end(executor)
            raise
        except asyncio.CancelledError:
            # A worker cannot be told to stop, so all are ended when a caller has given up; what the
            # other one was at, or waited for, is done again.
            self._end(executor)
            task = asyncio.current_task()
            if task is not None and not task.cancelling():  # it is another caller that gave up
                raise BrokenExecutor("the executor was ended") from None
            raise

    def _end(self, executor: ProcessPoolExecutor) -> None:
        if self._executor is not executor:
            return  # another caller was quicker
        self._executor = None
        thread: Any = executor._executor_manager_thread
        results: Any = executor._result_queue
        # That thread would wait for ever for the rest of a result whose worker was killed while it
        # sent it, because this process could still write to the pipe.
        results._writer.close()
        for process in list(executor._processes.values()):
            process.kill()
        executor.shutdown(wait=False, cancel_futures=True)
        if thread is not None:
            self._ending.append(thread)


def _start(workers: int) -> ProcessPoolExecutor:
    # Called in a thread, because these take tens of milliseconds to import.
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415 - few need it
    from multiprocessing import get_context  # noqa: PLC0415

    with _isolated():
        return ProcessPoolExecutor(workers, get_context("spawn"), initializer=_become_worker)


@contextmanager
def _isolated() -> Iterator[None]:
    """Start processes as with ``python -I``, deaf to Ctrl-C and without warnings.

    Neither the working directory nor a variable decides what they import until they have this
    process's own path. Ctrl-C in the terminal is for the command that is run. And the process that
    counts semaphores has nothing to say when this one is killed.
    """
    from multiprocessing import util  # noqa: PLC0415 - few need it

    with _OPTIONS:
        # Private, but all of multiprocessing's processes take their options from here.
        options = util._args_from_interpreter_flags  # type: ignore[attr-defined]
        util._args_from_interpreter_flags = lambda: [*options(), "-I", "-Wignore"]  # type: ignore[attr-defined]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            util._args_from_interpreter_flags = options  # type: ignore[attr-defined]


def _become_worker() -> None:
    """What a worker does first: it yields to others, says nothing and ends with its parent."""
    from multiprocessing import parent_process  # noqa: PLC0415 - few need it

    with suppress(OSError):
        os.nice(5)
    with suppress(OSError):
        os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (1, 2):
        os.dup2(null, fd)
    parent = parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        # The queues do not tell: a worker holds both of their ends.
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
