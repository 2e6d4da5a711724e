"""The ``pyproject.toml`` files a command is about.

Those of the directory and the ones above, of workspace members and of local dependencies; and the
metadata blocks of scripts (PEP 723).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from entrepot.tools._shared.safe_read import (
    is_dir,
    is_file,
    parse_toml,
    read_text,
    read_toml,
    strings,
    table,
    tables,
)
from entrepot.tools.client_setup.command_line import Scene
from entrepot.tools.client_setup.found_urls import Findings

_MOST_PROJECTS = 200
_SCRIPT_BLOCK = re.compile(
    r"(?m)^# /// script[ \t]*\r?$\n(?P<body>(?:^#(?: .*)?\r?$\n)+?)^# ///[ \t]*\r?$"
)


def projects(scene: Scene) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every ``pyproject.toml`` in reach with its content, nearest first, each once."""
    queue = deque(directory / "pyproject.toml" for directory in scene.ancestors())
    seen: set[Path] = set()
    while queue and len(seen) < _MOST_PROJECTS:
        path = queue.popleft()
        if path in seen or not is_file(path):
            continue
        seen.add(path)
        data = read_toml(path)
        yield path, data
        queue.extend(directory / "pyproject.toml" for directory in _neighbours(path.parent, data))


def _neighbours(root: Path, data: dict[str, Any]) -> Iterator[Path]:
    """Workspace members and local path dependencies.

    Source: uv's ``tool.uv.workspace``, poetry's ``path =``.
    """
    for member in strings(table(data, "tool", "uv", "workspace").get("members")):
        yield from _members(root, member)
    tool = table(data, "tool")
    groups = [
        table(tool, "uv", "sources"),
        *(table(tool, "poetry", key) for key in ("dependencies", "dev-dependencies")),
    ]
    groups.extend(
        table(group, "dependencies") for group in tables(table(tool, "poetry").get("group"))
    )
    for group in groups:
        for source in group.values():
            for one in source if isinstance(source, list) else [source]:
                path = one.get("path") if isinstance(one, dict) else None
                if isinstance(path, str) and is_dir(root / path):
                    yield root / path


def _members(root: Path, member: str) -> Iterator[Path]:
    """Directories that a member pattern names.

    ``**`` two deep, because a whole tree would take too long to walk.
    """
    for depth in ("", "*/", "*/*/") if "**/" in member else ("",):
        pattern = member.replace("**/", depth, 1).replace("**", "*")
        if not pattern or pattern.startswith("/"):
            continue
        try:
            yield from islice(filter(is_dir, root.glob(pattern)), _MOST_PROJECTS)
        except (ValueError, NotImplementedError, OSError, IndexError):
            continue


def requirements_of(data: dict[str, Any]) -> Iterator[str]:
    """Requirement strings of a project or a script, ``name @ URL`` among them.

    Source: PEP 508, 517, 621, 723, 735.
    """
    project = table(data, "project")
    yield from strings(data.get("dependencies"))
    yield from strings(project.get("dependencies"))
    yield from strings(project.get("optional-dependencies"))
    yield from strings(data.get("dependency-groups"))
    yield from strings(table(data, "build-system").get("requires"))


def add_requirements(found: Findings, data: dict[str, Any]) -> None:
    """The direct references of a project."""
    found.add_all(text for text in requirements_of(data) if "://" in text)


def script_metadata(text: str) -> dict[str, Any]:
    """The metadata block of a script; empty when it has none. Source: PEP 723."""
    match = _SCRIPT_BLOCK.search(text + "\n") if "# /// script" in text else None
    if match is None:
        return {}
    lines = (line.rstrip("\r") for line in match["body"].splitlines())
    return parse_toml("\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines))


def scripts(scene: Scene) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Scripts that the words name and that carry metadata."""
    for path in scene.files():
        data = script_metadata(read_text(path))
        if data:
            yield path, data
