"""Settings that override the environment: each is neutralised, merged, left closed or named."""

from __future__ import annotations

import pytest

from setup_sandbox import PROXY, Sandbox

URL = "https://index.test/simple"


@pytest.fixture
def sandbox(tmp_path):
    sandbox = Sandbox.under(tmp_path)
    sandbox.write({"corp.pem": "-----BEGIN CERTIFICATE-----\n"})
    return sandbox


def corp(sandbox):
    return str(sandbox.project / "corp.pem")


# pip


@pytest.mark.parametrize(
    ("argv", "changed"),
    [
        ("pip --proxy http://c.test:1 install six", "pip install six"),
        ("pip install --proxy=http://c.test:1 six", "pip install six"),
        (
            "/x/bin/pip3.11 --cert corp.pem install six",
            f"/x/bin/pip3.11 --cert={PROXY.bundle} install six",
        ),
        (
            "python -m pip --cert=corp.pem install six",
            f"python -m pip --cert={PROXY.bundle} install six",
        ),
        (
            "python3.12 -I -mpip --cert corp.pem download six",
            f"python3.12 -I -mpip --cert={PROXY.bundle} download six",
        ),
    ],
)
def test_flags_of_a_pip_that_is_started_directly_are_changed(sandbox, argv, changed):
    setup = sandbox.setups(argv)["pip"]
    assert setup.argv == tuple(changed.split())
    assert not setup.warnings
    assert (corp(sandbox) in setup.bundles) is ("corp.pem" in argv)


@pytest.mark.parametrize(
    "argv",
    [
        "pip install six",
        "pip install --trusted-host index.test six",
        "pip --use-deprecated=legacy-certs install six",
        "python x.py --cert a",
    ],
)
def test_a_harmless_command_line_stays_as_it_was(sandbox, argv):
    setup = sandbox.setups(argv)["pip"]
    assert setup.argv is None
    assert not setup.warnings


def test_the_proxys_token_never_becomes_a_flag(sandbox):
    sandbox.write({"~/.curlrc": "cacert = corp.pem\n"})
    for argv in (
        "pip --proxy http://c.test:1 --isolated install x",
        "curl -x http://c.test:1 https://a.test/x",
        "wget https://a.test/x",
    ):
        for setup in sandbox.setups(argv).values():
            assert not any("token" in word for word in setup.argv or ())


def test_a_cert_flag_inside_another_command_is_beaten_by_variables(sandbox):
    """Without PIP_PROXY pip takes HTTPS_PROXY, and REQUESTS_CA_BUNDLE then beats --cert."""
    setup = sandbox.setups(("sh", "-c", "pip --cert corp.pem install six"))["pip"]
    assert setup.environment == {"PIP_PROXY": None}
    assert setup.argv is None
    assert corp(sandbox) in setup.bundles


def test_a_proxy_flag_inside_another_command_is_named(sandbox):
    setup = sandbox.setups(("sh", "-c", "pip --proxy http://c.test:1 install six"))["pip"]
    assert any("--proxy" in sentence for sentence in setup.warnings)


def test_a_cert_flag_inside_another_command_beside_a_configured_proxy_is_named(sandbox):
    sandbox.write({"~/.config/pip/pip.conf": "[global]\nproxy = http://c.test:1\n"})
    setup = sandbox.setups(("sh", "-c", "pip --cert corp.pem install six"))["pip"]
    assert "PIP_PROXY" not in setup.environment
    assert any("--cert" in sentence for sentence in setup.warnings)


def test_a_cert_in_pip_conf_is_merged(sandbox):
    sandbox.write({"~/.config/pip/pip.conf": "[global]\ncert = ~/ca.pem\n", "~/ca.pem": "x"})
    assert str(sandbox.home / "ca.pem") in sandbox.setups("pip install six")["pip"].bundles


