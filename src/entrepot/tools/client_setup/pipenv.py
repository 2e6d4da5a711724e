"""How pipenv is led: the sources of ``Pipfile`` and its lock.

What it installs with is pip, led by pip's client setup.

Source: pipenv's documentation of ``Pipfile`` and ``PIPENV_PYPI_MIRROR``.
"""

from __future__ import annotations

import json

from entrepot.ports.client_setup import Command, ProxyAddress, SetupAnswer
from entrepot.tools._shared.defaults import default_index
from entrepot.tools._shared.safe_read import LOCK_LIMIT_BYTES, read_text, read_toml, strings, table
from entrepot.tools.client_setup.command_line import Scene, values_after
from entrepot.tools.client_setup.found_urls import Findings

_NO_INDEX = frozenset(("git", "hg", "svn", "bzr", "scripts"))


class PipenvSetup:
    """pipenv, by itself or below another command."""

    name = "pipenv"

    def answer(self, command: Command, proxy: ProxyAddress | None) -> SetupAnswer:
        """See :class:`~entrepot.ports.client_setup.ClientSetup`."""
        del proxy
        scene = Scene.of(command)
        found = Findings(scene.environ)
        pipfiles = [directory / "Pipfile" for directory in scene.ancestors()]
        pipfiles += [scene.path(value) for value in scene.variable("PIPENV_PIPFILE")]
        for path in pipfiles:
            found.add_all(strings(read_toml(path), _NO_INDEX))
            try:
                lock = json.loads(
                    read_text(path.with_name("Pipfile.lock"), LOCK_LIMIT_BYTES) or "{}"
                )
            except (ValueError, RecursionError):
                continue
            found.add_all(strings(table(lock, "_meta").get("sources")))
            if lock and scene.may_run("pipenv"):
                found.lock(path.with_name("Pipfile.lock"))
        found.add_all(scene.variable("PIPENV_PYPI_MIRROR", "PIPENV_TEST_INDEX"))
        for value in values_after(scene.words, "--pypi-mirror"):
            found.add_value(value)
        for url in default_index():
            found.add(url)
        return found.answer()


SETUP = PipenvSetup()
