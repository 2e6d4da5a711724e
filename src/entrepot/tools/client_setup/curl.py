"""How curl is led: its URLs, and what its flags and ``.curlrc`` put above the environment.

Flags of a curl that is started directly are changed; a ``.curlrc`` cannot be, and ``CURL_HOME``
helps only with another file. Source: curl 7.88, by experiment.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from entrepot.ports.client_setup import Command, ProxyAddress, SetupAnswer
from entrepot.tools._shared.safe_read import is_file, line_of, read_text
from entrepot.tools.client_setup.command_line import Scene, positional_urls, values_after
from entrepot.tools.client_setup.found_urls import Findings

_PROXY_FLAGS = (
    "-x",
    "--proxy",
    "--preproxy",
    "--socks4",
    "--socks4a",
    "--socks5",
    "--socks5-hostname",
    "--proxy1.0",
)
_NOT_FETCHED = (
    *_PROXY_FLAGS,
    "-e",
    "--referer",
    "--doh-url",
    "-d",
    "--data",
    "-H",
    "--header",
    "-o",
    "--output",
    "-u",
    "--user",
)


class CurlSetup:
    """curl, by itself or below another command."""

    name = "curl"

    def answer(self, command: Command, proxy: ProxyAddress | None) -> SetupAnswer:
        """See :class:`~entrepot.ports.client_setup.ClientSetup`."""
        scene = Scene.of(command)
        found = Findings(scene.environ)
        if not scene.runs("curl"):
            return found.answer()
        words = scene.after("curl")
        named = {"proxy"} if any(_is_proxy(word) for word in words) else set()
        for value in values_after(words, "--cacert"):
            named.add("cacert")
            found.bundle(value, scene.cwd)
        if any(values_after(words, "-E", "--cert")):
            named.add("cert")
        not_fetched = (*_NOT_FETCHED, *filter(_is_proxy, words))
        found.add_all(positional_urls(scene.words, but_after=not_fetched))
        configured = {
            name for path in _curlrc(scene) for name in _configured(found, scene, path, proxy)
        }
        if "cert" in named | configured:
            found.close(found.indexes)
            found.warn("curl is given a client certificate: what it fetches goes past the cache")
        if proxy is not None:
            _lead(found, scene, proxy, named=named, configured=configured)
        return found.answer()


def _is_proxy(word: str) -> bool:
    """Whether a word is a flag whose value, the next word, is a proxy; ``-sSx`` is one too."""
    return word in _PROXY_FLAGS or (word.endswith("x") and word[:1] == "-" and word[1:].isalpha())


def _curlrc(scene: Scene) -> Iterator[Path]:
    """The configuration file that curl takes, the first that exists, and those of ``-K``."""
    yield from (
        scene.path(value)
        for value in values_after(scene.after("curl"), "-K", "--config")
        if value != "-"
    )
    if len(scene.command.argv) > 1 and scene.command.argv[1] in ("-q", "--disable"):
        return
    places = [Path(value) / ".curlrc" for value in scene.variable("CURL_HOME")]
    places += [Path(value) / "curlrc" for value in scene.variable("XDG_CONFIG_HOME")]
    places += [scene.home / ".curlrc", scene.home / ".config/curlrc"]
    yield from (path for path in places[:1] if is_file(path))
    yield from [path for path in places[1:] if is_file(path)][: 0 if is_file(places[0]) else 1]


def _configured(
    found: Findings, scene: Scene, path: Path, proxy: ProxyAddress | None
) -> Iterator[str]:
    """Read a configuration file; yields ``cacert`` and ``cert`` when it names them.

    Paths count from the working directory.
    """
    for line in read_text(path).splitlines():
        words = (
            line.strip().replace("=", " ", 1).replace(":", " ", 1).split(None, 1)
            if "#" not in line[:1]
            else []
        )
        name, value = (
            (words[0].lstrip("-"), words[1].strip().strip('"')) if len(words) > 1 else ("", "")
        )
        if name == "cacert":
            found.bundle(value, scene.cwd)
            yield "cacert"
        elif name in ("cert", "E"):
            yield "cert"
        elif (
            name in ("x", "proxy", "preproxy", "socks5", "socks5-hostname", "noproxy")
            and proxy is not None
        ):
            place = line_of(path, words[0])
            found.warn(
                f"{name} in {place} stands above the environment for curl: what it fetches goes "
                "past the cache"
            )
        elif name == "url":
            found.add_all(value)


def _lead(
    found: Findings, scene: Scene, proxy: ProxyAddress, *, named: set[str], configured: set[str]
) -> None:
    """Drop proxy flags; ``--cacert`` names the merged bundle, which beats one in ``.curlrc``."""
    if scene.starts("curl"):
        argv = _without_flags(scene.command.argv)
        if "cacert" in named | configured:
            argv = (*argv, "--cacert", proxy.bundle)
        found.argv = argv if argv != scene.command.argv else None
    elif "proxy" in named:
        found.warn(
            "curl is given a proxy inside another command: what it fetches goes past the cache"
        )
    elif "cacert" in named | configured:
        found.warn(
            "curl is given a CA file of its own inside another command: its downloads from indexes "
            "may fail"
        )


def _without_flags(argv: tuple[str, ...]) -> tuple[str, ...]:
    kept: list[str] = []
    words = iter(argv)
    for word in words:
        if _is_proxy(word) or word in ("--cacert", "--noproxy"):
            next(words, None)
            if not word.startswith("--") and len(word) > len("-x"):
                kept.append(word[:-1])
        else:
            kept.append(word)
    return tuple(kept)


SETUP = CurlSetup()
