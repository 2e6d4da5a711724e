"""Run by a Python that has py-rattler.

Write a pixi.lock, or install what one or an explicit list names, without solving.

python rattling_locks.py lock CHANNEL CACHE FILE SPEC...
python rattling_locks.py install FILE CACHE TARGET
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import rattler
from rattler.lock import LockChannel, LockPlatform
from rattler.package.build_string import BuildString


async def lock(channel: str, cache: Path, target: Path, specs: list[str]) -> None:
    """For linux-64, and of what is for every platform also for osx-arm64."""
    gateway = rattler.Gateway(cache_dir=cache)
    records = await rattler.solve(
        [rattler.Channel(channel)], specs=specs, gateway=gateway, platforms=["linux-64", "noarch"]
    )
    platforms = [LockPlatform("linux-64"), LockPlatform("osx-arm64")]
    file = rattler.LockFile(platforms)
    file.set_channels("default", [LockChannel(channel)])
    for record in records:
        file.add_conda_package("default", platforms[0], record)
        if record.subdir == "noarch":
            file.add_conda_package("default", platforms[1], record)
    file.to_path(target)


async def install(file: Path, cache: Path, target: Path) -> None:
    await rattler.install(
        records_of(file), target_prefix=target, cache_dir=cache / "pkgs", show_progress=False
    )


def records_of(file: Path) -> list[rattler.RepoDataRecord]:
    if file.suffix == ".lock":
        environment = rattler.LockFile.from_path(file).default_environment()
        platform = next(each for each in environment.platforms() if str(each.name) == "linux-64")
        return environment.conda_repodata_records_for_platform(platform)
    urls = [line.partition("#")[0] for line in file.read_text().splitlines() if "://" in line]
    return [record_of(*url.rsplit("/", 2), url) for url in urls]


def record_of(channel: str, subdir: str, filename: str, url: str) -> rattler.RepoDataRecord:
    name, version, build = filename.removesuffix(".conda").removesuffix(".tar.bz2").rsplit("-", 2)
    return rattler.RepoDataRecord(
        rattler.PackageRecord(name, version, BuildString(build), 0, subdir), filename, url, channel
    )


if __name__ == "__main__":
    words = sys.argv[2:]
    if sys.argv[1] == "lock":
        asyncio.run(lock(words[0], Path(words[1]), Path(words[2]), words[3:]))
    else:
        asyncio.run(install(*map(Path, words)))
    os._exit(0)  # see rattling.py
