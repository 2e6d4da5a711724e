"""Every upstream keeps the contract of ``ports/upstream.py``."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from entrepot.errors import TruncatedBody, UpstreamUnreachable
from entrepot.httpcache.messages import Headers, RequestHead
from entrepot.testing.upstream import Script, ScriptedUpstream
from entrepot.upstream.client import HttpUpstream, UpstreamSettings
from upstream_client import unused_port

BODY = bytes(range(256)) * 400
SCRIPTS = {
    "/whole": Script(200, {"Content-Encoding": "gzip", "X-Two": "words"}, BODY),
    "/cut": Script(200, {}, BODY, cut=1000),
    "/moved": Script(302, {"Location": "/whole"}, b"over there"),
    "/busy": Script(503, {"Retry-After": "0"}, b"later"),
}


@asynccontextmanager
async def scripted():
    """Its address, itself, and the requests that have come."""
    upstream = ScriptedUpstream({f"http://index.test{path}": s for path, s in SCRIPTS.items()})
    yield "http://index.test", upstream, lambda: [(r.method, r.url) for r in upstream.requests]


@asynccontextmanager
async def http():
    seen, answering = [], []

    async def serve(reader, writer):
        answering.append(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await answer(reader, writer)
        writer.close()

    async def answer(reader, writer):
        while line := await reader.readline():
            method, path, _ = line.decode().split()
            fields = {}
            while (field := await reader.readline()).strip():
                name, _, value = field.decode().partition(":")
                fields[name.lower()] = value.strip()
            await reader.readexactly(int(fields.get("content-length", 0)))
            seen.append((method, base + path))
            script = SCRIPTS[path]
            head = "".join(f"{name}: {value}\r\n" for name, value in script.headers.items())
            head += f"Content-Length: {len(script.body)}\r\n\r\n"
            writer.write(f"HTTP/1.1 {script.status} Answer\r\n{head}".encode())
            writer.write(script.body[: script.cut])
            await writer.drain()
            if script.cut is not None:
                break

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    upstream = HttpUpstream(UpstreamSettings())
    try:
        yield base, upstream, lambda: seen
    finally:
        await upstream.aclose()
        server.close()
        await asyncio.gather(*answering)


@pytest.fixture(params=[scripted, http], ids=["ScriptedUpstream", "HttpUpstream"])
def world(request):
    return request.param


def run(work, world):
    async def main():
        async with world() as (base, upstream, seen):
            return await asyncio.wait_for(work(base, upstream, seen), 20)

    return asyncio.run(main())


async def collect(answer, pieces):
    async for piece in answer.chunks():
        pieces.append(piece)


async def read(answer):
    pieces = []
    try:
        await collect(answer, pieces)
    finally:
        await answer.aclose()
    return b"".join(pieces)


@pytest.mark.parametrize("path", ["/whole", "/moved", "/busy"])
def test_an_answer_is_given_as_it_is_and_nothing_is_followed_repeated_or_decoded(world, path):
    async def work(base, upstream, seen):
        answer = await upstream.send(RequestHead("GET", base + path))
        return answer.head, await read(answer), [(m, u.removeprefix(base)) for m, u in seen()]

    head, body, asked = run(work, world)
    assert head.status == SCRIPTS[path].status
    assert {n: head.headers.get(n) for n in SCRIPTS[path].headers} == SCRIPTS[path].headers
    assert head.headers.get("content-length") == str(len(SCRIPTS[path].body))
    assert body == SCRIPTS[path].body
    assert asked == [("GET", path)]


def test_a_body_that_ends_early_is_truncated_after_what_came(world):
    async def work(base, upstream, seen):
        answer = await upstream.send(RequestHead("GET", f"{base}/cut"))
        came = []
        with pytest.raises(TruncatedBody) as cut:
            await collect(answer, came)
        await answer.aclose()
        return b"".join(came), cut.value.received

    assert run(work, world) == (BODY[:1000], 1000)


def test_an_answer_is_closed_half_way_and_twice_and_the_next_one_is_whole(world):
    async def work(base, upstream, seen):
        answer = await upstream.send(RequestHead("GET", f"{base}/whole"))
        async for _ in answer.chunks():
            break
        await answer.aclose()
        await answer.aclose()
        return await read(
            await upstream.send(RequestHead("GET", f"{base}/whole"), fresh_connection=True)
        )

    assert run(work, world) == BODY


def test_a_request_may_have_a_body(world):
    async def pieces():
        yield b"one"
        yield b"two"

    async def work(base, upstream, seen):
        request = RequestHead("POST", f"{base}/whole", Headers({"Content-Length": "6"}))
        return await read(await upstream.send(request, pieces())), seen()[-1][0]

    assert run(work, world) == (BODY, "POST")


def test_where_nothing_listens_upstream_is_unreachable(world):
    async def work(base, upstream, seen):
        if isinstance(upstream, ScriptedUpstream):
            upstream.gone = True
        else:
            base = f"http://127.0.0.1:{unused_port()}"
        with pytest.raises(UpstreamUnreachable) as refused:
            await upstream.send(RequestHead("GET", f"{base}/whole"))
        return refused.value.status_hint

    assert run(work, world) == 502


def test_an_upstream_is_closed_twice(world):
    async def work(base, upstream, seen):
        await upstream.aclose()
        await upstream.aclose()
        return True

    assert run(work, world)
