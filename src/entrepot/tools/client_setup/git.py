"""How git is led: its hosts are never opened, only its way to the proxy is kept free.

``http.proxy`` of git's configuration stands above the environment; settings given by
``GIT_CONFIG_COUNT`` stand above the files. A setting for one URL (``http.URL.proxy``) beats the
general one, so each that is found is answered by its own name. Source: git 2.39, git-config(1), by
experiment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from entrepot.ports.client_setup import Command, ProxyAddress, SetupAnswer
from entrepot.tools._shared.safe_read import is_file, read_text
from entrepot.tools.client_setup.command_line import Scene
from entrepot.tools.client_setup.found_urls import Findings

_SECTION = re.compile(r'^\[\s*(?P<name>[\w.-]+)(?:\s+"(?P<sub>[^"]*)")?\s*\](?P<rest>.*)$')
_LED = frozenset(("proxy", "sslcainfo"))


class GitSetup:
    """git, by itself or below another command."""

    name = "git"

    def answer(self, command: Command, proxy: ProxyAddress | None) -> SetupAnswer:
        """See :class:`~entrepot.ports.client_setup.ClientSetup`."""
        scene = Scene.of(command)
        found = Findings(scene.environ)
        override: dict[str, str] = {}
        for section, sub, key, value in (item for path in _files(scene) for item in _items(path)):
            if section not in ("http", "remote") or key not in (*_LED, "sslcert"):
                continue
            name = ".".join(part for part in (section, sub, key) if part)
            if key == "sslcainfo":
                found.bundle(value, scene.cwd, scene.home)
            elif key == "sslcert":
                found.close([sub])
            if key in _LED and proxy is not None:
                override[name] = proxy.proxy if key == "proxy" else proxy.bundle
        if override:
            found.environment.update(_added(scene, override))
        if proxy is not None and any(
            word.lower().startswith("http.proxy=") for word in scene.words
        ):
            found.warn("git is given -c http.proxy: what it fetches does not go through the proxy")
        return found.answer()


def _files(scene: Scene) -> Iterator[Path]:
    """The configuration files of git, weakest first: system, user, repository."""
    yield Path(scene.environ.get("GIT_CONFIG_SYSTEM") or "/etc/gitconfig")
    named = scene.environ.get("GIT_CONFIG_GLOBAL")
    yield from (
        [Path(named)] if named else [scene.config_home() / "git/config", scene.home / ".gitconfig"]
    )
    for directory in scene.ancestors():
        if is_file(directory / ".git/config"):
            yield directory / ".git/config"


def _items(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """``(section, subsection, key, value)``; section and key in lower case.

    Included files are not followed.
    """
    section = sub = ""
    for line in read_text(path).splitlines():
        text = line.strip()
        match = _SECTION.match(text)
        if match:
            section, sub, text = match["name"].lower(), match["sub"] or "", match["rest"].strip()
        key, equals, value = text.partition("=")
        if equals and not key.startswith(("#", ";")):
            yield section, sub, key.strip().lower(), value.strip().strip('"')


def _added(scene: Scene, override: dict[str, str]) -> dict[str, str]:
    """Settings appended to those that the environment gives already."""
    try:
        start = max(0, int(scene.environ.get("GIT_CONFIG_COUNT") or 0))
    except ValueError:
        start = 0
    changes = {"GIT_CONFIG_COUNT": str(start + len(override))}
    for number, (name, value) in enumerate(override.items(), start):
        changes[f"GIT_CONFIG_KEY_{number}"] = name
        changes[f"GIT_CONFIG_VALUE_{number}"] = value
    return changes


SETUP = GitSetup()
