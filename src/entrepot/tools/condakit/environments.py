"""What the known environments say of packages.

By their records, and by symbolic links that lead into a cache.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

RECORD_LIMIT_BYTES = 64 << 20


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

    def of(self, name: str) -> list[Mention]:
        """Who has it."""
        return self.by_name.get(name, [])


def mentions(prefixes: Iterable[Path]) -> Mentions:
    """Read the names of all records; the records themselves are not opened.

    Source: conda, mamba and rattler call a record ``conda-meta/NAME-VERSION-BUILD.json``.
    """
    found = Mentions()
    for prefix in prefixes:
        try:
            with os.scandir(prefix / "conda-meta") as records:
                for each in records:
                    if each.name.endswith(".json"):
                        mention = Mention(prefix, Path(each.path), each.stat().st_mtime)
                        found.by_name.setdefault(each.name[:-5], []).append(mention)
        except OSError:
            continue
    return found


def has_link_into(mention: Mention, package: str) -> bool:
    """Whether a file that a record lists is a symbolic link into a package's folder.

    Args:
        mention: the record.
        package: the folder, absolute, symbolic links resolved.
    """
    inside = package + os.sep
    return any(target.startswith(inside) for target in _targets(mention))


def _targets(mention: Mention) -> Iterator[str]:
    files, realpath = load_json(mention.record).get("files"), _remembering()
    for name in files if isinstance(files, list) else ():
        if isinstance(name, str):
            path = os.path.join(mention.prefix, name)  # strings are quicker
            try:
                target = os.readlink(path)
            except (OSError, ValueError):
                continue
            yield _resolved(path, target, realpath)


def links_into(prefixes: Iterable[Path], folders: Iterable[Path]) -> dict[str, Path]:
    """Every package folder that a symbolic link of an environment leads into, with one such environment.

    Walks the environments whole: records may be missing. A link without a record counts like any
    other.

    Args:
        prefixes: the environments.
        folders: the package caches.

    Returns:
        Resolved path of the package's folder -> prefix.
    """
    roots = tuple(os.path.realpath(folder) + os.sep for folder in folders)
    found: dict[str, Path] = {}
    # each prefix is walked once, also where one lies in another; links inside a package are the
    # package's own
    tops = {os.path.realpath(prefix): prefix for prefix in prefixes}
    but = frozenset([*(root.rstrip(os.sep) for root in roots), *tops])
    for top, prefix in tops.items():
        for target in _symbolic_links(top, but):
            for root in roots:
                if target.startswith(root):
                    found.setdefault(root + target[len(root) :].partition(os.sep)[0], prefix)
    return found


def _symbolic_links(top: str, but: frozenset[str]) -> Iterator[str]:
    """Where the symbolic links below a folder lead to; the folders in ``but`` are not entered."""
    waiting, realpath = [top], _remembering()
    while waiting:
        try:
            found = os.scandir(waiting.pop())
        except OSError:
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


def load_json(path: Path | str) -> dict[str, Any]:
    """A JSON object out of a file; empty when it is absent, broken or none."""
    try:
        with open(path, "rb") as file:  # a thousand of these
            data = json.loads(file.read(RECORD_LIMIT_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
