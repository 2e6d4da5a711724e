"""What all tests lean on.

The guard on sockets, the empty home, the clean environment, other users and mounts.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

import clients
from loopback import NetworkForbidden, is_allowed


@pytest.mark.parametrize(
    "address", [("127.0.0.1", 80), ("127.0.0.2", 80), ("localhost", 80), ("::1", 80, 0, 0)]
)
def test_loopback_is_allowed(address):
    assert is_allowed(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, address)


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("index.test", 443), ("10.0.0.1", 80)])
def test_everything_else_is_not(address):
    assert not is_allowed(socket.AF_INET, address)


def test_a_connection_to_elsewhere_fails_at_once_and_loudly():
    with socket.socket() as sock, pytest.raises(NetworkForbidden, match=r"192\.0\.2\.1"):
        sock.connect(("192.0.2.1", 80))


def test_home_is_empty_and_the_machines_settings_are_gone(home, monkeypatch):
    assert os.environ["HOME"] == str(home)
    assert list(home.iterdir()) == []
    assert [name for name in os.environ if name.startswith(("PIP_", "UV_", "ENTREPOT_"))] == []


def test_a_clean_environment_holds_only_what_it_is_given(tmp_path):
    environment = clients.clean_environment(tmp_path / "home", EXTRA="1")
    assert set(environment) == {
        "HOME",
        "PATH",
        "LANG",
        "PYTHONNOUSERSITE",
        "PIP_CONFIG_FILE",
        "EXTRA",
    }
    assert "PIP_CONFIG_FILE" not in clients.clean_environment(tmp_path / "home", isolated=False)


def test_a_client_that_cannot_be_had_skips_with_the_reason(monkeypatch):
    with pytest.raises(pytest.skip.Exception, match=r"no Python from 2\.0 to 2\.1"):
        clients.python((2, 0), (2, 1))


@pytest.mark.root
def test_another_user_is_another_user(other_user, environment):
    done = other_user.run(["id", "-un"], environment)
    assert done.stdout.strip() == other_user.name
    assert other_user.uid != 0


@pytest.mark.root
def test_with_the_cable_out_nobody_can_be_reached_but_oneself(environment):
    if not clients.can_unplug():
        pytest.skip("no command can be given a network of its own here")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        outside = listening.getsockname()
        code = (
            "import socket\nown = socket.create_server(('127.0.0.1', 0))\nsocket.create_connection(own.getsockname()).close()\n"
            f"for there in [{outside!r}, ('192.0.2.1', 80)]:\n"
            "    try: socket.create_connection(there, 2)\n    except OSError as exc: print(type(exc).__name__)\n"
        )
        done = clients.run(clients.unplugged([sys.executable, "-c", code]), environment)
    assert done.stdout.split() == ["ConnectionRefusedError", "OSError"], done.stderr


@pytest.mark.root
def test_a_small_file_system_is_full_when_it_is_full(tmp_path):
    with (
        clients.tmpfs(tmp_path / "small", "1m") as small,
        pytest.raises(OSError, match="No space left"),
    ):
        (small / "file").write_bytes(b"x" * 2_000_000)


def test_the_larger_fake_upstream_answers_and_is_controlled(shared_origin):
    assert shared_origin.control("reset")["faults"] == []
    assert shared_origin.control("log") == {}


def test_a_command_is_run_without_input(environment):
    done = clients.run(
        [sys.executable, "-c", "import sys; print(repr(sys.stdin.read()))"], environment
    )
    assert done.stdout == "''\n"
    assert isinstance(done, subprocess.CompletedProcess)
