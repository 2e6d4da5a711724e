"""Checking: every cache through the tool port, and entrepot's own store head by head.

What is wrong in the store is removed, not repaired: all of it can be fetched again. Heads go before
their body, so that no reader finds a head whose body is known to be bad.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from entrepot.cache_root import foreign
from entrepot.caches import NAME
from entrepot.digests import Digest, Hasher
from entrepot.errors import Busy, FormatError, InvalidHead, StoreError
from entrepot.ports.catalogue import Opened
from entrepot.ports.store import Blob, ObjectMeta, Store, read_object
from entrepot.ports.tool import Entry, Finding, Kind, Place, Progress, Surroundings, Tool
from entrepot.redaction import has_secret
from entrepot.stored import FORMAT, Head, body_key, is_body_key, is_head_key

CHUNK = 1 << 20
LARGEST_HEAD = 1 << 20
"""Bytes that are read of a file that is no head by its name."""

Within = Callable[[int], None]
"""Told the position within one body."""

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
                yield place, (_unrepaired(found, why) if why else found)


def _unrepaired(findings: Iterable[Finding], why: str) -> Iterator[Finding]:
    for each in findings:
        yield replace(each, text=f"{each.text} (not repaired: {why})")


@dataclass(slots=True)
class _Known:
    """What the first walk learned."""

    heads: set[str] = field(default_factory=set)
    by_body: dict[str, list[str]] = field(default_factory=dict)
    """Body key -> keys of the heads that name it."""
    bodies: dict[str, ObjectMeta] = field(default_factory=dict)


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
    store, repairs = opened.store, _Repair(opened, repair)
    # Bodies are listed before heads: a body that comes in between is then in neither list, never a
    # false orphan.
    known = _Known(bodies={meta.key: meta for meta in store.list("bodies")})
    for meta in store.list("heads"):
        known.heads.add(meta.key)
        if is_head_key(meta.key):
            yield from _check_head(opened, meta.key, known, repairs)
        else:
            yield _strange(store, meta.key, "head")
            if meta.size <= LARGEST_HEAD:  # a body that it names is no orphan
                _claim(read_object(store, meta.key) or b"", meta.key, known)
    total = sum(meta.size for meta in known.bodies.values())
    done = 0
    for key, meta in sorted(known.bodies.items()):
        if progress:
            progress(done, total, "bytes")
        heads = known.by_body.get(key, [])
        if store.head(key) is None:
            pass  # removed since it was listed, by another process or with its head
        elif (digest := _digest_of(key)) is None:
            yield _strange(store, key, "body")
        elif heads or not _is_orphan(store, key, known):
            within = partial(_report, progress, done, total) if progress else None
            yield from _check_body(store, digest, heads, repairs, within)
        else:
            path = _path(store, key)
            finding = Finding(
                NAME, None, "orphan-body", f"left-over body {_short(key)} ({meta.size} bytes)", path
            )
            yield repairs.remove_orphan(finding, key, known)
        done += meta.size
    if progress:
        progress(total, total, "bytes")


def _check_head(opened: Opened, key: str, known: _Known, repairs: _Repair) -> Iterator[Finding]:
    store = opened.store
    raw = read_object(store, key)
    if raw is None:
        return  # removed since it was listed
    path = _path(store, key)
    try:
        head = Head.from_bytes(raw, key=key.rpartition("/")[2])
    except InvalidHead as exc:
        if _is_later(raw):
            text = f"the head {_short(key)} was written by a later version of entrepot: left alone"
            yield Finding(NAME, None, "later-head", text, path)
            # Its body is not to be taken for an orphan: its name stands somewhere in the
            # text.
            _claim(raw, key, known)
            return
        yield repairs.remove(
            Finding(
                NAME,
                None,
                "bad-head",
                f"the head {_short(key)} cannot be read: {exc.message}",
                path,
            ),
            [key],
        )
        return
    entry = _entry(store, key, head)
    if head.body is not None:
        known.by_body.setdefault(body_key(head.body), []).append(key)
    if leak := leaked_credential(head):
        text = f"the head of {head.url.partition('?')[0]} holds a credential ({leak})"
        yield repairs.remove(Finding(NAME, entry, "credential", text, path), [key], head.body)
        return
    if head.body is None:
        return
    body = known.bodies.get(body_key(head.body)) or store.head(body_key(head.body))
    if body is None:
        yield repairs.remove(
            Finding(NAME, entry, "missing-body", f"the body of {head.url} is not there", path),
            [key],
        )
    elif head.response.size is not None and body.size != head.response.size:
        text = f"the body of {head.url} has {body.size} bytes, its head says {head.response.size}"
        # The body stays for its other heads; if it is what is wrong, hashing it finds that.
        yield repairs.remove(Finding(NAME, entry, "wrong-size", text, path), [key], head.body)


def _check_body(
    store: Store, expected: Digest, heads: list[str], repairs: _Repair, progress: Within | None
) -> Iterator[Finding]:
    key = body_key(expected)
    blob = store.open(key)
    if blob is None:
        return
    try:
        actual = _hashed(blob, expected.algorithm, progress)
    finally:
        blob.close()
    if actual == expected:
        return
    entry = next((e for e in (_read_entry(store, head) for head in heads) if e), None)
    what = entry.filename or entry.origin if entry else f"a body of {blob.size} bytes"
    sums = f"sha256 {actual.value[:12]}.., not {expected.value[:12]}.."
    text = f"{what}: damaged: checksum differs ({sums})"
    yield repairs.remove(
        Finding(NAME, entry, "digest-mismatch", text, _path(store, key)),
        heads,
        expected,
        damaged=True,
    )


def _report(progress: Progress, start: int, total: int, position: int) -> None:
    """Progress within one body as progress of the whole."""
    progress(start + position, total, "bytes")


def _hashed(blob: Blob, algorithm: str, progress: Within | None) -> Digest:
    hasher = Hasher([algorithm])
    position = 0
    while data := blob.read(position, CHUNK):
        hasher.feed(data)
        position += len(data)
        if progress:
            progress(position)
    return hasher.digest(algorithm)


@dataclass(frozen=True, slots=True)
class _Repair:
    """Removes what was found, when that was asked for, and says so in the finding."""

    opened: Opened
    repair: bool

    def remove(
        self,
        finding: Finding,
        heads: list[str],
        body: Digest | None = None,
        *,
        damaged: bool = False,
    ) -> Finding:
        """Remove heads, and the body when it is damaged itself or nothing else names it."""

        def remove() -> None:
            also = self.opened.catalogue.heads_of(body) if body and damaged else []
            gone = {head for head in (*heads, *also) if is_head_key(head)}
            for key in gone:
                self.opened.store.delete(key)
            self.opened.catalogue.forget(gone)
            if body and (damaged or not self.opened.catalogue.heads_of(body)):
                self.opened.store.delete(body_key(body))

        return self._locked(finding, body_key(body) if body else heads[0], remove)

    def remove_orphan(self, finding: Finding, key: str, known: _Known) -> Finding:
        """Remove a body that no head names, unless one does meanwhile.

        Writers are shut out while it is looked at again.
        """

        def remove() -> None:
            if _is_orphan(self.opened.store, key, known):
                self.opened.store.delete(key)

        return self._locked(finding, key, remove)

    def _locked(self, finding: Finding, key: str, remove: Callable[[], None]) -> Finding:
        if not self.repair:
            return finding
        try:
            with self.opened.store.hold(key, exclusive=True):
                remove()
        except (StoreError, Busy) as exc:
            return replace(finding, text=f"{finding.text}; it could not be removed: {exc.message}")
        return replace(finding, repaired="removed")


def _is_orphan(store: Store, key: str, known: _Known) -> bool:
    """Whether no head names a body, those looked at that were stored since the first walk."""
    for meta in store.list("heads"):
        if meta.key not in known.heads:
            known.heads.add(meta.key)
            raw = read_object(store, meta.key)
            try:
                head = Head.from_bytes(raw or b"")
            except FormatError:
                _claim(raw or b"", meta.key, known)
                continue
            if head.body:
                known.by_body.setdefault(body_key(head.body), []).append(meta.key)
    return key not in known.by_body


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


def _digest_of(key: str) -> Digest | None:
    return Digest("sha256", "".join(key.split("/")[2:])) if is_body_key(key) else None


def _strange(store: Store, key: str, what: str) -> Finding:
    text = f"{key} is not the name of a {what}: left alone"
    return Finding(NAME, None, "strange-name", text, _path(store, key))


def _is_later(raw: bytes) -> bool:
    try:
        return int(json.loads(raw)["format"]) > FORMAT
    except (ValueError, KeyError, TypeError):
        return False


def _claim(raw: bytes, key: str, known: _Known) -> None:
    try:
        body = Digest.parse(json.loads(raw)["body"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    known.by_body.setdefault(body_key(body), []).append(key)


def _path(store: Store, key: str) -> Path | None:
    return store.root / key if store.root else None


def _short(key: str) -> str:
    """A key with its digest shortened, for people."""
    return "/".join(part if len(part) < 20 else f"{part[:10]}.." for part in key.split("/"))
