"""The readers of foreign bytes, each as a function that takes any bytes and raises only where there is a defect.

`bench/fuzz.py parsers` hands them to atheris; `tests/property/test_readers.py` gives them mutations
of good inputs by Hypothesis.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from functools import partial

from entrepot.digests import Digest
from entrepot.errors import EntrepotError, FormatError
from entrepot.httpcache.exchange import Bypass, Hit, Miss, Stale, Store, lookup, on_response
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead, StoredResponse
from entrepot.lockfiles import read_lock
from entrepot.names import classify, filename_of, is_plain_filename
from entrepot.redaction import redacted_url
from entrepot.server.http import HttpSide
from entrepot.server.proxy import connect_target
from entrepot.serving.fetch import announced, continues, range_validator
from entrepot.simple.page import read_page
from entrepot.store.layout import key_path
from entrepot.stored import Head, TransferState, cache_key, variant_name
from entrepot.tools.pip.httpentry import Damage, Meta, decode, encode
from entrepot.upstream.exchange import Exchange
from entrepot.urls import authority_of, canonical_url

ROOT = "/store"
HEAD = Head(
    "https://files.test/demo-1.0-py3-none-any.whl",
    "GET",
    StoredResponse(
        ResponseHead(200, Headers([("ETag", '"v"'), ("Vary", "Accept")]), "OK"),
        (("accept", None),),
        1.0,
        2.0,
        5,
    ),
    Digest("sha256", "ab" * 32),
    proven=(Digest("sha256", "ab" * 32),),
    project="demo",
    version="1.0",
    filename="demo-1.0-py3-none-any.whl",
    kind="wheel",
)
PAGE = {
    "meta": {"api-version": "1.1"},
    "name": "demo",
    "files": [{"filename": "demo-1.0.tar.gz", "url": "../d", "hashes": {"sha256": "a" * 64}}],
}
ENTRY = {
    "response": {
        "body": b"",
        "headers": {"Date": "x"},
        "status": 200,
        "version": 11,
        "reason": "OK",
        "decode_content": False,
    },
    "vary": {"Accept": "x"},
}
ANSWER = b'HTTP/1.1 200 OK\r\nETag: "v"\r\nCache-Control: max-age=60, stale-if-error="9"\r\nVary: Accept\r\nContent-Length: 5\r\n\r\nhello'


def stored_head(raw: bytes) -> None:
    """Of the store: a head, or our own error; and what it leads to lies in the store."""
    try:
        head = Head.from_bytes(raw)
    except FormatError:
        return
    assert Head.from_bytes(head.to_bytes()) == head
    if head.body is not None:
        lies_inside(f"bodies/{head.body.algorithm}/{head.body.value[:2]}/{head.body.value[2:]}")
    lies_inside(f"{cache_key(head.url)}/{variant_name(head.response.vary)}")
    range_validator(head.response.head)
    for now in (0.0, 1e9):
        assert isinstance(
            lookup(RequestHead("GET", head.url, Headers()), [head.response], now=now, shared=False),
            (Hit, Miss, Stale, Bypass),
        )


def lies_inside(key: str) -> None:
    """A key's path is in the store, or the key is refused."""
    try:
        path = key_path(ROOT, key)
    except FormatError:
        return
    assert os.path.normpath(path) == path
    assert path.startswith(f"{ROOT}/")


def flight_note(raw: bytes) -> None:
    """Of a growing file: a note or nothing."""
    note = TransferState.from_bytes(raw)
    if note is not None:
        continues(note.head.response.head, 3, note.total, note.head.response.head)


class _Connection:
    """What an exchange asks of its connection, without one."""

    authority = "index.test:80"

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.resumed_at = 0.0

    def drop(self) -> None:
        pass

    def read_on(self, _exchange: Exchange) -> None:
        pass


_connection = _Connection()


