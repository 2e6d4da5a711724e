"""What proves that a directory is a package cache, and that something in it is its tool's.

``pkgs_dirs`` and its variables may name any directory: an empty entry is the one that a command was
started in. A name proves nothing: people have archives called ``data-2024-01.tar.bz2`` and folders
called ``.trash``. So a directory is a cache by what conda, mamba or rattler leaves in each of
theirs, and what lies in one goes only when it proves to be theirs by its content, by its record or
by the log of downloads. What is not proved stays, and is not promised.

Source: conda 26.7 and py-rattler 0.28, by experiment; libmamba 2.8, read: it makes ``urls.txt`` in
every cache, as conda does.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entrepot.names import CONDA_SUFFIXES
from entrepot.ports.tool import Surroundings
from entrepot.tools._shared.disk_usage import listed, measure
from entrepot.tools._shared.mounts import is_empty, is_mount
from entrepot.tools._shared.safe_read import is_dir, is_file, open_regular
from entrepot.tools.conda.entry import load_json
from entrepot.tools.conda.pkgs_dirs import MAGIC, SCHEMES
from entrepot.tools.conda.platform_paths import expand_user, expand_variables, pathmod
from entrepot.tools.conda.urls import Urls, is_log, stem

NO_CACHE = "not a package cache"
EMPTY = "nothing is in it"
"""A directory that its tool would make a cache of; nobody needs to be told of it."""
RATTLER_LOCK = ".cache.lock"
"""The file that rattler locks while it installs from a cache."""

_HASHED = re.compile(r"(.+)-[0-9a-f]{64}")
_ASIDE = re.compile(r"(.+)(?:\.c~|\.(?:conda_trash|mamba_trash|trash)(?:_\d+)?)")
"""What conda and mamba put aside: an archive or a package."""
_CPH = re.compile(r"\.cph_tmp\w{8}")
_CPH_MEMBER = re.compile(r"metadata\.json|(?:pkg|info)-.+\.tar\.\w+|.+\.(?:conda|tar\.bz2)")
_OUR_LOG = re.compile(r"\.urls\.\w+\.tmp")
_THROWN_AWAY = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|.+\.(?:conda|mamba)_trash(?:_\d+)?"
)
_UNPACKING = re.compile(r"\.(.+-[^-]+-[^-]+)\w{6}")
"""Where rattler unpacks: a dot, the package, six characters at random."""
_CONDA_MEMBER = re.compile(rb"metadata\.json|(?:pkg|info)-")
_LOCK_BYTES = 40
_LOG_BYTES = 1 << 20
_HEAD_BYTES = 1 << 20
_OWN = frozenset((MAGIC, "urls", "cache", ".trash", ".logs", RATTLER_LOCK, "lost+found", *SCHEMES))


# -- directories -----------------------------------------------------------------------------------


def why_no_cache(folder: Path, around: Surroundings, text: str = os.sep) -> str:
    """Why an existing directory is no package cache, whatever names it; empty when it is one.

    Args:
        folder: the directory.
        around: where to look.
        text: the entry as it is written.
    """
    if why := why_never(folder, around, text):
        return why
    try:
        os.scandir(folder).close()
    except OSError:
        return ""  # unknown, and a look at what lies there ends with this error
    # a tool leaves its mark: the log of downloads, rattler's lock, or a package
    if not (is_log(folder) or is_file(folder / RATTLER_LOCK)) and not any(
        each.is_dir(follow_symlinks=False) and is_package(each.path, each.name)
        for each in listed(folder)
    ):
        return EMPTY if is_empty(folder) else f"there is no {MAGIC} and no package in it"
    # a file system of its own is a usual place for a cache; one with other things in it is
    # somebody's disk
    if is_mount(folder) and not all(map(_is_usual, listed(folder))):
        return "it is a mount point, and other things lie there as well"
    return ""


def standing(folder: Path, around: Surroundings, text: str = os.sep) -> tuple[bool, str]:
    """Whether a directory is a package cache, and what to say of one that is there and is none.

    Args:
        folder: a directory that may be there.
        around: where to look.
        text: the entry as it is written.
    """
    why = why_no_cache(folder, around, text) if is_dir(folder) else EMPTY
    return not why, "" if why in ("", EMPTY) else f"{NO_CACHE}: {why}"


def why_never(folder: Path, around: Surroundings, text: str = os.sep) -> str:
    """Why a directory is no cache of any kind, whatever lies in it.

    People have everything there.
    """
    real, home = os.path.realpath(folder), os.path.realpath(around.home)
    if real == os.path.dirname(real):
        return "it is the root of the file system"
    if real == home or _is_home(real):
        return "it is a home directory"
    if _is_within(home, real):
        return "the home directory lies in it"
    # an entry may be another directory for every directory that a command is started in
    expanded = expand_user(expand_variables(expand_variables(text, around), around), around)
    is_relative = "PWD" in text or not pathmod(around).isabs(expanded)
    if is_relative and _is_within(os.path.realpath(around.cwd), real):
        return f"the entry {text!r} is the directory that a command is started in"
    return ""


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_home(real: str) -> bool:
    """Whether a directory is some user's home: where homes usually are, or its owner's."""
    if os.path.dirname(real) in ("/home", "/Users") or real == "/root":
        return True
    try:
        import pwd  # noqa: PLC0415  # there is none on Windows

        return os.path.realpath(pwd.getpwuid(os.stat(real).st_uid).pw_dir) == real
    except (ImportError, KeyError, OSError):
        return False


def _is_usual(each: os.DirEntry[str]) -> bool:
    name = each.name
    if each.is_dir(follow_symlinks=False):
        return name in _OWN or is_file(f"{each.path}/info/index.json")
    return name in _OWN or name.removesuffix(".partial").endswith((*CONDA_SUFFIXES, ".lock"))


# -- what lies in one ------------------------------------------------------------------------------


def base(name: str) -> str:
    """``NAME-VERSION-BUILD`` of a package's folder: rattler may append a digest of its origin."""
    hashed = _HASHED.fullmatch(name)
    return hashed[1] if hashed else name


