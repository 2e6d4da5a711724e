"""How each client is sent through the proxy: a row for each, and what only one of them does.

Files are read whatever their precedence: a host too many that serves packages does no harm, one too
few goes past the cache. Sources: by experiment with pip 20.3 to 26.3, uv 0.13, conda 26.7,
py-rattler 0.28, curl 7.88, git 2.39, wget 1.21 (GnuTLS) and npm 11; by source poetry 2.5
(``config/config.py``, ``utils/authenticator.py``) and pdm 2.29 (``project/config.py``,
``models/session.py``); by documentation pixi, mamba 2 and pipenv.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from entrepot.ports.client_setup import ClientSetup, Command, ProxyAddress
from entrepot.tools._shared.defaults import UNKNOWN, default_index
from entrepot.tools._shared.safe_read import (
    is_dir,
    is_file,
    read_text,
    read_toml,
    table,
    tables,
)
from entrepot.tools.client_setup.command_line import (
    REQUIREMENT_OPTIONS,
    CommandLine,
    index_values,
    program_name,
    values_after,
)
from entrepot.tools.client_setup.downloaders import DOWNLOADERS
from entrepot.tools.client_setup.engine import Client, Meaning, Setting, means, set_up
from entrepot.tools.client_setup.found_urls import FoundUrls
from entrepot.tools.client_setup.readers import ini, toml, yaml, yaml_lines
from entrepot.tools.client_setup.scan import URL, scan, scan_runners

_TRUE = ("1", "true", "yes", "on", "y", "t")


def client_setups(command: Command, proxy: ProxyAddress | None) -> dict[str, ClientSetup]:
    """What every client needs for a command, by its name.

    Args:
        command: what will be started.
        proxy: where it will be pointed at; ``None`` gives what does not depend on it.
    """
    line = CommandLine(command)
    return {client.name: set_up(client, line, proxy) for client in CLIENTS}


# pip


def _pip_files(line: CommandLine) -> Iterator[Path]:
    """Pip's configuration files, weakest first.

    An existing ``PIP_CONFIG_FILE`` hides the user's files; the null device hides all.
    ``--isolated`` is not looked at: it hides the user's files and variables, so that less is read
    than is here. Source: pip 26.3, ``configuration.py``.
    """
    named = list(line.variable("PIP_CONFIG_FILE"))
    if os.devnull in named:
        return
    name = "pip.ini" if line.is_windows else "pip.conf"
    yield from line.places(f"@system/pip/{name} /etc/{name}")
    yield Path("/Library/Application Support/pip/pip.conf")
    if not any(is_file(line.path(each)) for each in named):
        yield from _pip_user_files(line)
    # Environments in reach, and those of the interpreters that PATH and the words name.
    pythons = [line.command.around.python] if line.command.around.python else []
    pythons += map(line.path, values_after(line.after("pip", "pipx"), "--python"))
    pythons += line.installed("pip", "python3", "python")
    prefixes = [
        *line.places("$VIRTUAL_ENV $CONDA_PREFIX"),
        *(root / folder for root in line.roots for folder in (".venv", "venv")),
        *(python.parent.parent for python in pythons),
    ]
    yield from (prefix / name for prefix in dict.fromkeys(prefixes))
    yield from map(line.path, named)


def _pip_user_files(line: CommandLine) -> Iterator[Path]:
    return line.places(
        "~/pip/pip.ini @config/pip/pip.ini"
        if line.is_windows
        else "~/.pip/pip.conf @mac/pip/pip.conf @config/pip/pip.conf"
    )


def _pip(found: FoundUrls, settings: Sequence[Setting]) -> None:
    """Indexes and requirement files among the words of any program; flags that beat variables."""
    line = found.line
    for value in index_values(line.words):
        found.add_value(value)
        found.add_local_page(value)
    for value in values_after(line.words, *REQUIREMENT_OPTIONS):
        if "://" in value:
            found.add_value(value)
        else:
            found.add_requirements((root / value for root in line.roots), will_be_read=True)
    for value in values_after(line.words, "--group"):
        path, colon, _group = value.rpartition(":")
        if colon:
            found.add_all(scan(read_text(line.path(path))).urls)
    if not default_index():
        found.warn(UNKNOWN)
    if found.proxy is not None:
        _pip_proxy(found, settings, found.proxy)


def _pip_proxy(found: FoundUrls, settings: Sequence[Setting], proxy: ProxyAddress) -> None:
    """What beats the common variables: flags, and a configured proxy with ``--isolated``."""
    line = found.line
    flags = {each.key for each in settings if each.key in ("--proxy", "--cert")}
    configured = [each for each in settings if each.key == "proxy"]
    if flags and _is_pip(line.command.argv):
        found.argv = _without_pip_flags(line.command.argv, proxy)
    elif "--proxy" in flags:
        found.warn(
            "pip is given --proxy inside another command: what it downloads goes past the cache"
        )
    elif flags and configured:
        found.warn(
            "pip is given --cert inside another command and has a proxy configured: its downloads "
            "may fail"
        )
    elif flags:
        # Without PIP_PROXY pip takes HTTPS_PROXY, and then REQUESTS_CA_BUNDLE beats --cert (fact
        # found with 20.3 to 26.3).
        found.environment["PIP_PROXY"] = None
    isolated = any(value.lower() in _TRUE for value in line.variable("PIP_ISOLATED"))
    if isolated or "--isolated" in line.after("pip", "pipx"):
        # It hides the user's file, PIP_PROXY and PIP_CERT; HTTPS_PROXY and REQUESTS_CA_BUNDLE still
        # count, a configured proxy more.
        hidden = set(_pip_user_files(line))
        for each in configured:
            if each.file not in hidden:
                found.warn(
                    f"pip --isolated takes {each.place}: what it downloads goes past the cache"
                )


def _is_pip(argv: tuple[str, ...]) -> bool:
    """``pip ...`` or ``python [-I ...] -m pip ...``, under any path and version."""
    first = program_name(argv[0]) if argv else ""
    if first == "pip" or not re.match(r"python|pypy|py$", first):
        return first == "pip"
    options = iter(argv[1:])
    for word in options:
        if word == "-m":
            return next(options, "") == "pip"
        if word == "-mpip" or not word.startswith("-"):
            return word == "-mpip"
    return False


def _without_pip_flags(argv: tuple[str, ...], proxy: ProxyAddress) -> tuple[str, ...]:
    """``--proxy`` dropped, ``--cert`` pointed at the merged bundle.

    The proxy's own address never becomes a flag: every user of the machine could read it.
    """
    result: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, _value = word.partition("=")
        if name not in ("--proxy", "--cert"):
            result.append(word)
            continue
        if not equals:
            next(words, None)
        if name == "--cert":
            result.append(f"--cert={proxy.bundle}")
    return tuple(result)


_PIP_SETTINGS = means(
    index="index-url extra-index-url find-links index pypi-url",
    requirements="requirement constraint build-constraint requirements-from-script",
    ca="cert",
    certificate="client-cert",
)
_PIP = Client(
    "pip",
    ("pip", "pipx"),
    files=_pip_files,
    read=ini,
    keys=_PIP_SETTINGS | means(own="proxy"),
    variables={
        f"PIP_{name.upper().replace('-', '_')}": meaning for name, meaning in _PIP_SETTINGS.items()
    },
    options=means(ca="--cert", certificate="--client-cert", own="--proxy"),
    reads_requirements=True,
    fetches_words=True,
    not_fetched=("--proxy", "--cert", "--client-cert", "--report", "--log"),
    uses_default_index=True,
    own=_pip,
)


# uv

_UV_LOCKING = frozenset("sync run lock export add remove tree audit version".split())
"""uv's commands that read uv.lock; ``uv pip`` and ``uv tool`` read none."""


