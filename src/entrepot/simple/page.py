"""Reading index pages.

The JSON and HTML forms of the simple repository API, and plain directory listings.

Pages come from remote servers: whatever they hold, reading ends in a :class:`Page` or in
:class:`InvalidPage`. A file entry that cannot be understood is left out, the rest is kept; a digest
that cannot be understood is left out, its file stays (unproven). Nothing here fetches, stores or
rewrites.

Source: PEP 503, 629, 658, 691, 700, 714; for what real pages look like, pip 26.3 and uv.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any
from urllib.parse import urljoin

from entrepot.digests import LENGTHS, Digest
from entrepot.errors import FormatError, InvalidPage
from entrepot.links import Link
from entrepot.names import SUFFIXES, classify, filename_of, is_plain_filename, normalize
from entrepot.simple.anchors import anchors
from entrepot.simple.urls import Resolver, spellings
from entrepot.stored import cache_key, canonical_url


class Flaw(Enum):
    """Why an HTML text is no index page, or not certainly one."""

    NO_INDEX = "no-index"
    """It neither says that it is one nor links to any file, as a page to sign in."""
    CUT = "cut"
    """It ends within a tag or a link."""
    OPEN = "open"
    """Its ``html`` or ``body`` is never closed: cut between two links, or written so."""


@dataclass(frozen=True, slots=True)
class Page:
    """What an index page says."""

    project: str | None
    """Normalized name, if the page gives one; the root page has none."""
    links: list[Link]
    """One for each file, in the page's order, and one after it for its ``.metadata`` when its
    digest is given.

    Where pip would ask for a file under another spelling of its URL than the page's (``+`` as
    ``%2B``), both are listed.
    """
    hosts: frozenset[str]
    """``HOST:PORT`` of every file."""
    flaw: Flaw | None = None
    """Why the text is no index page although it can be read as one; never for JSON."""


def is_simple_type(content_type: str) -> bool:
    """Whether a content type is one of the simple repository API's own (so not plain ``text/html``).

    >>> is_simple_type("application/vnd.pypi.simple.v1+json; charset=utf-8"), is_simple_type("text/html")
    (True, False)
    """
    return _SIMPLE_TYPE(_media_type(content_type)) is not None


def looks_like_page(url: str, content_type: str, body_start: bytes) -> bool:
    """Whether a response is an index page or a find-links page, judged by its type and its first kilobytes.

    An ordinary HTML page is none, unless it links to files with a distribution's name.

    Args:
        url: where it was asked for: a distribution's own URL is no page, whatever its type says.
        content_type: the field's value; may be empty.
        body_start: the decoded body's beginning; 8 KiB are enough for most, 64 KiB for listings
            with long headers.
    """
    media_type = _media_type(content_type)
    if _SIMPLE_TYPE(media_type):
        return True
    if classify(filename_of(url)):
        return False
    if media_type in {"application/json", "text/json"}:
        return _JSON_START(body_start) is not None
    if media_type not in {"text/html", "application/xhtml+xml", ""}:
        return False
    text = body_start.decode("utf-8", "replace")
    if _HTML_MARK(text):
        return True
    links = (a.get("href") for name, a in anchors(text) if name == "a")
    return any(href and classify(filename_of(href)) for href in links)


def read_page(body: bytes, *, content_type: str, url: str) -> Page:
    """The links on an index page.

    Args:
        body: the page, content codings removed.
        content_type: the field's value; when it is no known one, the body's first character
            decides.
        url: where it came from, for relative links. Credentials in it do not reach the links.

    Returns:
        The page; without links for a root page (a list of projects) and for an empty project.

    Raises:
        InvalidPage: neither form.
    """
    media_type = _media_type(content_type)
    if media_type.endswith(("+json", "/json")):
        is_json = True
    elif media_type.endswith("html") or media_type == "application/xhtml+xml":
        is_json = False
    else:
        is_json = body[:64].lstrip()[:1] == b"{"
    try:
        return _read_json(body, url) if is_json else _read_html(body, content_type, url)
    except InvalidPage:
        raise
    except (ValueError, RecursionError, OverflowError, LookupError) as exc:
        raise InvalidPage(
            f"not an index page: {exc}", text=body[:80].decode("utf-8", "replace")
        ) from exc


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


_SIMPLE_TYPE = re.compile(r"application/vnd\.pypi\.simple\.(v\d+|latest)\+(json|html)").fullmatch
_JSON_START = re.compile(rb'\s*\{(?=[^\x00]*"(api-version|files|projects)"\s*:)').match
_HTML_MARK = re.compile(
    r"""<meta\b[^<>]*\bpypi:repository-version\b|<title>\s*(Links\s+(for|in)\s|Simple\s+(index|package)\b)""",
    re.IGNORECASE,
).search


# JSON


def _read_json(body: bytes, url: str) -> Page:
    data = json.loads(body)
    if not isinstance(data, dict):
        raise InvalidPage(
            "an index page is a JSON object", text=body[:80].decode("utf-8", "replace")
        )
    meta = data.get("meta")
    api = meta.get("api-version") if isinstance(meta, dict) else None
    # PEP 691: "clients MUST fail" on a greater major version.
    if isinstance(api, str) and not api.strip().startswith("1"):
        raise InvalidPage(
            f"an index page of version {api[:20]}; this version reads 1.x", text=api[:80]
        )
    files, name = data.get("files"), data.get("name")
    if not isinstance(files, list):
        if isinstance(data.get("projects"), list):
            return Page(None, [], frozenset())
        raise InvalidPage(
            "neither files nor projects in the page", text=body[:80].decode("utf-8", "replace")
        )
    project = normalize(name) if isinstance(name, str) and _PROJECT(name) else None
    return _page(
        project,
        (_json_file(f) for f in files if isinstance(f, dict)),
        url,
        base=url,
        is_listing=False,
    )


@dataclass(slots=True)
class _File:
    """A file as either form describes it, not yet checked."""

    href: str
    filename: str
    hashes: Iterable[tuple[str, object]]
    metadata_hashes: Iterable[tuple[str, object]]
    size: object = None
    upload_time: object = None


def _json_file(entry: dict[str, Any]) -> _File | None:
    href, filename = entry.get("url"), entry.get("filename")
    if not isinstance(href, str):
        return None
    metadata = entry.get("core-metadata")
    if metadata is None:
        metadata = entry.get("dist-info-metadata")
    return _File(
        href,
        filename if isinstance(filename, str) else "",
        _pairs(entry.get("hashes")),
        _pairs(metadata),
        entry.get("size"),
        entry.get("upload-time"),
    )


def _pairs(hashes: object) -> Iterable[tuple[str, object]]:
    return hashes.items() if isinstance(hashes, dict) else ()


# HTML


def _read_html(body: bytes, content_type: str, url: str) -> Page:
    found = _CHARSET(content_type) or _META_CHARSET(body[:1024].decode("latin-1"))
    try:
        text = body.decode(found[1] if found else "utf-8", "replace")
    except LookupError:
        text = body.decode("utf-8", "replace")
    if "<" not in text:
        raise InvalidPage("an index page that is neither JSON nor HTML", text=text[:80])
    if not _may_have_files(text):
        # a list of projects, which may be twenty megabytes long
        return Page(None, [], frozenset(), _flaw(text, is_index=_says_so(text, url)))
    title = _TITLE(text[:4096])
    name = title[1].strip() if title else ""
    project = normalize(name) if _PROJECT(name) else None
    files = (_html_file(attributes) for _, attributes in anchors(text, only="a"))
    page = _page(project, files, url, base=_base(text, url), is_listing=True)
    has_files = any(link.digests or link.version is not None for link in page.links)
    return replace(page, flaw=_flaw(text, is_index=has_files or _says_so(text, url)))


def _says_so(text: str, url: str) -> bool:
    """Whether a text says that it is an index page, or is a list of projects by its links."""
    if _HTML_MARK(text[:_START]) or _LISTING(text[:_START]):
        return True
    directory, _, last = canonical_url(url).partition("?")[0].rstrip("/").rpartition("/")
    if last not in {"simple", "+simple"}:
        return False
    place = f"{directory}/{last}/"
    is_project = re.compile(re.escape(place) + r"[A-Za-z0-9][\w.-]*/", re.ASCII).fullmatch
    resolve = Resolver(_base(text, place))
    return any(is_project(resolve(a.get("href") or "")) for _, a in anchors(text, only="a"))


def _flaw(text: str, *, is_index: bool) -> Flaw | None:
    if not is_index:
        return Flaw.NO_INDEX
    end = text[-_START:].lower()
    in_link = max(end.rfind("<a "), end.rfind("<a\n")) > end.rfind("</a")
    if in_link or end.rfind("<") > end.rfind(">"):
        return Flaw.CUT
    return Flaw.OPEN if _OPENED(text[:_START]) and not _CLOSED(end) else None


_START = 1 << 16
"""Characters at a page's beginning, or end, in which what belongs there is looked for."""


