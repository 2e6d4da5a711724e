"""Real clients, set up by the common variables and their own settings alone, arrive at a proxy that logs what it is asked."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from entrepot.ports.client_setup import Command
from entrepot.ports.tool import Surroundings
from entrepot.tools.client_setup.clients import client_setups
from entrepot.tools.client_setup.proxy_environment import common_environment
from logging_proxy import SYSTEM_ROOTS, LoggingProxy
from setup_sandbox import Sandbox

PIP = f"{os.environ.get('ENTREPOT_TEST_PYTHON', sys.executable)} -m pip"
"""Another interpreter may be named, to try another pip."""
DEAD = "http://127.0.0.1:9"
"""A proxy where nothing listens."""
INDEX = "https://index.test/simple"
pytestmark = pytest.mark.skipif(
    SYSTEM_ROOTS is None, reason="no bundle of system roots to merge with"
)


@pytest.fixture
def proxy(tmp_path):
    directory = tmp_path / "proxy"
    directory.mkdir()
    proxy = LoggingProxy(directory)
    yield proxy
    proxy.close()


@pytest.fixture
def sandbox(tmp_path):
    sandbox = Sandbox.under(tmp_path)
    sandbox.environ = {
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), os.environ.get("PATH", "/usr/bin:/bin")]
        ),
        "HOME": str(sandbox.home),
        "XDG_CONFIG_DIRS": "/nowhere",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    shutil.copy(SYSTEM_ROOTS, sandbox.project / "corp.pem")
    return sandbox


def run(sandbox, proxy, command, *, loopback_open=False):
    """Run a command as ``entrepot run`` would; its warnings and what it printed."""
    argv = tuple(command.split()) if isinstance(command, str) else command
    around = Surroundings(sandbox.environ, sandbox.home, sandbox.project)
    setups = client_setups(Command(argv, around), proxy.proxy).values()
    changes = common_environment(sandbox.environ, proxy.proxy, loopback_open=loopback_open)
    for setup in setups:
        changes.update(setup.environment)
        argv = setup.argv or argv
    environ = {**sandbox.environ, **changes}
    environ = {name: value for name, value in environ.items() if value is not None}
    done = subprocess.run(
        argv,
        cwd=sandbox.project,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return [sentence for setup in setups for sentence in setup.warnings], done.stdout + done.stderr


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


UV = next(
    (str(path) for path in [Path(sys.executable).parent / "uv"] if path.exists()),
    shutil.which("uv"),
)
needs_uv = pytest.mark.skipif(UV is None, reason="uv is not installed")
UV_COMMAND = f"{UV} pip compile --no-cache --index-url {INDEX} in.txt"
PIP_COMMAND = f"{PIP} download --no-cache-dir --no-deps -i {INDEX} nosuchthing"
URLLIB = "import urllib.request as u\ntry:\n    u.urlopen('https://index.test/simple/nosuchthing/')\nexcept u.HTTPError:\n    pass\n"
REQUESTS = "import requests\nrequests.get('https://index.test/simple/nosuchthing/')\n"
PDM_PROJECT = f"""[project]
name = "x"
version = "0"
requires-python = ">=3.11"
dependencies = ["nosuchthing"]
[[tool.pdm.source]]
name = "own"
url = "{INDEX}"
"""
needs_requests = pytest.mark.skipif(
    importlib.util.find_spec("requests") is None, reason="requests is not installed"
)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(PIP_COMMAND, id="pip"),
        pytest.param(UV_COMMAND, id="uv", marks=needs_uv),
        pytest.param(
            "curl -s https://index.test/simple/nosuchthing/", id="curl", marks=needs("curl")
        ),
        pytest.param(
            "wget -q -t 1 -O- https://index.test/simple/nosuchthing/",
            id="wget",
            marks=needs("wget"),
        ),
        pytest.param("git ls-remote https://index.test/nosuchthing", id="git", marks=needs("git")),
        pytest.param(
            "npm view nosuchthing --registry https://index.test/npm", id="npm", marks=needs("npm")
        ),
        pytest.param("pdm lock", id="pdm", marks=needs("pdm")),
        pytest.param((sys.executable, "-c", URLLIB), id="urllib"),
        pytest.param((sys.executable, "-c", REQUESTS), id="requests", marks=needs_requests),
        pytest.param(("sh", "-c", f"{PIP_COMMAND} || true"), id="pip below sh"),
    ],
)
@pytest.mark.parametrize(
    "environ",
    [
        {},
        {
            "HTTPS_PROXY": DEAD,
            "https_proxy": DEAD,
            "ALL_PROXY": "socks5://127.0.0.1:9",
            "NO_PROXY": "corp.test",
        },
        {
            "REQUESTS_CA_BUNDLE": "corp.pem",
            "SSL_CERT_FILE": "corp.pem",
            "CURL_CA_BUNDLE": "corp.pem",
            "PIP_CERT": "corp.pem",
        },
    ],
    ids=["bare", "user's proxies", "user's roots"],
)
def test_a_client_comes_to_the_proxy_and_trusts_it(sandbox, proxy, command, environ):
    sandbox.environ.update(environ)
    sandbox.write({"in.txt": "nosuchthing\n", "pyproject.toml": PDM_PROJECT})
    warnings, output = run(sandbox, proxy, command)
    assert any(
        url.startswith("https://index.test/") and "nosuchthing" in url for url in proxy.seen
    ), output
    assert not warnings


BEATEN = {
    "pip.conf proxy": (PIP_COMMAND, {}, {"~/.config/pip/pip.conf": f"[global]\nproxy = {DEAD}\n"}),
    "pip.conf cert": (PIP_COMMAND, {}, {"~/.config/pip/pip.conf": "[global]\ncert = corp.pem\n"}),
    "pip.conf cert and proxy": (
        PIP_COMMAND,
        {},
        {"~/.config/pip/pip.conf": f"[global]\ncert = corp.pem\nproxy = {DEAD}\n"},
    ),
    "pip.conf cert of a command": (
        PIP_COMMAND,
        {},
        {"~/.config/pip/pip.conf": "[download]\ncert = corp.pem\n"},
    ),
    "PIP_PROXY": (PIP_COMMAND, {"PIP_PROXY": DEAD}, {}),
    "PIP_NO_PROXY_ENV": (PIP_COMMAND, {"PIP_NO_PROXY_ENV": "1"}, {}),
    "pip --proxy": (f"{PIP_COMMAND} --proxy {DEAD}", {}, {}),
    "pip --cert": (f"{PIP_COMMAND} --cert corp.pem", {}, {}),
    "pip --cert --proxy": (f"{PIP_COMMAND} --cert=corp.pem --proxy={DEAD}", {}, {}),
    "pip --cert below sh": (("sh", "-c", f"{PIP_COMMAND} --cert corp.pem || true"), {}, {}),
    "pip legacy certs": (f"{PIP_COMMAND} --use-deprecated=legacy-certs", {}, {}),
    "pip --trusted-host": (f"{PIP_COMMAND} --trusted-host index.test", {}, {}),
    "pip --isolated": (f"{PIP_COMMAND} --isolated", {}, {}),
    "pip --isolated, user's proxy": (
        f"{PIP_COMMAND} --isolated",
        {},
        {"~/.config/pip/pip.conf": f"[global]\nproxy = {DEAD}\n"},
    ),
    "uv --allow-insecure-host": (f"{UV_COMMAND} --allow-insecure-host index.test", {}, {}),
    "UV_SYSTEM_CERTS": (UV_COMMAND, {"UV_SYSTEM_CERTS": "1"}, {}),
    "curl --proxy": (f"curl -s --proxy {DEAD} {INDEX}/nosuchthing", {}, {}),
    "curl --cacert": (f"curl -s --cacert corp.pem {INDEX}/nosuchthing", {}, {}),
    "curlrc cacert": (f"curl -s {INDEX}/nosuchthing", {}, {"~/.curlrc": "cacert = corp.pem\n"}),
    "git http.proxy": (
        "git ls-remote https://index.test/nosuchthing",
        {},
        {"~/.gitconfig": f"[http]\nproxy = {DEAD}\n"},
    ),
    "git http.URL.proxy": (
        "git ls-remote https://index.test/nosuchthing",
        {},
        {"~/.gitconfig": f'[http "https://index.test"]\nproxy = {DEAD}\n'},
    ),
    "git http.sslCAInfo": (
        "git ls-remote https://index.test/nosuchthing",
        {},
        {"~/.gitconfig": "[http]\nsslCAInfo = corp.pem\n"},
    ),
    "npmrc proxies": (
        "npm view nosuchthing --registry https://index.test/npm",
        {},
        {"~/.npmrc": f"proxy={DEAD}\nhttps-proxy={DEAD}\n"},
    ),
    "npmrc cafile": (
        "npm view nosuchthing --registry https://index.test/npm",
        {},
        {".npmrc": "cafile=corp.pem\n", "package.json": "{}"},
    ),
    "poetry certificates": (
        "poetry lock --no-interaction",
        {},
        {
            "pyproject.toml": '[tool.poetry]\nname="x"\nversion="1"\ndescription=""\nauthors=[]\npackage-mode=false\n'
            f'[tool.poetry.dependencies]\npython=">=3.8"\nnosuchthing="*"\n[[tool.poetry.source]]\nname="my-own"\nurl="{INDEX}"\n',
            "poetry.toml": '[certificates.my-own]\ncert = "corp.pem"\n',
        },
    ),
}


@pytest.mark.parametrize(("command", "environ", "files"), BEATEN.values(), ids=BEATEN.keys())
def test_a_setting_that_overrides_the_environment_is_neutralised(
    sandbox, proxy, command, environ, files
):
    program = command.split()[0] if isinstance(command, str) else command[0]
    if program == "None" or shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    sandbox.environ.update(environ)
    sandbox.write({"in.txt": "nosuchthing\n", **files})
    warnings, output = run(sandbox, proxy, command)
    if "invalid choice" in output:
        pytest.skip("this version has no such choice")
    assert any(
        url.startswith("https://index.test/") and "nosuchthing" in url for url in proxy.seen
    ), output
    assert not warnings


NAMED = {
    "uv.toml https-proxy": (UV_COMMAND, {"uv.toml": f'https-proxy = "{DEAD}"\n'}),
    "curlrc proxy": (f"curl -s {INDEX}/nosuchthing", {"~/.curlrc": f"proxy = {DEAD}\n"}),
    "pip --proxy below sh": (("sh", "-c", f"{PIP_COMMAND} --retries 0 --proxy {DEAD}"), {}),
}


@pytest.mark.parametrize(("command", "files"), NAMED.values(), ids=NAMED.keys())
def test_a_setting_that_cannot_be_neutralised_is_named(sandbox, proxy, command, files):
    """Should a later client come to the proxy all the same, the sentence is to be dropped."""
    program = command.split()[0] if isinstance(command, str) else command[0]
    if program == "None" or shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    sandbox.write({"in.txt": "nosuchthing\n", **files})
    warnings, _output = run(sandbox, proxy, command)
    assert not proxy.seen
    assert len(warnings) == 1


@pytest.mark.parametrize("loopback_open", [False, True])
def test_loopback_comes_to_the_proxy_only_when_an_index_stands_there(sandbox, proxy, loopback_open):
    code = "import urllib.request as u\ntry:\n    u.urlopen('http://localhost:9/simple/')\nexcept OSError:\n    pass\n"
    run(sandbox, proxy, (sys.executable, "-c", code), loopback_open=loopback_open)
    assert bool(proxy.seen) is loopback_open
