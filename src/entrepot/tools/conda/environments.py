"""Every package cache and environment that can be found, and what environments say of packages.

This is what *in use* is worked out against. No method is complete. Environments are found in
``environments.txt``, in the roots' ``envs`` and wherever ``envs_dirs`` points, in the variables of
an active one, in ``.pixi/envs`` of the projects above the working directory, and in other users'
lists when we are root; what they use shows in their records and in symbolic links into a cache.
What keeps one of these lists, an environment in it or a part of one from being known is noted,
never left out: then any package may be in use.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from entrepot.ports.tool import Surroundings
from entrepot.tools._shared.mounts import is_empty, why_not_gone
from entrepot.tools._shared.safe_read import is_dir, read_whole
from entrepot.tools.conda import rattler_dirs
from entrepot.tools.conda.condarc import Document, documents
from entrepot.tools.conda.entry import RECORD_LIMIT_BYTES, load_json
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

PARSED_BYTES = 128 << 10
"""Of a record that is parsed to see whether it is whole."""
ABSENT = (FileNotFoundError, NotADirectoryError)
"""What is raised for a path that is not there."""


# -- package caches --------------------------------------------------------------------------------


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


# -- environments ----------------------------------------------------------------------------------


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
    found.unknown += [each.problem for each in _settings_files(around) if each.problem]
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
    for document in _settings_files(around):
        if value := document.lists.get("envs_dirs"):
            texts += (item.text for item in value.items)
    named = [Path(expand(text.strip(), around)) for text in texts if text.strip()]
    return unique([*named, around.home / ".conda/envs"])


def _settings_files(around: Surroundings) -> list[Document]:
    """The files of every conda and mamba that was found; conda's also where there is none."""
    roots = [str(root.path) for root in conda_roots(around)] or [""]
    condas = [document for root in roots for document in documents(around, root)]
    mambas = [mamba_documents(around, str(root.path)) for root in mamba_roots(around)]
    return [*condas, *(document for each in mambas for document in each)]


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


# -- what environments say of packages -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mention:
    """One environment's record of a package."""

    prefix: Path
    record: Path
    written: float
    """When it was installed there; seconds since the epoch."""


