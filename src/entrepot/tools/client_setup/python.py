"""How a Python script with requests, httpx or urllib is led: the common variables do it all.

Which hosts it asks cannot be known; of the URLs in its words and in the script itself those count
that are packages by their form. Any other host is named with ``--host``.
"""

from __future__ import annotations

from entrepot.ports.client_setup import Command, ProxyAddress, SetupAnswer
from entrepot.tools._shared.safe_read import read_text
from entrepot.tools.client_setup.command_line import Scene
from entrepot.tools.client_setup.found_urls import URL, Findings, looks_like_packages


class PythonSetup:
    """Python scripts that download by themselves."""

    name = "python"

    def answer(self, command: Command, proxy: ProxyAddress | None) -> SetupAnswer:
        """See :class:`~entrepot.ports.client_setup.ClientSetup`."""
        del proxy
        scene = Scene.of(command)
        found = Findings(scene.environ)
        if scene.runs("python", "pypy", "py") or any(
            path.suffix == ".py" for path in scene.files()
        ):
            texts = [
                *scene.words,
                *(read_text(path) for path in scene.files() if path.suffix in ("", ".py")),
            ]
            for text in texts:
                found.add_all(
                    match[0] for match in URL.finditer(text) if looks_like_packages(match[0])
                )
        return found.answer()


SETUP = PythonSetup()
