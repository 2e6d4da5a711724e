"""The run's doorman: which connections are opened, how the others are dialled, and what went past the cache."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

from entrepot.errors import UpstreamUnreachable
from entrepot.loopback import is_loopback
from entrepot.run.plan import Opened
from entrepot.server.proxy_server import Streams
from entrepot.serving.run_stats import Tally

Dial = Callable[[str, int, bool], Awaitable[Streams]]
"""Host, port and whether TLS is to be spoken -> raw streams, through the user's own proxy where
there is one."""


class RunDoorman:
    """Answers the door's questions for one run.

    Args:
        opened: which hosts are looked at.
        dial: how to reach the others.
        tally: where tunnels are counted.
        offline: whether nothing but loopback may be dialled.
    """

    def __init__(self, opened: Opened, dial: Dial, tally: Tally, *, offline: bool) -> None:
        self._opened = opened
        self._dial = dial
        self._tally = tally
        self._offline = offline

    async def opens(self, host: str, port: int) -> bool:
        """Whether this host's traffic is opened."""
        return await self._opened.tls(host, port)

    async def dial(self, host: str, port: int, *, tls: bool) -> Streams:
        """Raw streams to the other side.

        Raises:
            UpstreamError: nobody answers there, or the run is offline.
        """
        if self._offline and not is_loopback(host):
            raise UpstreamUnreachable(f"entrepot is offline: {host} is not asked", url=host)
        return await self._dial(host, port, tls)

    def relayed(self, host: str, count: int) -> None:
        """So many bytes went past the cache; 0 when a tunnel begins."""
        if is_loopback(host):
            return  # nobody expects that of a cache
        if count:
            self._tally.uncached_bytes += count
        else:
            self._tally.uncached_hosts[host] += 1

    def distrusted(self, host: str, reason: str) -> None:
        """Told in the last line.

        Something in the command's own settings names other authorities.
        """
        alert = reason.lower().partition("alert_")[2].replace("_", " ")
        self._tally.warn(
            f"a program refused entrepot's certificate for {host} ({alert}): it trusts other authorities"
        )

    def failed(self, exc: Exception) -> None:
        """Told in the last line, with the place: a defect of ours."""
        frame = None
        # The last one is wanted
        for frame in traceback.extract_tb(exc.__traceback__):  # noqa: B007
            pass
        place = f" in {Path(frame.filename).name}:{frame.lineno}" if frame is not None else ""
        self._tally.warn(f"a defect of entrepot's own met a request: {type(exc).__name__}{place}")