def _uv_files(line: CommandLine) -> Iterable[Path]:
    """The named uv.toml alone, else those of the project, the user and the system."""
    named = [*line.variable("UV_CONFIG_FILE"), *values_after(line.words, "--config-file")]
    if named:
        return map(line.path, named)
    if "--no-config" in line.words or any(
        value.lower() in ("1", "true") for value in line.variable("UV_NO_CONFIG")
    ):
        return ()
    return line.places("@above/uv.toml @config/uv/uv.toml @system/uv/uv.toml /etc/uv/uv.toml")


def _uv(found: FoundUrls, _settings: Sequence[Setting]) -> None:
    line = found.line
    words = line.after("uv")
    verb = next((word for word in words if word in ("pip", "tool") or word in _UV_LOCKING), "")
    reads = line.may_run("uv") and (not words or verb in _UV_LOCKING)
    scripts = (path.with_name(path.name + ".lock") for path in line.files)
    for path in (*line.places("@above/uv.lock"), *scripts):
        found.add_lock(path, will_be_read=reads)
    for path in line.places("@above/pylock.toml"):
        found.add_lock(path, will_be_read=False)
    for path in line.files:
        if path.name.startswith("pylock.") and path.suffix == ".toml":
            found.add_lock(path, will_be_read=True)


