"""Run by a Python that has py-rattler.

Solve for SPECS from CHANNEL and install into TARGET, with all caches under CACHE.

python rattling.py CHANNEL CACHE TARGET SPEC...
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import rattler


async def main(channel: str, cache: Path, target: Path, specs: list[str]) -> None:
    gateway = rattler.Gateway(cache_dir=cache / "repodata")
    records = await rattler.solve(
        [rattler.Channel(channel)], specs=specs, gateway=gateway, platforms=["linux-64", "noarch"]
    )
    await rattler.install(
        records, target_prefix=target, cache_dir=cache / "pkgs", show_progress=False
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]))
    # Its threads may outlive the interpreter and crash it on the way out, long after all was done
    # (py-rattler 0.28, one time in twenty on a busy machine).
    os._exit(0)
