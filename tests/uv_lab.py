"""Caches written by real uvs, with environments linked from them in every way."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import clients
from entrepot.ports.tool import Entry, Place, Surroundings
from entrepot.testing.origin import Origin
from entrepot.tools.uv.tool import UvTool

VERSIONS = ("0.5.31", "0.8.24", "0.13.9")
"""Before the lock; with the lock and short stems; with digests in every pointer."""
MODES = ("hardlink", "symlink", "copy")
LATER_S = 2 * 3600.0


def fill_origin(origin: Origin) -> None:
    """What every test installs."""
    origin.add_project("alpha", "1.0", size=50_000, script="alpha")
    origin.add_project("beta", "2.1", size=9_000, requires=["alpha"])
    origin.add_project("Big_One", "1.0+local1", size=300_000, build="3")
    origin.add_project("source.pkg", "0.3", wheel=False, sdist=True)
    origin.add_project("direct", "1.5", size=2_000)


class Lab:
    """One uv with a cache of its own.

    Args:
        version: uv's.
        folder: an empty directory.
        origin: where it installs from.
        cache: another cache than the lab's own.
    """

    def __init__(
        self, version: str, folder: Path, origin: Origin, *, cache: Path | None = None
    ) -> None:
        self.words = clients.uv(version)
        self.origin = origin
        self.folder = folder
        self.cache = cache or folder / "cache"
        self.python = clients.pip_python("26.3")
        self.environ = clients.clean_environment(
            folder / "home",
            UV_CACHE_DIR=str(self.cache),
            UV_INDEX_URL=origin.index_url,
            UV_PYTHON_DOWNLOADS="never",
        )
        self.around = Surroundings(self.environ, folder / "home", folder, "linux", os.geteuid())
        self.tool = UvTool(folder / "state", self.now, wait_s=0.5)
        self.later = 0.0

    def now(self) -> float:
        """The clock of the tool, which may be set forward."""
        import time

        return time.time() + self.later

    def uv(
        self, *words: str | Path, check: bool = True, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run uv."""
        done = clients.run([*self.words, *words], self.environ | environ, cwd=self.folder)
        assert not check or done.returncode == 0, done.stderr
        return done

    def environment(self, name: str, *requirements: str, mode: str = "hardlink") -> Path:
        """A new environment with these installed."""
        path = self.folder / name
        self.uv("venv", "--python", self.python, path)
        self.install(path, *requirements, mode=mode)
        return path

    def install(
        self, environment: Path, *requirements: str, mode: str = "hardlink", check: bool = True
    ):
        """Install into an environment, again if it is there."""
        words = (
            "pip",
            "install",
            "--reinstall",
            "--python",
            environment / "bin" / "python",
            "--link-mode",
            mode,
        )
        return self.uv(*words, *requirements, check=check)

    def fill(self) -> dict[str, Path]:
        """Everything installed by hard links, two by symbolic links and by copies."""
        direct = f"direct @ {self.origin.url(self.origin.files('direct')[0])}"
        found = {"hardlink": self.environment("hardlink", "beta", "source-pkg", "big-one", direct)}
        for mode in MODES[1:]:
            found[mode] = self.environment(mode, "beta", mode=mode)
        return found

    @property
    def place(self) -> Place:
        """The cache in use."""
        return self.tool.places(self.around)[0]

    def entries(self) -> list[Entry]:
        """A scan."""
        return list(self.tool.scan(self.place, self.around))

    def named(self, project: str, entries: list[Entry] | None = None) -> list[Entry]:
        """Entries of one project but for its pages."""
        return [
            e for e in entries or self.entries() if e.project == project and e.kind.group != "pages"
        ]


def hashes(folder: Path) -> dict[str, str]:
    """The digest of every file of an environment as its programs see it, by symbolic links, too.

    Bytecode left out.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".pyc" and "bin" not in path.parts:
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.is_symlink() and not path.exists():
            found[str(path.relative_to(folder))] = "dangling"
    return found


def usage(folder: Path) -> int:
    """Bytes of disk by the file system's own figure: blocks, each inode once."""
    done = subprocess.run(
        ["du", "-s", "-B1", str(folder)], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[0])
