"""Every package cache and every environment that can be found: what *in use* is worked out against.

No method is complete.

Environments are found in ``environments.txt``, in the roots' ``envs`` and wherever ``envs_dirs``
points, in the variables of an active one, in ``.pixi/envs`` of the projects above the working
directory, and in other users' lists when we are root. What keeps one of these lists, or an
environment in it, from being known is noted: then any package may be in use.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from entrepot.ports.tool import Surroundings
from entrepot.tools._shared.mounts import is_empty, why_not_gone
from entrepot.tools._shared.safe_read import is_dir
from entrepot.tools.conda import rattler_dirs
from entrepot.tools.conda.condarc import Document, documents
from entrepot.tools.conda.pkgs_dirs import (
    Resolved,
    mamba_documents,
    nested_folders,
    resolve,
    resolve_mamba,
)
from entrepot.tools.conda.platform_paths import expand
from entrepot.tools.conda.proof import why_no_cache
from entrepot.tools.conda.roots import (
    Root,
    conda_roots,
    mamba_roots,
    read_registered,
    register,
    unique,
)


def conda_answers(around: Surroundings) -> list[tuple[Root | None, Resolved]]:
    """The list of caches for every conda that was found, the one in use first.

    For none when no conda is there.
    """
    found = [(root, resolve(around, str(root.path))) for root in conda_roots(around)]
    return [*found] or [(None, resolve(around, ""))]


def conda_caches(around: Surroundings) -> list[Path]:
    """Every cache of conda, defaults that no list holds any more included; absent ones too."""
    answers = [answer for _, answer in conda_answers(around)]
    caches = [cache for answer in answers for cache in answer.caches]
    caches += (cache for answer in answers for cache in answer.defaults)
    return unique(Path(cache.path) for cache in caches)


def mamba_caches(around: Surroundings) -> list[Path]:
    """Every cache of mamba and micromamba, absent ones too."""
    roots = [str(root.path) for root in mamba_roots(around)] or [""]
    answers = [resolve_mamba(around, root) for root in roots]
    return unique(
        Path(cache.path) for answer in answers for cache in (*answer.caches, *answer.defaults)
    )


def package_folders(around: Surroundings) -> list[Path]:
    """Every package cache in which packages lie side by side, of conda, mamba and rattler."""
    flat = unique([*conda_caches(around), *mamba_caches(around)])
    nested = [leaf for cache in flat for leaf in nested_folders(cache)]
    every = unique([*flat, *nested, *rattler_dirs.package_folders(around)])
    return [path for path in every if is_dir(path) and not why_no_cache(path, around)]


@dataclass(slots=True)
class Environments:
    """The environments that can be found."""

    prefixes: list[Path] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Why there may be others, a sentence each: an unreadable list, a disk that may be missing."""


def survey(around: Surroundings) -> Environments:
    """Every existing prefix that can be found, each once, and what could not be found out."""
    found = Environments()
    for home in unique([around.home, *_other_homes(around)]):
        _registered(home, found)
    for prefix in _prefixes(around, found):
        _add(prefix, found)
    found.unknown += [document.problem for document in _condarcs(around) if document.problem]
    found.unknown += rattler_dirs.problems(around)
    return Environments(unique(found.prefixes), list(dict.fromkeys(found.unknown)))


def _registered(home: Path, found: Environments) -> None:
    """The environments of one user's list; one counts as gone only where it would be seen."""
    path = register(home)
    try:
        listed = read_registered(home)
        since = path.stat().st_mtime if listed else 0.0
    except OSError as exc:
        found.unknown.append(f"{path} cannot be read: {exc.strerror}")
        return
    for prefix in listed:
        if _add(prefix, found):
            continue
        if is_dir(prefix) and not is_empty(prefix):
            found.prefixes.append(prefix)  # its records are gone; its links may still be there
        elif why := why_not_gone(prefix, since):
            found.unknown.append(f"{prefix}, which is in {path}, may be in use: {why}")


