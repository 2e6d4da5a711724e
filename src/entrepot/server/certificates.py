"""The certificates of one run: an authority that the child alone trusts, and a leaf for each host.

All of it is made in memory and never written. Shapes are those that every client of the field
accepted, Python 3.13's strict checks included: P-256, a critical CA with path length 0 and key
usage, subject and authority key identifiers on every certificate, and for IP hosts an empty subject
with a critical ``subjectAltName`` (OpenSSL would check a common name as a DNS name).

The authority exists before the command starts, so nothing here may import ``ssl`` or
``cryptography.x509`` at its head.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
import os
import secrets
import tempfile
from typing import IO, TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

MISNAMED = "misnamed"
"""Attribute that a context's ``sni_callback`` sets on the connection to the name that was asked for
in place of its own."""
NAME = "entrepot, for this run only"
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
LIFE = 30 * DAY
"""How long the authority is valid; a run that takes longer has to be started again."""
LEAF_LIFE = DAY
"""How long a host's certificate is valid; it is replaced when half of that has passed."""


class Authority:
    """One authority, one leaf key, and a TLS context for each host that was asked for.

    The contexts offer HTTP/1.1 alone by ALPN.

    Args:
        now: the time of day, in UTC.
    """

    def __init__(self, now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: dict[str, tuple[dt.datetime, ssl.SSLContext]] = {}
        self._now = now
        begin = now() - DAY  # a clock may be set back meanwhile
        self._certificate = _authority_certificate(self._key, begin, begin + LIFE)

    @property
    def pem(self) -> str:
        """The authority's certificate, for the child's bundle; the key has no such property."""
        text = base64.b64encode(self._certificate).decode()
        lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
        return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"

    def prepare(self) -> None:
        """Load what the first certificate needs, so that no client waits for it."""
        import ssl  # noqa: F401, PLC0415

        from cryptography import x509  # noqa: F401, PLC0415

    def context(self, host: str) -> ssl.SSLContext:
        """A server context that shows a certificate for exactly this host name or IP address."""
        now = self._now()
        made, context = self._contexts.get(host, (None, None))
        if made is None or context is None or not made <= now < made + LEAF_LIFE / 2:
            context = self._make_context(host)
            self._contexts[host] = now, context
        return context

    def _make_context(self, host: str) -> ssl.SSLContext:
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
        # key off the disk; where there is none (macOS, Windows) a private temporary file, of mode
        # 0600, lives for the length of this call.
        file: IO[bytes]
        if hasattr(os, "memfd_create"):
            file = os.fdopen(os.memfd_create("entrepot-leaf"), "w+b")
            name = f"/proc/self/fd/{file.fileno()}"
        else:
            file = tempfile.NamedTemporaryFile()  # noqa: SIM115  (it is entered below)
            name = file.name
        with file:
            file.write(self._leaf(host) + key)
            file.flush()
            context.load_cert_chain(name)
        return context

    def _leaf(self, host: str) -> bytes:
        """A certificate for exactly this name, or address with or without brackets, as PEM."""
        from cryptography import x509  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

        common: list[str] = []
        alternative: x509.GeneralName
        try:
            alternative = x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
        except ValueError:
            alternative = x509.DNSName(host)
            # A common name holds 64 characters at most (X.520); clients look at the alternative
            # name.
            common = [host] if len(host) <= 64 else []
        usage = dict.fromkeys(
            "content_commitment key_encipherment data_encipherment key_agreement key_cert_sign "
            "crl_sign encipher_only decipher_only".split(),
            False,
        )
        begin = self._now() - HOUR
        public, issuer = self._leaf_key.public_key(), self._key.public_key()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n) for n in common]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + LEAF_LIFE)
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=not common)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM)


def _authority_certificate(
    key: ec.EllipticCurvePrivateKey, begin: dt.datetime, end: dt.datetime
) -> bytes:
    """A self-signed certificate of an authority for leaves alone, as DER encoded by hand.

    Importing ``cryptography.x509`` for it would add 25 ms and more of processor time to the start
    of every command, and what it would encode is one fixed shape. The key is one on P-256; the
    times are in UTC and before 2050.

    Source: ITU-T X.690 (DER); RFC 5280 §4.1, §4.2; RFC 5480 §2 (the key); RFC 5758 §3.2 (the
    signature).
    """
    numbers = key.public_key().public_numbers()
    point = b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    identifier = hashlib.sha1(point, usedforsecurity=False).digest()  # RFC 5280 §4.2.1.2, method 1
    yes, no_path = b"\x01\x01\xff", b"\x02\x01\x00"
    ecdsa_sha256 = _sequence(_oid("2a8648ce3d040302"))
    name = _sequence(_der(0x31, _sequence(_oid("550403"), _der(0x0C, NAME.encode()))))
    times = [_der(0x17, moment.strftime("%y%m%d%H%M%SZ").encode()) for moment in (begin, end)]
    extensions = _sequence(
        # Basic constraints: an authority, for leaves alone
        _sequence(_oid("551d13"), yes, _der(0x04, _sequence(yes, no_path))),
        # Key usage: keyCertSign, cRLSign
        _sequence(_oid("551d0f"), yes, _der(0x04, _der(0x03, b"\x01\x06"))),
        _sequence(_oid("551d0e"), _der(0x04, _der(0x04, identifier))),
    )
    signed = _sequence(
        _der(0xA0, b"\x02\x01\x02"),  # version 3
        _der(0x02, (secrets.randbits(127) | 1 << 126).to_bytes(16, "big")),
        ecdsa_sha256,
        name,
        _sequence(*times),
        name,
        _sequence(
            _sequence(_oid("2a8648ce3d0201"), _oid("2a8648ce3d030107")),  # an EC key on P-256
            _der(0x03, b"\0", point),
        ),
        _der(0xA3, extensions),
    )
    signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
    return _sequence(signed, ecdsa_sha256, _der(0x03, b"\0", signature))


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, *parts)


def _oid(digits: str) -> bytes:
    return _der(0x06, bytes.fromhex(digits))


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content
