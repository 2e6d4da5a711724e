r"""One ``pip.conf`` as lines: what is in it, what is wrong with it, and how one key is changed.

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


@dataclass(slots=True)
class Option:
    """One key of one section with the lines it takes; line numbers count from 0."""

    section: str
    key: str
    """Normalized: lower case, ``-`` for ``_``, no leading ``--``."""
    rows: list[int]
    """The lines that hold the key and its value; comments between continuation lines are not among
    them."""
    parts: list[str]
    """The value, line by line."""
    indent: str
    spelled: str
    delimiter: str
    """With the blanks around it."""

    @property
    def value(self) -> str:
        """As configparser gives it."""
        return "\n".join(self.parts).rstrip()


@dataclass(frozen=True, slots=True)
class Problem:
    """Why pip cannot read the file, or will read something else than it seems."""

    kind: str
    """``bom``, ``no-section``, ``duplicate-section``, ``duplicate-key``, ``bad-line`` or
    ``encoding``."""
    line: int
    """Counts from 1, as editors do."""
    text: str
    """What is wrong, and the cure."""

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
        return _ending(self.lines[0]) or "\n" if self.lines else "\n"

    def find(self, section: str, key: str) -> Option | None:
        """The section's own option of that name, the last if there are several."""
        found = [o for o in self.options if (o.section, o.key) == (section, key)]
        return found[-1] if found else None


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


def _ending(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]


def parse(text: str) -> ConfFile:
    """Read a file's text as configparser walks it; what is wrong is listed in ``problems``."""
    file = ConfFile(split_lines(text))
    section: str | None = None
    indent = 0
    option: Option | None = None  # the one that a continuation line would belong to

    def problem(kind: str, number: int, sentence: str) -> None:
        file.problems.append(Problem(kind, number + 1, sentence))

    for number, whole in enumerate(file.lines):
        if _SURROGATE.search(whole):
            problem("encoding", number, "has bytes that are not UTF-8 text: save it as UTF-8")
        line = whole.removeprefix("\ufeff") if number == 0 else whole
        if line is not whole:
            problem(
                "bom",
                number,
                "starts with a byte order mark, which pip takes for text before the first section: "
                "remove it",
            )
        value = line.strip()
        if value.startswith(("#", ";")):
            continue
        if not value:
            if option is not None:
                option.parts.append("")
            continue
        lead = line[: len(line) - len(line.lstrip())]
        if section is not None and option is not None and len(lead) > indent:
            option.parts.append(value)
            option.rows.append(number)
            continue
        indent, option = len(lead), None
        if header := _SECTION.match(value):
            section = header["header"]
            if section in file.sections and section != configparser.DEFAULTSECT:
                there = f"is there already (line {file.sections[section] + 1}): join the two"
                problem("duplicate-section", number, f"section [{section}] {there}")
            file.sections.setdefault(section, number)
            continue
        short = repr(value if len(value) <= 60 else value[:57] + "...")
        if section is None:
            why = f"{short} stands before the first [section]: put [global] above it"
            problem("no-section", number, why)
        found = _OPTION.match(value)
        spelled = found["key"].rstrip() if found else ""
        if found is None or not spelled:
            why = f"{short} is neither a [section] nor KEY = VALUE: correct it or put # in front"
            problem("bad-line", number, why)
            continue
        key = normalize_key(spelled)
        if file.find(section or "", key):
            why = f"{key} is set twice in [{section or ''}]: keep one of them"
            problem("duplicate-key", number, why)
        option = Option(
            section or "", key, [number], [found["value"]], lead, spelled, found["delimiter"]
        )
        file.options.append(option)
    return file


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
    if option := file.find(section, key):
        first, last = option.rows[0], option.rows[-1]
        new = _written(option.indent, option.spelled, option.delimiter, value, file.newline)
        kept = [file.lines[n] for n in range(first, last + 1) if n not in option.rows]
        if not kept and not _ending(file.lines[last]):
            new[-1] = new[-1].removesuffix(file.newline)
        file.lines[first : last + 1] = new + kept
    elif section not in file.sections:
        if file.lines:
            _end_line(file, len(file.lines) - 1)
            if file.lines[-1].strip():
                file.lines.append(file.newline)
        new = _written("", key, " = ", value, file.newline)
        file.lines += [f"[{section}]{file.newline}", *new]
    else:
        like = next((o for o in reversed(file.options) if o.section == section), None)
        at = (like.rows[-1] if like else file.sections[section]) + 1
        _end_line(file, at - 1)
        plain = like is not None and re.fullmatch(r"[ \t]*[=:][ \t]*", like.delimiter)
        delimiter = like.delimiter if like and plain else " = "
        new = _written(like.indent if like else "", key, delimiter, value, file.newline)
        file.lines[at:at] = new
    return _checked(file.text, text, section, key, value)


def without_key(text: str, section: str, key: str) -> str:
    """The text less one key; comments, also those between its lines, and the section's header stay.

    Raises:
        ConfigError: the file is broken.
    """
    file = _sound(text)
    gone = {row for o in file.options if (o.section, o.key) == (section, key) for row in o.rows}
    result = "".join(line for number, line in enumerate(file.lines) if number not in gone)
    return _checked(result, text, section, key, None)


