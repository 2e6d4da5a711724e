"""A real conda client against the tests' own channel, with nothing in between."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import clients
from entrepot.testing.channel import Channel
from entrepot.testing.origin import Origin

SCRIPT = Path(__file__).resolve().parent.parent / "rattling.py"


def create(channel: Channel, environment, directory: Path, *specs: str):
    words = [SCRIPT, channel.url, directory / "cache", directory / "target", *specs]
    return clients.run([*clients.rattler(), *words], environment)


def records(directory: Path) -> dict[str, dict]:
    found = [
        json.loads(path.read_text())
        for path in (directory / "target" / "conda-meta").glob("*.json")
    ]
    return {record["name"]: record for record in found}


@pytest.mark.parametrize("forms", ["shards json", "json zst", "json"])
def test_rattler_creates_an_environment_from_each_form_of_repodata(
    forms, origin: Origin, environment, tmp_path
):
    channel = Channel(origin, forms=frozenset(forms.split()))
    names = channel.synth(6)
    done = create(channel, environment, tmp_path, *names)
    assert done.returncode == 0, done.stderr
    assert {name: record["version"] for name, record in records(tmp_path).items()} == {
        f"csynth-000{i}": "1.1" for i in range(6)
    }
    assert (origin.count("/shards/") > 0) == ("shards" in forms)


def test_rattler_installs_the_older_kind_of_archive(origin: Origin, environment, tmp_path):
    channel = Channel(origin)
    channel.synth(3)
    done = create(channel, environment, tmp_path, "csynth-0001 ==1.0")
    assert done.returncode == 0, done.stderr
    assert records(tmp_path)["csynth-0001"]["fn"] == "csynth-0001-1.0-h0_0.tar.bz2"


def test_an_archive_may_be_redirected_to_a_signed_address(origin: Origin, environment, tmp_path):
    channel = Channel(origin)
    channel.synth(3)
    origin.redirect_files = True
    done = create(channel, environment, tmp_path, "csynth-0001")
    assert done.returncode == 0, done.stderr
    assert origin.count(r"^/signed/.*\.conda", status=200) == 1


def test_rattler_refuses_a_flipped_byte(origin: Origin, environment, tmp_path):
    channel = Channel(origin)
    channel.synth(3)
    origin.fault(r"\.conda$", "corrupt", times=-1)
    assert create(channel, environment, tmp_path, "csynth-0001").returncode != 0
