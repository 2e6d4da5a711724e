"""conda-lock.yml and pixi.lock. Both are written by programs, one key a line, and may have 50,000 lines.

So they are read line by line: a YAML parser in Python takes tens of seconds for the larger ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from entrepot.locks.files import Collector, digest_or_none
from entrepot.locks.pins import Known
from entrepot.names import normalize

_LINE = re.compile(r"(\s*)(-\s+)?([A-Za-z_][\w-]*):(?:\s+(.*))?").fullmatch
_URL_KEYS = ("url", "conda", "pypi")


def read_yaml_lock(text: str, source: str) -> Known:
    """The archives and wheels of a conda-lock.yml or pixi.lock, with all the digests given for each."""
    found = Collector(source)
    for item in _items(text):
        url = next((item[key] for key in _URL_KEYS if item.get(key, "").startswith(("http://", "https://"))), "")
        if not url:
            continue
        url, _, fragment = url.partition("#")
        given = [item.get("sha256"), item.get("md5")]
        texts = [f"{name}:{value}" for name, value in zip(("sha256", "md5"), given, strict=True) if value] or [fragment]
        is_python = "pypi" in item or item.get("manager") == "pip"
        name = item.get("name")
        found.file(
            url=url,
            project=normalize(name) if is_python and name else None,
            digests=[d for text in texts if (d := digest_or_none(text))],
            size=int(item["size"]) if item.get("size", "").isdecimal() else None,
        )
    return found.known()


def _items(text: str) -> Iterator[dict[str, str]]:
    """The mappings in any list, with their own keys and the digests that are nested one deeper (``hash:``)."""
    item: dict[str, str] = {}
    indent = own = -1
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        starts = line[depth : depth + 2] == "- "
        if indent >= 0 and line.strip() and (depth < indent or (depth == indent and starts)):
            yield item
            item, indent = {}, -1
        match = _LINE(line)
        if match is None:
            continue
        if indent < 0:
            if not starts:
                continue
            indent, own = depth, match.start(3)
        if match[4] and (match.start(3) == own or match[3] in {"md5", "sha256"}):
            item.setdefault(match[3], match[4].strip().strip("\"'"))
    yield item
