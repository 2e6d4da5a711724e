"""How pdm is led: sources of projects and of its configuration, direct references, certificates.

Source: pdm 2.29, ``project/config.py`` and ``models/session.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entrepot.ports.client_setup import Command, ProxyAddress, SetupAnswer
from entrepot.tools._shared.defaults import default_index
from entrepot.tools._shared.safe_read import is_file, read_toml, strings, table, tables
from entrepot.tools.client_setup.command_line import Scene, positional_urls, values_after
from entrepot.tools.client_setup.found_urls import Findings
from entrepot.tools.client_setup.projects import add_requirements, projects, scripts
from entrepot.tools.client_setup.scan import take_lock


class PdmSetup:
    """pdm, by itself or below another command."""

    name = "pdm"

    def answer(self, command: Command, proxy: ProxyAddress | None) -> SetupAnswer:
        """See :class:`~entrepot.ports.client_setup.ClientSetup`."""
        del proxy
        scene = Scene.of(command)
        found = Findings(scene.environ)
        for path, data in (*projects(scene), *scripts(scene)):
            _project(found, scene, path, data)
        for path, data in _configurations(scene):
            _configuration(found, scene, path, data)
        found.add_all(scene.variable("PDM_PYPI_URL"))
        for directory in scene.ancestors():
            for name in ("pdm.lock", "pylock.toml"):
                take_lock(found, directory / name, will_be_read=scene.may_run("pdm"))
        if scene.runs("pdm"):
            found.add_all(positional_urls(scene.words, but_after=()))
        for url in default_index():
            found.add(url)
        return found.answer()


def _project(found: Findings, scene: Scene, path: Path, data: dict[str, Any]) -> None:
    add_requirements(found, data)
    pdm = table(data, "tool", "pdm")
    found.add_all(strings(pdm.get("dev-dependencies")))
    found.add_all(strings(table(pdm, "resolution").get("overrides")))
    found.add_all(strings(table(pdm, "options")))
    for source in tables(pdm.get("source")):
        _source(found, scene, source, str(source.get("name")), path)


def _source(found: Findings, scene: Scene, source: dict[str, Any], name: str, path: Path) -> None:
    """One source. ``verify_ssl = false`` asks for less than the proxy gives.

    ``ca_certs`` beats every variable.
    """
    url = source.get("url")
    urls = [url] if isinstance(url, str) else []
    found.add_all(urls)
    if name == "pypi":
        # Its certificates count for every host that is no source of its own, the files' host among
        # them.
        urls += default_index()
    for key in ("ca_certs", "client_cert"):
        if source.get(key) and scene.may_run("pdm"):
            found.close(urls)
            found.warn(
                f"{key} of source {name} in {path} stands above the environment for pdm: it goes "
                "past the cache"
            )


def _configurations(scene: Scene) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Configuration files: of the project, the user and the system."""
    paths = [
        directory / name for directory in scene.ancestors() for name in ("pdm.toml", ".pdm.toml")
    ]
    named = (
        *scene.variable("PDM_CONFIG_FILE"),
        *(values_after(scene.words, "-c", "--config") if scene.runs("pdm") else ()),
    )
    paths += [scene.path(value) for value in named]
    user = (
        scene.home / "Library/Application Support"
        if scene.platform == "darwin"
        else scene.config_home()
    )
    if scene.platform == "win32":
        user = Path(scene.environ.get("LOCALAPPDATA") or scene.home / "AppData/Local") / "pdm"
    paths += [
        user / "pdm/config.toml",
        *(directory / "pdm/config.toml" for directory in scene.config_dirs()),
    ]
    yield from ((path, read_toml(path)) for path in dict.fromkeys(paths) if is_file(path))


def _configuration(found: Findings, scene: Scene, path: Path, data: dict[str, Any]) -> None:
    """``[pypi]`` is the default source, its sub-tables are further ones."""
    pypi = table(data, "pypi")
    _source(found, scene, pypi, "pypi", path)
    for name, source in pypi.items():
        if isinstance(source, dict):
            _source(found, scene, source, name, path)


SETUP = PdmSetup()
