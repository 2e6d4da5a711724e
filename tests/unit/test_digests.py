"""Digests and hashers."""

import hashlib

import pytest

from entrepot.digests import LENGTHS, STRONG, Digest, Hasher, sha256_of
from entrepot.errors import FormatError


@pytest.mark.parametrize("separator", [":", "="])
@pytest.mark.parametrize("algorithm", sorted(LENGTHS))
def test_every_known_algorithm_is_parsed_in_both_spellings(algorithm, separator):
    value = "0a" * (LENGTHS[algorithm] // 2)
    digest = Digest.parse(f" {algorithm.upper()} {separator} {value.upper()}\n")
    assert (digest.algorithm, digest.value) == (algorithm, value)
    assert Digest.parse(str(digest)) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "=",
        "sha256",
        "sha256:",
        "sha256=abc",
        "sha256:" + "g" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "crc32:abcdabcd",
        "sha256:" + "\u0661" * 64,
        "sha256=ab:" + "a" * 61,
        ":" + "a" * 64,
        "\x00:\x00",
        "md5:" + "\u212a" * 32,
    ],
)
def test_what_is_no_digest_is_a_format_error(text):
    with pytest.raises(FormatError):
        Digest.parse(text)


def test_a_digest_is_checked_however_it_is_made():
    with pytest.raises(FormatError):
        Digest("sha256", "A" * 64)
    with pytest.raises(FormatError):
        Digest("sha256", "a" * 63 + "\n")


def test_md5_and_sha1_prove_nothing():
    assert not Digest("md5", "a" * 32).is_strong
    assert not Digest("sha1", "a" * 40).is_strong
    assert all(Digest(name, "a" * LENGTHS[name]).is_strong for name in STRONG)


def test_a_hasher_agrees_with_hashlib_however_the_body_is_cut():
    body = bytes(range(256)) * 7
    hasher = Hasher(LENGTHS)
    for start in range(0, len(body), 100):
        hasher.feed(memoryview(body)[start : start + 100])
    assert hasher.size == len(body)
    for name in LENGTHS:
        expected = (
            hashlib.blake2b(body, digest_size=32)
            if name == "blake2b-256"
            else hashlib.new(name, body)
        )
        assert hasher.digest(name).value == expected.hexdigest()


def test_a_hasher_always_has_sha256():
    hasher = Hasher(["md5"])
    hasher.feed(b"x")
    assert hasher.digest() == sha256_of(b"x")


def test_the_first_digest_that_is_wrong_is_named():
    hasher = Hasher(["md5"])
    hasher.feed(b"x")
    right, wrong = sha256_of(b"x"), Digest("md5", "0" * 32)
    assert hasher.mismatch([]) is None
    assert hasher.mismatch([right]) is None
    assert hasher.mismatch([right, wrong]) == wrong
