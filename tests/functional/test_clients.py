"""Every client that functional tests use starts here, in a clean environment, or says why it cannot be had."""

from __future__ import annotations

import pytest

import clients

CLIENTS = {
    "uv": (clients.uv, "uv "),
    "poetry": (clients.poetry, "Poetry (version 2"),
    "pdm": (clients.pdm, "PDM, version 2"),
    "pipx": (clients.pipx, "1."),
    "tox": (clients.tox, "4."),
    "nox": (clients.nox, ""),
    "curl": (clients.curl, "curl "),
    "git": (clients.git, "git version "),
    "make": (clients.make, "GNU Make"),
}


@pytest.mark.parametrize("version", clients.PIPS)
def test_a_pip_is_of_exactly_its_version(version, environment):
    done = clients.run([*clients.pip(version), "--version"], environment)
    assert done.stdout.startswith(f"pip {version} from ")


@pytest.mark.parametrize(("client", "says"), CLIENTS.values(), ids=CLIENTS)
def test_a_client_starts_with_nothing_of_the_machines_settings(client, says, environment):
    done = clients.run([*client(), "--version"], environment)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("client", "module"),
    [(clients.rattler, "rattler"), (clients.requests, "requests")],
    ids=["rattler", "requests"],
)
def test_a_python_has_what_it_is_asked_for_with(client, module, environment):
    done = clients.run([*client(), "-c", f"import {module}; print({module}.__name__)"], environment)
    assert done.stdout == f"{module}\n"


def test_a_fresh_environment_has_no_pip(environment, tmp_path):
    python = clients.venv(tmp_path / "venv")
    assert clients.run([python, "-m", "pip"], environment).returncode != 0
