"""A world for guides: a home and a project directory of their own, and what the guides make of a command in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from entrepot.ports.client_setup import Command, Door, Guidance
from entrepot.ports.tool import Surroundings
from entrepot.tools.registry import guides

DOOR = Door(proxy="http://run:token@127.0.0.1:4567", bundle="/private/bundle.pem", offline=False)


@dataclass
class World:
    """A home and a project directory of their own."""

    home: Path
    project: Path
    environ: dict[str, str] = field(default_factory=dict)

    @classmethod
    def under(cls, path: Path) -> World:
        world = cls(path / "home", path / "project")
        world.home.mkdir()
        world.project.mkdir()
        return world

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.home / name[2:] if name.startswith("~/") else self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def answers(
        self, argv: str | tuple[str, ...], door: Door | None = DOOR, cwd: str = ""
    ) -> dict[str, Guidance]:
        words = tuple(argv.split()) if isinstance(argv, str) else argv
        around = Surroundings(
            {"HOME": str(self.home), "XDG_CONFIG_DIRS": "/nowhere", **self.environ},
            self.home,
            self.project / cwd,
        )
        return {guide.name: guide.guidance(Command(words, around), door) for guide in guides()}

    def opened(self, argv: str | tuple[str, ...], cwd: str = "") -> set[str]:
        """Hosts that the guides would open."""
        answers = self.answers(argv, cwd=cwd).values()
        return {urlsplit(url).hostname or "" for answer in answers for url in answer.indexes}
