"""Where a run has its runtime directory.

Only where the user alone can write, so that what outlives the run fails closed.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

import clients
from entrepot.testing.tls import TestAuthority

SHOW = ["sh", "-c", "dirname $SSL_CERT_FILE"]


def ran(*command, environ, **more):
    words = [sys.executable, "-m", "entrepot", "run", "-q", "--", *command]
    environ = {**environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        words, env=environ, capture_output=True, text=True, timeout=60, check=False, **more
    )


@pytest.fixture
def home(environment):
    return Path(environment["HOME"])


def test_it_lies_in_the_state_directory_and_in_no_temporary_one(environment, home, tmp_path):
    shared = {name: tmp_path / name for name in ("TMPDIR", "TMP", "TEMP", "XDG_RUNTIME_DIR")}
    for each in shared.values():
        each.mkdir()
    environment |= {name: str(each) for name, each in shared.items()}
    done = ran(*SHOW, environ=environment)
    assert (done.returncode, Path(done.stdout.strip()).parent) == (
        0,
        home / ".local/state/entrepot/run",
    ), done.stderr
    assert [list(each.iterdir()) for each in shared.values()] == [[], [], [], []]
    done = ran(*SHOW, environ={**environment, "XDG_STATE_HOME": str(tmp_path / "state")})
    assert Path(done.stdout.strip()).parent == tmp_path / "state/entrepot/run"


def test_a_home_in_which_nothing_can_be_made_leaves_the_cache_directory_or_gives_125(
    environment, home, tmp_path
):
    for name in (".local", ".cache"):
        (home / name).write_text("")
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = ran(*SHOW, environ=environment | cache)
    assert Path(done.stdout.strip()).parent == tmp_path / "cache/entrepot-run", done.stderr
    done = ran(*SHOW, environ=environment | {"ENTREPOT_STORE": str(tmp_path / "store")})
    assert (done.returncode, done.stdout) == (125, "")
    assert "set XDG_STATE_HOME" in done.stderr


def test_where_others_may_write_it_does_not_lie(environment, home, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    done = ran(
        *SHOW,
        environ=environment
        | {"XDG_STATE_HOME": str(tmp_path / "open"), "ENTREPOT_STORE": str(tmp_path / "store")},
    )
    assert Path(done.stdout.strip()).parent == home / ".cache/entrepot-run"
    assert list((tmp_path / "open").iterdir()) == []


@pytest.mark.parametrize("command", [["run", "--", "true"], ["status"], ["where"], ["clean", "-n"]])
@pytest.mark.parametrize("value", ["~", "here", "./~"])
def test_a_home_that_is_no_absolute_path_is_an_error_and_nothing_is_made(
    environment, tmp_path, command, value
):
    work = tmp_path / "work"
    work.mkdir()
    environ = {**environment, "HOME": value, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = clients.run([sys.executable, "-m", "entrepot", *command], environ, cwd=work)
    assert done.returncode == (125 if command[0] == "run" else 1), done.stderr
    assert "set HOME" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(work.iterdir()) == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: another user id")
def test_a_user_without_a_home_is_told_what_to_set(environment, tmp_path):
    work = tmp_path / "work"
    work.mkdir(mode=0o777)
    work.chmod(0o777)
    for variables in ({}, {"HOME": ""}):
        environ = {name: value for name, value in environment.items() if name != "HOME"} | variables
        environ["PYTHONPATH"] = os.pathsep.join(sys.path)
        done = clients.run(
            [sys.executable, "-c", clients.AS_USER, "54321", "run", "--", "true"], environ, cwd=work
        )
        assert (done.returncode, "set HOME" in done.stderr) == (125, True), done.stderr
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("store", ["~nobody-here/store", "~root/store"])
def test_a_store_in_the_home_of_a_named_user_is_refused_and_not_made_here(
    environment, tmp_path, store
):
    work = tmp_path / "work"
    work.mkdir()
    done = ran("true", environ={**environment, "ENTREPOT_STORE": store}, cwd=work)
    assert done.returncode == 125, done.stderr
    assert list(work.iterdir()) == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: another user")
def test_what_outlives_the_run_trusts_no_one_who_takes_its_port_or_the_place_of_its_bundle(
    environment, tmp_path, other_user
):
    """A daemon that the command left behind asks through the proxy when the run has ended, and another user waits there."""
    go, said = tmp_path / "go", tmp_path / "said"
    script = tmp_path / "daemon"
    script.write_text(
        f"until test -e {go}; do sleep .1; done\n"
        f"{clients.curl()[0]} -sm 5 -H 'Authorization: Bearer SECRET' https://secret.test/\n"
        "echo ended with $?\n"
    )
    start = f"(setsid sh {script} >{said} 2>&1 &); echo $SSL_CERT_FILE ${{https_proxy##*:}}"
    done = ran("sh", "-c", start, environ=environment)
    bundle, port = done.stdout.split()
    assert not Path(bundle).exists()
    make = clients.run(
        ["mkdir", "-p", os.path.dirname(bundle)],
        {"PATH": "/usr/bin:/bin"},
        user=other_user.uid,
        extra_groups=[],
    )
    assert make.returncode != 0
    context = TestAuthority("any").server_context(["secret.test"])
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        listener.settimeout(8)
        go.touch()
        try:
            client, _ = listener.accept()
            client.settimeout(5)
            client.recv(9999)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with pytest.raises((ssl.SSLError, OSError)):
                context.wrap_socket(client, server_side=True).recv(100)
        except TimeoutError:
            pass  # curl would not start without its bundle
    clients.wait_until(lambda: "ended with" in said.read_text(), timeout_s=20)
    assert "ended with 0" not in said.read_text()
