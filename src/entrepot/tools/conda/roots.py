"""Root prefixes of conda and mamba, found without running them.

Where it is looked: variables, PATH, the usual folders, known environments and what ``conda init``
wrote into shell files.
"""

from __future__ import annotations

import errno
import ntpath
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.ports.tool import Surroundings
from entrepot.tools._shared.safe_read import is_dir, is_file, read_text, read_whole
from entrepot.tools.conda.platform_paths import expand_user, pathmod

INSTALLERS = tuple(
    "miniconda3 anaconda3 miniforge3 mambaforge miniforge-pypy3 mambaforge-pypy3 miniconda "
    "anaconda conda".split()
)
"""What the installers call their folder, lower case: Miniconda, Anaconda, Miniforge, Mambaforge."""
MAMBA_FOLDERS = ("micromamba", ".local/share/mamba", "AppData/Roaming/mamba")
"""Where micromamba puts its root prefix: 1.x, 2.x, and that of Windows."""
SHELL_FILES = (
    ".bashrc",
    ".bash_profile",
    ".profile",
    ".zshrc",
    ".config/fish/config.fish",
    ".tcshrc",
    ".xonshrc",
)
"""Where ``conda init`` writes, below the home."""
_INITIALIZED = re.compile(r"(?P<root>/[^'\"\s:;=]+)/(?:bin|condabin)/(?:conda|mamba|micromamba)\b")


@dataclass(frozen=True, slots=True)
class Root:
    """One root prefix."""

    path: Path
    why: str
    """How it was found: a variable, PATH, the folder's name."""


def usual_folders(around: Surroundings) -> list[str]:
    """Where the installers put conda on a platform, most usual first; none is looked at."""
    flavour, home = pathmod(around), str(around.home)
    if around.platform == "win32":
        local = around.environ.get("LOCALAPPDATA") or flavour.join(home, "AppData", "Local")
        shared = around.environ.get("PROGRAMDATA", "C:\\ProgramData")
        bases = [home, local, flavour.join(local, "Continuum"), shared, "C:\\", "C:\\tools"]
        return [flavour.join(base, name) for base in bases for name in INSTALLERS[:4]]
    bases = [home, f"{home}/opt", "/opt", "/usr/local", "/usr/share"]
    found = [f"{base}/{name}" for base in bases for name in INSTALLERS]
    own = ("Miniconda3", "Anaconda3", ".conda-root", ".local/share/conda")
    found += [f"{home}/{name}" for name in own]
    if around.platform == "darwin":
        found += [
            "/opt/homebrew/Caskroom/miniconda/base",
            "/opt/homebrew/Caskroom/miniforge/base",
            "/opt/homebrew/anaconda3",
        ]
        found += ["/usr/local/Caskroom/miniconda/base", "/usr/local/Caskroom/miniforge/base"]
    return found


def conda_roots(around: Surroundings) -> list[Root]:
    """Every root prefix with conda in it; the one whose conda would run comes first."""
    found: dict[str, Root] = {}
    for path, why in _candidates(around):
        if has_conda(path) and (key := os.path.realpath(path)) not in found:
            found[key] = Root(path, why)
    return list(found.values())


def mamba_roots(around: Surroundings) -> list[Root]:
    """Every root prefix that mamba or micromamba uses, the one in force first.

    Conda's are among them when mamba is in them.
    """
    found: dict[str, Root] = {}
    named = around.environ.get("MAMBA_ROOT_PREFIX")
    if named:
        path = around.cwd / expand_user(named, around)
        found[os.path.realpath(path)] = Root(path, "MAMBA_ROOT_PREFIX")
    candidates = [(around.home / folder, "the usual folder") for folder in MAMBA_FOLDERS]
    data = around.environ.get("XDG_DATA_HOME")
    candidates += [(Path(data) / "mamba", "XDG_DATA_HOME")] if data else []
    for path, why in [*candidates, *_candidates(around)]:
        if has_mamba(path) and (key := os.path.realpath(path)) not in found:
            found[key] = Root(path, why)
    return list(found.values())


def has_conda(path: Path) -> bool:
    """Whether a folder is a root prefix of conda: ``conda-meta`` and the command are there."""
    commands = ("bin/conda", "condabin/conda", "Scripts/conda.exe", "condabin/conda.bat")
    return is_dir(path / "conda-meta") and any(is_file(path / command) for command in commands)


