"""The pages of a made-up index, in both forms of the simple repository API (PEP 503, 592, 629, 658, 691, 700, 714)."""

from __future__ import annotations

import hashlib
import html
import json
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from entrepot.testing.distributions import MADE, Content

JSON = "application/vnd.pypi.simple.v1+json"
HTML_V1 = "application/vnd.pypi.simple.v1+html"
HTML = "text/html"
_LATEST = {
    "application/vnd.pypi.simple.latest+json": JSON,
    "application/vnd.pypi.simple.latest+html": HTML_V1,
    "*/*": HTML,
}
WRONG = hashlib.sha256(b"wrong").hexdigest()
"""What a page with the fault ``wronghash`` names."""


@dataclass(frozen=True, slots=True)
class File:
    """One release file of a project, and what its page says of it."""

    filename: str
    version: str
    content: Content
    metadata: bytes | None = None
    """Served at its path with ``.metadata`` behind (PEP 658); ``None``: not offered."""
    requires_python: str = ""
    yanked: bool | str = False
    age_days: int = 0
    """How much younger than the first file of all, in days."""

    @property
    def path(self) -> str:
        """Where it lies: by its BLAKE2b digest, as on the default index."""
        digest = self.content.blake2b
        return f"/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{self.filename}"

    @property
    def uploaded(self) -> str:
        """The time of upload (PEP 700)."""
        return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(MADE + 86400 * self.age_days))


def normalized(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def negotiated(accept: str, *, with_json: bool = True) -> str:
    """The content type of the answer.

    Plain HTML when nothing of what was asked for can be had (PEP 691).
    """
    best, best_quality = HTML, 0.0
    offered = {HTML, HTML_V1, JSON} if with_json else {HTML}
    for item in accept.split(","):
        media, *parameters = (part.strip() for part in item.split(";"))
        quality = next((float(p[2:]) for p in parameters if p.startswith("q=")), 1.0)
        kind = _LATEST.get(media, media)
        if kind in offered and quality > best_quality:
            best, best_quality = kind, quality
    return best


def project_page(
    name: str, files: Sequence[File], base: str, kind: str, *, wrong: bool = False
) -> bytes:
    """One project's page; ``base`` is what stands before each file's path."""
    if kind != JSON:
        anchors = "".join(_anchor(file, base, wrong=wrong) for file in files)
        return _document(f"Links for {name}", f"<h1>Links for {name}</h1>\n{anchors}")
    page = {
        "meta": {"api-version": "1.1", "_last-serial": len(files)},
        "name": normalized(name),
        "versions": sorted({file.version for file in files}),
        "files": [_record(file, base, wrong=wrong) for file in files],
    }
    return json.dumps(page).encode()


def project_list(names: Iterable[str], kind: str) -> bytes:
    """The list of all projects."""
    if kind == JSON:
        return json.dumps(
            {"meta": {"api-version": "1.1"}, "projects": [{"name": name} for name in names]}
        ).encode()
    return _document(
        "Simple index", "".join(f'<a href="{name}/">{name}</a><br />\n' for name in names)
    )


def link_page(files: Iterable[File], base: str) -> bytes:
    """A plain page of links, for ``--find-links``."""
    return _document("Files", "".join(_anchor(file, base, wrong=False) for file in files))


def _document(title: str, body: str) -> bytes:
    head = f'<meta name="pypi:repository-version" content="1.1">\n<title>{title}</title>'
    return f"<!DOCTYPE html>\n<html>\n<head>\n{head}\n</head>\n<body>\n{body}</body>\n</html>\n".encode()


def _core_metadata(file: File) -> dict[str, str] | bool:
    return (
        {"sha256": hashlib.sha256(file.metadata).hexdigest()}
        if file.metadata is not None
        else False
    )


def _record(file: File, base: str, *, wrong: bool) -> dict[str, object]:
    core = _core_metadata(file)
    record: dict[str, object] = {
        "filename": file.filename,
        "url": base + file.path,
        "hashes": {"sha256": WRONG if wrong else file.content.sha256},
        "size": file.content.size,
        "upload-time": file.uploaded,
        "core-metadata": core,
        "data-dist-info-metadata": core,
        "yanked": file.yanked,
    }
    return record | ({"requires-python": file.requires_python} if file.requires_python else {})


def _anchor(file: File, base: str, *, wrong: bool) -> str:
    digest = WRONG if wrong else file.content.sha256
    core = _core_metadata(file)
    attributes = (
        f' data-requires-python="{html.escape(file.requires_python)}"'
        if file.requires_python
        else ""
    )
    if isinstance(core, dict):
        attributes += "".join(
            f' data-{name}="sha256={core["sha256"]}"'
            for name in ("dist-info-metadata", "core-metadata")
        )
    if file.yanked is not False:
        attributes += f' data-yanked="{"" if file.yanked is True else html.escape(file.yanked)}"'
    return f'<a href="{base}{file.path}#sha256={digest}"{attributes}>{file.filename}</a><br />\n'
