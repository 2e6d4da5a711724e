"""Which kind of lock file a text is, and what it says.

Nothing here raises: a file that cannot be read says nothing. conda's explicit lists look like
requirement files: one URL a line.

Source: pip 26.3, "Requirements File Format"; ``conda list --explicit --md5`` and ``--sha256``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from entrepot.digests import LENGTHS
from entrepot.links import Link
from entrepot.lockfiles.pins import Collector, Known, digest_or_none
from entrepot.names import classify, filename_of, normal_version, normalize
from entrepot.urls import canonical_url


def read_lock(text: str, *, name: str) -> Known:
    """What a lock file or requirement file says.

    Understood are uv.lock, pdm.lock, poetry.lock, pylock.toml (PEP 751), Pipfile.lock,
    conda-lock.yml, pixi.lock, conda's explicit lists and pip's requirement files.

    Args:
        text: the file's content.
        name: its path; the last part tells its kind, the whole is kept as the links' source.
    """
    last = name.replace("\\", "/").rpartition("/")[2].lower()
    if last == "pipfile.lock":
        return _read_pipfile_lock(text, name)
    if last.endswith((".yml", ".yaml")) or last == "pixi.lock":
        return _read_yaml_lock(text, name)
    if last.endswith((".toml", ".lock")):
        return _read_toml_lock(text, name)
    return _read_requirements(text, name)


def read_arguments(arguments: Sequence[str]) -> Known:
    """What a command line says.

    ``NAME @ URL#sha256=...``, URLs of distributions, ``NAME==V --hash=...``.

    Args:
        arguments: without the program; options are passed over.
    """
    lines: list[str] = []
    for i, argument in enumerate(arguments):
        if argument.startswith("--hash=") and lines:
            lines[-1] += f" {argument}"
        elif argument.startswith("sha") and i and arguments[i - 1] == "--hash" and lines:
            lines[-1] += f" --hash={argument}"
        elif not argument.startswith("-") and "\n" not in argument:
            lines.append(argument)
    return _read_requirements("\n".join(lines), "the command line", only_files=True)


# -- requirement files -----------------------------------------------------------------------------


def _read_requirements(text: str, source: str, *, only_files: bool = False) -> Known:
    """Hashes and direct URLs of a requirement file or an explicit list; markers are not judged.

    ``only_files``: URLs that name no distribution are passed over, for a command line names indexes
    and proxies too.
    """
    found = Collector(source)
    for line in _logical_lines(text):
        option = _OPTION(line)
        if option is None:
            _read_requirement(line, found, only_files=only_files)
        elif option[1] in {"-r", "-c", "--requirement", "--constraint"}:
            found.includes.append(option[2].strip("\"'"))
        elif option[1] in {"-i", "-f", "--index-url", "--extra-index-url", "--find-links"}:
            found.host(option[2].strip("\"'"))
    return found.known()


_OPTION = re.compile(r"(-[rcife]|--[a-z][a-z-]*)[\s=]*(.*)", re.DOTALL).fullmatch
_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"""\s--hash[\s=]\s*["']?(\w+)[:=]([0-9a-fA-F]+)["']?""").finditer
_NAMED = re.compile(
    r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*(.*)", re.ASCII | re.DOTALL
).fullmatch
_PIN = re.compile(r"\(?\s*===?\s*([^\s,;*()]+)\s*\)?").fullmatch
_FRAGMENT = re.compile(r"(?:^|&)(" + "|".join(LENGTHS) + r")[=:]([0-9a-fA-F]+)").findall


def _logical_lines(text: str) -> Iterator[str]:
    """Lines with continuations joined and comments gone.

    pip joins first and takes comments out then, but a comment line always ends what went before it.
    """
    pending = ""
    for line in [*text.splitlines(), ""]:
        is_comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not is_comment:
            pending += line[:-1]
            continue
        whole = _COMMENT.sub("", pending + ("" if is_comment else line)).strip()
        pending = ""
        if whole:
            yield whole


def _read_requirement(line: str, found: Collector, *, only_files: bool) -> None:
    digests = [d for match in _HASH(line) if (d := digest_or_none(f"{match[1]}:{match[2]}"))]
    body = re.split(r"\s--?[a-z]", line, maxsplit=1)[0].strip()
    named = None if re.match(r"[A-Za-z][\w+.-]*://", body) else _NAMED(body)
    project = normalize(named[1]) if named else None
    rest = named[2] if named else body
    if named and not rest.startswith("@"):
        pin = _PIN(rest.partition(";")[0].strip())
        found.any_of(
            digests,
            project=project,
            version=normal_version(pin[1]) if pin else None,
            binds=pin is not None,
        )
        return
    url, _, fragment = re.split(r"\s+;|\s", rest.removeprefix("@").strip(), maxsplit=1)[
        0
    ].partition("#")
    if not url.startswith(("http://", "https://")):
        return
    stated = [d for pair in _FRAGMENT(fragment) if (d := digest_or_none(":".join(pair)))]
    if not stated and (bare := digest_or_none(fragment)):
        stated = [bare]  # conda: URL#MD5
    is_file = named is not None or bool(stated) or classify(filename_of(url)) is not None
    if only_files and not is_file:
        return
    if stated or len(digests) < 2:
        found.file(url=url, project=project, digests=stated or digests)
    else:
        found.file(url=url, project=project)
        found.any_of(digests, project=project, version=None, url=url, binds=True)


# -- tables: uv, pdm, poetry, pylock.toml (PEP 751), Pipfile ---------------------------------------


def _read_toml_lock(text: str, source: str) -> Known:
    """uv.lock, pdm.lock, poetry.lock or pylock.toml.

    They differ in where they put a file's name and digest, never in what these mean. Tables of an
    unexpected type are passed over.
    """
    import tomllib  # noqa: PLC0415 - late: most commands have no lock file

    found = Collector(source)
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        return found.known(problem=str(exc))
    for package in _tables(data.get("package")) + _tables(data.get("packages")):
        _read_package(package, found)
    old = _table(_table(data.get("metadata")).get("files"))  # poetry before 1.3
    for name, files in old.items():
        for file in _tables(files):
            _read_file(file, _Owner(project=normalize(name)), found)
    return found.known()


def _read_pipfile_lock(text: str, source: str) -> Known:
    """Pipfile.lock: a version with the hashes of all its files."""
    found = Collector(source)
    try:
        data = _table(json.loads(text))
    except (ValueError, RecursionError) as exc:
        return found.known(problem=str(exc))
    for index in _tables(_table(data.get("_meta")).get("sources")):
        found.host(index.get("url"))
    for section, packages in data.items():
        if section == "_meta":
            continue
        for name, package in _table(packages).items():
            hashes = _table(package).get("hashes")
            known = [digest_or_none(each) for each in hashes] if isinstance(hashes, list) else []
            pin = normal_version(_text(_table(package).get("version")).removeprefix("=="))
            found.any_of(filter(None, known), project=normalize(name), version=pin)
    return found.known()


@dataclass(frozen=True, slots=True)
class _Owner:
    """The package that a file belongs to."""

    project: str | None
    version: str | None = None
    base: str = ""
    """The index's URL, for relative ones."""
    url: str = ""
    """Of a package that is one file at one place."""


def _read_package(package: dict[str, Any], found: Collector) -> None:
    name, version = package.get("name"), package.get("version")
    source = _table(package.get("source"))
    is_checkout = (
        "git" in source or source.get("type") == "git" or "vcs" in package or "git" in package
    )
    is_legacy = source.get("type") == "legacy"  # poetry: its URL is an index's
    index = _text(source.get("registry")) or _text(package.get("index"))
    direct = _text(source.get("url")) or _text(package.get("url"))
    if is_legacy and not is_checkout:
        index = index or _text(source.get("url"))
    if not is_checkout:
        found.host(index)
    owner = _Owner(
        project=normalize(name) if isinstance(name, str) else None,
        version=normal_version(version) if isinstance(version, str) else None,
        base=f"{index.rstrip('/')}/" if "://" in index else "",
        url="" if is_checkout or is_legacy else direct,
    )
    files = _tables([package.get("sdist"), package.get("archive")])
    for file in [*files, *_tables(package.get("wheels")), *_tables(package.get("files"))]:
        _read_file(file, owner, found)


def _read_file(file: dict[str, Any], owner: _Owner, found: Collector) -> None:
    url = _text(file.get("url"))
    filename = (
        _text(file.get("filename"))
        or _text(file.get("file"))
        or _text(file.get("name"))
        or filename_of(_text(file.get("path")))
    )
    if not url and owner.url and filename in {"", filename_of(owner.url)}:
        url = owner.url
    uploaded = file.get("upload-time", file.get("upload_time"))
    texts = [file.get("hash"), *(f"{k}:{v}" for k, v in _table(file.get("hashes")).items())]
    found.file(
        url=url,
        base=owner.base,
        filename=filename,
        project=owner.project,
        version=owner.version,
        digests=[digest for text in texts if (digest := digest_or_none(text))],
        size=file.get("size"),
        upload_time=uploaded.isoformat() if isinstance(uploaded, date) else uploaded,
    )


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _tables(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# -- conda-lock.yml and pixi.lock ------------------------------------------------------------------


_LINE = re.compile(r"(\s*)(-\s+)?([A-Za-z_][\w-]*):(?:\s+(.*))?").fullmatch
_URL_KEYS = ("url", "conda", "pypi")


def _read_yaml_lock(text: str, source: str) -> Known:
    """The archives and wheels of a conda-lock.yml or pixi.lock, with all digests given for each.

    Both are written by programs, one key a line, and may have 50,000 lines: they are read line by
    line, because a YAML parser in Python takes tens of seconds for the larger ones.
    """
    found = Collector(source)
    for item in _items(text):
        url, _, fragment = _url(item).partition("#")
        if not url:
            continue
        texts = [f"{each}:{item[each]}" for each in ("sha256", "md5") if item.get(each)]
        is_python = "pypi" in item or item.get("manager") == "pip"
        name = item.get("name")
        found.file(
            url=url,
            project=normalize(name) if is_python and name else None,
            digests=[d for text in texts or [fragment] if (d := digest_or_none(text))],
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
    named, indent = "", -1
    for line in text.splitlines():  # what a pixi.lock lists for each environment and platform
        depth = len(line) - len(line.lstrip())
        if (platform := _PLATFORM(line)) is not None:
            named, indent = platform[1], depth
        elif named and (listed := _LISTED(line)) is not None and depth >= indent:
            platforms.setdefault(canonical_url(listed[1]), set()).add(named)
        elif depth <= indent:
            named, indent = "", -1
    links = _read_yaml_lock(text, source).links
    return [Locked(link, frozenset(platforms[link.url])) for link in links if link.url in platforms]


_PLATFORM = re.compile(r"\s+(noarch|[a-z]+-[a-z0-9]+):\s*").fullmatch
_LISTED = re.compile(r"\s*- (?:conda|pypi):\s+[\"']?(https?://[^\s#\"']+).*").fullmatch


def _url(item: dict[str, str]) -> str:
    return next(
        (item[key] for key in _URL_KEYS if item.get(key, "").startswith(("http://", "https://"))),
        "",
    )


def _items(text: str) -> Iterator[dict[str, str]]:
    """The mappings in any list, with the digests that are nested one deeper (``hash:``)."""
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
