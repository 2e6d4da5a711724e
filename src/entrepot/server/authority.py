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
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec

from entrepot.server.der import authority_certificate

if TYPE_CHECKING:
    import ssl
    from sys import UnraisableHookArgs

MISNAMED = "misnamed"
"""Attribute that a context's ``sni_callback`` sets on the connection to the name that was asked for
in place of its own."""
NAME = "entrepot, for this run only"
DAY = dt.timedelta(days=1)


class Authority:
    """One authority, one leaf key, and a TLS context for each host that was asked for.

    The contexts offer HTTP/1.1 alone by ALPN.
    """

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: dict[str, ssl.SSLContext] = {}
        now = dt.datetime.now(dt.UTC)
        self._not_before, self._not_after = now - DAY, now + 30 * DAY
        self._certificate = authority_certificate(
            self._key, NAME, self._not_before, self._not_after
        )

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

        global _elsewhere
        if sys.unraisablehook is not _unraisable:
            _elsewhere, sys.unraisablehook = sys.unraisablehook, _unraisable

    def context(self, host: str) -> ssl.SSLContext:
        """A server context that shows a certificate for exactly this host name or IP address."""
        found = self._contexts.get(host)
        if found is None:
            found = self._contexts[host] = self._make_context(host)
        return found

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

        return leaf_certificate(
            host,
            self._leaf_key.public_key(),
            issuer=NAME,
            issuer_key=self._key,
            not_before=self._not_before,
            not_after=self._not_after,
        )


_elsewhere = sys.unraisablehook


def _unraisable(trouble: UnraisableHookArgs) -> None:
    """A server name that is no ASCII.

    Python refuses it by itself and then writes a traceback where nobody can catch it.
    """
    if not (
        isinstance(trouble.exc_value, UnicodeDecodeError) and isinstance(trouble.object, bytes)
    ):
        _elsewhere(trouble)


def _memory_file() -> tempfile._TemporaryFileWrapper[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("entrepot-leaf"), "w+b")  # type: ignore[return-value]
    return tempfile.NamedTemporaryFile()  # mode 0600, removed on close


def _name_of(file: tempfile._TemporaryFileWrapper[bytes]) -> str:
    name: str | int = file.name
    return name if isinstance(name, str) else f"/proc/self/fd/{name}"
