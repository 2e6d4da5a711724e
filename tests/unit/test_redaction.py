"""Secrets in URLs and command lines."""

import pytest

from entrepot.redaction import has_secret, redacted_url

SECRETS = [
    ("https://me:pw@host/x", "https://host/x"),
    ("https://tok@host/x", "https://host/x"),
    ("https://a@b:pw@host/x", "https://host/x"),
    ("https://me:pw@[::1]:8443/x", "https://[::1]:8443/x"),
    ("https://me:pw@[::1/x", "https://[::1/x"),
    (
        "https://host/t/tk-123/conda/linux-64/repodata.json",
        "https://host/t/<TOKEN>/conda/linux-64/repodata.json",
    ),
    ("https://host//t/tk-123/conda", "https://host//t/<TOKEN>/conda"),
    ("https://host/t/tk-123", "https://host/t/<TOKEN>"),
    ("https://host/t/tk.1.2/conda", "https://host/t/<TOKEN>/conda"),
    ("https://host/%74/tk-123/conda", "https://host/%74/<TOKEN>/conda"),
    ("https://host/a/t/one/t/two/x", "https://host/a/t/<TOKEN>/t/<TOKEN>/x"),
    ("https://host/x?sig=abc&v=1", "https://host/x?sig=***&v=1"),
    ("https://host/x?v=1;TOKEN=abc", "https://host/x?v=1;TOKEN=***"),
    ("https://host/x?%73ig=abc", "https://host/x?%73ig=***"),
    (
        "https://host/x?X-Amz-Signature=ab=cd&X-Amz-Date=1",
        "https://host/x?X-Amz-Signature=***&X-Amz-Date=1",
    ),
    ("https://host?token=abc", "https://host?token=***"),
]
PLAIN = [
    "https://host/simple/t/",
    "https://host/t/t-1.0.tar.gz",
    "https://host/x?v=1",
    "https://host/x?sig",
    "https://host/x?token=",
    "https://host/x?",
    "https://host//a//b",
    "https://host",
    "http://[::1]:8080/x",
    "https://host/@scope/x",
    "https://host/x?a=b@c",
    "file:///srv/wheels",
    "../links",
    "git+ssh://host/x",
]


@pytest.mark.parametrize(("url", "redacted"), SECRETS)
def test_credentials_in_a_url_are_masked_and_noticed(url, redacted):
    assert redacted_url(url) == redacted
    assert has_secret(url)
    assert redacted_url(redacted) == redacted


@pytest.mark.parametrize("url", PLAIN)
def test_a_url_without_credentials_is_shown_as_it_is(url):
    assert redacted_url(url) == url
    assert not has_secret(url)


def test_a_fragment_is_neither_shown_nor_a_secret():
    assert redacted_url("https://host/x#sha256=ab") == "https://host/x"
    assert not has_secret("https://host/x#sha256=ab")
