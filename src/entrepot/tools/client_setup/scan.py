"""Finding indexes in text.

Requirement files, Makefiles, tox.ini, noxfiles, shell scripts, lock files.

The files are never run and only roughly parsed; what counts is an option, a variable or a key that
names an index, with its URL beside it. Comments do not count.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from entrepot.tools._shared.safe_read import LOCK_LIMIT_BYTES, is_file, read_text
from entrepot.tools.client_setup.found_urls import URL, Findings

_COMMENT = re.compile(r"(?:^|(?<=\s))#.*")
_NEEDLES = tuple(
    ":// $ -r -c index Index INDEX links LINKS URL MIRROR CHANNEL ALIAS requirement constraint "
    "override".split()
)
"""One of these is in every line that a pattern below matches."""
_CONTINUED = re.compile(r"\\\r?\n[ \t]*")
_BETWEEN = r"""["']?(?:\s*[=,:]\s*|[ \t]+)["']?"""
_OPTION = re.compile(
    r"(?<![\w-])(?:--(?:index(?:-url)?|extra-index(?:-url)?|default-index|pypi-url|find-links)"
    r"|-i|-f)" + _BETWEEN + r"(?P<value>\S+)"
)
_NAME = re.compile(r"[A-Za-z_]\w{0,60}")
_SET_TO = r"[ \t]*(?::[^=\n]{1,40})?[:?+]{0,3}=[ \t]*(?P<value>[^\n]*)"
"""Behind a name: that it is set, in make, in a shell or in Python (with or without a type)."""
_MOST_NAMES = 4
_GLUED = re.compile(r"(?<![\w-])-[if](?P<value>https?://\S+)")
_OTHERS = re.compile(r"\b(?:curl|wget|https?|xh|aria2c|sed|grep)\s[^;&|]*$")
_VARIABLE = re.compile(
    r"\b(?!\w*(?:PUBLISH|PYTHON_INSTALL|PROXY))(?:PIP|UV|PDM|PIPENV|POETRY|CONDA|MAMBA|PIXI)_"
    r"\w*(?:INDEX|URL|LINKS|MIRROR|CHANNEL|ALIAS)\w*[\"']?\]?\s*(?:[:?+]?=|:|,|\s)\s*"
    r"(?P<value>[^\n]*)"
)
_KEY = re.compile(
    r"(?m)^[ \t]*[\"']?(?:index[-_]url|extra[-_]index[-_]urls?|find[-_]links|dependency[-_]links"
    r"|indexserver|index[-_]servers?)"
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
_ORIGIN = re.compile(r"https?://[^/?#\s\"',}\]]+")
_LOCKED = re.compile(
    r"""(?:^|[\s{,"'-])(?:url|registry|index|conda|pypi|channels?|indexes)["']?"""
    r"""\s*[=:]\s*\[?["']?$"""
)
_VERSION_CONTROL = re.compile(
    r"""type["']?\s*[=:]\s*["']?(?:git|hg|svn|bzr|vcs)["']?[,\s]+["']?url["']?\s*[=:]\s*["']?$"""
)
_CONTEXT = 100
"""Characters before a URL that tell what it is."""
_MOST_FILES = 200


@dataclass(frozen=True, slots=True)
class Text:
    """What a text names."""

    urls: tuple[str, ...]
    files: tuple[str, ...]
    """Requirement and constraint files, as written."""


def telling_lines(text: str) -> str:
    """The lines that may tell something: continued ones joined, comments (not in URLs) left out.

    The patterns are slow on long files of hashes or code; a plain search for their fixed parts is
    not.
    """
    text = _CONTINUED.sub(" ", text) if "\\" in text else text
    needles = [needle for needle in _NEEDLES if needle in text]
    lines = [line for line in text.split("\n") if any(needle in line for needle in needles)]
    return "\n".join(_COMMENT.sub("", line) if "#" in line else line for line in lines)


@lru_cache(maxsize=256)
def scan(text: str, *, requirements: bool = False) -> Text:
    """Index URLs, direct references and requirement files in a text.

    Args:
        text: of any tool; at most a megabyte is useful.
        requirements: it is a requirement file: a line that starts with a URL is a requirement.
    """
    text = telling_lines(text)
    urls: dict[str, None] = {}
    if "://" in text or "$" in text:
        patterns = (_OPTION, _GLUED, _KEY, _REFERENCE, *((_BARE,) if requirements else ()))
        for pattern in patterns:
            for match in pattern.finditer(text):
                if pattern in (_OPTION, _GLUED) and _is_for_another(text, match):
                    continue
                urls.update(dict.fromkeys(_urls(match["value"])))
                if pattern is _OPTION and "://" not in match["value"]:
                    urls.update(dict.fromkeys(_set_here(text, match["value"])))
        for match in _VARIABLE.finditer(text):
            urls.update(dict.fromkeys(_urls(_value(match["value"]))))
    files = dict.fromkeys(match["value"] for match in _FILE.finditer(text))
    return Text(tuple(urls), tuple(files))


def _set_here(text: str, value: str) -> Iterator[str]:
    """URLs that the names in an option's value are set to in the same text.

    ``INDEX = URL`` for ``-i $(INDEX)``.

    So in Makefiles, shell scripts and noxfiles (``session.install("-i", INDEX, ...)``) alike.
    """
    for name in dict.fromkeys(_NAME.findall(value)[:_MOST_NAMES]):
        for match in re.finditer(rf"(?<![\w.-]){name}{_SET_TO}", text):
            yield from (url for url in _urls(_value(match["value"])) if "://" in url)


def _is_for_another(text: str, match: re.Match[str]) -> bool:
    """Whether a short option belongs to a program with another meaning for it: ``curl -f URL``."""
    line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
    return not match[0].startswith("--") and bool(_OTHERS.search(line))


def _urls(value: str) -> Iterator[str]:
    for match in URL.finditer(value):
        yield match[0]
    if "://" not in value and value.startswith("$"):
        value = value.strip("\"',;")
        yield value if value.startswith("$(") else value.rstrip(")")


def _value(rest: str) -> str:
    """What a variable is set to.

    The quoted string, or the words up to the first that holds no URL.
    """
    rest = rest.strip()
    if rest[:1] in ("'", '"'):
        return rest[1:].partition(rest[0])[0]
    words = rest.split()
    count = next(
        (i for i, word in enumerate(words) if "://" not in word and not word.startswith("$")),
        len(words),
    )
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


def take_lock(found: Findings, path: Path, *, will_be_read: bool) -> None:
    """Open the hosts that a lock file names.

    Note it for its digests when the child is going to read it.

    Digests of a lock that is not read are no promise: they would hold back files that the command
    rightly takes.
    """
    if is_file(path):
        found.indexes |= locked_origins(path)
        if will_be_read:
            found.lock(path)


def locked_origins(path: Path) -> set[str]:
    """``scheme://host/`` of every index and file that a lock file names.

    Version-control sources are left out.

    Lock files are long and name few hosts: a host is looked at until it is known, and no further.
    """
    text = read_text(path, LOCK_LIMIT_BYTES)
    origins: set[str] = set()
    for match in _ORIGIN.finditer(text):
        origin = match[0] + "/"
        if origin not in origins and _is_locked(
            text[max(0, match.start() - _CONTEXT) : match.start()]
        ):
            origins.add(origin)
    return origins


def _is_locked(before: str) -> bool:
    """Whether what stands before a URL makes it an index or a file.

    A key, or nothing (conda's explicit lists).
    """
    if not before or before.endswith("\n"):
        return True
    return bool(_LOCKED.search(before)) and not _VERSION_CONTROL.search(before)
