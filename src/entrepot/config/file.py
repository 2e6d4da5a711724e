"""entrepot's own settings behind the port of all tools: the user's ``config.toml`` is edited."""

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
    written,
)
from entrepot.edits import edit_file, with_toml
from entrepot.errors import ConfigError, UsageError
from entrepot.ports.tool import Change, Settings, Surroundings

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


class OwnSettings(Settings):
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
        """The value in force, in the form that ``set`` takes."""
        return show_value(known_key(key), load_settings(self._around).said[key][0].value)

    def set(self, key: str, value: str) -> Change:
        """Write one key."""
        spec = known_key(key)
        ready = read_value(spec, value, source="", base=self._around.cwd, around=self._around)
        # typed in a shell a relative path means that shell's directory; in the file it would mean
        # the file's
        relative = spec.kind == "path" and not value.startswith("~")
        return self._edit(key, str(ready) if relative else _as_toml(spec, value))

    def unset(self, key: str) -> Change:
        """Remove one key, also an unknown one; nothing is written when the file does not set it."""
        if _look(read_toml(self.file())[0], key) is None:
            known_key(key)
        return self._edit(key, None)

    def export(self, key: str, value: str | None) -> tuple[str, Change]:
        """The variable of a setting, and what setting it would change."""
        spec = known_key(key)
        if value is not None:
            read_value(
                spec, value, source=spec.variable, base=self._around.cwd, around=self._around
            )
        return spec.variable, Change(None, key, self._around.environ.get(spec.variable), value, "")

    def _edit(self, key: str, after: Any) -> Change:
        path = self.file()
        tables, text = read_toml(path)
        before = _look(tables, key)
        change = Change(
            path=path,
            key=key,
            before=None if before is None else written(before),
            after=None if after is None else written(after),
            native=f"edit {path}:{line_of(text, key)}" if before is not None else f"edit {path}",
        )
        if before == after and type(before) is type(after):
            return change
        try:
            patch = edit_file(path, lambda old: with_toml(old, key.split("."), after))
        except ConfigError as exc:
            exc.hint = exc.hint or "set ENTREPOT_CONFIG to a file of yours"
            raise
        change = replace(change, patch=patch)
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
        raise UsageError(f"unknown setting {name!r}", hint=nearest(name) or f"one of {every}")
    return key


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