def test_a_proxy_in_pip_conf_needs_nothing_but_the_common_variables(sandbox):
    sandbox.write({"~/.config/pip/pip.conf": "[global]\nproxy = http://c.test:1\n"})
    setup = sandbox.setups("pip install six")["pip"]
    assert not setup.environment
    assert not setup.warnings


@pytest.mark.parametrize(
    ("argv", "environ"),
    [("pip --isolated install six", {}), ("pip install six", {"PIP_ISOLATED": "1"})],
)
def test_isolated_pip_with_a_configured_proxy_is_named(sandbox, argv, environ):
    sandbox.environ.update(environ)
    sandbox.write({".venv/pip.conf": "[global]\nproxy = http://c.test:1\n"})
    assert any(
        "--isolated" in sentence and "pip.conf:2" in sentence
        for sentence in sandbox.setups(argv)["pip"].warnings
    )


@pytest.mark.parametrize(
    ("argv", "environ", "files"),
    [
        (f"pip --client-cert me.pem install -i {URL} six", {}, {}),
        (f"pip install -i {URL} six", {"PIP_CLIENT_CERT": "me.pem"}, {}),
        (
            "pip install six",
            {},
            {"~/.config/pip/pip.conf": f"[global]\nindex-url = {URL}\nclient-cert = me.pem\n"},
        ),
    ],
    ids=["flag", "variable", "file"],
)
def test_indexes_beside_a_client_certificate_of_pip_stay_closed(sandbox, argv, environ, files):
    sandbox.environ.update(environ)
    sandbox.write(files)
    setup = sandbox.setups(argv)["pip"]
    assert setup.closed == {"index.test:443"}
    assert any("client certificate" in sentence for sentence in setup.warnings)


# uv


@pytest.mark.parametrize("key", ["https-proxy", "http-proxy"])
def test_a_proxy_in_uv_toml_is_named_with_its_line(sandbox, key):
    sandbox.write({"uv.toml": f'offline = false\n{key} = "http://c.test:1"\n'})
    assert any(
        key in sentence and "uv.toml:2" in sentence
        for sentence in sandbox.setups("uv sync")["uv"].warnings
    )


def test_a_uv_toml_that_is_switched_off_is_not_named(sandbox):
    sandbox.write({"uv.toml": 'https-proxy = "http://c.test:1"\n'})
    assert not sandbox.setups("uv --no-config sync")["uv"].warnings


def test_indexes_beside_a_client_certificate_of_uv_stay_closed(sandbox):
    sandbox.environ.update(
        {"SSL_CLIENT_CERT": "me.pem", "UV_INDEX": "http://index.test:8080/simple"}
    )
    assert sandbox.setups("uv sync")["uv"].closed == {"index.test:8080"}


@pytest.mark.parametrize(
    "argv", ["uv --allow-insecure-host index.test sync", "uv --system-certs sync"]
)
def test_harmless_flags_of_uv_are_not_named(sandbox, argv):
    assert not sandbox.setups(argv)["uv"].warnings


# poetry and pdm


def test_a_certificate_of_a_poetry_source_is_overridden_by_poetrys_own_variable(sandbox):
    sandbox.write({"~/.config/pypoetry/config.toml": '[certificates.my-own]\ncert = "corp.pem"\n'})
    setup = sandbox.setups("poetry install")["poetry"]
    assert setup.environment == {"POETRY_CERTIFICATES_MY_OWN_CERT": PROXY.bundle}
    assert corp(sandbox) in setup.bundles


def test_a_switched_off_verification_of_a_poetry_source_is_left_alone(sandbox):
    sandbox.write({"poetry.toml": "[certificates.own]\ncert = false\n"})
    setup = sandbox.setups("poetry install")["poetry"]
    assert not setup.environment
    assert not setup.bundles


