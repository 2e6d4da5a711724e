"""Finding indexes in text: requirement files, Makefiles, tox.ini, noxfiles, scripts, lock files.

The files are never run and only roughly parsed. What counts is an option, a variable or a key that
names an index, with its URL beside it; comments do not count. An index that is named in another
way goes past the cache, and the last line of ``run`` names its host.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from entrepot.tools._shared.safe_read import LOCK_LIMIT_BYTES, is_file, read_text

URL = re.compile(r"""(?<![+\w])https?://(?:\$\{\w+\}|[^\s"'<>,;)\]}|\\`])+""", re.IGNORECASE)
"""A URL in text. A version-control URL (``git+https://``) is none; ``${NAME}`` inside belongs to
it."""

_COMMENT = re.compile(r"(?:^|(?<=\s))#.*")
_CONTINUED = re.compile(r"\\\r?\n[ \t]*")
_NEEDLES = tuple(
    ":// $ -r -c index Index INDEX links LINKS URL MIRROR CHANNEL ALIAS requirement constraint "
    "override".split()
)
"""One of these is in every line that a pattern below matches."""
_BETWEEN = r"""["']?(?:\s*[=,:]\s*|[ \t]+)["']?"""
_OPTION = re.compile(
    r"(?<![\w-])(?:(?:--(?:index(?:-url)?|extra-index(?:-url)?|default-index|pypi-url|find-links)"
    rf"|-i|-f){_BETWEEN}|-[if](?=https?://))(?P<value>\S+)"
)
_NOT_PIP = re.compile(r"\b(?:curl|wget|https?|xh|aria2c|sed|grep)\s[^;&|]*$")
"""Programs that give the short options another meaning: ``curl -f URL``."""
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
_NAME = re.compile(r"[A-Za-z_]\w{0,60}")
_MOST_NAMES = 4
_SET_TO = r"[ \t]*(?::[^=\n]{1,40})?[:?+]{0,3}=[ \t]*(?P<value>[^\n]*)"
"""Behind a name: that it is set, in make, in a shell or in Python (with or without a type)."""
_FILE = re.compile(
    r"(?<![\w-])(?:--(?:requirements?|constraints?|build-constraints?|overrides?|with-requirements)"
    rf"""{_BETWEEN}|-[rc](?:{_BETWEEN})?)(?P<value>[^\s"',;)\]]+)"""
)
_MOST_INCLUDED = 200


class Text(NamedTuple):
    """What a text names."""

    urls: tuple[str, ...]
    files: tuple[str, ...]
    """Requirement and constraint files on disk, as written."""


@lru_cache(maxsize=256)
def scan(text: str, *, requirements: bool = False) -> Text:
    """Index URLs, direct references and requirement files in a text.

    Args:
        text: of any tool; at most a megabyte is useful.
        requirements: it is a requirement file: a line that starts with a URL is a requirement.
    """
    # The patterns are slow on long files of hashes or code; a search for their fixed parts is not.
    needles = [needle for needle in _NEEDLES if needle in text]
    lines = (_CONTINUED.sub(" ", text) if "\\" in text else text).split("\n")
    lines = [line for line in lines if any(needle in line for needle in needles)]
    text = "\n".join(_COMMENT.sub("", line) if "#" in line else line for line in lines)
    found: list[str] = []
    if "://" in text or "$" in text:
        for match in _OPTION.finditer(text):
            before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
            if match[0].startswith("--") or not _NOT_PIP.search(before):
                found += (*_urls(match["value"]), *_urls_of_names(text, match["value"]))
        for pattern in (_KEY, _REFERENCE, *((_BARE,) if requirements else ())):
            found += (url for match in pattern.finditer(text) for url in _urls(match["value"]))
        for match in _VARIABLE.finditer(text):
            found += _urls(_value(match["value"]))
    files = dict.fromkeys(match["value"] for match in _FILE.finditer(text))
    found += (name for name in files if requirements and "://" in name)
    return Text(tuple(dict.fromkeys(found)), tuple(name for name in files if "://" not in name))


def _urls_of_names(text: str, value: str) -> Iterator[str]:
    """URLs that the names in an option's value are set to in the same text.

    ``INDEX = URL`` for ``-i $(INDEX)``. So in Makefiles, shell scripts and noxfiles
    (``session.install("-i", INDEX, ...)``) alike.
    """
    if "://" in value:
        return
    for name in dict.fromkeys(_NAME.findall(value)[:_MOST_NAMES]):
        for match in re.finditer(rf"(?<![\w.-]){name}{_SET_TO}", text):
            yield from (url for url in _urls(_value(match["value"])) if "://" in url)


