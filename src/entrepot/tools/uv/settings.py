"""uv's configuration, edited without losing a comment, as uv itself cannot.

It has no command that writes ``uv.toml``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from entrepot.edits import edit_file, holds_secret, masked, with_toml
from entrepot.errors import ConfigError
from entrepot.ports.tool import Change, Settings, Surroundings
from entrepot.tools._shared.safe_read import is_file
from entrepot.tools.uv.configuration import File, files, flat, line_of, read, user_file

_WORDS = frozenset(
    (
        "cache-dir",
        "index-url",
        "python-install-mirror",
        "pypy-install-mirror",
        "required-version",
        "python-version",
    )
)
"""Keys whose value is a string whatever it looks like."""
_CHOICES = {
    "link-mode": frozenset(("clone", "copy", "hardlink", "symlink")),
    "python-preference": frozenset(("only-managed", "managed", "system", "only-system")),
    "python-downloads": frozenset(("automatic", "manual", "never")),
    "resolution": frozenset(("highest", "lowest", "lowest-direct")),
    "index-strategy": frozenset(("first-index", "unsafe-first-match", "unsafe-best-match")),
    "keyring-provider": frozenset(("disabled", "subprocess", "native")),
}
_SWITCHES = frozenset(
    (
        "no-cache offline no-index native-tls system-certs no-build no-build-isolation no-binary "
        "no-sources compile-bytecode"
    ).split()
)

_VARIABLES = frozenset(
    (
        "cache-dir no-cache offline link-mode compile-bytecode index-url extra-index-url "
        "find-links index-strategy keyring-provider resolution prerelease fork-strategy "
        "exclude-newer no-sources no-build no-binary no-build-isolation system-certs native-tls "
        "python-downloads python-preference python-install-mirror pypy-install-mirror "
        "torch-backend concurrent-downloads concurrent-builds concurrent-installs"
    ).split()
)
"""Keys that have a variable of their name. Source: ``uv help sync``, ``uv help pip install``, and
the strings in uv 0.13.9."""


class UvSettings(Settings):
    """The configuration of a uv started here.

    Args:
        around: environment, home and platform.
    """

    def __init__(self, around: Surroundings) -> None:
        self.around = around

    def items(self) -> Iterable[tuple[str, str, str]]:
        """``(key, value, PATH:LINE or variable)``, weakest first; secrets masked."""
        for file in reversed(files(self.around)):
            for key, value in flat(file.options):
                yield key, masked(shown(value), key), line_of(file, key)
        for name, value in sorted(self.around.environ.items()):
            if name.startswith("UV_"):
                text = "***" if "USERNAME" in name else masked(value, name)
                yield f":env:.{name[3:].lower().replace('_', '-')}", text, name

    def get(self, key: str) -> str | None:
        """The value in force: the variable ``UV_KEY``, then the strongest file."""
        variable = self.around.environ.get(_variable(key))
        if variable:
            return variable
        for file in files(self.around):
            found = dict(flat(file.options)).get(key)
            if found is not None:
                return shown(found)
        return None

    def file(self) -> Path:
        """The file that ``set`` writes: the one that ``UV_CONFIG_FILE`` names, else the user's."""
        named = self.around.environ.get("UV_CONFIG_FILE")
        return Path(self.around.cwd) / named if named else user_file(self.around)

    def set(self, key: str, value: str) -> Change:
        """Set a key in the strongest file that has it, else in the usual one."""
        _check(key, value)
        file = self._holding(key)
        if file is None:
            path = self.file()
            file = read("named" if self.around.environ.get("UV_CONFIG_FILE") else "user", path)
            if file.error and is_file(path):
                raise ConfigError(file.error, source=str(path))
        change = self._edit(file, key, typed(key, value), value)
        now = self.get(key)
        # a variable stands above every file
        return replace(change, verified=now if change.patch and now and now != value else "")

    def unset(self, key: str) -> Change:
        """Remove a key from the strongest file that sets it."""
        file = self._holding(key)
        if file is None:
            variable = _variable(key)
            hint = f"it comes from the variable {variable}: unset that"
            raise ConfigError(
                f"no configuration file of uv sets {key}",
                name=key,
                hint=hint if variable in self.around.environ else "",
            )
        return self._edit(file, key, None, None)

    def export(self, key: str, value: str | None) -> tuple[str, Change]:
        """The variable that stands for a key, above every file; not every key has one."""
        if key not in _VARIABLES:
            raise ConfigError(f"uv has no variable for {key}", name=key, hint="--persist config")
        if value is not None:
            _check(key, value)
        variable = _variable(key)
        return variable, Change(None, key, self.around.environ.get(variable), value, "")

    def _holding(self, key: str) -> File | None:
        for file in files(self.around):
            if file.error:
                raise ConfigError(file.error, name=key, source=str(file.path))
            if key in dict(flat(file.options)):
                return file
        return None

    def _edit(self, file: File, key: str, value: Any, written: str | None) -> Change:
        """Set a key of one file to a value that people write so; ``None``: take it out."""
        before = dict(flat(file.options)).get(key)
        patch = edit_file(
            file.path,
            lambda text: with_toml(text, (*file.prefix, *key.split(".")), value),
            errors="strict",
            secret=holds_secret(written),
        )
        was = None if before is None else shown(before)
        return Change(file.path, key, was, written, native="", patch=patch)  # uv has no command


def _variable(key: str) -> str:
    return f"UV_{key.rpartition('.')[2].upper().replace('-', '_')}"


def shown(value: Any) -> str:
    """A value as people write it; a table as its parts."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(shown(item) for item in value)
    if isinstance(value, MutableMapping):
        return " ".join(f"{key} = {shown(item)}" for key, item in value.items())
    return str(value)


def typed(key: str, value: str) -> Any:
    """What to write: a TOML truth value, number or array where it reads as one, else a string.

    >>> typed("offline", "true"), typed("cache-dir", "12"), typed("concurrent-builds", "4")
    (True, '12', 4)
    >>> typed("no-build-package", '["a"]')
    ['a']
    """
    if key.rpartition(".")[2] in _WORDS or not (
        value in ("true", "false") or value.isdigit() or value.startswith("[")
    ):
        return value
    try:
        return tomllib.loads(f"x = {value}")["x"]
    except ValueError:
        return value


def _check(key: str, value: str) -> None:
    """Refuse what uv would stop at.

    Raises:
        ConfigError: no name of a setting, no truth value, or none of the choices.
    """
    name = key.rpartition(".")[2]
    if not all(part and part == part.strip() and "_" not in part for part in key.split(".")):
        raise ConfigError(
            f"unknown setting {key!r}: names of uv's settings have dashes, "
            "parts are joined by dots",
            name=key,
            value=value,
        )
    if name in _CHOICES and value not in _CHOICES[name]:
        wanted = ", ".join(sorted(_CHOICES[name]))
        raise ConfigError(
            f"uv would stop at {key} = {value}: it wants one of {wanted}", name=key, value=value
        )
    if key in _SWITCHES and value not in ("true", "false"):
        raise ConfigError(
            f"uv would stop at {key} = {value}: it wants true or false", name=key, value=value
        )
    if name == "cache-dir" and not value:
        raise ConfigError(
            "an empty cache-dir is the working directory itself", name=key, value=value
        )
