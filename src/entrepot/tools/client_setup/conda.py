"""How conda, mamba and micromamba are led.

Their channels, and what condarc puts above the environment.

Every condarc in reach is read, whatever the precedence: a channel too many does no harm. Channels
by name (``conda-forge``) live under the built-in hosts or ``channel_alias``. Source: conda 26.7,
``base/context.py``, by experiment; mamba 2 by its documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from entrepot.ports.client_setup import Command, ProxyAddress, SetupAnswer
from entrepot.tools._shared.safe_read import is_dir, is_file, line_of, read_text
from entrepot.tools._shared.yaml_lines import lines
from entrepot.tools.client_setup.command_line import Scene, positional_urls, programs, values_after
from entrepot.tools.client_setup.found_urls import Findings, reportable
from entrepot.tools.client_setup.scan import follow, scan, take_lock
from entrepot.urls import authority_of

BUILT_IN = ("https://conda.anaconda.org/", "https://repo.anaconda.com/")
"""The hosts of conda's own ``channel_alias`` and ``default_channels``."""
_CHANNEL_KEYS = frozenset(
    "channels channel_alias custom_channels custom_multichannels default_channels "
    "migrated_channel_aliases migrated_custom_channels allowlist_channels whitelist_channels "
    "mirrored_channels base".split()
)
_CHANNEL_VARIABLES = (
    "CONDA_CHANNELS CONDA_CHANNEL_ALIAS CONDA_DEFAULT_CHANNELS CONDA_ADD_CHANNELS "
    "CONDA_CUSTOM_CHANNELS CONDA_CUSTOM_MULTICHANNELS CONDA_WHITELIST_CHANNELS "
    "CONDA_ALLOWLIST_CHANNELS MAMBA_CHANNELS MAMBA_CHANNEL_ALIAS MAMBA_DEFAULT_CHANNELS".split()
)
_CLIENTS = (
    "conda",
    "mamba",
    "micromamba",
    "conda-lock",
    "conda-build",
    "boa",
    "constructor",
    "menuinst",
)
_FALSE = frozenset(
    ("", "true", "false", "yes", "no", "on", "off", "truststore", "<system>", "<false>", "0", "1")
)


class CondaSetup:
    """conda and mamba, by themselves or below another command."""

    name = "conda"

    def answer(self, command: Command, proxy: ProxyAddress | None) -> SetupAnswer:
        """See :class:`~entrepot.ports.client_setup.ClientSetup`."""
        scene = Scene.of(command)
        found = Findings(scene.environ)
        found.add_all(scene.variable(*_CHANNEL_VARIABLES))
        certificates = list(scene.variable("CONDA_CLIENT_SSL_CERT", "MAMBA_CLIENT_SSL_CERT"))
        for path in condarc_files(scene):
            certificates += _condarc(found, scene, path, proxy)
        _words(found, scene)
        for path in _environment_files(scene):
            _environment(found, scene, path)
        if certificates and scene.may_run(*_CLIENTS):
            found.close(found.indexes)
            found.warn(
                "client_ssl_cert holds a client certificate: the channels that conda was told of "
                "go past the cache"
            )
        for url in BUILT_IN:
            if authority_of(url) not in found.closed:
                found.add(url)
        return found.answer()


def condarc_files(scene: Scene) -> Iterator[Path]:
    """Every configuration file of conda and mamba that exists, weakest first.

    Source: conda 26.7: a file counts when it is named ``.condarc`` or ``condarc`` or ends in
    ``.yml`` or ``.yaml``.
    """
    roots = [
        Path(v)
        for v in scene.variable("CONDA_ROOT", "CONDA_PREFIX", "MAMBA_ROOT_PREFIX", "CONDA_PREFIX_1")
    ]
    roots += [Path(value).parent.parent for value in scene.variable("CONDA_EXE", "MAMBA_EXE")]
    roots += [path.parent.parent for path in programs(scene, *_CLIENTS)]
    prefixes = [
        scene.path(value)
        for value in values_after(scene.after(*_CLIENTS), "-p", "--prefix", "-r", "--root-prefix")
    ]
    for name in values_after(scene.after(*_CLIENTS), "-n", "--name"):
        prefixes += [root / "envs" / name for root in (*roots, scene.home / ".conda")]
    places = (
        [Path("C:/ProgramData/conda")]
        if scene.platform == "win32"
        else [Path("/etc/conda"), Path("/var/lib/conda")]
    )
    places += roots
    places += [Path(value) / "conda" for value in scene.variable("XDG_CONFIG_HOME")]
    places += [scene.home / ".config/conda", scene.home / ".conda", scene.home, *prefixes]
    places += [scene.home / ".mamba", scene.home / "micromamba"]
    for place in dict.fromkeys(places):
        for name in (
            (".condarc", "condarc", ".mambarc") if place != scene.home else (".condarc", ".mambarc")
        ):
            if is_file(place / name):
                yield place / name
        if place != scene.home:
            yield from _directory(place / "condarc.d")
    for value in (*scene.variable("CONDARC", "MAMBARC"), *values_after(scene.words, "--rc-file")):
        path = scene.path(value)
        yield from _directory(path) if is_dir(path) else [path]


