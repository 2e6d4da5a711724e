"""``entrepot run`` as a process, for functional tests.

A desk with a home, a project and a store of its own.

The origins behind it have made-up names (``index.test``), which nothing but ``ENTREPOT_RESOLVE``
can resolve: a client that does not come to the proxy fails, and one whose host is tunnelled is
named in the report's ``uncached_hosts``, as loopback hosts would not be.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clients
from entrepot.testing.origin import Origin

SOURCE = clients.ROOT / "src"
INDEX = "index.test"
FILES = "files.test"
PACE_S = 120


@dataclass(frozen=True, slots=True)
class Ran:
    """A run that has ended."""

    status: int
    stdout: str
    stderr: str
    report: dict[str, Any]

    @property
    def said(self) -> str:
        """All it printed, for messages of failed tests."""
        return (
            f"exit {self.status}\n{self.stdout}\n{self.stderr}\n{json.dumps(self.report, indent=1)}"
        )

    @property
    def last_line(self) -> str:
        """entrepot's own."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("entrepot: ")]
        return lines[-1] if lines else ""

    def urls(self, outcome: str = "") -> list[str]:
        """The URLs of the report's entries, of all or of one outcome."""
        return [
            entry["url"] for entry in self.report["entries"] if outcome in ("", entry["outcome"])
        ]


@dataclass
class Desk:
    """Where a user sits: home, project directory, store and variables."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)

    @classmethod
    def under(cls, root: Path, *origins: Origin, **environ: str) -> Desk:
        """A fresh desk that resolves these origins' names and trusts their authority."""
        desk = cls(root)
        for directory in (desk.home, desk.project):
            directory.mkdir(parents=True)
        desk.environ = clients.clean_environment(
            desk.home,
            isolated=False,
            PYTHONPATH=str(SOURCE),
            XDG_CONFIG_DIRS=str(root / "no-site"),
            ENTREPOT_RESOLVE=",".join(filter(None, (origin.resolve for origin in origins))),
            PIP_DISABLE_PIP_VERSION_CHECK="1",
        )
        trusted = [origin.ca_file for origin in origins if origin.tls]
        if trusted:
            bundle = root / "own-authority.pem"
            bundle.write_text("".join(dict.fromkeys(path.read_text() for path in trusted)))
            desk.environ["SSL_CERT_FILE"] = str(bundle)
        desk.environ.update(environ)
        return desk

    @property
    def home(self) -> Path:
        """HOME."""
        return self.root / "home"

    @property
    def project(self) -> Path:
        """Where commands start."""
        return self.root / "project"

    @property
    def store(self) -> Path:
        """Where the cache is."""
        return self.home / ".cache" / "entrepot"

    def write(self, files: dict[str, str]) -> None:
        """Write files into the project, those under ``~/`` into the home directory."""
        for name, text in files.items():
            path = self.home / name[2:] if name.startswith("~/") else self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def words(self, command: Sequence[str | Path], options: Iterable[str] = ()) -> list[str]:
        """The words of ``entrepot run`` for a command."""
        return [sys.executable, "-m", "entrepot", "run", *options, "--", *map(str, command)]

    def run(
        self,
        *command: str | Path,
        options: Iterable[str] = (),
        timeout_s: float = PACE_S,
        unplugged: bool = False,
        **settings: Any,
    ) -> Ran:
        """Run a command through the cache, to its end.

        ``unplugged`` in a network namespace with nothing but loopback.
        """
        path = self.root / "report.json"
        path.unlink(missing_ok=True)
        words = self.words(command, (*options, "--report", str(path)))
        words = clients.unplugged(words) if unplugged else words
        done = clients.run(words, self.environ, timeout_s=timeout_s, cwd=self.project, **settings)
        report = json.loads(path.read_text()) if path.exists() else {}
        return Ran(done.returncode, done.stdout, done.stderr, report)

    def directly(
        self, *command: str | Path, timeout_s: float = PACE_S, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command without entrepot, to compare."""
        return clients.run(
            [*command], self.environ | environ, timeout_s=timeout_s, cwd=self.project
        )


def tidy(environ: dict[str, str], *names: str) -> dict[str, str]:
    """The variables without some of them."""
    return {name: value for name, value in environ.items() if name not in names}


__all__ = ["FILES", "INDEX", "PACE_S", "Desk", "Ran", "os", "tidy"]
