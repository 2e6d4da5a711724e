"""How pip is led: where its indexes are named, and which settings stand above the environment.

Read are all levels of its configuration at once, whatever the interpreter: a host too many that
serves packages does no harm, one too few goes past the cache. Source: pip 20.3 to 26.3, by
experiment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from entrepot.ports.client_setup import Command, ProxyAddress, SetupAnswer
from entrepot.tools._shared.defaults import UNKNOWN, default_index
from entrepot.tools._shared.safe_read import is_file, line_of, read_ini, read_text, setting_name
from entrepot.tools.client_setup.command_line import (
    REQUIREMENT_OPTIONS,
    Scene,
    index_values,
    positional_urls,
    program_name,
    programs,
    values_after,
)
from entrepot.tools.client_setup.found_urls import URL, Findings
from entrepot.tools.client_setup.projects import add_requirements, projects, scripts
from entrepot.tools.client_setup.scan import follow, scan

_INDEXES = frozenset(("index-url", "extra-index-url", "find-links", "index", "pypi-url"))
_FILES = frozenset(("requirement", "constraint", "build-constraint", "requirements-from-script"))
_OURS = ("pip", "pipx")


@dataclass(frozen=True, slots=True)
class _Setting:
    """One value of pip's own settings and where it stands."""

    name: str
    value: str
    origin: str
    """``PATH:LINE``, a variable or a flag."""
    level: str
    """``global``, ``user``, ``site``, ``file`` (PIP_CONFIG_FILE), ``env`` or ``flag``."""
    base: Path
    """Relative paths count from here."""


class PipSetup:
    """pip, by itself or below another command."""

    name = "pip"

    def answer(self, command: Command, proxy: ProxyAddress | None) -> SetupAnswer:
        """See :class:`~entrepot.ports.client_setup.ClientSetup`."""
        scene = Scene.of(command)
        found = Findings(scene.environ)
        settings = list(_settings(scene))
        for setting in settings:
            _index(found, scene, setting)
        _words(found, scene)
        for _path, data in (*projects(scene), *scripts(scene)):
            add_requirements(found, data)
        told = set(found.indexes)
        for url in default_index():
            found.add(url)
        if not default_index():
            found.warn(UNKNOWN)
        _trust(found, scene, settings, told)
        if proxy is not None:
            _lead(found, scene, settings, proxy)
        return found.answer()


def _settings(scene: Scene) -> Iterator[_Setting]:
    """Everything that sets one of pip's options, weakest first."""
    for level, path in configuration_files(scene):
        for name, value in read_ini(path):
            yield _Setting(name, value, str(path), level, scene.cwd)
    for name, value in scene.assignments:
        if name.startswith("PIP_") and value.strip():
            yield _Setting(setting_name(name[4:]), value, name, "env", scene.cwd)
    for flag in ("--cert", "--client-cert", "--proxy"):
        for value in values_after(scene.after(*_OURS), flag):
            yield _Setting(flag[2:], value, flag, "flag", scene.cwd)


def configuration_files(scene: Scene) -> Iterator[tuple[str, Path]]:
    """``(level, path)`` of pip's configuration files, weakest first, present or not.

    An existing ``PIP_CONFIG_FILE`` hides the user's files; the null device hides all.
    ``--isolated`` is not looked at: it hides the user's files and variables, so that less is read
    than is here. Source: pip 26.3, ``configuration.py``.
    """
    named = list(scene.variable("PIP_CONFIG_FILE"))
    if os.devnull in named:
        return
    file = "pip.ini" if scene.platform == "win32" else "pip.conf"
    home = scene.home
    for directory in scene.config_dirs():
        yield "global", directory / "pip" / file
    if scene.platform == "darwin":
        yield "global", Path("/Library/Application Support/pip") / file
    elif scene.platform == "linux":
        yield "global", Path("/etc") / file
    if not any(is_file(scene.path(name)) for name in named):
        yield "user", home / ("pip" if scene.platform == "win32" else ".pip") / file
        if scene.platform == "darwin":
            yield "user", home / "Library/Application Support/pip" / file
        yield "user", scene.config_home() / "pip" / file
    for prefix in dict.fromkeys(_prefixes(scene)):
        yield "site", prefix / file
    for name in named:
        yield "file", scene.path(name)


def _prefixes(scene: Scene) -> Iterator[Path]:
    """Prefixes of the interpreters whose pip may run.

    Virtual environments in reach, and what PATH and the words name.
    """
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        yield from (Path(value) for value in scene.variable(variable))
    for root in scene.roots:
        yield from (root / ".venv", root / "venv")
    pythons = [scene.command.around.python] if scene.command.around.python else []
    pythons += [scene.path(value) for value in values_after(scene.after(*_OURS), "--python")]
    pythons += programs(scene, "pip", "python3", "python")
    for python in pythons:
        yield python.parent.parent


def _index(found: Findings, scene: Scene, setting: _Setting) -> None:
    if setting.name in _INDEXES:
        found.add_all(setting.value)
        for word in setting.value.split():
            _local_page(found, scene, word)
    elif setting.name in _FILES:
        whole = setting.base / setting.value
        _requirements(
            found,
            [whole] if is_file(whole) else [setting.base / word for word in setting.value.split()],
        )
        found.add_all(setting.value)