def _directory(path: Path) -> list[Path]:
    return (
        sorted(p for p in path.iterdir() if p.suffix in (".yml", ".yaml")) if is_dir(path) else []
    )


def _condarc(found: Findings, scene: Scene, path: Path, proxy: ProxyAddress | None) -> list[str]:
    """Read one file; the client certificates it names."""
    certificates = []
    for keys, value in lines(read_text(path)):
        if not keys or not value:
            continue
        if keys[0] in _CHANNEL_KEYS:
            _channel(found, value, keys)
        elif keys[0] == "ssl_verify" and value.lower() not in _FALSE:
            # REQUESTS_CA_BUNDLE beats it for conda; mamba has a variable of its own.
            if found.bundle(value, scene.cwd, scene.home) and proxy is not None:
                found.environment["MAMBA_SSL_VERIFY"] = proxy.bundle
        elif keys[0] == "client_ssl_cert":
            certificates.append(value)
        elif keys[0] == "proxy_servers" and proxy is not None and scene.may_run(*_CLIENTS):
            place = line_of(path, "proxy_servers")
            found.warn(
                f"proxy_servers in {place} stands above the environment for conda: what it "
                "downloads goes past the cache"
            )
    return certificates


def _channel(found: Findings, value: str, keys: tuple[str, ...]) -> None:
    found.add_all(value)
    found.add_all(keys[1:])
    # channel_alias and custom_channels may leave the scheme out: a host with a dot or a port is
    # meant.
    if "://" not in value and re.match(
        r"(?:[\w-]+\.)+[\w-]+(?::\d+)?(?:/|$)|[\w-]+:\d+(?:/|$)", value
    ):
        found.add(f"https://{value}")


def _words(found: Findings, scene: Scene) -> None:
    """Channels by flag, ``URL::name`` specs and archives by URL."""
    for value in values_after(scene.after(*_CLIENTS), "-c", "--channel"):
        found.add_value(value)
    if scene.runs(*_CLIENTS):
        for url in positional_urls(scene.words, but_after=("--proxy",)):
            found.add(url.partition("::")[0])
        for word in scene.words:
            if "::" in word and reportable(word.partition("::")[0], scene.environ):
                found.add(word.partition("::")[0])


def _environment_files(scene: Scene) -> Iterator[Path]:
    names = (
        "environment.yml",
        "environment.yaml",
        "conda-lock.yml",
        "anaconda-project.yml",
        "meta.yaml",
    )
    seen: set[Path] = set()
    if scene.runs(*_CLIENTS):
        named = values_after(scene.words, "-f", "--file", "-n", "--spec-file")
        seen.update(path for value in named if is_file(path := scene.path(value)))
        seen.update(
            path for path in scene.files() if path.suffix in (".yml", ".yaml", ".txt", ".lock")
        )
    seen.update(root / name for root in scene.roots for name in names if is_file(root / name))
    yield from sorted(seen)


def _environment(found: Findings, scene: Scene, path: Path) -> None:
    """Channels, and the options and requirements of the ``pip:`` part.

    Explicit and lock files by their URLs.
    """
    text = read_text(path)
    if "@EXPLICIT" in text or path.name.startswith("conda-lock") or path.suffix == ".lock":
        take_lock(found, path, will_be_read=scene.may_run(*_CLIENTS))
        return
    for keys, value in lines(text):
        if keys[:1] == ("channels",):
            found.add_all(value)
        elif keys[-1:] == ("pip",) and value:
            part = scan(value, requirements=True)
            found.add_all(part.urls)
            for _path, inner in follow(
                path.parent / name for name in part.files if "://" not in name
            ):
                found.add_all(inner.urls)
        elif keys[:1] == ("dependencies",) and "::" in value:
            found.add_all(value.partition("::")[0])


SETUP = CondaSetup()