_UV = Client(
    "uv",
    ("uv", "uvx"),
    files=_uv_files,
    read=toml,
    keys=means(
        nothing="git publish-url check-url no-proxy python-install-mirror pypy-install-mirror "
        "python-downloads-json-url allow-insecure-host trusted-publishing",
        proxy="https-proxy http-proxy",
        torch="torch-backend",
    ),
    other_keys=Meaning.INDEX,
    variables=means(
        index="UV_INDEX UV_DEFAULT_INDEX UV_INDEX_URL UV_EXTRA_INDEX_URL UV_FIND_LINKS",
        requirements="UV_CONSTRAINT UV_BUILD_CONSTRAINT UV_OVERRIDE UV_EXCLUDE UV_REQUIREMENTS",
        certificate="SSL_CLIENT_CERT",
        torch="UV_TORCH_BACKEND",
    ),
    options={"--torch-backend": Meaning.TORCH},
    project_table="uv",
    reads_requirements=True,
    fetches_words=True,
    not_fetched=("--publish-url", "--mirror", "--allow-insecure-host"),
    uses_default_index=True,
    own=_uv,
)


# conda, mamba, pixi

_CONDA_PROGRAMS = "conda mamba micromamba conda-lock conda-build boa constructor menuinst".split()
_CONDA_ENVIRONMENTS = (
    "environment.yml environment.yaml conda-lock.yml anaconda-project.yml meta.yaml".split()
)


def _condarc_files(line: CommandLine) -> Iterator[Path]:
    """Where conda and mamba look for configuration, weakest first.

    Source: conda 26.7, ``base/context.py``: a file counts when it is named ``.condarc`` or
    ``condarc`` or ends in ``.yml`` or ``.yaml``.
    """
    words = line.after(*_CONDA_PROGRAMS)
    roots = [
        *line.places("$CONDA_ROOT $CONDA_PREFIX $MAMBA_ROOT_PREFIX $CONDA_PREFIX_1"),
        *(path.parent.parent for path in line.places("$CONDA_EXE $MAMBA_EXE")),
        *(path.parent.parent for path in line.installed(*_CONDA_PROGRAMS)),
    ]
    prefixes = [*map(line.path, values_after(words, "-p", "--prefix", "-r", "--root-prefix"))]
    for name in values_after(words, "-n", "--name"):
        prefixes += [root / "envs" / name for root in (*roots, line.home / ".conda")]
    places = [
        *line.places("C:/ProgramData/conda" if line.is_windows else "/etc/conda /var/lib/conda"),
        *roots,
        *line.places("$XDG_CONFIG_HOME/conda ~/.config/conda ~/.conda"),
        *prefixes,
        *line.places("~/.mamba ~/micromamba"),
    ]
    yield from line.places("~/.condarc ~/.mambarc")
    for place in dict.fromkeys(places):
        yield from (place / name for name in (".condarc", "condarc", ".mambarc"))
        yield from _yaml_files(place / "condarc.d")
    named = [*line.variable("CONDARC", "MAMBARC"), *values_after(line.words, "--rc-file")]
    for path in map(line.path, named):
        yield from _yaml_files(path) if is_dir(path) else [path]


def _yaml_files(folder: Path) -> list[Path]:
    if not is_dir(folder):
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in (".yml", ".yaml"))


def _conda(found: FoundUrls, _settings: Sequence[Setting]) -> None:
    """``URL::name`` specs; environment files, explicit lists and lock files."""
    line = found.line
    paths = {root / name for root in line.roots for name in _CONDA_ENVIRONMENTS}
    if line.runs(*_CONDA_PROGRAMS):
        for word in line.words:
            if "::" in word:
                found.add(word.partition("::")[0])
        paths |= {path for path in line.files if path.suffix in (".yml", ".yaml", ".txt", ".lock")}
        paths |= {*map(line.path, values_after(line.words, "-f", "--file", "-n", "--spec-file"))}
    for path in sorted(filter(is_file, paths)):
        text = read_text(path)
        if "@EXPLICIT" in text or path.name.startswith("conda-lock") or path.suffix == ".lock":
            found.add_lock(path, will_be_read=line.may_run(*_CONDA_PROGRAMS))
            continue
        for keys, value in yaml_lines(text):
            if keys[:1] == ("channels",):
                found.add_all(value)
            elif keys[-1:] == ("pip",) and value:
                part = scan(value, requirements=True)
                found.add_all(part.urls)
                found.add_requirements(
                    (path.parent / name for name in part.files), will_be_read=False
                )
            elif keys[:1] == ("dependencies",) and "::" in value:
                found.add_all(value.partition("::")[0])


