"""A made-up conda channel on an :class:`~entrepot.testing.origin.Origin`.

Every form of repodata, and packages that install.
"""

from __future__ import annotations

import bz2
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack
import zstandard

from entrepot.testing.distributions import MADE, Content, make_tar, payload, zip_stored
from entrepot.testing.origin import SIZES, Origin

SUBDIRS = ("linux-64", "noarch")
REPODATA = "repodata"
"""The kind that profiles see for all indexes of a channel; a shard and a package are files."""


@dataclass(frozen=True, slots=True)
class Package:
    """One archive and its record."""

    filename: str
    subdir: str
    content: Content
    record: dict[str, Any]


@dataclass(slots=True)
class Channel:
    """A channel with ``linux-64`` and ``noarch``; :meth:`publish` after adding.

    Args:
        origin: serves it.
        path: where; begins with a slash. ``/t/TOKEN/NAME`` makes a channel with a token.
        forms: which indexes exist: ``json``, ``zst``, ``current``, ``shards``.
    """

    origin: Origin
    path: str = "/conda/test"
    forms: frozenset[str] = frozenset({"json", "zst", "current", "shards"})
    packages: list[Package] = field(default_factory=list)

    @property
    def url(self) -> str:
        """What a client is told."""
        return self.origin.base + self.path

    def package_url(self, package: Package) -> str:
        """Where an archive lies."""
        return f"{self.url}/{package.subdir}/{package.filename}"

    def add(
        self,
        name: str,
        version: str = "1.0",
        *,
        depends: Sequence[str] = (),
        subdir: str = "noarch",
        size: int = 1000,
        extension: str = ".conda",
    ) -> Package:
        """Make one package: a file of ``size`` bytes under ``share/NAME``.

        ``extension``: ``.conda`` or ``.tar.bz2``.
        """
        stem = f"{name}-{version}-h0_0"
        platform = (
            {"noarch": "generic"} if subdir == "noarch" else {"arch": "x86_64", "platform": "linux"}
        )
        index: dict[str, Any] = {
            "name": name,
            "version": version,
            "build": "h0_0",
            "build_number": 0,
            "depends": list(depends),
        }
        index |= {"license": "MIT", "subdir": subdir, "timestamp": MADE * 1000, **platform}
        data = {f"share/{name}/data.bin": payload(f"{name} {version} {extension}", size).whole()}
        content = _tar_bz2(index, data) if extension == ".tar.bz2" else _conda(stem, index, data)
        record = index | {"md5": content.md5, "sha256": content.sha256, "size": content.size}
        package = Package(stem + extension, subdir, content, record)
        self.packages.append(package)
        return package

    def synth(self, count: int) -> list[str]:
        """Add ``count`` projects in groups of three as :meth:`Origin.synth` does, half of them noarch; the firsts' names."""
        for i in range(count):
            needs = [f"csynth-{j:04d}" for j in (i + 1, i + 2) if i % 3 == 0 and j < count]
            subdir, size = SUBDIRS[i % 2], SIZES[i % len(SIZES)]
            self.add(f"csynth-{i:04d}", "1.0", depends=needs, subdir=subdir, extension=".tar.bz2")
            self.add(f"csynth-{i:04d}", "1.1", depends=needs, subdir=subdir, size=size)
        self.publish()
        return [f"csynth-{i:04d}" for i in range(0, count, 3)]

    def publish(self) -> None:
        """Put all packages and fresh indexes into the origin; again after more were added."""
        for package in self.packages:
            self.origin.add(f"{self.path}/{package.subdir}/{package.filename}", package.content)
        for subdir in SUBDIRS:
            for name, body, content_type in self._indexes(subdir):
                self.origin.add(f"{self.path}/{subdir}/{name}", body, REPODATA, content_type)
            if "shards" in self.forms:
                self._publish_shards(subdir)

    def _indexes(self, subdir: str) -> list[tuple[str, bytes, str]]:
        whole = json.dumps(self.repodata(subdir)).encode()
        current = json.dumps(self.repodata(subdir, newest=True)).encode()
        plain, packed = "application/json", "application/octet-stream"
        made = []
        if "json" in self.forms:
            made.append(("repodata.json", whole, plain))
        if "zst" in self.forms:
            made.append(("repodata.json.zst", _zst(whole), packed))
        if "current" in self.forms:
            made.append(("current_repodata.json", current, plain))
        return made

    def repodata(self, subdir: str, *, newest: bool = False) -> dict[str, Any]:
        """The parsed ``repodata.json`` of a subdir.

        ``newest``: of each project its last version only.
        """
        chosen = [package for package in self.packages if package.subdir == subdir]
        if newest:
            chosen = list({package.record["name"]: package for package in chosen}.values())
        by_key: dict[str, dict[str, Any]] = {"packages": {}, "packages.conda": {}}
        for package in chosen:
            by_key[_key(package)][package.filename] = package.record
        return {"info": {"subdir": subdir}, **by_key, "removed": [], "repodata_version": 1}

    def _publish_shards(self, subdir: str) -> None:
        shards: dict[str, dict[str, Any]] = {}
        for package in self.packages:
            if package.subdir == subdir:
                empty: dict[str, Any] = {"packages": {}, "packages.conda": {}, "removed": []}
                shard = shards.setdefault(package.record["name"], empty)
                binary = {name: bytes.fromhex(package.record[name]) for name in ("md5", "sha256")}
                shard[_key(package)][package.filename] = package.record | binary
        digests = {}
        for name, shard in shards.items():
            body = _zst(msgpack.packb(shard))
            digests[name] = hashlib.sha256(body).digest()
            self.origin.add(f"{self.path}/{subdir}/shards/{digests[name].hex()}.msgpack.zst", body)
        info = {"base_url": "./", "shards_base_url": "./shards/", "subdir": subdir}
        index = _zst(msgpack.packb({"version": 1, "info": info, "shards": digests}))
        self.origin.add(f"{self.path}/{subdir}/repodata_shards.msgpack.zst", index, REPODATA)


def _key(package: Package) -> str:
    return "packages.conda" if package.filename.endswith(".conda") else "packages"


def _zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(3).compress(data)


def _info(index: dict[str, Any], data: dict[str, bytes]) -> dict[str, bytes]:
    """The members of ``info/``."""
    paths = [
        {
            "_path": path,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(body).hexdigest(),
            "size_in_bytes": len(body),
        }
        for path, body in data.items()
    ]
    return {
        "info/index.json": json.dumps(index).encode(),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}).encode(),
        "info/files": "".join(f"{path}\n" for path in data).encode(),
        "info/about.json": b"{}",
    }


def _tar_bz2(index: dict[str, Any], data: dict[str, bytes]) -> Content:
    return Content([bz2.compress(make_tar(_info(index, data) | data))])


def _conda(stem: str, index: dict[str, Any], data: dict[str, bytes]) -> Content:
    members = {
        "metadata.json": b'{"conda_pkg_format_version": 2}',
        f"pkg-{stem}.tar.zst": _zst(make_tar(data)),
        f"info-{stem}.tar.zst": _zst(make_tar(_info(index, data))),
    }
    return zip_stored({name: Content([body]) for name, body in members.items()})
