"""One run while its child runs: serve the proxy, wait for the end, tidy up."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from entrepot.run.child import Running
from entrepot.server.listener import BACKLOG, Listener
from entrepot.server.proxy import ConnectPolicy, ProxyConnection, ProxyServer
from entrepot.serving.service import Service

T = TypeVar("T")


async def serve_child(
    listener: Listener, child: Running, service: Service, policy: ConnectPolicy
) -> int:
    """Serve the proxy until the child ends; its exit status as a shell gives it.

    Then every connection is dropped and what is nearly done is finished.
    """
    listener.authority.prepare()
    proxy = ProxyServer(listener.user, listener.token, listener.authority, service.handle, policy)
    server = await asyncio.get_running_loop().create_server(
        lambda: ProxyConnection(proxy), sock=listener.socket, backlog=BACKLOG
    )
    gc.freeze()  # what is here now stays: no collection needs to look at it again
    try:
        return await child.wait()
    finally:
        server.close()
        await proxy.close()
        await service.aclose()


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where there is one."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop  # noqa: PLC0415  (not on Windows)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