_CONDA = Client(
    "conda",
    tuple(_CONDA_PROGRAMS),
    files=_condarc_files,
    read=yaml,
    keys=means(
        channel="channels channel_alias custom_channels custom_multichannels default_channels "
        "migrated_channel_aliases migrated_custom_channels allowlist_channels "
        "whitelist_channels mirrored_channels base",
        ca="ssl_verify",
        certificate="client_ssl_cert",
        proxy="proxy_servers",
    ),
    variables=means(
        index="CONDA_CHANNELS CONDA_CHANNEL_ALIAS CONDA_DEFAULT_CHANNELS CONDA_ADD_CHANNELS "
        "CONDA_CUSTOM_CHANNELS CONDA_CUSTOM_MULTICHANNELS CONDA_WHITELIST_CHANNELS "
        "CONDA_ALLOWLIST_CHANNELS MAMBA_CHANNELS MAMBA_CHANNEL_ALIAS MAMBA_DEFAULT_CHANNELS",
        certificate="CONDA_CLIENT_SSL_CERT MAMBA_CLIENT_SSL_CERT",
    ),
    options=means(index="-c --channel"),
    fetches_words=True,
    not_fetched=("--proxy",),
    # conda's own channel_alias and default_channels
    hosts=("https://conda.anaconda.org/", "https://repo.anaconda.com/"),
    ca_variable="MAMBA_SSL_VERIFY",  # REQUESTS_CA_BUNDLE beats the setting for conda
    own=_conda,
)
_RATTLER = Client(
    "rattler",
    ("pixi", "rattler-build", "rattler", "pixi-pack"),
    files="@above/pixi.toml @above/mojoproject.toml /etc/pixi/config.toml @config/pixi/config.toml "
    "~/.pixi/config.toml ~/.config/rattler/config.toml ~/.rattler/config.toml "
    "$PIXI_HOME/config.toml $RATTLER_HOME/config.toml @above/.pixi/config.toml",
    read=toml,
    keys=means(
        nothing="git homepage repository documentation description tasks authors publish",
        proxy="proxy-config",
    ),
    # Keys of `mirrors` are URLs that are replaced, their values those that are asked.
    other_keys=Meaning.INDEX,
    options=means(index="-c --channel"),
    project_table="pixi",
    locks="@above/pixi.lock",
    # where channels by name are looked for
    hosts=(
        "https://conda.anaconda.org/",
        "https://repo.anaconda.com/",
        "https://repo.prefix.dev/",
        "https://prefix.dev/",
    ),
)


# poetry, pdm, pipenv


def _poetry(found: FoundUrls, settings: Sequence[Setting]) -> None:
    """Repositories in variables; sources with a client certificate stay closed."""
    line = found.line
    for name, value in line.assignments:
        if re.fullmatch(r"POETRY_REPOSITORIES_\w+_URL|POETRY_\w*PYPI_MIRROR\w*", name):
            found.add_all(value)
    urls: dict[str, str] = {}
    for each in settings:
        match each.keys:
            case ("repositories", source, *_):
                urls[source] = each.value
            case ("certificates", source, "cert"):
                # It overrides REQUESTS_CA_BUNDLE, and the variable overrides it.
                name = source.upper().replace("-", "_")
                found.bundle(each.value, f"POETRY_CERTIFICATES_{name}_CERT")
    for _path, data in line.projects:
        for table_ in tables(table(data, "tool", "poetry").get("source")):
            urls[str(table_.get("name"))] = str(table_.get("url"))
    for each in settings if line.may_run("poetry") else ():
        match each.keys:
            case ("certificates", source, "client-cert") if each.value:
                found.close([urls.get(source, "")], but=default_index())
                found.warn(
                    f"certificates.{source}.client-cert in {each.file}: this source goes past the "
                    "cache"
                )


_POETRY = Client(
    "poetry",
    ("poetry",),
    files="$POETRY_CONFIG_DIR/config.toml $POETRY_CONFIG_DIR/auth.toml "
    "@config/pypoetry/config.toml @config/pypoetry/auth.toml @mac/pypoetry/config.toml "
    "@mac/pypoetry/auth.toml ~/Library/Preferences/pypoetry/config.toml "
    "~/Library/Preferences/pypoetry/auth.toml @above/poetry.toml",
    read=toml,
    keys=means(nothing="git urls", index="url repositories", own="cert client-cert"),
    project_table="poetry",
    reads_requirements=True,
    fetches_words=True,
    locks="@above/poetry.lock",
    uses_default_index=True,
    own=_poetry,
)


