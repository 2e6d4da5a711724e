"""Editing the user's ``config.toml``: comments and order stay, and no reader ever sees half a file.

The TOML library is imported only when something is written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from entrepot.config.settings import (
    BY_NAME,
    KEYS,
    Key,
    line_of,
    load_settings,
    nearest,
    read_toml,
    read_value,
    show_value,
    user_file,
)
from entrepot.errors import ChangedSince, ConfigError, UsageError
from entrepot.fs import write_atomically
from entrepot.patches import Patch, patch_of
from entrepot.ports.tool import Change, Surroundings

TEMPLATE = """\
# Settings of entrepot. A flag or an ENTREPOT_* variable is stronger than this file.
#
# store = "~/.cache/entrepot"
# timeout = "30s"
#
# [limit]
# total = "20GB"
"""
"""What ``config edit`` starts a new file with."""


class OwnSettings:
    """entrepot's configuration behind the same port as any other tool's.

    Args:
        around: environment, home and platform.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def file(self) -> Path:
        """The user's file; it need not exist."""
        return user_file(self._around)

    def items(self) -> Iterator[tuple[str, str, str]]:
        """Every key with each layer's word, weakest first."""
        for name, layers in load_settings(self._around).said.items():
            for one in reversed(layers):
                yield name, one.text, one.source

    def get(self, key: str) -> str | None:
        """The value in force, in the form that ``set`` takes.

        Raises:
            UsageError: no such key.
        """
        return show_value(known_key(key), load_settings(self._around).said[key][0].value)

    def set(self, key: str, value: str) -> Change:
        """Write one key.

        Raises:
            UsageError: no such key.
            ConfigError: the value is not of the key's kind, or the file cannot be read or written.
        """
        spec = known_key(key)
        ready = read_value(spec, value, source="", base=self._around.cwd, around=self._around)
        # typed in a shell a relative path means that shell's directory; in the file it would mean
        # the file's
        relative = spec.kind == "path" and not value.startswith("~")
        return self._edit(key, str(ready) if relative else _as_toml(spec, value))

    def unset(self, key: str) -> Change:
        """Remove one key, also one that is no setting.

        Nothing is written when the file does not set it.

        Raises:
            UsageError: no such key, neither known nor in the file.
        """
        if _look(read_toml(self.file())[0], key) is None:
            known_key(key)
        return self._edit(key, None)

    def restore(self, change: Change) -> Change:
        """Put back what a change replaced.

        Raises:
            ChangedSince: the key holds something else by now.
            ConfigError: the file cannot be read or written.
        """
        path = self.file()
        now = _look(read_toml(path)[0], change.key)
        if change.path != path or (None if now is None else _text(now)) != change.after:
            raise ChangedSince(change.key, change.path)
        if change.before is None:
            return self._edit(change.key, None, change.patch)
        spec = BY_NAME.get(change.key)
        return self._edit(
            change.key,
            change.before if spec is None else _as_toml(spec, change.before),
            change.patch,
        )

    def export(self, key: str, value: str | None) -> tuple[str, Change]:
        """The variable of a setting, and what setting it would change.

        Raises:
            UsageError: no such key.
            ConfigError: the value is not of the key's kind.
        """
        spec = known_key(key)
        if value is not None:
            read_value(
                spec, value, source=spec.variable, base=self._around.cwd, around=self._around
            )
        return spec.variable, Change(None, key, self._around.environ.get(spec.variable), value, "")

    def _edit(self, key: str, after: Any, undoing: Patch | None = None) -> Change:
        import tomlkit  # noqa: PLC0415  (29 ms that only a change pays)

        path = self.file()
        tables, text = read_toml(path)
        before = _look(tables, key)
        change = Change(
            path=path,
            key=key,
            before=None if before is None else _text(before),
            after=None if after is None else _text(after),
            native=f"edit {path}:{line_of(text, key)}" if before is not None else f"edit {path}",
        )
        if before == after and type(before) is type(after):
            return change
        raw = _raw(path)
        new = undoing.taken_back(raw) if undoing else None
        if new is None:
            document = tomlkit.parse(text)
            _put(document, key.split("."), after)
            new = tomlkit.dumps(document)
        change = replace(change, patch=patch_of(raw, new, made=not path.exists()))
        try:
            write_atomically(path, new.encode("utf-8", "surrogateescape"))
        except ConfigError as exc:
            raise ConfigError(
                exc.message, source=str(path), hint="set ENTREPOT_CONFIG to a file of yours"
            ) from exc
        with contextlib.suppress(
            ConfigError, UsageError
        ):  # another key of the file may be wrong still
            return replace(change, verified=self.get(key) or "")
        return change


def known_key(name: str) -> Key:
    """The key of that name.

    Raises:
        UsageError: there is none; the nearest is in the hint.
    """
    key = BY_NAME.get(name)
    if key is None:
        every = ", ".join(k.name for k in KEYS)
        raise UsageError(f"{name!r} is no setting", hint=nearest(name) or f"one of {every}")
    return key


def _raw(path: Path) -> str:
    """A file's text with every byte that it has; empty when there is none."""
    with contextlib.suppress(OSError):
        return path.read_bytes().decode("utf-8", "surrogateescape")
    return ""


def _as_toml(key: Key, value: str) -> Any:
    if key.kind == "flag":
        return value.strip().lower() in {"1", "true", "yes", "on"}
    if key.kind == "words":
        return [word for word in value.replace(",", " ").split() if word]
    return value


def _look(tables: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        tables = tables.get(part) if isinstance(tables, dict) else None
    return tables


def _put(document: Any, parts: list[str], value: Any) -> None:
    import tomlkit  # noqa: PLC0415  (29 ms that only a change pays)

    for part in parts[:-1]:
        if part not in document:
            if value is None:
                return
            document[part] = tomlkit.table()
        document = document[part]
    if value is not None:
        document[parts[-1]] = value
    elif parts[-1] in document:
        document.remove(parts[-1])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(str(v) for v in value) if isinstance(value, list) else str(value)
