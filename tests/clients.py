"""Real package clients for functional tests, and the surroundings they run in.

Each client is installed once per machine, into ``$ENTREPOT_TEST_CLIENTS`` (a directory of the
user's under the temporary directory by default), by the machine's own pip configuration. A client
that cannot be had skips the test with the reason.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

import pytest

MACHINE = dict(os.environ)
"""The environment as the test run found it: what installs clients; tests get another one."""
ROOT = Path(__file__).resolve().parent.parent
CLIENTS = Path(
    MACHINE.get("ENTREPOT_TEST_CLIENTS")
    or Path(tempfile.gettempdir(), f"entrepot-test-clients-{os.getuid()}")
)
PATIENCE_S = 280
"""How long an installation may take."""

PIPS: Mapping[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "20.3.4": ((3, 6), (3, 9)),
    "22.0.4": ((3, 7), (3, 11)),
    "23.2.1": ((3, 7), (3, 12)),
    "24.3.1": ((3, 8), (3, 13)),
    "25.3": ((3, 9), (3, 14)),
    "26.3": ((3, 10), (3, 15)),
}
"""The pips that are tried, and the first and last Python that each runs on."""


class Missing(Exception):
    """The client cannot be had here."""


# Clients: each gives the words of a command, to which arguments are added


def pip(version: str) -> list[str]:
    """``python -m pip`` of exactly this version, in a virtual environment of its own."""
    return [str(_or_skip(_pip, version)), "-m", "pip"]


def pip_python(version: str) -> Path:
    """The interpreter that this pip lives in."""
    return _or_skip(_pip, version)


def python(first: tuple[int, int] = (3, 11), last: tuple[int, int] = (3, 15)) -> Path:
    """An interpreter between these versions, with ``venv`` and pip of its own."""
    return _or_skip(_interpreter, first, last)


def uv(version: str = "") -> list[str]:
    """uv of exactly this version.

    Without one the uv that the tests' own requirements bring, else one of its own.
    """
    if version:
        return [str(_or_skip(_tool, "uv", (f"uv=={version}",), f"uv-{version}"))]
    beside = Path(sys.prefix, "bin", "uv")
    return [str(beside)] if beside.exists() else [str(_or_skip(_tool, "uv", ("uv",)))]


def poetry() -> list[str]:
    """poetry 2."""
    return [str(_or_skip(_tool, "poetry", ("poetry>=2",)))]


def pdm() -> list[str]:
    """pdm with the versions of its own lock, because newer ones of its parts have broken it before."""
    return [str(_or_skip(_tool, "pdm", ("pdm[locked]",)))]


def pipx() -> list[str]:
    """pipx."""
    return [str(_or_skip(_tool, "pipx", ("pipx",)))]


def tox() -> list[str]:
    """tox 4."""
    return [str(_or_skip(_tool, "tox", ("tox>=4",)))]


def nox() -> list[str]:
    """nox."""
    return [str(_or_skip(_tool, "nox", ("nox",)))]


def rattler() -> list[str]:
    """A Python that has py-rattler."""
    return [str(_or_skip(_tool, "python", ("py-rattler",), "rattler"))]


def requests() -> list[str]:
    """A Python that has requests."""
    return [str(_or_skip(_tool, "python", ("requests",), "requests"))]


def curl() -> list[str]:
    """The machine's curl."""
    return [_on_path("curl")]


def git() -> list[str]:
    """The machine's git."""
    return [_on_path("git")]


def make() -> list[str]:
    """The machine's make."""
    return [_on_path("make")]


def venv(directory: Path, version: str = "26.3") -> Path:
    """A fresh virtual environment without pip, for installing into.

    Its interpreter, made by the Python of that pip.
    """
    subprocess.run(
        [pip_python(version), "-m", "venv", "--without-pip", directory],
        check=True,
        capture_output=True,
        env=MACHINE,
    )
    return directory / "bin" / "python"


def _or_skip(make_it, *arguments):
    try:
        return make_it(*arguments)
    except Missing as exc:
        pytest.skip(str(exc))


def _remembering(make_it):
    """Make once a run; a failure is remembered as well, so that it costs its time only once."""

    @functools.cache
    def outcome(*arguments):
        try:
            return make_it(*arguments), None
        except Missing as exc:
            return None, str(exc)

    @functools.wraps(make_it)
    def made(*arguments):
        path, reason = outcome(*arguments)
        if path is None:
            raise Missing(reason)
        return path

    return made


@_remembering
def _pip(version: str) -> Path:
    interpreter = _interpreter(*PIPS[version])
    return _environment(f"pip-{version}", interpreter, (f"pip=={version}",)) / "bin" / "python"


