"""Every package cache and every environment that can be found: what *in use* is worked out against.

No method is complete.

Environments are found in ``environments.txt``, in the roots' ``envs`` and wherever ``envs_dirs``
points, in the variables of an active one, in ``.pixi/envs`` of the projects above the working
directory, and in other users' homes when we are root.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from entrepot.ports.tool import Surroundings
from entrepot.tools.condakit import mamba_dirs, rattler_dirs
from entrepot.tools.condakit.condarc import documents
from entrepot.tools.condakit.flavour import expand
from entrepot.tools.condakit.pkgs_dirs import Resolved, resolve
from entrepot.tools.condakit.roots import Root, conda_roots, mamba_roots, registered, unique
from entrepot.tools.reading import is_dir


def conda_answers(around: Surroundings) -> list[tuple[Root | None, Resolved]]:
    """The list of caches for every conda that was found, the one in use first.

    For none when no conda is there.
    """
    roots = conda_roots(around)
    if not roots:
        return [(None, resolve(around, ""))]
    return [(root, resolve(around, str(root.path))) for root in roots]


def conda_caches(around: Surroundings) -> list[Path]:
    """Every cache of conda, defaults that no list holds any more included; absent ones too."""
    answers = conda_answers(around)
    listed = [Path(cache.path) for _, answer in answers for cache in answer.caches]
    return unique(
        [*listed, *(Path(cache.path) for _, answer in answers for cache in answer.defaults)]
    )


def mamba_caches(around: Surroundings) -> list[Path]:
    """Every cache of mamba and micromamba, absent ones too."""
    roots = [str(root.path) for root in mamba_roots(around)] or [""]
    answers = [mamba_dirs.resolve(around, root) for root in roots]
    return unique(
        Path(cache.path) for answer in answers for cache in (*answer.caches, *answer.defaults)
    )


def package_folders(around: Surroundings) -> list[Path]:
    """Every existing folder in which packages lie side by side, of conda, mamba and rattler."""
    flat = unique([*conda_caches(around), *mamba_caches(around)])
    nested = [leaf for cache in flat for leaf in mamba_dirs.nested_folders(cache)]
    return [
        path
        for path in unique([*flat, *nested, *rattler_dirs.package_folders(around)])
        if is_dir(path)
    ]


def environments(around: Surroundings) -> list[Path]:
    """Every existing prefix that can be found, each once."""
    return [prefix for prefix in unique(_prefixes(around)) if is_dir(prefix / "conda-meta")]


def named_environments(around: Surroundings) -> list[tuple[str, Path]]:
    """Every existing prefix with its name: ``base`` for a root, else its folder's."""
    roots = {os.path.realpath(root.path) for root in (*conda_roots(around), *mamba_roots(around))}
    return [
        ("base" if os.path.realpath(prefix) in roots else prefix.name, prefix)
        for prefix in environments(around)
    ]


def _prefixes(around: Surroundings) -> Iterator[Path]:
    yield from registered(around.home)
    for root in (*conda_roots(around), *mamba_roots(around)):
        yield root.path
        yield from _inside(root.path / "envs")
    for folder in envs_dirs(around):
        yield from _inside(folder)
    for name in ("CONDA_PREFIX", "CONDA_PREFIX_1", "CONDA_PREFIX_2", "VIRTUAL_ENV"):
        if around.environ.get(name):
            yield Path(around.environ[name])
    for folder in (around.cwd, *around.cwd.parents):
        yield from _inside(folder / ".pixi/envs")
    yield from _inside(around.home / ".pixi/envs")
    for each in rattler_dirs.folders(around):
        if each.part == "root":
            for kind in ("exec-environments", "build-tool-environments"):
                yield from _inside(each.path / rattler_dirs.KINDS[kind][1])
        elif each.part.endswith("environments"):
            yield from _inside(each.path)
    yield from around.environments
    if around.euid == 0:
        for home in _inside(Path("/home")):
            yield from registered(home)


def envs_dirs(around: Surroundings) -> list[Path]:
    """Folders with named environments: of variables, of every condarc, and the usual ones.

    Source: conda 26.7: ``CONDA_ENVS_DIRS`` and ``CONDA_ENVS_PATH`` are separated as PATH is.
    """
    separator = ";" if around.platform == "win32" else ":"
    texts = [
        t
        for name in ("CONDA_ENVS_DIRS", "CONDA_ENVS_PATH")
        for t in around.environ.get(name, "").split(separator)
    ]
    for root in [str(root.path) for root in conda_roots(around)] or [""]:
        for document in documents(around, root):
            texts += (
                [item.text for item in document.lists["envs_dirs"].items]
                if "envs_dirs" in document.lists
                else []
            )
    return unique(
        [
            *(Path(expand(text.strip(), around)) for text in texts if text.strip()),
            around.home / ".conda/envs",
        ]
    )


def _inside(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as found:
            yield from sorted(Path(each.path) for each in found if each.is_dir())
    except OSError:
        return