def _urls(value: str) -> Iterator[str]:
    """The URLs in a value, or the variable that it is."""
    yield from (match[0] for match in URL.finditer(value))
    if "://" not in value and value.startswith("$"):
        value = value.strip("\"',;")
        yield value if value.startswith("$(") else value.rstrip(")")


def _value(rest: str) -> str:
    """What a variable is set to: the quoted string, or the words up to one without a URL."""
    rest = rest.strip()
    if rest[:1] in ("'", '"'):
        return rest[1:].partition(rest[0])[0]
    words = rest.split()
    is_other = ("://" not in word and not word.startswith("$") for word in words)
    return " ".join(words[: next((i for i, other in enumerate(is_other) if other), len(words))])


def requirement_files(starts: Iterable[Path]) -> Iterator[tuple[Path, Text]]:
    """Requirement files and all that they include, each once.

    Included names count from the file that includes them. Source: pip 26.3, ``req_file.py``.
    """
    queue = deque(starts)
    seen: set[Path] = set()
    while queue and len(seen) < _MOST_INCLUDED:
        path = queue.popleft()
        if path not in seen and is_file(path):
            seen.add(path)
            text = scan(read_text(path), requirements=True)
            queue.extend(path.parent / name for name in text.files)
            yield path, text


# lock files

_ORIGIN = re.compile(r"https?://(?:\$\{\w+\}|[^/?#\s\"',}\]])+")
_LOCKED = re.compile(
    r"""(?:^|[\s{,"'-])(?:url|registry|index|conda|pypi|channels?|indexes)["']?"""
    r"""\s*[=:]\s*\[?["']?$"""
)
_VERSION_CONTROL = re.compile(
    r"""type["']?\s*[=:]\s*["']?(?:git|hg|svn|bzr|vcs)["']?[,\s]+["']?url["']?\s*[=:]\s*["']?$"""
)
_CONTEXT = 100
"""Characters before a URL that tell what it is."""


def locked_origins(path: Path) -> set[str]:
    """``scheme://host/`` of every index and file that a lock file names, as written.

    Version-control sources are left out. A URL counts that is the value of a key of an index or a
    file, or that starts its line (conda's explicit lists).
    """
    text = read_text(path, LOCK_LIMIT_BYTES)
    origins: set[str] = set()
    for match in _ORIGIN.finditer(text):
        origin = match[0] + "/"
        # Lock files are long and name few hosts: a host is looked at until it is known.
        if origin in origins:
            continue
        before = text[max(0, match.start() - _CONTEXT) : match.start()]
        is_key = _LOCKED.search(before) and not _VERSION_CONTROL.search(before)
        if is_key or not before or before.endswith("\n"):
            origins.add(origin)
    return origins


# what programs that run other tools are told

_RUNNER_FILES = frozenset(
    "tox.ini setup.cfg setup.py noxfile.py makefile gnumakefile justfile .justfile taskfile.yml "
    "taskfile.yaml tasks.py dodo.py pyproject.toml hatch.toml tox.toml .env .envrc mise.toml "
    ".mise.toml pavement.py".split()
)
_RUNNER_SUFFIXES: tuple[str, ...] = (".sh", ".bash", ".mk", ".just")
_REQUIREMENT_FILES = re.compile(
    r".*requirements.*\.(?:txt|in)|constraints.*\.txt|requirements.*\.lock"
)
_FOLDERS = ("", "requirements", "scripts", "bin", "tools", "ci", ".ci")
_MOST_FILES = 100
_MOST_CHARACTERS = 8 << 20


def runner_files(roots: Iterable[Path]) -> Iterator[Path]:
    """Files by the names that make, tox, nox, just, hatch, task runners and scripts have.

    In every root and a few folders below.
    """
    for folder in (root / name for root in roots for name in _FOLDERS):
        try:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
        except OSError:
            continue
        suffixes = _RUNNER_SUFFIXES
        if folder.name == "requirements":
            suffixes += (".txt", ".in")
        for name in names:
            lower = name.lower()
            is_runner = lower in _RUNNER_FILES or lower.endswith(suffixes)
            if is_runner or _REQUIREMENT_FILES.fullmatch(lower):
                yield folder / name


def scan_runners(roots: Iterable[Path], named: Iterable[Path]) -> Iterator[tuple[Path, Text]]:
    """What each file tells that the command names or that a runner reads."""
    budget = _MOST_CHARACTERS
    for path in dict.fromkeys((*named, *islice(runner_files(roots), _MOST_FILES))):
        content = read_text(path)
        budget -= len(content)
        if budget < 0:
            return
        is_requirements = bool(_REQUIREMENT_FILES.fullmatch(path.name.lower()))
        yield path, scan(content, requirements=is_requirements)
