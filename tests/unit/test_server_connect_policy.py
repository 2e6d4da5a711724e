"""What the run's doorman answers, and what it leaves for the last line."""

from __future__ import annotations

import asyncio

import pytest

from entrepot.errors import UpstreamUnreachable
from entrepot.run.plan import Opened, Plan
from entrepot.server.connect_policy import RunDoorman
from entrepot.serving.run_stats import Tally


class NoFacts:
    hosts = frozenset({"learned.test:443"})

    async def settled(self):
        pass


def doorman(*, offline=False):
    plan = Plan(
        frozenset({"index.test:443"}), frozenset({"mine.test:443"}), frozenset(), (), {}, (), (), ()
    )
    dialled = []

    async def dial(host, port, tls):
        dialled.append((host, port, tls))
        return "streams"

    tally = Tally()
    return (
        RunDoorman(Opened(plan, NoFacts(), offline=offline), dial, tally, offline=offline),
        tally,
        dialled,
    )


@pytest.mark.parametrize(
    ("host", "port", "offline", "opened"),
    [
        ("index.test", 443, False, True),
        ("index.test", 8443, False, False),
        ("learned.test", 443, False, True),
        ("mine.test", 443, False, False),
        ("other.test", 443, False, False),
        ("other.test", 443, True, True),
        ("mine.test", 443, True, False),
        ("127.0.0.1", 443, True, False),
    ],
)
def test_only_package_hosts_are_opened_and_offline_every_one_but_loopback(
    host, port, offline, opened
):
    assert asyncio.run(doorman(offline=offline)[0].opens(host, port)) is opened


def test_offline_nobody_is_dialled_but_loopback():
    guard, _, dialled = doorman(offline=True)
    with pytest.raises(UpstreamUnreachable, match="offline"):
        asyncio.run(guard.dial("other.test", 443, tls=False))
    asyncio.run(guard.dial("127.0.0.1", 80, tls=False))
    assert dialled == [("127.0.0.1", 80, False)]


def test_tunnels_are_counted_by_host_and_loopback_is_not():
    guard, tally, _ = doorman()
    for host in ("a.test", "127.0.0.1"):
        guard.relayed(host, 0)
        guard.relayed(host, 500)
    assert (dict(tally.uncached_hosts), tally.uncached_bytes) == ({"a.test": 1}, 500)


def test_a_client_that_trusts_others_is_named_in_the_last_line_once():
    guard, tally, _ = doorman()
    for _ in range(3):
        guard.distrusted("index.test", "TLSV1_ALERT_UNKNOWN_CA")
    assert len(tally.warnings) == 1
    assert "index.test (unknown ca)" in tally.last_line(offline=False)


def test_a_defect_is_named_with_its_place_and_without_its_data():
    guard, tally, _ = doorman()
    try:
        int("https://user:secret@index.test/")
    except ValueError as exc:
        guard.failed(exc)
    guard.failed(KeyError("x"))
    assert "ValueError in test_server_connect_policy.py:" in tally.last_line(offline=False)
    assert "KeyError" in tally.last_line(offline=False)
    assert "secret" not in tally.last_line(offline=False)
