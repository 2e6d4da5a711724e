r"""One ``pip.conf`` as lines.

What is in it, what is wrong with it, and how one key is changed without touching the rest.

The rules are those of Python's ``RawConfigParser`` as pip uses it: ``=`` or ``:``, full-line
comments only, continuation lines are indented deeper than their key, no interpolation. Pure: text
in, text out. Line ends are kept as they are, and bytes that are no text travel as surrogates, so
that whatever is not asked for comes out as it went in.

Source: Python's configparser (3.8 to 3.13); pip's ``configuration.py`` (20.3 to 26.3).
"""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass, field

from entrepot.errors import ConfigError

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_SECTION = re.compile(r"\[(?P<header>.+)\]")
_OPTION = re.compile(r"(?P<key>.*?)(?P<delimiter>\s*[=:]\s*)(?P<value>.*)$", re.DOTALL)
_SURROGATE = re.compile(r"[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Option:
    """One key of one section with the lines it takes; line numbers count from 0."""

    section: str
    key: str
    """Normalized: lower case, ``-`` for ``_``, no leading ``--``."""
    value: str
    line: int
    rows: tuple[int, ...]
    """The lines that hold the key and its value; comments between continuation lines are not among
    them."""
    indent: str
    spelled: str
    delimiter: str
    """With the blanks around it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why pip cannot read the file, or will read something else than it seems."""

    kind: str
    """``bom``, ``no-section``, ``duplicate-section``, ``duplicate-key``, ``bad-line`` or
    ``encoding``."""
    line: int
    """Counts from 1, as editors do."""
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


@dataclass(slots=True)
class ConfFile:
    """A parsed file. ``problems`` is empty when every pip can read it."""

    lines: list[str]
    options: list[Option] = field(default_factory=list)
    sections: dict[str, int] = field(default_factory=dict)
    """Name -> line of its first header."""
    problems: list[Problem] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The whole file."""
        return "".join(self.lines)

    @property
    def newline(self) -> str:
        """The line end of the first line; a plain line feed in an empty file."""
        found = re.search(r"(\r\n|\r|\n)$", self.lines[0]) if self.lines else None
        return found[1] if found else "\n"

    def find(self, section: str, key: str) -> Option | None:
        """The option as pip would read it.

        ``[DEFAULT]`` shines through into every section that exists.
        """
        for wanted in (section, configparser.DEFAULTSECT):
            found = [o for o in self.options if o.section == wanted and o.key == key]
            if found and section in self.sections:
                return found[-1]
        return None


def normalize_key(key: str) -> str:
    """A key as pip compares it.

    >>> normalize_key("--Cache_Dir")
    'cache-dir'
    """
    return key.lower().replace("_", "-").removeprefix("--")


def split_lines(text: str) -> list[str]:
    """Lines with their ends.

    Line feed, carriage return and both end one; ``str.splitlines`` knows more than configparser.
    """
    return _LINE.findall(text)


class _Reader:
    """configparser's own walk over the lines, remembering where everything was."""

    def __init__(self, text: str) -> None:
        self.file = ConfFile(split_lines(text))
        self.section: str | None = None
        self.indent = 0
        self.rows: list[int] = []
        self.parts: list[str] = []
        self.head: tuple[int, str, str, str] | None = None
        self.seen: set[tuple[str, str]] = set()

    def read(self) -> ConfFile:
        """Walk all lines."""
        for number, line in enumerate(self.file.lines):
            if _SURROGATE.search(line):
                self._problem("encoding", number, "has bytes that are not UTF-8 text")
            bare = line
            if number == 0 and bare.startswith("\ufeff"):
                self._problem(
                    "bom",
                    number,
                    "starts with a byte order mark, which pip takes for text before the first section",
                )
                bare = bare[1:]
            self._line(number, bare)
        self._close()
        return self.file

    def _line(self, number: int, line: str) -> None:
        value = line.strip()
        if value.startswith(("#", ";")):
            return
        if not value:
            if self.head is not None:
                self.parts.append("")
            return
        indent = len(line) - len(line.lstrip())
        if self.section is not None and self.head is not None and indent > self.indent:
            self.parts.append(value)
            self.rows.append(number)
            return
        self.indent = indent
        self._close()
        if header := _SECTION.match(value):
            self._open_section(number, header["header"])
            return
        if self.section is None:
            self._problem(
                "no-section", number, f"{_short(value)!r} stands before the first [section]"
            )
        option = _OPTION.match(value)
        if option is None or not option["key"].strip():
            self._problem(
                "bad-line", number, f"{_short(value)!r} is neither a [section] nor KEY = VALUE"
            )
            return
        self._open_option(number, line, option)

    def _open_section(self, number: int, name: str) -> None:
        if name in self.file.sections and name != configparser.DEFAULTSECT:
            first = self.file.sections[name] + 1
            self._problem(
                "duplicate-section", number, f"section [{name}] is there already (line {first})"
            )
        self.file.sections.setdefault(name, number)
        self.section = name

    def _open_option(self, number: int, line: str, found: re.Match[str]) -> None:
        key = normalize_key(found["key"].rstrip())
        section = self.section or ""
        if (section, key) in self.seen:
            self._problem("duplicate-key", number, f"{key} is set twice in [{section}]")
        self.seen.add((section, key))
        indent = line[: len(line) - len(line.lstrip())]
        self.head = (number, indent, found["key"].rstrip(), found["delimiter"])
        self.rows, self.parts = [number], [found["value"].strip()]

    def _close(self) -> None:
        if self.head is None:
            return
        number, indent, spelled, delimiter = self.head
        value = "\n".join(self.parts).rstrip()
        key = normalize_key(spelled)
        option = Option(
            self.section or "", key, value, number, tuple(self.rows), indent, spelled, delimiter
        )
        self.file.options.append(option)
        self.head = None

    def _problem(self, kind: str, number: int, text: str) -> None:
        self.file.problems.append(Problem(kind, number + 1, text))


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def parse(text: str) -> ConfFile:
    """Read a file's text; never fails, what is wrong is listed in ``problems``."""
    return _Reader(text).read()


def with_value(text: str, section: str, key: str, value: str) -> str:
    """The text with one key set; everything else stays, byte for byte.

    A key that is there keeps its spelling, its delimiter and its place. A new one follows the
    section's last key and is written like it. A value of several lines is written as continuation
    lines.

    Raises:
        ConfigError: the file is broken, or pip could not read the result.
    """
    file = _sound(text)
    check_writable(section, key, value)
    mine = [o for o in file.options if o.section == section and o.key == key]
    if mine:
        _replace(file, mine[-1], value)
    else:
        _insert(file, section, key, value)
    return _checked(file.text, section, key, value)


def without_key(text: str, section: str, key: str) -> str:
    """The text less one key; comments, also those between its lines, and the section's header stay.

    Raises:
        ConfigError: the file is broken.
    """
    file = _sound(text)
    gone = {row for o in file.options if o.section == section and o.key == key for row in o.rows}
    result = "".join(line for number, line in enumerate(file.lines) if number not in gone)
    broken = parse(result).problems
    # A continuation line's owner cannot change by removing a whole option, but never write what was
    # not checked
    if broken:
        raise ConfigError(
            f"taking {key} out would leave a file that pip cannot read: {broken[0]}", name=key
        )
    return result


def _sound(text: str) -> ConfFile:
    file = parse(text)
    if file.problems:
        raise ConfigError(
            f"pip cannot read the file as it is: {file.problems[0]}",
            hint="entrepot config --tool pip --mend",
            source=f"line {file.problems[0].line}",
        )
    return file


def _written(indent: str, key: str, delimiter: str, value: str, newline: str) -> list[str]:
    first, *rest = value.split("\n")
    inner = indent + ("\t" if "\t" in indent else "    ")
    head = f"{indent}{key}{delimiter}{first}"
    return [
        (head if first else head.rstrip()) + newline,
        *(f"{inner}{line.strip()}{newline}" for line in rest),
    ]


def _replace(file: ConfFile, option: Option, value: str) -> None:
    first, last = option.rows[0], option.rows[-1]
    end = re.search(r"(\r\n|\r|\n)?$", file.lines[last])
    ending = (end[1] or "") if end else ""
    delimiter = (
        option.delimiter + " "
        if option.delimiter[:1].isspace() and not option.delimiter[-1:].isspace()
        else option.delimiter
    )
    new = _written(option.indent, option.spelled, delimiter, value, file.newline)
    kept = [file.lines[n] for n in range(first, last + 1) if n not in option.rows]
    if not kept and not ending:
        new[-1] = new[-1].removesuffix(file.newline)
    file.lines[first : last + 1] = new + kept


def _insert(file: ConfFile, section: str, key: str, value: str) -> None:
    newline = file.newline
    if section not in file.sections:
        if file.lines:
            file.lines[-1] = _ended(file.lines[-1], newline)
            if file.lines[-1].strip():
                file.lines.append(newline)
        file.lines += [f"[{section}]{newline}", *_written("", key, " = ", value, newline)]
        return
    options = [o for o in file.options if o.section == section]
    like = options[-1] if options else None
    at = (like.rows[-1] if like else file.sections[section]) + 1
    file.lines[at - 1] = _ended(file.lines[at - 1], newline)
    delimiter = like.delimiter if like else " = "
    spacing = delimiter if delimiter.strip(" \t") in ("=", ":") and "\n" not in delimiter else " = "
    file.lines[at:at] = _written(like.indent if like else "", key, spacing, value, newline)


def _ended(line: str, newline: str) -> str:
    return line if line.endswith(("\n", "\r")) else line + newline


def check_writable(section: str, key: str, value: str) -> None:
    """Refuse what the file format cannot hold.

    Raises:
        ConfigError: a name or value that would be read back as something else, or not at all.
    """
    name = f"{section}.{key}"
    if (
        not section
        or section != section.strip()
        or re.search(r"[\]\[\r\n.]", section)
        or section == configparser.DEFAULTSECT
    ):
        raise ConfigError(f"{section!r} cannot be a section of pip.conf", name=name)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.\-]*", key):
        raise ConfigError(
            f"{key!r} cannot be a key of pip.conf",
            name=name,
            hint="write it like timeout or install.no-deps",
        )
    if "\r" in value or "\x00" in value or _SURROGATE.search(value):
        raise ConfigError(
            "the value has characters that pip.conf cannot hold", name=name, value=value
        )
    for number, line in enumerate(value.split("\n")):
        if line != line.strip():
            raise ConfigError("blanks around a value are lost in pip.conf", name=name, value=value)
        if number and (not line or line.startswith(("#", ";"))):
            raise ConfigError(
                "an empty line or a comment inside a value is lost in pip.conf",
                name=name,
                value=value,
            )


