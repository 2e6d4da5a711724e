"""How wget is led: it reads the proxy variables in lower case, but no variable for CA files.

So only a wget that is started directly can be led, by a flag; below other commands it is named as
unsupported. Source: wget 1.21, GnuTLS build, by experiment.
"""

from __future__ import annotations

from entrepot.ports.client_setup import Command, ProxyAddress, SetupAnswer
from entrepot.tools.client_setup.command_line import Scene, positional_urls, values_after
from entrepot.tools.client_setup.found_urls import Findings


class WgetSetup:
    """wget."""

    name = "wget"

    def answer(self, command: Command, proxy: ProxyAddress | None) -> SetupAnswer:
        """See :class:`~entrepot.ports.client_setup.ClientSetup`."""
        scene = Scene.of(command)
        found = Findings(scene.environ)
        if not scene.runs("wget"):
            return found.answer()
        for value in values_after(scene.words, "--ca-certificate"):
            found.bundle(value, scene.cwd)
        if not scene.starts("wget"):
            if proxy is not None:
                found.warn(
                    "wget below another command reads no CA variable: its https downloads from "
                    "indexes fail; use curl"
                )
            return found.answer()
        found.add_all(positional_urls(scene.words, but_after=("-e", "--referer", "--header", "-O")))
        if any(word.partition("=")[0] == "--certificate" for word in scene.after("wget")):
            found.close(found.indexes)
            found.warn("wget is given a client certificate: what it fetches goes past the cache")
        elif proxy is not None:
            argv = [word for word in scene.command.argv if not word.startswith("--ca-certificate=")]
            found.argv = (argv[0], f"--ca-certificate={proxy.bundle}", *argv[1:])
        return found.answer()


SETUP = WgetSetup()