def _local_page(found: Findings, scene: Scene, word: str) -> None:
    """A find-links page on disk names the hosts of its files."""
    path = scene.path(word.removeprefix("file://"))
    if path.suffix.lower() in (".html", ".htm") and is_file(path):
        found.add_all(match[0] for match in URL.finditer(read_text(path)))


def _requirements(found: Findings, paths: list[Path]) -> None:
    for path, text in follow(paths):
        found.lock(path)
        found.add_all(text.urls)
        found.add_all(name for name in text.files if "://" in name)


def _words(found: Findings, scene: Scene) -> None:
    """Indexes, requirement files and distributions among the words, for any program."""
    for value in index_values(scene.words):
        found.add_value(value)
        _local_page(found, scene, value)
    for value in values_after(scene.words, *REQUIREMENT_OPTIONS):
        if "://" in value:
            found.add_value(value)
        else:
            _requirements(found, [root / value for root in scene.roots])
    for value in values_after(scene.words, "--group"):
        path, colon, _group = value.rpartition(":")
        if colon:
            found.add_all(scan(read_text(scene.path(path))).urls)
    if scene.runs(*_OURS):
        found.add_all(
            positional_urls(
                scene.words, but_after=("--proxy", "--cert", "--client-cert", "--report", "--log")
            )
        )


def _trust(found: Findings, scene: Scene, settings: list[_Setting], told: set[str]) -> None:
    """CA files to merge; hosts to leave closed because pip shows them a client certificate."""
    for setting in settings:
        if setting.name == "cert":
            found.bundle(setting.value, setting.base, scene.home)
    holders = [setting for setting in settings if setting.name == "client-cert"]
    if holders and scene.may_run(*_OURS):
        # The certificate has no host of its own: whatever the user named may ask for it; the
        # default index does not.
        found.close(told, but=default_index())
        found.warn(
            f"{_named(holders[-1])} holds a client certificate: the indexes named beside it go "
            "past the cache"
        )


def _named(setting: _Setting) -> str:
    if setting.level in ("env", "flag"):
        return setting.origin
    return f"{setting.name} in {line_of(Path(setting.origin), setting.name)}"


def _lead(found: Findings, scene: Scene, settings: list[_Setting], proxy: ProxyAddress) -> None:
    """Neutralise or name what stands above the environment."""
    flags = [
        setting
        for setting in settings
        if setting.level == "flag" and setting.name in ("cert", "proxy")
    ]
    configured = [s for s in settings if s.name == "proxy" and s.level not in ("env", "flag")]
    if flags and _is_directly_pip(scene.command.argv):
        found.argv = _without_flags(scene.command.argv, proxy)
    elif flags:
        _lead_indirectly(found, flags, configured=bool(configured))
    if _is_isolated(scene):
        # --isolated hides PIP_PROXY and PIP_CERT; HTTPS_PROXY and REQUESTS_CA_BUNDLE still count, a
        # configured proxy more.
        for setting in configured:
            if setting.level != "user":
                found.warn(
                    f"pip --isolated takes {_named(setting)}: what it downloads goes past the cache"
                )


def _lead_indirectly(found: Findings, flags: list[_Setting], *, configured: bool) -> None:
    """Another program calls pip, with flags that cannot be reached."""
    if any(flag.name == "proxy" for flag in flags):
        found.warn(
            "pip is given --proxy inside another command: what it downloads goes past the cache"
        )
    elif configured:
        found.warn(
            "pip is given --cert inside another command and has a proxy configured: its downloads "
            "may fail"
        )
    else:
        # Without PIP_PROXY pip takes HTTPS_PROXY, and then REQUESTS_CA_BUNDLE beats --cert (fact
        # found with 20.3 to 26.3).
        found.environment["PIP_PROXY"] = None


def _is_isolated(scene: Scene) -> bool:
    true = ("1", "true", "yes", "on", "y", "t")
    return "--isolated" in scene.after(*_OURS) or any(
        v.lower() in true for v in scene.variable("PIP_ISOLATED")
    )


def _is_directly_pip(argv: tuple[str, ...]) -> bool:
    """``pip ...`` or ``python [-I ...] -m pip ...``, under any path and version."""
    if not argv:
        return False
    if program_name(argv[0]) == "pip":
        return True
    if not re.match(r"python|pypy|py$", program_name(argv[0])):
        return False
    options = iter(argv[1:])
    for word in options:
        if word == "-m":
            return next(options, "") == "pip"
        if word == "-mpip":
            return True
        if not word.startswith("-"):
            return False
    return False


def _without_flags(argv: tuple[str, ...], proxy: ProxyAddress) -> tuple[str, ...]:
    """``--proxy`` dropped, ``--cert`` led to the merged bundle.

    The proxy's own address never becomes a flag: every user of the machine could read it.
    """
    result: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, _value = word.partition("=")
        if name == "--proxy":
            if not equals:
                next(words, None)
        elif name == "--cert":
            if not equals:
                next(words, None)
            result.append(f"--cert={proxy.bundle}")
        else:
            result.append(word)
    return tuple(result)


SETUP = PipSetup()
