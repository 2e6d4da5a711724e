"""Lock files that are tables: uv.lock, pdm.lock, poetry.lock, pylock.toml (PEP 751), Pipfile.lock.

The TOML ones differ in where they put a file's name and digest, never in what these mean, so one
reader takes all of their spellings. Tables of an unexpected type are passed over.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import Any

from entrepot.digests import Digest
from entrepot.lockfiles.pins import Collector, Known, digest_or_none
from entrepot.names import filename_of, normal_version, normalize


def read_toml_lock(text: str, source: str) -> Known:
    """uv.lock, pdm.lock, poetry.lock or pylock.toml."""
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


def read_pipfile_lock(text: str, source: str) -> Known:
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
    found.file(
        url=url,
        base=owner.base,
        filename=filename,
        project=owner.project,
        version=owner.version,
        digests=_digests(file),
        size=file.get("size"),
        upload_time=uploaded.isoformat() if isinstance(uploaded, date) else uploaded,
    )


def _digests(file: dict[str, Any]) -> list[Digest]:
    texts = [file.get("hash"), *(f"{k}:{v}" for k, v in _table(file.get("hashes")).items())]
    return [digest for text in texts if (digest := digest_or_none(text))]


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _tables(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
