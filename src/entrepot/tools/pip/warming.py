"""Filling the store through a real pip.

Which items are asked for, the commands that fetch them, and what came of each.

``pip download`` fetches what ``pip install`` would, and what is needed to build the sdists among
it: it makes their metadata in an isolated environment, for which it fetches the back end, the back
end's own requirements and whatever these ask for.

Source: pip 20.3 to 26.3, "Requirements File Format" and ``commands/download.py``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from entrepot.errors import UsageError
from entrepot.names import classify, filename_of, normalize
from entrepot.ports.tool import Surroundings
from entrepot.tools.pip.interpreters import pips

_NAME = re.compile(r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)", re.ASCII)
_COMMENT = re.compile(r"(^|\s)#.*$")
_FILE_OPTION = re.compile(r"(-r|--requirement|-c|--constraint)[\s=]*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was asked for."""

    text: str
    """As it stands on its line, without options of its own."""
    line: str
    """The whole line for a requirement file."""
    options: tuple[str, ...] = ()
    """Lines of its file that concern every item in it: indexes, constraints."""

    @property
    def project(self) -> str | None:
        """The normalized name; ``None`` for a path or a bare URL."""
        if re.match(r"[A-Za-z][\w+.-]*://|[./~]|-e", self.text):
            found = classify(filename_of(self.text)) if "://" in self.text else None
            return normalize(found.project) if found else None
        named = _NAME.match(self.text)
        return normalize(named[1]) if named else None

    @property
    def hashed(self) -> bool:
        """Whether it names its digests: pip then wants those of every dependency too."""
        return "--hash" in self.line


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be fetched.

    Args are as on the command line.
    """

    names: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    platforms: tuple[str, ...] = ()

    def items(self) -> list[Item]:
        """Every item, in order; files that others name are read too.

        Raises:
            UsageError: a file cannot be read.
        """
        found = [Item(name, name) for name in self.names]
        seen: set[Path] = set()
        for path in self.files:
            found += _items_of(path, seen)
        return found

    def words(self, pip: Sequence[str], target: Path) -> list[str]:
        """The command that fetches all of it at once."""
        files = [word for path in self.files for word in ("-r", str(path))]
        return [*pip, *_COMMON, "-d", str(target), *self._platform_words, *files, *self.names]

    def words_alone(self, pip: Sequence[str], target: Path, item: Item, file: Path) -> list[str]:
        """The command that fetches one item; its line is written into ``file`` first."""
        text = "".join(f"{line}\n" for line in (*item.options, item.line))
        file.write_text(text, encoding="utf-8")
        alone = ["--no-deps"] if item.hashed else []
        return [*pip, *_COMMON, "-d", str(target), *self._platform_words, *alone, "-r", str(file)]

    @property
    def _platform_words(self) -> list[str]:
        tags = [word for tag in self.platforms for word in ("--platform", tag)]
        return ["--only-binary", ":all:", *tags] if tags else []


_COMMON = ("download", "--disable-pip-version-check", "--no-input", "--progress-bar", "off")

NO_CACHE = {"PIP_NO_CACHE_DIR": "1"}
"""Its own cache is off: what that holds would never come to the store. A variable, because pip does
not hand ``--no-cache-dir`` down to the pip that fetches build requirements."""


def sdist_words(
    pip: Sequence[str], target: Path, pins: Sequence[tuple[str, str]], files: Iterable[Path]
) -> list[str]:
    """The command that fetches the source archives of these versions, and what builds them.

    Indexes as the files name them.
    """
    alone = ["--no-deps", "--no-binary", ",".join(name for name, _ in pins)]
    options = [word for path in files for word in _index_words(path)]
    versions = [f"{name}=={version}" for name, version in pins]
    return [*pip, *_COMMON, "-d", str(target), *alone, *options, *versions]


def pip_words(around: Surroundings) -> list[str]:
    """``python -m pip`` of the pip that is meant.

    Ours, working for that interpreter, when it has none.
    """
    found = pips(around)[0]
    if found.text != "?":
        return [str(found.python), "-m", "pip"]
    return [sys.executable, "-m", "pip", "--python", str(found.python)]


def pin_of(filename: str) -> tuple[str, str] | None:
    """Normalized name and version of a downloaded file; ``None`` when its name does not say."""
    found = classify(filename)
    return (normalize(found.project), str(found.version)) if found and found.version else None


def reason(log: str) -> str:
    r"""The sentence of pip's output that says why it failed.

    >>> reason("Collecting x\nERROR: No version\nERROR: No matching distribution found for x\n")
    'No matching distribution found for x'
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.lower().startswith("error") for line in lines]
    said = [line for line, is_error in zip(lines, errors, strict=True) if is_error] or lines[-1:]
    return re.sub(r"^error:\s*", "", said[-1], flags=re.IGNORECASE) if said else "pip said nothing"


def _items_of(path: Path, seen: set[Path]) -> list[Item]:
    try:
        lines = _logical_lines(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    if path.resolve() in seen:
        return []
    seen.add(path.resolve())
    options, own, nested = [], [], []
    for line in lines:
        other = _FILE_OPTION.fullmatch(line)
        if other:
            target = other[2].strip("\"'")
            absolute = target if "://" in target else str((path.parent / target).resolve())
            if other[1] in ("-c", "--constraint"):
                options.append(f"-c {absolute}")
            elif "://" not in target:
                nested += _items_of(Path(absolute), seen)
        elif line.startswith("-") and not re.match(r"-e|--editable", line):
            options.append(line)
        else:
            own.append(line)
    return [
        Item(re.split(r"\s--?[a-z]", line, maxsplit=1)[0].strip(), line, tuple(options))
        for line in own
    ] + nested


def _index_words(path: Path) -> list[str]:
    options = dict.fromkeys(
        line
        for item in _items_of(path, set())
        for line in item.options
        if not line.startswith("-c")
    )
    return [word for line in options for word in re.split(r"[\s=]+", line, maxsplit=1)]


def _logical_lines(text: str) -> list[str]:
    """Lines with continuations joined, comments and blank lines gone."""
    joined = re.sub(r"\\\r?\n", "", text)
    return [line for raw in joined.splitlines() if (line := _COMMENT.sub("", raw).strip())]
