"""What in a store's directory is entrepot's: its marker, and the names of what entrepot makes.

Whatever makes a directory a store, or removes something in one, asks here first. Everything else in
it is somebody else's and stays.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

MARKER = "entrepot-store"
"""The file that makes a directory a store; without it a directory is none, whatever is in it."""
TAG = "CACHEDIR.TAG"
TAG_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This directory is a package cache made by entrepot; all of it can be fetched again.\n"
    "# For information about cache directory tags see https://bford.info/cachedir/\n"
)

_BODY = re.compile(r"bodies/sha256/[0-9a-f]{2}/[0-9a-f]{62}")
_HEAD = re.compile(r"heads/[0-9a-f]{2}/[0-9a-f]{62}/(?:0|[0-9a-f]{16})")
_NAME = r"[0-9a-f]{40}(?:\.[\w-]+)?"
_FLIGHT = re.compile(rf"({_NAME})\.(part|note|lock)")
_TEMPORARY = re.compile(rf"put-[0-9a-f]{{16}}\.tmp(?:\.link)?|{_NAME}\.note\.[0-9a-f]{{12}}")
_FRESH_VOLUME = re.compile(r"lost\+found|\.Trash-.+|\.Trashes|\.snapshots?")
_HALF_MADE = re.compile(rf"(?:{MARKER}|{re.escape(TAG)})\.[0-9a-f]{{12}}")


def is_body_key(key: str) -> bool:
    """Whether a key is one that :func:`entrepot.stored.body_key` makes."""
    return _BODY.fullmatch(key) is not None


def is_head_key(key: str) -> bool:
    """Whether a key is one of a stored response: its cache key and the name of a variant."""
    return _HEAD.fullmatch(key) is not None


class FlightFile(NamedTuple):
    """A file of ours in ``flights/``."""

    kind: str
    """``part``, ``note`` or ``lock`` of a flight, or ``temporary``."""
    stem: str
    """The name of the flight; of a temporary file its own name."""


def flight_file(name: str) -> FlightFile | None:
    """What a file in ``flights/`` is by its name; ``None``: not ours."""
    if found := _FLIGHT.fullmatch(name):
        return FlightFile(found[2], found[1])
    return FlightFile("temporary", name) if _TEMPORARY.fullmatch(name) else None


def is_store(root: str | os.PathLike[str]) -> bool:
    """Whether the marker lies in a directory. A link does not count. Never raises."""
    try:
        return stat.S_ISREG(os.lstat(f"{os.fspath(root)}/{MARKER}").st_mode)
    except (OSError, ValueError):
        return False


def foreign_name(root: str | os.PathLike[str]) -> str | None:
    """A name that keeps a directory from becoming a store; ``None`` when it counts as empty.

    What a fresh volume has of itself does not count, nor does what is left of a store that was
    being made.

    Raises:
        OSError: no directory, or it may not be read.
    """
    with os.scandir(root) as found:
        return min((entry.name for entry in found if not _counts_for_nothing(entry)), default=None)


def _counts_for_nothing(entry: os.DirEntry[str]) -> bool:
    if _FRESH_VOLUME.fullmatch(entry.name):
        return entry.is_dir(follow_symlinks=False)
    if not entry.is_file(follow_symlinks=False):
        return False
    if entry.name != TAG:
        return _HALF_MADE.fullmatch(entry.name) is not None
    try:  # another program's cache has a tag of its own
        return (
            entry.stat().st_size == len(TAG_TEXT) and Path(entry).read_text("latin-1") == TAG_TEXT
        )
    except OSError:
        return False