def _sound(text: str) -> ConfFile:
    file = parse(text)
    if file.problems:
        raise ConfigError(
            f"pip cannot read the file as it is: {file.problems[0]}",
            hint="entrepot config --tool pip edit",
            source=f"line {file.problems[0].line}",
        )
    return file


def _written(indent: str, key: str, delimiter: str, value: str, newline: str) -> list[str]:
    first, *rest = value.split("\n")
    if delimiter[:1].isspace() and not delimiter[-1:].isspace():
        delimiter += " "  # `find-links =` has its value on the next lines
    inner = indent + ("\t" if "\t" in indent else "    ")
    head = f"{indent}{key}{delimiter}{first}"
    return [
        (head if first else head.rstrip()) + newline,
        *(f"{inner}{line.strip()}{newline}" for line in rest),
    ]


def _end_line(file: ConfFile, number: int) -> None:
    if not _ending(file.lines[number]):
        file.lines[number] += file.newline


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
        hint = "write it like timeout or install.no-deps"
        raise ConfigError(f"{key!r} cannot be a key of pip.conf", name=name, hint=hint)
    why = ""
    if "\r" in value or "\x00" in value or _SURROGATE.search(value):
        why = "the value has characters that pip.conf cannot hold"
    for number, line in enumerate(value.split("\n")):
        if line != line.strip():
            why = "blanks around a value are lost in pip.conf"
        elif number and (not line or line.startswith(("#", ";"))):
            why = "an empty line or a comment inside a value is lost in pip.conf"
    if why:
        raise ConfigError(why, name=name, value=value)


def _checked(text: str, before: str, section: str, key: str, value: str | None) -> str:
    """The last gate before anything is written: Python's own parser reads the new text.

    It must find the value (``None``: no value), and all else as it was.
    """

    def read(content: str) -> dict[tuple[str, str], str]:
        parser = configparser.RawConfigParser()
        parser.optionxform = normalize_key  # type: ignore[assignment,method-assign]
        parser.read_file(line.rstrip("\r\n") + "\n" for line in split_lines(content))
        values = {("DEFAULT", k): v for k, v in parser.defaults().items()}
        return values | {(s, k): v for s in parser.sections() for k, v in parser.items(s)}

    try:
        expected, found = read(before), read(text)
    except configparser.Error as exc:
        raise ConfigError(f"pip could not read the changed file: {exc}", name=key) from exc
    expected.pop((section, key), None)
    if value is not None:
        expected[section, key] = value
    for (where, name), default in list(expected.items()):
        if where == "DEFAULT":  # it shines through into every section that is there
            expected.setdefault((section, name), default)
    if found != expected:
        raise ConfigError(
            f"pip would read {found.get((section, key))!r} where {value!r} was asked for, "
            "or other keys would change",
            name=key,
            value=value or "",
        )
    return text


def mend(text: str) -> tuple[str, list[str]]:
    """A broken file made readable, and a sentence for each thing that was done.

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
    for kind in ("bad-line", "no-section", "duplicate-section", "duplicate-key"):
        # each round cures one problem, so this ends
        while problem := next((p for p in parse(text).problems if p.kind == kind), None):
            file, at = parse(text), problem.line - 1
            if kind == "bad-line":
                file.lines[at] = "# " + file.lines[at].lstrip()
                done.append(f"commented out line {problem.line}: {problem.text}")
            elif kind == "no-section":
                file.lines.insert(at, f"[global]{file.newline}")
                done.append(f"put [global] above line {problem.line}")
            elif kind == "duplicate-section":
                done.append(_join(file, at))
            else:
                later = next(o for o in file.options if o.rows[0] == at)
                same = (o for o in file.options if (o.section, o.key) == (later.section, later.key))
                earlier = next(same)
                for row in earlier.rows:
                    file.lines[row] = "# " + file.lines[row].lstrip()
                done.append(
                    f"commented out the earlier {later.key} in line {earlier.rows[0] + 1}; "
                    f"line {problem.line} stays in force"
                )
            text = file.text
    return text, done


def _join(file: ConfFile, second: int) -> str:
    """Move what stands in a section's second place below its first."""
    rows = {row for o in file.options for row in o.rows}
    found = [_SECTION.match(line.strip()) for line in file.lines]
    headers = [n for n, header in enumerate(found) if header and n not in rows]
    name = (found[second] or [""])["header"]  # type: ignore[call-overload]
    first = file.sections[name]
    end = next((n for n in headers if n > second), len(file.lines))
    for number in range(second, end):
        _end_line(file, number)
    moved = file.lines[second + 1 : end]
    del file.lines[second:end]
    at = next((n for n in headers if first < n < second), second)
    while at > first + 1 and not file.lines[at - 1].strip():
        at -= 1
    _end_line(file, at - 1)
    file.lines[at:at] = moved
    return f"joined the second [{name}] in line {second + 1} to the first"
