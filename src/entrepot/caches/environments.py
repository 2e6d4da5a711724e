"""Which environment a person means: by its path, or by a name that a tool knows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from entrepot.errors import UsageError
from entrepot.ports.tool import Linking, Surroundings, Tool

WITHIN = ("", ".venv", ".pixi/envs/default")
"""Where the environment of a project's folder is, after the folder itself."""
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Found:
    """One environment."""

    path: Path
    spellings: frozenset[str]
    """Its path as tools may write it: as they found it, and with links resolved."""


def find_environment(tools: Iterable[Tool], around: Surroundings, text: str) -> Found:
    """The environment that is meant.

    Args:
        tools: whose environments are known.
        around: the world; relative paths are its working directory's.
        text: a name, or the path of an environment or of a project that has one.

    Raises:
        UsageError: there is none, or several have that name.
    """
    known = list(
        dict.fromkeys(
            each
            for tool in tools
            if isinstance(tool, Linking)
            for each in tool.environments(around)
        )
    )
    if os.sep not in text and text not in {"", ".", ".."}:
        paths = {os.path.realpath(path) for name, path in known if name == text}
        if len(paths) > 1:
            raise UsageError(
                f"several environments are called {text}",
                hint=f"name one by its path: {', '.join(sorted(paths))}",
            )
        if paths:
            return _found(Path(paths.pop()), known)
    folder = around.home / text[2:] if text.startswith("~/") else around.cwd / text
    for part in WITHIN if text else ():
        if is_environment(folder / part):
            return _found(folder / part, known)
    if folder.is_dir() and text:
        raise UsageError(f"{folder} is no environment: it has neither conda-meta nor pyvenv.cfg")
    raise UsageError(f"there is no environment {text!r}", hint=_hint(known, text))


def is_environment(path: Path) -> bool:
    """Whether a folder is an environment of conda's kind or a virtual environment."""
    return (path / "conda-meta").is_dir() or (path / "pyvenv.cfg").is_file()


def _found(path: Path, known: Iterable[tuple[str, Path]]) -> Found:
    real = os.path.realpath(path)
    same = {str(each) for _, each in known if os.path.realpath(each) == real}
    return Found(Path(real), frozenset({real, str(path), *same}))


def _hint(known: list[tuple[str, Path]], text: str) -> str:
    import difflib  # noqa: PLC0415 - only for mistakes

    spelled = {name: name for name, _ in known} | {str(path): str(path) for _, path in known}
    close = difflib.get_close_matches(text, spelled, n=3, cutoff=0.5)
    names = close or list(dict.fromkeys(name for name, _ in known))[:SHOWN]
    if not names:
        return "no environment is known here: give its path"
    return f"{'did you mean' if close else 'known are'} {', '.join(names)}; or give its path"
