"""Every value that pip's files and variables hold, in pip's own order of strength.

Reads files; changes nothing.

Source: pip's ``configuration.py`` and ``cli/parser.py`` (20.3 to 26.3): files are merged within a
section, sections are laid over each other afterwards, so that the user's ``[install]`` beats the
system's ``[global]`` and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os.path import exists
from os.path import isdir as is_folder
from pathlib import Path
from typing import Literal

from entrepot.ports.tool import Surroundings
from entrepot.tools.pip.conffile import normalize_key, parse
from entrepot.tools.pip.interpreters import Pip
from entrepot.tools.pip.locations import global_files, paths_of, user_files

Level = Literal["global", "user", "site", "env"]

IGNORED = frozenset(("version", "help"))
"""``PIP_VERSION`` and ``PIP_HELP`` are no options."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value and where it stands."""

    section: str
    """``:env:`` for variables, as pip names them."""
    key: str
    value: str
    source: str
    """``PATH:LINE`` or a variable's name."""
    level: Level | Literal["variable"]
    path: Path | None = None


PASSES_OVER_EMPTY = (25, 2), (26,)
"""From the first pip to before the second an empty value is as good as absent, where in others it
hides weaker files' values."""


@dataclass(slots=True)
class Configuration:
    """What was read. ``broken`` is not empty when pip itself would refuse to start."""

    passes_over_empty: bool = False
    """Whether this pip drops empty values before the files are merged."""

    values: list[Value] = field(default_factory=list)
    """Weakest level first; within a file in the order of its lines."""
    broken: list[tuple[Path, str]] = field(default_factory=list)
    """File and sentence."""

    def strongest(self, key: str, command: str) -> list[list[Value]]:
        """Values of one key, a list per section; strongest section and strongest value first.

        Within a section only the first value counts; when it is empty the whole section is passed
        over (pip drops empty values after the files are merged, but for :data:`PASSES_OVER_EMPTY`).
        """
        groups = []
        for section in (":env:", command, "global"):
            found = [v for v in reversed(self.values) if v.key == key and v.section == section]
            if self.passes_over_empty:
                in_file = {
                    v.path or v.source: v for v in reversed(found)
                }  # within a file the strongest counts, empty or not
                found = [v for v in found if v.value and in_file[v.path or v.source] is v]
            if found:
                groups.append(found)
        return groups

    def get(self, key: str, command: str = "install") -> Value | None:
        """The value in force for one command."""
        return next((group[0] for group in self.strongest(key, command) if group[0].value), None)


def encoding_of(environ: Mapping[str, str]) -> str:
    """The encoding pip reads its files in.

    The locale's, where ``C`` and ``POSIX`` mean UTF-8 (PEP 538, PEP 540).
    """
    if environ.get("PYTHONUTF8") == "1":
        return "utf-8"
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        locale = environ.get(name)
        if locale:
            charset = locale.partition(".")[2].partition("@")[0]
            try:
                return (
                    "utf-8"
                    if not charset
                    else "".encode(charset).decode(charset) or charset.lower()
                )
            except LookupError:
                return "utf-8"
    return "utf-8"


def config_files(around: Surroundings, pip: Pip) -> list[tuple[Level, Path]]:
    """The files pip reads, weakest first.

    ``PIP_CONFIG_FILE`` takes the place of the user's files when it names one that exists; the null
    device means no file at all.
    """
    named = around.environ.get("PIP_CONFIG_FILE")
    if named is not None and named == ("nul" if around.platform == "win32" else "/dev/null"):
        return []
    join = paths_of(around).join
    user: list[tuple[Level, str]] = []
    if not (named and exists(join(str(around.cwd), named))):
        folders: list[str] = []
        if around.platform == "darwin":
            home = around.environ.get("HOME") or str(around.home)
            data = around.environ.get("XDG_DATA_HOME", "").strip()
            folders = [f"{home}/Library/Application Support/pip", f"{data}/pip"]
        there = frozenset(folder for folder in folders if is_folder(folder))
        user = [("user", p) for p in user_files(around, pip.version, exists=there)]
    site = "pip.ini" if around.platform == "win32" else "pip.conf"
    files: list[tuple[Level, str]] = [("global", p) for p in global_files(around, pip.version)]
    files += [*user, ("site", join(str(pip.prefix), site))]
    files += [("env", named)] if named else []
    return [(level, Path(join(str(around.cwd), path))) for level, path in files]


def load(around: Surroundings, pip: Pip) -> Configuration:
    """Read every file and variable that this pip would read."""
    first, end = PASSES_OVER_EMPTY
    result = Configuration(passes_over_empty=first <= pip.version < end)
    for level, path in config_files(around, pip):
        try:
            text = path.read_bytes().decode(encoding_of(around.environ), "surrogateescape")
        except OSError as exc:
            if exists(path) and not is_folder(path):
                result.broken.append((path, f"cannot be read: {exc.strerror}"))
            continue
        file = parse(text)
        result.broken += [(path, str(problem)) for problem in file.problems]
        for section in file.sections:
            if section != "DEFAULT":
                # [DEFAULT] shines through, and the section's own keys beat it
                own = [
                    o for where in ("DEFAULT", section) for o in file.options if o.section == where
                ]
                result.values += [
                    Value(section, o.key, o.value, f"{path}:{o.rows[0] + 1}", level, path)
                    for o in own
                ]
    result.values += variables(around.environ)
    return result


def variables(environ: Mapping[str, str]) -> list[Value]:
    """``PIP_*`` variables as options.

    ``PIP_CONFIG_FILE`` is among them and names no option of any command.
    """
    found = []
    for name, value in environ.items():
        key = name[4:].lower()
        if name.startswith("PIP_") and key not in IGNORED:
            found.append(Value(":env:", normalize_key(key), value, name, "variable"))
    return found
