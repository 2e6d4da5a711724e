"""Conda channels through the cache, with a real client: an environment created cold, warm and offline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import clients
from entrepot.testing.channel import Channel
from entrepot.testing.origin import Origin
from running import Desk, Ran

SCRIPT = Path(__file__).resolve().parent.parent / "rattling.py"
ARCHIVE = r"\.(conda|tar\.bz2)$"
INDEXES = r"/(current_)?repodata[^/]*$"


@pytest.fixture
def origin(request):
    """A channel's host under a made-up name; its indexes are stale as soon as they are sent."""
    tls = getattr(request, "param", "https") == "https"
    with Origin(host="127.0.0.2", tls=tls, name="channel.test") as running:
        running.index_max_age = 0
        yield running


@pytest.fixture
def desk(origin, tmp_path):
    return Desk.under(tmp_path / "desk", origin)


def create(desk: Desk, channel: Channel, *specs: str, options=(), fresh=True) -> Ran:
    """An environment created by rattler; ``fresh``: with nothing in the client's own caches."""
    if fresh:
        shutil.rmtree(desk.project / "cache", ignore_errors=True)
    shutil.rmtree(desk.project / "target", ignore_errors=True)
    words = [*clients.rattler(), SCRIPT, channel.url, "cache", "target", *specs]
    return desk.run(*words, options=("--host", channel.origin.base.partition("://")[2], *options))


def records(desk: Desk) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in (desk.project / "target/conda-meta").glob("*.json")]
    return {record["name"]: record for record in found}


FORMS = ["shards json zst", "json zst", "json"]


@pytest.mark.parametrize(("origin", "forms"), [("https", FORMS[0]), ("https", FORMS[1]), ("http", FORMS[0]), ("http", FORMS[2])], indirect=["origin"])
def test_an_environment_is_created_cold_warm_and_offline(origin, desk, forms):
    channel = Channel(origin, forms=frozenset(forms.split()))
    names = channel.synth(6)
    cold = create(desk, channel, *names)
    assert cold.status == 0, cold.said
    made = records(desk)
    assert {name: record["version"] for name, record in made.items()} == {f"csynth-000{i}": "1.1" for i in range(6)}
    assert all(record["url"].startswith(f"{channel.url}/") for record in made.values())
    assert {record["channel"].rstrip("/") for record in made.values()} <= {channel.url, *(f"{channel.url}/{s}" for s in ("linux-64", "noarch"))}
    assert origin.count(ARCHIVE) == 6
    assert (origin.count("/shards/") > 0) == ("shards" in forms)

    origin.reset()
    warm = create(desk, channel, *names)
    assert warm.status == 0, warm.said
    assert records(desk) == made
    assert origin.count(ARCHIVE) == 0
    assert origin.count("/shards/") == 0
    assert origin.count(INDEXES, status=304) >= 2
    assert origin.count(INDEXES, status=200) == origin.count(INDEXES, method="HEAD", status=200), "all else is confirmed"

    origin.stop()
    offline = create(desk, channel, *names, options=["--offline"])
    assert offline.status == 0, offline.said
    assert records(desk) == made
    assert offline.report["bytes_downloaded"] == 0
