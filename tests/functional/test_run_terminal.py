"""The child has the terminal.

Progress bars, prompts, Ctrl-C, Ctrl-Z, signals and its exit status are its own.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

import clients
from entrepot.testing.origin import Origin
from running import Desk

pytestmark = pytest.mark.skipif(
    not hasattr(os, "openpty"), reason="there are no pseudo-terminals here"
)
PATIENCE_S = 30


class Terminal:
    """A pseudo-terminal with a command as its session's leader, as a terminal window has it."""

    def __init__(self, words, environ, cwd) -> None:
        self.said = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:  # pragma: no cover  (the child)
            try:
                os.chdir(cwd)
                os.execvpe(words[0], list(map(str, words)), environ)
            finally:
                os._exit(99)

    def until(self, pattern: str) -> str:
        """Read on until the pattern has come; all that was said."""
        end = time.monotonic() + PATIENCE_S
        while not re.search(pattern, self.said):
            left = end - time.monotonic()
            if left < 0 or not self._read(left):
                pytest.fail(f"{pattern!r} never came: {self.said!r}")
        return self.said

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._fd, text.encode())

    def end(self) -> int:
        """Wait for the end; the status as a shell gives it."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while self._read(0.2):
                    pass
                os.close(self._fd)
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                pytest.fail(f"it never ends: {self.said!r}")
            self._read(0.05)

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # Linux says so when the other side is closed
            return False
        self.said += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def desk(tmp_path):
    return Desk.under(
        tmp_path / "desk", TERM="xterm", PYTHONUNBUFFERED="1", TMPDIR=str(_made(tmp_path / "tmp"))
    )


def _made(path):
    path.mkdir()
    return path


@contextlib.contextmanager
def terminal(desk, *command, options=()):
    shown = Terminal(desk.words(command, options), desk.environ, desk.project)
    try:
        yield shown
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(shown.pid, signal.SIGKILL)
            os.waitpid(shown.pid, 0)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def nothing_is_left(desk) -> bool:
    """Whether every temporary file of the run is gone."""
    runtime = desk.home / ".local/state/entrepot/run"
    return not [*runtime.iterdir(), *(desk.root.parent / "tmp").glob("entrepot-*")]


@pytest.mark.parametrize("status", [0, 1, 3, 125, 255])
def test_the_exit_status_is_the_childs(desk, status):
    assert desk.run(*python(f"raise SystemExit({status})")).status == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGABRT])
def test_a_child_that_a_signal_ended_gives_the_status_of_a_shell(desk, number):
    assert desk.run("sh", "-c", f"kill -{int(number)} $$").status == 128 + number


def test_a_command_that_is_not_there_is_127_and_one_that_may_not_run_126(desk):
    (desk.project / "plain").write_text("no program\n")
    assert desk.run("nosuchcommand").status == 127
    assert desk.run("./plain").status == 126


def test_the_child_sees_a_terminal_on_all_three_streams_and_its_size(desk):
    code = "import os, sys; print([s.isatty() for s in (sys.stdin, sys.stdout, sys.stderr)], os.getpgrp() == os.tcgetpgrp(0))"
    with terminal(desk, *python(code)) as shown:
        assert shown.end() == 0
    assert "[True, True, True] True" in shown.said


def test_the_child_asks_and_reads_the_answer(desk):
    with terminal(desk, *python("print('hello', input('who? '))")) as shown:
        shown.until(r"who\? ")
        shown.type("world\n")
        assert shown.end() == 0
    assert "hello world" in shown.said


def test_a_password_is_read_without_being_shown(desk):
    with terminal(desk, *python("import getpass; print(len(getpass.getpass('word: ')))")) as shown:
        shown.until("word: ")
        shown.type("pa55\n")
        assert shown.end() == 0
    assert re.search(r"\b4\b", shown.said)
    assert "pa55" not in shown.said


def test_pip_shows_its_progress_bar(tmp_path):
    with Origin(tls=True, name="index.test") as origin:
        origin.add_project("large", size=3_000_000)
        desk = Desk.under(
            tmp_path / "desk", origin, TERM="xterm", COLUMNS="100", PIP_NO_CACHE_DIR="1"
        )
        origin.link.rate = 3_000_000
        with terminal(
            desk, *clients.pip("26.3"), "download", "-d", "out", "-i", origin.index_url, "large"
        ) as shown:
            assert shown.end() == 0, shown.said
        assert origin.count("whl$") == 1
    assert "━" in shown.said
    assert re.search(r"[\d.]+/3\.0 MB", shown.said)
    assert "\x1b[" in shown.said


def test_ctrl_c_reaches_the_child_once_and_everything_is_tidied_up(desk):
    code = (
        "import time\ntry:\n    print('ready', flush=True); time.sleep(30)\n"
        "except KeyboardInterrupt:\n    print('interrupted', flush=True); time.sleep(0.5); print('and done'); raise SystemExit(7)\n"
    )
    with terminal(desk, *python(code)) as shown:
        shown.until("ready")
        assert not nothing_is_left(desk)
        shown.type("\x03")
        assert shown.end() == 7
    assert shown.said.count("interrupted") == 1
    assert "and done" in shown.said
    assert "Traceback" not in shown.said
    assert "entrepot: 0 of 0 requests" in shown.said
    assert nothing_is_left(desk)


def test_ctrl_c_that_ends_the_child_ends_the_run_with_its_status(desk):
    with terminal(desk, "sh", "-c", "echo ready; exec sleep 30") as shown:
        shown.until("ready")
        shown.type("\x03")
        assert shown.end() == 130
    assert "Traceback" not in shown.said
    assert nothing_is_left(desk)


def test_ctrl_c_while_pip_downloads_leaves_no_temporary_file_and_a_store_that_works(tmp_path):
    with Origin(tls=True, name="index.test") as origin:
        origin.add_project("large", size=3_000_000)
        tmp = _made(tmp_path / "tmp")
        desk = Desk.under(
            tmp_path / "desk", origin, TERM="xterm", PIP_NO_CACHE_DIR="1", TMPDIR=str(tmp)
        )
        origin.link.rate = 500_000
        command = [*clients.pip("26.3"), "download", "-d", "out", "-i", origin.index_url, "large"]
        with terminal(desk, *command) as shown:
            clients.wait_until(
                lambda: origin.bytes_sent("whl$") > 300_000 or origin.count("whl$"), timeout_s=20
            )
            time.sleep(0.5)
            shown.type("\x03")
            assert shown.end() in (1, 2, 130), shown.said
        assert nothing_is_left(desk)
        origin.link.rate = 0
        ran = desk.run(*command)
        assert ran.status == 0, ran.said


def test_ctrl_backslash_ends_the_child_with_its_signal(desk):
    with terminal(desk, "sh", "-c", "ulimit -c 0; echo ready; exec sleep 30") as shown:
        shown.until("ready")
        shown.type("\x1c")
        assert shown.end() == 131


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT"])
def test_a_signal_for_entrepot_alone_is_passed_on(desk, name):
    code = (
        "import signal, sys, time\n"
        f"def heard(number, frame):\n    print('heard', number, flush=True); sys.exit(9)\n"
        f"signal.signal(signal.{name}, heard)\nprint('ready', flush=True)\ntime.sleep(30)\n"
    )
    words = desk.words(python(code))
    with subprocess.Popen(
        words,
        env=desk.environ,
        cwd=desk.project,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, name))
        assert process.wait(PATIENCE_S) == 9
        assert process.stdout.read() == f"heard {int(getattr(signal, name))}\n"
    assert nothing_is_left(desk)


def test_ctrl_z_stops_both_and_fg_lets_both_go_on(desk):
    """From an interactive shell, as people do it; the proxy serves again after it."""
    with Origin(name="index.test") as origin:
        url = origin.add("/file.bin", b"here I am")
        desk.environ["ENTREPOT_RESOLVE"] = origin.resolve
        (desk.project / "get.py").write_text(
            "import time, urllib.request\nprint('rea' + 'dy', flush=True)\n"
            f"time.sleep(1.5)\nprint('got', urllib.request.urlopen('{url}').read(), flush=True)\n"
        )
        run = " ".join(desk.words([sys.executable, "get.py"]))
        shown = Terminal(["/bin/sh", "-i"], desk.environ | {"PS1": "$ "}, desk.project)
        try:
            shown.type(f"{run}\n")
            shown.until("ready")
            shown.type("\x1a")
            shown.until(r"(?i)stopped|suspended")
            shown.type("echo meanwh''ile\n")
            shown.until("meanwhile")
            assert "got" not in shown.said
            shown.type("fg\n")
            shown.until(r"got b'here I am'")
            shown.until(r"entrepot: \d+ of \d+ requests")
            shown.type("exit\n")
            assert shown.end() == 0
        finally:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(shown.pid, signal.SIGKILL)


def test_entrepot_says_nothing_on_stdout(desk):
    ran = desk.run(*python("print('mine')"))
    assert ran.stdout == "mine\n"
    assert ran.stderr.count("entrepot") == 1


def test_a_pipe_that_is_read_no_further_ends_the_child_and_the_run(desk):
    words = " ".join(desk.words(["yes"]))
    done = clients.run(
        ["bash", "-c", f"{words} | head -n 1; echo ${{PIPESTATUS[0]}}"], desk.environ, timeout_s=30
    )
    assert done.stdout.splitlines() == ["y", "141"]
