"""The command as every client setup sees it: its words, variables and directories.

A command may call any tool below it (``make``, ``tox``, ``sh -c "..."``), so the words are read
generously: strings with blanks are taken apart too, and an option counts wherever it stands.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from entrepot.ports.client_setup import Command
from entrepot.tools._shared.safe_read import is_dir, is_file
from entrepot.tools.client_setup.found_urls import URL

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_DIRECTORY_OPTIONS = (
    "-C",
    "--directory",
    "--project",
    "--chdir",
    "--cwd",
    "--working-dir",
    "-P",
    "-p",
    "--root",
    "cd",
)
_MANIFEST_OPTIONS = ("--manifest-path", "--workdir", "-f", "--file", "--makefile")
INDEX_OPTIONS = (
    "--index-url",
    "--extra-index-url",
    "--default-index",
    "--index",
    "--pypi-url",
    "--find-links",
)
"""Long options of pip, uv, pipx, pdm and pixi that name an index; pip's parser takes any unique
beginning of them."""
REQUIREMENT_OPTIONS = (
    "-r -c --requirement --requirements --constraint --constraints --build-constraint "
    "--build-constraints --override --overrides --with-requirements --requirements-from-script "
    "--exclude"
).split()
_CALLS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("pip", "uv", "uvx", "pixi", "curl", "wget", "git", "npm"), ()),
    **dict.fromkeys(("conda", "mamba", "micromamba", "poetry", "pipenv", "pdm"), ("pip",)),
}
"""Programs that call few of the others; what is not here may call anything, and so may ``run`` of
any."""
_SHORTEST = 4
_DEPTH = 3


@dataclass(frozen=True)
class Scene:
    """A command taken apart."""

    command: Command
    words: tuple[str, ...]
    """argv with every string that is itself a command line taken apart, in place."""
    environ: dict[str, str]
    """The child's variables, and those that the command line sets (``env A=b pip ...``)."""
    assignments: tuple[tuple[str, str], ...]
    """All settings of variables, those of the environment first: a command line may set one twice.
    """
    roots: tuple[Path, ...]
    """The working directory and every other one that the words name as a place to work in."""

    @classmethod
    def of(cls, command: Command) -> Scene:
        """Take a command apart; nothing is read but what kind of file the words name."""
        words = tuple(_taken_apart(command.argv))
        set_by_words = [(m[1], m[2]) for word in words if (m := _ASSIGNMENT.fullmatch(word))]
        environ = {**command.around.environ, **dict(set_by_words)}
        assignments = (*command.around.environ.items(), *set_by_words)
        return cls(command, words, environ, assignments, tuple(_roots(words, command.around.cwd)))

    @property
    def home(self) -> Path:
        """The user's home directory."""
        return self.command.around.home

    @property
    def cwd(self) -> Path:
        """Where the child starts."""
        return self.command.around.cwd

    @property
    def platform(self) -> Literal["linux", "darwin", "win32"]:
        """As in ``sys.platform``."""
        return self.command.around.platform

    def variable(self, *names: str) -> Iterator[str]:
        """Every non-empty value of these variables, in the environment or on the command line."""
        for name, value in self.assignments:
            if name in names and value:
                yield value

    def runs(self, *programs: str) -> bool:
        """Whether a word is one of the programs, by path or name, also versioned (``pip3.11``)."""
        return any(program_name(word) in programs for word in self.words)

    def after(self, *programs: str) -> tuple[str, ...]:
        """The words after the first that is one of the programs: its own flags.

        Empty when it is not run.
        """
        for i, word in enumerate(self.words):
            if program_name(word) in programs:
                return self.words[i + 1 :]
        return ()

    def may_run(self, *programs: str) -> bool:
        """Whether one of the programs may run at all.

        It is a word, or the command may call anything (``make``, ``tox``).

        What a tool's settings of the user forbid must not be held against a command that never runs
        the tool.
        """
        argv = self.command.argv
        first = program_name(argv[0]) if argv else ""
        if first in ("python", "py", "pypy") and len(argv) > 1:
            first = program_name(argv[2] if argv[1] == "-m" and len(argv) > 2 else argv[1])
        if self.runs(*programs) or first not in _CALLS or "run" in argv[1:2]:
            return True
        return any(program in _CALLS[first] for program in programs)

    def starts(self, *programs: str) -> bool:
        """Whether argv itself is directly one of the programs: then its flags may be changed."""
        return bool(self.command.argv) and program_name(self.command.argv[0]) in programs

    def path(self, text: str) -> Path:
        """A path as the child would take it."""
        return self.home / text[2:] if text.startswith("~/") else self.cwd / text

    def files(self) -> Iterator[Path]:
        """Every word or option value that names a regular file, seen from any directory."""
        for word in dict.fromkeys(
            w.partition("=")[2] if w.startswith("--") else w for w in self.words
        ):
            if word and not word.startswith("-") and len(word) < 4096 and "://" not in word:
                for root in self.roots:
                    if is_file(root / word):
                        yield root / word
                        break

    def ancestors(self) -> Iterator[Path]:
        """Every root and the directories above it, nearest first, each once.

        Where tools look for a project.
        """
        seen: set[Path] = set()
        for root in self.roots:
            for directory in (root, *root.parents):
                if directory not in seen:
                    seen.add(directory)
                    yield directory

    def config_home(self) -> Path:
        """``$XDG_CONFIG_HOME``, else ``~/.config``; on Windows ``%APPDATA%``."""
        if self.platform == "win32":
            return Path(self.environ.get("APPDATA") or self.home / "AppData" / "Roaming")
        return Path(self.environ.get("XDG_CONFIG_HOME") or self.home / ".config")

    def config_dirs(self) -> list[Path]:
        """``$XDG_CONFIG_DIRS``, else ``/etc/xdg``; on Windows ``%PROGRAMDATA%``."""
        if self.platform == "win32":
            return [Path(self.environ.get("PROGRAMDATA") or "C:/ProgramData")]
        return [
            Path(p) for p in (self.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":") if p
        ]


