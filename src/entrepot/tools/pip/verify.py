"""Checking a pip cache.

What pip could not use, would choke on, or would install wrong, and secrets that lie in it.

Repair means: what can be fetched or built again goes (metadata before body), a resumed download
gets the request value it lacks, a cookie is cut out. Nothing else is touched: an undamaged cache
keeps every byte and every time.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from entrepot.cache_root import Root
from entrepot.digests import Digest
from entrepot.ports.tool import Entry, Finding, Kind, Progress
from entrepot.simple.page import path_digest
from entrepot.tools._shared.defaults import files_host
from entrepot.tools.pip import removal
from entrepot.tools.pip.donor import SECRET_HEADERS, SECRET_VARY
from entrepot.tools.pip.evidence import Claim, Evidence, address_of, digests_of, header_claims
from entrepot.tools.pip.examine import apply_proof
from entrepot.tools.pip.httpentry import (
    LAYOUTS,
    Damage,
    Meta,
    encode,
    entry_name,
    open_region,
    read_meta,
)
from entrepot.tools.pip.identify import identify, named
from entrepot.tools.pip.index import Index
from entrepot.tools.pip.integrity import stream_problem, zip_problem
from entrepot.tools.pip.pages import CachedPage, PageFile, Proof, own_url, proofs
from entrepot.tools.pip.path_checks import exists
from entrepot.tools.pip.rows import CERTAINTY, DIGEST, KEY, STAMP, TRUST, stamp
from entrepot.tools.pip.wheels import ORIGIN_FILE, read_origin

_STREAMS = {b"\x1f\x8b": "gzip", b"BZ": "bz2", b"\xfd7": "xz"}


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
        self._root = root
        self._bases = bases
        self._repair = repair
        self._full = full
        self._progress = progress
        self._host = files_host() if host is None else host
        self._evidence = Evidence()
        self._by_key: dict[str, Entry] = {}
        self._results: dict[str, tuple[str, str, Digest | None, Proof | None]] = {}
        self._read = 0

    def findings(self, entries: list[Entry]) -> Iterator[Finding]:
        """Everything that is wrong, pages first, because they bear witness."""
        self._by_key = {entry.key: entry for entry in entries}
        self._gather(entries)
        ordered = sorted(entries, key=lambda e: e.kind is not Kind.PAGE)
        total = sum(entry.size for entry in entries)
        for entry in ordered:
            yield from self._check(entry)
            self._read += entry.size
            if self._progress:
                self._progress(self._read, total, "bytes")

    def remember(self, index: Index) -> None:
        """Write what was found (digests, names, trust) into the index where files are unchanged."""
        shards = index.load(str(self._root))
        touched = []
        for name, shard in shards.items():
            for row in shard.rows:
                result = self._results.get(row[KEY])
                if result is None or result[0] != row[STAMP]:
                    continue
                _, row[TRUST], digest, proof = result
                row[DIGEST] = digest.value if digest else None
                if proof is not None and row[CERTAINTY] != "proven":
                    apply_proof(row, proof)
                    row[CERTAINTY] = (
                        "proven" if entry_name(proof.url) == proof.name and proof.url else "hash"
                    )
                touched.append(name)
        index.save(str(self._root), ((name, shards[name]) for name in dict.fromkeys(touched)))

    # evidence

    def _gather(self, entries: list[Entry]) -> None:
        names = frozenset(_name(e) for e in entries if e.key.partition("/")[0] in LAYOUTS)
        for entry in entries:
            if entry.kind is Kind.PAGE:
                page = self._page(entry)
                if page is not None:
                    self._witness(entry, page, names)
            elif entry.kind is Kind.BUILT and entry.paths[-1].name == ORIGIN_FILE:
                self._origin_witness(entry.paths[-1])

    def _page(self, entry: Entry) -> CachedPage | None:
        with suppress(OSError, ValueError):
            meta = read_meta(entry.paths[0], _layout(entry))
            if isinstance(meta, Meta):
                with self._open(entry, meta) as body:
                    size = body.seek(0, 2)
                    body.seek(0)
                    return identify(body, size, _coding(meta)).page
        return None

    def _witness(self, entry: Entry, page: CachedPage, names: frozenset[str]) -> None:
        url = own_url(page, _name(entry), self._bases)
        for file in page.files:
            for digest in file.digests:
                if digest.algorithm == "sha256":
                    self._evidence.names_of[digest.value] = (file.filename, page.project)
        for proof in proofs(page, url, names):
            for digest in proof.file.metadata if proof.is_metadata else proof.file.digests:
                self._evidence.add(
                    proof.name,
                    Claim(digest, f"the page of {page.project or 'its project'}", entry.key),
                )

    def _origin_witness(self, path: Path) -> None:
        told = read_origin(path)
        info = told.get("archive_info") if told else None
        hashes = info.get("hashes") if isinstance(info, dict) else None
        if told is None or not isinstance(hashes, dict):
            return
        for algorithm, value in hashes.items():
            with suppress(ValueError):
                digest = Digest(str(algorithm), str(value).lower())
                self._evidence.add(
                    entry_name(str(told["url"])),
                    Claim(digest, "the origin.json of the wheel built from it"),
                )

    # one entry

    def _check(self, entry: Entry) -> Iterator[Finding]:
        if entry.kind is Kind.TEMP:
            if entry.removable_because:
                yield self._gone(
                    entry,
                    "stale-temporary",
                    "a temporary file that nobody has written to for an hour",
                )
        elif entry.kind is Kind.BUILT:
            yield from self._check_built(entry)
        elif entry.removable_because == "orphan":
            problem = entry.problem or "orphan"
            yield self._gone(
                entry, problem, _ORPHANS.get(problem, "an origin.json whose wheel is gone")
            )
        elif _layout(entry) in LAYOUTS and not entry.block:
            yield from self._check_http(entry)

    def _check_http(self, entry: Entry) -> Iterator[Finding]:
        try:
            meta = read_meta(entry.paths[0], _layout(entry))
        except FileNotFoundError:
            return
        except OSError as exc:
            yield Finding(
                "pip",
                entry,
                "cannot-be-read",
                f"{exc.strerror}: pip takes it for absent",
                entry.paths[0],
            )
            return
        if isinstance(meta, Damage):
            effect = (
                "every command that meets it ends with a traceback"
                if meta.crashes
                else "pip warns and downloads it again"
            )
            yield self._gone(entry, meta.problem, f"{meta.text}; {effect}")
            return
        try:
            found = self._body_problem(entry, meta)
        except FileNotFoundError:
            return
        except OSError as exc:
            yield Finding(
                "pip",
                entry,
                "cannot-be-read",
                f"{exc.strerror}: pip takes it for absent",
                entry.paths[-1],
            )
            return
        if found is not None:
            yield found
            return
        yield from self._secrets_and_vary(entry, meta)

    def _body_problem(self, entry: Entry, meta: Meta) -> Finding | None:
        with self._open(entry, meta) as body:
            size = body.seek(0, 2)
            body.seek(0)
            told = meta.fields.get("content-length", "").strip()
            if told.isdigit() and int(told) != size and meta.status in (200, 203, 300):
                problem = "truncated" if size < int(told) else "too-long"
                return self._gone(
                    entry, problem, f"its body has {size} bytes where {told} were announced"
                )
            if meta.status not in (200, 203, 300):
                return None
            coding = _coding(meta)
            if coding in ("gzip", "x-gzip", "deflate") and (
                text := stream_problem(body, coding.removeprefix("x-"))
            ):
                return self._gone(entry, "undecodable", f"its {coding} coding is damaged: {text}")
            body.seek(0)
            if entry.kind is Kind.PAGE or _says_page(meta):
                return self._page_problem(entry, body, size, coding)
            return self._file_problem(entry, meta, body, size)

    def _page_problem(
        self, entry: Entry, body: io.BufferedReader, size: int, coding: str
    ) -> Finding | None:
        if identify(body, size, coding).page is None:
            return self._gone(
                entry,
                "broken-page",
                "an index page that cannot be parsed; pip ends with a traceback",
            )
        return None

    def _file_problem(
        self, entry: Entry, meta: Meta, body: io.BufferedReader, size: int
    ) -> Finding | None:
        claims = (
            []
            if _coding(meta)
            else [*self._evidence.about(_name(entry)), *header_claims(meta.headers)]
        )
        if entry.origin and (digest := path_digest(entry.origin, self._host)) is not None:
            claims.append(Claim(digest, "its address on the default index"))
        hasher = digests_of(body, {"blake2b-256", *(c.digest.algorithm for c in claims)})
        own = hasher.digest()
        wrong = next((c for c in claims if hasher.digest(c.digest.algorithm) != c.digest), None)
        if wrong is not None:
            return self._mismatch(entry, wrong, hasher.digest(wrong.digest.algorithm), body, size)
        strong = any(c.digest.is_strong for c in claims)
        proof = (
            None
            if entry.certainty == "proven"
            else self._proof(entry, own, hasher.digest("blake2b-256"))
        )
        strong = strong or (proof is not None)
        if (self._full or not strong) and (text := _archive_problem(entry, body, size)):
            problem = "record-mismatch" if "RECORD" in text else "broken-archive"
            return self._gone(entry, problem, text)
        self._results[entry.key] = (
            entry.stamp,
            "proven" if strong else "unproven",
            own,
            proof,
        )
        return None

    def _proof(self, entry: Entry, own: Digest, blake: Digest) -> Proof | None:
        """A name for what no page proved.

        The default index's address made of the digest, or a page's hash alone.
        """
        if self._host and entry.filename and not entry.filename.endswith(".metadata"):
            url = address_of(blake, entry.filename, self._host)
            if entry_name(url) == _name(entry):
                return Proof(
                    _name(entry),
                    url,
                    PageFile(url, entry.filename, (own,)),
                    is_metadata=False,
                    project=entry.project or "",
                )
        told = self._evidence.names_of.get(own.value)
        if told is None:
            return None
        return Proof(
            _name(entry), "", PageFile("", told[0], (own,)), is_metadata=False, project=told[1]
        )

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
            removal.remove([page])
            found = replace(found, repaired=f"{found.repaired}, with the page that contradicts it")
        return found

    def _secrets_and_vary(self, entry: Entry, meta: Meta) -> Iterator[Finding]:
        leaked = sorted(
            name for name, value in meta.vary.items() if name.lower() in SECRET_VARY and value
        )
        if leaked:
            names = ", ".join(leaked)
            yield self._gone(
                entry,
                "credentials-in-vary",
                f"its metadata holds the request's {names} in clear text",
            )
            return
        cookies = [
            name
            for name, _ in meta.headers
            if name.lower() in SECRET_HEADERS - {"www-authenticate"}
        ]
        if cookies:
            yield self._rewritten(
                entry,
                meta,
                "credentials-in-headers",
                f"its headers hold a {cookies[0]}",
                _without_cookies,
            )
        missing = [name for name, value in meta.vary.items() if value is None]
        if missing and meta.reason == "None" and meta.version == 0 and entry.kind is not Kind.PAGE:
            text = "a resumed download, stored without the request it answers: pip can never use it"
            if all(name.lower() in _FILE_REQUEST for name in missing):
                yield self._rewritten(entry, meta, "nil-vary", text, _with_file_request)
            else:
                yield self._gone(entry, "nil-vary", text)
        if not {"date", "etag"} & meta.fields.keys() and meta.status not in (301, 308):
            yield self._gone(
                entry,
                "never-usable",
                "it has neither Date nor ETag: pip deletes it when it meets it",
            )

    def _check_built(self, entry: Entry) -> Iterator[Finding]:
        path = entry.paths[0]
        try:
            with open_region(path) as body:
                size = body.seek(0, 2)
                body.seek(0)
                text = zip_problem(body, size, record=True)
                body.seek(0)
                inside = identify(body, size) if not text else None
        except FileNotFoundError:
            return
        except OSError as exc:
            yield Finding("pip", entry, "cannot-be-read", str(exc.strerror), path)
            return
        if text:
            problem = "record-mismatch" if "RECORD" in text else "broken-wheel"
            yield self._gone(entry, problem, f"{text}; pip installs from it without looking")
            return
        if inside is not None and inside.project and inside.project != named(path.name)[0]:
            yield self._gone(entry, "wrong-wheel", f"it is a wheel of {inside.project}")
            return
        origin = path.parent / ORIGIN_FILE
        if exists(origin) and read_origin(origin) is None:
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
        done = removal.remove([replace(entry, block=None)], force=True)
        repaired = "removed" if done.entries else ""
        why = f" (not removed: {done.kept[0][1]})" if done.kept else ""
        return Finding("pip", entry, problem, text + why, entry.paths[0], repaired)

    def _rewritten(
        self, entry: Entry, meta: Meta, problem: str, text: str, change: Callable[[Meta], str]
    ) -> Finding:
        """A finding whose cure is new metadata.

        In the old layout, where the body is in the same file, removal.
        """
        if not self._repair or _layout(entry) != LAYOUTS[0]:
            return self._gone(entry, problem, text)
        said = change(meta)
        path = entry.paths[0]
        try:
            with Root(self._root) as root, root.folder(path.parent) as folder:
                if stamp(folder.stat(path.name)) != entry.stamp.partition(";")[0]:
                    return Finding(
                        "pip", entry, problem, f"{text} (not mended: it changed meanwhile)", path
                    )
                # the temporary name is one that pip's own cleaning knows
                folder.replace(path.name, encode(meta.top), temporary=f"{path.name}{{}}.tmp")
        except OSError as exc:
            return Finding("pip", entry, problem, f"{text} (not mended: {exc.strerror})", path)
        self._results.pop(entry.key, None)
        return Finding("pip", entry, problem, text, path, said)

    def _open(self, entry: Entry, meta: Meta) -> io.BufferedReader:
        if _layout(entry) == LAYOUTS[0]:
            return open_region(entry.paths[-1])
        return open_region(entry.paths[0], meta.body_offset, meta.body_size)


_ORPHANS = {
    "body-without-metadata": "a body without metadata: pip never finds it",
    "metadata-without-body": (
        "metadata without a body, left by an interrupted pip: it is downloaded again"
    ),
    "wrong-place": "it lies in a directory where pip never looks for it",
}
_FILE_REQUEST = {"accept-encoding": "identity", "accept": "*/*"}
"""What pip sends when it downloads a file."""


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
    start = body.read(4)
    body.seek(0)
    if start == b"PK\x03\x04":
        return zip_problem(body, size, record=True)
    if start[:2] in _STREAMS:
        return stream_problem(body, _STREAMS[start[:2]])
    if entry.kind in (Kind.WHEEL, Kind.SDIST):
        return "it is no archive, as its name says"
    return ""


def _name(entry: Entry) -> str:
    return entry.key.rpartition("/")[2]


def _layout(entry: Entry) -> str:
    return entry.key.partition("/")[0]


def _coding(meta: Meta) -> str:
    return meta.fields.get("content-encoding", "").strip().lower()


def _says_page(meta: Meta) -> bool:
    return "simple.v1" in meta.fields.get("content-type", "")
