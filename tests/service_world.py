"""A service with a store, a scripted upstream and a clock that stands still.

What the tests of ``app`` start from.
"""

import asyncio
import hashlib
import json

from entrepot.httpcache.messages import Headers, RequestHead
from entrepot.serving.known_files import KnownFiles
from entrepot.serving.lookup import Entries
from entrepot.serving.policy import Rules
from entrepot.serving.prefetch import PageHistory
from entrepot.serving.response import Request
from entrepot.serving.run_stats import RunStats
from entrepot.serving.service import Service
from entrepot.store.catalogue import SqliteCatalogue
from entrepot.testing.clock import ManualClock
from entrepot.testing.memory_store import MemoryStore
from entrepot.testing.upstream import Script, ScriptedUpstream

INDEX = "https://index.test/simple/demo/"
FILE = "https://files.test/packages/demo-1.0-py3-none-any.whl"
JSON_TYPE = "application/vnd.pypi.simple.v1+json"


def page(
    body: bytes,
    *,
    url: str = FILE,
    filename: str = "demo-1.0-py3-none-any.whl",
    digest: str | None = None,
    **fields,
) -> bytes:
    """A JSON page that names one file with its digest and size."""
    sha = digest or hashlib.sha256(body).hexdigest()
    file = {
        "filename": filename,
        "url": url,
        "hashes": {"sha256": sha},
        "size": len(body),
        **fields,
    }
    return json.dumps({"meta": {"api-version": "1.1"}, "name": "demo", "files": [file]}).encode()


class World:
    """One store and one upstream; services come and go over them as processes do."""

    def __init__(self, routes=None, *, store=None, piece: int = 16384, catalogue=None):
        self.clock = ManualClock()
        self.upstream = ScriptedUpstream(routes, piece=piece)
        self.store = store or MemoryStore()
        self.catalogue = catalogue or SqliteCatalogue(None)

    def service(self, *, prefetch: bool = False, donors=(), **rules) -> Service:
        """A new process on the same store.

        ``prefetch``: one that asks before its clients do; ``donors``: what other tools have.
        """
        self.stats = RunStats()
        self.entries = Entries(self.store, self.catalogue, self.clock)
        self.known_files = KnownFiles(self.catalogue)
        return Service(
            entries=self.entries,
            upstream=self.upstream,
            known_files=self.known_files,
            clock=self.clock,
            rules=Rules(**rules),
            stats=self.stats,
            history=PageHistory(self.catalogue) if prefetch else None,
            reusable=lambda: donors,
        )

    def add_project(self, body: bytes, *, headers=None, page_headers=None, **fields) -> None:
        """An index page and the file it names."""
        self.upstream.route(
            INDEX,
            Script(200, {"Content-Type": JSON_TYPE, **(page_headers or {})}, page(body, **fields)),
        )
        self.upstream.route(FILE, Script(200, headers or {}, body))


async def get(service: Service, url: str, method: str = "GET", body=None, **fields):
    """Ask as a client does; ``(status, content, headers)``."""
    headers = Headers([(name.replace("_", "-"), value) for name, value in fields.items()])
    answer = await service.handle(Request(RequestHead(method, url, headers), body))
    try:
        content = (
            b"".join([piece async for piece in answer.body.chunks()]) if method != "HEAD" else b""
        )
    finally:
        await answer.body.aclose()
    return answer.head.status, content, answer.head.headers


def run(work):
    """Run a coroutine to its end."""
    return asyncio.run(work)
