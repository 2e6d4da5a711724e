"""Checking: every cache through the tool port, and entrepot's own store head by head.

What is wrong in the store is removed, not repaired: all of it can be fetched again. Heads go before
their body, so that no reader finds a head whose body is known to be bad.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from entrepot.cache_root import foreign
from entrepot.caches import NAME
from entrepot.digests import Digest, Hasher
from entrepot.errors import Busy, FormatError, InvalidHead, StoreError
from entrepot.ports.catalogue import Opened
from entrepot.ports.store import Store, read_object
from entrepot.ports.tool import Entry, Finding, Kind, Place, Progress, Surroundings, Tool
from entrepot.redaction import has_secret
from entrepot.stored import FORMAT, Head, body_key, is_body_key, is_head_key

CHUNK = 1 << 20
LARGEST_HEAD = 1 << 20
"""Bytes that are read of a file that is no head by its name."""

SECRET_FIELDS = frozenset(
    "authorization proxy-authorization authentication-info "
    "cookie cookie2 set-cookie set-cookie2".split()
)
"""Response fields, or request fields that ``Vary`` names, whose values are credentials."""


def verify_all(
    tools: Iterable[Tool],
    around: Surroundings,
    *,
    repair: bool = False,
    full: bool = False,
    progress: Progress | None = None,
) -> Iterator[tuple[Place, Iterator[Finding]]]:
    """Each existing place of some tools with what is wrong there."""
    for tool in tools:
        seen = set()
        for place in tool.places(around):
            if place.path is not None and place.exists and place.path not in seen:
                seen.add(place.path)
                why = foreign(place.path, around.euid) if repair else ""
                may_repair = repair and not why
                found = tool.verify(place, around, repair=may_repair, full=full, progress=progress)
                if why:
                    found = (replace(f, text=f"{f.text} (not repaired: {why})") for f in found)
                yield place, found


def verify_store(
    opened: Opened, *, repair: bool = False, progress: Progress | None = None
) -> Iterator[Finding]:
    """Check a whole store.

    Heads parse and hold no credential, their bodies are there, as long as they say and hash to
    their name.

    Args:
        opened: the store and its catalogue.
        repair: remove what is damaged, head first.
        progress: told the bytes hashed.

    Raises:
        StoreUnavailable: the store cannot be read at all.
    """
    yield from _Check(opened, repair=repair, progress=progress).findings()


class _Check:
    """One look at a store."""

    def __init__(self, opened: Opened, *, repair: bool, progress: Progress | None) -> None:
        self._store = opened.store
        self._catalogue = opened.catalogue
        self._repair = repair
        self._progress = progress
        # Bodies are listed before heads: a body that comes in between is then in neither list,
        # never a false orphan.
        self._bodies = {meta.key: meta for meta in self._store.list("bodies")}
        self._heads: set[str] = set()
        self._by_body: dict[str, list[str]] = {}
        """Body key -> keys of the heads that name it."""

    def findings(self) -> Iterator[Finding]:
        """What is wrong, heads first."""
        store = self._store
        for meta in store.list("heads"):
            self._heads.add(meta.key)
            if is_head_key(meta.key):
                if found := self._head(meta.key):
                    yield found
                continue
            text = f"{meta.key} is not the name of a head: left alone"
            yield self._finding("strange-name", text, meta.key)
            if meta.size <= LARGEST_HEAD:  # a body that it names is no orphan
                self._claim(read_object(store, meta.key) or b"", meta.key)
        total, done = sum(meta.size for meta in self._bodies.values()), 0
        for key, meta in sorted(self._bodies.items()):
            self._report(done, total)
            if store.head(key) is None:
                pass  # removed since it was listed, by another process or with its head
            elif not is_body_key(key):
                text = f"{key} is not the name of a body: left alone"
                yield self._finding("strange-name", text, key)
            elif self._by_body.get(key) or not self._is_orphan(key):
                if found := self._body(key, done, total):
                    yield found
            else:
                text = f"left-over body {_short(key)} ({meta.size} bytes)"
                yield self._removed(
                    self._finding("orphan-body", text, key), key, partial(self._drop_orphan, key)
                )
            done += meta.size
        self._report(total, total)

    def _report(self, done: int, total: int) -> None:
        if self._progress:
            self._progress(done, total, "bytes")

    def _finding(self, problem: str, text: str, key: str, entry: Entry | None = None) -> Finding:
        path = self._store.root / key if self._store.root else None
        return Finding(NAME, entry, problem, text, path)

    def _head(self, key: str) -> Finding | None:
        raw = read_object(self._store, key)
        if raw is None:
            return None  # removed since it was listed
        try:
            head = Head.from_bytes(raw, key=key.rpartition("/")[2])
        except InvalidHead as exc:
            if _is_later(raw):
                # Its body is not to be taken for an orphan: its name stands somewhere in the text.
                self._claim(raw, key)
                text = f"the head {_short(key)} was written by a later version of entrepot"
                return self._finding("later-head", f"{text}: left alone", key)
            text = f"the head {_short(key)} cannot be read: {exc.message}"
            return self._drop_heads(self._finding("bad-head", text, key), [key])
        body = body_key(head.body) if head.body else ""
        if body:
            self._by_body.setdefault(body, []).append(key)
        also = head.body
        if leak := leaked_credential(head):
            problem = "credential"
            text = f"the head of {head.url.partition('?')[0]} holds a credential ({leak})"
        elif not body:
            return None
        elif (meta := self._bodies.get(body) or self._store.head(body)) is None:
            problem, text, also = "missing-body", f"the body of {head.url} is not there", None
        elif head.response.size not in (None, meta.size):
            # The body stays for its other heads; if it is what is wrong, hashing it finds that.
            problem, size = "wrong-size", head.response.size
            text = f"the body of {head.url} has {meta.size} bytes, its head says {size}"
        else:
            return None
        entry = _entry(self._store, key, head)
        return self._drop_heads(self._finding(problem, text, key, entry), [key], also)

    def _body(self, key: str, done: int, total: int) -> Finding | None:
        """Hash a body; ``done`` of ``total`` bytes were hashed before."""
        expected = Digest("sha256", "".join(key.split("/")[2:]))
        blob = self._store.open(key)
        if blob is None:
            return None
        hasher, position = Hasher([expected.algorithm]), 0
        try:
            while data := blob.read(position, CHUNK):
                hasher.feed(data)
                position += len(data)
                self._report(done + position, total)
        finally:
            blob.close()
        actual = hasher.digest(expected.algorithm)
        if actual == expected:
            return None
        heads = self._by_body.get(key, [])
        entry = next((e for e in (_read_entry(self._store, head) for head in heads) if e), None)
        what = entry.filename or entry.origin if entry else f"a body of {blob.size} bytes"
        sums = f"sha256 {actual.value[:12]}.., not {expected.value[:12]}.."
        text = f"{what}: damaged: checksum differs ({sums})"
        found = self._finding("digest-mismatch", text, key, entry)
        return self._drop_heads(found, heads, expected, damaged=True)

    # -- removing ----------------------------------------------------------------------------------

    def _drop_heads(
        self, found: Finding, heads: list[str], body: Digest | None = None, *, damaged: bool = False
    ) -> Finding:
        """Remove heads, and the body when it is damaged itself or nothing else names it."""

        def remove() -> None:
            also = self._catalogue.heads_of(body) if body and damaged else []
            gone = {head for head in (*heads, *also) if is_head_key(head)}
            for key in gone:
                self._store.delete(key)
            self._catalogue.forget(gone)
            if body and (damaged or not self._catalogue.heads_of(body)):
                self._store.delete(body_key(body))

        return self._removed(found, body_key(body) if body else heads[0], remove)

    def _drop_orphan(self, key: str) -> None:
        """Remove a body that no head names, unless one does meanwhile."""
        if self._is_orphan(key):
            self._store.delete(key)

    def _removed(self, found: Finding, key: str, remove: Callable[[], None]) -> Finding:
        """Remove what was found, if that was asked for, while writers are shut out."""
        if not self._repair:
            return found
        try:
            with self._store.hold(key, exclusive=True):
                remove()
        except (StoreError, Busy) as exc:
            return replace(found, text=f"{found.text}; it could not be removed: {exc.message}")
        return replace(found, repaired="removed")

    def _is_orphan(self, key: str) -> bool:
        """Whether no head names a body, those looked at that were stored since the first walk."""
        for meta in self._store.list("heads"):
            if meta.key not in self._heads:
                self._heads.add(meta.key)
                raw = read_object(self._store, meta.key) or b""
                try:
                    head = Head.from_bytes(raw)
                except FormatError:
                    self._claim(raw, meta.key)
                    continue
                if head.body:
                    self._by_body.setdefault(body_key(head.body), []).append(meta.key)
        return key not in self._by_body

    def _claim(self, raw: bytes, key: str) -> None:
        """Note the body that a head names which cannot be read as one."""
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            body = Digest.parse(json.loads(raw)["body"])
            self._by_body.setdefault(body_key(body), []).append(key)


def leaked_credential(head: Head) -> str:
    """The name of the part of a head that holds a credential; empty when none does.

    ``Set-Cookie`` is allowed in what is no package's (``--reverse`` may store it, RFC 9111 §7.3).
    """
    if has_secret(head.url):
        return "in its URL"
    for name, value in head.response.head.headers:
        low = name.lower()
        if low in SECRET_FIELDS and not (low.startswith("set-cookie") and head.kind == "other"):
            return name
        if low in ("location", "content-location", "link") and _url_with_secret(value):
            return name
    for low, selected in head.response.vary:
        if (
            selected and low in SECRET_FIELDS and not selected.startswith("sha256:")
        ):  # policy.selecting_values keeps digests
            return f"Vary: {low}"
    return ""


def _url_with_secret(value: str) -> bool:
    url = value.strip().strip("<").partition(">")[0]
    try:
        return "://" in url and has_secret(url)
    except ValueError:
        return False


def _entry(store: Store, key: str, head: Head) -> Entry:
    meta = store.head(key)
    body = store.head(body_key(head.body)) if head.body else None
    disk = (meta.disk if meta else 0) + (body.disk if body else 0)
    return Entry(
        tool=NAME,
        place=store.root or Path(),
        key=key,
        kind=Kind(head.kind) if head.kind in set(Kind) else Kind.OTHER,
        size=head.response.size or 0,
        disk=disk,
        freeable=disk,
        files=1 + (body is not None),
        project=head.project,
        version=head.version,
        filename=head.filename,
        origin=head.url,
        digest=head.body,
        trust="bad",
    )


def _read_entry(store: Store, key: str) -> Entry | None:
    raw = read_object(store, key)
    try:
        return _entry(store, key, Head.from_bytes(raw)) if raw else None
    except FormatError:
        return None


def _is_later(raw: bytes) -> bool:
    try:
        return int(json.loads(raw)["format"]) > FORMAT
    except (ValueError, KeyError, TypeError):
        return False


def _short(key: str) -> str:
    """A key with its digest shortened, for people."""
    return "/".join(part if len(part) < 20 else f"{part[:10]}.." for part in key.split("/"))
