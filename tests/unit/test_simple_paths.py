"""The path rule of the default index's files host."""

import pytest

from entrepot.digests import Digest
from entrepot.simple.paths import path_digest

HEX = "ab" + "cd" + "0123456789" * 6
GOOD = f"https://files.test/packages/ab/cd/{HEX[4:]}/x-1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    "url", [GOOD, GOOD + "?x=1", GOOD + "#sha256=ab", GOOD.replace(".test/", ".test:443/")]
)
@pytest.mark.parametrize("host", ["files.test", "FILES.TEST", "files.test:443"])
def test_a_file_of_the_default_index_lies_at_its_digest(url, host):
    assert path_digest(url, host) == Digest("blake2b-256", HEX)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        (GOOD, "other.test"),
        (GOOD, ""),
        (GOOD, "files.test:8443"),
        (GOOD.replace("files.test", "files.test.evil.test"), "files.test"),
        (GOOD.replace("files.test", "files.test@evil.test"), "files.test"),
        (GOOD.replace("files.test/", "files.test:8443/"), "files.test"),
        (GOOD + ".metadata", "files.test"),
        (GOOD + "/", "files.test"),
        (GOOD + "/more", "files.test"),
        (GOOD.replace("packages", "other"), "files.test"),
        (GOOD.replace("0123", "G123"), "files.test"),
        (GOOD.replace("abcd", "ABCD").replace("ab/cd", "AB/cd"), "files.test"),
        (GOOD.replace("9/x", "/x"), "files.test"),
        ("https://files.test/packages/source/x/xy/xy-1.0.tar.gz", "files.test"),
        (GOOD.rpartition("/")[0] + "/", "files.test"),
        (GOOD.replace("https", "ftp"), "files.test"),
        ("", "files.test"),
    ],
)
def test_elsewhere_a_path_says_nothing(url, host):
    assert path_digest(url, host) is None