def test_a_poetry_source_with_a_client_certificate_stays_closed(sandbox):
    sandbox.write(
        {
            "pyproject.toml": f'[[tool.poetry.source]]\nname = "own"\nurl = "{URL}"\n[[tool.poetry.source]]\nname = "b"\nurl = "https://b.test"\n',
            "poetry.toml": '[certificates.own]\nclient-cert = "me.pem"\n',
        }
    )
    setup = sandbox.setups("poetry install")["poetry"]
    assert setup.closed == {"index.test:443"}
    assert setup.warnings


def test_a_pdm_source_with_roots_or_a_client_certificate_of_its_own_stays_closed(sandbox):
    source = '[[tool.pdm.source]]\nname = "{0}"\nurl = "https://{0}.test/simple"\n{1}\n'
    sandbox.write(
        {
            "pyproject.toml": source.format("a", 'ca_certs = "corp.pem"')
            + source.format("b", 'client_cert = "me.pem"')
        }
    )
    setup = sandbox.setups("pdm install")["pdm"]
    assert setup.closed == {"a.test:443", "b.test:443"}
    assert len(setup.warnings) == 2


def test_roots_of_pdms_default_source_close_its_files_host_too(sandbox):
    """pdm uses them for every host that is no source of its own."""
    from pip._internal.models.index import PyPI

    sandbox.write({"~/.config/pdm/config.toml": '[pypi]\nca_certs = "corp.pem"\n'})
    assert f"{PyPI.file_storage_domain}:443" in sandbox.setups("pdm install")["pdm"].closed


def test_a_pdm_source_that_is_not_verified_is_opened_all_the_same(sandbox):
    sandbox.write(
        {"pyproject.toml": f'[[tool.pdm.source]]\nname = "a"\nurl = "{URL}"\nverify_ssl = false\n'}
    )
    setup = sandbox.setups("pdm install")["pdm"]
    assert not setup.closed
    assert not setup.warnings


# conda


def test_proxies_in_condarc_are_named(sandbox):
    sandbox.write({"~/.condarc": "channels: []\nproxy_servers:\n  https: http://c.test:1\n"})
    assert any(
        ".condarc:2" in sentence for sentence in sandbox.setups("conda install x")["conda"].warnings
    )


def test_roots_in_condarc_are_merged(sandbox):
    sandbox.write({"~/.condarc": f"ssl_verify: {corp(sandbox)}\n"})
    setup = sandbox.setups("conda install x")["conda"]
    assert corp(sandbox) in setup.bundles
    assert setup.environment == {"MAMBA_SSL_VERIFY": PROXY.bundle}


@pytest.mark.parametrize("value", ["false", "true", "truststore", "<system>"])
def test_ssl_verify_that_names_no_file_is_left_alone(sandbox, value):
    sandbox.write({"~/.condarc": f"ssl_verify: {value}\n"})
    setup = sandbox.setups("conda install x")["conda"]
    assert not setup.environment
    assert not setup.bundles


def test_channels_beside_a_client_certificate_stay_closed_but_not_the_built_in_ones(sandbox):
    sandbox.write(
        {"~/.condarc": "channels:\n  - https://index.test/conda\nclient_ssl_cert: me.pem\n"}
    )
    setup = sandbox.setups("conda install x")["conda"]
    assert setup.closed == {"index.test:443"}
    assert any("repo.anaconda.com" in url for url in setup.indexes)


# which command it is


@pytest.mark.parametrize(
    "argv",
    [
        "conda env create",
        "poetry install",
        "pdm install",
        "pipenv install",
        "tox",
        "uv run x",
        "sh -c pip",
    ],
)
def test_settings_of_pip_count_below_the_tools_that_call_it(sandbox, argv):
    sandbox.write(
        {"~/.config/pip/pip.conf": f"[global]\nindex-url = {URL}\nclient-cert = me.pem\n"}
    )
    assert sandbox.setups(argv)["pip"].closed == {"index.test:443"}
    assert not sandbox.setups("uv sync")["pip"].closed


