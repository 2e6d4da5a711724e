"""What must be there before the child starts, and nothing else.

A listening socket, an authority, the child's CA bundle.

A child that connects at once waits in the socket's backlog until the doors are served. No event
loop, no TLS, no HTTP here: what this imports delays the start of every command.
"""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from entrepot.errors import ConfigError
from entrepot.ports.client_setup import Door as DoorAddress
from entrepot.run.runtime_dir import HINT
from entrepot.server.authority import Authority

BACKLOG = 1024
"""Connections that may wait to be accepted: uv opens over fifty at once."""
USER = "entrepot"


class Doorstep:
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
        self.address = DoorAddress(
            f"http://{self.user}:{self.token}@127.0.0.1:{port}", str(bundle), offline
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()
