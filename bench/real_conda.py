"""Real conda through the cache.

What each scene asks of the channel, and whether it came out as it must.

    python bench/real_conda.py CONDA [SCHEME ...]

CONDA is an executable of conda with the classic solver (`docs/explanation/channels.md` says how one
is made from source). Each scheme (`https`, `http`) has a channel of 30 projects in two subdirs on
loopback, under a made-up name, and a store of its own. Before every scene but the last step of
`resumed` conda's own caches and the environment are removed, and every index is stale as soon as it
is sent.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "src"), str(HERE / "tests")]

from entrepot.stored import Head
from entrepot.testing.channel import Channel
from entrepot.testing.origin import Origin
from running import Desk

COUNT = 30
ARCHIVE = r"\.(conda|tar\.bz2)$"
BIG = 4_000_000


class Scenes:
    """One channel, one desk."""

    def __init__(self, conda, origin, root):
        self.conda, self.origin = conda, origin
        self.channel = Channel(origin)
        self.names = self.channel.synth(COUNT)
        self.big = self.channel.add("big", size=BIG)
        self.channel.publish()
        self.desk = Desk.under(
            root,
            origin,
            CONDA_SOLVER="classic",
            CONDA_PKGS_DIRS=str(root / "pkgs"),
            CONDA_ALWAYS_YES="1",
        )
        self.made = None

    def forget(self):
        shutil.rmtree(self.desk.root / "pkgs", ignore_errors=True)
        shutil.rmtree(self.desk.home / ".cache/conda", ignore_errors=True)
        self.origin.reset()

    def words(self, names):
        shutil.rmtree(self.desk.root / "env", ignore_errors=True)
        arguments = [
            "-p",
            self.desk.root / "env",
            "--override-channels",
            "-c",
            self.channel.url,
            *names,
        ]
        return [self.conda, "create", "-q", *arguments]

    def create(self, names, *options):
        return self.desk.run(*self.words(names), options=options)

    def records(self):
        found = [
            json.loads(path.read_text())
            for path in (self.desk.root / "env/conda-meta").glob("*.json")
        ]
        return {
            record["name"]: (record["url"], record["channel"], record["sha256"], record["size"])
            for record in found
        }

    def stored(self):
        heads = [
            Head.from_bytes(path.read_bytes())
            for path in (self.desk.store / "heads").rglob("*")
            if path.is_file()
        ]
        return {head.filename: head for head in heads if head.kind == "archive"}

    def say(self, scene, ran, right):
        seen = self.origin.count
        counts = f"archives {seen(ARCHIVE)}, indexes {seen('repodata', status=200)} new, {seen('repodata', status=304)} confirmed"
        counts += f", {seen('repodata', status=404)} absent; hits {ran.report['hits']}, stale {ran.report['stale']}"
        print(
            f"{scene:10} exit {ran.status}  {'right' if right else 'WRONG'}  asked upstream: {counts}",
            flush=True,
        )
        if not right:
            print(ran.said)

    def run(self):
        self.forget()
        ran = self.create(self.names)
        self.made = self.records()
        ours = all(url.startswith(self.channel.url) for url, *_ in self.made.values())
        proven = all(head.proven for head in self.stored().values()) and len(self.stored()) == COUNT
        self.say("cold", ran, ran.status == 0 and len(self.made) == COUNT and ours and proven)
        self.forget()
        ran = self.create(self.names)
        spared = not self.origin.count(ARCHIVE) and not self.origin.count("repodata", status=200)
        self.say("warm", ran, ran.status == 0 and self.records() == self.made and spared)
        self.damaged()
        self.resumed()
        self.searched()
        self.failing()
        self.forget()
        self.origin.stop()
        ran = self.create(self.names, "--offline")
        self.say(
            "offline",
            ran,
            ran.status == 0 and self.records() == self.made and not ran.report["bytes_downloaded"],
        )

    def damaged(self):
        self.forget()
        self.origin.fault("/big-", "corrupt", times=-1)
        ran = self.create(["big"])
        self.say("damaged", ran, ran.status != 0 and self.big.filename not in self.stored())

    def resumed(self):
        """conda is cut off half-way, with nothing of ours in between, and keeps what it has.

        Then it goes on through the cache.
        """
        self.forget()
        self.origin.fault("/big-", "truncate", times=-1, at=0.5)
        self.create(["big"], "--no-store")
        partial = list((self.desk.root / "pkgs").glob("*.partial"))
        self.origin.reset()
        ran = self.create(["big"])
        head = self.stored().get(self.big.filename)
        lines = [line for line in ran.report["entries"] if line["url"].endswith(self.big.filename)]
        right = (
            ran.status == 0
            and bool(partial)
            and head is not None
            and head.body.value == self.big.content.sha256
        )
        self.say("resumed", ran, right and [line["status"] for line in lines] == [206])
        print(
            f"           conda had {partial[0].name if partial else 'nothing'}; it was answered {lines}"
        )

    def searched(self):
        """By shards, cold and then warm."""
        words = [self.conda, "search", "--override-channels", "-c", self.channel.url, "csynth-0000"]
        for scene in ("search", "again"):
            self.forget()
            ran = self.desk.run(*words)
            shards, index = self.origin.count("/shards/"), self.origin.count("repodata_shards")
            self.say(
                scene, ran, ran.status == 0 and index == 2 and bool(shards) == (scene == "search")
            )
            print(f"           asked for {index} shard indexes and {shards} shards")

    def failing(self):
        self.forget()
        self.origin.fault("repodata", "status", times=-1, value=503)
        ran = self.create(self.names)
        self.say("failing", ran, ran.status == 0 and self.records() == self.made)


def main():
    conda, schemes = sys.argv[1], sys.argv[2:] or ["https", "http"]
    for scheme in schemes:
        print(f"{scheme}:")
        with (
            tempfile.TemporaryDirectory() as root,
            Origin(host="127.0.0.2", tls=scheme == "https", name="channel.test") as origin,
        ):
            origin.index_max_age = 0
            Scenes(conda, origin, Path(root)).run()


main()
