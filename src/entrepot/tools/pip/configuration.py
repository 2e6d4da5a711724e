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
from entrepot.tools.pip.conffile import ConfFile, normalize_key, parse
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
    files: list[tuple[Level, Path, bool]] = field(default_factory=list)
    """Level, path and whether it exists, weakest first."""
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


def read_file(path: Path, environ: Mapping[str, str]) -> ConfFile:
    """One file, parsed; bytes that are no text of its encoding become surrogates.

    Raises:
        OSError: it cannot be read.
    """
    return parse(path.read_bytes().decode(encoding_of(environ), "surrogateescape"))


def config_files(around: Surroundings, pip: Pip) -> list[tuple[Level, Path]]:
    """The files pip reads, weakest first.

    ``PIP_CONFIG_FILE`` takes the place of the user's files when it names one that exists; the null
    device means no file at all.
    """
    named = around.environ.get("PIP_CONFIG_FILE")
    if named is not None and named == ("nul" if around.platform == "win32" else "/dev/null"):
        return []
    join = paths_of(around).join
    files: list[tuple[Level, Path]] = [
        ("global", Path(p)) for p in global_files(around, pip.version)
    ]
    named_exists = bool(named) and exists(_at(named or "", around))
    if not named_exists:
        files += [
            ("user", Path(p)) for p in user_files(around, pip.version, exists=_mac_folders(around))
        ]
    files.append(
        (
            "site",
            Path(join(str(pip.prefix), "pip.ini" if around.platform == "win32" else "pip.conf")),
        )
    )
    if named:
        files.append(("env", _at(named, around)))
    return [(level, _at(str(path), around)) for level, path in files]


def _at(name: str, around: Surroundings) -> Path:
    return Path(paths_of(around).join(str(around.cwd), name))


def _mac_folders(around: Surroundings) -> frozenset[str]:
    if around.platform != "darwin":
        return frozenset()
    home = around.environ.get("HOME") or str(around.home)
    folders = [
        f"{home}/Library/Application Support/pip",
        f"{around.environ.get('XDG_DATA_HOME', '').strip()}/pip",
    ]
    return frozenset(f for f in folders if is_folder(f))


def load(around: Surroundings, pip: Pip) -> Configuration:
    """Read every file and variable that this pip would read."""
    first, end = PASSES_OVER_EMPTY
    result = Configuration(passes_over_empty=first <= pip.version < end)
    for level, path in config_files(around, pip):
        try:
            file = read_file(path, around.environ)
        except FileNotFoundError:
            result.files.append((level, path, False))
            continue
        except OSError as exc:
            result.files.append((level, path, exists(path)))
            if exists(path) and not is_folder(path):
                result.broken.append((path, f"cannot be read: {exc.strerror}"))
            continue
        result.files.append((level, path, True))
        result.broken += [
            (path, str(problem))
            for problem in file.problems
            if _fails(problem.kind, problem.text, pip)
        ]
        result.values += _values(file, level, path)
    result.values += variables(around.environ)
    return result


# Versions differ only in spellings, and then the later one wins
def _fails(kind: str, text: str, pip: Pip) -> bool:  # noqa: ARG001
    return kind in {
        "bom",
        "no-section",
        "duplicate-section",
        "duplicate-key",
        "bad-line",
        "encoding",
    }


def _values(file: ConfFile, level: Level, path: Path) -> list[Value]:
    found = []
    for section in file.sections:
        if section == "DEFAULT":
            continue
        own = [o for o in file.options if o.section in ("DEFAULT", section)]
        own.sort(
            key=lambda o: o.section != "DEFAULT"
        )  # [DEFAULT] shines through, and the section's own keys beat it
        found += [Value(section, o.key, o.value, f"{path}:{o.line + 1}", level, path) for o in own]
    return found


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