def _checked(text: str, section: str, key: str, value: str) -> str:
    """The last gate before anything is written.

    Python's own parser reads the new text and finds the value.
    """
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text.replace("\r\n", "\n").replace("\r", "\n"))
    except configparser.Error as exc:
        raise ConfigError(f"pip could not read the changed file: {exc}", name=key) from exc
    read = {normalize_key(k): v for k, v in parser.items(section)}.get(key)
    if read != value:
        raise ConfigError(
            f"pip would read {read!r} where {value!r} was asked for", name=key, value=value
        )
    return text


def mend(text: str) -> tuple[str, list[str]]:
    """A broken file made readable, and a sentence for each thing that was done.

    A sound file comes back as it was.

    Nothing is thrown away: a byte order mark goes, lines before the first section get ``[global]``,
    a section that is there twice is joined at its first place, and lines that cannot be kept as
    they are become comments. Of a key set twice the later one stays.
    """
    done: list[str] = []
    if text.startswith("\ufeff"):
        text = text[1:]
        done.append("line 1: removed the byte order mark")
    if _SURROGATE.search(text):
        text = _SURROGATE.sub(
            lambda m: bytes([ord(m[0]) - 0xDC00]).decode("cp1252", "replace"), text
        )
        done.append("rewrote bytes that were not UTF-8, taking them for Windows-1252")
    for kind, cure in (
        ("bad-line", _comment_out),
        ("no-section", _head),
        ("duplicate-section", _join),
        ("duplicate-key", _drop_earlier),
    ):
        for _ in range(len(text) + 1):  # each cure removes one problem, so this ends
            file = parse(text)
            problem = next((p for p in file.problems if p.kind == kind), None)
            if problem is None:
                break
            text = cure(file, problem, done)
    return text, done


