"""One run from its first to its last moment: open the door, start the child, wait, tidy up."""

from __future__ import annotations

import asyncio
import gc
import secrets
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from entrepot.app.serve import Service
from entrepot.ports.guide import Door as DoorAddress
from entrepot.server.authority import Authority
from entrepot.server.child import Child
from entrepot.server.door import Door
from entrepot.server.house import Doorman, House

BACKLOG = 1024
"""Connections that may wait to be accepted: uv opens over fifty at once."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """What a run is made of; everything is open already and closed by its owner."""

    service: Service
    doorman: Doorman
    authority: Authority
    bundle: Path
    """Where the child's CA bundle is written: in a private directory that goes with the run."""
    roots: str
    """PEM of what the child trusts anyway."""
    offline: bool


async def carry_out(run: Run, lead: Callable[[DoorAddress], tuple[Sequence[str], Mapping[str, str]]]) -> int:
    """Open the door on a loopback port, start the child pointed at it, and wait for its end.

    Args:
        run: the parts.
        lead: gives the child's command line and environment, once the door's address is known.

    Returns:
        The exit status of the child as a shell gives it.

    Raises:
        CannotStart: the command is not there or may not be executed.
    """
    user, token = "entrepot", secrets.token_urlsafe(24)
    house = House(user, token, run.authority, run.service.handle, run.doorman)
    run.bundle.write_text(run.roots + run.authority.pem, encoding="ascii")
    run.bundle.chmod(0o644)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Door(house), "127.0.0.1", 0, backlog=BACKLOG)
    try:
        port = server.sockets[0].getsockname()[1]
        address = DoorAddress(f"http://{user}:{token}@127.0.0.1:{port}", str(run.bundle), run.offline)
        argv, environ = lead(address)
        child = Child(argv, environ)
        gc.freeze()  # what is here now stays: no collection needs to look at it again
        return await child.wait()
    finally:
        server.close()
        await house.close()
        await run.service.aclose()


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where there is one."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop  # noqa: PLC0415  (not on Windows)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
