"""Index pages: read in the JSON and HTML forms of the simple repository API, and as plain listings.

Pages come from remote servers: whatever they hold, reading ends in a :class:`Page` or in
:class:`InvalidPage`. A file entry that cannot be understood is left out, the rest is kept; a digest
that cannot be understood is left out, its file stays (unproven). For old clients a page in JSON is
written again as HTML. Nothing here fetches or stores.

Source: PEP 503, 592, 629, 658, 691, 700, 714; for what real pages look like, pip 26.3 and uv.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any
from urllib.parse import urljoin

from entrepot.digests import LENGTHS, Digest
from entrepot.errors import FormatError, InvalidPage
from entrepot.links import Link
from entrepot.names import SUFFIXES, classify, filename_of, is_plain_filename, normalize
from entrepot.simple.negotiate import media_type
from entrepot.stored import cache_key
from entrepot.urls import Resolver, authority_of, canonical_url, spellings


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
    kind = media_type(content_type)
    if kind.endswith(("+json", "/json")):
        is_json = True
    elif kind.endswith("html") or kind == "application/xhtml+xml":
        is_json = False
    else:
        is_json = body[:64].lstrip()[:1] == b"{"
    try:
        return _read_json(body, url) if is_json else _read_html(body, content_type, url)
    except InvalidPage:
        raise
    except (ValueError, RecursionError, OverflowError, LookupError) as exc:
        raise _invalid(f"not an index page: {exc}", body) from exc


def _invalid(message: str, body: bytes) -> InvalidPage:
    return InvalidPage(message, text=body[:80].decode("utf-8", "replace"))


# JSON


def _read_json(body: bytes, url: str) -> Page:
    data = json.loads(body)
    if not isinstance(data, dict):
        raise _invalid("an index page is a JSON object", body)
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
        raise _invalid("neither files nor projects in the page", body)
    project = normalize(name) if isinstance(name, str) and _PROJECT(name) else None
    found = (_json_file(f) for f in files if isinstance(f, dict))
    return _page(project, found, url, base=url, is_listing=False)


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
    hashes, of_metadata = (
        each.items() if isinstance(each, dict) else () for each in (entry.get("hashes"), metadata)
    )
    filename = filename if isinstance(filename, str) else ""
    return _File(href, filename, hashes, of_metadata, entry.get("size"), entry.get("upload-time"))


# HTML


def _read_html(body: bytes, content_type: str, url: str) -> Page:
    found = _CHARSET(content_type) or _META_CHARSET(body[:1024].decode("latin-1"))
    try:
        text = body.decode(found[1] if found else "utf-8", "replace")
    except LookupError:
        text = body.decode("utf-8", "replace")
    if "<" not in text:
        raise InvalidPage("an index page that is neither JSON nor HTML", text=text[:80])
    title = _TITLE(text[:4096])
    name = title[1].strip() if title else ""
    project = normalize(name) if _PROJECT(name) else None
    if not any(mark in text for mark in (*SUFFIXES, *(f"#{name}=" for name in LENGTHS))):
        # a list of projects, which may be twenty megabytes long
        return Page(project, [], frozenset(), _flaw(text, is_index=_says_so(text, url)))
    page = _page(
        project, map(_html_file, tags(text, "a")), url, base=_base(text, url), is_listing=True
    )
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
    return any(is_project(resolve(a.get("href") or "")) for a in tags(text, "a"))


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
_HTML_MARK = re.compile(
    r"""<meta\b[^<>]*\bpypi:repository-version\b|<title>\s*(Links\s+(for|in)\s|Simple\s+(index|package)\b)""",
    re.IGNORECASE,
).search
_LISTING = re.compile(_TITLES, re.IGNORECASE).search
_OPENED = re.compile(r"<(?:html|body)[\s>]", re.IGNORECASE).search
_CLOSED = re.compile(r"</(?:html|body)\s*>", re.IGNORECASE).search
_BASE = re.compile(r"<base\s", re.IGNORECASE).search
_PROJECT = re.compile(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", re.ASCII).fullmatch
_FRAGMENT = re.compile(r"[#&](" + "|".join(LENGTHS) + r")=([0-9a-fA-F]+)").findall


def _base(text: str, url: str) -> str:
    """What relative links are relative to: the first ``<base>``, else the page itself."""
    if _BASE(text) is None:
        return url
    href = next((found["href"] for found in tags(text, "base") if found.get("href")), None)
    try:
        return urljoin(canonical_url(url), href.strip()) if href else url
    except ValueError:
        return url


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


_TOKEN = re.compile(
    r"""
    <!--(?:.*?-->|.*)                                  # a comment; an open one hides the rest
    |<(?P<raw>script|style|textarea|title|xmp|iframe|noembed|noframes)(?=[\s/>])(?:.*?</(?P=raw)(?=[\s/>])|.*)
    |<(?P<name>[a-z][^\s/>]*)
        # Runs are possessive, and a tag that is never closed takes the rest of the text: no second
        # look at any part.
        (?:(?P<attributes>(?>[^>=]+|=\s*"[^"]*"|=\s*'[^']*'|=)*+)>|.*)
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_ATTRIBUTE = re.compile(r"""([^\s/>=][^\s/>=]*)(?:\s*(=)\s*(?:"([^"]*)"|'([^']*)'|([^\s>]*)))?""")


def tags(text: str, tag: str) -> Iterator[dict[str, str | None]]:
    """The attributes of every start tag of this name; of a repeated attribute the first counts.

    Names are in lower case, entities resolved. Nothing is built, because index pages have tens of
    thousands of anchors: the standard library's parser takes several times as long (measured on a
    page of 3,000 files). Comments, scripts and quoting are known, nesting is not; time is linear in
    the text for any input.
    """
    for token in _TOKEN.finditer(text):
        name, attributes = token.group("name", "attributes")
        if name is None or attributes is None or name.lower() != tag:
            continue
        found: dict[str, str | None] = {}
        for key, equals, double, single, bare in _ATTRIBUTE.findall(attributes):
            value = double or single or bare
            value = html.unescape(value) if "&" in value else value
            found.setdefault(key.lower(), value if equals else None)
        yield found


# Both forms


def _page(
    project: str | None, files: Iterable[_File | None], url: str, *, base: str, is_listing: bool
) -> Page:
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
    filename = file.filename if is_plain_filename(file.filename) else filename_of(url)
    name = classify(filename, project=project)
    digests, metadata_digests = _digests(file.hashes), _digests(file.metadata_hashes)
    if name is None and is_listing and not digests and not filename.endswith(SUFFIXES):
        return []  # an anchor to something else: the parent directory, a home page
    about: tuple[str | None, str | None] = (project, None)
    if name is not None:
        about = name.project, name.version
    kind = name.kind if name else "other"
    size = file.size if type(file.size) is int and 0 <= file.size < _HUGE else None
    time = file.upload_time
    uploaded = time if isinstance(time, str) and _TIME(time) else None
    links = []
    for each in spellings(url):
        links.append(Link(each, digests, size, *about, filename or None, kind, uploaded, source))
        if metadata_digests:
            sibling = (f"{each}.metadata", metadata_digests, None, *about)
            named = f"{filename}.metadata" if filename else None
            links.append(Link(*sibling, named, "metadata", uploaded, source))
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


# JSON to HTML


HTML_TYPE = "text/html; charset=utf-8"
_PREFERRED = ("sha256", "sha512", "sha384", "sha224", "sha1", "md5")
"""A fragment takes one digest; pip 20.3 understands all of these."""


def html_page(body: bytes) -> bytes:
    """A page in JSON as HTML, for clients from before PEP 691.

    Only what installers read is carried over; relative links stay relative to the same URL.

    Args:
        body: a project's page in JSON, content codings removed.

    Raises:
        InvalidPage: it is none.

    Source: PEP 503, 592 (yanked), 658 and 714 (metadata), 691 (the JSON form).

    >>> html_page(b'{"name": "x", "files": [{"url": "x-1.zip", "hashes": {}}]}').splitlines()[-1]
    b'<a href="x-1.zip">x-1.zip</a><br>'
    """
    try:
        page = json.loads(body)
        files = [
            file
            for file in page["files"]
            if isinstance(file, dict) and isinstance(file.get("url"), str)
        ]
        name = str(page["name"])
    except (ValueError, LookupError, TypeError, RecursionError) as exc:
        raise _invalid(f"not a project's page: {exc}", body) from exc
    title = f"Links for {html.escape(name)}"
    head = f"<!DOCTYPE html>\n<title>{title}</title>\n<h1>{title}</h1>\n"
    return "".join([head, *map(_anchor, files)]).encode("utf-8", "replace")


def _anchor(file: dict[str, Any]) -> str:
    url = file["url"].partition("#")[0]
    digest = _fragment(file.get("hashes"))
    attributes = {"href": f"{url}#{digest}" if digest else url}
    if isinstance(file.get("requires-python"), str):
        attributes["data-requires-python"] = file["requires-python"]
    yanked = file.get("yanked")
    if yanked not in (None, False):
        attributes["data-yanked"] = yanked if isinstance(yanked, str) else ""
    metadata = file.get("core-metadata", file.get("dist-info-metadata"))
    if metadata:
        attributes["data-dist-info-metadata"] = attributes["data-core-metadata"] = (
            _fragment(metadata) or "true"
        )
    shown = "".join(f' {name}="{html.escape(value)}"' for name, value in attributes.items())
    return f"<a{shown}>{html.escape(str(file.get('filename') or url.rpartition('/')[2]))}</a><br>\n"


def _fragment(hashes: object) -> str:
    """``ALGORITHM=VALUE`` of the best digest; empty without one."""
    if not isinstance(hashes, dict):
        return ""
    return next(
        (f"{name}={value}" for name in _PREFERRED if isinstance(value := hashes.get(name), str)), ""
    )


# The default index's paths


_PATH = re.compile(
    r"https?://[^/]+/packages/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{60})/([^/?#]+)"
).fullmatch


def path_digest(url: str, files_host: str) -> Digest | None:
    """The digest that a file's URL states, or ``None`` where the rule does not hold.

    Each file of the default index lies under the blake2b-256 of its bytes. A ``.metadata`` sibling
    lies at its wheel's path, so the path says nothing of its own bytes.

    Args:
        url: canonical.
        files_host: ``HOST`` or ``HOST:PORT`` of the default index's files; empty when it is not
            known.

    Source: experiments on six files of the default index.

    >>> url = "https://files.test/packages/ab/cd/" + "0" * 60 + "/x-1.tar.gz"
    >>> str(path_digest(url, "files.test"))[:18]
    'blake2b-256:abcd00'
    """
    match = _PATH(url.partition("#")[0].partition("?")[0])
    if match is None or not files_host or match[4].endswith(".metadata"):
        return None
    authority, known = authority_of(url), files_host.lower()
    if authority != known and authority not in {f"{known}:443", f"{known}:80"}:
        return None
    return Digest("blake2b-256", match[1] + match[2] + match[3])
