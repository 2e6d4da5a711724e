"""How pdm is led: sources of projects and of its configuration, direct references, certificates.

Source: pdm 2.29, ``project/config.py`` and ``models/repositories``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entrepot.ports.guide import Command, Door, Guidance
from entrepot.tools.defaults import default_index
from entrepot.tools.findings import Findings
from entrepot.tools.projects import add_requirements, projects, scripts
from entrepot.tools.reading import is_file, read_toml, strings, table, tables
from entrepot.tools.scan import locked_origins
from entrepot.tools.scene import Scene, positional_urls, values_after


class PdmGuide:
    """pdm, by itself or below another command."""

    name = "pdm"

    def guidance(self, command: Command, door: Door | None) -> Guidance:
        """See :class:`~entrepot.ports.guide.Guide`."""
        scene = Scene.of(command)
        found = Findings(scene.environ)
        for path, data in (*projects(scene), *scripts(scene)):
            _project(found, scene, path, data, door)
        for path, data in _configurations(scene):
            _configuration(found, scene, path, data, door)
        _variables(found, scene, door)
        for directory in scene.ancestors():
            for name in ("pdm.lock", "pylock.toml"):
                found.indexes |= locked_origins(directory / name) if is_file(directory / name) else set()
        if scene.runs("pdm"):
            found.add_all(positional_urls(scene.words, but_after=()))
        for url in default_index():
            found.add(url)
        return found.guidance()


def _project(found: Findings, scene: Scene, path: Path, data: dict[str, Any], door: Door | None) -> None:
    add_requirements(found, data)
    pdm = table(data, "tool", "pdm")
    found.add_all(strings(pdm.get("dev-dependencies")))
    found.add_all(strings(table(pdm, "resolution").get("overrides")))
    found.add_all(strings(table(pdm, "options")))
    for source in tables(pdm.get("source")):
        _source(found, scene, source, f"source {source.get('name')!r} in {path}", door)


def _source(found: Findings, scene: Scene, source: dict[str, Any], label: str, door: Door | None) -> None:
    url = source.get("url")
    if not isinstance(url, str):
        return
    found.add_all(url)
    # verify_ssl = false asks for less than the door gives; ca_certs names other roots and beats every variable.
    if found.bundle(source.get("ca_certs"), scene.cwd, scene.home) and door is not None:
        found.close([url])
        found.warn(f"{label} has ca_certs, which pdm puts above the environment: it goes past the cache")
    if source.get("client_cert"):
        found.close([url])
        found.warn(f"{label} has a client certificate: it goes past the cache")


def _configurations(scene: Scene) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Configuration files: of the project, the user and the system."""
    paths = [directory / name for directory in scene.ancestors() for name in ("pdm.toml", ".pdm.toml")]
    named = (*scene.variable("PDM_CONFIG_FILE"), *(values_after(scene.words, "-c", "--config") if scene.runs("pdm") else ()))
    paths += [scene.path(value) for value in named]
    user = scene.home / "Library/Application Support" if scene.platform == "darwin" else scene.config_home()
    if scene.platform == "win32":
        user = Path(scene.environ.get("LOCALAPPDATA") or scene.home / "AppData/Local") / "pdm"
    paths += [user / "pdm/config.toml", *(directory / "pdm/config.toml" for directory in scene.config_dirs())]
    yield from ((path, read_toml(path)) for path in dict.fromkeys(paths) if is_file(path))


def _configuration(found: Findings, scene: Scene, path: Path, data: dict[str, Any], door: Door | None) -> None:
    """``[pypi]`` is the default source, its sub-tables are further ones."""
    pypi = table(data, "pypi")
    if pypi.get("ca_certs") and door is not None and found.bundle(pypi["ca_certs"], scene.cwd, scene.home):
        # The default source's certificates alone have a variable.
        found.environment["PDM_PYPI_CA_CERTS"] = door.bundle
    _source(found, scene, {k: v for k, v in pypi.items() if k != "ca_certs"}, f"pypi in {path}", door)
    for name, source in pypi.items():
        if isinstance(source, dict):
            _source(found, scene, source, f"pypi.{name} in {path}", door)


def _variables(found: Findings, scene: Scene, door: Door | None) -> None:
    urls = list(scene.variable("PDM_PYPI_URL"))
    found.add_all(urls)
    for value in scene.variable("PDM_PYPI_CA_CERTS"):
        if found.bundle(value, scene.cwd, scene.home) and door is not None:
            found.environment["PDM_PYPI_CA_CERTS"] = door.bundle
    if any(scene.variable("PDM_PYPI_CLIENT_CERT")):
        found.close(urls, but=default_index())
        found.warn("PDM_PYPI_CLIENT_CERT holds a client certificate: pdm's default source goes past the cache")


GUIDE = PdmGuide()