_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE).search
_META_CHARSET = re.compile(r"""<meta\b[^<>]*charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE).search
_TITLE = re.compile(r"<title>\s*Links\s+for\s+([^<]*)</title>", re.IGNORECASE).search
_TITLES = r"<title>\s*(index of|directory listing for|[^<]*\blinks for)\b"
_LISTING = re.compile(_TITLES, re.IGNORECASE).search
_OPENED = re.compile(r"<(?:html|body)[\s>]", re.IGNORECASE).search
_CLOSED = re.compile(r"</(?:html|body)\s*>", re.IGNORECASE).search
_BASE = re.compile(r"<base\s", re.IGNORECASE).search
_PROJECT = re.compile(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", re.ASCII).fullmatch
_FRAGMENT = re.compile(r"[#&](" + "|".join(LENGTHS) + r")=([0-9a-fA-F]+)").findall


def _base(text: str, url: str) -> str:
    """What relative links are relative to.

    The first ``<base>`` of the head, else the page itself.
    """
    start = _BASE(text)
    if start is None:
        return url
    href = next((a["href"] for _, a in anchors(text, only="base") if a.get("href")), None)
    try:
        return urljoin(canonical_url(url), href.strip()) if href else url
    except ValueError:
        return url


def _may_have_files(text: str) -> bool:
    return any(suffix in text for suffix in (*SUFFIXES, *(f"#{name}=" for name in LENGTHS)))


def _html_file(attributes: Mapping[str, str | None]) -> _File | None:
    href = attributes.get("href")
    if not href or href[-1] in "/#?":
        return None  # a directory, a project, the page itself
    metadata = attributes.get("data-core-metadata")
    if metadata is None:
        metadata = attributes.get("data-dist-info-metadata")
    fragment = href.partition("#")[2]
    return _File(
        href.strip(),
        "",
        _FRAGMENT("#" + fragment) if fragment else (),
        [(metadata.partition("=")[0], metadata.partition("=")[2])] if metadata else (),
    )


# Both forms


def _page(
    project: str | None, files: Iterable[_File | None], url: str, *, base: str, is_listing: bool
) -> Page:
    """Check and resolve what either form gave."""
    resolve = Resolver(base)
    source = cache_key(url)
    links: list[Link] = []
    hosts: set[str] = set()
    for file in files:
        url = resolve(file.href) if file else ""
        if file and url and (found := _links(file, url, project, source, is_listing=is_listing)):
            links += found
            hosts.add(resolve.authority(url))
    return Page(project, links, frozenset(hosts))


def _links(
    file: _File, url: str, project: str | None, source: str, *, is_listing: bool
) -> list[Link]:
    filename = (
        file.filename if file.filename and is_plain_filename(file.filename) else filename_of(url)
    )
    name = classify(filename, project=project)
    digests = _digests(file.hashes)
    if name is None and is_listing and not digests and not filename.endswith(SUFFIXES):
        return []  # an anchor to something else: the parent directory, a home page
    project, version, kind = (
        (name.project, name.version, name.kind) if name else (project, None, "other")
    )
    size = file.size if type(file.size) is int and 0 <= file.size < _HUGE else None
    uploaded = (
        file.upload_time if isinstance(file.upload_time, str) and _TIME(file.upload_time) else None
    )
    metadata_digests = _digests(file.metadata_hashes)
    links = []
    for spelling in spellings(url):
        links.append(
            Link(
                spelling, digests, size, project, version, filename or None, kind, uploaded, source
            )
        )
        if metadata_digests:
            sibling = f"{filename}.metadata" if filename else None
            links.append(
                Link(
                    f"{spelling}.metadata",
                    metadata_digests,
                    None,
                    project,
                    version,
                    sibling,
                    "metadata",
                    uploaded,
                    source,
                )
            )
    return links


_HUGE = 1 << 63
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.+Zz-]{5,30}", re.ASCII).fullmatch


def _digests(hashes: Iterable[tuple[str, object]]) -> tuple[Digest, ...]:
    """Those that are understood, each algorithm once."""
    found = [digest for name, value in hashes if (digest := _digest(name, value))]
    if len(found) < 2:
        return tuple(found)
    return tuple({digest.algorithm: digest for digest in reversed(found)}.values())[::-1]


def _digest(name: str, value: object) -> Digest | None:
    if not isinstance(value, str):
        return None
    try:
        return Digest(name.lower().replace("_", "-"), value.lower())
    except FormatError:
        return None