FORBIDDING = {
    "uv": {"~/.config/uv/uv.toml": 'https-proxy = "http://c.test:1"\n'},
    "pdm": {"~/.config/pdm/config.toml": '[pypi]\nca_certs = "corp.pem"\n'},
    "conda": {
        "~/.condarc": "proxy_servers:\n  https: http://c.test:1\nclient_ssl_cert: me.pem\nchannels: ['https://index.test']\n"
    },
    "poetry": {
        "~/.config/pypoetry/config.toml": '[certificates.own]\nclient-cert = "me.pem"\n[repositories.own]\nurl="https://a.test"\n'
    },
}


@pytest.mark.parametrize("tool", FORBIDDING)
def test_settings_of_a_tool_are_not_held_against_a_command_that_never_runs_it(sandbox, tool):
    sandbox.write(FORBIDDING[tool])
    for argv in ("pip install six", "python -m pip install six"):
        setup = sandbox.setups(argv)[tool]
        assert not setup.closed
        assert not setup.warnings
    for argv in (f"{tool} install", "make install", f"uv run {tool}", "python -m nox"):
        assert sandbox.setups(argv)[tool].warnings


# curl, wget, git, npm


@pytest.mark.parametrize(
    ("argv", "changed"),
    [
        ("curl -x http://c.test:1 https://index.test/x", "curl https://index.test/x"),
        ("curl -sSx http://c.test:1 https://index.test/x", "curl -sS https://index.test/x"),
        (
            "curl --cacert corp.pem https://index.test/x",
            f"curl https://index.test/x --cacert {PROXY.bundle}",
        ),
    ],
)
def test_flags_of_a_curl_that_is_started_directly_are_changed(sandbox, argv, changed):
    assert sandbox.setups(argv)["curl"].argv == tuple(changed.split())


def test_roots_in_curlrc_are_merged_and_beaten_by_a_flag(sandbox):
    sandbox.write({"~/.curlrc": f'# ours\ncacert = "{corp(sandbox)}"\n'})
    setup = sandbox.setups("curl https://index.test/x")["curl"]
    assert corp(sandbox) in setup.bundles
    assert setup.argv == ("curl", "https://index.test/x", "--cacert", PROXY.bundle)


def test_a_proxy_in_curlrc_is_named(sandbox):
    sandbox.write({"~/.curlrc": "proxy = http://c.test:1\n"})
    assert any(
        ".curlrc:1" in sentence
        for sentence in sandbox.setups("curl https://index.test/x")["curl"].warnings
    )
    assert not sandbox.setups("curl -q https://index.test/x")["curl"].warnings


def test_a_curl_with_a_client_certificate_keeps_its_hosts_closed(sandbox):
    assert sandbox.setups("curl --cert me.pem https://index.test/x")["curl"].closed == {
        "index.test:443"
    }


def test_flags_of_other_programs_are_not_taken_for_curls(sandbox):
    setup = sandbox.setups("sudo -E sh -x curl https://index.test/x")["curl"]
    assert not setup.closed
    assert not setup.warnings


def test_wget_gets_the_bundle_by_a_flag_where_it_is_started_directly(sandbox):
    setup = sandbox.setups("wget --ca-certificate=corp.pem https://index.test/x")["wget"]
    assert setup.argv == ("wget", f"--ca-certificate={PROXY.bundle}", "https://index.test/x")
    assert corp(sandbox) in setup.bundles


def test_wget_below_another_command_is_named(sandbox):
    setup = sandbox.setups(("sh", "-c", "wget https://index.test/x"))["wget"]
    assert setup.warnings
    assert not setup.indexes


