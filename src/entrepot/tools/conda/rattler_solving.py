"""Run as a program, by an interpreter that has py-rattler.

Solve SPECS from channels, and say as JSON what would be installed.

    python -m THIS_MODULE --platform linux-64 --cache DIR -c CHANNEL ... -- SPEC ...

Source: py-rattler 0.28. The answer has the form of conda's ``create --dry-run --json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
"""What conda calls ``defaults``; to rattler it is a name like any other."""

ASSUMED = {
    "linux": (("__unix", "0"), ("__linux", "5.10"), ("__glibc", "2.28")),
    "osx": (("__unix", "0"), ("__osx", "12.0")),
    "win": (("__win", "10"),),
}
"""What is taken for granted of a platform that is not this machine's own."""


def main(argv: Sequence[str]) -> int:
    """Solve and print; 1 with the reason on standard error when there is no solution."""
    parser = argparse.ArgumentParser(prog="entrepot.tools.conda.rattler_solving")
    parser.add_argument("--platform", required=True)
    parser.add_argument("--cache", required=True, type=Path)
    parser.add_argument("-c", dest="channels", action="append", default=[])
    parser.add_argument("specs", nargs="*")
    wanted = parser.parse_args(argv)
    channels = [
        url for name in wanted.channels for url in (DEFAULTS if name == "defaults" else (name,))
    ]
    if not channels:
        sys.stderr.write("the file names no channel, and py-rattler has none of its own\n")
        return 1
    try:
        records = asyncio.run(_solve(channels, wanted.specs, wanted.platform, wanted.cache))
    except Exception as exc:  # noqa: BLE001 - whatever it is, its text is the answer
        sys.stderr.write(f"{exc}\n")
        return 1
    json.dump({"success": True, "actions": {"LINK": records}}, sys.stdout)
    return 0


async def _solve(
    channels: Sequence[str], specs: Sequence[str], platform: str, cache: Path
) -> list[dict[str, Any]]:
    import rattler  # noqa: PLC0415 - an extra, and only here

    found = await rattler.solve(
        [rattler.Channel(channel) for channel in channels],
        specs=list(specs),
        gateway=rattler.Gateway(cache_dir=cache),
        platforms=[platform, "noarch"],
        virtual_packages=_virtual(platform),
    )
    return [
        {
            "name": record.name.normalized,
            "version": str(record.version),
            "build": str(record.build),
            "url": record.url,
            "sha256": record.sha256.hex() if record.sha256 else None,
            "md5": record.md5.hex() if record.md5 else None,
            "size": record.size,
        }
        for record in found
    ]


def _virtual(platform: str) -> list[Any]:
    import rattler  # noqa: PLC0415

    if platform == str(rattler.Platform.current()):
        return list(rattler.VirtualPackage.detect())
    assumed = ASSUMED.get(platform.partition("-")[0], ())
    build = getattr(rattler, "BuildString", str)("0")  # text alone up to py-rattler 0.27
    return [
        rattler.GenericVirtualPackage(rattler.PackageName(n), rattler.Version(v), build)
        for n, v in assumed
    ]


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Its threads may outlive the interpreter and crash it on the way out, long after all was done
    # (py-rattler 0.28).
    os._exit(status)
