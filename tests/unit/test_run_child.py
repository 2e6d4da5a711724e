"""The child: its exit status as a shell gives it, and which signals it is told of."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entrepot.run.child import CannotStart, Child

PARENT = """
import asyncio, os, sys
from entrepot.run.child import Child
child = Child(sys.argv[1:], dict(os.environ))
print("parent", os.getpid(), flush=True)
sys.exit(asyncio.run(child.wait()))
"""
COUNTS = """
import signal, sys, time
seen = []
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGCONT"):
    signal.signal(getattr(signal, name), lambda number, frame: seen.append(signal.Signals(number).name))
print("ready", flush=True)
end = time.time() + 15
while time.time() < end and len(seen) < 2:
    time.sleep(0.02)
    if seen:
        end = min(end, time.time() + float(sys.argv[1]))
print("seen", *seen, flush=True)
"""


def wait(*argv, environ=None) -> int:
    async def work():
        return await Child(argv, environ if environ is not None else dict(os.environ)).wait()

    return asyncio.run(work())


def parent(*argv, **options):
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", PARENT, *argv], env=environ, **options)


def rest_of(process) -> str:
    """What it writes until it ends.

    `communicate` would lose the lines that `readline` read ahead.
    """
    with process.stdout:
        text = process.stdout.read()
    process.wait()
    return text


@pytest.mark.parametrize("status", [0, 1, 2, 125, 255])
def test_the_exit_status_is_the_childs_own(status):
    assert wait("sh", "-c", f"exit {status}") == status


@pytest.mark.parametrize("name", ["TERM", "KILL", "INT", "SEGV"])
def test_a_signal_that_ended_it_is_128_and_its_number(name):
    assert wait("sh", "-c", f"kill -{name} $$") == 128 + getattr(signal, f"SIG{name}")


@pytest.mark.parametrize(
    ("make", "status"), [("missing", 127), ("plain", 126), ("directory", 126), ("no-format", 126)]
)
def test_what_cannot_be_started_is_said_as_a_shell_says_it(tmp_path, make, status):
    path = tmp_path / make
    if make == "plain":
        path.write_text("x")
    elif make == "directory":
        path.mkdir()
    elif make == "no-format":
        path.write_bytes(b"\x7fELF garbage")
        path.chmod(0o755)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(CannotStart) as caught:
        Child([str(path)], dict(os.environ))
    assert caught.value.status == status
    assert str(path) in caught.value.message
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_environment_is_the_one_given():
    assert (
        wait(
            "sh",
            "-c",
            'test "$A" = b && test -z "$HOME"',
            environ={"A": "b", "PATH": os.environ["PATH"]},
        )
        == 0
    )


def test_handlers_are_given_back():
    before = {
        name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT, signal.SIGTSTP)
    }
    wait("true")
    assert {name: signal.getsignal(name) for name in before} == before


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT"])
def test_a_signal_that_we_alone_were_sent_reaches_the_child_once(name):
    process = parent(
        sys.executable, "-c", COUNTS, "1", stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    lines = {process.stdout.readline().split()[0], process.stdout.readline().split()[0]}
    assert lines == {"parent", "ready"}
    os.kill(process.pid, getattr(signal, name))
    assert (rest_of(process).split(), process.returncode) == (["seen", name], 0)


def test_ctrl_c_of_a_terminal_reaches_the_child_once():
    """The terminal sends it to both of us; a second one would end a tool that is tidying up."""
    pid, terminal = pty.fork()
    if pid == 0:
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        os.execve(
            sys.executable,
            [sys.executable, "-c", PARENT, sys.executable, "-c", COUNTS, "1"],
            environ,
        )
    try:
        _read_until(terminal, b"ready", b"parent")
        os.write(terminal, b"\x03")
        text = _read_until(terminal, b"seen SIGINT\r\n")
        assert text.count(b"SIGINT") == 1
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0


def test_stopping_us_stops_the_child_and_continuing_continues_both():
    # A group of its own with us as parent: in an orphaned group, as of a background job, SIGTSTP
    # does nothing (POSIX XSH 2.4.3).
    process = parent("sleep", "30", stdout=subprocess.PIPE, text=True, process_group=0)
    try:
        process.stdout.readline()
        (child,) = _children(process.pid)
        os.kill(process.pid, signal.SIGTSTP)
        assert [_becomes("T", pid) for pid in (process.pid, child)] == [True, True]
        os.kill(process.pid, signal.SIGCONT)
        assert [_becomes("S", pid) for pid in (process.pid, child)] == [True, True]
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_what_is_ignored_when_we_start_stays_ignored_for_the_child():
    """nohup entrepot run -- COMMAND: the terminal's end is not to end the command."""
    process = parent(
        "sh",
        "-c",
        "kill -HUP $$; echo alive; sleep 1",
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    first = process.stdout.readline()
    os.kill(process.pid, signal.SIGHUP)
    assert "alive\n" in first + rest_of(process)
    assert process.returncode == 0


def test_a_child_that_cannot_be_served_is_ended():
    child = Child(["sleep", "30"], dict(os.environ))
    begun = time.monotonic()
    child.stop()
    assert time.monotonic() - begun < 20, "it did not sleep to its end"
    assert child._process.returncode == -signal.SIGTERM


def _read_until(terminal: int, *words: bytes) -> bytes:
    text = b""
    while not all(word in text for word in words):
        text += os.read(terminal, 4096)
    return text


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        pytest.skip("needs /proc with children (Linux)")


def _becomes(state: str, pid: int) -> bool:
    for _ in range(300):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == state:
            return True
        time.sleep(0.01)
    return False
