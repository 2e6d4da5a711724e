"""What the user has set beside: a proxy, CA files, settings that stand above the environment."""

from __future__ import annotations

import json
import re
import sys

import pytest

import clients
from entrepot.testing.origin import Origin
from entrepot.testing.tls import TestAuthority
from own_proxy import PASSWORD, OwnProxy
from running import Desk

DEAD = "http://127.0.0.1:9"
HIDDEN = "curl -sS $(echo https:)//other.test/hello"
"""A URL that nobody can read beforehand: its host is tunnelled."""
pytestmark = pytest.mark.slow
AUTHORITY = TestAuthority("a company's own")


@pytest.fixture(scope="module")
def origin():
    with Origin(
        tls=True, authority=AUTHORITY, name="index.test", files_name="files.test"
    ) as running:
        running.add_project("demo", script="demo")
        yield running


@pytest.fixture(scope="module")
def other():
    """A server that has nothing to do with packages, with a certificate of the same authority."""
    with Origin(host="127.0.0.2", tls=True, authority=AUTHORITY, name="other.test") as running:
        running.add("/hello", b"hello from elsewhere")
        yield running


@pytest.fixture
def desk(tmp_path, origin, other):
    origin.reset()
    other.reset()
    return Desk.under(tmp_path / "desk", origin, other, PIP_NO_CACHE_DIR="1", UV_NO_CACHE="1")


def went_through(ran, origin) -> None:
    """The file came through the cache and nothing went past it."""
    assert ran.status == 0, ran.said
    assert any(url.endswith("demo-1.0-py3-none-any.whl") for url in ran.urls()), ran.said
    assert ran.report["uncached_hosts"] == {}, ran.said
    assert origin.count("whl$") == 1, ran.said


# A proxy of the user's own

PROXIED = {
    "pip": lambda url: [*clients.pip("26.3"), "download", "-q", "-d", "out", "-i", url, "demo"],
    "pip 20.3.4": lambda url: [
        *clients.pip("20.3.4"),
        "download",
        "-q",
        "-d",
        "out",
        "-i",
        url,
        "demo",
    ],
    "uv": lambda url: [
        *clients.uv(),
        "pip",
        "install",
        "-q",
        "--target",
        "out",
        "--default-index",
        url,
        "demo",
    ],
}


@pytest.mark.parametrize(
    ("client", "variable"),
    [
        ("pip", "HTTPS_PROXY"),
        ("pip", "ALL_PROXY"),
        ("pip 20.3.4", "https_proxy"),
        ("uv", "HTTPS_PROXY"),
        ("uv", "all_proxy"),
    ],
)
def test_what_is_not_here_is_fetched_through_the_users_own_proxy(desk, origin, client, variable):
    with OwnProxy({"index.test:443": origin.address, "files.test:443": origin.address}) as proxy:
        desk.environ |= {variable: proxy.url, "ENTREPOT_RESOLVE": ""}
        ran = desk.run(*PROXIED[client](origin.index_url))
        went_through(ran, origin)
        assert {"CONNECT index.test:443 HTTP/1.1", "CONNECT files.test:443 HTTP/1.1"} <= set(
            proxy.asked
        )
        assert not proxy.refused
        assert PASSWORD not in ran.said
        assert "corp%3Ap%40ss" not in ran.said


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
def test_plain_http_goes_through_the_users_proxy_too(tmp_path, variable):
    with Origin(name="index.test") as origin, OwnProxy({"index.test:80": origin.address}) as proxy:
        origin.add_project("demo")
        desk = Desk.under(
            tmp_path / "desk",
            **{variable: proxy.url, "PIP_TRUSTED_HOST": "index.test", "PIP_NO_CACHE_DIR": "1"},
        )
        ran = desk.run(*PROXIED["pip"](origin.index_url))
        went_through(ran, origin)
        assert any(line.startswith("GET http://index.test/") for line in proxy.asked)


def test_a_tunnel_goes_through_the_users_proxy_too(desk, other):
    with OwnProxy({"other.test:443": other.address}) as proxy:
        desk.environ |= {"https_proxy": proxy.url, "ENTREPOT_RESOLVE": ""}
        ran = desk.run("sh", "-c", HIDDEN)
        assert ran.stdout == "hello from elsewhere", ran.said
        assert proxy.asked == ["CONNECT other.test:443 HTTP/1.1"]
        assert list(ran.report["uncached_hosts"]) == ["other.test"]


def test_the_users_no_proxy_is_obeyed_on_the_way_out(desk, origin):
    with OwnProxy({}) as proxy:
        desk.environ |= {"HTTPS_PROXY": proxy.url, "NO_PROXY": "index.test,.files.test,files.test"}
        went_through(desk.run(*PROXIED["pip"](origin.index_url)), origin)
        assert not proxy.asked


def test_a_proxy_that_refuses_is_told_as_such_and_its_password_is_not(desk, origin):
    with OwnProxy({}) as proxy:
        desk.environ |= {
            "HTTPS_PROXY": proxy.bare_url.replace("//", "//corp-user:wr0ng@"),
            "ENTREPOT_RESOLVE": "",
            "PIP_RETRIES": "0",
        }
        ran = desk.run(*PROXIED["pip"](origin.index_url), "-v")
        assert ran.status == 1
        assert proxy.refused
        assert "wr0ng" not in ran.said