def _pdm_files(line: CommandLine) -> Iterator[Path]:
    yield from line.places(
        "@above/pdm.toml @above/.pdm.toml $PDM_CONFIG_FILE @mac/pdm/config.toml "
        "@config/pdm/config.toml $LOCALAPPDATA/pdm/pdm/config.toml "
        "~/AppData/Local/pdm/pdm/config.toml @system/pdm/config.toml"
    )
    yield from map(line.path, values_after(line.after("pdm"), "-c", "--config"))


def _pdm(found: FoundUrls, _settings: Sequence[Setting]) -> None:
    """Sources with certificates of their own stay closed.

    ``ca_certs`` beats every variable. ``verify_ssl = false`` asks for less than the proxy gives.
    """
    line = found.line
    if not line.may_run("pdm"):
        return
    sources: list[tuple[str, dict[str, Any], Path]] = []
    for path, data in line.projects:
        named = tables(table(data, "tool", "pdm").get("source"))
        sources += [(str(source.get("name")), source, path) for source in named]
    for path in _pdm_files(line):
        # [pypi] is the default source, its sub-tables are further ones.
        pypi = table(read_toml(path), "pypi")
        sources.append(("pypi", pypi, path))
        sources += [(name, each, path) for name, each in pypi.items() if isinstance(each, dict)]
    for name, source, path in sources:
        # The certificates of pypi count for every host that is no source of its own, the files'
        # host among them.
        urls = [str(source.get("url")), *(default_index() if name == "pypi" else ())]
        for key in ("ca_certs", "client_cert"):
            if source.get(key):
                found.close(urls)
                found.warn(
                    f"{key} of source {name} in {path} overrides the environment for pdm: it "
                    "goes past the cache"
                )


_PDM = Client(
    "pdm",
    ("pdm",),
    files=_pdm_files,
    read=toml,
    keys=means(nothing="repository", index="dev-dependencies overrides options url"),
    variables={"PDM_PYPI_URL": Meaning.INDEX},
    project_table="pdm",
    reads_requirements=True,
    fetches_words=True,
    locks="@above/pdm.lock @above/pylock.toml",
    uses_default_index=True,
    own=_pdm,
)
_PIPENV = Client(
    "pipenv",  # what it installs with is pip
    ("pipenv",),
    files="@above/Pipfile $PIPENV_PIPFILE",
    read=toml,
    keys=means(nothing="git hg svn bzr scripts"),
    other_keys=Meaning.INDEX,
    variables=means(index="PIPENV_PYPI_MIRROR PIPENV_TEST_INDEX"),
    locks="@above/Pipfile.lock $PIPENV_PIPFILE.lock",
    uses_default_index=True,
)


# programs with no settings of their own

_PACKAGES = re.compile(
    r"\.(?:whl|tar\.gz|tgz|zip|tar\.bz2|tar\.xz|conda|egg|metadata)$"
    r"|/simple(?:/|$)|/(?:current_)?repodata[^/]*$",
    re.IGNORECASE,
)
"""The path of a distribution, a conda archive, a simple page or repodata."""


def _python(found: FoundUrls, _settings: Sequence[Setting]) -> None:
    """A script with requests, httpx or urllib: the common variables do it all.

    Which hosts it asks cannot be known; of the URLs in its words and in the script itself those
    count that are packages by their form. Any other host is named with ``--host``.
    """
    line = found.line
    scripts = [path for path in line.files if path.suffix in ("", ".py")]
    if line.runs("python", "pypy", "py") or any(path.suffix == ".py" for path in scripts):
        for text in (*line.words, *map(read_text, scripts)):
            for match in URL.finditer(text):
                if _PACKAGES.search(re.split(r"[?#]", match[0])[0]):
                    found.add(match[0])


def _runners(found: FoundUrls, _settings: Sequence[Setting]) -> None:
    """tox, nox, make, just, hatch, task runners and shell scripts, by what their files tell."""
    line = found.line
    for path, text in scan_runners(line.roots, line.files):
        found.add_all(text.urls)
        included = (base / name for name in text.files for base in (path.parent, *line.roots))
        found.add_requirements(included, will_be_read=line.may_run())


CLIENTS = (
    _PIP,
    _UV,
    _CONDA,
    _RATTLER,
    _POETRY,
    _PDM,
    _PIPENV,
    *DOWNLOADERS,
    Client("python", own=_python),
    Client("runners", own=_runners),
)
"""The table."""