def program_name(word: str) -> str:
    """A program's name without directory, ``.exe`` and version.

    ``/x/bin/pip3.11`` is ``pip``, as is Python's ``-mpip``.

    >>> program_name("/usr/bin/python3.12"), program_name("uv"), program_name("C:/x/pip.exe")
    ('python', 'uv', 'pip')
    """
    name = PurePath(word.replace("\\", "/")).name.lower().removesuffix(".exe").removeprefix("-m")
    return re.sub(r"-?[0-9][0-9.]*$", "", name) or name


def programs(scene: Scene, *names: str) -> Iterator[Path]:
    """Where the named programs lie: those that the words give a path of, then those on PATH.

    Links resolved too.
    """
    found = [
        scene.cwd / word for word in scene.words if "/" in word and program_name(word) in names
    ]
    path = scene.environ.get("PATH", "")
    found += [Path(place) for name in names if (place := shutil.which(name, path=path))]
    for program in found:
        yield program
        if program.is_symlink():
            yield program.resolve()


def values_after(words: tuple[str, ...], *names: str) -> Iterator[str]:
    """Values of options: ``--name value``, ``--name=value``, ``-n value``, ``-nvalue``."""
    for i, word in enumerate(words):
        for name in names:
            if word == name:
                if i + 1 < len(words):
                    yield words[i + 1]
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
            and any(full.startswith(name) for full in INDEX_OPTIONS)
        ):
            if equals:
                yield value
            elif i + 1 < len(words):
                yield words[i + 1]


def positional_urls(words: tuple[str, ...], *, but_after: tuple[str, ...]) -> Iterator[str]:
    """Words that are http URLs, alone or as ``name @ URL``, but the values of the named options."""
    for i, word in enumerate(words):
        if i and words[i - 1] in but_after:
            continue
        match = URL.match(word) or (
            URL.search(word) if re.match(r"[\w.\[\],-]+\s*@\s*https?://", word) else None
        )
        if match:
            yield match[0]


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
            parts = tuple(_split(inner))
            if parts != (word,):
                yield from _taken_apart(parts, depth + 1)


def _split(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError:
        return text.split()


def _roots(words: tuple[str, ...], cwd: Path) -> Iterator[Path]:
    """The working directory, those of options, those of local projects (``-e ./sub[dev]``)."""
    found: dict[Path, None] = {cwd: None}
    for value in values_after(words, *_DIRECTORY_OPTIONS):
        if value and is_dir(cwd / value):
            found[_normal(cwd / value)] = None
    for value in values_after(words, *_MANIFEST_OPTIONS):
        if value and is_file(cwd / value):
            found[_normal((cwd / value).parent)] = None
    for word in words:
        path = cwd / word.partition("[")[0]
        if (
            word
            and not word.startswith("-")
            and "://" not in word
            and len(word) < 4096
            and is_file(path / "pyproject.toml")
        ):
            found[_normal(path)] = None
    return iter(found)


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path))
