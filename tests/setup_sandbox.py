"""A home and a project directory of their own, and the clients' set-up of a command in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from entrepot.ports.client_setup import ClientSetup, Command, ProxyAddress
from entrepot.ports.tool import Surroundings
from entrepot.tools.client_setup.clients import client_setups

PROXY = ProxyAddress(
    proxy="http://run:token@127.0.0.1:4567", bundle="/private/bundle.pem", offline=False
)


@dataclass
class Sandbox:
    """A home and a project directory of their own."""

    home: Path
    project: Path
    environ: dict[str, str] = field(default_factory=dict)

    @classmethod
    def under(cls, path: Path) -> Sandbox:
        sandbox = cls(path / "home", path / "project")
        sandbox.home.mkdir()
        sandbox.project.mkdir()
        return sandbox

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.home / name[2:] if name.startswith("~/") else self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def setups(
        self, argv: str | tuple[str, ...], proxy: ProxyAddress | None = PROXY, cwd: str = ""
    ) -> dict[str, ClientSetup]:
        words = tuple(argv.split()) if isinstance(argv, str) else argv
        around = Surroundings(
            {"HOME": str(self.home), "XDG_CONFIG_DIRS": "/nowhere", **self.environ},
            self.home,
            self.project / cwd,
        )
        return client_setups(Command(words, around), proxy)

    def opened(self, argv: str | tuple[str, ...], cwd: str = "") -> set[str]:
        """Hosts that a run would open."""
        setups = self.setups(argv, cwd=cwd).values()
        return {urlsplit(url).hostname or "" for setup in setups for url in setup.indexes}
