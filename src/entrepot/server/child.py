"""The child of a run: started with the terminal, waited for, told of the signals that we alone were sent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from types import FrameType

FORWARDED = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGINT", "SIGQUIT")
FROM_TERMINAL = ("SIGINT", "SIGQUIT")
"""Sent by a terminal to the whole foreground group: the child has them already."""

CANNOT_RUN, NOT_FOUND = 126, 127
"""What a shell says of a command that may not be executed, and of one that is not there (POSIX XCU 2.8.2)."""


class CannotStart(Exception):
    """The command did not start; ``status`` is what ``run`` exits with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Child:
    """A running command that has our standard streams and our process group, so that the terminal is its own."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        try:
            self._process = subprocess.Popen(list(argv), env=dict(environ))
        except FileNotFoundError as exc:
            raise CannotStart(NOT_FOUND, f"{argv[0]}: command not found") from exc
        except PermissionError as exc:
            raise CannotStart(CANNOT_RUN, f"{argv[0]}: permission denied") from exc
        except OSError as exc:
            raise CannotStart(CANNOT_RUN, f"{argv[0]}: {exc.strerror or exc}") from exc
        self._previous = {
            s: signal.signal(s, self._pass_on) for name in FORWARDED if (s := getattr(signal, name, None)) is not None
        }

    async def wait(self) -> int:
        """The exit status as a shell gives it: its own, or 128 + N when signal N ended it."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()

        def watch() -> None:
            status = self._process.wait()
            loop.call_soon_threadsafe(ended.set_result, status)

        threading.Thread(target=watch, name="entrepot-child", daemon=True).start()
        status = await ended
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        return status if status >= 0 else 128 - status

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        if signal.Signals(number).name in FROM_TERMINAL and _in_foreground():
            return
        self._process.send_signal(number)


def _in_foreground() -> bool:
    """Whether a terminal counts our process group as its foreground: then it has sent the signal to the child as well."""
    try:
        with open(os.ctermid(), "rb", buffering=0) as terminal:  # noqa: PTH123
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except (OSError, AttributeError):
        return False
