"""The command as every client's set-up sees it: its words, variables, directories and projects.

A command may call any tool below it (``make``, ``tox``, ``sh -c "..."``), so the words are read
generously: strings with blanks are taken apart too, and an option counts wherever it stands.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from entrepot.ports.client_setup import Command
from entrepot.tools._shared.safe_read import (
    is_dir,
    is_file,
    parse_toml,
    read_text,
    read_toml,
    table,
)
from entrepot.tools.client_setup.readers import items

_INDEX_OPTIONS = (
    "--index-url --extra-index-url --default-index --index --pypi-url --pypi-mirror --find-links"
).split()
"""Long options of pip, uv, pipx, pipenv, pdm and pixi that name an index; pip's parser takes any
unique beginning of them."""
REQUIREMENT_OPTIONS = (
    "-r -c --requirement --requirements --constraint --constraints --build-constraint "
    "--build-constraints --override --overrides --with-requirements --requirements-from-script "
    "--exclude"
).split()
_DIRECTORY_OPTIONS = "-C --directory --project --chdir --cwd --working-dir -P -p --root cd".split()
_MANIFEST_OPTIONS = ("--manifest-path", "--workdir", "-f", "--file", "--makefile")
_CALLS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("pip", "uv", "uvx", "pixi", "curl", "wget", "git", "npm"), ()),
    **dict.fromkeys(("conda", "mamba", "micromamba", "poetry", "pipenv", "pdm"), ("pip",)),
}
"""Programs that call few of the others; what is not here may call anything, and so may ``run`` of
any."""
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_START = re.compile(r"[$@]\w+|")
_SHORTEST = 4
_DEPTH = 3
_LONGEST_PATH = 4096
_MOST_PROJECTS = 200
_SCRIPT_BLOCK = re.compile(
    r"(?m)^# /// script[ \t]*\r?$\n(?P<body>(?:^#(?: .*)?\r?$\n)+?)^# ///[ \t]*\r?$"
)


@dataclass(frozen=True)
class CommandLine:
    """A command taken apart. Nothing is read to make one but what kind of file the words name."""

    command: Command

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Argv with every string that is itself a command line taken apart, in place."""
        return tuple(_taken_apart(self.command.argv))

    @cached_property
    def assignments(self) -> tuple[tuple[str, str], ...]:
        """All settings of variables, those of the environment first.

        A command line may set one twice (``env A=b pip ...``).
        """
        matches = map(_ASSIGNMENT.fullmatch, self.words)
        set_by_words = ((match[1], match[2]) for match in matches if match)
        return (*self.command.around.environ.items(), *set_by_words)

    @cached_property
    def environ(self) -> dict[str, str]:
        """The child's variables, and those that the command line sets."""
        return dict(self.assignments)

    @cached_property
    def roots(self) -> tuple[Path, ...]:
        """The working directory, those of options, those of local projects (``-e ./sub[dev]``)."""
        cwd = self.command.around.cwd
        folders = [cwd / each for each in values_after(self.words, *_DIRECTORY_OPTIONS) if each]
        manifests = [cwd / each for each in values_after(self.words, *_MANIFEST_OPTIONS) if each]
        projects = [cwd / word.partition("[")[0] for word in self.words if _may_be_path(word)]
        found = [
            *filter(is_dir, folders),
            *(path.parent for path in manifests if is_file(path)),
            *(path for path in projects if is_file(path / "pyproject.toml")),
        ]
        return tuple(dict.fromkeys((cwd, *(Path(os.path.normpath(path)) for path in found))))

    @property
    def home(self) -> Path:
        """The user's home directory."""
        return self.command.around.home

    @property
    def is_windows(self) -> bool:
        """Whether the tools look where they do on Windows."""
        return self.command.around.platform == "win32"

    def variable(self, *names: str) -> Iterator[str]:
        """Every non-empty value of these variables, in the environment or on the command line."""
        return (value for name, value in self.assignments if name in names and value)

    def runs(self, *programs: str) -> bool:
        """Whether a word is one of the programs, by path or name, also versioned (``pip3.11``)."""
        return any(program_name(word) in programs for word in self.words)

    def after(self, *programs: str) -> tuple[str, ...]:
        """The words after the first that is one of the programs: its own flags."""
        for i, word in enumerate(self.words):
            if program_name(word) in programs:
                return self.words[i + 1 :]
        return ()

    def may_run(self, *programs: str) -> bool:
        """Whether one of the programs may run at all.

        It is a word, or the command may call anything (``make``, ``tox``). What a tool's settings
        of the user forbid must not be held against a command that never runs the tool.
        """
        argv = self.command.argv
        first = program_name(argv[0]) if argv else ""
        if first in ("python", "py", "pypy") and len(argv) > 1:
            first = program_name(argv[2] if argv[1] == "-m" and len(argv) > 2 else argv[1])
        if self.runs(*programs) or first not in _CALLS or "run" in argv[1:2]:
            return True
        return any(program in _CALLS[first] for program in programs)

    def starts(self, program: str) -> bool:
        """Whether argv itself is directly the program: then its flags may be changed."""
        return bool(self.command.argv) and program_name(self.command.argv[0]) == program

    def path(self, text: str) -> Path:
        """A path as the child would take it."""
        return self.home / text[2:] if text.startswith("~/") else self.command.around.cwd / text

    def places(self, patterns: str) -> Iterator[Path]:
        """Where files may lie, present or not, each once.

        Args:
            patterns: words: paths that start with ``/``, with ``~/``, with a variable that names a
                file or a directory (``$PIXI_HOME/x``), or with ``@above`` (every root and the
                directories above it), ``@config`` (the user's), ``@mac`` (the user's on macOS) or
                ``@system`` (configuration directories). ``$A|/b`` is ``/b`` when A is not set.
        """
        environ = self.environ
        if self.is_windows:
            user = environ.get("APPDATA") or str(self.home / "AppData" / "Roaming")
            system = [environ.get("PROGRAMDATA") or "C:/ProgramData"]
        else:
            user = environ.get("XDG_CONFIG_HOME") or str(self.home / ".config")
            system = [d for d in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":") if d]
        starts: dict[str, Iterable[str | Path]] = {
            "@above": self.ancestors,
            "@config": [user],
            "@mac": [self.home / "Library/Application Support"],
            "@system": system,
        }
        found: list[Path] = []
        for pattern in patterns.split():
            for alternative in pattern.split("|"):
                start = str(_START.findall(alternative)[0])
                rest = alternative.removeprefix(start)
                values = self.variable(start[1:]) if start[:1] == "$" else starts.get(start, [""])
                paths = [self.path(f"{value}{rest}") for value in values]
                found += paths
                if paths:
                    break
        return iter(dict.fromkeys(found))

    @cached_property
    def ancestors(self) -> tuple[Path, ...]:
        """Every root and the directories above it: where tools look for a project."""
        return tuple(dict.fromkeys(path for root in self.roots for path in (root, *root.parents)))

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Every word or option value that names a regular file, seen from any directory."""
        words = (word.partition("=")[2] if word.startswith("--") else word for word in self.words)
        found = (
            next((root / word for root in self.roots if is_file(root / word)), None)
            for word in dict.fromkeys(words)
            if _may_be_path(word)
        )
        return tuple(path for path in found if path is not None)

    def installed(self, *names: str) -> Iterator[Path]:
        """Where the named programs lie: those that the words give a path of, then those on PATH.

        Links resolved too.
        """
        found = [
            self.path(word) for word in self.words if "/" in word and program_name(word) in names
        ]
        search = self.environ.get("PATH", "")
        found += [Path(place) for name in names if (place := shutil.which(name, path=search))]
        for program in found:
            yield program
            if program.is_symlink():
                yield program.resolve()

    @cached_property
    def projects(self) -> tuple[tuple[Path, dict[str, Any]], ...]:
        """Every ``pyproject.toml`` in reach with its content, nearest first, each once.

        Those of the directories above, of workspace members and of local dependencies; then the
        metadata blocks of scripts that the words name. Source: PEP 723.
        """
        found: dict[Path, dict[str, Any]] = {}
        queue = deque(directory / "pyproject.toml" for directory in self.ancestors)
        while queue and len(found) < _MOST_PROJECTS:
            path = queue.popleft()
            if path not in found and is_file(path):
                found[path] = read_toml(path)
                queue.extend(
                    near / "pyproject.toml" for near in _neighbours(path.parent, found[path])
                )
        for path in self.files:
            text = read_text(path)
            match = _SCRIPT_BLOCK.search(text + "\n") if "# /// script" in text else None
            if match:
                lines = [line.rstrip("\r")[1:] for line in match["body"].splitlines()]
                found[path] = parse_toml("\n".join(line.removeprefix(" ") for line in lines))
        return tuple(found.items())


def program_name(word: str) -> str:
    """A program's name without directory, ``.exe`` and version.

    ``/x/bin/pip3.11`` is ``pip``, as is Python's ``-mpip``.

    >>> program_name("/usr/bin/python3.12"), program_name("uv"), program_name("C:/x/pip.exe")
    ('python', 'uv', 'pip')
    """
    name = PurePath(word.replace("\\", "/")).name.lower().removesuffix(".exe").removeprefix("-m")
    return re.sub(r"-?[0-9][0-9.]*$", "", name) or name


def values_after(words: tuple[str, ...], *names: str) -> Iterator[str]:
    """Values of options: ``--name value``, ``--name=value``, ``-n value``, ``-nvalue``."""
    for i, word in enumerate(words):
        for name in names:
            if word == name:
                yield from words[i + 1 : i + 2]
            elif name.startswith("--"):
                if word.startswith(name + "="):
                    yield word[len(name) + 1 :]
            elif name.startswith("-") and word.startswith(name) and not word.startswith("--"):
                yield word[len(name) :].removeprefix("=")


def index_values(words: tuple[str, ...]) -> Iterator[str]:
    """Values of every option that names an index, ``-i`` and ``-f`` and abbreviations included."""
    yield from values_after(words, "-i", "-f")
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if (
            name.startswith("--")
            and len(name) >= _SHORTEST
            and any(full.startswith(name) for full in _INDEX_OPTIONS)
        ):
            yield from (value,) if equals else words[i + 1 : i + 2]


def _may_be_path(word: str) -> bool:
    return (
        bool(word) and not word.startswith("-") and "://" not in word and len(word) < _LONGEST_PATH
    )


def _taken_apart(argv: tuple[str, ...], depth: int = 0) -> Iterator[str]:
    """Words; after one that is a command line (``sh -c "..."``, ``--pip-args=...``) its words."""
    for word in argv:
        yield word
        inner = word.partition("=")[2] if word.startswith("--") else word
        telling = "://" in inner or "-" in inner or "=" in inner or inner.startswith("cd ")
        if (
            depth < _DEPTH
            and telling
            and (re.search(r"\s", inner) or (inner is not word and inner.startswith("-")))
        ):
            lexer = shlex.shlex(inner, posix=True, punctuation_chars=";&|()")
            lexer.whitespace_split = True
            lexer.commenters = ""
            try:
                parts = tuple(lexer)
            except ValueError:
                parts = tuple(inner.split())
            if parts != (word,):
                yield from _taken_apart(parts, depth + 1)


def _neighbours(root: Path, data: dict[str, Any]) -> Iterator[Path]:
    """Workspace members and local path dependencies.

    Source: uv's ``tool.uv.workspace``, poetry's ``path =``.
    """
    for keys, value in items(table(data, "tool")):
        match keys:
            case ("uv", "workspace", "members"):
                yield from _members(root, value)
            case (
                ("uv", "sources", _, "path")
                | ("poetry", "dependencies" | "dev-dependencies", _, "path")
                | ("poetry", "group", _, "dependencies", _, "path")
            ) if is_dir(root / value):
                yield root / value


def _members(root: Path, member: str) -> Iterator[Path]:
    """Directories that a pattern names; ``**`` two deep: walking a whole tree takes too long."""
    for depth in ("", "*/", "*/*/") if "**/" in member else ("",):
        pattern = member.replace("**/", depth, 1).replace("**", "*")
        if pattern and not pattern.startswith("/"):
            try:
                yield from islice(filter(is_dir, root.glob(pattern)), _MOST_PROJECTS)
            except (ValueError, NotImplementedError, OSError, IndexError):
                continue
