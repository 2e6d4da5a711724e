"""A user's own proxy: small, on loopback, with credentials.

It alone knows where the made-up names are.
"""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from entrepot.testing.listener import Listener

USER, PASSWORD = "corp-user", "corp:p@ss"


class OwnProxy:
    """Serves CONNECT and absolute http URLs for these names alone.

    Args:
        places: ``NAME:PORT`` -> ``ADDRESS:PORT``.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)
        self.asked: list[str] = []
        """The first lines of what was admitted."""
        self.refused = 0
        self._listener = Listener("127.0.0.1", 0, self._serve)
        self.url = f"http://{USER}:corp%3Ap%40ss@127.0.0.1:{self._listener.port}"
        self.bare_url = f"http://127.0.0.1:{self._listener.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()

    def _serve(self, _number: int, sock: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = sock.recv(65536)
            if not data:
                return
            head += data
        head, _, rest = head.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if f"proxy-authorization: basic {wanted.lower()}" not in [line.lower() for line in lines]:
            self.refused += 1
            sock.sendall(
                b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            return
        self.asked.append(first)
        method, target, _version = first.split(" ")
        if method == "CONNECT":
            authority = target
        else:
            authority, slash, path = target.removeprefix("http://").partition("/")
            kept = [
                line for line in lines if not line.lower().startswith(("proxy-", "connection:"))
            ]
            rest = (
                "\r\n".join(
                    [f"{method} {slash}{path} HTTP/1.1", *kept, "Connection: close", "", ""]
                ).encode("latin-1")
                + rest
            )
            authority = authority if ":" in authority else f"{authority}:80"
        if authority not in self._places:
            sock.sendall(b"HTTP/1.1 502 Unknown\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        host, _, port = self._places[authority].rpartition(":")
        with socket.create_connection((host, int(port))) as other:
            if method == "CONNECT":
                sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            other.sendall(rest)
            back = threading.Thread(target=_pump, args=(other, sock), daemon=True)
            back.start()
            _pump(sock, other)
            back.join(10)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
