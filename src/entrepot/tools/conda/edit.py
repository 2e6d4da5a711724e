"""Editing a condarc by its lines: only what was asked for changes.

Comments, markers, order and newlines stay. Text in, text out.

conda rewrites the file through its YAML library and loses the comments of a list that it removes
from (conda 26.7, by experiment). Every result is read again before it is given back: an edit that
would not do what it says is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from entrepot.errors import ConfigError
from entrepot.tools.conda.condarc import MARKER, Document, read_yaml

_KEY = re.compile(
    r"""(?P<quote>["']?)(?P<key>[A-Za-z_][\w-]*)(?P=quote)[ \t]*:(?P<rest>(?:[ \t].*)?)$"""
)
_ITEM = re.compile(r"(?P<indent>[ ]*)-(?P<rest>[ \t]+.*|)$")
_SCALAR = re.compile(
    r"""(?P<lead>[ \t]*)"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s#](?:[^#]|(?<![ \t])#)*?|)"""
    r"""(?P<comment>[ \t]+#.*|[ \t]*)$"""
)
_SAFE = re.compile(r"(?:[/A-Za-z$]|~[/\\])(?:[^\s:#'\"\[\]{},&*!|>%@`]|:(?=\S))*")
_WORDS = frozenset("true false null yes no on off y n".split())
_NEWLINE = re.compile(r"\r?\n$")


@dataclass(slots=True)
class _Block:
    """Where a key stands."""

    start: int
    """Its line, from 0."""
    end: int
    """One past its last line."""
    rest: str
    """What follows the colon on the key's line."""
    items: list[int]
    """Lines of a block list's items."""


def quoted(value: str) -> str:
    """A value as YAML: plain where that is safe.

    >>> quoted("/a/b"), quoted("a: b"), quoted("~")
    ('/a/b', '"a: b"', '"~"')
    """
    plain = _SAFE.fullmatch(value) and value.lower() not in _WORDS
    return value if plain else json.dumps(value, ensure_ascii=False)


def scalar_text(value: str) -> str:
    """A scalar as YAML: truth values and numbers stay what they look like."""
    if value.lower() in _WORDS or re.fullmatch(r"[+-]?\d+(?:\.\d+)?", value):
        return value
    return quoted(value)


def with_item(text: str, key: str, value: str, where: Literal["first", "last"] = "first") -> str:
    """The text with a list's entry put first or last.

    One that is there already moves, with its comment.

    Raises:
        ConfigError: the file is broken, or the key holds no list.
    """
    before = _entries(text, key)
    rest = [each for each in before if each != value]
    expected = [value, *rest] if where == "first" else [*rest, value]
    if expected == before:
        return text
    return _checked(
        text, lambda lines: _insert(lines, key, value, where, known=value in before), key, expected
    )


def without_item(text: str, key: str, value: str) -> str:
    """The text without an entry of a list; the last one leaves ``[]``.

    Raises:
        ConfigError: the entry is not there, the file is broken, or the key holds no list.
    """
    before = _entries(text, key)
    if value not in before:
        raise ConfigError(
            f"{key} has no entry {value!r}",
            name=key,
            value=value,
            hint="the text must be exactly as it is written",
        )
    return _checked(
        text,
        lambda lines: _take_out(lines, key, value)[0],
        key,
        [each for each in before if each != value],
    )


def with_scalar(text: str, key: str, value: str) -> str:
    """The text with a scalar set; its comment stays.

    Raises:
        ConfigError: the file is broken, or the key holds a list or a mapping.
    """
    document = _parsed(text)
    if isinstance(document.values.get(key), list | dict):
        raise ConfigError(f"{key} holds a list or a mapping, not one value", name=key, value=value)

    def change(lines: list[str]) -> list[str]:
        block = _find(lines, key)
        if block is None:
            return _appended(lines, [f"{key}: {scalar_text(value)}"])
        match = _SCALAR.fullmatch(block.rest)
        if match is None or block.end > block.start + 1:
            raise ConfigError(
                f"{key} is written in a way that cannot be edited by lines",
                name=key,
                hint="entrepot config edit",
            )
        head = _body(lines[block.start])[: -len(block.rest) or None]
        new = f"{head}{match['lead'] or ' '}{scalar_text(value)}{match['comment'].rstrip()}"
        return [*lines[: block.start], new + _ending(lines, block.start), *lines[block.end :]]

    after = "".join(change(_lines(text)))
    if str(_parsed(after).values.get(key)).lower() != value.lower():
        raise ConfigError(
            f"{key} cannot be set to {value!r} by lines",
            name=key,
            value=value,
            hint="entrepot config edit",
        )
    return after


def without_key(text: str, key: str) -> str:
    """The text without a key and what stands under it.

    Raises:
        ConfigError: the key is not there, or the file is broken.
    """
    _parsed(text)
    lines = _lines(text)
    block = _find(lines, key)
    if block is None:
        raise ConfigError(f"{key} is not set here", name=key)
    after = "".join([*lines[: block.start], *lines[block.end :]])
    if key in _parsed(after).values:
        raise ConfigError(
            f"{key} cannot be removed by lines", name=key, hint="entrepot config edit"
        )
    return after


def lines_of(text: str, key: str) -> str:
    """A key as it stands in the text, with what is below it; empty when it is not there."""
    lines = _lines(text)
    block = _find(lines, key)
    return "".join(lines[block.start : block.end]) if block else ""


def with_lines(text: str, key: str, block: str) -> str:
    """The text with a key as it stood before, in the place where it stands now, else at the end.

    Raises:
        ConfigError: the file is broken, or another key would change.
    """
    document = _parsed(text)
    lines = _lines(text)
    now = _find(lines, key)
    if now is None:
        after = "".join([*_appended(lines, []), block])
    else:
        end, was = now.end, _lines(block)
        while end < len(lines) and lines[end].lstrip().startswith("#") and lines[end] in was:
            end += 1  # a comment that stood among the entries and stands below them now
        rest = lines[end:]
        after = "".join(
            [
                *lines[: now.start],
                block + (_ending(lines, 0) if rest and not _NEWLINE.search(block) else ""),
                *rest,
            ]
        )
    others = {name: value for name, value in document.values.items() if name != key}
    if {name: value for name, value in _parsed(after).values.items() if name != key} != others:
        raise ConfigError(
            f"{key} cannot be put back by lines", name=key, hint="entrepot config edit"
        )
    return after


def mend(text: str) -> tuple[str, list[str]]:
    """The text made readable: tabs for blanks, unclosed brackets, strings where lists belong.

    And what was done, with lines.
    """
    done: list[str] = []
    lines = _lines(text)
    for number, line in enumerate(lines):
        lead = line[: len(line) - len(line.lstrip(" \t"))]
        if "\t" in lead:
            lines[number] = lead.replace("\t", "  ") + line.lstrip(" \t")
            done.append(f"replaced the tab in line {number + 1} by blanks")
    for number, line in enumerate(lines):
        match = _KEY.fullmatch(_body(line))
        value = match["rest"].strip() if match else ""
        if (
            value.startswith("[")
            and value.count("[") > value.count("]")
            and _next_is_key(lines, number)
        ):
            lines[number] = f"{_body(line).rstrip()}]{_ending(lines, number)}"
            done.append(f"closed the bracket in line {number + 1}")
    text = "".join(lines)
    for key in ("pkgs_dirs", "envs_dirs"):
        document = _raw(text)
        value = document.values.get(key)
        if not document.problem and isinstance(value, str):
            lines = _lines(text)
            block = _find(lines, key)
            match = (
                _SCALAR.fullmatch(block.rest) if block and block.end == block.start + 1 else None
            )
            if block and match:
                end = _ending(lines, block.start)
                head = _body(lines[block.start])[: -len(block.rest)]
                new = [
                    f"{head}{match['comment'].rstrip()}{end}",
                    f"  - {match['value'].strip()}{end}",
                ]
                text = "".join([*lines[: block.start], *new, *lines[block.end :]])
                done.append(f"line {block.start + 1}: {key} made a list")
    return text, done


# -- lines -----------------------------------------------------------------------------------------


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _body(line: str) -> str:
    return _NEWLINE.sub("", line)


def _ending(lines: list[str], number: int) -> str:
    """The newline of a line, else that of the file."""
    for line in (lines[number : number + 1] if lines else []) + lines[:1]:
        if match := _NEWLINE.search(line):
            return match[0]
    return "\n"


def _next_is_key(lines: list[str], number: int) -> bool:
    """Whether the next line that says anything begins another key.

    The bracket cannot be meant to go on.
    """
    for line in lines[number + 1 :]:
        if line.strip() and not line.lstrip().startswith("#"):
            return _KEY.fullmatch(_body(line)) is not None
    return True


def _find(lines: list[str], key: str) -> _Block | None:
    for number, line in enumerate(lines):
        match = _KEY.fullmatch(_body(line).removeprefix("\ufeff"))
        if match and match["key"] == key:
            return _extent(lines, number, match["rest"])
    return None


def _extent(lines: list[str], start: int, rest: str) -> _Block:
    items: list[int] = []
    end = start + 1
    for number in range(start + 1, len(lines)):
        line = _body(lines[number])
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ITEM.fullmatch(line)
        if match and (not items or len(match["indent"]) == _indent(lines[items[0]])):
            items.append(number)
        elif not line.startswith((" ", "\t", "]")) or (
            match and len(match["indent"]) < _indent(lines[items[0]])
        ):
            break
        end = number + 1
    return _Block(start, end, rest, items)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _appended(lines: list[str], new: list[str]) -> list[str]:
    end = _ending(lines, 0)
    if "".join(lines).strip() == "{}":
        lines = []
    if lines and not _NEWLINE.search(lines[-1]):
        lines = [*lines[:-1], lines[-1] + end]
    return [*lines, *(line + end for line in new)]


# -- lists -----------------------------------------------------------------------------------------


def _insert(lines: list[str], key: str, value: str, where: str, *, known: bool) -> list[str]:
    moved = ""
    if known:
        lines, moved = _take_out(lines, key, value)
    block = _find(lines, key)
    if block is None:
        return _appended(lines, [f"{key}:", f"  - {quoted(value)}"])
    if _flow(block, lines) is not None:
        return _into_flow(lines, block, value, where, moved)
    if not block.items:
        return _into_nothing(lines, block, value, moved)
    at = block.items[0] if where == "first" else block.items[-1] + 1
    indent = " " * _indent(lines[block.items[0]])
    new = f"{indent}- {moved.strip() or quoted(value)}{_ending(lines, block.start)}"
    if at == len(lines) and not _NEWLINE.search(lines[-1]):
        lines = [*lines[:-1], lines[-1] + _ending(lines, 0)]
    return [*lines[:at], new, *lines[at:]]


def _into_nothing(lines: list[str], block: _Block, value: str, moved: str) -> list[str]:
    """A key without a value, with ``~`` or with nothing below it."""
    match = _SCALAR.fullmatch(block.rest)
    if match is None or match["value"].strip() not in {"", "~", "null"}:
        raise ConfigError(f"{block.rest.strip()!r} is not a list", hint="correct the file first")
    end = _ending(lines, block.start)
    head = _body(lines[block.start])
    gap = "" if match["value"].strip() else match["lead"]
    head = (head[: -len(block.rest)] if block.rest else head) + (gap + match["comment"]).rstrip()
    return [
        *lines[: block.start],
        head + end,
        f"  - {moved.strip() or quoted(value)}{end}",
        *lines[block.start + 1 :],
    ]


def _take_out(lines: list[str], key: str, value: str) -> tuple[list[str], str]:
    """The lines without any occurrence of an entry, and the entry as written, with its comment."""
    block = _find(lines, key)
    assert block is not None  # the caller saw it parsed
    if _flow(block, lines) is not None:
        return _out_of_flow(lines, block, value), ""
    gone = [number for number in block.items if _item_value(lines[number]) == value]
    if not gone:
        raise ConfigError(
            f"{value!r} is written in a way that cannot be edited by lines",
            name=key,
            hint="entrepot config edit",
        )
    match = _ITEM.fullmatch(_body(lines[gone[0]]))
    written = match["rest"].strip() if match else ""
    left = [line for number, line in enumerate(lines) if number not in gone]
    if len(gone) == len(block.items):
        line = _body(lines[block.start])
        head, rest = (line[: -len(block.rest)], block.rest) if block.rest else (line, "")
        left[block.start] = f"{head} []{rest.rstrip()}{_ending(lines, block.start)}"
    return left, written


def _item_value(line: str) -> str | None:
    match = _ITEM.fullmatch(_body(line))
    scalar = _SCALAR.fullmatch(match["rest"]) if match else None
    if scalar is None:
        return None
    found = _raw(f"k:\n  - {scalar['value']}\n").lists.get("k")
    return found.items[0].text if found and len(found.items) == 1 else None


def _flow(block: _Block, lines: list[str]) -> tuple[int, int] | None:
    """Start and end of ``[...]`` in the block's text, brackets included.

    ``None`` when the list is none of these.
    """
    if not block.rest.lstrip().startswith("["):
        return None
    text = "".join(lines[block.start : block.end])
    start = text.index("[")
    return start, text.rindex("]") + 1


def _pieces(inner: str) -> list[str]:
    """Entries of a flow list as they are written, blanks and line breaks included."""
    return [
        piece
        for piece in re.findall(r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|#[^\n]*|[^,])+""", inner)
        if piece.strip()
    ]


def _into_flow(lines: list[str], block: _Block, value: str, where: str, moved: str) -> list[str]:
    del moved  # an entry of a flow list has no comment of its own
    return _reflowed(
        lines,
        block,
        lambda pieces: [quoted(value), *pieces] if where == "first" else [*pieces, quoted(value)],
    )


def _out_of_flow(lines: list[str], block: _Block, value: str) -> list[str]:
    def without(pieces: list[str]) -> list[str]:
        return [piece for piece in pieces if _item_value(f"- {piece.strip()}") != value]

    return _reflowed(lines, block, without)


def _reflowed(
    lines: list[str], block: _Block, change: Callable[[list[str]], list[str]]
) -> list[str]:
    span = _flow(block, lines)
    assert span is not None  # asked before
    text = "".join(lines[block.start : block.end])
    inner = text[span[0] + 1 : span[1] - 1]
    if "#" in inner:
        raise ConfigError(
            "a list in brackets with comments inside cannot be edited by lines",
            hint="entrepot config edit",
        )
    pieces = change([piece.strip() for piece in _pieces(inner)])
    new = f"{text[: span[0]]}[{', '.join(pieces)}]{text[span[1] :]}"
    return [*lines[: block.start], *_lines(new), *lines[block.end :]]


# -- checks ----------------------------------------------------------------------------------------


def _raw(text: str) -> Document:
    return read_yaml(Path("condarc"), text.removeprefix("\ufeff"))


def _parsed(text: str) -> Document:
    document = _raw(text)
    if document.problem:
        problem = document.problem.removeprefix("condarc").lstrip(":").strip()
        raise ConfigError(
            f"it is broken: line {problem}"
            if problem[:1].isdigit()
            else f"it is broken: {problem}",
            fix="--mend",
        )
    return document


def _entries(text: str, key: str) -> list[str]:
    document = _parsed(text)
    value: Any = document.values.get(key)
    if value is not None and not isinstance(value, list):
        line = document.lines.get(key, 0)
        raise ConfigError(
            f"line {line}: {key} is not a list but {str(value)!r}",
            name=key,
            fix="--mend",
        )
    return [item.text for item in document.lists[key].items] if key in document.lists else []


def _checked(
    text: str, change: Callable[[list[str]], list[str]], key: str, expected: list[str]
) -> str:
    after = "".join(change(_lines(text)))
    found = _raw(after)
    was = {name: value for name, value in _raw(text).values.items() if name != key}
    if (
        found.problem
        or _entries(after, key) != expected
        or was != {n: v for n, v in found.values.items() if n != key}
    ):
        raise ConfigError(
            f"{key} is written in a way that cannot be edited by lines",
            name=key,
            hint="entrepot config edit",
        )
    return (
        after
        if _flags(after, key, expected) == _flags(text, key, expected)
        else _unhidden(text, after, key, expected)
    )


def _flags(text: str, key: str, entries: list[str]) -> dict[str, str]:
    """The markers that conda sees.

    Of the key under an empty name, and of those entries of the list that are marked.
    """
    value = _raw(text).lists.get(key)
    if value is None:
        return {}
    found = {"": value.flag, **{item.text: item.flag for item in value.items}}
    return {name: flag for name, flag in found.items() if flag and (not name or name in entries)}


def _unhidden(text: str, after: str, key: str, expected: list[str]) -> str:
    """The text with comment lines put before the entry whose marker they hide.

    Conda wants the next entry right below a marker.
    """
    lines = _lines(after)
    block = _find(lines, key)
    for number in reversed([block.start, *block.items] if block else []):
        end = number + 1
        while end < len(lines) and lines[end].lstrip().startswith("#"):
            end += 1
        if (
            block
            and end > number + 1
            and end in block.items
            and MARKER.search(_body(lines[number]))
        ):
            marked, comments, following = lines[number], lines[number + 1 : end], lines[end]
            swapped = (
                [marked, following, *comments]
                if number == block.start
                else [*comments, marked, following]
            )
            lines[number : end + 1] = swapped
    done = "".join(lines)
    if _entries(done, key) != expected or _flags(done, key, expected) != _flags(
        text, key, expected
    ):
        raise ConfigError(
            f"{key}: a marker such as #!top would change its effect: a comment line below it hides "
            "it from conda",
            name=key,
            hint="entrepot config edit",
        )
    return done