def test_proxies_and_roots_of_git_are_overridden_by_settings_appended_to_those_of_the_environment(
    sandbox,
):
    sandbox.environ.update(
        {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "x"}
    )
    sandbox.write(
        {
            "~/.gitconfig": '[user]\n\tname = x\n[http]\n\tproxy = http://c.test:1\n[http "https://b.test"]\n\tproxy = http://d.test:1\n',
            ".git/config": f"[HTTP]\n\tsslCAInfo = {corp(sandbox)}\n",
        }
    )
    setup = sandbox.setups("pip install git+https://b.test/x")["git"]
    changes = setup.environment
    assert changes["GIT_CONFIG_COUNT"] == "4"
    assert {
        changes[f"GIT_CONFIG_KEY_{n}"]: changes[f"GIT_CONFIG_VALUE_{n}"] for n in (1, 2, 3)
    } == {
        "http.proxy": PROXY.proxy,
        "http.https://b.test.proxy": PROXY.proxy,
        "http.sslcainfo": PROXY.bundle,
    }
    assert corp(sandbox) in setup.bundles


def test_a_git_without_proxies_of_its_own_gets_no_settings(sandbox):
    sandbox.write({"~/.gitconfig": "[user]\n\tname = x\n"})
    assert not sandbox.setups("git fetch")["git"].environment


def test_roots_and_proxies_of_npm_are_overridden_by_its_variables(sandbox):
    sandbox.write(
        {"~/.npmrc": f"cafile={corp(sandbox)}\n", ".npmrc": "https-proxy=http://c.test:1\n"}
    )
    setup = sandbox.setups("npm install")["npm"]
    assert setup.environment == {
        "npm_config_cafile": PROXY.bundle,
        "npm_config_proxy": PROXY.proxy,
        "npm_config_https_proxy": PROXY.proxy,
    }
    assert corp(sandbox) in setup.bundles


# digests that are known beforehand


LOCKS = {
    "pip -r": ("pip install -r r.txt", ["r.txt", "sub/c.txt"]),
    "pip -c": ("pip install -c sub/c.txt six", ["sub/c.txt"]),
    "uv sync": ("uv sync", ["uv.lock"]),
    "uv tree of a script": ("uv tree --script s.py", ["uv.lock", "s.py.lock"]),
    "uv pip": ("uv pip install -r r.txt", ["r.txt", "sub/c.txt"]),
    "uv pip sync": ("uv pip sync pylock.toml", ["pylock.toml"]),
    "poetry": ("poetry install", ["poetry.lock"]),
    "pdm": ("pdm sync", ["pdm.lock", "pylock.toml"]),
    "pipenv": ("pipenv sync", ["Pipfile.lock"]),
    "pixi": ("pixi install", ["pixi.lock"]),
    "conda": ("conda create --file e.txt", ["e.txt", "conda-lock.yml"]),
    "pip without a file": ("pip install six", []),
}


@pytest.mark.parametrize(("argv", "names"), LOCKS.values(), ids=LOCKS.keys())
def test_the_lock_files_that_the_child_will_read_are_named(sandbox, argv, names):
    sandbox.write(
        {
            "r.txt": "-c sub/c.txt\nsix==1 --hash=sha256:0\n",
            "sub/c.txt": "six==1\n",
            "s.py": "",
            "e.txt": "@EXPLICIT\nhttps://a.test/x.conda\n",
            "Pipfile.lock": '{"_meta": {}}',
            **dict.fromkeys(
                (
                    "uv.lock",
                    "s.py.lock",
                    "pylock.toml",
                    "poetry.lock",
                    "pdm.lock",
                    "pixi.lock",
                    "conda-lock.yml",
                ),
                "#",
            ),
        }
    )
    named = {path for setup in sandbox.setups(argv).values() for path in setup.locks}
    assert named == {sandbox.project / name for name in names}


def test_a_program_that_may_call_any_tool_may_read_every_lock(sandbox):
    sandbox.write(
        {
            "uv.lock": "#",
            "poetry.lock": "#",
            "tox.ini": "[testenv]\ndeps = -r t.txt\n",
            "t.txt": "six\n",
            "requirements.txt": "x",
        }
    )
    named = {path.name for setup in sandbox.setups("tox").values() for path in setup.locks}
    assert named == {"uv.lock", "poetry.lock", "t.txt"}
