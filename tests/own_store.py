"""A store and a catalogue in dictionaries, keeping the ports' promises, for tests of what stands above them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from entrepot.caches.own import Opened
from entrepot.digests import Digest, sha256_of
from entrepot.errors import Busy
from entrepot.httpcache.messages import Headers, ResponseHead, StoredResponse
from entrepot.ports.store import ObjectMeta
from entrepot.stored import Head, body_key, cache_key

BLOCK = 4096


def blocks(size: int) -> int:
    """Bytes of disk of a file of that size."""
    return -(-size // BLOCK) * BLOCK


class Bytes:
    """An open object."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, count: int) -> bytes:
        return self.data[start : start + count]

    def fileno(self) -> int | None:
        return None

    def close(self) -> None:
        pass


class Store:
    """Objects in a dict, each of whole blocks of disk."""

    shared = False

    def __init__(self, root: Path | None = None) -> None:
        self.root = root
        self.objects: dict[str, bytes] = {}
        self.held: list[str] = []
        self.busy: set[str] = set()
        self.deleted: list[str] = []
        self.led: dict[str, bool] = {}
        self.at_hold = lambda key: None

    async def get(self, key):
        return Bytes(self.objects[key]) if key in self.objects else None

    async def head(self, key):
        return self.meta(key) if key in self.objects else None

    async def put(self, key, body, *, mode="overwrite"):
        assert isinstance(body, bytes)
        self.objects[key] = body
        return self.meta(key)

    def meta(self, key):
        data = self.objects[key]
        return ObjectMeta(key, len(data), time.time(), blocks(len(data)))

    def list(self, prefix):
        for key in list(self.objects):
            if key.startswith(prefix + "/") and key in self.objects:
                yield self.meta(key)

    async def delete(self, key):
        data = self.objects.pop(key, None)
        if data is None:
            return None
        self.deleted.append(key)
        return blocks(len(data))

    @contextmanager
    def hold(self, key, *, exclusive=False):
        if key in self.busy:
            raise Busy("this part of the store is locked")
        self.at_hold(key)
        self.held.append(key)
        yield

    def open_flight(self, name):
        raise NotImplementedError

    def is_led(self, name):
        return self.led.get(name)

    def touch(self, key):
        pass


@dataclass(frozen=True)
class Listed:
    key: str
    url: str
    kind: str
    project: str | None
    version: str | None
    filename: str | None
    size: int | None
    disk: int
    body: str | None
    used: float
    response_time: float
    proven: int
    status: int


@dataclass
class Ledger:
    """The catalogue, as far as the own cache asks it."""

    rows: dict[str, tuple[Head, float, int]] = field(default_factory=dict)
    totals: Mapping[str, int] = field(default_factory=dict)
    closed: bool = False

    def record(self, key, head, *, used, disk):
        self.rows[key] = (head, used, disk)

    def forget(self, keys):
        for key in keys:
            self.rows.pop(key, None)

    def heads_of(self, body):
        return [key for key, (head, _, _) in self.rows.items() if head.body == body]

    def counters(self):
        return dict(self.totals)

    def close(self):
        self.closed = True

    def listing(self) -> Iterator[Listed]:
        for key, (head, used, disk) in sorted(self.rows.items()):
            yield Listed(
                key,
                head.url,
                head.kind,
                head.project,
                head.version,
                head.filename,
                head.response.size,
                disk,
                str(head.body) if head.body else None,
                used,
                head.response.response_time,
                int(bool(head.proven)),
                head.response.head.status,
            )


@dataclass
class World:
    """A store with its catalogue, and short ways to fill them."""

    root: Path | None = None
    now: float = 1_800_000_000.0

    def __post_init__(self) -> None:
        self.store = Store(self.root)
        self.ledger = Ledger()
        self.opened = Opened(self.store, self.ledger)

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
        key = cache_key(url) + "/0"
        self.store.objects[key] = head.to_bytes()
        if body is not None:
            self.store.objects[body_key(body)] = data
        self.ledger.record(key, head, used=self.now - days * 86_400, disk=blocks(len(data or b"")))
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
