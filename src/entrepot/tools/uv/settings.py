"""uv's configuration, edited without losing a comment, as uv itself cannot.

It has no command that writes ``uv.toml``.

Writes one file at a time, whole: a temporary file beside it, then a rename; mode and a symbolic
link's target are kept.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from entrepot.errors import ChangedSince, ConfigError
from entrepot.fs import write_atomically
from entrepot.patches import patch_of
from entrepot.ports.tool import Change, Surroundings
from entrepot.redaction import has_secret, redacted_url
from entrepot.tools._shared.safe_read import is_file
from entrepot.tools.uv.configuration import File, files, flat, line_of, read, user_file

NATIVE = ""  # uv has no command that edits uv.toml
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


class UvSettings:
    """The configuration of a uv started here.

    Args:
        around: the world.
    """

    def __init__(self, around: Surroundings) -> None:
        self.around = around

    def items(self) -> Iterable[tuple[str, str, str]]:
        """``(key, value, PATH:LINE or variable)``, weakest first; secrets masked."""
        for file in reversed(files(self.around)):
            for key, value in flat(file.options):
                yield key, masked(shown(value)), line_of(file, key)
        for name, value in sorted(self.around.environ.items()):
            if name.startswith("UV_"):
                secret = any(word in name for word in ("PASSWORD", "TOKEN", "USERNAME"))
                yield (
                    f":env:.{name[3:].lower().replace('_', '-')}",
                    "***" if secret else masked(value),
                    name,
                )

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
        """Set a key where it takes effect.

        In the strongest file that has it already, else in the usual one.

        Raises:
            ConfigError: a file is broken or may not be written, or uv would stop at the value.
        """
        _check(key, value)
        return self._edit(self._holding(key) or self._usual(), key, typed(key, value), value)

    def unset(self, key: str) -> Change:
        """Remove a key from the strongest file that sets it.

        Raises:
            ConfigError: no file sets it, or the file is broken or may not be written.
        """
        file = self._holding(key)
        if file is None:
            variable = _variable(key)
            hint = (
                f"it comes from the variable {variable}: unset that"
                if variable in self.around.environ
                else ""
            )
            raise ConfigError(f"no configuration file of uv sets {key}", name=key, hint=hint)
        return self._edit(file, key, None, None)

    def restore(self, change: Change) -> Change:
        """Put back what a change replaced, in the file that it changed.

        Raises:
            ChangedSince: the key holds something else by now.
            ConfigError: the file is broken or may not be written.
        """
        path, key = change.path, change.key
        assert path is not None  # no variable is ever changed
        file = self._at(path)
        now = dict(flat(file.options)).get(key)
        if now != (None if change.after is None else typed(key, change.after)):
            raise ChangedSince(key, path)
        text = change.patch.taken_back(_text(path)) if change.patch else None
        if text is None:  # then the value alone, a new key at the end of its table
            return self._edit(file, key, _value(change), change.before)
        write_atomically(path, text.encode())
        return Change(path, key, change.after, change.before, NATIVE)

    def export(self, key: str, value: str | None) -> tuple[str, Change]:
        """The variable that stands for a key, above every file, and what setting it would change.

        Raises:
            ConfigError: uv has none, or would stop at the value.
        """
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

    def _usual(self) -> File:
        return self._at(self.file())

    def _at(self, path: Path) -> File:
        """The file at a path, which need not be there.

        Raises:
            ConfigError: uv would stop at it.
        """
        found = read("named" if self.around.environ.get("UV_CONFIG_FILE") else "user", path)
        if found.error and is_file(path):
            raise ConfigError(found.error, source=str(path))
        return found

    def _shadowed(self, key: str, value: str) -> str:
        """The value in force where it is another one: a variable stands above every file."""
        now = self.get(key)
        return now if now is not None and now != value else ""

    def _edit(self, file: File, key: str, value: Any, written: str | None) -> Change:
        """Set a key of one file, ``None``: take it out.

        ``written`` is the value as people write it.
        """
        import tomlkit  # noqa: PLC0415  # late: only editing needs it
        from tomlkit.exceptions import TOMLKitError  # noqa: PLC0415

        path, text = file.path, _text(file.path)
        before = dict(flat(file.options)).get(key)
        try:
            document = tomlkit.parse(text)
            holder: Any = document
            *above, last = (*file.prefix, *key.split("."))
            for name in above:
                if name not in holder:
                    holder[name] = tomlkit.table()
                holder = holder[name]
                if not isinstance(holder, MutableMapping):
                    raise ConfigError(f"{path}: {name} is not a table", name=key, source=str(path))
            lines = tomlkit.item(before).as_string() if before is not None else ""
            if value is None:
                del holder[last]
            else:
                holder[last] = value
            after = tomlkit.dumps(document)
        except (TOMLKitError, ValueError, KeyError) as exc:
            raise ConfigError(
                f"{path} cannot be edited: {exc}", name=key, source=str(path)
            ) from exc
        change = Change(
            path, key, None if before is None else shown(before), written, NATIVE, lines=lines
        )
        if after == text:
            return change
        change = replace(change, patch=patch_of(text, after, made=not is_file(path)))
        write_atomically(
            path,
            after.encode(),
            secret=isinstance(value, str) and "://" in value and has_secret(value),
        )
        return replace(change, verified="" if written is None else self._shadowed(key, written))


def _value(change: Change) -> Any:
    """What a key was set to before, as TOML has it; ``None`` when it was not set.

    Raises:
        ChangedSince: it was no plain value (``[[index]]``, say), and the lines that it stood in are
            not where they were.
    """
    if change.before is None:
        return None
    try:
        return tomllib.loads(f"x = {change.lines}")["x"]
    except ValueError as exc:
        raise ChangedSince(change.key, change.path) from exc


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


def masked(value: str) -> str:
    """A value for display: credentials in its URLs are masked, a name (``name=URL``) stays."""
    return " ".join(_masked(word) for word in value.split(" "))


def _masked(word: str) -> str:
    name, equals, url = word.partition("=")
    if not equals or "://" in name:
        name, equals, url = "", "", word
    return f"{name}{equals}{redacted_url(url)}" if "://" in url and has_secret(url) else word


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


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:  # line ends stay what they are
            return file.read()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}", source=str(path)) from exc
