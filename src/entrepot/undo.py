"""The journal of changed settings: what each change replaced, so that it can be taken back. One file for all tools.

A line of JSON a change, in the user's state directory, mode 0600: the changed key alone, never the file around it. A value
that holds a credential is not written (credentials are stored nowhere); such a change cannot be undone from here.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrepot.config import state_dir
from entrepot.errors import ConfigError
from entrepot.heads import has_secret, redacted_url
from entrepot.ports.tool import Change, Surroundings

NAME = "settings.jsonl"
KEPT = 100
"""Changes that are remembered, of all tools together."""


def holds_secret(value: str | None) -> bool:
    """Whether a value carries a credential in one of its URLs.

    >>> holds_secret("https://me:pw@index.test/simple"), holds_secret("https://index.test/simple"), holds_secret(None)
    (True, False, False)
    """
    return any(_is_secret(word) for word in (value or "").replace(",", " ").split())


def shown(value: str) -> str:
    """A value for people: the credentials in its URLs are masked.

    >>> shown("https://me:pw@index.test/simple /wheels")
    'https://index.test/simple /wheels'
    """
    return " ".join(redacted_url(word) if _is_secret(word) else word for word in value.split(" "))


def _is_secret(word: str) -> bool:
    return ("://" in word or "@" in word) and has_secret(word)


@dataclass(frozen=True, slots=True)
class Undone:
    """One remembered change."""

    tool: str
    change: Change
    secret: bool
    """Whether a value was left out because it holds a credential."""


class UndoJournal:
    """The changes of one user, oldest first.

    Args:
        around: environment, home and platform.
    """

    def __init__(self, around: Surroundings) -> None:
        self.path = state_dir(around) / NAME

    def add(self, tool: str, change: Change) -> None:
        """Remember a change of a file; one that changed nothing is none.

        Raises:
            ConfigError: the journal cannot be written.
        """
        if change.path is None or change.before == change.after:
            return
        secret = holds_secret(change.before) or holds_secret(change.after)
        record = {
            "at": int(time.time()),
            "tool": tool,
            "path": str(change.path),
            "key": change.key,
            "before": None if secret else change.before,
            "after": None if secret else change.after,
            "secret": secret,
            "lines": "" if secret or holds_secret(change.lines) else change.lines,
        }
        self._write([*self._records()[-KEPT + 1 :], record])

    def last(self, tool: str) -> Undone | None:
        """The latest change of one tool's settings that was not undone."""
        for record in reversed(self._records()):
            if record["tool"] == tool:
                lines = str(record.get("lines") or "")
                change = Change(Path(record["path"]), record["key"], record["before"], record["after"], "", lines=lines)
                return Undone(tool, change, bool(record["secret"]))
        return None

    def drop(self, tool: str) -> None:
        """Forget the latest change of one tool's settings.

        Raises:
            ConfigError: the journal cannot be written.
        """
        records = self._records()
        for number in reversed(range(len(records))):
            if records[number]["tool"] == tool:
                del records[number]
                break
        self._write(records)

    def _records(self) -> list[dict[str, Any]]:
        try:
            lines = self.path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return []
        found = []
        for line in lines:
            with suppress(ValueError):  # a damaged line is no reason to lose the others
                record = json.loads(line)
                if isinstance(record, dict) and {"tool", "path", "key", "before", "after", "secret"} <= record.keys():
                    found.append(record)
        return found

    def _write(self, records: Iterable[dict[str, Any]]) -> None:
        text = "".join(json.dumps(record) + "\n" for record in records)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{NAME}.")  # 0600 from the start
            try:
                with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123  (a descriptor)
                    file.write(text)
                Path(name).replace(self.path)
            except BaseException:
                with suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as exc:
            raise ConfigError(
                f"the change cannot be remembered for --undo: {self.path}: {exc.strerror}", source=str(self.path)
            ) from exc


def shell_line(variable: str, value: str | None, platform: str, shell: str) -> str:
    """The line that sets a variable for good in the user's shell, or takes it away.

    >>> shell_line("PIP_CACHE_DIR", "/my cache", "linux", "/bin/bash")
    "export PIP_CACHE_DIR='/my cache'"
    >>> shell_line("PIP_CACHE_DIR", None, "linux", "/usr/bin/fish")
    'set -Ue PIP_CACHE_DIR'
    >>> shell_line("PIP_CACHE_DIR", "D:/pip", "win32", "")
    'setx PIP_CACHE_DIR "D:/pip"'
    """
    import shlex  # noqa: PLC0415  (not for those who only read)

    if platform == "win32":
        return f'setx {variable} "{value}"' if value is not None else f"reg delete HKCU\\Environment /v {variable} /f"
    if os.path.basename(shell) == "fish":  # noqa: PTH119  (a name)
        return f"set -Ux {variable} {shlex.quote(value)}" if value is not None else f"set -Ue {variable}"
    return f"export {variable}={shlex.quote(value)}" if value is not None else f"unset {variable}"


def shell_files(around: Surroundings) -> list[Path]:
    """The files in which a user's shell sets variables, the one to write first; they need not exist."""
    shell = os.path.basename(around.environ.get("SHELL", ""))  # noqa: PTH119  (a name)
    first = {"zsh": ".zshrc", "bash": ".bashrc"}.get(shell, ".profile")
    names = dict.fromkeys((first, ".profile", ".bash_profile", ".bashrc", ".zshenv", ".zshrc", ".zprofile"))
    return [around.home / name for name in names]


def set_where(variable: str, around: Surroundings) -> str:
    """``PATH:LINE`` of the shell file that sets a variable; empty when none is found. Only plain assignments are seen."""
    import re  # noqa: PLC0415

    pattern = re.compile(rf"^\s*(?:export\s+)?{re.escape(variable)}=")
    for path in shell_files(around):
        try:
            lines = path.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines, start=1):
            if pattern.match(line):
                return f"{path}:{number}"
    return ""