def has_mamba(path: Path) -> bool:
    """Whether mamba made packages or environments in a folder, or is installed there."""
    if not is_dir(path):
        return False  # most of the usual folders are not there: one look each
    if any(
        is_file(path / name)
        for name in ("bin/mamba", "bin/micromamba", "Scripts/mamba.exe", "condabin/mamba")
    ):
        return True
    return not has_conda(path) and (
        is_file(path / "pkgs/urls.txt") or (is_dir(path / "envs") and is_dir(path / "pkgs"))
    )


def _candidates(around: Surroundings) -> Iterator[tuple[Path, str]]:
    environ = around.environ
    for name in ("_CONDA_EXE", "CONDA_EXE", "MAMBA_EXE"):
        if environ.get(name):
            yield Path(environ[name]).parent.parent, name
    numbered = (f"CONDA_PREFIX_{n}" for n in range(1, 4))
    for name in ("_CONDA_ROOT", "CONDA_ROOT", "CONDA_PREFIX", *numbered):
        if environ.get(name):
            yield from _around(Path(environ[name]), name)
    yield from _on_path(environ.get("PATH", ""), around)
    for folder in usual_folders(around):
        yield Path(folder), "the usual folder"
    prefixes: list[Path] = []
    with suppress(OSError):
        prefixes = read_registered(around.home)
    for prefix in prefixes:
        yield from _around(prefix, "environments.txt")
    # a script or a timer has no PATH with conda on it, but what `conda init` and `mamba shell init`
    # wrote for shells, as conda 26.7, `core/initialize.py`:
    # __conda_setup="$('/ROOT/bin/conda' 'shell.bash' 'hook' ...)"
    for name in SHELL_FILES:
        for match in _INITIALIZED.finditer(read_text(around.home / name)):
            yield Path(match["root"]), f"~/{name}"


def _around(prefix: Path, why: str) -> Iterator[tuple[Path, str]]:
    """A prefix, and the root it belongs to when it lies in a root's ``envs``."""
    yield prefix, why
    if prefix.parent.name == "envs":
        yield prefix.parent.parent, why


def _on_path(path: str, around: Surroundings) -> Iterator[tuple[Path, str]]:
    names = (
        ("conda.exe", "mamba.exe", "conda.bat")
        if around.platform == "win32"
        else ("conda", "mamba", "micromamba")
    )
    for folder in path.split(";" if around.platform == "win32" else ":"):
        for name in names if folder else ():
            command = Path(folder) / name
            if is_file(command):
                yield command.parent.parent, "PATH"
                real = Path(os.path.realpath(command))
                if real != command:
                    yield real.parent.parent, "PATH"


def read_registered(home: Path) -> list[Path]:
    """Prefixes in ``~/.conda/environments.txt``, dead ones too, whatever bytes are in their names.

    Source: conda 26.7: one prefix a line, appended by ``conda create``; ``#`` begins a comment;
    mamba writes it too.

    Raises:
        OSError: it cannot be read whole, or a line of it is no absolute path: it is damaged, and
            what it named is not known.
    """
    path = register(home)
    raw = read_whole(path) or b""
    found: list[Path] = []
    for number, line in enumerate(
        raw.removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"\n").split(b"\n"), 1
    ):
        text = os.fsdecode(line)
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        is_absolute = any(flavour.isabs(text.strip()) for flavour in (posixpath, ntpath))
        if "\0" in text or not is_absolute:
            raise OSError(errno.EINVAL, f"line {number} is no absolute path", str(path))
        # conda takes blanks off both ends; a prefix that is there with them in its name counts all
        # the same
        found.append(Path(text) if os.path.lexists(text) else Path(text.strip()))
    # every writer ends its line: a last line without an end is the beginning of a path, unless
    # there is such a prefix
    if found and not raw.endswith((b"\n", b"\r")) and not found[-1].is_dir():
        raise OSError(errno.EINVAL, "its last line is cut short", str(path))
    return found


def register(home: Path) -> Path:
    """A user's list of environments."""
    return home / ".conda/environments.txt"


def unique(paths: Iterable[Path]) -> list[Path]:
    """Each directory once, under the name it has first.

    Symbolic links count as what they lead to.
    """
    found: dict[str, Path] = {}
    for path in paths:
        found.setdefault(os.path.realpath(path), path)
    return list(found.values())