def _comment_out(file: ConfFile, problem: Problem, done: list[str]) -> str:
    at = problem.line - 1
    file.lines[at] = "# " + file.lines[at].lstrip()
    done.append(f"line {problem.line}: made a comment of it, because {problem.text}")
    return file.text


def _head(file: ConfFile, problem: Problem, done: list[str]) -> str:
    file.lines.insert(problem.line - 1, f"[global]{file.newline}")
    done.append(f"line {problem.line}: put [global] above it")
    return file.text


def _join(file: ConfFile, problem: Problem, done: list[str]) -> str:
    second = problem.line - 1
    name = _SECTION.match(file.lines[second].strip())
    assert name is not None
    headers = [n for n, line in enumerate(file.lines) if _is_header(file, n, line)]
    first = file.sections[name["header"]]
    after_first = next(n for n in headers if n > first)
    after_second = next((n for n in headers if n > second), len(file.lines))
    moved = [_ended(line, file.newline) for line in file.lines[second + 1 : after_second]]
    file.lines[second:after_second] = []
    while after_first > first + 1 and not file.lines[after_first - 1].strip():
        after_first -= 1
    file.lines[after_first - 1] = _ended(file.lines[after_first - 1], file.newline)
    file.lines[after_first:after_first] = moved
    done.append(f"line {problem.line}: joined the second [{name['header']}] to the first")
    return file.text


def _is_header(file: ConfFile, number: int, line: str) -> bool:
    return bool(_SECTION.match(line.strip())) and not any(number in o.rows for o in file.options)


def _drop_earlier(file: ConfFile, problem: Problem, done: list[str]) -> str:
    later = next(o for o in file.options if o.line == problem.line - 1)
    earlier = next(o for o in file.options if (o.section, o.key) == (later.section, later.key))
    for row in earlier.rows:
        file.lines[row] = "# " + file.lines[row].lstrip()
    done.append(
        f"line {earlier.line + 1}: made a comment of the earlier {later.key}; line {problem.line} stays in force"
    )
    return file.text