def names(data: Mapping[str, Any], name: str) -> bool:
    """Whether a record or an ``index.json`` is of the package that a folder is called after."""
    filename = data.get("fn")
    parts = [data.get("name"), data.get("version"), data.get("build") or data.get("build_string")]
    if not all(isinstance(part, str) and part for part in parts):
        return False
    known = "-".join(map(str, parts)), stem(filename) if isinstance(filename, str) else ""
    return base(name).lower() in map(str.lower, known)


def is_package(path: str, name: str) -> bool:
    """Whether a folder is an unpacked package of that name, by a file in its ``info``."""
    return any(
        names(load_json(f"{path}/info/{file}"), name)
        for file in ("index.json", "repodata_record.json")
    )


def is_downloaded(folder: Path, name: str, urls: Urls) -> bool:
    """Whether a package was unpacked to a folder: the log of downloads says so, or rattler's lock.

    That is what an unpacking leaves which was interrupted before it came to ``info/index.json``.
    """
    if any(base(name) + extension in urls.logged for extension in CONDA_SUFFIXES):
        return True
    return base(name).count("-") > 1 and is_rattler_lock(folder, f"{name}.lock")


def is_rattler_lock(folder: Path, name: str) -> bool:
    """Whether a file is rattler's lock beside a package: a revision and a digest, or nothing."""
    try:
        about = (folder / name).lstat()
    except OSError:
        return False
    if not stat.S_ISREG(about.st_mode):
        return False
    return about.st_size == _LOCK_BYTES or (about.st_size == 0 and is_file(folder / RATTLER_LOCK))


def is_logs(path: Path) -> bool:
    """Whether a folder holds logs and nothing else, as those of conda before 4.4 do."""
    found = listed(path)
    return bool(found) and all(
        each.name.endswith(".log") and each.is_file(follow_symlinks=False) for each in found
    )


def is_left_over(folder: Path, name: str, urls: Urls) -> bool:
    """Whether an interrupted tool, or we, left a file or folder: by its name and its content."""
    path = folder / name
    if name == ".trash":
        inside = listed(path)
        return bool(inside) and all(map(_is_trash, inside))
    if _CPH.fullmatch(name):
        return is_dir(path) and all(_CPH_MEMBER.fullmatch(each.name) for each in listed(path))
    if _OUR_LOG.fullmatch(name):
        return all(b"://" in line for line in _head(path, _LOG_BYTES).splitlines() if line.strip())
    if name.endswith(".partial"):
        return _is_archive(path, name.removesuffix(".partial"), urls)
    if name.endswith(".lock"):
        package = name.removesuffix(".lock")
        return (
            package.count("-") > 1
            and is_rattler_lock(folder, name)
            and not is_dir(folder / package)
        )
    if (aside := _ASIDE.fullmatch(name)) is not None:
        if not path.is_symlink() and path.is_dir():
            return is_package(str(path), aside[1]) or is_downloaded(folder, aside[1], urls)
        return _is_archive(path, aside[1], urls)
    unpacking = _UNPACKING.fullmatch(name)
    if unpacking is None:
        return False
    if is_package(str(path), unpacking[1]) or is_rattler_lock(folder, f"{unpacking[1]}.lock"):
        return True
    tree = measure(str(path))
    nothing_to_lose = not tree.files and not tree.unread
    return is_file(folder / RATTLER_LOCK) and nothing_to_lose


def _is_trash(each: os.DirEntry[str]) -> bool:
    """Whether something in a ``.trash`` is ours (always a folder), conda's or mamba's."""
    ours = each.name.startswith("entrepot-") and each.is_dir(follow_symlinks=False)
    return ours or _THROWN_AWAY.fullmatch(each.name) is not None


def _is_archive(path: Path, name: str, urls: Urls) -> bool:
    """Whether a file is a package's archive or its beginning: it was logged, or shows it."""
    if not name.endswith(CONDA_SUFFIXES):
        return False
    if name in urls.logged:
        return True
    try:
        if path.lstat().st_size == 0:
            return True
    except OSError:
        return False
    head = _head(path, _HEAD_BYTES)
    if name.endswith(".conda"):
        return head.startswith(b"PK\3\4") and _CONDA_MEMBER.match(head, 30) is not None
    import bz2  # noqa: PLC0415  # `where` does without

    try:
        return bz2.BZ2Decompressor().decompress(head, 512).startswith(b"info/")
    except (OSError, ValueError):
        return False


def _head(path: Path, limit_bytes: int) -> bytes:
    try:
        with os.fdopen(open_regular(path, follow=False), "rb") as file:
            return file.read(limit_bytes)
    except OSError:
        return b"\0"
