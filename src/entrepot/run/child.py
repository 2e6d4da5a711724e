"""The child of a run: its process, its terminal, and the signals that we alone were sent.

No event loop is needed to start it: that is loaded while the child starts up itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, Protocol

FORWARDED = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGINT", "SIGQUIT", "SIGCONT")
FROM_TERMINAL = ("SIGINT", "SIGQUIT", "SIGTSTP")
"""Sent by a terminal to the whole foreground group: the child has them already."""

CANNOT_RUN, NOT_FOUND = 126, 127
"""What a shell says of a command that may not be executed, and of one that is not there (POSIX XCU
2.8.2)."""

Handler = Callable[[int, FrameType | None], Any] | int | None


class CannotStart(Exception):
    """The command did not start; ``status`` is what ``run`` exits with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Running(Protocol):
    """What a run waits for: a child, or several one after another."""

    async def wait(self) -> int:
        """The exit status as a shell gives it."""
        ...

    def stop(self) -> None:
        """End it, because nothing can be done for it."""
        ...


class Child:
    """A running command with our standard streams and process group: the terminal is its own.

    Signals sent to us alone reach it too; Ctrl-C and Ctrl-Z of a terminal, which it has got
    already, do not a second time. A signal that we were started to ignore (``nohup``) stays
    ignored. ``output`` and ``errors`` are descriptors that get what it writes in place of ours.

    Raises:
        CannotStart: the command is not there or may not be executed.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        *,
        output: int | None = None,
        errors: int | None = None,
    ) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._previous = self._take_signals()
        try:
            self._process = subprocess.Popen(
                list(argv),
                env=dict(environ),
                stdout=output,
                stderr=output if errors is None else errors,
                # What we were given stays open in it, as it would without us (`<(...)`, make's job
                # server). Our own descriptors are not inheritable (PEP 446).
                close_fds=False,
            )
        except OSError as exc:
            self._give_back_signals()
            if isinstance(exc, FileNotFoundError):
                raise CannotStart(NOT_FOUND, f"{argv[0]}: command not found") from exc
            denied = isinstance(exc, PermissionError)
            reason = "permission denied" if denied else exc.strerror or exc
            raise CannotStart(CANNOT_RUN, f"{argv[0]}: {reason}") from exc
        for number in self._early:
            self._process.send_signal(number)

    async def wait(self) -> int:
        """The exit status as a shell gives it: its own, or 128 + N when signal N ended it."""
        import asyncio  # noqa: PLC0415  (not before the child has started)
        import threading  # noqa: PLC0415

        assert self._process is not None
        loop, process = asyncio.get_running_loop(), self._process
        ended: asyncio.Future[int] = loop.create_future()

        def tell(status: int) -> None:
            if not ended.done():
                ended.set_result(status)

        def watch() -> None:
            status = process.wait()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(tell, status)

        threading.Thread(target=watch, name="entrepot-child", daemon=True).start()
        status = await ended
        self._give_back_signals()
        return status if status >= 0 else 128 - status

    def stop(self) -> None:
        """End it, because nothing can be done for it; waits until it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        self._give_back_signals()

    def _take_signals(self) -> dict[int, Handler]:
        previous: dict[int, Handler] = {}
        for name in (*FORWARDED, "SIGTSTP"):
            number = getattr(signal, name, None)  # Windows has some of them only
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                handler = self._stop_too if name == "SIGTSTP" else self._pass_on
                previous[number] = signal.signal(number, handler)
        return previous

    def _give_back_signals(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        if signal.Signals(number).name in FROM_TERMINAL and _in_foreground():
            return
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)

    def _stop_too(self, number: int, _frame: FrameType | None) -> None:
        """Ctrl-Z: the child stops, then we do, as if there were no handler."""
        self._pass_on(number, None)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._stop_too)  # from here on when somebody has continued us


def _in_foreground() -> bool:
    """Whether our process group is a terminal's foreground: it has signalled the child as well."""
    try:
        with open(os.ctermid(), "rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except (OSError, AttributeError):
        return False
