"""Ten and more ways to damage a cache of conda's, each of a package of its own, and the word that ``verify`` has for it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Victim:
    """One package in a cache."""

    cache: Path
    archive: Path
    aside: Path
    """A folder on the same disk that takes the part of an environment."""

    @property
    def folder(self) -> Path:
        """Where it is unpacked."""
        name = self.archive.name
        return self.cache / name.removesuffix(".conda").removesuffix(".tar.bz2")

    @property
    def data(self) -> Path:
        """The one file in it that is no metadata."""
        (found,) = (
            path
            for path in self.folder.rglob("*.bin")
            if "info" not in path.relative_to(self.folder).parts
        )
        return found

    @property
    def record(self) -> Path:
        """What conda wrote beside it."""
        return self.folder / "info/repodata_record.json"


def flip(path: Path) -> None:
    """Change one byte in place, and neither the size nor the name."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def edit_record(victim: Victim, **changes: object) -> None:
    """Write other values into its record."""
    victim.record.write_text(json.dumps(json.loads(victim.record.read_text()) | changes))


def edit_through_a_link(victim: Victim) -> None:
    """Edit the file that an environment links to, in the environment."""
    victim.aside.mkdir(parents=True, exist_ok=True)
    linked = victim.aside / victim.data.name
    os.link(victim.data, linked)
    flip(linked)


def without_payload(victim: Victim) -> None:
    """As a killed unpacking of a ``.tar.bz2`` leaves it: ``info`` comes first, the record last."""
    victim.record.unlink()
    shutil.rmtree(victim.folder / "share")


DAMAGE: Mapping[str, tuple[str, Callable[[Victim], object]]] = {
    "an archive with a flipped byte": ("digest-mismatch", lambda v: flip(v.archive)),
    "a short archive": ("truncated-archive", lambda v: os.truncate(v.archive, 100)),
    "an empty archive": ("empty-archive", lambda v: os.truncate(v.archive, 0)),
    "a missing file": ("missing-file", lambda v: v.data.unlink()),
    "a file of another size": ("wrong-size", lambda v: os.truncate(v.data, 10)),
    "an empty file": ("zero-length-file", lambda v: os.truncate(v.data, 0)),
    "a file with a flipped byte": ("digest-mismatch", lambda v: flip(v.data)),
    "a file edited in an environment": ("edited-through-a-link", edit_through_a_link),
    "half unpacked, without its index": (
        "half-unpacked",
        lambda v: (v.folder / "info/index.json").unlink(),
    ),
    "half unpacked, without its info": (
        "half-unpacked",
        lambda v: shutil.rmtree(v.folder / "info"),
    ),
    "half unpacked, without its payload": ("missing-file", without_payload),
    "a junk record": ("junk-record", lambda v: edit_record(v, channel="<unknown>", url=None)),
    "emptied dependencies": ("emptied-depends", lambda v: edit_record(v, depends=[])),
    "a broken record": ("broken-record", lambda v: v.record.write_text("{")),
    "an empty record": ("broken-record", lambda v: os.truncate(v.record, 0)),
    "no urls.txt": ("missing-urls-txt", lambda v: (v.cache / "urls.txt").unlink()),
}
