"""condarc files: which conda reads, in which order, and what they say. Nothing is written.

They are read by ruamel.yaml, the parser that conda uses, and its comments as conda reads them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from entrepot.ports.tool import Surroundings
from entrepot.tools._shared.safe_read import is_dir, is_file, read_whole
from entrepot.tools.conda.platform_paths import expand_user, pathmod

NAMES = (".condarc", "condarc")
SUFFIXES = (".yml", ".yaml")
Flag = Literal["final", "top", "bottom", ""]

MARKER = re.compile(r"#[!#]*(?:final|top|bottom)[!#]*[ \t\r]*$", re.MULTILINE)
"""A comment that is a marker, at the end of a line; the next line may still hide it."""
_LISTS = frozenset(("pkgs_dirs", "envs_dirs"))


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a list."""

    text: str
    """As conda takes it, before expansion."""
    line: int = 0
    flag: Flag = ""


@dataclass(frozen=True, slots=True)
class ListValue:
    """A key that holds a list, in one source."""

    source: str
    """A path, or a variable's name."""
    items: tuple[Item, ...]
    line: int = 0
    flag: Flag = ""
    problem: str = ""
    """Why every conda command that needs the key stops; empty when it does not."""


@dataclass(frozen=True, slots=True)
class Document:
    """One file as conda understands it."""

    path: Path
    values: Mapping[str, Any] = field(default_factory=dict)
    """Top-level keys with their values; comments are gone."""
    lists: Mapping[str, ListValue] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""
    """Why conda skips the file, or stops at it; with the line."""
    fatal: bool = False
    """Whether conda stops at it."""
    hidden: tuple[str, ...] = ()
    """Markers that conda does not see, a sentence each with the line."""


def search_path(around: Surroundings, root: str = "", prefix: str = "") -> list[str]:
    """Files and directories where conda looks for settings, weakest first; none is looked at.

    Args:
        around: environment, home and platform.
        root: the root prefix: of the Python that runs conda.
        prefix: the environment that the command is about; the active one, else the root.

    Source: conda 26.7, ``base/constants.py``, ``SEARCH_PATH``.
    """
    environ, flavour = around.environ, pathmod(around)
    home, xdg = str(around.home), environ.get("XDG_CONFIG_HOME")
    windows = around.platform == "win32"
    folders = ["C:/ProgramData/conda"] if windows else ["/etc/conda", "/var/lib/conda"]
    folders += [environ.get("CONDA_ROOT") or root]
    folders += [flavour.join(xdg, "conda")] if xdg else []
    folders += [flavour.join(home, ".config", "conda"), flavour.join(home, ".conda"), home, prefix]
    found: dict[str, None] = {}
    for folder in folders:
        if folder:
            here = NAMES[:1] if folder == home else (*NAMES, "condarc.d")
            found.update(dict.fromkeys(flavour.join(folder, name) for name in here))
    if environ.get("CONDARC"):
        found[environ["CONDARC"]] = None
    return list(found)


def files_of(path: str, around: Surroundings, names: tuple[str, ...] = NAMES) -> Iterator[Path]:
    """The files that one entry of the search path stands for: itself, or those in it by name.

    Source: conda 26.7: variables in the value of ``CONDARC`` are not expanded; a file counts by its
    exact name or by ``.yml``/``.yaml``; in a directory only the latter do.
    """
    place = around.cwd / expand_user(path, around)
    if is_file(place) and (place.name in names or place.suffix in SUFFIXES):
        yield place
    elif is_dir(place):
        try:
            inside = sorted(place.iterdir(), key=lambda each: each.name)
        except OSError:
            return
        yield from (each for each in inside if each.suffix in SUFFIXES and is_file(each))
    elif (place.name in names or place.suffix in SUFFIXES) and os.path.lexists(place):
        yield place  # a pipe, a link that leads nowhere: that it cannot be read is told


def documents(around: Surroundings, root: str = "", prefix: str = "") -> list[Document]:
    """Every file that is there, weakest first, each once (where it stands first).

    Args:
        around: environment, home and platform.
        root: the root prefix.
        prefix: the environment meant; empty: ``CONDA_PREFIX``, else the root.
    """
    target = prefix or around.environ.get("CONDA_PREFIX") or root
    found: dict[Path, None] = {}
    for entry in search_path(around, root, target):
        found.update(dict.fromkeys(files_of(entry, around)))
    return [read(path) for path in found]


