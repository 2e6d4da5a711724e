"""The certificate authority of one run: made in memory, never written, trusted by the child alone.

Shapes are those that every client of the field accepted, Python 3.13's strict checks included: P-256, a critical CA with
path length 0 and key usage, subject and authority key identifiers on every certificate, and for IP hosts an empty subject
with a critical ``subjectAltName`` (OpenSSL would check a common name as a DNS name).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import tempfile
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    import ssl

MISNAMED = "misnamed"
"""Attribute that a context's ``sni_callback`` sets on the connection to the name that was asked for in place of its own."""
DAY = dt.timedelta(days=1)


class Authority:
    """One authority, one leaf key, and a TLS context for each host that was asked for.

    The contexts offer HTTP/1.1 alone by ALPN (design.md §3).
    """

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: dict[str, ssl.SSLContext] = {}
        now = dt.datetime.now(dt.UTC)
        self._not_before, self._not_after = now - DAY, now + 30 * DAY
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "entrepot, for this run only")])
        public = self._key.public_key()
        self._certificate = (
            self._builder(self._name, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        """The authority's certificate, for the child's bundle; the key has no such property."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def context(self, host: str) -> ssl.SSLContext:
        """A server context that shows a certificate for exactly this host name or IP address."""
        found = self._contexts.get(host)
        if found is None:
            found = self._contexts[host] = self._make_context(host)
        return found

    def _make_context(self, host: str) -> ssl.SSLContext:
        import ssl  # noqa: PLC0415  (the authority is made before the child starts; this is needed after)

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        context.minimum_version = ssl.TLSVersion.TLSv1_2

        def check_name(tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
            if name is None or name.lower().rstrip(".") == host:
                return None
            setattr(tls, MISNAMED, name)
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

        context.sni_callback = check_name
        key = self._leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # The ssl module loads certificates from files only. An anonymous file in memory keeps the key off the disk;
        # where there is none (macOS, Windows) a private temporary file lives for the length of this call.
        with _memory_file() as file:
            file.write(self._leaf(host) + key)
            file.flush()
            context.load_cert_chain(_name_of(file))
        return context

    def _leaf(self, host: str) -> bytes:
        address = _address(host)
        if address is None:
            names: list[x509.GeneralName] = [x509.DNSName(host)]
            # A common name holds 64 characters at most (X.520); the alternative name is what clients look at.
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)] if len(host) <= 64 else [])
        else:
            names, subject = [x509.IPAddress(address)], x509.Name([])
        public = self._leaf_key.public_key()
        certificate = (
            self._builder(subject, public)
            .add_extension(x509.SubjectAlternativeName(names), critical=len(list(subject)) == 0)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(self, subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._not_before)
            .not_valid_after(self._not_after)
        )


def _usage(*, key_cert_sign: bool = False, digital_signature: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _memory_file() -> tempfile._TemporaryFileWrapper[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("entrepot-leaf"), "w+b")  # type: ignore[return-value]
    return tempfile.NamedTemporaryFile()  # mode 0600, removed on close


def _name_of(file: tempfile._TemporaryFileWrapper[bytes]) -> str:
    name: str | int = file.name
    return name if isinstance(name, str) else f"/proc/self/fd/{name}"
