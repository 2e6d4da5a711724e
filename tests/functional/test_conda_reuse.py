"""conda's own package cache as a source.

Archives that it has are not fetched again, when their digest is known and right.
"""

import json
import sys
from pathlib import Path

import pytest

import clients
from entrepot.testing.channel import Channel
from entrepot.testing.origin import Origin
from running import Desk

HERE = Path(__file__).resolve().parent.parent
SOLVE, LOCKS = HERE / "rattling.py", HERE / "rattling_locks.py"


@pytest.fixture
def origin():
    with Origin(tls=True, name="channel.test") as running:
        yield running


@pytest.fixture
def channel(origin):
    made = Channel(origin, path="/lab")
    made.add("demo", depends=["low"])
    made.add("low", subdir="linux-64", size=200_000)
    made.add("old", subdir="linux-64", extension=".tar.bz2")
    made.publish()
    return made


@pytest.fixture
def desk(origin, channel, tmp_path):
    desk = Desk.under(tmp_path, origin)
    lines = [f"{channel.package_url(p)}#{p.content.sha256}" for p in channel.packages]
    desk.write({"list.txt": "@EXPLICIT\n" + "\n".join(lines) + "\n"})
    return desk


def keep(folder: Path, *packages, channel="https://mirror.test/lab"):
    """Put archives where conda keeps them, from a channel of any name."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        (folder / package.filename).write_bytes(package.content.whole())
    with (folder / "urls.txt").open("a") as log:
        log.writelines(f"{channel}/{package.subdir}/{package.filename}\n" for package in packages)


def warm(desk, *argv):
    done = clients.run(
        [sys.executable, "-m", "entrepot", "warm", *argv, "--json"], desk.environ, cwd=desk.project
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def install_offline(desk, folder="env"):
    return desk.run(
        *clients.rattler(),
        LOCKS,
        "install",
        "list.txt",
        desk.root / "c",
        desk.root / folder,
        options=["--offline"],
    )


def test_with_a_full_conda_cache_and_an_empty_store_no_archive_is_fetched(desk, origin, channel):
    """Two are in conda's own cache, one lies deeper, where mamba 2.6 and later put it."""
    pkgs = desk.home / ".conda/pkgs"
    keep(pkgs, *channel.packages[:2])
    keep(pkgs / "https/channel.test/lab/linux-64", channel.packages[2])
    said = warm(desk, "--explicit", "list.txt")
    assert [item["status"] for item in said["items"]] == ["ready"] * 3
    assert said["bytes_downloaded"] == 0
    assert origin.count(r"\.(conda|tar\.bz2)$") == 0
    archives = [path for path in pkgs.rglob("*-h0_0.*") if path.is_file()]
    assert len(archives) == 3
    assert {path.stat().st_nlink for path in archives} == {
        1
    }  # else conda clean would leave them alone for ever
    for path in archives:
        path.write_bytes(b"changed in place afterwards")
    origin.stop()
    ran = install_offline(desk)
    assert ran.status == 0, ran.said
    assert (desk.root / "env/share/low/data.bin").stat().st_size == 200_000


@pytest.mark.parametrize("forms", ["shards", "json zst"])
def test_a_client_that_solves_for_itself_is_served_out_of_condas_cache(
    desk, origin, channel, forms
):
    """Here repodata or a shard tells the digest, and conda has the archives from another address."""
    channel.path, channel.forms = f"/{forms.partition(' ')[0]}", frozenset(forms.split())
    channel.publish()
    keep(desk.home / ".conda/pkgs", *channel.packages)
    words = [
        *clients.rattler(),
        SOLVE,
        channel.url,
        desk.root / "c",
        desk.root / "env",
        "demo",
        "old",
    ]
    ran = desk.run(*words, options=["--host", "channel.test"])
    assert ran.status == 0, ran.said
    assert origin.count(r"\.(conda|tar\.bz2)$", status=200, method="GET") == 0, ran.said
    assert {p.name for p in (desk.root / "env/share").iterdir()} == {"demo", "low", "old"}
    record = json.loads((desk.root / "env/conda-meta/low-1.0-h0_0.json").read_text())
    assert record["url"] == channel.package_url(channel.packages[1])


def test_a_damaged_archive_and_another_channels_of_that_name_are_fetched(desk, origin, channel):
    damaged, other, _ = channel.packages
    keep(desk.home / ".conda/pkgs", damaged)
    path = desk.home / ".conda/pkgs" / damaged.filename
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (desk.home / ".conda/pkgs" / other.filename).write_bytes(channel.packages[2].content.whole())
    warm(desk, "--explicit", "list.txt")
    assert origin.count(r"\.(conda|tar\.bz2)$", status=200) == 3


def test_without_a_digest_nothing_is_taken_by_its_name_not_even_offline(desk, origin, channel):
    """The name is no proof: two channels may give it to different archives."""
    keep(desk.home / ".conda/pkgs", *channel.packages, channel=channel.url)
    desk.write(
        {
            "list.txt": "@EXPLICIT\n"
            + "".join(f"{channel.package_url(p)}\n" for p in channel.packages)
        }
    )
    ran = install_offline(desk)
    assert ran.status != 0
    assert "never downloaded" in ran.last_line
