"""The journal of changed settings: what each change replaced, so that it can be taken back.

One file for all tools.

A line of JSON a change, in the user's state directory, mode 0600: the changed key and the lines
that it took, never the file around it. A value that holds a credential is not written (credentials
are stored nowhere); such a change cannot be undone from here. A mended file with a credential in it
has a copy beside it, under the same owner and mode, and the journal says where.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from entrepot.config.settings import state_dir
from entrepot.errors import ChangedSince, ConfigError
from entrepot.fs import leave_to_owner, make_folders, open_or_make, write_atomically
from entrepot.patches import Patch, patch_of
from entrepot.ports.tool import Change, Surroundings
from entrepot.stored import has_secret, redacted_url

NAME = "settings.jsonl"
KEPT = 100
"""Changes that are remembered, of all tools together."""
_URL = re.compile(r"""[A-Za-z][\w+.-]*://[^\s"',\[\]{}<>]+""")
_SWITCHES = frozenset(("true", "false", "yes", "no", "on", "off"))
"""Values that are no credential whatever their key is called."""
_SECRET_KEY = re.compile(r"(?i)passw|token|secret|credential|api[-_]?key")


def holds_secret(value: str | None, key: str = "") -> bool:
    """Whether a value carries a credential.

    In one of its URLs, or because its key is a name for one.

    >>> holds_secret("https://me:pw@index.test/simple"), holds_secret("x=https://index.test/t/tk-1/x"), holds_secret(None)
    (True, True, False)
    >>> holds_secret("tk-1", "anaconda_token"), holds_secret("true", "add_anaconda_token")
    (True, False)
    """
    if not value:
        return False
    if _SECRET_KEY.search(key) and value.strip().lower() not in _SWITCHES:
        return True
    return any(_is_secret(word) for word in value.replace(",", " ").split()) or any(
        map(has_secret, _URL.findall(value))
    )


def may_be_secret(text: str) -> bool:
    """Whether lines of a file may carry a credential, in a URL or under a name for one.

    A doubt counts.

    >>> may_be_secret('url = "https://me:pw@index.test/simple"'), may_be_secret("password: x"), may_be_secret("timeout = 60")
    (True, True, False)
    """
    return holds_secret(text) or _SECRET_KEY.search(text) is not None


def shown(value: str, key: str = "") -> str:
    """A value for people: the credentials in its URLs are masked, and all of it where that does not help.

    >>> shown("https://me:pw@index.test/simple /wheels"), shown("tk-1", "anaconda_token")
    ('https://index.test/simple /wheels', '***')
    """
    masked = " ".join(redacted_url(word) if _is_secret(word) else word for word in value.split(" "))
    return "***" if holds_secret(masked, key) else masked


def _is_secret(word: str) -> bool:
    return ("://" in word or "@" in word) and has_secret(word)


@dataclass(frozen=True, slots=True)
class Undone:
    """One remembered change."""

    tool: str
    change: Change
    secret: bool
    """Whether a value was left out because it holds a credential."""
    kept: Path | None = None
    """Where the file lies as it was before it was mended, when that is not in the journal."""


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
        secret = any(holds_secret(value, change.key) for value in (change.before, change.after))
        record = {
            "at": int(time.time()),
            "tool": tool,
            "path": str(change.path),
            "key": change.key,
            "before": None if secret else change.before,
            "after": None if secret else change.after,
            "secret": secret,
            "lines": "" if secret or may_be_secret(change.lines) else change.lines,
            "patch": None if secret else _remembered(change.patch),
        }
        self._write([*self._records()[-KEPT + 1 :], record])

    def add_file(self, tool: str, path: Path, patch: Patch, kept: Path | None = None) -> None:
        """Remember that a file was mended or edited as a whole.

        Raises:
            ConfigError: the journal cannot be written.
        """
        record = {
            "at": int(time.time()),
            "tool": tool,
            "path": str(path),
            "key": "",
            "before": None,
            "after": None,
            "secret": False,
        }
        bare = Patch(0, "", "", patch.check) if kept else patch
        record |= {"lines": "", "patch": asdict(bare), "kept": None if kept is None else str(kept)}
        self._write([*self._records()[-KEPT + 1 :], record])

    def last(self, tool: str) -> Undone | None:
        """The latest change of one tool's settings that was not undone."""
        for record in reversed(self._records()):
            if record["tool"] == tool:
                lines, kept = str(record.get("lines") or ""), record.get("kept")
                patch = _patch(record.get("patch"))
                change = Change(
                    Path(record["path"]),
                    record["key"],
                    record["before"],
                    record["after"],
                    "",
                    lines=lines,
                    patch=patch,
                )
                return Undone(
                    tool,
                    change,
                    bool(record["secret"]),
                    Path(kept) if isinstance(kept, str) else None,
                )
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
                if (
                    isinstance(record, dict)
                    and {"tool", "path", "key", "before", "after", "secret"} <= record.keys()
                ):
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


