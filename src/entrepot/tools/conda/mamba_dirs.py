"""Where mamba and micromamba keep packages.

Their own defaults, conda's files and theirs, and the nested folders of 2.6 and later.

Source: libmamba 2.8, read, not run: ``#!`` markers are not supported, ``CONDA_PKGS_DIRS`` is the
only variable and stands in front.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from entrepot.ports.tool import Surroundings
from entrepot.tools.conda.condarc import Document, Item, ListValue, files_of, read
from entrepot.tools.conda.pkgs_dirs import Cache, from_variable, merge
from entrepot.tools.conda.platform_paths import expand, pathmod

NAMES = (".condarc", "condarc", ".mambarc", "mambarc")
SCHEMES = ("https", "http", "file", "oci", "s3", "ftp")
"""First folders of the nested layout: ``CACHE/<scheme>/<host>/<channel>/<subdir>/``."""
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Resolved:
    """mamba's list for one root prefix."""

    caches: tuple[Cache, ...]
    defaults: tuple[Cache, ...]
    problems: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()


def search_path(around: Surroundings, root: str = "", prefix: str = "") -> list[str]:
    """Files and directories where mamba looks, weakest first; none is looked at.

    With ``MAMBARC`` or ``CONDARC`` set, the first of them stands last.
    """
    environ, flavour, home = around.environ, pathmod(around), str(around.home)
    system = (
        ["C:\\ProgramData\\conda"]
        if around.platform == "win32"
        else ["/etc/conda", "/var/lib/conda"]
    )
    conda = (".condarc", "condarc", "condarc.d", ".mambarc")
    mamba = (".mambarc", "mambarc", "mambarc.d")
    folders: list[tuple[str, tuple[str, ...]]] = [
        (folder, conda) for folder in [*system, root] if folder
    ]
    if environ.get("XDG_CONFIG_HOME"):
        folders += [
            (flavour.join(environ["XDG_CONFIG_HOME"], "conda"), conda),
            (flavour.join(environ["XDG_CONFIG_HOME"], "mamba"), mamba),
        ]
    folders += [
        (flavour.join(home, ".config", "conda"), conda),
        (flavour.join(home, ".config", "mamba"), mamba),
    ]
    folders += [(flavour.join(home, ".conda"), conda), (home, (".condarc",))]
    folders += [(flavour.join(home, ".mamba"), mamba), (home, (".mambarc",))]
    folders += [(prefix, conda)] if prefix else []
    found = dict.fromkeys(flavour.join(folder, name) for folder, names in folders for name in names)
    named = environ.get("MAMBARC") or environ.get("CONDARC")
    return [*found, *([named] if named else [])]


def documents(around: Surroundings, root: str = "") -> list[Document]:
    """Every file that is there, weakest first."""
    target = around.environ.get("CONDA_PREFIX") or root
    found: dict[Path, None] = {}
    for entry in search_path(around, root, target):
        found.update(dict.fromkeys(files_of(entry, around, NAMES)))
    return [read(path) for path in found]


def default_caches(around: Surroundings, root: str) -> list[Cache]:
    """``ROOT/pkgs``, ``~/.mamba/pkgs``, and on Windows ``.mamba/pkgs`` below ``%APPDATA%``."""
    flavour = pathmod(around)
    bases = [root] if root else []
    bases.append(flavour.join(str(around.home), ".mamba"))
    if around.platform == "win32":
        roaming = around.environ.get("APPDATA") or flavour.join(
            str(around.home), "AppData", "Roaming"
        )
        bases.append(flavour.join(roaming, ".mamba"))
    paths = dict.fromkeys(expand(flavour.join(base, "pkgs"), around) for base in bases)
    return [Cache(path, path, "default") for path in paths]


def resolve(around: Surroundings, root: str) -> Resolved:
    """Mamba's list of caches for one root prefix."""
    read_ = documents(around, root)
    listed = [
        document.lists["pkgs_dirs"]
        for document in read_
        if not document.problem and "pkgs_dirs" in document.lists
    ]
    variable = from_variable(around)
    sources = [_unmarked(value) for value in [*listed, *([variable] if variable else [])]]
    merged, _ = merge(sources)
    found: dict[str, Cache] = {}
    for item, source in merged:
        path = expand(item.text, around)
        where = (
            f"{source.source}:{item.line or source.line}"
            if item.line or source.line
            else source.source
        )
        found.setdefault(path, Cache(path, item.text, where))
    defaults = default_caches(around, root)
    problems = [d.problem for d in read_ if d.problem] + [
        value.problem for value in listed if value.problem
    ]
    return Resolved(
        tuple(found.values()) or tuple(defaults), tuple(defaults), tuple(problems), tuple(read_)
    )


def _unmarked(value: ListValue) -> ListValue:
    return replace(value, flag="", items=tuple(Item(item.text, item.line) for item in value.items))


def nested_folders(cache: Path) -> Iterator[Path]:
    """The folders with packages below ``CACHE/<scheme>/``.

    Each is a package cache of its own, with its ``urls.txt``.
    """
    for scheme in SCHEMES:
        yield from _leaves(cache / scheme, _DEEPEST)


def _leaves(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda each: each.name)
    except OSError:
        return
    files = {each.name for each in entries if not each.is_dir(follow_symlinks=False)}
    if "urls.txt" in files or any(name.endswith((".conda", ".tar.bz2")) for name in files):
        yield folder
        return
    if depth:
        for each in entries:
            if each.is_dir(follow_symlinks=False):
                yield from _leaves(Path(each.path), depth - 1)
