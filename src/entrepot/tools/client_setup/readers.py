"""Readers of the clients' files: each gives ``(keys, value)``, keys from the outermost in.

What is absent or broken gives nothing: a command must not stop for a file that its tool would take
or refuse by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from entrepot.tools._shared.safe_read import read_text, read_toml

Item = tuple[tuple[str, ...], str]
"""Keys and value."""


def toml(path: Path) -> Iterator[Item]:
    """A TOML file."""
    return items(read_toml(path))


def items(data: object, keys: tuple[str, ...] = ()) -> Iterator[Item]:
    """Every string of a parsed document; lists add no key."""
    if isinstance(data, str):
        yield keys, data
    elif isinstance(data, Mapping):
        for key, item in data.items():
            yield from items(item, (*keys, key))
    elif isinstance(data, list):
        for item in data:
            yield from items(item, keys)


def ini(path: Path) -> Iterable[Item]:
    """A file in pip's syntax: every section, in file order; ``Index_URL`` is ``index-url``.

    Source: pip 26.3, ``configuration.py``: ``RawConfigParser``, leading dashes dropped from keys.
    """
    import configparser  # noqa: PLC0415  # 8 ms that a start without such files does not pay

    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    try:
        parser.read_string(read_text(path))
    except configparser.Error:
        return []
    return [
        ((key.strip().lower().replace("_", "-").removeprefix("--"),), value)
        for section in parser.sections()
        for key, value in parser.items(section)
        if value
    ]


_SECTION = re.compile(r'^\[\s*(?P<name>[\w.-]+)(?:\s+"(?P<sub>[^"]*)")?\s*\](?P<rest>.*)$')


def sections(path: Path) -> Iterator[Item]:
    """A file of git or npm: section, subsection and key, what is absent left out.

    Section and key in lower case. Files that git's would include are not followed.
    """
    section: tuple[str, ...] = ()
    for line in read_text(path).splitlines():
        text = line.strip()
        if match := _SECTION.match(text):
            section = (match["name"].lower(), *filter(None, [match["sub"]]))
            text = match["rest"].strip()
        key, equals, value = text.partition("=")
        if equals and not key.startswith(("#", ";")):
            yield (*section, key.strip().lower()), value.strip().strip("\"'")


def curlrc(path: Path) -> Iterator[Item]:
    """A file of curl: option and value, with a blank, ``=`` or ``:`` between them."""
    for line in read_text(path).splitlines():
        name, *value = re.split(r"[ \t]*[=: \t][ \t]*", line.strip(), maxsplit=1)
        if value and not name.startswith("#"):
            yield (name.lstrip("-"),), value[0].strip().strip('"')


_LINE = re.compile(
    r"""^(?P<indent>[ \t]*(?:-[ \t]+)*)"""
    r"""(?:(?P<key>"[^"]*"|'[^']*'|[^\s"'#:\[{][^:#]*?)[ \t]*:(?=\s|$))?(?P<value>.*)$"""
)
_COMMENT = re.compile(r"(?:^|\s)#.*$")


def yaml_lines(text: str) -> Iterator[Item]:
    r"""Every line of a YAML file that has a key or a value, list markers and quotes removed.

    A parser costs more time at the start of a command than all clients' set-up, and would refuse
    files that conda itself takes. Flow sequences are read as text; anchors, tags and block scalars
    are not understood.

    >>> list(yaml_lines("channels:\n  - https://a.test/x  # ours\nssl_verify: false"))
    [(('channels',), ''), (('channels',), 'https://a.test/x'), (('ssl_verify',), 'false')]
    """
    open_keys: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = _LINE.match(_COMMENT.sub("", line))
        if match is None or not match[0].strip() or match[0].startswith(("---", "...", "%")):
            continue
        depth, value = len(match["indent"].expandtabs()), match["value"].strip().strip("\"'")
        is_item = "-" in match["indent"]
        key = match["key"].strip("\"'") if match["key"] else None
        outer = depth - len(match["indent"].lstrip()) if is_item else depth
        # A list may stand at its key's own depth; a key closes all keys at its depth.
        open_keys = [
            (at, name) for at, name in open_keys if (at <= outer if is_item else at < depth)
        ]
        if key is not None:
            open_keys.append((depth, key))
        yield tuple(name for _, name in open_keys), value


def yaml(path: Path) -> Iterator[Item]:
    """A YAML file, roughly."""
    return ((keys, value) for keys, value in yaml_lines(read_text(path)) if keys)
