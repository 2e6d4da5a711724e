"""condarc files: which conda reads, in which order, and what they say. Nothing is written.

A file without anything odd is read by lines, because a YAML parser costs more time than everything
else that ``where`` does; all others go to ruamel.yaml, the parser that conda uses, and its comments
are read as conda reads them.
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
UNREADABLE = "it cannot be read"
SUFFIXES = (".yml", ".yaml")
Flag = Literal["final", "top", "bottom", ""]

MARKER = re.compile(r"#[!#]*(?:final|top|bottom)[!#]*[ \t\r]*$", re.MULTILINE)
"""A comment that is a marker, at the end of a line; the next line may still hide it."""
_PLAIN = r"[A-Za-z/$~_](?:[^\s\x00-\x1f\x7f:#'\"\[\]{},&*!|>%@`\\]|:(?=[^\s]))*"
_PLAIN_LINE = re.compile(
    r"(?:[ ]*|[ ]*#.*"
    rf"|(?P<key>[A-Za-z_][\w-]*):(?:[ ]+(?P<value>{_PLAIN}|\[\]))?"
    rf"|(?P<dash>[ ]*-)[ ]+(?P<item>{_PLAIN}))(?:[ ]+#.*|[ ]*)"
)
_LISTS = frozenset(("pkgs_dirs", "envs_dirs"))
_NULLS = frozenset(("~", "null", "Null", "NULL"))
_BOOLEANS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}


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


def search_path(
    around: Surroundings, root: str = "", prefix: str = "", *, names: tuple[str, ...] = NAMES
) -> list[str]:
    """Files and directories where conda looks for settings, weakest first; none is looked at.

    Args:
        around: the world.
        root: the root prefix: of the Python that runs conda.
        prefix: the environment that the command is about; the active one, else the root.
        names: the two file names; mamba has more.

    Source: conda 26.7, ``base/constants.py``, ``SEARCH_PATH``.
    """
    environ, flavour = around.environ, pathmod(around)
    folders = (
        ["C:/ProgramData/conda"] if around.platform == "win32" else ["/etc/conda", "/var/lib/conda"]
    )
    folders += [environ.get("CONDA_ROOT") or root]
    folders += (
        [flavour.join(environ["XDG_CONFIG_HOME"], "conda")]
        if environ.get("XDG_CONFIG_HOME")
        else []
    )
    home = str(around.home)
    folders += [flavour.join(home, ".config", "conda"), flavour.join(home, ".conda"), home, prefix]
    found: dict[str, None] = {}
    for folder in folders:
        if folder:
            here = [names[0]] if folder == home else [*names, "condarc.d"]
            found.update(dict.fromkeys(flavour.join(folder, name) for name in here))
    if environ.get("CONDARC"):
        found[environ["CONDARC"]] = None
    return list(found)


def files_of(path: str, around: Surroundings, names: tuple[str, ...] = NAMES) -> Iterator[Path]:
    """The files that one entry of the search path stands for.

    Itself, or those of a directory by name.

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


def documents(
    around: Surroundings, root: str = "", prefix: str = "", *, names: tuple[str, ...] = NAMES
) -> list[Document]:
    """Every file that is there, weakest first, each once (where it stands first).

    Args:
        around: the world.
        root: the root prefix.
        prefix: the environment meant; empty: ``CONDA_PREFIX``, else the root.
        names: the file names that count.
    """
    target = prefix or around.environ.get("CONDA_PREFIX") or root
    found: dict[Path, None] = {}
    for entry in search_path(around, root, target, names=names):
        found.update(dict.fromkeys(files_of(entry, around, names)))
    return [read(path) for path in found]


def read(path: Path) -> Document:
    """What one file says; never raises."""
    try:
        text = (read_whole(path) or b"").decode("utf-8")
    except OSError as exc:
        return Document(path, problem=f"{path}: {UNREADABLE}: {exc.strerror}: conda skips the file")
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        return Document(
            path, problem=f"{path}:{line}: it is not in UTF-8: conda stops at it", fatal=True
        )
    return parse(path, text)


def parse(path: Path, text: str) -> Document:
    """What a file's text says; by lines where they suffice."""
    return read_plainly(path, text) or read_yaml(path, text)


