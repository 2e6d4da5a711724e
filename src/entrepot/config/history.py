"""The journal of changed settings: what each change replaced, so that it can be taken back.

One file for all tools, in the user's state directory, mode 0600; a line of JSON a change: the lines
that it replaced and the digests of the whole file before and after, never the file. Lines with a
credential are not kept (credentials are stored nowhere): such a change cannot be taken back.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from entrepot.cache_root import foreign
from entrepot.config.settings import state_dir
from entrepot.edits import Patch, holds_secret, masked, may_hold_secret, read_bytes
from entrepot.errors import ChangedSince, ConfigError
from entrepot.fs import leave_to_owner, make_folders, write_atomically
from entrepot.ports.tool import Change, Surroundings

NAME = "settings.jsonl"
KEPT = 100
"""Changes that are remembered, of all tools together."""
_FIELDS = frozenset(("tool", "path", "key", "before", "after", "secret"))


class UndoJournal:
    """The changes of one user, oldest first.

    Args:
        around: environment, home and platform.
    """

    def __init__(self, around: Surroundings) -> None:
        self.path = state_dir(around) / NAME
        self._euid = around.euid

    def add(self, tool: str, change: Change) -> bool:
        """Remember a change of a file; one that replaced nothing is none.

        Returns:
            Whether it can be taken back: ``False`` when a credential had to be left out.

        Raises:
            ConfigError: the journal cannot be written.
        """
        patch = change.patch
        if change.path is None or patch is None:
            return True
        values = (change.before, change.after)
        held = [holds_secret(value, change.key) for value in values]
        # The key's name alone tells of it, and its line may not have changed. But in a list another
        # entry may hold one, whose line is not among those that changed.
        by_name = any(
            it_does and not holds_secret(value) for value, it_does in zip(values, held, strict=True)
        )
        secret = (
            by_name
            or held[0] != held[1]
            or may_hold_secret(patch.before + patch.after, "" if any(held) else change.key)
        )
        before, after = (None if v is None else masked(v, change.key) for v in values)
        record = {
            "at": int(time.time()),
            "tool": tool,
            "path": str(change.path),
            "key": change.key,
            "before": before,
            "after": after,
            "secret": secret,
            "patch": None if secret else asdict(patch),
        }
        self._write([*self._records()[-KEPT + 1 :], record])
        return not secret

    def undo(self, tool: str) -> Change | None:
        """Take back the latest change of one tool's settings, to the byte.

        It is forgotten then, also when it is refused because of what it is, else it would stand in
        the way of those before it.

        Returns:
            What was done, as a change from the newer value to the older; an empty key stands for a
            file that was edited as a whole. ``None``: there is nothing to take back.

        Raises:
            ChangedSince: the file is not as the change left it; the lines are told.
            ConfigError: the change held a credential, or the file or the journal may not be
                written.
        """
        records = self._records()
        record = next((r for r in reversed(records) if r["tool"] == tool), None)
        if record is None:
            return None
        rest = [each for each in records if each is not record]
        path, key = Path(record["path"]), str(record["key"])
        self._check_owner(path)
        patch = _patch(record.get("patch"))
        if patch is None:
            self._write(rest)
            why = (
                "a changed line held a credential, and credentials are stored nowhere"
                if record["secret"]
                else f"{self.path} does not tell how it was"
            )
            raise ConfigError(
                f"{key or 'what was edited'} in {path} cannot be put back: {why}",
                name=key,
                source=str(path),
            )
        old = patch.taken_back(read_bytes(path))
        if old is None:
            self._write(rest)
            raise ChangedSince(key, path, patch.before, patch.after)
        if patch.made and not old:
            Path(os.path.realpath(path)).unlink(missing_ok=True)
        else:
            write_atomically(path, old)
        self._write(rest)
        return Change(path, key, record["after"], record["before"], "")

    def _check_owner(self, path: Path) -> None:
        """Let root take back nothing that another user's journal tells.

        That user can write the journal, and would decide what root writes, and where.

        Raises:
            ConfigError: the journal is another user's.
        """
        if why := foreign(self.path, self._euid):
            raise ConfigError(f"{path} is left alone: {self.path} says how it was, and {why}")

    def _records(self) -> list[dict[str, Any]]:
        try:
            lines = self.path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return []
        found = []
        for line in lines:
            with suppress(ValueError):  # a damaged line is no reason to lose the others
                record = json.loads(line)
                if isinstance(record, dict) and record.keys() >= _FIELDS:
                    found.append(record)
        return found

    def _write(self, records: Iterable[dict[str, Any]]) -> None:
        text = "".join(json.dumps(record) + "\n" for record in records)
        try:
            make_folders(self.path.parent, 0o700)
            handle, name = tempfile.mkstemp(
                dir=self.path.parent, prefix=f".{NAME}."
            )  # 0600 from the start
            try:
                with open(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                    leave_to_owner(handle, self.path.parent)
                Path(name).replace(self.path)
            except BaseException:
                with suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as exc:
            raise ConfigError(
                f"the change cannot be remembered for --undo: {self.path}: {exc.strerror}",
                source=str(self.path),
            ) from exc


def _patch(record: Any) -> Patch | None:
    """A patch as the journal has it; ``None`` for one that is damaged, or of an older entrepot."""
    with suppress(TypeError):
        if isinstance(record, dict):
            return Patch(**record)
    return None


def shell_line(variable: str, value: str | None, platform: str, shell: str) -> str:
    """The line that sets a variable in the user's shell each time it starts, or unsets it.

    >>> shell_line("PIP_CACHE_DIR", "/my cache", "linux", "/bin/bash")
    "export PIP_CACHE_DIR='/my cache'"
    >>> shell_line("PIP_CACHE_DIR", None, "linux", "/usr/bin/fish")
    'set -Ue PIP_CACHE_DIR'
    >>> shell_line("PIP_CACHE_DIR", "D:/pip", "win32", "")
    'setx PIP_CACHE_DIR "D:/pip"'
    """
    import shlex  # noqa: PLC0415  (not for those who only read)

    if platform == "win32":
        return (
            f'setx {variable} "{value}"'
            if value is not None
            else f"reg delete HKCU\\Environment /v {variable} /f"
        )
    if os.path.basename(shell) == "fish":
        return (
            f"set -Ux {variable} {shlex.quote(value)}"
            if value is not None
            else f"set -Ue {variable}"
        )
    return f"export {variable}={shlex.quote(value)}" if value is not None else f"unset {variable}"


def shell_files(around: Surroundings) -> list[Path]:
    """The files in which a user's shell sets variables, the one to write first.

    They need not exist.
    """
    shell = os.path.basename(around.environ.get("SHELL", ""))
    first = {"zsh": ".zshrc", "bash": ".bashrc"}.get(shell, ".profile")
    names = dict.fromkeys(
        (first, ".profile", ".bash_profile", ".bashrc", ".zshenv", ".zshrc", ".zprofile")
    )
    return [around.home / name for name in names]


def set_where(variable: str, around: Surroundings) -> str:
    """``PATH:LINE`` of the shell file that sets a variable; empty when none is found.

    Only plain assignments are seen.
    """
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
