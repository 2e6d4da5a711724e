"""Unpacked packages: every file against ``info/paths.json``, by size, or in full by sha256.

Source: conda 26.7 and CEP 11's predecessor, ``paths.json`` version 1: files in a cache are as they
were packed, so their digests hold whatever ``prefix_placeholder`` says; of a softlink only that a
link is there is checked, its digest is the target's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from entrepot.tools._shared.safe_read import read_regular
from entrepot.tools.conda.archive import digest_of
from entrepot.tools.conda.environments import load_json

LARGEST_INFO_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Listed:
    """One file that a package should have."""

    path: str
    size: int | None
    sha256: str
    is_link: bool


@dataclass(frozen=True, slots=True)
class Damage:
    """One file that is not as it was packed."""

    path: str
    problem: str
    """A kebab-case word."""
    text: str
    size: int
    """Most bytes that the right file may have."""
    linked: bool = False
    """Whether the damaged file has other links: an edit of it shows in whatever links to it."""


def listed(package: Path) -> list[Listed] | None:
    """What should be there; ``None`` when neither ``paths.json`` nor ``files`` can be read."""
    paths = load_json(package / "info/paths.json").get("paths")
    if isinstance(paths, list):
        found = []
        for each in paths:
            if not isinstance(each, dict) or not _is_inside(str(each.get("_path", ""))):
                return None
            if each.get("path_type") != "directory":
                size = each.get("size_in_bytes")
                digest = str(each.get("sha256") or "").lower()
                found.append(
                    Listed(
                        each["_path"],
                        size if isinstance(size, int) else None,
                        digest,
                        each.get("path_type") == "softlink",
                    )
                )
        return found
    try:
        names = read_regular(package / "info/files").decode("utf-8").split("\n")
    except (OSError, ValueError):
        return None
    return [Listed(name, None, "", is_link=False) for name in names if name and _is_inside(name)]


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts


def damages(package: Path, files: list[Listed], *, full: bool) -> Iterator[Damage]:
    """Every listed file that is missing, of another size, or (``full``) of another digest."""
    top = str(package)
    for each in files:
        path = f"{top}/{each.path}"
        most = each.size if each.size is not None else LARGEST_INFO_BYTES
        try:
            about = os.lstat(path)
        except OSError:
            yield Damage(each.path, "missing-file", f"{each.path} is not there", most)
            continue
        if each.is_link or not stat.S_ISREG(about.st_mode):
            continue
        linked = about.st_nlink > 1
        if each.size is not None and about.st_size != each.size:
            yield Damage(
                each.path,
                _word(about, each, linked=linked),
                f"{each.path} has {about.st_size} bytes of {each.size}",
                most,
                linked,
            )
        elif full and each.sha256 and digest_of(Path(path), "sha256") != each.sha256:
            word = "edited-through-a-link" if linked else "digest-mismatch"
            yield Damage(
                each.path, word, f"{each.path} is not what was packed (sha256)", most, linked
            )


def _word(about: os.stat_result, each: Listed, *, linked: bool) -> str:
    if about.st_size == 0 and each.size:
        return "zero-length-file"
    return "edited-through-a-link" if linked else "wrong-size"
