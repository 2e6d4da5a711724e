"""A small intercepting proxy for tests.

It asks for its token, opens every CONNECT, answers 404 and writes down all URLs.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import socket
import ssl
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from entrepot.ports.client_setup import Door

SYSTEM_ROOTS = next(
    (
        path
        for path in ("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem")
        if Path(path).exists()
    ),
    None,
)


class LoggingDoor:
    """Listens on loopback until closed.

    ``seen`` holds every URL whose request arrived, inside TLS or not.
    """

    def __init__(self, directory: Path) -> None:
        self.seen: list[str] = []
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._ca = _certificate("test authority", self._key, None, None, self._key)
        bundle = directory / "bundle.pem"
        roots = Path(SYSTEM_ROOTS).read_bytes() if SYSTEM_ROOTS else b""
        bundle.write_bytes(roots + self._ca.public_bytes(serialization.Encoding.PEM))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        port = self._listener.getsockname()[1]
        self.door = Door(
            proxy=f"http://run:token@127.0.0.1:{port}", bundle=str(bundle), offline=True
        )
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError, IndexError), connection:
            connection.settimeout(20)
            while head := _head(connection):
                method, target = head.split(None, 2)[:2]
                if base64.b64encode(b"run:token").decode() not in head:
                    challenge = 'HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm="door"\r\nContent-Length: 0\r\n\r\n'
                    connection.sendall(challenge.encode())
                elif method == "CONNECT":
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    self._inside(connection, target.rpartition(":")[0])
                    return
                else:
                    self.seen.append(target)
                    connection.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")

    def _inside(self, connection: socket.socket, host: str) -> None:
        with self._context(host).wrap_socket(connection, server_side=True) as secure:
            while head := _head(secure):
                self.seen.append(f"https://{host}{head.split(None, 2)[1]}")
                secure.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")

    def _context(self, host: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _certificate("", key, host, self._ca, self._key)
        pem = self._directory / f"{host}-{threading.get_ident()}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        pem.write_bytes(private + leaf.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        context.set_alpn_protocols(["http/1.1"])
        return context


def _head(connection: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return ""
        data += piece
    return data.decode("latin-1")


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    host: str | None,
    issuer: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    """An authority without ``host``, else a leaf of ``issuer``.

    Shaped so that Python 3.13's strict checks pass.
    """
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.BasicConstraints(ca=host is None, path_length=0 if host is None else None),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if host is None:
        usage = {"key_cert_sign": True, "crl_sign": True, "digital_signature": False}
    else:
        usage = {"key_cert_sign": False, "crl_sign": False, "digital_signature": True}
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host)]), critical=True
        )
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    rest = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return builder.add_extension(x509.KeyUsage(**usage, **rest), critical=True).sign(
        signer, hashes.SHA256()
    )