def read_plainly(path: Path, text: str) -> Document | None:
    """The document by its lines; ``None`` when there is anything in it that needs a YAML parser.

    Understood are top-level keys with a plain scalar, with ``[]``, and with a list of plain
    scalars. A marker needs the parser: where ruamel.yaml puts a comment is a science.
    """
    if MARKER.search(text):
        return None
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    items: dict[str, list[Item]] = {}
    closed: set[str] = (
        set()
    )  # keys with a value on their own line, even `~`: items below one are no list of its
    at = dash = ""
    for number, line in enumerate(text.splitlines(), 1):
        match = _PLAIN_LINE.fullmatch(line)
        if match is None or match["key"] in values:
            return None
        if match["key"]:
            at, dash = match["key"], ""
            lines[at] = number
            values[at] = [] if match["value"] == "[]" else _scalar(match["value"])
            if match["value"] is not None:
                closed.add(at)
        elif match["item"]:
            if not at or at in closed or (dash and dash != match["dash"]):
                return None
            dash = match["dash"]
            items.setdefault(at, []).append(Item(str(_scalar(match["item"])), number))
            values[at] = [item.text for item in items[at]]
    lists = {
        key: _list(path, key, lines[key], value, items.get(key, []))
        for key, value in values.items()
    }
    return Document(path, values, {key: value for key, value in lists.items() if value}, lines)


def _scalar(text: str | None) -> Any:
    if text is None or text in _NULLS:
        return None
    return _BOOLEANS.get(text, text)


def _list(
    path: Path, key: str, line: int, value: Any, items: list[Item], *, flag: Flag = ""
) -> ListValue | None:
    if (
        isinstance(value, list)
        and key in _LISTS
        and (odd := next((each for each in value if not _is_scalar(each)), None)) is not None
    ):
        what = (
            "mapping"
            if isinstance(odd, Mapping)
            else "list"
            if isinstance(odd, list)
            else type(odd).__name__
        )
        return ListValue(
            str(path),
            (),
            line,
            flag,
            f"{path}:{line}: {key} has a {what} for an entry: conda stops at it",
        )
    if value is None or isinstance(value, list):
        return ListValue(str(path), tuple(items), line, flag)
    if key not in _LISTS:
        return None
    what = (
        "mapping"
        if isinstance(value, Mapping)
        else "string"
        if isinstance(value, str)
        else type(value).__name__
    )
    text = f"{path}:{line}: {key} is a {what} where conda wants a list: conda stops at it"
    return ListValue(str(path), (), line, flag, text)


def _is_scalar(value: Any) -> bool:
    """Whether conda takes it for an entry; a date or a tagged value it does not."""
    return value is None or isinstance(value, str | int | float)


def read_yaml(path: Path, text: str) -> Document:
    """The document by conda's own parser; its comments become markers as conda sees them.

    Source: conda 26.7, ``common/configuration.py``, ``YamlRawParameter``: the comment behind the
    key or the item with ``!`` and ``#`` stripped from its ends is the marker. The comment reaches
    to the next key or item, so a further comment line hides it.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415  # heavy, and most files do not need it
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415
    from ruamel.yaml.scanner import ScannerError  # noqa: PLC0415

    try:
        data = YAML(typ="rt").load(text)
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
    lines = {str(key): _line_of_key(data, key) for key in data}
    lists = {}
    for key, value in data.items():
        items = _items(value) if isinstance(value, list) else []
        found = _list(
            path, str(key), lines[str(key)], value, items, flag=_flag(_key_comment(data, key))
        )
        if found:
            lists[str(key)] = found
    return Document(
        path,
        {str(key): value for key, value in data.items()},
        lists,
        lines,
        hidden=tuple(_hidden(path, data, lists)),
    )


def _hidden(path: Path, data: Any, lists: Mapping[str, ListValue]) -> Iterator[str]:
    """Markers hidden by a comment line below them: conda takes both for one comment."""
    for key in _LISTS & lists.keys():
        found = lists[key]
        comments = [(found.flag, found.line, _key_comment(data, key))]
        comments += [
            (item.flag, item.line, _item_comment(data[key], number))
            for number, item in enumerate(found.items)
        ]
        for flag, line, comment in comments:
            first, _, rest = comment.partition("\n")
            if not flag and rest.strip() and MARKER.fullmatch(first.strip()):
                yield (
                    f"{path}:{line}: {first.strip()} has no effect: the comment line below it "
                    "hides it from conda"
                )


def _line_of_key(data: Any, key: Any) -> int:
    try:
        return int(data.lc.key(key)[0]) + 1
    except (AttributeError, KeyError, TypeError):
        return 0


def _items(value: Any) -> list[Item]:
    found = []
    for number, each in enumerate(value):
        try:
            line = int(value.lc.item(number)[0]) + 1
        except (AttributeError, KeyError, TypeError):
            line = 0
        found.append(Item(str(each), line, _flag(_item_comment(value, number))))
    return found


def _key_comment(data: Any, key: Any) -> str:
    try:
        return str(data.ca.items[key][2].value)
    except (AttributeError, KeyError, IndexError, TypeError):
        return ""


def _item_comment(value: Any, number: int) -> str:
    try:
        item = value.ca.items[number]
        return str(item[0].value if item[0] else item[1][0].value)
    except (AttributeError, KeyError, IndexError, TypeError):
        return ""


def _flag(comment: str) -> Flag:
    word = comment.strip().strip("!#")
    # The set says which
    return word if word in {"final", "top", "bottom"} else ""  # type: ignore[return-value]
