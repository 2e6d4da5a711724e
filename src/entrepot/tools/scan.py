"""Finding indexes in text: requirement files, Makefiles, tox.ini, noxfiles, shell scripts, lock files.

The files are never run and only roughly parsed; what counts is an option, a variable or a key that names an index,
with its URL beside it. Comments do not count.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from entrepot.tools.findings import URL
from entrepot.tools.reading import LOCK_LIMIT_BYTES, is_file, read_text

_COMMENT = re.compile(r"(?m)(?:^|(?<=\s))#[^\n]*")
_CONTINUED = re.compile(r"\\\r?\n[ \t]*")
_BETWEEN = r"""["']?(?:\s*[=,:]\s*|[ \t]+)["']?"""
_OPTION = re.compile(
    r"(?<![\w-])(?:--(?:index|extra-index|default-index|pypi|find-links|find)[a-z-]*|-i|-f)" + _BETWEEN + r"(?P<value>\S+)"
)
_GLUED = re.compile(r"(?<![\w-])-[if](?P<value>https?://\S+)")
_VARIABLE = re.compile(
    r"\b(?!\w*(?:PUBLISH|PYTHON_INSTALL|PROXY))(?:PIP|UV|PDM|PIPENV|POETRY|CONDA|MAMBA|PIXI)_"
    r"\w*(?:INDEX|URL|LINKS|MIRROR|CHANNEL|ALIAS)\w*[\"']?\]?\s*(?:[:?+]?=|:|,|\s)\s*(?P<value>[^\n]*)"
)
_KEY = re.compile(
    r"(?m)^[ \t]*[\"']?(?:index[-_]url|extra[-_]index[-_]urls?|find[-_]links|dependency[-_]links|indexserver|index[-_]servers?)"
    r"[\"']?[ \t]*[=:](?P<value>[^\n]*(?:\n[ \t]+[^\n]*)*)",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"[\w\])][ \t]*@[ \t]*(?P<value>https?://\S+)")
_BARE = re.compile(r"(?m)^[ \t]*(?P<value>https?://\S+)")
_FILE = re.compile(
    r"(?<![\w-])(?:--(?:requirements?|constraints?|build-constraints?|overrides?|with-requirements)"
    + _BETWEEN
    + r"|-[rc](?:"
    + _BETWEEN
    + r""")?)(?P<value>[^\s"',;)\]]+)"""
)
_LOCKED = re.compile(
    r"""type["']?\s*[=:]\s*["']?(?:git|hg|svn|bzr|vcs)["']?[,\s]+["']?url["']?\s*[=:]\s*\S+"""
    r"""|(?:^|[\s{,"'-])(?:url|registry|index|conda|pypi|channel|channels|indexes)["']?\s*[=:]\s*\[?["']?(?P<value>https?://[^\s"',}\]]+)"""
    r"""|^(?P<explicit>https?://\S+)""",
    re.MULTILINE,
)
_AUTHORITY = re.compile(r"https?://[^/?#\s]+", re.IGNORECASE)
_MOST_FILES = 200


@dataclass(frozen=True, slots=True)
class Text:
    """What a text names."""

    urls: tuple[str, ...]
    files: tuple[str, ...]
    """Requirement and constraint files, as written."""


def without_comments(text: str) -> str:
    """Continued lines joined, comments left out (a ``#`` inside a URL starts none)."""
    return _COMMENT.sub("", _CONTINUED.sub(" ", text)) if "#" in text or "\\" in text else text


def scan(text: str, *, requirements: bool = False) -> Text:
    """Index URLs, direct references and requirement files in a text.

    Args:
        text: of any tool; at most a megabyte is useful.
        requirements: it is a requirement file: a line that starts with a URL is a requirement.
    """
    text = without_comments(text)
    urls: dict[str, None] = {}
    if "://" in text or "$" in text:
        patterns = (_OPTION, _GLUED, _KEY, _REFERENCE, *((_BARE,) if requirements else ()))
        for pattern in patterns:
            for match in pattern.finditer(text):
                urls.update(dict.fromkeys(_urls(match["value"])))
        for match in _VARIABLE.finditer(text):
            urls.update(dict.fromkeys(_urls(_value(match["value"]))))
    files = dict.fromkeys(match["value"] for match in _FILE.finditer(text))
    return Text(tuple(urls), tuple(files))


def _urls(value: str) -> Iterator[str]:
    for match in URL.finditer(value):
        yield match[0]
    if "://" not in value and value.startswith("$"):
        yield value.strip("\"',;)")


def _value(rest: str) -> str:
    """What a variable is set to: the quoted string, or the words up to the first that holds no URL."""
    rest = rest.strip()
    if rest[:1] in ("'", '"'):
        return rest[1:].partition(rest[0])[0]
    words = rest.split()
    count = next((i for i, word in enumerate(words) if "://" not in word and not word.startswith("$")), len(words))
    return " ".join(words[:count])


def follow(starts: Iterable[Path]) -> Iterator[tuple[Path, Text]]:
    """Requirement files and all that they include, each once.

    Included names count from the file that includes them. Source: pip 26.3, ``req_file.py``.
    """
    queue = deque(starts)
    seen: set[Path] = set()
    while queue and len(seen) < _MOST_FILES:
        path = queue.popleft()
        if path in seen or not is_file(path):
            continue
        seen.add(path)
        text = scan(read_text(path), requirements=True)
        queue.extend(path.parent / name for name in text.files if "://" not in name)
        yield path, text


def locked_origins(path: Path) -> set[str]:
    """``scheme://host`` of every index and file that a lock file names; version-control sources are left out."""
    origins = set()
    for match in _LOCKED.finditer(read_text(path, LOCK_LIMIT_BYTES)):
        value = match["value"] or match["explicit"]
        if value and (origin := _AUTHORITY.match(value)):
            origins.add(origin[0] + "/")
    return origins
