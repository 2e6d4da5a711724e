"""Checking a pip cache.

What pip could not use, would choke on, or would install wrong, and secrets that lie in it.

Repair means: what can be fetched or built again goes (metadata before body), a resumed download
gets the request value it lacks, a cookie is cut out. Nothing else is touched: an undamaged cache
keeps every byte and every time.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from entrepot.cache_root import Root
from entrepot.digests import Digest, Hasher
from entrepot.fs import stamp
from entrepot.names import classify
from entrepot.ports.tool import Entry, Finding, Kind, Progress
from entrepot.simple.page import path_digest
from entrepot.tools._shared.archives import CHUNK, stream_problem, zip_problem
from entrepot.tools._shared.defaults import files_host
from entrepot.tools.pip.evidence import Claim, Proof, address_of, header_claims, proofs
from entrepot.tools.pip.httpentry import (
    LAYOUTS,
    V1,
    Damage,
    Meta,
    encode,
    entry_name,
    open_region,
    read_meta,
)
from entrepot.tools.pip.identify import TARS, identify
from entrepot.tools.pip.index import Index
from entrepot.tools.pip.record import Trust
from entrepot.tools.pip.removal import PipRemoval
from entrepot.tools.pip.reuse import SECRET_HEADERS, SECRET_VARY
from entrepot.tools.pip.wheels import ORIGIN_FILE, read_origin

_CODINGS = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
_BODIES = (200, 203, 300)
"""Statuses whose body pip uses."""
_ORPHANS = {
    "body-without-metadata": "a body without metadata: pip never finds it",
    "metadata-without-body": (
        "metadata without a body, left by an interrupted pip: it is downloaded again"
    ),
    "wrong-place": "it lies in a directory where pip never looks for it",
}
_FILE_REQUEST = {"accept-encoding": "identity", "accept": "*/*"}
"""What pip sends when it downloads a file."""


class Verifier:
    """One check of one cache.

    Args:
        root: the cache directory.
        bases: index URLs to prove pages with.
        repair: repair or remove what is damaged.
        full: unpack every archive, also those whose digest is known and right.
        progress: told the bytes that were read.
        host: where the default index keeps its files; ``None``: as pip's constants say.
    """

    def __init__(
        self,
        root: Path,
        bases: tuple[str, ...],
        *,
        repair: bool = False,
        full: bool = False,
        progress: Progress | None = None,
        host: str | None = None,
    ) -> None:
        self._root, self._bases = root, bases
        self._repair, self._full = repair, full
        self._progress = progress
        self._host = files_host() if host is None else host
        self._claims: dict[str, list[Claim]] = {}
        """By the name of the entry that they are about."""
        self._names_of: dict[str, tuple[str, str]] = {}
        """sha256 value -> file name and project, as pages tell it."""
        self._whole_pages: set[str] = set()
        """Keys of entries whose body is an index page that can be read."""
        self._by_key: dict[str, Entry] = {}
        self._results: dict[str, tuple[str, Trust, Digest | None, Proof | None]] = {}
        """Key -> stamp, trust, digest, and what proved its name."""

    def findings(self, entries: list[Entry]) -> Iterator[Finding]:
        """Everything that is wrong, pages first, because they bear witness."""
        self._by_key = {entry.key: entry for entry in entries}
        names = {_name(entry) for entry in entries if _layout(entry) in LAYOUTS}
        for entry in entries:
            if entry.kind is Kind.PAGE:
                self._read_page(entry, names)
            elif entry.kind is Kind.BUILT and entry.paths[-1].name == ORIGIN_FILE:
                self._read_origin(entry.paths[-1])
        total, read = sum(entry.size for entry in entries), 0
        for entry in sorted(entries, key=lambda e: e.kind is not Kind.PAGE):
            yield from self._check(entry)
            read += entry.size
            if self._progress:
                self._progress(read, total, "bytes")

    def remember(self, index: Index) -> None:
        """Write what was found (digests, names, trust) into the index where files are unchanged."""
        changed = []
        for record in index.records() if self._results else ():
            result = self._results.get(record.key)
            if result is None or result[0] != record.stamp:
                continue
            _, trust, digest, proof = result
            record.trust = trust
            record.digest = digest.value if digest else ""
            if proof is not None and record.certainty != "proven":
                proof.apply(record)
            changed.append(record)
        index.update(changed)

    # evidence

    def _read_page(self, entry: Entry, names: set[str]) -> None:
        """What a page says of the other entries."""
        page = None
        with suppress(OSError, ValueError):
            meta = read_meta(entry.paths[0], _layout(entry))
            if isinstance(meta, Meta):
                with _open(entry, meta) as body:
                    page = identify(body, meta.coding).page
        if page is None:
            return
        self._whole_pages.add(entry.key)
        url = page.url(_name(entry), self._bases)
        for link in page.links(url):
            for digest in link.digests if link.filename and link.kind != "metadata" else ():
                if digest.algorithm == "sha256":
                    self._names_of[digest.value] = (link.filename or "", page.project)
        said_by = f"the page of {page.project or 'its project'}"
        for proof in proofs(page, url, names):
            claims = [Claim(digest, said_by, entry.key) for digest in proof.digests]
            self._claims.setdefault(proof.name, []).extend(claims)

    def _read_origin(self, path: Path) -> None:
        """What an ``origin.json`` says of the sdist that its wheel was built from."""
        told = read_origin(path)
        info = told.get("archive_info") if told else None
        hashes = info.get("hashes") if isinstance(info, dict) else None
        if told is None or not isinstance(hashes, dict):
            return
        said_by = "the origin.json of the wheel built from it"
        claims = self._claims.setdefault(entry_name(str(told["url"])), [])
        for algorithm, value in hashes.items():
            with suppress(ValueError):
                claims.append(Claim(Digest(str(algorithm), str(value).lower()), said_by))

    # one entry

    def _check(self, entry: Entry) -> Iterator[Finding]:
        if entry.kind is Kind.TEMP:
            if entry.removable_because:
                text = "a temporary file that nobody has written to for an hour"
                yield self._gone(entry, "stale-temporary", text)
        elif entry.kind is Kind.BUILT:
            yield from self._check_built(entry)
        elif entry.removable_because == "orphan":
            problem = entry.problem or "orphan"
            text = _ORPHANS.get(problem, "an origin.json whose wheel is gone")
            yield self._gone(entry, problem, text)
        elif _layout(entry) in LAYOUTS and not entry.block:
            path, found = entry.paths[0], None
            try:
                meta = read_meta(path, _layout(entry))
                if isinstance(meta, Meta):
                    path = entry.paths[-1]
                    found = self._check_body(entry, meta)
            except FileNotFoundError:
                return
            except OSError as exc:
                text = f"{exc.strerror}: pip takes it for absent"
                yield Finding("pip", entry, "cannot-be-read", text, path)
                return
            if isinstance(meta, Damage):
                effect = "pip warns and downloads it again"
                if meta.crashes:
                    effect = "every command that meets it ends with a traceback"
                yield self._gone(entry, meta.problem, f"{meta.text}; {effect}")
            elif found is not None:
                yield found
            else:
                yield from self._check_meta(entry, meta)

    def _check_body(self, entry: Entry, meta: Meta) -> Finding | None:
        with _open(entry, meta) as body:
            size = body.seek(0, os.SEEK_END)
            if meta.status not in _BODIES:
                return None
            if (told := meta.length) is not None and told != size:
                problem = "truncated" if size < told else "too-long"
                text = f"its body has {size} bytes where {told} were announced"
                return self._gone(entry, problem, text)
            body.seek(0)
            engine = _CODINGS.get(meta.coding)
            if engine and (text := stream_problem(body, engine)):
                return self._gone(
                    entry, "undecodable", f"its {meta.coding} coding is damaged: {text}"
                )
            if entry.kind is not Kind.PAGE and "simple.v1" not in meta.fields.get(
                "content-type", ""
            ):
                return self._check_file(entry, meta, body, size)
            if entry.key in self._whole_pages or identify(body, meta.coding).page is not None:
                return None
            text = "an index page that cannot be parsed; pip ends with a traceback"
            return self._gone(entry, "broken-page", text)

    def _check_file(
        self, entry: Entry, meta: Meta, body: io.BufferedReader, size: int
    ) -> Finding | None:
        claims: list[Claim] = []
        if not meta.coding:
            claims = sorted(
                self._claims.get(_name(entry), ()), key=lambda claim: not claim.digest.is_strong
            )
            claims += header_claims(meta.headers)
        if entry.origin and (digest := path_digest(entry.origin, self._host)) is not None:
            claims.append(Claim(digest, "its address on the default index"))
        hasher = Hasher({"blake2b-256", *(c.digest.algorithm for c in claims)})
        body.seek(0)
        while data := body.read(CHUNK):
            hasher.feed(data)
        own = hasher.digest()
        for claim in claims:
            if (actual := hasher.digest(claim.digest.algorithm)) != claim.digest:
                return self._mismatch(entry, claim, actual, body, size)
        proof = None
        if entry.certainty != "proven":
            proof = self._proof(entry, own, hasher.digest("blake2b-256"))
        strong = proof is not None or any(c.digest.is_strong for c in claims)
        if (self._full or not strong) and (text := _archive_problem(entry, body, size)):
            problem = "record-mismatch" if "RECORD" in text else "broken-archive"
            return self._gone(entry, problem, text)
        trust: Trust = "proven" if strong else "unproven"
        self._results[entry.key] = (entry.stamp, trust, own, proof)
        return None

    def _proof(self, entry: Entry, own: Digest, blake: Digest) -> Proof | None:
        """A name for what no page proved.

        The default index's address made of the digest, or a page's hash alone.
        """
        name, filename = _name(entry), entry.filename or ""
        if self._host and filename and not filename.endswith(".metadata"):
            url = address_of(blake, filename, self._host)
            if entry_name(url) == name:
                return Proof(name, url, filename, entry.project or "")
        told = self._names_of.get(own.value)
        return Proof(name, "", *told) if told else None

    def _mismatch(
        self, entry: Entry, claim: Claim, actual: Digest, body: io.BufferedReader, size: int
    ) -> Finding:
        """A wrong digest.

        When the archive is whole the page that contradicts it is removed too; pip fetches both.
        """
        text = (
            f"its body is {actual}, and {claim.said_by} says {claim.digest}; pip stops with a hash "
            "error on every run"
        )
        found = self._gone(entry, "digest-mismatch", text)
        page = self._by_key.get(claim.page)
        if (
            page is not None
            and self._repair
            and entry.kind is Kind.WHEEL
            and not _archive_problem(entry, body, size)
        ):
            PipRemoval().run([page])
            found = replace(found, repaired=f"{found.repaired}, with the page that contradicts it")
        return found

    def _check_meta(self, entry: Entry, meta: Meta) -> Iterator[Finding]:
        """Secrets in the metadata, and what keeps pip from using the entry."""
        leaked = sorted(
            name for name, value in meta.vary.items() if name.lower() in SECRET_VARY and value
        )
        if leaked:
            text = f"its metadata holds the request's {', '.join(leaked)} in clear text"
            yield self._gone(entry, "credentials-in-vary", text)
            return
        secret = SECRET_HEADERS - {"www-authenticate"}
        cookies = [name for name, _ in meta.headers if name.lower() in secret]
        if cookies:
            text = f"its headers hold a {cookies[0]}"
            yield self._rewritten(entry, meta, "credentials-in-headers", text, _without_cookies)
        missing = [name for name, value in meta.vary.items() if value is None]
        if missing and meta.is_resumed and entry.kind is not Kind.PAGE:
            text = "a resumed download, stored without the request it answers: pip can never use it"
            if all(name.lower() in _FILE_REQUEST for name in missing):
                yield self._rewritten(entry, meta, "nil-vary", text, _with_file_request)
            else:
                yield self._gone(entry, "nil-vary", text)
        if not {"date", "etag"} & meta.fields.keys() and meta.status not in (301, 308):
            text = "it has neither Date nor ETag: pip deletes it when it meets it"
            yield self._gone(entry, "never-usable", text)

    def _check_built(self, entry: Entry) -> Iterator[Finding]:
        path = entry.paths[0]
        try:
            with open_region(path) as body:
                text = zip_problem(body, body.seek(0, os.SEEK_END))
                inside = "" if text else identify(body).project
        except FileNotFoundError:
            return
        except OSError as exc:
            yield Finding("pip", entry, "cannot-be-read", str(exc.strerror), path)
            return
        if text:
            problem = "record-mismatch" if "RECORD" in text else "broken-wheel"
            yield self._gone(entry, problem, f"{text}; pip installs from it without looking")
            return
        named = classify(path.name)
        if inside and named and inside != named.project:
            yield self._gone(entry, "wrong-wheel", f"it is a wheel of {inside}")
            return
        origin = path.parent / ORIGIN_FILE
        if os.path.exists(origin) and read_origin(origin) is None:
            text = (
                "its origin.json is no JSON object with a URL: pip warns on every run and knows "
                "nothing of its hash"
            )
            repaired = ""
            if self._repair:
                with suppress(OSError), Root(self._root) as root:
                    root.unlink(origin)
                    repaired = "removed origin.json"
            yield Finding("pip", entry, "broken-origin", text, origin, repaired)

    # repair

    def _gone(self, entry: Entry, problem: str, text: str) -> Finding:
        """A finding whose cure is removal."""
        if not self._repair:
            self._results[entry.key] = (entry.stamp, "bad", None, None)
            return Finding("pip", entry, problem, text, entry.paths[0])
        done = PipRemoval(force=True).run([replace(entry, block=None)])
        repaired = "removed" if done.entries else ""
        why = f" (not removed: {done.kept[0][1]})" if done.kept else ""
        return Finding("pip", entry, problem, text + why, entry.paths[0], repaired)

    def _rewritten(
        self, entry: Entry, meta: Meta, problem: str, text: str, change: Callable[[Meta], str]
    ) -> Finding:
        """A finding whose cure is new metadata.

        In the old layout, where the body is in the same file, removal.
        """
        if not self._repair or _layout(entry) == V1:
            return self._gone(entry, problem, text)
        said = change(meta)
        path = entry.paths[0]
        why = "it changed meanwhile"
        try:
            with Root(self._root) as root, root.folder(path.parent) as folder:
                if stamp(folder.stat(path.name)) == entry.stamp.partition(";")[0]:
                    # the temporary name is one that pip's own cleaning knows
                    folder.replace(path.name, encode(meta.top), temporary=f"{path.name}{{}}.tmp")
                    self._results.pop(entry.key, None)
                    return Finding("pip", entry, problem, text, path, said)
        except OSError as exc:
            why = str(exc.strerror)
        return Finding("pip", entry, problem, f"{text} (not repaired: {why})", path)


def _with_file_request(meta: Meta) -> str:
    for name, value in list(meta.top["vary"].items()):
        if value is None and name.lower() in _FILE_REQUEST:
            meta.top["vary"][name] = _FILE_REQUEST[name.lower()]
    return "wrote down the request it answers"


def _without_cookies(meta: Meta) -> str:
    headers = meta.top["response"]["headers"]
    for name in list(headers):
        if name.lower() in SECRET_HEADERS - {"www-authenticate"}:
            del headers[name]
    return "cut it out"


def _archive_problem(entry: Entry, body: io.BufferedReader, size: int) -> str:
    body.seek(0)
    start = body.read(6)
    body.seek(0)
    if start.startswith(b"PK\x03\x04"):
        return zip_problem(body, size)
    for magic, engine, _ in TARS:
        if start.startswith(magic):
            return stream_problem(body, engine)
    if entry.kind in (Kind.WHEEL, Kind.SDIST):
        return "it is no archive, as its name says"
    return ""


def _open(entry: Entry, meta: Meta) -> io.BufferedReader:
    """An entry's body."""
    return open_region(entry.paths[-1], meta.body_offset, meta.body_size)


def _name(entry: Entry) -> str:
    return entry.key.rpartition("/")[2]


def _layout(entry: Entry) -> str:
    return entry.key.partition("/")[0]
