"""Editing a condarc by its text: only what was asked for changes.

Comments, markers, order and newlines stay. Text in, text out. ruamel.yaml, conda's own parser,
tells where a key and its entries stand; it would not write them as they were (blanks, quotes, line
ends), and conda, which writes with it, loses the comments of a list that it removes from (conda
26.7, by experiment). Every result is read again before it is given back: an edit that would not do
what it says, or would do more, is refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from entrepot.errors import ConfigError
from entrepot.tools.conda.condarc import MARKER, Document, read_yaml

BY_HAND = "entrepot config edit"
"""The hint of an error; who knows the tool's name puts it in."""
_SAFE = re.compile(r"(?:[/A-Za-z$]|~[/\\])(?:[^\s:#'\"\[\]{},&*!|>%@`]|:(?=\S))*")
_WORDS = frozenset("true false null yes no on off y n".split())
_LINE = re.compile(r"[^\r\n]*(\r\n|\r|\n|)")
_DASH = re.compile(r"[ ]*-[ \t]+")


@dataclass(frozen=True, slots=True)
class _Key:
    """Where a top-level key stands, in characters of the text."""

    start: int
    """Of its line."""
    colon: int
    """One past the colon."""
    value: tuple[int, int]
    items: list[tuple[int, int]] | None
    """Entries of a list; ``None``: it is none."""
    in_brackets: bool
    end: int
    """One past its last line; comments and blank lines below it do not count."""


def quoted(value: str) -> str:
    """A value as YAML: plain where that is safe.

    >>> quoted("/a/b"), quoted("a: b"), quoted("~")
    ('/a/b', '"a: b"', '"~"')
    """
    plain = _SAFE.fullmatch(value) and value.lower() not in _WORDS
    return value if plain else json.dumps(value, ensure_ascii=False)


def with_item(text: str, key: str, value: str, where: Literal["first", "last"] = "first") -> str:
    """The text with a list's entry put first or last; one that is there moves, with its comment.

    Raises:
        ConfigError: the file is broken, or the key holds no list.
    """
    before = _entries(text, key)
    rest = [each for each in before if each != value]
    expected = [value, *rest] if where == "first" else [*rest, value]
    if expected == before:
        return text
    after, entry = _taken_out(text, key, value) if value in before else (text, quoted(value))
    key_at, newline = _find(after, key), _newline(text)
    if key_at is None:
        return _checked(text, _appended(after, f"{key}:{newline}  - {entry}"), key, expected)
    start, end = key_at.value
    if key_at.in_brackets:
        pieces = [after[a:b] for a, b in key_at.items or ()]
        pieces.insert(0 if where == "first" else len(pieces), quoted(value))
        after = _in_brackets(after, key_at, pieces)
    elif key_at.items:
        first, last = key_at.items[0][0], key_at.items[-1][1]
        begins = _line_start(after, first)
        at = begins if where == "first" else _line_end(after, last)
        indent = re.match(" *", after[begins:])[0]  # type: ignore[index]
        apart = "" if after[:at].endswith(("\n", "\r")) else newline
        after = f"{after[:at]}{apart}{indent}- {entry}{newline}{after[at:]}"
    elif after[start:end] in {"", "~", "null"}:
        rest_of_line = after[end : _line_end(after, end)].rstrip()
        head = after[:start].rstrip(" \t")
        new = f"{rest_of_line}{newline}  - {entry}{newline}"
        after = head + new + after[_line_end(after, end) :]
    else:
        why = f"{key} is not a list that can be edited by lines"
        raise ConfigError(why, name=key, hint=BY_HAND)
    return _checked(text, after, key, expected)


def without_item(text: str, key: str, value: str) -> str:
    """The text without an entry of a list; the last one leaves ``[]``.

    Raises:
        ConfigError: the entry is not there, the file is broken, or the key holds no list.
    """
    before = _entries(text, key)
    if value not in before:
        hint = "the text must be exactly as it is written"
        raise ConfigError(f"{key} has no entry {value!r}", name=key, value=value, hint=hint)
    after = _taken_out(text, key, value)[0]
    return _checked(text, after, key, [each for each in before if each != value])


