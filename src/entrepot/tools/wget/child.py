"""How wget is led: it reads the proxy variables in lower case, but no variable for CA files.

So only a wget that is started directly can be led, by a flag; below other commands it is named as
unsupported. Source: wget 1.21, GnuTLS build, by experiment.
"""

from __future__ import annotations

from entrepot.ports.client_setup import Command, Door, Guidance
from entrepot.tools.findings import Findings
from entrepot.tools.scene import Scene, positional_urls, values_after


class WgetGuide:
    """wget."""

    name = "wget"

    def guidance(self, command: Command, door: Door | None) -> Guidance:
        """See :class:`~entrepot.ports.client_setup.Guide`."""
        scene = Scene.of(command)
        found = Findings(scene.environ)
        if not scene.runs("wget"):
            return found.guidance()
        for value in values_after(scene.words, "--ca-certificate"):
            found.bundle(value, scene.cwd)
        if not scene.starts("wget"):
            if door is not None:
                found.warn(
                    "wget below another command reads no CA variable: its https downloads from indexes fail; use curl"
                )
            return found.guidance()
        found.add_all(positional_urls(scene.words, but_after=("-e", "--referer", "--header", "-O")))
        if any(word.partition("=")[0] == "--certificate" for word in scene.after("wget")):
            found.close(found.indexes)
            found.warn("wget is given a client certificate: what it fetches goes past the cache")
        elif door is not None:
            argv = [word for word in scene.command.argv if not word.startswith("--ca-certificate=")]
            found.argv = (argv[0], f"--ca-certificate={door.bundle}", *argv[1:])
        return found.guidance()


GUIDE = WgetGuide()