def http_response(raw: bytes) -> None:
    """From upstream, in two pieces: an answer, a failure of upstream's, or not yet the end.

    Then what the cache makes of it.
    """
    exchange = Exchange(_connection, "GET", "http://index.test/x", 1.0)  # type: ignore[arg-type]
    for piece in (raw[: len(raw) // 2], raw[len(raw) // 2 :]):
        if piece and not exchange.complete:
            exchange.feed(piece)
    exchange.ended(None)
    assert exchange.complete or isinstance(exchange._error, EntrepotError), exchange._error
    if exchange._head is None:
        return
    head, request = exchange.head, RequestHead("GET", "http://index.test/x", Headers())
    announced(head, 5)
    for shared in (True, False):
        decision = lookup(request, [], now=0.0, shared=shared)
        action = on_response(
            decision, request, head, request_time=0.0, response_time=1.0, shared=shared
        )
        if isinstance(action, Store):
            lookup(request, [action.entry], now=30.0, shared=shared)


def http_request(raw: bytes) -> None:
    """From a client: requests with absolute targets, or a refusal; never another exception."""
    wrote: list[bytes] = []
    heads: list[RequestHead] = []

    class Client:
        write = wrote.append
        drained = None

        def __init__(self) -> None:
            self.output = self
            self.hold = self.go_on = self.upgrade = self.reset = self.linger = self.failed = nothing

        def close(self) -> None:
            pass

    class Side(HttpSide):
        def _start(self) -> None:
            heads.extend(incoming.head for incoming in self._queue)
            self._queue.clear()

    nothing = lambda *_: None  # noqa: E731
    side = Side(Client(), origin=None, handler=nothing)
    for piece in (raw[: len(raw) // 2], raw[len(raw) // 2 :]):
        side.feed(piece)
    for head in heads:
        assert head.url.lower().startswith(("http://", "https://"))
        assert authority_of(head.url) or ":" in head.url
        names_and_urls(head.url.encode("latin-1"))
    assert all(answer.startswith(b"HTTP/1.1 4") or b" 100 " in answer for answer in wrote)


def connect_line(raw: bytes) -> None:
    """``CONNECT`` lines: a host that can be one and a port, or nothing."""
    for line in (raw, b"CONNECT " + raw + b" HTTP/1.1"):
        found = connect_target(line.decode("latin-1"))
        if found is not None:
            host, port = found
            assert host.isascii() and not set(host) & set(" \t\r\n\0/@?#[]%\\"), host
            assert 0 < port < 65536


def index_page(content_type: str, raw: bytes) -> None:
    """From upstream: a page whose links are whole, or our own error."""
    url = "https://index.test/simple/demo/"
    try:
        page = read_page(raw, content_type=content_type, url=url)
    except FormatError:
        return
    for link in page.links:
        assert canonical_url(link.url) == link.url
        assert link.filename is None or is_plain_filename(link.filename)
        assert authority_of(link.url) in page.hosts


def pip_entry(raw: bytes) -> None:
    """pip's msgpack: metadata that can be written back, or the damage in words."""
    found = decode(raw)
    if isinstance(found, Damage):
        assert found.problem and found.text
        return
    assert isinstance(found, Meta)
    again = decode(encode(found.top)) if json_like(found.top) else found
    assert isinstance(again, Meta)


def json_like(value: object) -> bool:
    """Whether msgpack can write this back as it was read.

    Extension types and timestamps are nobody's.
    """
    if isinstance(value, dict):
        return all(json_like(key) and json_like(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(json_like, value))
    return value is None or isinstance(value, (bool, int, float, str, bytes))


def names_and_urls(raw: bytes) -> None:
    """Names of files and URLs: one canonical form, one key, one plain file name."""
    text = raw.decode("utf-8", "surrogateescape")
    found = classify(text)
    assert found is None or (found.project and is_plain_filename(found.filename))
    canonical = canonical_url(text)
    assert canonical_url(canonical) == canonical
    assert redacted_url(redacted_url(text)) == redacted_url(text)
    lies_inside(f"{cache_key(text)}/0")
    lies_inside(text)
    name = filename_of(text)
    assert not name or is_plain_filename(name)


def lock_file(name: str, raw: bytes) -> None:
    """Of a project: what it says of digests, or nothing."""
    for link in read_lock(raw.decode("utf-8", "replace"), name=name).links:
        assert canonical_url(link.url) == link.url


READERS: dict[str, Callable[[bytes], None]] = {
    "stored-head": stored_head,
    "flight-note": flight_note,
    "http-response": http_response,
    "http-request": http_request,
    "connect-line": connect_line,
    "page-json": partial(index_page, "application/vnd.pypi.simple.v1+json"),
    "page-html": partial(index_page, "text/html"),
    "pip-entry": pip_entry,
    "names": names_and_urls,
    "lock-toml": partial(lock_file, "uv.lock"),
    "lock-text": partial(lock_file, "requirements.txt"),
}
STARTS: dict[str, list[bytes]] = {
    "stored-head": [HEAD.to_bytes()],
    "flight-note": [TransferState(HEAD, 5, "m", True).to_bytes()],
    "http-response": [ANSWER, b"HTTP/1.1 206 \r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 0-4/5\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: x\r\n\r\n", b"HTTP/1.0 103 x\r\n\r\nHTTP/1.0 304 Not\r\n\r\n"],
    "http-request": [b"GET http://index.test:8080/a?b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", b"POST https://[::1]/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
    "connect-line": [b"index.test:443", b"[::1]:8443", b"CONNECT 10.0.0.1:80 HTTP/1.0"],
    "page-json": [json.dumps(PAGE).encode()],
    "page-html": [b"<!DOCTYPE html><meta charset=utf-8><base href=/x/><a href='demo-1.0.tar.gz#sha256=" + b"a" * 64 + b"' data-core-metadata=true data-yanked>demo</a>"],
    "pip-entry": [encode(ENTRY), b"cc=4,"],
    "names": [b"https://u:p@index.test:443/t/tk-1/a/../demo-1.0-py3-none-any.whl?token=x#f", b"demo-1.0-1_0.conda", b"heads/ab/cd"],
    "lock-toml": [b'version = 1\n[[package]]\nname = "demo"\nversion = "1.0"\nwheels = [{ url = "https://files.test/demo-1.0-py3-none-any.whl", hash = "sha256:' + b"a" * 64 + b'" }]\n'],
    "lock-text": [b"demo==1.0 --hash=sha256:" + b"a" * 64 + b" \\\n  --hash=md5:x # c\n-r other.txt\n-i https://index.test/simple\nx @ https://h/x-1.0.tar.gz\n"],
}  # fmt: skip
"""Good inputs, to begin from."""

__all__ = ["READERS", "STARTS"]