def with_scalar(text: str, key: str, value: str) -> str:
    """The text with a scalar set; its comment stays.

    Truth values and numbers are written as what they look like.

    Raises:
        ConfigError: the file is broken, or the key holds a list or a mapping.
    """
    document, key_at = _parsed(text), _find(text, key)
    if isinstance(document.values.get(key), list | dict):
        raise ConfigError(f"{key} holds a list or a mapping, not one value", name=key, value=value)
    plain = value.lower() in _WORDS or re.fullmatch(r"[+-]?\d+(?:\.\d+)?", value)
    scalar = value if plain else quoted(value)
    if key_at is None:
        after = _appended(text, f"{key}: {scalar}")
    else:
        start, end = key_at.value
        if "\n" in text[start:end] or "\r" in text[start:end]:
            raise _unwritable(key)
        rest = re.sub(r"\A[ \t]+(?=[\r\n]|\Z)", "", text[end:])
        after = f"{text[:start]}{' ' if start == key_at.colon else ''}{scalar}{rest}"
    return _checked(text, after, key, value)


def without_key(text: str, key: str) -> str:
    """The text without a key and what stands under it.

    Raises:
        ConfigError: the key is not there, or the file is broken.
    """
    _parsed(text)
    key_at = _find(text, key)
    if key_at is None:
        raise ConfigError(f"{key} is not set here", name=key)
    return _checked(text, text[: key_at.start] + text[key_at.end :], key, None)


# -- places in the text ----------------------------------------------------------------------------


def _find(text: str, key: str) -> _Key | None:
    from ruamel.yaml import YAML  # noqa: PLC0415  # late: only editing needs it
    from ruamel.yaml.events import (  # noqa: PLC0415
        CollectionEndEvent,
        CollectionStartEvent,
        MappingStartEvent,
        NodeEvent,
        SequenceStartEvent,
    )

    mark = text.startswith("\ufeff")
    seen = (NodeEvent, CollectionEndEvent)
    events = (event for event in YAML().parse(text[mark:]) if isinstance(event, seen))

    def node() -> tuple[Any, tuple[int, int], list[Any]]:
        """An event, from where to where what it begins goes, and what is in it."""
        event: Any = next(events, None)
        inner: list[Any] = []
        end = event.end_mark.index + mark if event else 0
        if isinstance(event, CollectionStartEvent):
            while not isinstance((each := node())[0], CollectionEndEvent):
                inner.append(each)
            end = each[1][1]
        return event, (event.start_mark.index + mark if event else 0, end), inner

    root, _, inner = node()
    pairs = zip(inner[::2], inner[1::2], strict=True) if isinstance(root, MappingStartEvent) else ()
    found = next((pair for pair in pairs if getattr(pair[0][0], "value", "") == key), None)
    if found is None:
        return None
    (_, (name_start, name_end), _), (event, value, entries) = found
    start, colon = _line_start(text, name_start), text.index(":", name_end) + 1
    if value[0] == value[1]:  # no value: the mark is where the next token begins
        value = (colon, colon)
    lines = text[start : value[1]].splitlines(keepends=True)
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    end = start + len("".join(lines))
    if not lines[-1].endswith(("\n", "\r")):
        end = _line_end(text, end)
    is_list = isinstance(event, SequenceStartEvent)
    items = [entry[1] for entry in entries] if is_list else None
    return _Key(start, colon, value, items, is_list and bool(event.flow_style), end)


def _line_start(text: str, at: int) -> int:
    return max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)) + 1


def _line_end(text: str, at: int) -> int:
    """One past the line that a place is in, its newline included."""
    match = _LINE.match(text, at)
    return match.end() if match else len(text)


def _newline(text: str) -> str:
    match = _LINE.match(text)
    return (match[1] if match else "") or "\n"


def _appended(text: str, lines: str) -> str:
    newline = _newline(text)
    if text.strip() == "{}":  # what conda leaves of an empty file
        text = ""
    if text.removeprefix("\ufeff") and not text.endswith(("\n", "\r")):
        text += newline
    return f"{text}{lines}{newline}"


def _taken_out(text: str, key: str, value: str) -> tuple[str, str]:
    """The text without any occurrence of an entry, and the entry as written, with its comment."""
    entries, key_at = _entries(text, key), _find(text, key)
    if key_at is None or key_at.items is None or len(key_at.items) != len(entries):
        raise _unwritable(key)
    gone = [item for item, entry in zip(key_at.items, entries, strict=True) if entry == value]
    if key_at.in_brackets:
        pieces = [text[a:b] for a, b in key_at.items if (a, b) not in gone]
        return _in_brackets(text, key_at, pieces), quoted(value)
    entry = text[gone[0][0] : _line_end(text, gone[0][1])].strip()
    after = text
    for start, end in reversed(gone):
        begins = _line_start(text, start)
        if not _DASH.fullmatch(text, begins, start) or "\n" in text[start:end]:
            raise _unwritable(key)
        after = after[:begins] + after[_line_end(text, end) :]
    if len(gone) == len(entries):
        after = f"{after[: key_at.colon]} []{after[key_at.colon :]}"
    return after, entry


