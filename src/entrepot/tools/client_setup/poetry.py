"""How poetry is led: sources, repositories, direct references, certificates.

``certificates.NAME.cert`` stands above ``REQUESTS_CA_BUNDLE``, but poetry's own variable for it
stands higher still. Source: poetry 2.5, ``poetry/config/config.py`` and ``utils/authenticator.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entrepot.ports.client_setup import Command, ProxyAddress, SetupAnswer
from entrepot.tools._shared.defaults import default_index
from entrepot.tools._shared.safe_read import is_file, read_toml, strings, table, tables
from entrepot.tools.client_setup.command_line import Scene, positional_urls
from entrepot.tools.client_setup.found_urls import Findings
from entrepot.tools.client_setup.projects import add_requirements, projects
from entrepot.tools.client_setup.scan import take_lock

_VARIABLE = re.compile(r"POETRY_REPOSITORIES_\w+_URL|POETRY_\w*PYPI_MIRROR\w*")
_NO_INDEX = frozenset(("git",))


class PoetrySetup:
    """poetry, by itself or below another command."""

    name = "poetry"

    def answer(self, command: Command, proxy: ProxyAddress | None) -> SetupAnswer:
        """See :class:`~entrepot.ports.client_setup.ClientSetup`."""
        scene = Scene.of(command)
        found = Findings(scene.environ)
        sources = _projects(found, scene)
        found.add_all(value for name, value in scene.assignments if _VARIABLE.fullmatch(name))
        for directory in scene.ancestors():
            take_lock(found, directory / "poetry.lock", will_be_read=scene.may_run("poetry"))
        if scene.runs("poetry"):
            found.add_all(positional_urls(scene.words, but_after=()))
        for config in _configurations(scene):
            _repositories(found, config, sources)
            _certificates(found, scene, config, sources, proxy)
        for url in default_index():
            found.add(url)
        return found.answer()


def _projects(found: Findings, scene: Scene) -> dict[str, str]:
    """Sources by name; direct references are noted on the way."""
    sources: dict[str, str] = {}
    for _path, data in projects(scene):
        add_requirements(found, data)
        poetry = table(data, "tool", "poetry")
        for source in tables(poetry.get("source")):
            url = source.get("url")
            if isinstance(url, str):
                found.add_all(url)
                sources[str(source.get("name"))] = url
        groups = [poetry, *tables(poetry.get("group"))]
        for group in groups:
            for key in ("dependencies", "dev-dependencies"):
                found.add_all(strings(group.get(key), _NO_INDEX))
    return sources


def _configurations(scene: Scene) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Configuration files.

    ``config.toml`` and ``auth.toml`` of the user, ``poetry.toml`` of the project.
    """
    if scene.platform == "darwin":
        user = [
            scene.home / "Library/Application Support/pypoetry",
            scene.home / "Library/Preferences/pypoetry",
        ]
    else:
        user = [scene.config_home() / "pypoetry"]
    places = [Path(value) for value in scene.variable("POETRY_CONFIG_DIR")] + user
    paths = [place / name for place in places for name in ("config.toml", "auth.toml")]
    paths += [directory / "poetry.toml" for directory in scene.ancestors()]
    yield from ((path, read_toml(path)) for path in paths if is_file(path))


def _repositories(
    found: Findings, config: tuple[Path, dict[str, Any]], sources: dict[str, str]
) -> None:
    for name, repository in table(config[1], "repositories").items():
        url = repository.get("url") if isinstance(repository, dict) else repository
        if isinstance(url, str):
            found.add_all(url)
            sources.setdefault(name, url)


def _certificates(
    found: Findings,
    scene: Scene,
    config: tuple[Path, dict[str, Any]],
    sources: dict[str, str],
    proxy: ProxyAddress | None,
) -> None:
    path, data = config
    for name, setting in table(data, "certificates").items():
        if not isinstance(setting, dict):
            continue
        if found.bundle(setting.get("cert"), scene.cwd, scene.home) and proxy is not None:
            variable = name.upper().replace("-", "_")
            found.environment[f"POETRY_CERTIFICATES_{variable}_CERT"] = proxy.bundle
        if setting.get("client-cert") and scene.may_run("poetry"):
            found.close([sources[name]] if name in sources else (), but=default_index())
            found.warn(
                f"certificates.{name}.client-cert in {path}: this source goes past the cache"
            )


SETUP = PoetrySetup()
