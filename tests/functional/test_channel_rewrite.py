"""A real client reads rewritten indexes, and fetches through the cache what they had elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.request import urlopen

import msgpack
import pytest

import clients
from entrepot.channel.coding import unzstd, zstd
from entrepot.channel.rewrite import (
    rewrite_repodata,
    rewrite_repodata_zst,
    rewrite_shard_index,
    stand_in,
)
from entrepot.testing.channel import Channel
from entrepot.testing.origin import Origin

SCRIPT = Path(__file__).resolve().parent.parent / "rattling.py"
ELSEWHERE = "https://elsewhere.test/pkgs/"
UPSTREAM = "https://channel.test/lab"


class Served(Channel):
    """A channel as a cache serves it.

    Upstream has its packages, and its shards, at other addresses.
    """

    def publish(self) -> None:
        for package in self.packages:
            self.origin.add(f"/-/https/elsewhere.test/pkgs/{package.filename}", package.content)
        for name, body, content_type in self._indexes("linux-64"):
            self.origin.add(
                f"{self.path}/linux-64/{name}", self.led(name, body), "repodata", content_type
            )
        self.origin.add(
            f"{self.path}/noarch/repodata.json", stand_in(f"{UPSTREAM}/noarch/repodata.json")
        )
        if "shards" in self.forms:
            self._publish_shards("linux-64")
            self._move_shards()

    def led(self, name: str, body: bytes) -> bytes:
        plain = unzstd(body) if name.endswith(".zst") else body
        moved = json.dumps(
            json.loads(plain) | {"info": {"subdir": "linux-64", "base_url": ELSEWHERE}}
        ).encode()
        url = f"{UPSTREAM}/linux-64/{name}"
        if name.endswith(".zst"):
            return rewrite_repodata_zst(zstd(moved), url=url, address=self.address)
        return rewrite_repodata(moved, url=url, address=self.address)

    def _move_shards(self) -> None:
        """As a cache would pass on an index whose shards lie beside the channel."""
        path = f"{self.path}/linux-64/repodata_shards.msgpack.zst"
        index = msgpack.unpackb(unzstd(self.body(path)))
        for digest in index["shards"].values():
            name = f"{digest.hex()}.msgpack.zst"
            shard = self.body(f"{self.path}/linux-64/shards/{name}")
            self.origin.add(f"/-/https/elsewhere.test/shards/{name}", shard)
        index["info"] |= {"base_url": ELSEWHERE, "shards_base_url": "//elsewhere.test/shards"}
        led = rewrite_shard_index(
            zstd(msgpack.packb(index)), url=UPSTREAM + "/linux-64/x", address=self.address
        )
        self.origin.add(path, led, "repodata")

    def body(self, path: str) -> bytes:
        with urlopen(self.origin.base + path) as answer:
            return answer.read()

    def address(self, url: str) -> str:
        return f"{self.origin.base}/-/{url.replace('://', '/')}"


@pytest.mark.parametrize("forms", ["shards", "json zst", "json"])
def test_rattler_installs_from_rewritten_indexes_without_going_past_the_cache(
    forms, origin: Origin, environment, tmp_path
):
    channel = Served(origin, forms=frozenset(forms.split()))
    channel.add("demo", subdir="linux-64")
    channel.publish()
    words = [SCRIPT, channel.url, tmp_path / "cache", tmp_path / "env", "demo"]
    done = clients.run([*clients.rattler(), *words], environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "env/share/demo/data.bin").exists()
    assert origin.count(r"^/-/https/elsewhere\.test/pkgs/demo-1\.0-h0_0\.conda$", status=200) == 1
    assert (origin.count(r"^/-/https/elsewhere\.test/shards/", status=200) == 1) == (
        forms == "shards"
    )
