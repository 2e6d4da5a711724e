"""Which requests go through the user's proxy."""

from __future__ import annotations

import pytest

from entrepot.errors import ConfigError
from entrepot.upstream.proxies import (
    Origin,
    ProxyRules,
    is_loopback,
    parse_proxy,
    split_authority,
    split_origin,
)

P = "http://proxy.test:3128"
Q = "http://other.test:3128"


@pytest.mark.parametrize(
    ("environ", "http", "https"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": P}, None, P),
        ({"https_proxy": P}, None, P),
        ({"HTTP_PROXY": P}, P, None),
        ({"http_proxy": P}, P, None),
        ({"ALL_PROXY": P}, P, P),
        ({"all_proxy": P, "HTTPS_PROXY": Q}, P, Q),
        ({"https_proxy": P, "HTTPS_PROXY": Q}, None, P),
        ({"https_proxy": "", "HTTPS_PROXY": Q}, None, None),
        ({"https_proxy": "", "ALL_PROXY": Q}, Q, None),
        ({"https_proxy": f" {P} "}, None, P),
        ({"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, None, None),
        ({"http_proxy": P, "REQUEST_METHOD": "GET"}, P, None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "*"}, None, None),
    ],
)
def test_variables_decide_by_scheme_and_case(environ, http, https):
    rules = ProxyRules.from_environ(environ)
    assert rules.proxy_for("http://index.test/simple/") == http
    assert rules.proxy_for("HTTPS://me:pw@index.test/simple/") == https


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("example.org", "example.org", True),
        ("example.org", "EXAMPLE.org", True),
        ("example.org", "a.example.org", True),
        ("example.org", "example.org.", True),
        ("example.org", "badexample.org", False),
        (".example.org", "example.org", True),
        (".example.org", "a.b.example.org", True),
        ("*.example.org", "a.example.org", True),
        ("Example.ORG", "example.org", True),
        ("a.test, example.org", "example.org", True),
        ("a.test example.org", "example.org", True),
        (",,", "example.org", False),
        (".", "example.org", False),
        ("*", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.33", False),
        ("2.3", "10.1.2.3", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3/8", "10.9.9.9", True),
        ("10.0.0.0/8", "example.org", False),
        ("10.0.0.0/99", "10.1.2.3", False),
        ("fd00::/8", "[fd00::1]", True),
        ("fd00::1", "[fd00::1]", True),
        ("[fd00::1]", "[fd00::1]", True),
        ("[fd00::1]:443", "[fd00::1]", True),
        ("[fd00::1]:8443", "[fd00::1]", False),
        ("example.org:443", "example.org", True),
        ("example.org:8443", "example.org", False),
        ("example.org:8443", "example.org:8443", True),
        ("example.org:x", "example.org", False),
    ],
)
def test_no_proxy_covers(no_proxy, host, direct):
    rules = ProxyRules.from_environ({"https_proxy": P, "no_proxy": no_proxy})
    assert rules.proxy_for(f"https://{host}/") == (None if direct else P)


@pytest.mark.parametrize(
    "host", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "LOCALHOST:8080"]
)
def test_loopback_goes_directly(host):
    assert ProxyRules.from_environ({"ALL_PROXY": P}).proxy_for(f"http://{host}/") is None


def test_loopback_that_is_named_goes_through_the_proxy():
    rules = ProxyRules.from_environ({"ALL_PROXY": P}, through=["127.0.0.1:8080", "LocalHost"])
    assert rules.proxy_for("http://127.0.0.1:8080/") == P
    assert rules.proxy_for("http://localhost:1/") == P
    assert rules.proxy_for("http://127.0.0.1:8081/") is None


@pytest.mark.parametrize(
    "host", ["localhost.example.org", "127.example.org", "128.0.0.1", "index.test"]
)
def test_a_name_that_only_looks_like_loopback_is_none(host):
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "url",
    ["me:s3cret@proxy.test", "http://me:s3cret@proxy.test:3128", "https://me:s3cret@[fd00::1]/"],
)
def test_credentials_are_kept_for_use_and_shown_nowhere(url):
    proxy = parse_proxy(url)
    assert proxy.authorization == "Basic bWU6czNjcmV0"
    shown = f"{proxy} {proxy!r} {ProxyRules.from_environ({'https_proxy': url})!r}"
    assert "s3cret" not in shown
    assert "bWU6" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "http://me:s3cret@",
        "http://me:s3cret@proxy.test:port",
        "http://me:s3cret@:80",
        "http://s3cret@a b:1",
    ],
)
def test_an_unreadable_proxy_is_a_wrong_setting_and_keeps_its_secret(url):
    with pytest.raises(ConfigError) as caught:
        parse_proxy(url, source="HTTPS_PROXY")
    assert caught.value.source == "HTTPS_PROXY"
    assert "s3cret" not in f"{caught.value} {caught.value.value}"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://Index.Test", Origin("http", "index.test", 80)),
        ("https://index.test?x", Origin("https", "index.test", 443)),
        ("https://a:b@[::1]:8443/x@y:1/", Origin("https", "::1", 8443)),
    ],
)
def test_the_origin_of_a_url(url, origin):
    assert split_origin(url) == origin


def test_an_origin_is_written_as_connect_wants_it():
    assert (Origin("https", "::1", 443).authority, Origin("http", "a.test", 80).authority) == (
        "[::1]:443",
        "a.test:80",
    )


@pytest.mark.parametrize(
    "text", ["", ":80", "a:b", "a:-1", "a:65536", "[::1", "[::1]x", "a b", "a\r\nb", "a:٣"]
)
def test_what_is_no_host_and_port(text):
    with pytest.raises(ValueError, match="not HOST:PORT"):
        split_authority(text, 80)


@pytest.mark.parametrize("url", ["/relative", "ftp://a.test/", "a.test:80", ""])
def test_what_is_no_absolute_http_url(url):
    with pytest.raises(ValueError, match="not an absolute"):
        split_origin(url)