@_remembering
def _tool(command: str, requirements: tuple[str, ...], name: str = "") -> Path:
    path = (
        _environment(name or command, _interpreter((3, 10), (3, 13)), requirements)
        / "bin"
        / command
    )
    if not path.exists():
        raise Missing(f"{requirements[0]} brought no command {command}")
    return path


def _on_path(command: str) -> str:
    found = shutil.which(command, path=MACHINE.get("PATH"))
    if found is None:
        pytest.skip(f"there is no {command} on this machine")
    return found


@_remembering
def _interpreter(first: tuple[int, int], last: tuple[int, int]) -> Path:
    """This Python if it is between the two, else the newest other one that is."""
    if first <= sys.version_info[:2] <= last:
        return Path(sys.executable)
    for minor in range(last[1], first[1] - 1, -1):
        for candidate in _candidates(f"3.{minor}"):
            if _is_whole(candidate, (3, minor)):
                return candidate
    span = " to ".join(f"{major}.{minor}" for major, minor in (first, last))
    raise Missing(f"no Python from {span} with venv and ensurepip on this machine")


def _candidates(version: str) -> Iterator[Path]:
    """On the path, and where version managers keep theirs.

    A stand-in on the path tells where its manager's are.
    """
    home = Path(MACHINE.get("HOME", "/"))
    roots = [
        Path(sys.base_prefix).parent,
        home / ".pyenv/versions",
        home / ".local/share/uv/python",
    ]
    found = shutil.which(f"python{version}", path=MACHINE.get("PATH"))
    if found is not None:
        yield Path(found)
        roots.append(Path(found).parent.parent / "versions")
    for root in dict.fromkeys(roots):
        yield from sorted(root.glob(f"*{version}*/bin/python{version}"), reverse=True)


def _is_whole(candidate: Path, version: tuple[int, int]) -> bool:
    """Whether it starts (a version manager's stand-in may not) and can make environments."""
    probe = "import sys, venv, ensurepip; print(sys.version_info[:2] == " + repr(version) + ")"
    try:
        answer = subprocess.run(
            [candidate, "-c", probe],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=MACHINE,
        )
    except OSError:
        return False
    return answer.stdout.strip() == "True"


