"""Heads, and the URLs in them."""

import json

import pytest

from entrepot.digests import Digest
from entrepot.errors import InvalidHead
from entrepot.httpcache.messages import Headers, ResponseHead, StoredResponse
from entrepot.stored import (
    Head,
    authority_of,
    body_key,
    cache_key,
    canonical_url,
    has_secret,
    redacted_url,
    redacted_words,
    tokens_in,
    variant_name,
)

HEAD = Head(
    url="https://index.test/simple/x/",
    method="GET",
    response=StoredResponse(
        ResponseHead(200, Headers([("ETag", '"\u00e9"'), ("Vary", "Accept")]), "OK"),
        (("accept", None), ("x", "1")),
        1.5,
        2.5,
        7,
        key="0",
    ),
    body=Digest("sha256", "ab" * 32),
    proven=(Digest("md5", "cd" * 16),),
    project="x",
)


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://h", "https://h/"),
        ("HTTPS://H.Test:443", "https://h.test/"),
        ("http://h:80/", "http://h/"),
        ("http://h:443/", "http://h:443/"),
        ("https://h:/a", "https://h/a"),
        ("https://h:0443/a", "https://h/a"),
        ("https://h:08443/a", "https://h:8443/a"),
        ("https://h?x=1", "https://h/?x=1"),
        ("https://h#f", "https://h/"),
        ("https://u:p@h/", "https://h/"),
        ("https://u@x:p@h/", "https://h/"),
        ("https://u:p@[::1]:443/a", "https://[::1]/a"),
        ("https://[2001:DB8::443]/a", "https://[2001:db8::443]/a"),
        ("http://[::1]:8080", "http://[::1]:8080/"),
        ("https://h/A%2fb/../c?B=%C3%A9&a=@x:y#z?", "https://h/A%2fb/../c?B=%C3%A9&a=@x:y"),
        ("https://h/x?next=http://u:p@o/#f", "https://h/x?next=http://u:p@o/"),
        ("https://h//a//", "https://h//a//"),
    ],
)
def test_the_canonical_form_changes_only_what_no_origin_can_tell_apart(url, canonical):
    assert canonical_url(url) == canonical
    assert canonical_url(canonical) == canonical


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://u:p@H.Test/simple/", "h.test:443"),
        ("http://h:8080", "h:8080"),
        ("http://[::1]/", "[::1]:80"),
        ("https://[::1]:8443/x", "[::1]:8443"),
        ("https://h:/", "h:443"),
        ("https://h:x/", ""),
        ("https:///x", ""),
        ("file:///x", ""),
        ("ftp://h/x", ""),
        ("../links", ""),
        ("h:80/x", ""),
    ],
)
def test_an_authority_always_has_a_port(url, authority):
    assert authority_of(url) == authority


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


def test_keys_are_made_of_the_canonical_url():
    assert cache_key("HTTPS://u:p@H:443/x#y") == cache_key("https://h/x")
    assert cache_key("https://h/x?") != cache_key("https://h/x")
    head, two, rest = cache_key("https://h/\ud800").split("/")
    assert (head, len(two), len(rest)) == ("heads", 2, 62)
    assert body_key(Digest("sha256", "ab" * 32)) == "bodies/sha256/ab/" + "ab" * 31


def test_a_variant_is_named_by_values_and_not_by_their_order():
    assert variant_name(()) == "0"
    assert variant_name((("a", "1"), ("b", None))) == variant_name((("b", None), ("a", "1")))
    assert len({variant_name((("a", value),)) for value in (None, "", "1", "\ud800")}) == 4


def test_a_head_comes_back_as_it_was():
    assert Head.from_bytes(HEAD.to_bytes(), key="0") == HEAD
    assert HEAD.is_immutable


def test_a_head_with_undecodable_text_can_be_kept():
    odd = Head("https://h/\ud800", "GET", HEAD.response, None)
    assert Head.from_bytes(odd.to_bytes(), key="0") == odd


@pytest.mark.parametrize("key", sorted(json.loads(HEAD.to_bytes())))
@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        -1.5,
        True,
        "x",
        [],
        {},
        [[1]],
        ["a"],
        [None],
        float("inf"),
        float("nan"),
        "\x00",
        10**400,
    ],
)
def test_a_field_of_the_wrong_type_is_an_invalid_head_or_harmless(key, value):
    data = json.loads(HEAD.to_bytes())
    data[key] = value
    try:
        head = Head.from_bytes(json.dumps(data).encode())
    except InvalidHead:
        return
    assert Head.from_bytes(head.to_bytes()) == head
    assert head.project is None or isinstance(head.project, str)


@pytest.mark.parametrize(
    "key", sorted(set(json.loads(HEAD.to_bytes())) - {"invalidated", "shared", "credentialed"})
)
def test_a_head_that_lacks_a_field_is_invalid(key):
    data = json.loads(HEAD.to_bytes())
    del data[key]
    with pytest.raises(InvalidHead):
        Head.from_bytes(json.dumps(data).encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"format"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format":2}',
        b'{"format":' + b"1" * 5000 + b"}",
    ],
    ids=range(11),
)
def test_what_is_no_head_is_an_invalid_head(raw):
    with pytest.raises(InvalidHead):
        Head.from_bytes(raw)


def test_every_cut_of_a_head_is_invalid():
    raw = HEAD.to_bytes()
    for end in range(len(raw) - 1):
        with pytest.raises(InvalidHead):
            Head.from_bytes(raw[:end])


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("--index-url=https://me:pw@h/simple/", "--index-url=https://h/simple/"),
        ("demo @ https://me:pw@h/d-1.whl#sha256=ab", "demo @ https://h/d-1.whl#sha256=ab"),
        ("demo @ git+https://me:pw@h/d", "demo @ git+https://h/d"),
        (
            "pip install -i 'https://me:pw@h/' 'https://h/t/tk-1/c' && true",
            "pip install -i 'https://h/' 'https://h/t/<TOKEN>/c' && true",
        ),
        ("UV_INDEX_OWN_PASSWORD=pw", "UV_INDEX_OWN_PASSWORD=***"),
        ("env PIP_TOKEN=pw pip", "env PIP_TOKEN=*** pip"),
        ("--token=pw", "--token=***"),
        ("https://h/a?v=1&x=me@h", "https://h/a?v=1&x=me@h"),
        ("./tokens/a=b", "./tokens/a=b"),
        ("plain", "plain"),
    ],
)
def test_a_command_line_is_shown_without_its_secrets(word, shown):
    assert redacted_words([word, "--password", "pw"]) == [shown, "--password", "***"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["curl", "-u", "me:pw", "x"], ["curl", "-u", "***", "x"]),
        (["curl", "-H", "Authorization: Bearer pw"], ["curl", "-H", "***"]),
        (["pip", "install", "--user", "name"], ["pip", "install", "--user", "name"]),
    ],
)
def test_credentials_in_curls_options_and_fields_are_masked_in_a_command_line(words, shown):
    assert redacted_words(words) == shown


@pytest.mark.parametrize(
    ("url", "tokens"),
    [
        ("https://h/t/tk-1/conda/noarch/", ("tk-1",)),
        ("https://h/%74/tk-1/x", ("tk-1",)),
        ("https://h/t/file.whl", ()),
        ("https://h/t/", ()),
        ("https://h/a?x=/t/tk-1/", ()),
    ],
)
def test_the_tokens_of_a_urls_path_are_found(url, tokens):
    assert tokens_in(url) == tokens
