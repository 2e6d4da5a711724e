"""Digests that a response's own header states about its body."""

import base64
import hashlib

import pytest

from entrepot.digests import Digest
from entrepot.httpcache.messages import Headers
from entrepot.simple.paths import path_digest
from entrepot.tools.pip.evidence import address_of, header_claims

BODY = b"the body"


def digest(algorithm):
    return hashlib.new(algorithm, BODY)


def in_base64(algorithm):
    return base64.b64encode(digest(algorithm).digest()).decode()


@pytest.mark.parametrize(
    ("field", "value", "algorithm"),
    [
        ("Content-MD5", in_base64("md5"), "md5"),
        ("Repr-Digest", f"sha-256=:{in_base64('sha256')}:", "sha256"),
        ("Content-Digest", f"sha-512=:{in_base64('sha512')}:", "sha512"),
        ("Digest", f"SHA-256={in_base64('sha256')}", "sha256"),
        ("Digest", f"md5={in_base64('md5')}", "md5"),
        ("X-Checksum-Sha256", digest("sha256").hexdigest(), "sha256"),
        ("X-Checksum-Sha1", digest("sha1").hexdigest().upper(), "sha1"),
        ("X-Checksum-Md5", digest("md5").hexdigest(), "md5"),
    ],
)
def test_a_digest_field_is_a_claim(field, value, algorithm):
    (claim,) = header_claims(Headers([(field, value)]))
    assert claim.digest == Digest(algorithm, digest(algorithm).hexdigest())
    assert claim.said_by.lower() == f"its header {field}".lower()


def test_several_digests_in_one_field_are_several_claims():
    value = f"sha-256=:{in_base64('sha256')}:, sha-512=:{in_base64('sha512')}:"
    assert [c.digest.algorithm for c in header_claims(Headers([("Repr-Digest", value)]))] == [
        "sha256",
        "sha512",
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Content-MD5", "not base64!"),
        ("Content-MD5", in_base64("sha256")),
        ("Repr-Digest", f"crc32c=:{in_base64('md5')}:"),
        ("Repr-Digest", "sha-256"),
        ("X-Checksum-Sha256", "12345"),
        ("Digest", ""),
    ],
)
def test_what_is_no_digest_claims_nothing(field, value):
    assert header_claims(Headers([(field, value)])) == []


def test_the_default_indexs_address_holds_the_blake2b_digest_and_is_read_back_as_it():
    """What builds the address and what reads a digest out of one must agree."""
    known = Digest("blake2b-256", hashlib.blake2b(BODY, digest_size=32).hexdigest())
    url = address_of(known, "demo-1.0-py3-none-any.whl", "files.test")
    assert path_digest(url, "files.test") == known
