"""What the known environments say of packages, by their records and by symbolic links into a cache.

Where something of an environment cannot be read, it is not known what that environment uses: this
is said, never left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from entrepot.tools._shared.safe_read import read_regular, read_whole

RECORD_LIMIT_BYTES = 64 << 20
PARSED_BYTES = 128 << 10
"""Of a record that is parsed to see whether it is whole."""
ABSENT = (FileNotFoundError, NotADirectoryError)
"""What is raised for a path that is not there."""


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
        return in_use_perhaps(self.unknown)

    def of(self, name: str) -> list[Mention]:
        """Who has it."""
        return self.by_name.get(name, [])


def mentions(prefixes: Iterable[Path]) -> Mentions:
    """The names of all records, and which records are damaged.

    Source: conda, mamba and rattler call a record ``conda-meta/NAME-VERSION-BUILD.json``.
    """
    found = Mentions()
    for prefix in prefixes:
        try:
            with os.scandir(prefix / "conda-meta") as listed:
                records = [each for each in listed if each.name.endswith(".json")]
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


def in_use_perhaps(unknown: list[str]) -> str:
    """Why no package counts as unused; empty when every known environment could be read."""
    more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
    return f"an environment may need it: {unknown[0]}{more}" if unknown else ""


def _damage(record: str) -> str:
    """Why a record does not say what its environment uses; empty when it does, or has just gone."""
    try:
        raw = read_whole(record, RECORD_LIMIT_BYTES)
        if raw is None:
            return ""
        # parsing all records of ten environments takes seconds; damage shows in the shape of a
        # large one as well
        data = (
            {"name": b'"name"' in raw}
            if len(raw) > PARSED_BYTES and _is_closed(raw)
            else json.loads(raw)
        )
    except OSError as exc:
        return exc.strerror or str(exc)
    except (ValueError, RecursionError):
        return "it is no JSON"
    return "" if isinstance(data, dict) and data.get("name") else "it names no package"


def _is_closed(raw: bytes) -> bool:
    """Whether a text has the shape of one JSON object: its brackets pair, no block is zeros."""
    closed = all(
        raw.count(left) == raw.count(right) for left, right in ((b"{", b"}"), (b"[", b"]"))
    )
    return closed and raw[:1] == b"{" and raw.rstrip()[-1:] == b"}" and b"\0" not in raw


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
                continue  # no link; the walk before a removal finds what may not be looked at
            yield _resolved(path, target, realpath)


def links_into(
    prefixes: Iterable[Path], folders: Iterable[Path], unknown: list[str]
) -> dict[str, Path]:
    """Package folders that a symbolic link of an environment leads into, with one such environment.

    Walks the environments whole: records may be missing. A link without a record counts like any
    other.

    Args:
        prefixes: the environments.
        folders: the package caches.
        unknown: gets a sentence for each folder that cannot be read.

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
        for target in _symbolic_links(top, but, unknown):
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


def load_json(path: Path | str) -> dict[str, Any]:
    """A JSON object out of a regular file; empty when it is absent, broken or none."""
    try:
        data = json.loads(read_regular(path, RECORD_LIMIT_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