def _remembered(patch: Patch | None) -> dict[str, Any] | None:
    return None if patch is None or may_be_secret(patch.before + patch.after) else asdict(patch)


def _patch(record: Any) -> Patch | None:
    """A patch as the journal has it; ``None`` for one that is damaged."""
    with suppress(TypeError):
        if isinstance(record, dict):
            return Patch(**record)
    return None


class Mends:
    """What is needed to take a mend back, gathered before it is made.

    Args:
        paths: the broken files.

    Raises:
        ConfigError: a file holds what may be a credential, and no copy of it can be made beside it.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._before = {path: read_exactly(path) for path in dict.fromkeys(paths)}
        self._kept = {
            path: _kept_beside(path, text)
            for path, text in self._before.items()
            if may_be_secret(text)
        }

    def remember(self, tool: str, journal: UndoJournal) -> dict[Path, Path | None]:
        """After the mend: the files that it changed, each with the copy of it that stays, and all that in the journal.

        Raises:
            ConfigError: the journal cannot be written.
        """
        changed: dict[Path, Path | None] = {}
        for path, before in self._before.items():
            after, kept = read_exactly(path), self._kept.get(path)
            if after != before:
                changed[path] = kept
                journal.add_file(tool, path, patch_of(before, after), kept)
            elif kept:
                kept.unlink(missing_ok=True)
        return changed


def put_file_back(last: Undone) -> None:
    """Bring a file that was mended or edited back to the byte.

    Raises:
        ChangedSince: it is not as it was left.
        ConfigError: the copy of it is gone, or it may not be written.
    """
    path, patch = last.change.path, last.change.patch
    assert path is not None
    before = patch.taken_back(read_exactly(path)) if patch else None
    if before is None:
        raise ChangedSince("", path)
    if last.kept is None:
        write_atomically(path, before.encode("utf-8", "surrogateescape"))
        return
    try:
        last.kept.replace(os.path.realpath(path))
    except OSError as exc:
        raise ConfigError(
            f"{path} cannot be put back from {last.kept}: {exc.strerror}", source=str(path)
        ) from exc


def remove_made(change: Change) -> None:
    """Remove a file that a change had made and that is empty now that it was taken back."""
    with suppress(OSError):
        if change.path and change.patch and change.patch.made and not change.path.stat().st_size:
            change.path.unlink()


def read_exactly(path: Path) -> str:
    """A file's text with every byte that it has; empty when it cannot be read."""
    with suppress(OSError):
        return path.read_bytes().decode("utf-8", "surrogateescape")
    return ""


def _kept_beside(path: Path, text: str) -> Path:
    """A copy of a file beside it, for the same eyes: ``pip.conf.before-mend``."""
    real = Path(os.path.realpath(path))
    try:
        about = real.stat()
        for number in range(1, 100):
            kept = real.with_name(f"{real.name}.before-mend" + (f"-{number}" if number > 1 else ""))
            with (
                suppress(FileExistsError),
                open(open_or_make(kept, os.O_WRONLY | os.O_EXCL, 0o600), "wb") as file,
            ):
                file.write(text.encode("utf-8", "surrogateescape"))
                if hasattr(os, "fchown"):
                    with suppress(PermissionError):  # only root may give a file away
                        os.fchown(file.fileno(), about.st_uid, about.st_gid)
                kept.chmod(stat.S_IMODE(about.st_mode))
                return kept
    except OSError as exc:
        raise ConfigError(
            f"no copy can be kept beside {path}, which holds a credential: {exc.strerror}",
            source=str(path),
        ) from exc
    raise ConfigError(f"there are too many copies beside {path} already", source=str(path))


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