# CA files of the user's own

BUNDLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
)


def untrusted(desk) -> str:
    """Take the desk's trust away; the file that would give it back."""
    return desk.environ.pop("SSL_CERT_FILE")


@pytest.mark.parametrize(
    ("client", "variable"),
    [
        *(("pip", name) for name in BUNDLES),
        *(("uv", name) for name in BUNDLES),
        ("pip 20.3.4", "SSL_CERT_FILE"),
    ],
)
def test_a_private_authority_named_by_any_variable_serves_every_client(
    desk, origin, variable, client
):
    desk.environ[variable] = untrusted(desk)
    went_through(desk.run(*PROXIED[client](origin.index_url)), origin)


@pytest.mark.parametrize(
    ("client", "way"),
    [("pip", "pip.conf"), ("pip", "--cert"), ("pip", "--cert="), ("pip 20.3.4", "--cert")],
)
def test_a_private_authority_of_pips_own_settings_is_trusted(desk, origin, way, client):
    path = untrusted(desk)
    command = PROXIED[client](origin.index_url)
    if way == "pip.conf":
        desk.write({"~/.config/pip/pip.conf": f"[global]\ncert = {path}\n"})
    else:
        command += [f"--cert={path}"] if way == "--cert=" else ["--cert", path]
    went_through(desk.run(*command), origin)


@pytest.mark.parametrize("variable", ["CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_tunnelled_host_keeps_its_own_certificate_and_is_verified_by_the_users_bundle(
    desk, other, variable
):
    desk.environ[variable] = untrusted(desk)
    told = desk.run("sh", "-c", HIDDEN.replace("-sS", "-sSv"))
    assert told.stdout == "hello from elsewhere", told.said
    assert "a company's own" in told.stderr


def test_without_that_authority_nothing_is_trusted(desk, origin, other):
    untrusted(desk)
    ran = desk.run(*PROXIED["pip"](origin.index_url), "--retries", "0")
    assert ran.status == 1
    assert not origin.count()
    assert desk.run("sh", "-c", HIDDEN).status == 60
    assert not other.count()


def test_what_only_entrepot_signs_is_what_an_opened_host_shows(desk, origin):
    ran = desk.run("curl", "-sSv", "-o", "page", f"{origin.index_url}demo/")
    assert ran.status == 0, ran.said
    assert "entrepot, for this run only" in ran.stderr


# Settings that stand above the environment

NEUTRALISED = {
    "pip.conf proxy": ("pip", {"~/.config/pip/pip.conf": f"[global]\nproxy = {DEAD}\n"}, (), {}),
    "pip --proxy": ("pip", {}, ("--proxy", DEAD), {}),
    "PIP_PROXY": ("pip", {}, (), {"PIP_PROXY": DEAD}),
    "NO_PROXY *": ("pip", {}, (), {"NO_PROXY": "*"}),
    "NO_PROXY *, uv": ("uv", {}, (), {"no_proxy": "*"}),
    "NO_PROXY host": ("uv", {}, (), {"NO_PROXY": "index.test,files.test"}),
    "ALL_PROXY socks": (
        "pip",
        {},
        (),
        {"NO_PROXY": "index.test,files.test", "ALL_PROXY": "socks5://127.0.0.1:9"},
    ),
}


@pytest.mark.parametrize("case", NEUTRALISED.values(), ids=NEUTRALISED.keys())
def test_a_setting_above_the_environment_is_neutralised(desk, origin, case):
    client, files, flags, environ = case
    desk.write(files)
    desk.environ |= environ
    ran = desk.run(*PROXIED[client](origin.index_url), *flags)
    went_through(ran, origin)
    assert ran.report["warnings"] == [], ran.said


def test_a_setting_that_cannot_be_neutralised_is_named_in_the_last_line(desk, origin):
    desk.write({"uv.toml": f'https-proxy = "{DEAD}"\n'})
    ran = desk.run(*PROXIED["uv"](origin.index_url))
    assert ran.status != 0
    assert re.search(r"https-proxy in .*uv\.toml:1", ran.last_line)
    assert ran.report["warnings"]
    assert not origin.count()


def test_a_curlrc_that_stands_above_the_environment_is_named_in_the_last_line(desk, origin):
    desk.write({"~/.curlrc": f"proxy = {DEAD}\n"})
    ran = desk.run("curl", "-sS", f"{origin.index_url}demo/")
    assert ran.status == 7
    assert "curlrc" in ran.last_line


def test_a_run_inside_a_run_uses_the_outer_one(desk, origin):
    inner = [sys.executable, "-m", "entrepot", "run", "--", *PROXIED["pip"](origin.index_url)]
    ran = desk.run(*inner)
    went_through(ran, origin)
    assert ran.stderr.count("entrepot: ") == 1


def test_the_report_holds_what_the_last_line_says(desk, origin):
    ran = desk.run(*PROXIED["pip"](origin.index_url))
    assert json.loads(json.dumps(ran.report))["requests"] == len(ran.report["entries"])
    assert f"of {ran.report['requests']} requests" in ran.last_line
