"""A run's listening socket with what must exist before the child starts, and its event loop.

A child that connects at once waits in the socket's backlog until the proxy is served. What this
imports delays the start of every command: the event loop, TLS and HTTP are loaded when it has
started.
"""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from entrepot.errors import ConfigError
from entrepot.ports.client_setup import ProxyAddress
from entrepot.run.runtime_dir import HINT
from entrepot.server.certificates import Authority

if TYPE_CHECKING:
    from entrepot.run.child import Running
    from entrepot.server.proxy import ConnectPolicy
    from entrepot.serving.service import Service

T = TypeVar("T")
BACKLOG = 1024
"""Connections that may wait to be accepted: uv opens over fifty at once."""
USER = "entrepot"


class Listener:
    """A loopback port of this run's own, open from here on; leave it to close it.

    Args:
        bundle: where the child's CA bundle is written: in a private directory that goes with the
            run.
        roots: PEM of what the child trusts anyway.
        offline: what the child is told.

    Raises:
        ConfigError: the bundle cannot be written.
    """

    def __init__(self, bundle: Path, roots: str, *, offline: bool) -> None:
        self.user, self.token = USER, secrets.token_urlsafe(24)
        self.authority = Authority()
        try:
            bundle.write_text(roots + self.authority.pem, encoding="ascii")
            bundle.chmod(0o644)
        except OSError as exc:
            text = f"the CA bundle {bundle} cannot be written: {exc.strerror or exc}"
            raise ConfigError(text, hint=HINT) from exc
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        port = self.socket.getsockname()[1]
        self.address = ProxyAddress(
            f"http://{self.user}:{self.token}@127.0.0.1:{port}", str(bundle), offline
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


async def serve_child(
    listener: Listener, child: Running, service: Service, policy: ConnectPolicy
) -> int:
    """Serve the proxy until the child ends; its exit status as a shell gives it.

    Then every connection is dropped and what is nearly done is finished.
    """
    import asyncio  # noqa: PLC0415
    import gc  # noqa: PLC0415

    from entrepot.server.proxy import ProxyConnection, ProxyServer  # noqa: PLC0415

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
    import asyncio  # noqa: PLC0415

    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop  # noqa: PLC0415  (not on Windows)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
