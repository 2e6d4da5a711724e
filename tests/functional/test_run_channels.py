"""Conda channels through the cache, with a real client.

An environment created cold, warm and offline.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import clients
from entrepot.stored import Head
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
    found = [
        json.loads(path.read_text()) for path in (desk.project / "target/conda-meta").glob("*.json")
    ]
    return {record["name"]: record for record in found}


FORMS = ["shards json zst", "json zst", "json"]


@pytest.mark.parametrize(
    ("origin", "forms"),
    [("https", FORMS[0]), ("https", FORMS[1]), ("http", FORMS[0]), ("http", FORMS[2])],
    indirect=["origin"],
)
def test_an_environment_is_created_cold_warm_and_offline(origin, desk, forms):
    channel = Channel(origin, forms=frozenset(forms.split()))
    names = channel.synth(6)
    cold = create(desk, channel, *names)
    assert cold.status == 0, cold.said
    made = records(desk)
    assert {name: record["version"] for name, record in made.items()} == {
        f"csynth-000{i}": "1.1" for i in range(6)
    }
    assert all(record["url"].startswith(f"{channel.url}/") for record in made.values())
    assert {record["channel"].rstrip("/") for record in made.values()} <= {
        channel.url,
        *(f"{channel.url}/{s}" for s in ("linux-64", "noarch")),
    }
    assert origin.count(ARCHIVE) == 6
    assert (origin.count("/shards/") > 0) == ("shards" in forms)

    origin.reset()
    warm = create(desk, channel, *names)
    assert warm.status == 0, warm.said
    assert records(desk) == made
    assert origin.count(ARCHIVE) == 0
    assert origin.count("/shards/") == 0
    assert origin.count(INDEXES, status=304) >= 2
    assert origin.count(INDEXES, status=200) == origin.count(INDEXES, method="HEAD", status=200), (
        "all else is confirmed"
    )

    origin.stop()
    offline = create(desk, channel, *names, options=["--offline"])
    assert offline.status == 0, offline.said
    assert records(desk) == made
    assert offline.report["bytes_downloaded"] == 0
    assert "never seen" not in offline.last_line, offline.said
    stored = heads(desk)
    assert all(stored[record["fn"]].proven for record in made.values())


def heads(desk: Desk) -> dict[str, Head]:
    """What is stored, by file name or URL."""
    found = [
        Head.from_bytes(path.read_bytes())
        for path in (desk.store / "heads").rglob("*")
        if path.is_file()
    ]
    return {head.filename or head.url: head for head in found}


def refresh(channel: Channel) -> None:
    """Publish the channel with one project more."""
    channel.add("newcomer")
    channel.publish()


@pytest.mark.parametrize("forms", FORMS[:2])
@pytest.mark.parametrize(("kind", "at"), [("corrupt", 0.5), ("truncate", 0.5)])
def test_wrong_archives_are_never_stored_and_the_next_try_is_right(origin, desk, forms, kind, at):
    channel = Channel(origin, forms=frozenset(forms.split()))
    package = channel.add("one", size=300_000)
    channel.publish()
    origin.fault(ARCHIVE, kind, times=-1, at=at)
    failed = create(desk, channel, "one")
    assert failed.status != 0, failed.said
    assert package.filename not in heads(desk)
    origin.reset()
    done = create(desk, channel, "one")
    assert done.status == 0, done.said
    assert heads(desk)[package.filename].body.value == package.content.sha256
    assert heads(desk)[package.filename].proven


def test_a_fault_that_passes_is_made_good_within_one_run(origin, desk):
    channel = Channel(origin)
    package = channel.add("one", size=300_000)
    channel.publish()
    origin.fault(ARCHIVE, "truncate", times=2)
    done = create(desk, channel, "one")
    assert done.status == 0, done.said
    assert heads(desk)[package.filename].proven


@pytest.mark.parametrize("forms", FORMS[:2])
def test_a_channel_that_fails_serves_what_was_seen_and_one_that_changed_what_is_new(
    origin, desk, forms
):
    channel = Channel(origin, forms=frozenset(forms.split()))
    channel.synth(3)
    assert create(desk, channel, "csynth-0000").status == 0
    origin.fault("repodata", "status", times=-1, value=503)
    ran = create(desk, channel, "csynth-0000")
    assert ran.status == 0, ran.said
    assert ran.report["stale"] >= 2
    assert create(desk, channel, "newcomer").status != 0
    origin.reset()
    refresh(channel)
    ran = create(desk, channel, "newcomer")
    assert ran.status == 0, ran.said


def test_a_token_in_a_channels_path_is_nowhere_but_in_requests(origin, desk):
    channel = Channel(origin, path="/t/tk-0123456789abcdef/private")
    channel.synth(3)
    ran = create(desk, channel, "csynth-0000")
    assert ran.status == 0, ran.said
    told = json.dumps(ran.report["entries"]) + ran.stderr
    assert "<TOKEN>" in told
    assert "tk-0123456789abcdef" not in told
    for path in desk.store.rglob("*"):
        assert not path.is_file() or b"tk-0123456789abcdef" not in path.read_bytes(), path
