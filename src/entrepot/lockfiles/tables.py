"""Lock files that are tables.

Uv.lock, pdm.lock, poetry.lock, pylock.toml (PEP 751) and Pipfile.lock.

The TOML ones differ in where they put a file's name and digest, never in what these mean, so one
reader takes all of their spellings. Tables of an unexpected type are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

from entrepot.digests import Digest
from entrepot.lockfiles.files import Collector, digest_or_none
from entrepot.lockfiles.pins import Known
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
            digests = (
                [d for h in hashes if (d := digest_or_none(h))] if isinstance(hashes, list) else []
            )
            version = _table(package).get("version")
            pinned = (
                normal_version(version.removeprefix("==")) if isinstance(version, str) else None
            )
            found.any_of(digests, project=normalize(name), version=pinned)
    return found.known()


class _Owner:
    """The package that a file belongs to."""

    __slots__ = ("base", "project", "url", "version")

    def __init__(
        self, *, project: str | None, version: str | None = None, base: str = "", url: str = ""
    ) -> None:
        self.project = project
        self.version = version
        self.base = base
        """The index's URL, for relative ones."""
        self.url = url
        """Of a package that is one file at one place."""


def _read_package(package: dict[str, Any], found: Collector) -> None:
    name, version = package.get("name"), package.get("version")
    source = _table(package.get("source"))
    is_checkout = (
        "git" in source or source.get("type") == "git" or "vcs" in package or "git" in package
    )
    index = _text(source.get("registry")) or _text(package.get("index"))
    if not is_checkout:
        index = index or (_text(source.get("url")) if source.get("type") == "legacy" else "")
        found.host(index)
    direct = (
        ""
        if is_checkout or source.get("type") == "legacy"
        else _text(source.get("url")) or _text(package.get("url"))
    )
    owner = _Owner(
        project=normalize(name) if isinstance(name, str) else None,
        version=normal_version(version) if isinstance(version, str) else None,
        base=f"{index.rstrip('/')}/" if "://" in index else "",
        url=direct,
    )
    for file in _files(package):
        _read_file(file, owner, found)


def _files(package: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key in ("sdist", "archive"):
        if isinstance(package.get(key), dict):
            yield package[key]
    for key in ("wheels", "files"):
        yield from _tables(package.get(key))


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
