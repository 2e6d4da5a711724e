"""pip's configuration, read as pip reads it and edited by lines.

No comment is lost, as ``pip config`` loses them all.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from os.path import exists
from pathlib import Path

from entrepot.edits import Patch, edit_file, holds_secret, masked
from entrepot.errors import ConfigError
from entrepot.ports.tool import Change, Settings, Surroundings
from entrepot.tools.pip.conffile import check_writable, normalize_key, with_value, without_key
from entrepot.tools.pip.configuration import Level, Value, config_files, encoding_of, load
from entrepot.tools.pip.interpreters import Pip, pips
from entrepot.tools.pip.places import TRUTH, foreign_owner

_STRENGTH: dict[Level | str, int] = {"global": 0, "user": 1, "site": 2, "env": 3}

_BOOLEAN = frozenset(
    (
        "no-cache-dir require-virtualenv no-input no-index pre disable-pip-version-check no-color "
        "debug isolated require-hashes no-deps no-dependencies user prefer-binary "
        "no-build-isolation no-compile compile ignore-installed force-reinstall "
        "break-system-packages no-clean ignore-requires-python upgrade no-warn-script-location "
        "no-warn-conflicts"
    ).split()
)
_COUNT = frozenset(("verbose", "quiet"))
_CHOICE = {
    "progress-bar": frozenset(("on", "off", "ascii", "pretty", "emoji", "auto", "raw")),
    "keyring-provider": frozenset(("auto", "disabled", "import", "subprocess")),
    "upgrade-strategy": frozenset(("eager", "only-if-needed")),
}


def check_value(key: str, value: str) -> None:
    """Refuse a value with which pip would stop; an empty one pip ignores.

    Raises:
        ConfigError: not a truth value, a number or one of the choices where pip wants one.
    """
    if not value:
        return
    name = key.partition(".")[2]
    wrong = ""
    if (name in _BOOLEAN and value.lower() not in TRUTH) or (
        name in _COUNT and value.lower() not in TRUTH and not value.isdigit()
    ):
        wrong = "yes or no"
    elif name in {"retries", "resume-retries"} and not value.isdigit():
        wrong = "a whole number"
    elif name == "timeout" and not _is_number(value):
        wrong = "a number of seconds"
    elif name in _CHOICE and value not in _CHOICE[name]:
        wrong = "one of " + ", ".join(sorted(_CHOICE[name]))
    if wrong:
        raise ConfigError(
            f"pip would stop at {key} = {value}: it wants {wrong}", name=key, value=value
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def split_name(name: str) -> tuple[str, str]:
    """Section and key of a setting; without a section ``global`` is meant.

    >>> split_name("cache_dir"), split_name("Install.No-Deps")
    (('global', 'cache-dir'), ('install', 'no-deps'))
    """
    section, dot, key = name.partition(".")
    if not dot:
        section, key = "global", name
    return section.lower().strip(), normalize_key(key.strip())


class PipSettings(Settings):
    """The configuration of one pip.

    Args:
        around: environment, home and platform.
        pip: whose files; ``None``: the first one found.
    """

    def __init__(self, around: Surroundings, pip: Pip | None = None) -> None:
        self.around = around
        self.pip = pip or pips(around)[0]

    def items(self) -> Iterable[tuple[str, str, str]]:
        """``(section.key, value, PATH:LINE or variable)``, weakest first; secrets masked."""
        for value in load(self.around, self.pip).values:
            if (value.section, value.key) != (":env:", "config-file"):
                yield f"{value.section}.{value.key}", masked(value.value, value.key), value.source

    def get(self, key: str) -> str | None:
        """The value in force for a section.

        Variables beat files, and ``[global]`` stands in for what the section lacks.
        """
        section, name = split_name(key)
        found = load(self.around, self.pip).get(name, section)
        return found.value if found else None

    def problems(self) -> list[tuple[Path, str]]:
        """Files that stop every pip command, each with a sentence that names the line."""
        return load(self.around, self.pip).broken

    def file(self) -> Path:
        """The site file if it exists, else the user's, as pip chooses it."""
        # The last file of a level is the one written
        by_level = dict(config_files(self.around, self.pip))
        if not by_level:
            raise ConfigError(
                "PIP_CONFIG_FILE names the null device, so pip reads no configuration file",
                name="PIP_CONFIG_FILE",
                hint="unset PIP_CONFIG_FILE",
            )
        if "env" in by_level and "user" not in by_level:
            return by_level["env"]
        return by_level["site"] if exists(by_level["site"]) else by_level["user"]

    def set(self, key: str, value: str) -> Change:
        """Set a key in the strongest file that has it, else in the usual one."""
        section, name = split_name(key)
        check_writable(section, name, value)
        check_value(f"{section}.{name}", value)
        path, holding = self.file(), self._in_files(section, name)
        usual = _STRENGTH[self._level(path)]
        stronger = [v.path for v in holding if v.path and _STRENGTH[v.level] >= usual]
        path = stronger[-1] if stronger else path
        before = next((v.value for v in reversed(holding) if v.path == path), None)
        patch = self._edit(
            path, lambda text: with_value(text, section, name, value), secret=holds_secret(value)
        )
        native = f"pip config {self._flag(path)}set {section}.{name} {shlex.quote(value)}"
        return Change(path, f"{section}.{name}", before, value, native, patch=patch)

    def unset(self, key: str) -> Change:
        """Remove a key from the strongest file that sets it."""
        section, name = split_name(key)
        holding = self._in_files(section, name)
        if not holding or not (path := holding[-1].path):
            variable = _variable(name)
            known = variable in self.around.environ
            raise ConfigError(
                f"no configuration file sets {section}.{name}",
                name=f"{section}.{name}",
                hint=f"it comes from the variable {variable}: unset that" if known else "",
            )
        patch = self._edit(path, lambda text: without_key(text, section, name))
        native = f"pip config {self._flag(path)}unset {section}.{name}"
        return Change(path, f"{section}.{name}", holding[-1].value, None, native, patch=patch)

    def export(self, key: str, value: str | None) -> tuple[str, Change]:
        """The variable that sets a key for every pip command, and what setting it would change."""
        section, name = split_name(key)
        if value is not None:
            check_value(f"{section}.{name}", value)
        before = self.around.environ.get(_variable(name))
        return _variable(name), Change(None, f"{section}.{name}", before, value, "")

    def ask(self, change: Change) -> Change:
        """Ask pip whether a change arrived, and look whether another layer is stronger.

        ``pip config get`` of the key, and ``pip cache dir`` where the cache is concerned. Takes
        about half a second.
        """
        flag = self._flag(change.path).split() if change.path else []
        told = self._told(["config", *flag, "get", change.key])
        absent = told.startswith("[") and "No such key" in told
        same = absent if change.after is None else told == change.after
        said = f"{change.key} is {'not set' if absent else masked(told, change.key)}"
        if change.key.endswith("cache-dir"):
            folder = f"its cache is {self._told(['cache', 'dir'])}"
            said = folder if same else f"{said}; {folder}"
        section, name = split_name(change.key)
        force = load(self.around, self.pip).get(name, section if section != "global" else "install")
        stronger = force is not None and force.value != change.after
        if stronger and force is not None:
            value = masked(force.value, name)
            said = (
                f"{force.source}={value} is stronger"
                if force.source.startswith("PIP_")
                else f"{value} from {force.source} is stronger"
            )
        differs = not same or (stronger and change.after is not None)
        return replace(change, verified=said, differs=differs)

    def _told(self, words: Iterable[str]) -> str:
        """What this pip answers to ``pip WORDS``: its stdout, or its error in brackets."""
        command = [str(self.pip.python), "-m", "pip", "--disable-pip-version-check", *words]
        try:
            done = subprocess.run(
                command,
                env=dict(self.around.environ),
                cwd=self.around.cwd,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=60,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            return f"[pip could not be asked: {exc}]"
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            return f"[{lines[-1] if lines else f'pip ended with {done.returncode}'}]"
        return done.stdout.rstrip("\n")

    def _in_files(self, section: str, name: str) -> list[Value]:
        """What files say of a key of one section, weakest first."""
        values = load(self.around, self.pip).values
        return [v for v in values if (v.section, v.key) == (section, name) and v.path]

    def _level(self, path: Path) -> Level:
        files = config_files(self.around, self.pip)
        return next((level for level, known in files if known == path), "user")

    def _flag(self, path: Path) -> str:
        level = self._level(path)
        return "" if level == "env" else f"--{level} "

    def _edit(
        self, path: Path, change: Callable[[str], str], *, secret: bool = False
    ) -> Patch | None:
        # Root leaves the files of others to them: a new one would be root's, and its user could
        # not change it any more.
        if owner := foreign_owner(path, self.around):
            raise ConfigError(
                f"{path} belongs to {owner}", source=str(path), hint="run entrepot as that user"
            )
        return edit_file(path, change, encoding=encoding_of(self.around.environ), secret=secret)


def _variable(name: str) -> str:
    return f"PIP_{name.upper().replace('-', '_')}"
