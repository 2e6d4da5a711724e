"""TLS on a client's connection that carries bytes already. No sockets and no HTTP here.

``loop.start_tls`` cannot be used there: whether the client speaks TLS at all is only known from its
first byte, which has then been read. Encrypting into memory and writing through keeps one buffer,
so flow control stays the transport's.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from entrepot.server.certificates import MISNAMED

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


class TlsTransport:
    """What the protocol writes to in place of a transport, with TLS over that.

    Args:
        transport: the connection.
        context: a server context.
        on_data: called with each piece of plain text.
        on_end: called once when the client ended its side or broke TLS; with OpenSSL's reason when
            the client refused the handshake, as one does that does not trust the certificate.
        on_misnamed: called in their place, with all bytes so far, when the client asks for another
            name than the context's (see :data:`~entrepot.server.certificates.MISNAMED`). Nothing
            was answered, so the bytes can still go elsewhere.
    """

    CHUNK = 1 << 18

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        context: ssl.SSLContext,
        on_data: Callable[[bytes], None],
        on_end: Callable[[str | None], None],
        on_misnamed: Callable[[bytes], None],
    ) -> None:
        self._transport = transport
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._on_data = on_data
        self._on_end = on_end
        self._on_misnamed = on_misnamed
        self._hello = b""
        """What came while nothing was answered."""
        self._shaken = False
        self._ended = False

    def feed(self, data: bytes) -> None:
        """Bytes from the client's side of the transport."""
        if self._ended:
            return
        self._incoming.write(data)
        try:
            if not self._shaken:
                self._hello += data
                with names_unheard():
                    self._tls.do_handshake()
                self._shaken = True
                self._hello = b""
            while plain := self._tls.read(self.CHUNK):
                self._on_data(plain)
                if self._ended:  # by the one who was told
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

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt and queue; the transport's ``pause_writing`` tells when to stop."""
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
            # The client need not answer a close_notify (RFC 8446 §6.1)
            with suppress(ssl.SSLError, ValueError):
                self._tls.unwrap()
            self._flush()

    def close(self) -> None:
        """Say goodbye in TLS and end the transport once all was sent."""
        self.finish()
        self._transport.close()

    def _end(self, reason: str | None) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(reason)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())


Output = asyncio.WriteTransport | TlsTransport
"""Where a client's answers are written: its connection, or TLS over it."""


@contextmanager
def names_unheard() -> Iterator[None]:
    """While it is entered, a server name that is not ASCII leaves no traceback.

    Python refuses such a name by itself, before ``sni_callback``, and gives the error to
    ``sys.unraisablehook`` alone. All other errors go to the hook that was there.
    """
    before = sys.unraisablehook

    def hook(trouble: UnraisableHookArgs) -> None:
        is_name = isinstance(trouble.exc_value, UnicodeDecodeError)
        if not (is_name and isinstance(trouble.object, bytes)):
            before(trouble)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        if sys.unraisablehook is hook:  # else somebody has set another one meanwhile
            sys.unraisablehook = before