def _add(prefix: Path, found: Environments) -> bool:
    """Note a prefix that is an environment; whether it is one, or cannot be told from one."""
    records = prefix / "conda-meta"
    try:
        is_there = stat.S_ISDIR(records.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        link = next((each for each in (prefix, records) if each.is_symlink()), None)
        if link is None or link.exists():
            return False
        found.unknown.append(f"the symbolic link {link} leads nowhere")
        return True
    except OSError as exc:
        found.unknown.append(f"{records} cannot be read: {exc.strerror}")
        return True
    if is_there:
        found.prefixes.append(prefix)
    else:
        found.unknown.append(f"{records} is no directory")
    return True


def named_environments(around: Surroundings) -> list[tuple[str, Path]]:
    """Every existing prefix with its name: ``base`` for a root, else its folder's."""
    roots = {os.path.realpath(root.path) for root in (*conda_roots(around), *mamba_roots(around))}
    return [
        ("base" if os.path.realpath(prefix) in roots else prefix.name, prefix)
        for prefix in survey(around).prefixes
    ]


def _prefixes(around: Surroundings, found: Environments) -> Iterator[Path]:
    for root in (*conda_roots(around), *mamba_roots(around)):
        yield root.path
        yield from _inside(root.path / "envs", found)
    for folder in envs_dirs(around):
        yield from _inside(folder, found)
    for name in ("CONDA_PREFIX", "CONDA_PREFIX_1", "CONDA_PREFIX_2", "VIRTUAL_ENV"):
        if around.environ.get(name):
            yield Path(around.environ[name])
    for folder in (around.cwd, *around.cwd.parents):
        yield from _inside(folder / ".pixi/envs")
    yield from _inside(around.home / ".pixi/envs", found)
    for each in rattler_dirs.folders(around):
        if each.part == "root":
            for kind in ("exec-environments", "build-tool-environments"):
                yield from _inside(each.path / rattler_dirs.KINDS[kind][1], found)
        elif each.part.endswith("environments"):
            yield from _inside(each.path, found)
    yield from around.environments


def _other_homes(around: Surroundings) -> list[Path]:
    """For root, every other user's home: root may remove what their environments need.

    Source: conda 26.7, ``core/envs_manager.py``, reads the list of every user in the password file
    when it is run by root.
    """
    if around.euid != 0:
        return []
    try:
        import pwd  # noqa: PLC0415  # there is none on Windows

        named = [Path(user.pw_dir) for user in pwd.getpwall()]
    except ImportError:
        named = []
    return [home for home in (*named, *_inside(Path("/home"))) if is_dir(home)]


def envs_dirs(around: Surroundings) -> list[Path]:
    """Folders with named environments: of variables, of every condarc, and the usual ones.

    Source: conda 26.7: ``CONDA_ENVS_DIRS`` and ``CONDA_ENVS_PATH`` are separated as PATH is.
    """
    separator = ";" if around.platform == "win32" else ":"
    texts = [
        text
        for name in ("CONDA_ENVS_DIRS", "CONDA_ENVS_PATH")
        for text in around.environ.get(name, "").split(separator)
    ]
    found = _condarcs(around)
    for root in mamba_roots(around):
        found += mamba_documents(around, str(root.path))
    for document in found:
        if value := document.lists.get("envs_dirs"):
            texts += (item.text for item in value.items)
    named = [Path(expand(text.strip(), around)) for text in texts if text.strip()]
    return unique([*named, around.home / ".conda/envs"])


def _condarcs(around: Surroundings) -> list[Document]:
    """The files of every conda that was found; those of none where there is no conda."""
    roots = [str(root.path) for root in conda_roots(around)] or [""]
    return [document for root in roots for document in documents(around, root)]


def _inside(folder: Path, found: Environments | None = None) -> Iterator[Path]:
    """The directories in one, symbolic links among them.

    Args:
        folder: where environments lie side by side.
        found: told when it cannot be read; without it that is no matter: it is one of many where
            some might have been.
    """
    try:
        with os.scandir(folder) as listed:
            yield from sorted(
                Path(each.path) for each in listed if each.is_dir() or each.is_symlink()
            )
    except OSError as exc:
        if found is not None and not isinstance(exc, FileNotFoundError | NotADirectoryError):
            found.unknown.append(f"{folder} cannot be read: {exc.strerror}")
