"""The authority's own certificate, encoded by hand.

``cryptography.x509`` takes some 40 ms of processor time to import, as much as anything else before
the command is started; what it would encode here is one fixed shape. Certificates of hosts are made
with it, later (``leaf.py``).

Source: ITU-T X.690 (DER); RFC 5280 §4.1, §4.2; RFC 5480 §2 (the key); RFC 5758 §3.2 (the
signature).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

_SEQUENCE, _SET, _BOOLEAN, _INTEGER, _BITS, _OCTETS, _OID, _UTF8, _UTC_TIME = (
    0x30,
    0x31,
    0x01,
    0x02,
    0x03,
    0x04,
    0x06,
    0x0C,
    0x17,
)
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_COMMON_NAME = bytes.fromhex("550403")
_BASIC_CONSTRAINTS, _KEY_USAGE, _KEY_IDENTIFIER = (
    bytes.fromhex("551d13"),
    bytes.fromhex("551d0f"),
    bytes.fromhex("551d0e"),
)
_EC_KEY, _P256, _ECDSA_SHA256 = (
    bytes.fromhex(text) for text in ("2a8648ce3d0201", "2a8648ce3d030107", "2a8648ce3d040302")
)


def authority_certificate(
    key: ec.EllipticCurvePrivateKey, name: str, not_before: dt.datetime, not_after: dt.datetime
) -> bytes:
    """A self-signed certificate of an authority for leaves alone, as DER.

    P-256 with SHA-256; critical basic constraints with path length 0, critical key usage
    (keyCertSign, cRLSign), and the subject key identifier: what Python 3.13's strict checks and
    every client tried ask for.

    Args:
        key: a P-256 key.
        name: the common name.
        not_before: in UTC, before 2050.
        not_after: the same.
    """
    numbers = key.public_key().public_numbers()
    point = b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    algorithm = _der(_SEQUENCE, _der(_OID, _ECDSA_SHA256))
    subject = _der(
        _SEQUENCE, _der(_SET, _der(_SEQUENCE, _der(_OID, _COMMON_NAME), _der(_UTF8, name.encode())))
    )
    identifier = hashlib.sha1(point, usedforsecurity=False).digest()  # RFC 5280 §4.2.1.2, method 1
    extensions = (
        _extension(
            _BASIC_CONSTRAINTS, _der(_SEQUENCE, _der(_BOOLEAN, b"\xff"), _integer(0)), critical=True
        ),
        _extension(_KEY_USAGE, _der(_BITS, b"\x01\x06"), critical=True),
        _extension(_KEY_IDENTIFIER, _der(_OCTETS, identifier), critical=False),
    )
    signed = _der(
        _SEQUENCE,
        _der(_VERSION, _integer(2)),
        _integer(secrets.randbits(127) | 1 << 126),
        algorithm,
        subject,
        _der(_SEQUENCE, _time(not_before), _time(not_after)),
        subject,
        _der(
            _SEQUENCE,
            _der(_SEQUENCE, _der(_OID, _EC_KEY), _der(_OID, _P256)),
            _der(_BITS, b"\0", point),
        ),
        _der(_EXTENSIONS, _der(_SEQUENCE, *extensions)),
    )
    signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
    return _der(_SEQUENCE, signed, algorithm, _der(_BITS, b"\0", signature))


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _integer(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _time(moment: dt.datetime) -> bytes:
    return _der(_UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())


def _extension(identifier: bytes, value: bytes, *, critical: bool) -> bytes:
    return _der(
        _SEQUENCE,
        _der(_OID, identifier),
        _der(_BOOLEAN, b"\xff") if critical else b"",
        _der(_OCTETS, value),
    )
