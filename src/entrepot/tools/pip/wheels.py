"""The wheels that pip built on this machine.

``wheels/ab/cd/ef/.../NAME.whl`` beside the ``origin.json`` that says what they were built from.

Source: pip's ``cache.py``; origin.json since pip 22.2.
"""

from __future__ import annotations

import hashlib
import json
import os
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from entrepot.names import classify
from entrepot.ports.tool import Kind
from entrepot.redaction import redacted_url
from entrepot.tools._shared.noatime import open_quietly
from entrepot.tools.pip.record import Files, Record, found

ORIGIN_FILE = "origin.json"
ORIGIN_LIMIT = 1 << 20
_INTERPRETERS = ("27", *(f"3{n}" for n in range(5, 20)))
"""Versions of CPython as they stand in a wheel's key."""


def wheel_records(folder: str, files: Files, root: str) -> list[Record]:
    """Records of one directory of the wheel cache.

    A single wheel takes its ``origin.json`` along; of several, each goes alone and the last one
    takes it (see ``removal``).
    """
    wheels = [file for file in files if file[0].endswith(".whl")]
    origin = next((file for file in files if file[0] == ORIGIN_FILE), None)
    told = read_origin(Path(root, folder, ORIGIN_FILE)) if origin else None
    records = []
    for number, file in enumerate(wheels):
        together = [file, origin] if origin and len(wheels) == 1 else [file]
        record = _wheel(folder, together, told)
        if origin and len(wheels) > 1 and number == 0:
            record.size += origin[1].st_size
        records.append(record)
    if origin and not wheels:
        other = str(Kind.OTHER)
        records.append(found(folder, [origin], "wheels", kind=other, is_orphan=True))
    # pip 25.3 and later build in ``tmp`` and eight characters, within a wheel's directory.
    in_build = any(part.startswith("tmp") and len(part) == 11 for part in folder.split("/"))
    for file in files:
        if not file[0].endswith(".whl") and file is not origin:
            kind = Kind.TEMP if in_build or file[0].endswith(".tmp") else Kind.OTHER
            records.append(found(folder, [file], "wheels", kind=str(kind)))
    return records


def _wheel(folder: str, files: Files, told: dict[str, Any] | None) -> Record:
    filename = files[0][0]
    record = found(folder, files, "wheels", kind=str(Kind.BUILT), filename=filename)
    record.trust = "unproven"
    if named := classify(filename):
        record.project, record.version, record.tags = named.project, named.version, named.tags
        record.certainty = "content"
    if told is None:
        return record
    record.origin = redacted_url(str(told["url"]))
    if python := built_for(folder, told):
        record.certainty, record.extra["built_for"] = "proven", python
    vcs = told.get("vcs_info")
    if isinstance(vcs, dict) and vcs.get("commit_id"):
        record.extra["commit"] = str(vcs["commit_id"])
    return record


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
    # urlunsplit has written file URLs both ways
    for url, extra, version in product({full, full.replace(":///", ":/")}, choices, _INTERPRETERS):
        key = {"url": url, **extra, "interpreter_name": "cp", "interpreter_version": version}
        if isinstance(origin.get("subdirectory"), str):
            key["subdirectory"] = origin["subdirectory"]
        text = json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        if hashlib.sha224(text.encode("ascii")).hexdigest() == wanted:
            return f"cp{version}"
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
