"""conda-lock.yml and pixi.lock.

Both are written by programs, one key a line, and may have 50,000 lines.

So they are read line by line: a YAML parser in Python takes tens of seconds for the larger ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from entrepot.links import Link
from entrepot.lockfiles.files import Collector, digest_or_none
from entrepot.lockfiles.pins import Known
from entrepot.names import normalize
from entrepot.stored import canonical_url

_LINE = re.compile(r"(\s*)(-\s+)?([A-Za-z_][\w-]*):(?:\s+(.*))?").fullmatch
_URL_KEYS = ("url", "conda", "pypi")


def read_yaml_lock(text: str, source: str) -> Known:
    """The archives and wheels of a conda-lock.yml or pixi.lock, with all the digests given for each."""
    found = Collector(source)
    for item in _items(text):
        url, _, fragment = _url(item).partition("#")
        if not url:
            continue
        given = [item.get("sha256"), item.get("md5")]
        texts = [
            f"{name}:{value}" for name, value in zip(("sha256", "md5"), given, strict=True) if value
        ] or [fragment]
        is_python = "pypi" in item or item.get("manager") == "pip"
        name = item.get("name")
        found.file(
            url=url,
            project=normalize(name) if is_python and name else None,
            digests=[d for text in texts if (d := digest_or_none(text))],
            size=int(item["size"]) if item.get("size", "").isdecimal() else None,
        )
    return found.known()


@dataclass(frozen=True, slots=True)
class Locked:
    """One file of a lock for several platforms."""

    link: Link
    platforms: frozenset[str]
    """conda's names of the platforms that need it (``linux-64``); empty: the lock does not say."""


def read_locked(text: str, source: str) -> list[Locked]:
    """The files of a conda-lock.yml or pixi.lock, each once, with the platforms that need it.

    Source: conda-lock 3 (``platform`` of each package); pixi.lock 4 to 6 (``environments``, then
    platforms, then URLs).
    """
    platforms: dict[str, set[str]] = {}
    for item in _items(text):
        if url := canonical_url(_url(item).partition("#")[0]):
            platforms.setdefault(url, set()).update(filter(None, [item.get("platform")]))
    for platform, url in _environments(text):
        platforms.setdefault(canonical_url(url), set()).add(platform)
    links = read_yaml_lock(text, source).links
    return [Locked(link, frozenset(platforms[link.url])) for link in links if link.url in platforms]


def _environments(text: str) -> Iterator[tuple[str, str]]:
    """Platform and URL of what a pixi.lock lists for each environment."""
    platform, indent = "", -1
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        if (named := _PLATFORM(line)) is not None:
            platform, indent = named[1], depth
        elif platform and (listed := _LISTED(line)) is not None and depth >= indent:
            yield platform, listed[1]
        elif depth <= indent:
            platform, indent = "", -1


_PLATFORM = re.compile(r"\s+(noarch|[a-z]+-[a-z0-9]+):\s*").fullmatch
_LISTED = re.compile(r"\s*- (?:conda|pypi):\s+[\"']?(https?://[^\s#\"']+).*").fullmatch


def _url(item: dict[str, str]) -> str:
    return next(
        (item[key] for key in _URL_KEYS if item.get(key, "").startswith(("http://", "https://"))),
        "",
    )


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
