"""How tools below other programs are led.

What tox, nox, make, just, hatch, task runners and shell scripts tell them.

The files are read as text, by the names such programs look for and those on the command line; see
:mod:`entrepot.tools.client_setup.scan` for what counts. No program here has settings of its own
that stand above the environment.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from entrepot.ports.client_setup import Command, ProxyAddress, SetupAnswer
from entrepot.tools._shared.safe_read import read_text
from entrepot.tools.client_setup.command_line import Scene
from entrepot.tools.client_setup.found_urls import Findings
from entrepot.tools.client_setup.scan import follow, scan

_NAMES = frozenset(
    "tox.ini setup.cfg setup.py noxfile.py makefile gnumakefile justfile .justfile taskfile.yml "
    "taskfile.yaml tasks.py dodo.py pyproject.toml hatch.toml tox.toml .env .envrc mise.toml "
    ".mise.toml pavement.py".split()
)
_PATTERNS = ("*.sh", "*.bash", "*.mk", "*.just")
_REQUIREMENTS = (
    "*requirements*.txt",
    "*requirements*.in",
    "constraints*.txt",
    "requirements*.lock",
)
_FOLDERS = ("requirements", "scripts", "bin", "tools", "ci", ".ci")
_MOST_FILES = 100
_MOST_CHARACTERS = 8 << 20


class RunnersSetup:
    """Programs that run other tools."""

    name = "runners"

    def answer(self, command: Command, proxy: ProxyAddress | None) -> SetupAnswer:
        """See :class:`~entrepot.ports.client_setup.ClientSetup`."""
        del proxy
        scene = Scene.of(command)
        found = Findings(scene.environ)
        budget = _MOST_CHARACTERS
        files = dict.fromkeys((*scene.files(), *islice(_files(scene), _MOST_FILES)))
        for path in files:
            requirements = _matches(path.name, _REQUIREMENTS)
            content = read_text(path)
            budget -= len(content)
            if budget < 0:
                break
            text = scan(content, requirements=requirements)
            found.add_all(text.urls)
            bases = (path.parent, *scene.roots)
            for included, inner in follow(
                base / name for name in text.files if "://" not in name for base in bases
            ):
                found.add_all(inner.urls)
                if scene.may_run():
                    found.lock(included)
        return found.answer()


def _files(scene: Scene) -> Iterator[Path]:
    """Files by the names that runners look for, in every root and a few folders below."""
    for root in scene.roots:
        for folder in (root, *(root / name for name in _FOLDERS)):
            try:
                names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
            except OSError:
                continue
            for name in names:
                everything = folder.name == "requirements" and name.endswith((".txt", ".in"))
                if (
                    everything
                    or name.lower() in _NAMES
                    or _matches(name, (*_PATTERNS, *_REQUIREMENTS))
                ):
                    yield folder / name


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in patterns)


SETUP = RunnersSetup()
