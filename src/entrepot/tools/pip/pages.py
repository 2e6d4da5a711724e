"""Index pages found in a cache, read for one purpose: to prove what other entries are.

Their URL is not known, so links stay as written.

Source: PEP 503, 592, 691, 658, 714.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha224
from html import unescape
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from packaging.utils import canonicalize_name

from entrepot.digests import LENGTHS, Digest
from entrepot.errors import FormatError
from entrepot.tools.pip.httpentry import entry_name, key_of

_ANCHOR = re.compile(r"<a\s+([^>]*)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([a-zA-Z-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""")
_TITLE = re.compile(r"<(?:title|h1)>\s*Links for\s+([^<]{1,200})</(?:title|h1)>", re.IGNORECASE)
_PAGE_MARK = re.compile(
    r"pypi:repository-version|<title>\s*Links for|<a\s[^>]*href=", re.IGNORECASE
)


class PageFile(NamedTuple):
    """One file of a page; a tuple, because a cache's pages have millions."""

    url: str
    """As written, without the fragment: may be relative."""
    filename: str
    hashes: Any = None
    """As the page has them, by algorithm, looked at by nobody yet; or digests."""
    size: int | None = None
    metadata_hashes: Any = None
    """Those of the ``.metadata`` sibling."""

    @property
    def digests(self) -> tuple[Digest, ...]:
        """The digests of the file that are well formed."""
        return _digests(self.hashes)

    @property
    def metadata(self) -> tuple[Digest, ...]:
        """Digests of the ``.metadata`` sibling."""
        return _digests(self.metadata_hashes)


@dataclass(frozen=True, slots=True)
class CachedPage:
    """What a page says of itself and its files."""

    project: str
    """Normalized; empty when the page does not say."""
    files: tuple[PageFile, ...]


class Proof(NamedTuple):
    """An entry whose URL a page names: its key is the URL's digest, so the name cannot be wrong.

    A tuple, as :class:`PageFile`.
    """

    name: str
    """The entry's 56 digits."""
    url: str
    file: PageFile
    is_metadata: bool
    project: str


def read_page(body: bytes) -> CachedPage | None:
    """A page in its JSON or HTML form; ``None`` when the bytes are neither."""
    start = body[:256].lstrip()
    try:
        if start.startswith(b"{"):
            return _read_json(json.loads(body))
        return _read_html(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError, AttributeError, TypeError):
        return None


def _read_json(data: Any) -> CachedPage | None:
    if not isinstance(data, dict) or not isinstance(data.get("files"), list):
        return None
    files = tuple(
        _json_file(f)
        for f in data["files"]
        if isinstance(f, dict) and isinstance(f.get("url"), str)
    )
    return CachedPage(canonicalize_name(str(data.get("name", ""))), files)


def _json_file(entry: dict[str, Any]) -> PageFile:
    metadata = entry.get("core-metadata", entry.get("dist-info-metadata"))
    url = entry["url"].partition("#")[0]
    return PageFile(
        url=url,
        filename=str(entry.get("filename") or _last(url)),
        hashes=entry.get("hashes"),
        size=entry["size"] if isinstance(entry.get("size"), int) else None,
        metadata_hashes=metadata,
    )


def _digests(hashes: Any) -> tuple[Digest, ...]:
    if isinstance(hashes, tuple):
        return hashes
    if not isinstance(hashes, dict):
        return ()
    return tuple(
        d for name, value in hashes.items() if (d := _digest(str(name), str(value))) is not None
    )


def _digest(name: str, value: str) -> Digest | None:
    try:
        return Digest(name.lower(), value.lower()) if name.lower() in LENGTHS else None
    except FormatError:
        return None


def _read_html(text: str) -> CachedPage | None:
    if not _PAGE_MARK.search(text):
        return None
    title = _TITLE.search(text)
    files = tuple(
        f for anchor in _ANCHOR.finditer(text) if (f := _html_file(anchor[1])) is not None
    )
    return CachedPage(canonicalize_name(unescape(title[1]).strip()) if title else "", files)