def _environment(name: str, interpreter: Path, requirements: Sequence[str]) -> Path:
    """The virtual environment of that name; made, under a lock, if it is not there whole."""
    CLIENTS.mkdir(parents=True, exist_ok=True)
    directory = CLIENTS / name
    wanted = json.dumps([sys.version_info[:2], *requirements])
    complete = directory / "complete"
    with (CLIENTS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete.exists() and complete.read_text() == wanted:
            return directory
        shutil.rmtree(directory, ignore_errors=True)
        _install([interpreter, "-m", "venv", directory], name)
        install = [
            directory / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        _install([*install, *requirements], name)
        complete.write_text(wanted)
    return directory


def _install(command: Sequence[str | Path], name: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=MACHINE
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Missing(f"{name} cannot be installed here: {exc}") from exc
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no word why"]
        raise Missing(f"{name} cannot be installed here: {lines[-1][:200]}")


# Surroundings


def clean_environment(
    home: Path, *, isolated: bool = True, path: str = "/usr/bin:/bin", **extra: str
) -> dict[str, str]:
    """An environment that holds nothing of the machine's.

    Own HOME, short PATH, no proxy, no certificates.

    Args:
        home: an empty directory; made if it is not there.
        isolated: keep pip from the machine's own configuration file, which may name sources of its
            own. A test in which pip must read files under ``home`` says ``False``, and then takes
            the machine's file as it is.
        path: PATH.
        extra: more variables.
    """
    home.mkdir(parents=True, exist_ok=True)
    environment = {"HOME": str(home), "PATH": path, "LANG": "C.UTF-8", "PYTHONNOUSERSITE": "1"}
    if isolated:
        environment["PIP_CONFIG_FILE"] = os.devnull
    return environment | extra


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    timeout_s: float = 120,
    **options,
):
    """Run a command to its end with text pipes and no input.

    Its status is for the test to judge.
    """
    settings = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL} | options
    return subprocess.run(
        [str(word) for word in command],
        check=False,
        env=dict(environment),
        timeout=timeout_s,
        **settings,
    )


@dataclass(frozen=True, slots=True)
class OtherUser:
    """An unprivileged user of this machine, made for a test."""

    name: str
    uid: int
    gid: int

    def run(self, command: Sequence[str | Path], environment: Mapping[str, str], **options):
        """Run a command as this user."""
        return run(command, environment, user=self.uid, group=self.gid, extra_groups=[], **options)


AS_USER = """
import importlib, os, pkgutil, pwd, sys
import asyncio, concurrent.futures.thread, encodings.utf_8_sig, glob, entrepot, sqlite3, tomlkit, tomllib
for found in pkgutil.walk_packages(entrepot.__path__, "entrepot."):
    if found.name.startswith(("entrepot.cli", "entrepot.serving", "entrepot.caches", "entrepot.tools", "entrepot.store", "entrepot.config")):
        # What is imported later may be out of the other user's reach
        importlib.import_module(found.name)
from entrepot.cli.main import main
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
sys.exit(main(sys.argv[2:]))
"""
"""The command as the user of that number, who may not be able to start this interpreter: ``-c
AS_USER UID WORDS``."""


@contextlib.contextmanager
def other_user(name: str = "entrepot-test") -> Iterator[OtherUser]:
    """A user that exists as long as the block; needs root and useradd."""
    if os.getuid() != 0:
        pytest.skip("another user can be made by root alone")
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin")
    if useradd is None:
        pytest.skip("there is no useradd on this machine")
    unique = f"{name}-{os.getpid()}"[:31]
    # no home, no mail, no group of others: nothing is left when it goes
    made = subprocess.run(
        [useradd, "--no-create-home", "--user-group", unique],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no user can be made here: {made.stderr.strip()}")
    import pwd

    entry = pwd.getpwnam(unique)
    try:
        yield OtherUser(unique, entry.pw_uid, entry.pw_gid)
    finally:
        subprocess.run(
            [Path(useradd).with_name("userdel"), unique], capture_output=True, check=False
        )


_LOOPBACK_UP = (
    "import fcntl, os, socket, struct, sys\n"
    # SIOCSIFFLAGS: up, running
    "with socket.socket() as s: fcntl.ioctl(s, 0x8914, struct.pack('16sh22x', b'lo', 0x49))\n"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


@functools.cache
def can_unplug() -> bool:
    """Whether a command can be given a network of its own, with loopback alone.

    That needs root and ``unshare``.
    """
    if os.getuid() != 0 or shutil.which("unshare") is None:
        return False
    probe = subprocess.run(unplugged(["true"]), capture_output=True, check=False)
    return probe.returncode == 0


def unplugged(command: Sequence[str | Path]) -> list[str]:
    """The words that run a command where there is no network but a loopback of its own.

    See :func:`can_unplug`.
    """
    return ["unshare", "--net", "--", sys.executable, "-c", _LOOPBACK_UP, *map(str, command)]


@contextlib.contextmanager
def tmpfs(directory: Path, size: str = "16m") -> Iterator[Path]:
    """A file system of its own, with its own end, at this directory.

    Needs root and the right to mount.
    """
    if os.getuid() != 0:
        pytest.skip("a file system can be mounted by root alone")
    directory.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "entrepot-test", directory]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], capture_output=True, check=False)


@dataclass(frozen=True, slots=True)
class SharedOrigin:
    """The larger fake upstream that may lie beside the project, as a process."""

    index_url: str
    files_base: str
    channel_url: str

    def control(self, verb: str, **body):
        """Ask its control address: ``log``, ``reset``, ``config``, ``fault``; the parsed answer."""
        url = f"{self.index_url.removesuffix('/simple/')}/_ctl/{verb}"
        data = None if verb == "log" else json.dumps(body).encode()
        with build_opener(ProxyHandler({})).open(
            Request(url, data=data, headers={"Content-Type": "application/json"})
        ) as answer:
            return json.load(answer)


@contextlib.contextmanager
def shared_origin(*options: str) -> Iterator[SharedOrigin]:
    """That fake upstream while the block lasts, on free ports.

    Skips where it does not stand beside the project.
    """
    script = ROOT.parent / "shared" / "dev" / "origin.py"
    if not script.exists():
        pytest.skip("the larger fake upstream does not stand beside this project")
    pytest.importorskip("aiohttp", reason="the larger fake upstream needs aiohttp")
    port, files = _free_ports(2)
    command = [sys.executable, script, "--port", str(port), "--files-port", str(files), *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=MACHINE,
    )
    try:
        first = process.stdout.readline() if process.stdout else b""
        if not first.startswith(b"origin:"):
            pytest.fail(
                f"the larger fake upstream does not start: {first.decode(errors='replace')}"
            )
        base = f"http://127.0.0.1:{port}"
        yield SharedOrigin(f"{base}/simple/", f"http://127.0.0.1:{files}", f"{base}/conda/main")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in held:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in held]


def wait_until(claim, *, timeout_s: float = 10, every_s: float = 0.02) -> None:
    """Wait until the claim holds; fail when it does not in time."""
    end = time.monotonic() + timeout_s
    while not claim():
        if time.monotonic() > end:
            pytest.fail(f"still not so after {timeout_s} s")
        time.sleep(every_s)