def _in_brackets(text: str, key_at: _Key, pieces: list[str]) -> str:
    start, end = text.index("[", key_at.value[0]), key_at.value[1]
    gaps, at = "", start
    for a, b in key_at.items or ():
        gaps, at = gaps + text[at:a], b
    if "#" in gaps + text[at:end]:
        raise ConfigError(
            "a list in brackets with comments inside cannot be edited by lines", hint=BY_HAND
        )
    return f"{text[:start]}[{', '.join(pieces)}]{text[end:]}"


# -- checks ----------------------------------------------------------------------------------------


def _raw(text: str) -> Document:
    return read_yaml(Path("condarc"), text.removeprefix("\ufeff"))


def _parsed(text: str) -> Document:
    document = _raw(text)
    if document.problem:
        problem = document.problem.removeprefix("condarc").lstrip(":").strip()
        line = "line " if problem[:1].isdigit() else ""
        raise ConfigError(f"it is broken: {line}{problem}", hint=BY_HAND)
    return document


def _entries(text: str, key: str) -> list[str]:
    document = _parsed(text)
    value: Any = document.values.get(key)
    if value is not None and not isinstance(value, list):
        line = document.lines.get(key, 0)
        raise ConfigError(
            f"line {line}: {key} is not a list but {str(value)!r}", name=key, hint=BY_HAND
        )
    return [item.text for item in document.lists[key].items] if key in document.lists else []


def _unwritable(key: str) -> ConfigError:
    return ConfigError(
        f"{key} is written in a way that cannot be edited by lines", name=key, hint=BY_HAND
    )


def _checked(text: str, after: str, key: str, expected: list[str] | str | None) -> str:
    """The new text, once conda's parser read in it what was asked for and all else as it was.

    Markers count: a comment line that would come to stand below one is put elsewhere, because
    conda wants the next entry right below it.
    """
    was, now = _raw(text), _raw(after)
    markers = _markers(was, key, expected)
    if not _is_as_asked(was, now, key, expected):
        raise _unwritable(key)
    if _markers(now, key, expected) == markers:
        return after
    after = _unhidden(after, now, key)
    now = _raw(after)
    if _is_as_asked(was, now, key, expected) and _markers(now, key, expected) == markers:
        return after
    raise ConfigError(
        f"{key}: a marker such as #!top would change its effect: a comment line below it hides "
        "it from conda",
        name=key,
        hint=BY_HAND,
    )


def _is_as_asked(was: Document, now: Document, key: str, expected: list[str] | str | None) -> bool:
    before, after = dict(was.values), dict(now.values)
    before.pop(key, None)
    found: Any = after.pop(key, None)
    if isinstance(expected, list):
        found = [item.text for item in now.lists[key].items] if key in now.lists else []
    elif expected is not None:
        found, expected = str(found).lower(), expected.lower()
    return not now.problem and found == expected and before == after


def _markers(
    document: Document, key: str, expected: list[str] | str | None
) -> dict[tuple[str, str], str]:
    """The markers that conda sees, of lists (under an empty name) and of entries.

    Of the changed key's, those of what stays.
    """
    found = {(name, ""): each.flag for name, each in document.lists.items()}
    found |= {(n, item.text): item.flag for n, v in document.lists.items() for item in v.items}
    stay = ["", *expected] if isinstance(expected, list) else []
    return {at: flag for at, flag in found.items() if flag and (at[0] != key or at[1] in stay)}


def _unhidden(text: str, document: Document, key: str) -> str:
    """The text with comment lines put before the entry whose marker they hide."""
    lines = [match[0] for match in _LINE.finditer(text) if match[0]]
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += _newline(text)
    found = document.lists.get(key)
    at = [found.line - 1, *(item.line - 1 for item in found.items)] if found else []
    for number in reversed(at):
        end = number + 1
        while end < len(lines) and lines[end].lstrip().startswith("#"):
            end += 1
        if end > number + 1 and end in at and MARKER.search(lines[number]):
            marked, comments, following = lines[number], lines[number + 1 : end], lines[end]
            lines[number : end + 1] = (
                [marked, following, *comments]
                if number == at[0]
                else [*comments, marked, following]
            )
    return "".join(lines)
