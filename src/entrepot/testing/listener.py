"""Listening on loopback in threads: one that accepts, and one for each connection.

All of it can be ended at once.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress


class Listener:
    """A listening socket, a thread that accepts, and a thread for each connection."""

    def __init__(self, host: str, port: int, serve: Callable[[int, socket.socket], None]) -> None:
        self._serve = serve
        self._socket = _bound(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._open: dict[int, socket.socket] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False
        self._acceptor = threading.Thread(
            target=self._accept, name=f"origin {host}:{self.port}", daemon=True
        )
        self._acceptor.start()

    def close(self) -> None:
        """Refuse new connections and break off those that are open."""
        with self._lock:
            self._closed = True
            held = list(self._open.values())
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for sock in held:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(5)
        for thread in self._threads:
            thread.join(5)
        for sock in held:
            sock.close()

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            number += 1
            thread = threading.Thread(target=self._connection, args=(number, sock), daemon=True)
            with self._lock:
                if self._closed:
                    sock.close()
                    return
                # A second descriptor: TLS takes the first one over, and this one can still break
                # the connection off.
                self._open[number] = sock.dup()
                self._threads = [old for old in self._threads if old.is_alive()]
                self._threads.append(thread)
                thread.start()

    def _connection(self, number: int, sock: socket.socket) -> None:
        try:
            with sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._serve(number, sock)
        except (OSError, ValueError):
            pass  # the client left, speaks no HTTP or does not trust us: its own business
        finally:
            with self._lock:
                twin = self._open.pop(number, None)
            if twin is not None:
                twin.close()


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket; a port that was ours before is waited for, should somebody use it just now."""
    patience = time.monotonic() + (5 if port else 0)
    while True:
        sock = socket.socket()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            sock.listen(512)
        except OSError:
            sock.close()
            if time.monotonic() >= patience:
                raise
            time.sleep(0.1)
        else:
            return sock
