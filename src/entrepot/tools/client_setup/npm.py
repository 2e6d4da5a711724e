"""How npm is led: its registry stays a blind tunnel; variables answer its CA file and proxies.

A ``cafile`` in any npmrc makes ``NODE_EXTRA_CA_CERTS`` useless; ``npm_config_*`` variables beat
every npmrc. Source: npm 11 on node 20, by experiment.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from entrepot.ports.client_setup import Command, ProxyAddress, SetupAnswer
from entrepot.tools._shared.safe_read import read_text
from entrepot.tools.client_setup.command_line import Scene
from entrepot.tools.client_setup.found_urls import Findings

_PROXIES = frozenset(("proxy", "https-proxy", "http-proxy"))


class NpmSetup:
    """npm, by itself or below another command."""

    name = "npm"

    def answer(self, command: Command, proxy: ProxyAddress | None) -> SetupAnswer:
        """See :class:`~entrepot.ports.client_setup.ClientSetup`."""
        scene = Scene.of(command)
        found = Findings(scene.environ)
        for path in _npmrc(scene):
            for key, value in _items(path):
                if (
                    key == "cafile"
                    and found.bundle(value, scene.cwd, scene.home)
                    and proxy is not None
                ):
                    found.environment["npm_config_cafile"] = proxy.bundle
                elif key in _PROXIES and proxy is not None:
                    found.environment["npm_config_proxy"] = proxy.proxy
                    found.environment["npm_config_https_proxy"] = proxy.proxy
        return found.answer()


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


SETUP = NpmSetup()
