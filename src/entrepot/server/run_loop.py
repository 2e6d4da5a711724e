"""One run while its child runs: serve the doors, wait for the end, tidy up."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from entrepot.run.child import Running
from entrepot.server.listener import BACKLOG, Doorstep
from entrepot.server.proxy import Door
from entrepot.server.proxy_server import Doorman, House
from entrepot.serving.service import Service

T = TypeVar("T")


async def serve_child(
    doorstep: Doorstep, child: Running, service: Service, doorman: Doorman
) -> int:
    """Serve the doors until the child ends.

    Then every connection is dropped and what is nearly done is finished.

    Returns:
        The exit status of the child as a shell gives it.
    """
    doorstep.authority.prepare()
    house = House(doorstep.user, doorstep.token, doorstep.authority, service.handle, doorman)
    server = await asyncio.get_running_loop().create_server(
        lambda: Door(house), sock=doorstep.socket, backlog=BACKLOG
    )
    gc.freeze()  # what is here now stays: no collection needs to look at it again
    try:
        return await child.wait()
    finally:
        server.close()
        await house.close()
        await service.aclose()


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where there is one."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop  # noqa: PLC0415  (not on Windows)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