def read(path: Path) -> Document:
    """What one file says; never raises."""
    try:
        text = (read_whole(path) or b"").decode("utf-8")
    except OSError as exc:
        return Document(
            path, problem=f"{path}: it cannot be read: {exc.strerror}: conda skips the file"
        )
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        return Document(
            path, problem=f"{path}:{line}: it is not in UTF-8: conda stops at it", fatal=True
        )
    return read_yaml(path, text)


def read_yaml(path: Path, text: str) -> Document:
    """The document by conda's own parser; its comments become markers as conda sees them.

    Source: conda 26.7, ``common/configuration.py``, ``YamlRawParameter``: the comment behind the
    key or the item with ``!`` and ``#`` stripped from its ends is the marker. The comment reaches
    to the next key or item, so a further comment line hides it.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415  # heavy, and most people have no file
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415
    from ruamel.yaml.scanner import ScannerError  # noqa: PLC0415

    try:
        data: Any = YAML(typ="rt").load(text)
    except (YAMLError, ValueError, TypeError, RecursionError) as exc:
        mark = exc.problem_mark if isinstance(exc, MarkedYAMLError) else None
        line = f":{mark.line + 1}" if mark else ""
        reason = (exc.problem if isinstance(exc, MarkedYAMLError) else None) or "not YAML"
        fatal = not isinstance(exc, ScannerError) and isinstance(exc, MarkedYAMLError)
        result = "conda stops at it" if fatal else "conda skips the whole file"
        return Document(path, problem=f"{path}{line}: {reason}: {result}", fatal=fatal)
    if not isinstance(data, Mapping):
        problem = "" if data is None else f"{path}:1: not a mapping of settings: conda stops at it"
        return Document(path, problem=problem, fatal=bool(problem))
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    lists: dict[str, ListValue] = {}
    hidden: list[str] = []
    for name, value in data.items():
        key, number = str(name), _line(data, "key", name)
        values[key], lines[key] = value, number
        if not isinstance(value, list | None) and key not in _LISTS:
            continue
        entries = value if isinstance(value, list) else []
        problem = _problem(value) if key in _LISTS else ""
        if problem:
            problem, entries = f"{path}:{number}: {key} {problem}: conda stops at it", []
        comments = [_comment(data, name), *(_comment(value, n) for n in range(len(entries)))]
        items = [
            Item(str(each), _line(value, "item", n), _flag(comments[n + 1]))
            for n, each in enumerate(entries)
        ]
        lists[key] = ListValue(str(path), tuple(items), number, _flag(comments[0]), problem)
        for at, comment in zip([number, *(item.line for item in items)], comments, strict=True):
            if key in _LISTS and (marker := _hidden(comment)):
                why = "has no effect: the comment line below it hides it from conda"
                hidden.append(f"{path}:{at}: {marker} {why}")
    return Document(path, values, lists, lines, hidden=tuple(hidden))


def _problem(value: Any) -> str:
    """Why conda stops at a value where it wants a list of texts; empty when it does not."""
    if not isinstance(value, list | None):
        return f"is a {_kind(value)} where conda wants a list"
    for each in value or ():
        if each is not None and not isinstance(each, str | int | float):  # a date, a tagged value
            return f"has a {_kind(each)} for an entry"
    return ""


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "mapping"
    if isinstance(value, str):
        return "string"
    return "list" if isinstance(value, list) else type(value).__name__


def _line(holder: Any, kind: str, at: Any) -> int:
    """The line of a ``key`` or an ``item``, from 1; 0 when ruamel.yaml does not tell."""
    try:
        return int(getattr(holder.lc, kind)(at)[0]) + 1
    except (AttributeError, KeyError, TypeError):
        return 0


def _comment(holder: Any, at: Any) -> str:
    """What stands behind a key of a mapping or an item of a list, up to the next one."""
    try:
        found = holder.ca.items[at]
        token = found[2] if isinstance(holder, Mapping) else found[0] or found[1][0]
        return str(token.value)
    except (AttributeError, KeyError, IndexError, TypeError):
        return ""


def _flag(comment: str) -> Flag:
    word = comment.strip().strip("!#")
    # The set says which
    return word if word in {"final", "top", "bottom"} else ""  # type: ignore[return-value]


def _hidden(comment: str) -> str:
    """The marker at the start of a comment that goes on below it: conda takes both for one."""
    first, _, rest = comment.partition("\n")
    is_marker = not _flag(comment) and rest.strip() and MARKER.fullmatch(first.strip())
    return first.strip() if is_marker else ""
