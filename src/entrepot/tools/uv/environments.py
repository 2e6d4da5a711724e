"""Environments that may link to what lies in uv's cache.

A hard link shows in the inode's link count, whatever made it. A symbolic link (``--link-mode
symlink``, ``UV_LINK_MODE``) shows nowhere: only environments that are known can be asked. Known are
those near (``.venv`` here and above, ``VIRTUAL_ENV``, ``UV_PROJECT_ENVIRONMENT``, those on PATH,
uv's and pipx's tools) and those that were seen to link here earlier, which the state directory
remembers.

Facts (uv 0.2.37 to 0.13.8, Linux): a hard-linked environment shares every file but RECORD,
INSTALLER, REQUESTED, ``direct_url.json`` and scripts, which uv writes anew; a symlinked one holds
real directories and one absolute symbolic link a file; a copied or cloned one shares no inode. On
ext4 all of them link hard by default.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from entrepot.fs import leave_to_owner, make_folders
from entrepot.ports.tool import Surroundings
from entrepot.tools._shared.disk_usage import Inode, Tree, listed, measure
from entrepot.tools._shared.mounts import is_empty, why_not_gone
from entrepot.tools._shared.safe_read import is_dir, is_file, read_whole

MARK = "pyvenv.cfg"


@dataclass(slots=True)
class References:
    """What known environments need of one cache."""

    inodes: dict[Inode, list[str]] = field(default_factory=dict)
    """Environments by an inode that they share."""
    archives: dict[str, list[str]] = field(default_factory=dict)
    """Environments by the name of the archive that they link to symbolically."""
    unknown: list[str] = field(default_factory=list)
    """What could not be read, a sentence each: any archive may be linked to from there."""

    @property
    def in_use_perhaps(self) -> str:
        """Why no archive counts as unused; empty when every known environment could be read."""
        if not self.unknown:
            return ""
        more = f" (and {len(self.unknown) - 1} more)" if len(self.unknown) > 1 else ""
        return f"an environment may link to it symbolically: {self.unknown[0]}{more}"


def known_environments(around: Surroundings, memory: Memory, unread: list[str]) -> list[Path]:
    """Directories of the environments near, each once with links resolved, and of those remembered.

    Args:
        around: the world.
        memory: environments that linked to a cache earlier.
        unread: gets the folders of environments that cannot be read.
    """
    found = [os.path.realpath(p) for p in _candidates(around, unread) if is_file(p / MARK)]
    return list(dict.fromkeys([*map(Path, found), *memory.there]))


def name_of(environment: Path) -> str:
    """What people call an environment: a project's by the project's folder, others by their own.

    >>> name_of(Path("/src/site/.venv")), name_of(Path("/tools/ruff"))
    ('site', 'ruff')
    """
    return environment.parent.name if environment.name in {".venv", "venv"} else environment.name


def _candidates(around: Surroundings, unread: list[str]) -> Iterator[Path]:
    environ, cwd = around.environ, Path(around.cwd)
    project = environ.get("UV_PROJECT_ENVIRONMENT")
    if environ.get("VIRTUAL_ENV"):
        yield cwd / environ["VIRTUAL_ENV"]
    for folder in (cwd, *cwd.parents):
        yield folder / ".venv"
        if project:
            yield folder / project
    yield from _below(cwd, [])
    for part in environ.get("PATH", "").split(os.pathsep):
        if part:
            yield Path(part).parent
    yield from _below(tools_folder(around), unread)
    pipx = environ.get("PIPX_HOME") or _data_home(around) / "pipx"
    yield from _below(Path(pipx, "venvs"), unread)
    yield from _below(Path(around.home, ".virtualenvs"), unread)
    yield from around.environments


def _below(folder: Path, unread: list[str]) -> Iterator[Path]:
    return (Path(item.path) for item in listed(folder, unread) if item.is_dir())


def _data_home(around: Surroundings) -> Path:
    if around.platform == "win32":
        return Path(around.environ.get("APPDATA") or Path(around.home, "AppData", "Roaming"))
    xdg = around.environ.get("XDG_DATA_HOME", "")
    return Path(xdg) if xdg.startswith("/") else Path(around.home, ".local", "share")


def tools_folder(around: Surroundings) -> Path:
    """Where ``uv tool install`` makes its environments."""
    own = around.environ.get("UV_TOOL_DIR")
    if own:
        return Path(around.cwd) / own
    data = _data_home(around) / "uv"
    return data / "data" / "tools" if around.platform == "win32" else data / "tools"


def references(root: str, environments: Iterable[Path]) -> References:
    """What these environments need of the cache at ``root``. Reads names and inodes."""
    found = References()
    for environment in environments:
        tree, name = measure(str(environment)), str(environment)
        found.unknown += tree.unread
        for key in tree.linked:
            found.inodes.setdefault(key, []).append(name)
        for archive in linked_archives(root, tree):
            found.archives.setdefault(archive, []).append(name)
    return found


def linked_archives(root: str, tree: Tree) -> set[str]:
    """Names of the archives that a tree's symbolic links go to.

    What a link is called by counts, and where it ends.
    """
    roots = tuple(dict.fromkeys((f"{root}/archive-v0/", f"{os.path.realpath(root)}/archive-v0/")))
    found = set()
    for path, target in tree.symlinks:
        text = os.path.normpath(os.path.join(os.path.dirname(path), target))
        if not text.startswith(roots):
            text = os.path.realpath(path)
        for start in roots:
            if text.startswith(start):
                found.add(text[len(start) :].partition("/")[0])
    return found


# -- memory ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
    """Environments that linked to a cache when they were last seen."""

    there: tuple[Path, ...] = ()
    missing: tuple[Path, ...] = ()
    """Not there, and not gone either: they may be on a disk that is not mounted."""
    unknown: tuple[str, ...] = ()
    """What is not known of them, a sentence each."""
    is_read: bool = True
    """Whether all of it could be read."""


def remembered(file: Path) -> Memory:
    """The environments that are kept in mind; those that are gone are left out."""
    try:
        raw = read_whole(file)
        names = [] if raw is None else json.loads(raw)
        since = 0.0 if raw is None else file.stat().st_mtime
    except OSError as exc:
        return Memory(unknown=(f"{file} cannot be read: {exc.strerror}",), is_read=False)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(
        isinstance(name, str) and _is_path(name) for name in names
    ):
        why = f"{file} is damaged; remove it when no environment links to uv's cache"
        return Memory(unknown=(why,), is_read=False)
    there, missing, unknown = [], [], []
    for path in map(Path, names):
        if is_dir(path) and not is_empty(path):
            there.append(path)
        elif why := why_not_gone(path, since):
            missing.append(path)
            unknown.append(f"{path}, which is in {file}: {why}")
    return Memory(tuple(there), tuple(missing), tuple(unknown))


def _is_path(name: str) -> bool:
    return os.path.isabs(name) and "\0" not in name


def remember(file: Path, found: Iterable[str]) -> None:
    """Keep environments in mind beside those known. A memory that cannot be written is no error.

    One that cannot be read stays as it is: it may name environments that nothing else does.
    """
    memory = remembered(file)
    before = [str(path) for path in (*memory.there, *memory.missing)]
    names = list(dict.fromkeys([*before, *found]))
    if names == before or not memory.is_read:
        return
    with suppress(OSError):
        make_folders(file.parent)
        number, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(number, "w", encoding="utf-8") as stream:
            leave_to_owner(number, file.parent)
            json.dump(names, stream)
        Path(temporary).replace(file)
