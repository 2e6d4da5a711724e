"""``entrepot run`` as a process over a store of its own, with a fresh home for every run.

No tool remembers anything itself.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clients
from entrepot.stored import Head
from entrepot.testing.origin import Origin

SOURCE = clients.ROOT / "src"
LAUNCH = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); from entrepot.cli.main import main; sys.exit(main())"
FILES = r"\.whl$|\.tar\.gz$"
METADATA = r"\.metadata$"
PAGES = r"^/simple/"


@dataclass(frozen=True, slots=True)
class Ran:
    """A run that has ended."""

    status: int
    stdout: str
    stderr: str
    report: dict[str, Any]
    seconds: float
    target: Path
    """Where packages were to be installed."""

    @property
    def said(self) -> str:
        """All it printed, for messages of failed tests."""
        return (
            f"exit {self.status}\n{self.stdout}\n{self.stderr}\n{json.dumps(self.report, indent=1)}"
        )

    @property
    def last_line(self) -> str:
        """The last line on standard error; entrepot's own, if the run is well."""
        return (self.stderr.splitlines() or [""])[-1]

    def ok(self) -> Ran:
        """Itself, if the command succeeded."""
        assert self.status == 0, self.said
        return self

    def installed(self) -> set[str]:
        """``name-version`` of what lies in the target."""
        return {each.name.removesuffix(".dist-info") for each in self.target.glob("*.dist-info")}

    def outcomes(self, ending: str = "") -> set[str]:
        """How the requests for URLs that end so went."""
        return {
            entry["outcome"] for entry in self.report["entries"] if entry["url"].endswith(ending)
        }


@dataclass
class Lab:
    """A store, and users who come to it one after the other."""

    root: Path
    origins: tuple[Origin, ...]
    environ: dict[str, str] = field(default_factory=dict)
    """Variables on top of each fresh environment."""
    _numbers: Any = field(default_factory=itertools.count)

    @property
    def store(self) -> Path:
        """The store's directory."""
        return self.root / "store"

    @property
    def temporary(self) -> Path:
        """TMPDIR of every run."""
        return self.root / "tmp"

    @property
    def runtime(self) -> Path:
        """Where every run has its runtime directory."""
        return self.state / "entrepot/run"

    @property
    def state(self) -> Path:
        """XDG_STATE_HOME of every run."""
        return self.root / "state"

    def fresh(self) -> Path:
        """A directory that nobody has used."""
        path = self.root / f"user-{next(self._numbers)}"
        path.mkdir(parents=True)
        return path

    def environment(self, user: Path) -> dict[str, str]:
        """What a fresh user's processes see."""
        self.temporary.mkdir(exist_ok=True)
        environ = clients.clean_environment(
            user / "home",
            TMPDIR=str(self.temporary),
            XDG_STATE_HOME=str(self.state),
            XDG_CONFIG_DIRS=str(self.root / "no-site"),
            ENTREPOT_STORE=str(self.store),
            ENTREPOT_RESOLVE=",".join(filter(None, (origin.resolve for origin in self.origins))),
            PIP_DISABLE_PIP_VERSION_CHECK="1",
            PIP_NO_INPUT="1",
            UV_PYTHON=sys.executable,
            UV_PYTHON_DOWNLOADS="never",
            UV_LINK_MODE="copy",
            UV_NO_PROGRESS="1",
        )
        trusted = dict.fromkeys(
            origin.authority.pem for origin in self.origins if origin.authority is not None
        )
        if trusted:
            bundle = self.root / "own-authority.pem"
            bundle.write_text("".join(trusted))
            environ["SSL_CERT_FILE"] = str(bundle)
        return environ | self.environ

    def words(self, command: Sequence[str | Path], options: Sequence[str] = ()) -> list[str]:
        """The words of ``entrepot run`` for a command."""
        return [sys.executable, "-c", LAUNCH, "run", *options, "--", *map(str, command)]

    def run(
        self,
        *command: str | Path,
        options: Sequence[str] = (),
        user: Path | None = None,
        timeout_s: float = 120,
        **environ,
    ) -> Ran:
        """Run a command through the cache as a fresh user.

        ``TARGET`` in it is a directory of that user's.
        """
        user = user or self.fresh()
        report, target = user / "report.json", user / "target"
        words = self.words(
            [str(word).replace("TARGET", str(target)) for word in command],
            (*options, "--report", str(report)),
        )
        start = time.monotonic()
        done = clients.run(words, self.environment(user) | environ, timeout_s=timeout_s, cwd=user)
        seconds = time.monotonic() - start
        told = json.loads(report.read_text()) if report.exists() else {}
        return Ran(done.returncode, done.stdout, done.stderr, told, seconds, target)

    def install(
        self, tool: str, names: Sequence[str], *more: str, options: Sequence[str] = (), **settings
    ) -> Ran:
        """Install with ``uv`` or a pip of some version, from the first origin."""
        return self.run(
            *install_command(tool, self.origins[0].index_url, names, *more),
            options=options,
            **settings,
        )

    def heads(self) -> list[Head]:
        """Every head in the store."""
        return [
            Head.from_bytes(path.read_bytes(), key=path.name)
            for path in (self.store / "heads").rglob("*")
            if path.is_file()
        ]

    def bodies(self) -> set[str]:
        """sha256 of every body in the store."""
        root = self.store / "bodies" / "sha256"
        return {path.parent.name + path.name for path in root.rglob("*") if path.is_file()}


def install_command(tool: str, index_url: str, names: Sequence[str], *more: str) -> list[str]:
    """The command with which a tool installs into ``TARGET``."""
    if tool == "uv":
        return [
            *clients.uv(),
            "pip",
            "install",
            "-q",
            "--target",
            "TARGET",
            "--index-url",
            index_url,
            *more,
            *names,
        ]
    return [
        *clients.pip(tool),
        "install",
        "-q",
        "--no-compile",
        "--target",
        "TARGET",
        "--index-url",
        index_url,
        *more,
        *names,
    ]


def expected(count: int) -> set[str]:
    """What ``Origin.synth(count)`` installs."""
    return {f"synth_{i:04d}-1.1" for i in range(count)}
