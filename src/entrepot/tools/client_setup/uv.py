"""How uv is led: where its indexes are named, and which settings stand above the environment.

Source: uv 0.13, its settings and environment reference, and experiment.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entrepot.ports.client_setup import Command, ProxyAddress, SetupAnswer
from entrepot.tools._shared.defaults import default_index
from entrepot.tools._shared.safe_read import is_file, line_of, read_toml, strings, table
from entrepot.tools.client_setup.command_line import Scene, positional_urls, values_after
from entrepot.tools.client_setup.found_urls import Findings
from entrepot.tools.client_setup.projects import add_requirements, projects, scripts
from entrepot.tools.client_setup.scan import follow, take_lock

TORCH = "https://download.pytorch.org/whl/"
"""Where ``--torch-backend`` looks."""
_INDEX_VARIABLES = (
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
)
_FILE_VARIABLES = (
    "UV_CONSTRAINT",
    "UV_BUILD_CONSTRAINT",
    "UV_OVERRIDE",
    "UV_EXCLUDE",
    "UV_REQUIREMENTS",
)
_NO_INDEX = frozenset(
    "git publish-url check-url https-proxy http-proxy no-proxy python-install-mirror "
    "pypy-install-mirror python-downloads-json-url allow-insecure-host trusted-publishing".split()
)
"""Keys whose URLs serve no packages."""
_LOCKING = frozenset("sync run lock export add remove tree audit version".split())
"""uv's commands that read uv.lock."""
_PROXIES = ("https-proxy", "http-proxy", "no-proxy")


class UvSetup:
    """uv and uvx, by themselves or below another command."""

    name = "uv"

    def answer(self, command: Command, proxy: ProxyAddress | None) -> SetupAnswer:
        """See :class:`~entrepot.ports.client_setup.ClientSetup`."""
        scene = Scene.of(command)
        found = Findings(scene.environ)
        _variables(found, scene)
        astray = _files(found, scene)
        _locks(found, scene)
        if scene.runs("uv", "uvx"):
            found.add_all(
                positional_urls(
                    scene.words, but_after=("--publish-url", "--mirror", "--allow-insecure-host")
                )
            )
        told = set(found.indexes)
        for url in default_index():
            found.add(url)
        if any(scene.variable("SSL_CLIENT_CERT")) and scene.may_run("uv", "uvx"):
            found.close(told, but=default_index())
            found.warn(
                "SSL_CLIENT_CERT holds a client certificate: the indexes that uv was told of go "
                "past the cache"
            )
        if proxy is not None and scene.may_run("uv", "uvx"):
            for place in astray:
                found.warn(
                    f"{place} stands above the environment for uv: what it downloads goes past the "
                    "cache"
                )
        return found.answer()


def _variables(found: Findings, scene: Scene) -> None:
    found.add_all(scene.variable(*_INDEX_VARIABLES))
    if any(scene.variable("UV_TORCH_BACKEND")) or any(values_after(scene.words, "--torch-backend")):
        found.add(TORCH)
    names = [name for value in scene.variable(*_FILE_VARIABLES) for name in value.split()]
    for path, text in follow(scene.path(name) for name in names):
        found.add_all(text.urls)
        if scene.may_run("uv", "uvx"):
            found.lock(path)


def _files(found: Findings, scene: Scene) -> list[str]:
    """Read every configuration file; where a proxy is set that beats the variables."""
    astray = []
    documents = [*projects(scene), *scripts(scene)]
    for _path, data in documents:
        add_requirements(found, data)
    for path, settings in (
        *_configuration(scene),
        *((path, table(data, "tool", "uv")) for path, data in documents),
    ):
        found.add_all(text for text in strings(settings, _NO_INDEX) if "://" in text or "$" in text)
        pip = table(settings, "pip")
        if "torch-backend" in pip or "torch-backend" in settings:
            found.add(TORCH)
        if path.name == "uv.toml":
            astray += [
                f"{key} in {line_of(path, key)}" for key in _PROXIES[:2] if settings.get(key)
            ]
    return astray


def _configuration(scene: Scene) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The uv.toml files in force.

    The named one alone, else those of the project, the user and the system.
    """
    named = [
        scene.path(v)
        for v in (*scene.variable("UV_CONFIG_FILE"), *values_after(scene.words, "--config-file"))
    ]
    if named:
        yield from ((path, read_toml(path)) for path in named)
        return
    if "--no-config" in scene.words or any(
        v.lower() in ("1", "true") for v in scene.variable("UV_NO_CONFIG")
    ):
        return
    places = [directory / "uv.toml" for directory in scene.ancestors()]
    places += [
        scene.config_home() / "uv/uv.toml",
        *(d / "uv/uv.toml" for d in scene.config_dirs()),
        Path("/etc/uv/uv.toml"),
    ]
    yield from ((path, read_toml(path)) for path in dict.fromkeys(places) if is_file(path))


def _locks(found: Findings, scene: Scene) -> None:
    """Lock files name the hosts of files that no configuration names any more.

    ``uv pip`` and ``uv tool`` read no uv.lock.
    """
    words = scene.after("uv")
    verb = next((word for word in words if word in ("pip", "tool") or word in _LOCKING), "")
    reads = scene.may_run("uv") and (not words or verb in _LOCKING)
    for directory in scene.ancestors():
        take_lock(found, directory / "uv.lock", will_be_read=reads)
        take_lock(found, directory / "pylock.toml", will_be_read=False)
    for path in scene.files():
        take_lock(found, path.with_name(path.name + ".lock"), will_be_read=reads)
        if path.name.startswith("pylock.") and path.suffix == ".toml":
            take_lock(found, path, will_be_read=True)


SETUP = UvSetup()
