"""The wheels that pip built on this machine.

``wheels/ab/cd/ef/.../NAME.whl`` beside the ``origin.json`` that says what they were built from.

Source: pip's ``cache.py``; origin.json since pip 22.2.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from entrepot.ports.tool import Kind
from entrepot.redaction import redacted_url
from entrepot.tools._shared.noatime import open_quietly
from entrepot.tools.pip.identify import told_by
from entrepot.tools.pip.index import Row
from entrepot.tools.pip.rows import (
    CERTAINTY,
    EXTRA,
    FILENAME,
    KIND,
    LITTER,
    ORIGIN,
    PROJECT,
    SIZE,
    TAGS,
    TRUST,
    VERSION,
    blank,
)

ORIGIN_FILE = "origin.json"
ORIGIN_LIMIT = 1 << 20
_INTERPRETERS = [
    ("cp", v) for v in ("27", "35", "36", "37", "38", "39", *(f"3{n}" for n in range(10, 20)))
]


def wheel_rows(folder: str, files: list[tuple[str, os.stat_result]], root: str) -> list[Row]:
    """Rows of one directory of the wheel cache.

    A single wheel takes its ``origin.json`` along; of several, each goes alone and the last one
    takes it (see ``removal``).
    """
    wheels = [(name, info) for name, info in files if name.endswith(".whl")]
    origin = next(((name, info) for name, info in files if name == ORIGIN_FILE), None)
    rest = [
        (name, info) for name, info in files if not name.endswith(".whl") and name != ORIGIN_FILE
    ]
    rows = []
    told = read_origin(Path(root, folder, ORIGIN_FILE)) if origin else None
    for number, (name, info) in enumerate(wheels):
        parts = [(f"{folder}/{name}", info)]
        if origin and len(wheels) == 1:
            parts.append((f"{folder}/{origin[0]}", origin[1]))
        row = blank(f"{folder}/{name}", "wheels", parts)
        if origin and len(wheels) > 1 and number == 0:
            row[SIZE] += origin[1].st_size
        _name(row, name, folder, told)
        rows.append(row)
    if origin and not wheels:
        row = blank(f"{folder}/{ORIGIN_FILE}", "wheels", [(f"{folder}/{ORIGIN_FILE}", origin[1])])
        row[LITTER] = "orphan"
        rows.append(row)
    for name, info in rest:
        row = blank(f"{folder}/{name}", "wheels", [(f"{folder}/{name}", info)])
        row[KIND] = (
            str(Kind.TEMP) if _in_build(folder) or name.endswith(".tmp") else str(Kind.OTHER)
        )
        rows.append(row)
    return rows


def _in_build(folder: str) -> bool:
    """Whether pip 25.3 or later builds there.

    In ``tmp`` and eight characters, within a wheel's directory.
    """
    return any(part.startswith("tmp") and len(part) == 11 for part in folder.split("/"))


def _name(row: Row, name: str, folder: str, told: dict[str, Any] | None) -> None:
    row[PROJECT], row[VERSION], _, row[TAGS] = told_by(name)
    row[KIND], row[FILENAME] = str(Kind.BUILT), name
    row[CERTAINTY], row[TRUST] = ("content" if row[PROJECT] else "unknown"), "unproven"
    if told is None:
        return
    row[ORIGIN] = redacted_url(str(told["url"]))
    python = built_for(folder, told)
    if python:
        row[CERTAINTY] = "proven"
        row[EXTRA]["built_for"] = python
    vcs = told.get("vcs_info")
    if isinstance(vcs, dict) and vcs.get("commit_id"):
        row[EXTRA]["commit"] = str(vcs["commit_id"])


def read_origin(path: Path) -> dict[str, Any] | None:
    """An ``origin.json``; ``None`` when it is absent, too large or no object with a URL."""
    try:
        number = open_quietly(path)
        try:
            data = json.loads(os.read(number, ORIGIN_LIMIT))
        finally:
            os.close(number)
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and isinstance(data.get("url"), str) else None


def built_for(folder: str, origin: dict[str, Any]) -> str:
    """The interpreter (``cp311``) whose key for this origin is this directory.

    Empty when none is: then the origin is only claimed.

    >>> built_for("wheels/00/00/00/00", {"url": "https://index.test/a-1.tar.gz"})
    ''
    """
    wanted = folder.removeprefix("wheels/").replace("/", "")
    info = origin.get("archive_info")
    hashes = info.get("hashes") if isinstance(info, dict) else None
    choices: list[dict[str, str]] = [{}]
    choices += [{str(k): str(v)} for k, v in hashes.items()] if isinstance(hashes, dict) else []
    full = key_url(origin)
    tries = [
        (url, extra, *python)
        for url in {full, full.replace(":///", ":/")}
        for extra in choices
        for python in _INTERPRETERS
    ]
    for url, extra, name, version in tries:  # urlunsplit has written file URLs both ways
        key = {"url": url, **extra, "interpreter_name": name, "interpreter_version": version}
        if isinstance(origin.get("subdirectory"), str):
            key["subdirectory"] = origin["subdirectory"]
        text = json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        if hashlib.sha224(text.encode("ascii")).hexdigest() == wanted:
            return name + version
    return ""


def key_url(origin: dict[str, Any]) -> str:
    """The URL as it stands in a wheel's key.

    Pip hashes a VCS link with its scheme and revision, an archive's without fragment.
    """
    url = str(origin["url"])
    vcs = origin.get("vcs_info")
    if isinstance(vcs, dict):
        revision = vcs.get("requested_revision") or vcs.get("commit_id")
        url = f"{vcs.get('vcs')}+{url}@{revision}"
    return urlunsplit(urlsplit(url)._replace(fragment=""))