@dataclass(slots=True)
class Mentions:
    """Records of all known environments, by ``NAME-VERSION-BUILD``."""

    by_name: dict[str, list[Mention]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    """What could not be read, a sentence each; while there is one, any package may be in use."""

    @property
    def in_use_perhaps(self) -> str:
        """Why no package counts as unused; empty when every known environment could be read."""
        more = f" (and {len(self.unknown) - 1} more)" if len(self.unknown) > 1 else ""
        return f"an environment may need it: {self.unknown[0]}{more}" if self.unknown else ""

    def of(self, name: str) -> list[Mention]:
        """Who has it."""
        return self.by_name.get(name, [])


def mentions(environments: Environments) -> Mentions:
    """The names of all records, and which records are damaged, beside what was unknown before.

    Source: conda, mamba and rattler call a record ``conda-meta/NAME-VERSION-BUILD.json``.
    """
    found = Mentions(unknown=list(environments.unknown))
    for prefix in environments.prefixes:
        try:
            with os.scandir(prefix / "conda-meta") as items:
                records = [each for each in items if each.name.endswith(".json")]
        except ABSENT:
            continue
        except OSError as exc:
            found.unknown.append(f"{prefix / 'conda-meta'} cannot be read: {exc.strerror}")
            continue
        for each in records:
            if each.name.count("-") < 2:
                continue  # conda and its installers keep a few files of their own there
            try:
                written = each.stat().st_mtime
            except OSError:
                written = 0.0  # the record itself is looked at next
            found.by_name.setdefault(each.name[:-5], []).append(
                Mention(prefix, Path(each.path), written)
            )
            if problem := _damage(each.path):
                found.unknown.append(f"the record {each.path} cannot be read: {problem}")
    return found


def _damage(record: str) -> str:
    """Why a record does not say what its environment uses; empty when it does, or has just gone."""
    try:
        raw = read_whole(record, RECORD_LIMIT_BYTES)
        if raw is None:
            return ""
        # parsing all records of ten environments takes seconds; damage shows in the shape of a
        # large one as well: its brackets pair, no block of it is zeros
        closed = raw[:1] == b"{" and raw.rstrip()[-1:] == b"}" and b"\0" not in raw
        paired = raw.count(b"{") == raw.count(b"}") and raw.count(b"[") == raw.count(b"]")
        is_whole = len(raw) > PARSED_BYTES and closed and paired
        data = {"name": b'"name"' in raw} if is_whole else json.loads(raw)
    except OSError as exc:
        return exc.strerror or str(exc)
    except (ValueError, RecursionError):
        return "it is no JSON"
    return "" if isinstance(data, dict) and data.get("name") else "it names no package"


def has_link_into(mention: Mention, package: str) -> bool:
    """Whether a file that a record lists is a symbolic link into a package's folder.

    Args:
        mention: the record.
        package: the folder, absolute, symbolic links resolved.
    """
    files, realpath = load_json(mention.record).get("files"), _remembering()
    for name in files if isinstance(files, list) else ():
        if isinstance(name, str):
            path = os.path.join(mention.prefix, name)  # strings are quicker
            try:
                target = os.readlink(path)
            except (OSError, ValueError):
                continue  # no link; the walk before a removal finds what may not be looked at
            if _resolved(path, target, realpath).startswith(package + os.sep):
                return True
    return False


def links_into(environments: Environments, folders: Iterable[Path]) -> dict[str, Path]:
    """Package folders that a symbolic link of an environment leads into, with one such environment.

    Walks the environments whole: records may be missing. A link without a record counts like any
    other.

    Args:
        environments: those that are known; gets a sentence for each folder that cannot be read.
        folders: the package caches.

    Returns:
        Resolved path of the package's folder -> prefix.
    """
    roots = tuple(os.path.realpath(folder) + os.sep for folder in folders)
    found: dict[str, Path] = {}
    # each prefix is walked once, also where one lies in another; links inside a package are the
    # package's own
    tops = {os.path.realpath(prefix): prefix for prefix in environments.prefixes}
    but = frozenset([*(root.rstrip(os.sep) for root in roots), *tops])
    for top, prefix in tops.items():
        for target in _symbolic_links(top, but, environments.unknown):
            for root in roots:
                if target.startswith(root):
                    found.setdefault(root + target[len(root) :].partition(os.sep)[0], prefix)
    return found


def _symbolic_links(top: str, but: frozenset[str], unknown: list[str]) -> Iterator[str]:
    """Where the symbolic links below a folder lead to; the folders in ``but`` are not entered."""
    waiting, realpath = [top], _remembering()
    while waiting:
        at = waiting.pop()
        try:
            found = os.scandir(at)
        except ABSENT:
            continue
        except OSError as exc:
            unknown.append(f"{at} cannot be read: {exc.strerror}")
            continue
        with found:
            for each in found:
                if each.is_symlink():
                    try:
                        yield _resolved(each.path, os.readlink(each.path), realpath)
                    except OSError:
                        continue
                elif each.is_dir(follow_symlinks=False) and each.path not in but:
                    waiting.append(each.path)


def _remembering() -> Callable[[str], str]:
    """``realpath`` for one walk: the links of an environment lead into few folders."""
    return lru_cache(maxsize=10_000)(os.path.realpath)


def _resolved(path: str, target: str, realpath: Callable[[str], str]) -> str:
    """The place a link names, the folders on the way resolved, the last name not."""
    joined = os.path.join(os.path.dirname(path), target)
    folder, name = os.path.split(os.path.normpath(joined))
    return os.path.join(realpath(folder), name)
