"""How npm is led: its registry stays a blind tunnel, its own CA file and proxies are answered by its variables.

A ``cafile`` in any npmrc makes ``NODE_EXTRA_CA_CERTS`` useless; ``npm_config_*`` variables beat
every npmrc. Source: npm 11 on node 20, by experiment.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from entrepot.ports.client_setup import Command, Door, Guidance
from entrepot.tools.findings import Findings
from entrepot.tools.reading import read_text
from entrepot.tools.scene import Scene

_PROXIES = frozenset(("proxy", "https-proxy", "http-proxy"))


class NpmGuide:
    """npm, by itself or below another command."""

    name = "npm"

    def guidance(self, command: Command, door: Door | None) -> Guidance:
        """See :class:`~entrepot.ports.client_setup.Guide`."""
        scene = Scene.of(command)
        found = Findings(scene.environ)
        for path in _npmrc(scene):
            for key, value in _items(path):
                if (
                    key == "cafile"
                    and found.bundle(value, scene.cwd, scene.home)
                    and door is not None
                ):
                    found.environment["npm_config_cafile"] = door.bundle
                elif key in _PROXIES and door is not None:
                    found.environment["npm_config_proxy"] = door.proxy
                    found.environment["npm_config_https_proxy"] = door.proxy
        return found.guidance()


def _npmrc(scene: Scene) -> Iterator[Path]:
    for directory in scene.ancestors():
        yield directory / ".npmrc"
    named = list(scene.variable("NPM_CONFIG_USERCONFIG", "npm_config_userconfig"))
    yield from [Path(value) for value in named] or [scene.home / ".npmrc"]
    yield from (
        Path(value)
        for value in scene.variable("NPM_CONFIG_GLOBALCONFIG", "npm_config_globalconfig")
    )
    yield from (Path("/etc/npmrc"), Path("/usr/etc/npmrc"), Path("/usr/local/etc/npmrc"))


def _items(path: Path) -> Iterator[tuple[str, str]]:
    for line in read_text(path).splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.lstrip().startswith(("#", ";")):
            yield key.strip().lower(), value.strip().strip("\"'")


GUIDE = NpmGuide()
