"""Work in a process beside, so that nobody waits for it.

What takes a second on the event loop stops every other client.

:class:`Beside` starts processes when they are needed and asks them; :func:`answer` is the process's
side. Both ends speak in frames of msgpack; a question may have a body, which is sent piece by
piece. What is asked is the business of :mod:`entrepot.simple.worker` and
:mod:`entrepot.channel.worker`.

The processes read no environment and answer nothing but their questions. They end with their
standard input, so also when the parent is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from entrepot.errors import FormatError

T = TypeVar("T")
Frame = dict[str, Any]

PIECE = 256 << 10
"""Bytes of a body sent at once; also about the most that an answer's frame has."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes that can be read: a whole body, wherever it is."""

    read: Callable[[int, int], bytes]
    """Gives at most ``count`` bytes from ``start``."""
    size: int

    @classmethod
    def of(cls, data: bytes) -> Span:
        """Of bytes at hand."""
        return cls(lambda start, count: data[start : start + count], len(data))

    def whole(self) -> bytes:
        """All of it."""
        return self.read(0, self.size)

    def pieces(self) -> Iterator[bytes]:
        """All of it, piece by piece; short when it was cut under our hands."""
        at = 0
        while at < self.size and (piece := self.read(at, min(PIECE, self.size - at))):
            at += len(piece)
            yield piece


class Beside:
    """Processes of one kind, for one event loop.

    Close it with :meth:`aclose`; nothing is started before the first question.

    Args:
        module: whose function ``main`` the processes run.
        workers: how many there are at most.
        timeout_s: seconds that one question may take, the wait for a free process included.
    """

    def __init__(self, module: str, *, workers: int, timeout_s: float) -> None:
        self._module = module
        self._free = asyncio.Semaphore(workers)
        self._idle: list[Process] = []
        self._all: set[Process] = set()
        self._timeout_s = timeout_s
        self._closed = False

    async def ask(self, question: Frame, body: Span, take: Callable[[Frame], T | None]) -> T | None:
        """The answer; ``None`` when it was lost: the process died or took too long.

        A lost answer is no error.

        Args:
            question: what the process is asked.
            body: sent after it.
            take: given each frame of the answer; what it returns, if not ``None``, is the end of
                it.

        Raises:
            FormatError: whatever ``take`` raises of the kind; that, too, is the end of it.
        """
        if self._closed:
            return None
        refusal: FormatError | None = None
        try:
            async with asyncio.timeout(self._timeout_s), self._free:
                process = self._idle.pop() if self._idle else await self._start()
                healthy = False
                try:
                    answered = await _converse(process, question, body, take)
                    healthy = True
                except FormatError as exc:
                    healthy, refusal, answered = True, exc, None
                finally:
                    if healthy and not self._closed:
                        self._idle.append(process)
                    else:
                        await self._end(process)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError):
            return None
        if refusal is not None:
            raise refusal
        return answered

    async def aclose(self) -> None:
        """End the processes; what is being asked is lost. May be called twice."""
        self._closed = True
        for process in list(self._all):
            await self._end(process)
        self._idle.clear()

    async def _start(self) -> Process:
        # -I: neither the working directory nor variables decide what is imported there. A session
        # of its own: Ctrl-C in the terminal is for the command that is run; these end with their
        # input.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.path[:0] = sys.argv[1:]; from {self._module} import main; main()",
            *_import_path(),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            limit=2 * PIECE,
            start_new_session=True,
        )
        self._all.add(process)
        return process

    async def _end(self, process: Process) -> None:
        self._all.discard(process)
        with suppress(ProcessLookupError):
            process.kill()
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def _import_path() -> list[str]:
    """Where this process imports from; ours first, relative entries left out."""
    return [
        str(Path(__file__).absolute().parents[1]),
        *(entry for entry in sys.path if Path(entry).is_absolute()),
    ]


async def _converse(
    process: Process, question: Frame, body: Span, take: Callable[[Frame], T | None]
) -> T:
    import msgpack  # noqa: PLC0415 - late: who asks nothing does without

    assert process.stdin is not None
    assert process.stdout is not None
    head = msgpack.packb(question)
    process.stdin.write(b"%08x%016x" % (len(head), body.size) + head)
    for piece in body.pieces():
        process.stdin.write(piece)
        await process.stdin.drain()
    while True:
        size = int(await process.stdout.readexactly(8), 16)
        taken = take(msgpack.unpackb(await process.stdout.readexactly(size)))
        if taken is not None:
            return taken
        await asyncio.sleep(0)


# The process's side


def answer(answers: Callable[[Frame, Iterator[bytes]], Iterator[Frame]]) -> None:
    """Answer questions on standard input until it ends.

    Args:
        answers: given a question and the pieces of its body; no frame may come before the whole
            body was read, but what is left of it at the end is skipped.
    """
    import msgpack  # noqa: PLC0415 - late: the parent may never need it

    with suppress(OSError, AttributeError):
        os.nice(5)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while (head := source.read(24)) and len(head) == 24:
        question_size, body_size = int(head[:8], 16), int(head[8:], 16)
        question, body = msgpack.unpackb(source.read(question_size)), _pieces(source, body_size)
        for frame in answers(question, body):
            for _ in body:
                pass
            _send(sink, frame)


def _pieces(source: BinaryIO, size: int) -> Iterator[bytes]:
    while size and (piece := source.read(min(PIECE, size))):
        size -= len(piece)
        yield piece


def _send(sink: BinaryIO, frame: Frame) -> None:
    import msgpack  # noqa: PLC0415 - late: the parent may never need it

    raw = msgpack.packb(frame, unicode_errors="replace")
    sink.write(b"%08x" % len(raw) + raw)
    sink.flush()
