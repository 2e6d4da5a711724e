"""URLs as keys, and the hosts in them."""

import pytest

from entrepot.urls import Resolver, authority_of, canonical_url, is_loopback


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


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost",
        "a.localhost",
        "localhost.",
        "127.0.0.1",
        "127.8.0.2",
        "::1",
        "[::1]",
    ]
    + ["::ffff:127.0.0.1"],
)
def test_loopback_is_known_by_its_name(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["localhost.example.org", "127.example.org", "127.0.0.1.example.org", "127.", "notlocalhost"]
    + ["128.0.0.1", "index.test", "", "::", "::ffff:128.0.0.1", "[127", "0.0.0.0"],
)
def test_a_name_that_only_looks_like_loopback_is_none(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("href", ["HTTP://:", "http://", "https://:443", "http:///x"])
def test_a_link_without_a_host_leads_nowhere(href):
    assert Resolver("https://index.test/simple/x/")(href) == ""
