"""Reading entries one by one: what each is, and which others a page among them proves.

Nothing here knows the index or decides what may go.
"""

from __future__ import annotations

from dataclasses import dataclass

from entrepot.names import normalize
from entrepot.ports.tool import Kind
from entrepot.redaction import redacted_url
from entrepot.tools.pip.evidence import Proof, page_urls, proofs
from entrepot.tools.pip.httpentry import (
    V2,
    Damage,
    Meta,
    entry_name,
    fresh_until,
    open_region,
    read_meta,
)
from entrepot.tools.pip.identify import identify
from entrepot.tools.pip.record import Record

_REDIRECTS = (301, 302, 307, 308)


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads entries of one cache and writes what they are into their records."""

    root: str
    bases: tuple[str, ...]
    """Index URLs to prove pages with, credentials included: they never leave this value."""
    names: frozenset[str]
    """The names of all entries of the cache."""

    def read_head(self, record: Record) -> list[Proof]:
        """Read an entry's metadata, and its body when that says it is a page.

        A page may prove others.
        """
        meta = self._meta(record)
        if meta is None:
            return []
        record.fresh_until, record.trust = fresh_until(meta.fields, meta.status), "unproven"
        project, version = (meta.fields.get(f"x-pypi-file-{w}") for w in ("project", "version"))
        if (
            project and version
        ):  # the default index's metadata files have them too: they say no kind
            record.project, record.version = normalize(project[:200]), version[:100]
        if meta.status in _REDIRECTS:
            self._redirect(record, meta)
        elif meta.says_page:
            return self._body(record, meta)
        return []

    def read_body(self, record: Record) -> list[Proof]:
        """Name an entry by its content."""
        meta = self._meta(record)
        if meta is None or meta.status in _REDIRECTS:
            return []
        return self._body(record, meta)

    def _meta(self, record: Record) -> Meta | None:
        try:
            meta = read_meta(self._path(record, 0), record.layout)
        except OSError as exc:
            record.problem = f"cannot be read: {exc.strerror}"
            return None
        if isinstance(meta, Damage):
            record.problem, record.trust = f"{meta.problem}: {meta.text}", "bad"
            return None
        return meta

    def _path(self, record: Record, number: int) -> str:
        return f"{self.root}/{record.folder}/{record.names.split('/')[number]}"

    def _redirect(self, record: Record, meta: Meta) -> None:
        """Where it leads; and its own address, when an index that is asked has such a page."""
        record.extra["status"], record.certainty = str(meta.status), "content"
        target = meta.fields.get("location", "").partition("#")[0]
        if not target:
            return
        record.extra["location"] = redacted_url(target)
        project = target.partition("?")[0].rstrip("/").rpartition("/")[2]
        for url in page_urls(project, self.bases):
            if project and entry_name(url) == record.name:
                record.project, record.certainty = normalize(project), "proven"
                record.origin = redacted_url(url)

    def _body(self, record: Record, meta: Meta) -> list[Proof]:
        path = self._path(record, -1 if record.layout == V2 else 0)
        try:
            with open_region(path, meta.body_offset, meta.body_size) as body:
                found = identify(body, meta.coding)
        except (OSError, ValueError) as exc:
            record.problem = f"body cannot be read: {exc}"
            return []
        record.kind = str(found.kind)
        if found.kind is Kind.OTHER and not found.filename:
            return []
        record.certainty = "content"
        record.project = found.project or record.project
        record.version = found.version or record.version
        record.filename, record.tags = found.filename, found.tags
        if found.approximate:
            record.extra["name"] = "approximate"
        if found.page is None:
            return []
        url = found.page.url(record.name, self.bases)
        if url is not None:
            record.certainty, record.origin = "proven", redacted_url(url)
        return list(proofs(found.page, url, self.names))
