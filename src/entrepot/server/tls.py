"""What the protocol writes to: a plain transport, or TLS over one.

Flow control is the transport's own in both cases.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from entrepot.server.authority import MISNAMED, names_unheard


class Wire(Protocol):
    """The write side of a client's connection."""

    def write(self, data: bytes | memoryview) -> None:
        """Queue bytes; the protocol's ``pause_writing`` tells when to stop."""
        ...

    def close(self) -> None:
        """End cleanly once everything queued was sent."""
        ...


class TlsWire:
    """TLS on a transport that carries bytes already, as after CONNECT.

    ``loop.start_tls`` cannot be used there: whether the client speaks TLS at all is only known from
    its first byte, which has then been read. Encrypting into memory and writing through keeps one
    buffer, so back-pressure stays the transport's.

    Args:
        transport: the connection.
        context: a server context.
        on_data: called with each piece of plain text.
        on_end: called once when the client ended its side or broke TLS; with OpenSSL's reason when
            the client refused the handshake, as one does that does not trust the certificate.
        on_misnamed: called in their place, with all bytes so far, when the client asks for another
            name than the context's (see :data:`MISNAMED`). Nothing was answered, so the bytes can
            still go elsewhere.
    """

    CHUNK = 1 << 18

    def __init__(
        self,
        transport: asyncio.Transport,
        context: ssl.SSLContext,
        on_data: Callable[[bytes], None],
        on_end: Callable[[str | None], None],
        on_misnamed: Callable[[bytes], None],
    ) -> None:
        self._transport = transport
        self._on_misnamed = on_misnamed
        self._hello = b""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._on_data = on_data
        self._on_end = on_end
        self._shaken = False
        self._ended = False

    def feed(self, data: bytes) -> None:
        """Bytes from the client's side of the transport."""
        if self._ended:
            return
        self._incoming.write(data)
        try:
            if not self._shaken:
                self._shake(data)
            while plain := self._tls.read(self.CHUNK):
                self._on_data(plain)
                if self._is_over():
                    return
            self._flush()
            self._end(None)
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as exc:
            if not self._shaken and getattr(self._tls, MISNAMED, None) is not None:
                self._ended = True
                self._on_misnamed(self._hello)
                return
            # The client's goodbye, or TLS was broken: then the alert that says why is in the
            # outgoing buffer.
            self._flush()
            self._end(None if self._shaken else exc.reason)

    def _shake(self, data: bytes) -> None:
        """Go on with the handshake; while nothing was answered, keep what came."""
        self._hello += data
        with names_unheard:
            self._tls.do_handshake()
        self._shaken = True
        self._hello = b""

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt and queue."""
        if self._ended or not len(data):
            return
        try:
            self._tls.write(data)
        except ssl.SSLError:
            self._end(None)
            return
        self._flush()

    def finish(self) -> None:
        """Say goodbye in TLS; what the client still sends is not read."""
        if not self._ended:
            self._ended = True
            with suppress(
                ssl.SSLError, ValueError
            ):  # the client need not answer a close_notify (RFC 8446 §6.1)
                self._tls.unwrap()
            self._flush()

    def close(self) -> None:
        """Say goodbye in TLS and end the transport once all was sent."""
        self.finish()
        self._transport.close()

    def _is_over(self) -> bool:
        return self._ended

    def _end(self, reason: str | None) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(reason)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())