def _html_file(attributes: str) -> PageFile | None:
    values = {
        m[1].lower(): unescape(m[2] or m[3] or m[4] or "") for m in _ATTRIBUTE.finditer(attributes)
    }
    url, _, fragment = values.get("href", "").strip().partition("#")
    if not url or url.endswith("/"):
        return None
    told = values.get("data-core-metadata", values.get("data-dist-info-metadata", ""))
    hashes = dict(
        map(_pair, reversed(fragment.split("&")))
    )  # of two with one name the first counts
    return PageFile(url, _last(url), hashes, None, dict([_pair(told)]) if "=" in told else None)


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _last(url: str) -> str:
    return unquote(url.partition("?")[0].rpartition("/")[2])


def page_urls(project: str, bases: Iterable[str]) -> Iterator[str]:
    """Where pip would have asked for a project's page.

    Each index, the normalized name, one slash.
    """
    for base in bases:
        yield f"{base.rstrip('/')}/{project}/"


def own_url(page: CachedPage, name: str, bases: Iterable[str]) -> str | None:
    """The URL under which pip asked for a page whose entry has this name.

    ``None`` when it is of no likely index.

    Likely are ``bases``, then what the page's own links speak for.
    """
    return (
        _url_at(page.project, name, bases) or _url_at(page.project, name, _guessed_bases(page))
        if page.project
        else None
    )


def _url_at(project: str, name: str, bases: Iterable[str]) -> str | None:
    return next((url for url in page_urls(project, bases) if entry_name(url) == name), None)


def _guessed_bases(page: CachedPage) -> list[str]:
    """Indexes that a page's own absolute links make likely: ``/simple`` on the same hosts."""
    hosts = {
        f"{p.scheme}://{p.netloc}"
        for f in page.files[:50]
        if (p := urlsplit(f.url)).netloc and p.scheme
    }
    return [f"{host}/simple" for host in sorted(hosts)]


def proofs(
    page: CachedPage, url: str | None, names: Sequence[str] | set[str] | frozenset[str]
) -> Iterator[Proof]:
    """Entries that a page's links prove.

    Args:
        page: the page.
        url: its own URL, for relative links; ``None``: only absolute links are followed.
        names: the names of the entries in the cache.
    """
    folders: dict[str, str] = {}
    for file in page.files:
        absolute = _absolute(file.url, url, folders)
        if not absolute:
            continue
        tried = [absolute]
        if not _PLAIN(absolute) and (cleaned := requested(absolute)) != absolute:
            tried.append(cleaned)
        found: list[bool] = []
        for target in tried:
            hasher = sha224(key_of(target))
            if False not in found and (name := hasher.hexdigest()) in names:
                found.append(False)
                yield Proof(name, target, file, is_metadata=False, project=page.project)
            hasher.update(b".metadata")
            if True not in found and (name := hasher.hexdigest()) in names:
                found.append(True)
                yield Proof(
                    name, target + ".metadata", file, is_metadata=True, project=page.project
                )


def _absolute(link: str, base: str | None, folders: dict[str, str]) -> str:
    """A link as an absolute URL, empty when it cannot be one.

    Links into one directory are resolved once.
    """
    if "://" in link:
        return link
    if not base:
        return ""
    folder, slash, last = link.rpartition("/")
    if not slash or not _PLAIN(link) or last in ("", ".", ".."):
        return urljoin(base, link)
    if folder not in folders:
        folders[folder] = urljoin(base, folder + "/")
    return folders[folder] + last


_PLAIN = re.compile(r"(?:https?://[A-Za-z0-9_.~:-]*)?[A-Za-z0-9_.~/-]*").fullmatch
"""A link that pip asks for as it stands."""
_KEPT = re.compile(r"(@|%2F)", re.IGNORECASE)


def requested(url: str) -> str:
    """A link as pip asks for it.

    Every part of the path unquoted and quoted again, so that ``!`` and ``+`` become percent signs.

    >>> requested("https://index.test/a!1+b.whl")
    'https://index.test/a%211%2Bb.whl'

    Source: pip's ``models/link.py`` (seen from 20.3 to 26.3).
    """
    parts = urlsplit(url)
    pieces = _KEPT.split(parts.path)
    path = "".join(
        piece.upper() if number % 2 else quote(unquote(piece))
        for number, piece in enumerate(pieces)
    )
    return urlunsplit(parts._replace(path=path))
