"""How rattler's tools are led: pixi, rattler-build and programs that use py-rattler.

Source: pixi's reference of its manifest and configuration; py-rattler 0.28, by experiment.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entrepot.ports.client_setup import Command, ProxyAddress, SetupAnswer
from entrepot.tools._shared.safe_read import is_file, line_of, read_toml, strings, table
from entrepot.tools.client_setup.command_line import Scene, values_after
from entrepot.tools.client_setup.found_urls import Findings
from entrepot.tools.client_setup.projects import projects
from entrepot.tools.client_setup.scan import take_lock

BUILT_IN = (
    "https://conda.anaconda.org/",
    "https://repo.anaconda.com/",
    "https://repo.prefix.dev/",
    "https://prefix.dev/",
)
"""The hosts where channels by name are looked for."""
_NO_INDEX = frozenset(
    "git proxy-config homepage repository documentation description tasks authors publish".split()
)


class RattlerSetup:
    """pixi and its relatives, by themselves or below another command."""

    name = "rattler"

    def answer(self, command: Command, proxy: ProxyAddress | None) -> SetupAnswer:
        """See :class:`~entrepot.ports.client_setup.ClientSetup`."""
        scene = Scene.of(command)
        found = Findings(scene.environ)
        for data in _manifests(scene):
            found.add_all(text for text in strings(data, _NO_INDEX) if "://" in text)
        for path in _configurations(scene):
            config = read_toml(path)
            # Keys of `mirrors` are URLs that are replaced, their values those that are asked.
            found.add_all(text for text in strings(config, _NO_INDEX) if "://" in text)
            if table(config, "proxy-config") and proxy is not None and scene.may_run("pixi"):
                place = line_of(path, "[proxy-config]")
                found.warn(
                    f"proxy-config in {place} may stand above the environment for pixi: see "
                    "whether it goes past the cache"
                )
        for value in values_after(
            scene.after("pixi", "rattler-build", "rattler", "pixi-pack"), "-c", "--channel"
        ):
            found.add_value(value)
        for directory in scene.ancestors():
            take_lock(found, directory / "pixi.lock", will_be_read=scene.may_run("pixi"))
        for url in BUILT_IN:
            found.add(url)
        return found.answer()


def _manifests(scene: Scene) -> Iterator[dict[str, Any]]:
    for directory in scene.ancestors():
        for name in ("pixi.toml", "mojoproject.toml"):
            if is_file(directory / name):
                yield read_toml(directory / name)
    for _path, data in projects(scene):
        yield table(data, "tool", "pixi")


def _configurations(scene: Scene) -> Iterator[Path]:
    places = [
        Path("/etc/pixi/config.toml"),
        scene.config_home() / "pixi/config.toml",
        scene.home / ".pixi/config.toml",
    ]
    places += [scene.home / ".config/rattler/config.toml", scene.home / ".rattler/config.toml"]
    places += [Path(value) / "config.toml" for value in scene.variable("PIXI_HOME", "RATTLER_HOME")]
    places += [directory / ".pixi/config.toml" for directory in scene.ancestors()]
    yield from (path for path in dict.fromkeys(places) if is_file(path))


SETUP = RattlerSetup()
