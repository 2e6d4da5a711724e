"""The certificate authority of one run: made in memory, never written, trusted by the child alone.

Shapes are those that every client of the field accepted, Python 3.13's strict checks included:
P-256, a critical CA with path length 0 and key usage, subject and authority key identifiers on
every certificate, and for IP hosts an empty subject with a critical ``subjectAltName`` (OpenSSL
would check a common name as a DNS name).
"""

from __future__ import annotations

import base64
import datetime as dt
import os
import sys
import tempfile
import threading
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec

from entrepot.server.der import authority_certificate

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from sys import UnraisableHookArgs

MISNAMED = "misnamed"
"""Attribute that a context's ``sni_callback`` sets on the connection to the name that was asked for
in place of its own."""
NAME = "entrepot, for this run only"
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
LIFE = 30 * DAY
"""How long the authority is valid; a run that takes longer has to be started again."""
LEAF_LIFE = DAY
"""How long a host's certificate is valid, and it is replaced when half of that has gone by."""


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Authority:
    """One authority, one leaf key, and a TLS context for each host that was asked for.

    The contexts offer HTTP/1.1 alone by ALPN.

    Args:
        now: the time of day, in UTC.
    """

    def __init__(self, now: Callable[[], dt.datetime] = _utc_now) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: dict[str, tuple[dt.datetime, ssl.SSLContext]] = {}
        self._now = now
        begin = now() - DAY  # a clock may be set back meanwhile
        self._certificate = authority_certificate(self._key, NAME, begin, begin + LIFE)

    @property
    def pem(self) -> str:
        """The authority's certificate, for the child's bundle; the key has no such property."""
        text = base64.b64encode(self._certificate).decode()
        lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
        return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"

    def prepare(self) -> None:
        """Load what the first certificate needs, so that no client waits for it."""
        import ssl  # noqa: F401, PLC0415

        import entrepot.server.leaf  # noqa: F401, PLC0415

    def context(self, host: str) -> ssl.SSLContext:
        """A server context that shows a certificate for exactly this host name or IP address."""
        now = self._now()
        made, context = self._contexts.get(host, (None, None))
        if made is None or context is None or not made <= now < made + LEAF_LIFE / 2:
            context = self._make_context(host)
            self._contexts[host] = now, context
        return context

    def _make_context(self, host: str) -> ssl.SSLContext:
        # The authority is made before the child starts; these are needed after
        import ssl  # noqa: PLC0415

        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        context.minimum_version = ssl.TLSVersion.TLSv1_2

        def check_name(
            tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext
        ) -> int | None:
            if name is None or name.lower().rstrip(".") == host:
                return None
            setattr(tls, MISNAMED, name)
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

        context.sni_callback = check_name
        key = self._leaf_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        # The ssl module loads certificates from files only. An anonymous file in memory keeps the
        # key off the disk; where there is none (macOS, Windows) a private temporary file lives for
        # the length of this call.
        with _memory_file() as file:
            file.write(self._leaf(host) + key)
            file.flush()
            context.load_cert_chain(_name_of(file))
        return context

    def _leaf(self, host: str) -> bytes:
        # The command is started before any is needed
        from entrepot.server.leaf import leaf_certificate  # noqa: PLC0415

        begin = self._now() - HOUR
        return leaf_certificate(
            host,
            self._leaf_key.public_key(),
            issuer=NAME,
            issuer_key=self._key,
            not_before=begin,
            not_after=begin + LEAF_LIFE,
        )


class _NamesUnheard:
    """While it is entered, by any number of threads, a server name that is no ASCII leaves no traceback.

    Python refuses such a name by itself, before ``sni_callback``, and gives the error to
    ``sys.unraisablehook`` alone. All other errors go to the hook that was there, which is put back
    at the end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = self._mine = sys.unraisablehook

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = before = sys.unraisablehook

                def hook(trouble: UnraisableHookArgs) -> None:
                    if not (
                        isinstance(trouble.exc_value, UnicodeDecodeError)
                        and isinstance(trouble.object, bytes)
                    ):
                        before(trouble)

                self._mine = sys.unraisablehook = hook
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if (
                not self._inside and sys.unraisablehook is self._mine
            ):  # else somebody has set another one meanwhile
                sys.unraisablehook = self._before


names_unheard = _NamesUnheard()


def _memory_file() -> tempfile._TemporaryFileWrapper[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("entrepot-leaf"), "w+b")  # type: ignore[return-value]
    return tempfile.NamedTemporaryFile()  # mode 0600, removed on close


def _name_of(file: tempfile._TemporaryFileWrapper[bytes]) -> str:
    name: str | int = file.name
    return name if isinstance(name, str) else f"/proc/self/fd/{name}"
