"""What every test gets.

No network but loopback, a home of its own, an origin on request, and a summary of what was skipped.
"""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import clients
import loopback
from entrepot.testing.origin import Origin

# A shell that starts the tests in the background has them ignore Ctrl-C and Ctrl-\, and every
# command they start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)

FOREIGN = (
    "ENTREPOT_",
    "PIP_",
    "UV_",
    "CONDA_",
    "XDG_",
    "POETRY_",
    "PDM_",
    "NPM_CONFIG_",
    "npm_config_",
)
"""Variables that a developer's machine may have set, and that would change what a test sees."""
_CONNECT = socket.socket.connect
_CONNECT_EX = socket.socket.connect_ex
FUNCTIONAL = Path(__file__).parent / "functional"
"""The tests that start real processes: a second or more each, where the others take milliseconds.
"""
SLOW_FOLDERS = (FUNCTIONAL, Path(__file__).parent / "property")
"""Folders whose tests are marked ``slow``, but for those of ``QUICK_MODULES``."""
QUICK_MODULES = frozenset(
    {"test_stores_faults.py", "test_upstreams_faults.py", "test_upstreams_tls_and_proxies.py"}
)
"""Modules in slow folders that belong to ``-m "not slow"``: a second of processor time each."""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _loopback_only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets of this process reach loopback alone, unless the test is marked ``registry``."""
    if request.node.get_closest_marker("registry") is None:
        monkeypatch.setattr(socket.socket, "connect", loopback.guarded(_CONNECT))
        monkeypatch.setattr(socket.socket, "connect_ex", loopback.guarded(_CONNECT_EX))


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("homes")
    numbers = itertools.count()
    return (root / str(number) for number in numbers)


@pytest.fixture(autouse=True)
def home(
    _homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Path]:
    """An empty HOME, and none of the machine's settings.

    It goes with the test, unless that failed and someone wants to look.
    """
    directory = next(_homes)
    directory.mkdir()
    failed_before = request.session.testsfailed
    for name in list(os.environ):
        if name.startswith(FOREIGN) or name.upper() in PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(directory))
    yield directory
    if request.session.testsfailed == failed_before:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """A clean environment for a client, with the test's own HOME.

    See :func:`clients.clean_environment`.
    """
    return clients.clean_environment(home)


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin over http, files on the same address."""
    with Origin() as running:
        yield running


@pytest.fixture
def origin_tls() -> Iterator[Origin]:
    """An origin over https, files on the same address.

    Clients must trust ``origin_tls.ca_file``.
    """
    with Origin(tls=True) as running:
        yield running


@pytest.fixture(scope="session")
def shared_origin() -> Iterator[clients.SharedOrigin]:
    """The larger fake upstream, once for the whole run; skips where there is none."""
    with clients.shared_origin() as running:
        yield running


@pytest.fixture
def other_user() -> Iterator[clients.OtherUser]:
    """An unprivileged user; skips unless root."""
    with clients.other_user() as user:
        yield user


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and put the tests in an order in which several workers end together."""
    functional = [item for item in items if FUNCTIONAL in item.path.parents]
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        items[:] = _dealt(items, functional, workers)
    for item in items:
        in_slow_folder = any(folder in item.path.parents for folder in SLOW_FOLDERS)
        if in_slow_folder and item.path.name not in QUICK_MODULES:
            item.add_marker(pytest.mark.slow)


def _dealt(
    items: list[pytest.Item], functional: list[pytest.Item], workers: int
) -> list[pytest.Item]:
    """The functional modules dealt out like cards, the longest tests of each first, the others behind them.

    ``--dist worksteal`` cuts the list into one piece a worker, and one that has finished takes from
    the end of another's piece: so no worker has a long test left at the end.
    """
    rest = iter([item for item in items if FUNCTIONAL not in item.path.parents])
    pieces: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for number, (_, module) in enumerate(itertools.groupby(functional, key=lambda item: item.path)):
        pieces[number % workers].extend(module)
    for piece in pieces:
        piece.sort(key=lambda item: item.get_closest_marker("slow") is None)
        piece.extend(itertools.islice(rest, max(0, len(items) // workers - len(piece))))
    return [*itertools.chain.from_iterable(pieces), *rest]


def pytest_collection_finish() -> None:
    """What is here now stays to the end.

    No collection of garbage needs to look through thousands of tests again, a quarter second each.
    """
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests were skipped for which reason, most frequent first."""
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if reasons:
        terminalreporter.section(f"{reasons.total()} skipped, by reason")
        for reason, count in reasons.most_common():
            terminalreporter.write_line(f"{count:5}  {reason}")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
