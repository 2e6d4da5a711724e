"""Heads and bodies for the tests of stores; no tests here."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from entrepot.digests import Digest
from entrepot.httpcache.messages import Headers, ResponseHead, StoredResponse
from entrepot.stored import Head, body_key, cache_key

NOW = 1_800_000_000.0


def digest(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())


def head_of(url: str, data: bytes | None, **fields) -> Head:
    response = StoredResponse(
        head=ResponseHead(
            200 if data is not None else 404, Headers([("Content-Type", "text/plain")])
        ),
        vary=(),
        request_time=NOW,
        response_time=NOW,
        size=None if data is None else len(data),
        key="0",
    )
    body = None if data is None else digest(data)
    return Head(url=url, method="GET", response=response, body=body, **fields)


def stored(
    store, catalogue, url: str, data: bytes | None, *, used: float | None = None, **fields
) -> str:
    """Put a body and its head as the application does; the head's key."""
    head = head_of(url, data, **fields)
    key = f"{cache_key(url)}/0"
    disk = 0
    if head.body is not None:
        with store.hold(body_key(head.body)):
            disk = store.put(body_key(head.body), data).disk
            meta = store.put(key, head.to_bytes())
    else:
        meta = store.put(key, head.to_bytes())
    if used is not None:
        os.utime(store.root / key, (used, used))
    if catalogue is not None:
        catalogue.record(key, head, used=used or meta.modified, disk=disk)
    return key


def age(path: Path, seconds: float) -> None:
    """Make a file older, as to its content and its last access."""
    found = path.stat()
    os.utime(path, (found.st_atime - seconds, found.st_mtime - seconds))


def files(root: Path) -> list[str]:
    """Everything below the store's folders of objects and flights."""
    return sorted(
        str(p.relative_to(root))
        for top in ("bodies", "heads", "flights")
        for p in (root / top).rglob("*")
        if p.is_file()
    )


def disk_of(root: Path) -> int:
    """Bytes of disk below a directory, itself included, by the file system's own figures."""
    return sum(p.lstat().st_blocks * 512 for p in [root, *root.rglob("*")])
