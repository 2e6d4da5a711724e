"""A conda made by hand: a root, a cache as conda lays it out, and environments of every kind."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from entrepot.ports.tool import Entry, Place, Surroundings
from entrepot.testing.channel import Channel, Package
from entrepot.tools.conda.tool import CondaTool, conda

URL = "https://channel.test/c"
LATER = 2 * 86_400.0
"""Seconds by which the clock of the tool is ahead: nothing made by a test is fresh then."""


class Lab:
    """One home with one conda in it.

    Args:
        home: an empty folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "miniconda3"
        self.cache = self.root / "pkgs"
        for folder in (self.root / "bin", self.root / "conda-meta", self.cache):
            folder.mkdir(parents=True)
        (self.root / "bin/conda").touch()
        (self.cache / "urls.txt").touch()
        self.around = Surroundings({"PATH": ""}, home, home)
        self.channel = Channel(None)  # type: ignore[arg-type]  # nothing is published

    def tool(self, *, ahead: float = LATER) -> CondaTool:
        """The tool with its clock ahead of ours."""
        import time

        return conda(now=lambda: time.time() + ahead)

    def package(
        self,
        name: str,
        version: str = "1.0",
        *,
        extension: str = ".conda",
        size: int = 9000,
        depends: tuple[str, ...] = (),
    ) -> Path:
        """Put a package into the cache as conda does: archive, line in urls.txt, unpacked, record.

        Its folder.
        """
        package = self.channel.add(name, version, extension=extension, size=size, depends=depends)
        data = package.content.whole()
        archive = self.cache / package.filename
        archive.write_bytes(data)
        with (self.cache / "urls.txt").open("a") as file:
            file.write(f"{URL}/noarch/{package.filename}\n")
        folder = self.cache / package.filename.removesuffix(extension)
        unpack(archive, folder)
        record = self.record(package)
        (folder / "info/repodata_record.json").write_text(json.dumps(record, indent=2))
        return folder

    def record(self, package: Package) -> dict[str, Any]:
        """What conda writes beside an unpacked package."""
        return {
            **package.record,
            "channel": f"{URL}/noarch",
            "url": f"{URL}/noarch/{package.filename}",
            "fn": package.filename,
        }

    def environment(
        self, prefix: Path, packages: list[Path], how: str, *, registered: bool = True
    ) -> Path:
        """An environment with files of packages: ``hard``, ``symbolic`` or ``copy``.

        Registered by records and environments.txt.
        """
        (prefix / "conda-meta").mkdir(parents=True)
        for folder in packages:
            files = [
                p
                for p in sorted(folder.rglob("*"))
                if p.is_file() and p.relative_to(folder).parts[0] != "info"
            ]
            names = [p.relative_to(folder).as_posix() for p in files]
            for source, name in zip(files, names, strict=True):
                target = prefix / name
                target.parent.mkdir(parents=True, exist_ok=True)
                {"hard": os.link, "symbolic": os.symlink, "copy": shutil.copy2}[how](source, target)
            if registered:
                record = {
                    "name": folder.name.rsplit("-", 2)[0],
                    "files": names,
                    "extracted_package_dir": str(folder),
                }
                (prefix / f"conda-meta/{folder.name}.json").write_text(json.dumps(record))
        if registered:
            (self.home / ".conda").mkdir(exist_ok=True)
            with (self.home / ".conda/environments.txt").open("ab") as file:
                file.write(os.fsencode(prefix) + b"\n")
        return prefix

    def place(self) -> Place:
        """The cache in use."""
        return self.tool().places(self.around)[0]

    def entries(self, *, ahead: float = LATER) -> list[Entry]:
        """What the scan sees."""
        return list(self.tool(ahead=ahead).scan(self.place(), self.around))

    def entry(self, key: str) -> Entry:
        """One entry by its key."""
        return next(entry for entry in self.entries() if entry.key == key)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive, as its client would."""
    for tar in _tars(archive):
        tar.extractall(folder, filter="data")


def _tars(archive: Path) -> Iterator[tarfile.TarFile]:
    if archive.name.endswith(".tar.bz2"):
        with tarfile.open(archive) as tar:
            yield tar
        return
    with zipfile.ZipFile(archive) as packed:
        for name in packed.namelist():
            if name.endswith(".tar.zst"):
                plain = (
                    zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed.read(name))).read()
                )
                with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
                    yield tar


def contents(folder: Path) -> dict[str, str]:
    """The digest of every file below a folder, symbolic links followed.

    ``gone`` for one that leads nowhere.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.exists():
            found[str(path)] = "gone"
        elif path.is_file():
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
