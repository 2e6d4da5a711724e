"""A store on the disk with its catalogue, and short ways to fill it, for tests of what stands above them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

from entrepot.digests import Digest, sha256_of
from entrepot.httpcache.messages import Headers, ResponseHead, StoredResponse
from entrepot.ports.catalogue import Opened
from entrepot.store.catalogue import open_catalogue
from entrepot.store.directory import DirectoryStore
from entrepot.stored import Head, body_key, cache_key


class WatchedStore(DirectoryStore):
    """The store itself; it notes what is deleted and what is held, and lets a test come in between."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, cap=10**9)
        self.held: list[str] = []
        self.deleted: list[str] = []
        self.at_hold = lambda key: None

    def delete(self, key):
        freed = super().delete(key)
        if freed is not None:
            self.deleted.append(key)
        return freed

    @contextmanager
    def hold(self, key, *, exclusive=False):
        self.at_hold(key)
        with super().hold(key, exclusive=exclusive):
            self.held.append(key)
            yield


class World:
    """A store with its catalogue.

    Args:
        root: of the store; it is made.
        now: seconds since the epoch.
    """

    def __init__(self, root: Path, now: float = 1_800_000_000.0) -> None:
        self.root, self.now = root, now
        self.store = WatchedStore(root)
        self.catalogue = open_catalogue(root)
        self.catalogue.rebuild(self.store)
        self.opened = Opened(self.store, self.catalogue)

    def close(self) -> None:
        self.catalogue.close()
        self.store.close()

    def path(self, key: str) -> Path:
        return self.root / key

    def objects(self) -> dict[str, bytes]:
        """Every object of the store by its key."""
        return {
            meta.key: self.path(meta.key).read_bytes()
            for top in ("heads", "bodies")
            for meta in self.store.list(top)
        }

    def known(self) -> set[str]:
        """The keys of the heads that the catalogue has."""
        return {row.key for row in self.catalogue.listing()}

    def taken(self, key: str) -> bytes:
        """Remove one object's file behind the catalogue's back; its bytes."""
        data = self.path(key).read_bytes()
        self.path(key).unlink()
        return data

    def add(
        self,
        url="https://files.test/demo-1.0-py3-none-any.whl",
        data=b"a wheel",
        *,
        proven=True,
        kind="wheel",
        project="demo",
        version="1.0",
        days=0.0,
        headers=(),
        vary=(),
        size=None,
        status=200,
    ) -> str:
        """Store one response; its head's key."""
        body = None if data is None else sha256_of(data)
        head = make_head(
            url,
            body,
            len(data or b"") if size is None else size,
            proven=proven,
            kind=kind,
            project=project,
            version=version,
            headers=headers,
            vary=vary,
            status=status,
            now=self.now,
        )
        key, used = cache_key(url) + "/0", self.now - days * 86_400
        disk = 0
        if (
            body is not None
        ):  # a body that is there stays the same file, as it does for the application
            disk = (self.store.head(body_key(body)) or self.store.put(body_key(body), data)).disk
        self.store.put(key, head.to_bytes())
        os.utime(self.path(key), (used, used))
        self.catalogue.record(key, head, used=used, disk=disk)
        return key

    def body(self, data: bytes) -> str:
        return body_key(sha256_of(data))


def make_head(
    url, body: Digest | None, size, *, proven, kind, project, version, headers, vary, status, now
) -> Head:
    return Head(
        url=url,
        method="GET",
        response=StoredResponse(
            ResponseHead(status, Headers(headers)),
            tuple(vary),
            now - 3600,
            now - 3600,
            size if body else None,
        ),
        body=body,
        proven=(body,) if proven and body else (),
        project=project,
        version=version,
        filename=url.rpartition("/")[2] or None,
        kind=kind,
    )
