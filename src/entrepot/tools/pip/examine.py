"""Reading entries one by one: what each is, and which others a page among them proves.

Safe to run in another process.

Nothing here knows the index or decides what may go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from entrepot.names import normalize
from entrepot.ports.tool import Kind
from entrepot.stored import redacted_url
from entrepot.tools.pip.httpentry import (
    V2,
    Damage,
    Meta,
    entry_name,
    fresh_until,
    open_body,
    read_meta,
)
from entrepot.tools.pip.identify import Identity, identify, told_by
from entrepot.tools.pip.index import Row
from entrepot.tools.pip.pages import CachedPage, Proof, own_url, page_urls, proofs
from entrepot.tools.pip.rows import (
    CERTAINTY,
    EXTRA,
    FILENAME,
    FRESH_UNTIL,
    KEY,
    KIND,
    LAYOUT,
    ORIGIN,
    PATHS,
    PROJECT,
    TAGS,
    TRUST,
    VERSION,
)


@dataclass(frozen=True, slots=True)
class Known:
    """What proofs are sought with."""

    root: str
    bases: tuple[str, ...]
    """Index URLs, credentials included: they never leave this value."""
    names: frozenset[str]
    """The names of all entries of the cache."""


Naming = tuple[str, str, str, bool, str]
"""A proof in short, quick to hand to another process: the entry's name, URL, file name, whether it
is the metadata, project."""


_REDIRECTS = (301, 302, 307, 308)


def name_of(row: Row) -> str:
    """The entry's 56 digits."""
    return str(row[KEY]).rpartition("/")[2]


def examine_heads(rows: Sequence[Row], known: Known) -> list[Naming]:
    """Read the metadata of entries, and the bodies of those that say they are pages.

    These may prove the others.
    """
    found: list[Naming] = []
    for row in rows:
        meta = _meta(row, known.root)
        if meta is None:
            continue
        row[FRESH_UNTIL] = fresh_until(meta.fields, meta.status)
        row[TRUST] = "unproven"
        _from_headers(row, meta)
        if meta.status in _REDIRECTS:
            _redirect(row, meta, known)
        elif _says_page(meta):
            found += _body(row, meta, known)
    return found


def examine_bodies(rows: Sequence[Row], known: Known) -> list[Naming]:
    """Name by content the entries that nothing has proved yet."""
    found: list[Naming] = []
    for row in rows:
        meta = _meta(row, known.root)
        if meta is not None and meta.status not in _REDIRECTS:
            found += _body(row, meta, known)
    return found


def _meta(row: Row, root: str) -> Meta | None:
    try:
        meta = read_meta(f"{root}/{row[PATHS][0]}", row[LAYOUT])
    except OSError as exc:
        row[EXTRA]["problem"] = f"cannot be read: {exc.strerror}"
        return None
    if isinstance(meta, Damage):
        row[EXTRA]["problem"] = f"{meta.problem}: {meta.text}"
        row[TRUST] = "bad"
        return None
    return meta


def _redirect(row: Row, meta: Meta, known: Known) -> None:
    """Where it leads; and its own address, when an index that is asked has a page of that name."""
    row[EXTRA]["status"] = str(meta.status)
    row[CERTAINTY] = "content"
    target = meta.fields.get("location", "").partition("#")[0]
    if not target:
        return
    row[EXTRA]["location"] = redacted_url(target)
    project = target.partition("?")[0].rstrip("/").rpartition("/")[2]
    for url in page_urls(project, known.bases):
        if project and entry_name(url) == name_of(row):
            row[PROJECT], row[ORIGIN], row[CERTAINTY] = (
                normalize(project),
                redacted_url(url),
                "proven",
            )


def _says_page(meta: Meta) -> bool:
    said = meta.fields.get("content-type", "").lower()
    return "html" in said or "simple.v1" in said


def _from_headers(row: Row, meta: Meta) -> None:
    """The default index names project and version in its headers.

    Its metadata files carry the same ones, so they say no kind.
    """
    project, version = (
        meta.fields.get("x-pypi-file-project"),
        meta.fields.get("x-pypi-file-version"),
    )
    if project and version:
        row[PROJECT], row[VERSION] = project[:200], version[:100]


def _body(row: Row, meta: Meta, known: Known) -> list[Naming]:
    coding = meta.fields.get("content-encoding", "").strip().lower()
    path = row[PATHS][-1] if row[LAYOUT] == V2 else row[PATHS][0]
    try:
        with open_body(f"{known.root}/{path}", meta.body_offset, meta.body_size) as body:
            size = body.seek(0, 2)
            body.seek(0)
            found = identify(body, size, coding)
    except (OSError, ValueError) as exc:
        row[EXTRA]["problem"] = f"body cannot be read: {exc}"
        return []
    _apply(row, found)
    return _page(row, found.page, known) if found.page is not None else []


def _apply(row: Row, found: Identity) -> None:
    row[KIND] = str(found.kind)
    if found.kind is Kind.OTHER and not found.filename:
        return
    row[CERTAINTY] = "content"
    row[PROJECT], row[VERSION] = found.project or row[PROJECT], found.version or row[VERSION]
    row[FILENAME], row[TAGS] = found.filename, found.tags
    if found.approximate:
        row[EXTRA]["name"] = "approximate"


def _page(row: Row, page: CachedPage, known: Known) -> list[Naming]:
    url = own_url(page, name_of(row), known.bases)
    if url is not None:
        row[CERTAINTY], row[ORIGIN] = "proven", redacted_url(url)
    return [
        (p.name, p.url, p.file.filename, p.is_metadata, p.project)
        for p in proofs(page, url, known.names)
    ]


def apply_proof(row: Row, proof: Proof) -> None:
    """Write what a proof says into a row."""
    apply_naming(
        row, (proof.name, proof.url, proof.file.filename, proof.is_metadata, proof.project)
    )


def apply_naming(row: Row, naming: Naming) -> None:
    """As :func:`apply_proof`."""
    _, url, filename, is_metadata, said = naming
    project, version, kind, tags = told_by(filename)
    row[PROJECT], row[VERSION] = project or said or row[PROJECT], version or row[VERSION]
    row[ORIGIN], row[CERTAINTY] = redacted_url(url), "proven"
    row[EXTRA].pop("name", None)
    if is_metadata:
        row[KIND], row[FILENAME], row[TAGS] = _METADATA, f"{filename}.metadata", ""
    else:
        row[KIND], row[FILENAME], row[TAGS] = kind, filename, tags


_METADATA = str(Kind.METADATA)
