"""The variables that every child gets, as a pure function of the user's own."""

from __future__ import annotations

import dataclasses

import pytest

from entrepot.ports.client_setup import ProxyAddress
from entrepot.tools.client_setup.proxy_environment import (
    BUNDLE_VARIABLES,
    MARKER,
    PROXY_VARIABLES,
    RETRY_VARIABLES,
    common_environment,
    no_proxy,
    outer_run,
)

PROXY = ProxyAddress(
    proxy="http://run:token@127.0.0.1:4567", bundle="/private/bundle.pem", offline=False
)


def test_both_spellings_of_the_proxy_are_set_and_the_catch_all_is_removed():
    changes = common_environment(
        {"ALL_PROXY": "socks5://corp.test:1", "https_proxy": "http://corp.test:2"},
        PROXY,
        loopback_open=False,
    )
    assert {changes[name] for name in PROXY_VARIABLES} == {PROXY.proxy}
    assert changes["PIP_PROXY"] == PROXY.proxy
    assert changes["ALL_PROXY"] is None
    assert changes["all_proxy"] is None


def test_every_ca_variable_names_the_merged_bundle_whatever_it_was():
    changes = common_environment({"REQUESTS_CA_BUNDLE": "/corp.pem"}, PROXY, loopback_open=False)
    assert {changes[name] for name in BUNDLE_VARIABLES} == {PROXY.bundle}
    assert "SSL_CERT_DIR" not in changes


@pytest.mark.parametrize(
    "name", ["NPM_CONFIG_CAFILE", "npm_config_cafile", "CONDA_SSL_VERIFY", "MAMBA_SSL_VERIFY"]
)
def test_what_replaces_a_clients_own_roots_is_rewritten_only_when_the_user_had_set_it(name):
    assert name not in common_environment({}, PROXY, loopback_open=False)
    assert common_environment({name: "/corp.pem"}, PROXY, loopback_open=False)[name] == PROXY.bundle


def test_retries_are_switched_off_only_offline():
    assert not set(RETRY_VARIABLES) & set(common_environment({}, PROXY, loopback_open=False))
    offline = common_environment({}, dataclasses.replace(PROXY, offline=True), loopback_open=False)
    assert {offline[name] for name in RETRY_VARIABLES} == {"0"}


def test_request_method_stays_as_it_is():
    assert "REQUEST_METHOD" not in common_environment(
        {"REQUEST_METHOD": "GET"}, PROXY, loopback_open=False
    )


@pytest.mark.parametrize(
    ("environ", "loopback_open", "hosts", "expected"),
    [
        ({}, False, (), "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "corp.test"}, False, (), "localhost,127.0.0.1,::1"),
        ({"no_proxy": ".corp.test,*,*.corp.test:443"}, False, (), "localhost,127.0.0.1,::1"),
        (
            {"NO_PROXY": "10.0.0.1, 10.0.0.2", "no_proxy": "10.0.0.2,10.0.0.3:80"},
            False,
            (),
            "10.0.0.1,10.0.0.2,10.0.0.3:80,localhost,127.0.0.1,::1",
        ),
        (
            {"NO_PROXY": "localhost,fe80::1,[::2]"},
            False,
            (),
            "localhost,fe80::1,[::2],127.0.0.1,::1",
        ),
        ({}, True, (), None),
        ({"NO_PROXY": "localhost,127.0.0.1,::1"}, True, (), None),
        ({"NO_PROXY": "localhost,10.1,127.0.0.0/8,[::1]"}, True, (), "10.1"),
        (
            {"NO_PROXY": "10.0.0.0/8,10.9.0.0/16"},
            False,
            ("10.1.2.3",),
            "10.9.0.0/16,localhost,127.0.0.1,::1",
        ),
        (
            {"NO_PROXY": "10.0.0.0/8,a/b"},
            False,
            ("index.test",),
            "10.0.0.0/8,localhost,127.0.0.1,::1",
        ),
        ({"NO_PROXY": "10.1.2.3:443"}, False, ("10.1.2.3",), "localhost,127.0.0.1,::1"),
    ],
)
def test_no_proxy_keeps_of_the_users_list_what_cannot_bypass_the_proxy(
    environ, loopback_open, hosts, expected
):
    changes = common_environment(environ, PROXY, loopback_open=loopback_open, hosts=hosts)
    assert changes["NO_PROXY"] == expected
    assert changes["no_proxy"] == expected


def test_no_entry_is_said_twice():
    entries = no_proxy({"NO_PROXY": "a.test,a.test", "no_proxy": "::1"}, loopback_open=False)
    assert len(entries) == len(set(entries))


def test_a_run_inside_a_run_is_known_by_its_marker():
    changes = common_environment({}, PROXY, loopback_open=False)
    inside = {name: value for name, value in changes.items() if value is not None}
    assert outer_run(inside) == "127.0.0.1:4567"
    assert "token" not in inside[MARKER]


@pytest.mark.parametrize(
    "change",
    [
        {"HTTPS_PROXY": ""},
        {"https_proxy": "http://corp.test:3128"},
        {MARKER: ""},
        {MARKER: "127.0.0.1:9"},
    ],
    ids=["emptied", "another", "no marker", "older marker"],
)
def test_a_marker_whose_proxy_is_no_longer_in_force_is_no_outer_run(change):
    inside = {
        name: value
        for name, value in common_environment({}, PROXY, loopback_open=False).items()
        if value is not None
    }
    assert outer_run({**inside, **change}) is None
