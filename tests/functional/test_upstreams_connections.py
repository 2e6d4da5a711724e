"""Connections behind the port: kept, fresh, many at once, to other addresses, and to nowhere."""

from __future__ import annotations

import asyncio
import socket

import pytest

from entrepot.errors import ProtocolMisuse, TruncatedBody, UpstreamTimeout, UpstreamUnreachable
from entrepot.httpcache.messages import Headers, RequestHead
from entrepot.upstream.client import UpstreamSettings, open_upstream
from entrepot.upstream.dial import Addresses, connect_socket
from raw_origin import OK, RawServer, says
from upstream_client import LOOPS, SECRET, Client, get, unused_port

resource = pytest.importorskip(
    "resource", reason="memory is measured by getrusage, which Windows lacks"
)


@pytest.fixture(params=LOOPS, ids=LOOPS)
def run(request):
    """Run a coroutine on one of the event loops."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner.run


# --- kept and fresh


def test_a_fresh_connection_is_a_new_one_though_an_idle_one_waits(run):
    async def main():
        async with RawServer(says(OK, then="again")) as origin, Client() as upstream:
            seen = []
            for fresh in (False, False, True, True, False):
                await get(upstream, origin.url(), fresh=fresh)
                seen.append(origin.connections)
            return seen

    assert run(main()) == [1, 1, 2, 3, 3]


def test_a_request_with_a_body_never_goes_out_on_a_kept_connection(run):
    async def script(line):
        while True:
            if b"Content-Length: 1" in await line.head():
                await line.body(1)
            await line.say(OK)

    async def one():
        yield b"x"

    async def main():
        async with RawServer(script) as origin, Client() as upstream:
            await get(upstream, origin.url())
            answer = await upstream.send(
                RequestHead("POST", origin.url(), Headers([("Content-Length", "1")])), one()
            )
            assert [chunk async for chunk in answer.chunks()] == [b"ok"]
            return origin.connections

    assert run(main()) == 2


def test_a_connection_that_upstream_closed_while_idle_is_not_used_again(run):
    async def script(line):
        await line.head()
        await line.say(OK)
        await asyncio.sleep(0.05)

    async def main():
        async with RawServer(script) as origin, Client() as upstream:
            for _ in range(3):
                assert await get(upstream, origin.url()) == (200, b"ok")
                await asyncio.sleep(0.15)
            return origin.connections

    assert run(main()) == 3


def test_bytes_on_an_idle_connection_are_nobodys_answer(run):
    """An answer smuggled in beforehand must not be taken for the next request's."""

    async def script(line):
        await line.head()
        await line.say(OK)
        await asyncio.sleep(0.05)
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await line.head()

    async def main():
        async with RawServer(script) as origin, Client() as upstream:
            await get(upstream, origin.url())
            await asyncio.sleep(0.15)
            assert await get(upstream, origin.url()) == (200, b"ok")
            return origin.connections

    assert run(main()) == 2


def test_an_answer_that_is_left_half_way_takes_its_connection_with_it(run):
    async def main():
        gone = asyncio.Event()

        async def script(line):
            await line.head()
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            try:
                await line.reader.read(1)
            finally:
                gone.set()

        async with RawServer(script) as origin, Client() as upstream:
            answer = await upstream.send(RequestHead("GET", origin.url()))
            await answer.aclose()
            await answer.aclose()
            await asyncio.wait_for(gone.wait(), 2)
            return upstream._keys

    assert run(main()) == {}


def test_a_request_that_is_cancelled_takes_its_connection_with_it(run):
    async def main():
        gone = asyncio.Event()

        async def script(line):
            await line.head()
            try:
                await line.reader.read(1)
            finally:
                gone.set()

        async with RawServer(script) as origin, Client() as upstream:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await upstream.send(RequestHead("GET", origin.url()))
            await asyncio.wait_for(gone.wait(), 2)
            return upstream._keys

    assert run(main()) == {}


def test_fifty_requests_at_once_have_a_connection_each_and_leave_them_for_the_next(run):
    async def script(line):
        while True:
            await line.head()
            await asyncio.sleep(0.2)
            await line.say(OK)

    async def main():
        async with RawServer(script) as origin, Client() as upstream:
            for _ in range(2):
                answers = await asyncio.gather(
                    *(get(upstream, origin.url(f"/{i}")) for i in range(50))
                )
                assert answers == [(200, b"ok")] * 50
            return origin.connections

    assert run(main()) == 50


def test_closing_ends_answers_that_are_being_read_and_refuses_new_requests(run):
    async def main():
        async with RawServer(
            says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", then="stall")
        ) as origin:
            upstream = open_upstream(UpstreamSettings())
            answer = await upstream.send(RequestHead("GET", origin.url()))
            await upstream.aclose()
            with pytest.raises(TruncatedBody):
                [chunk async for chunk in answer.chunks()]
            with pytest.raises(ProtocolMisuse):
                await upstream.send(RequestHead("GET", origin.url()))

    run(main())


def test_a_slow_reader_of_200_mb_holds_the_origin_back_not_the_memory(run):
    sent = 0

    async def script(line):
        nonlocal sent
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 209715200\r\n\r\n")
        block = bytes(1 << 20)
        for _ in range(200):
            await line.say(block)
            sent += len(block)

    async def main():
        async with RawServer(script) as origin, Client() as upstream:
            answer = await upstream.send(RequestHead("GET", origin.url()))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            chunks = answer.chunks()
            total = len(await anext(chunks))
            await asyncio.sleep(0.5)  # the origin would be through by now
            ahead = sent - total
            async for chunk in chunks:
                total += len(chunk)
            return (
                total,
                ahead,
                (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024,
            )

    total, ahead, grown = run(main())
    assert total == 209715200
    assert ahead < 32 << 20  # the kernel's socket buffers, not ours
    assert grown < 32 << 20


# --- where to


def test_resolve_maps_a_made_up_name_and_host_keeps_it(run):
    async def main():
        async with RawServer(says(OK)) as one, RawServer(says(OK)) as two:
            resolve = {
                "index.test:80": ("127.0.0.1", one.port),
                "Index.test:8080": ("127.0.0.1", two.port),
            }
            async with Client(resolve=resolve) as upstream:
                await get(upstream, "http://INDEX.test/a")
                await get(upstream, "http://index.test:8080/b")
            return one.heads + two.heads

    assert run(main()) == [
        b"GET /a HTTP/1.1\r\nHost: index.test\r\n\r\n",
        b"GET /b HTTP/1.1\r\nHost: index.test:8080\r\n\r\n",
    ]


def test_credentials_in_a_url_become_basic_authentication_and_not_part_of_host(run):
    async def main():
        async with RawServer(says(OK)) as origin, Client() as upstream:
            await get(upstream, origin.url().replace("//", "//me:p%40ss@"))
            return origin

    origin = run(main())
    assert origin.heads == [
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\nAuthorization: Basic {SECRET}\r\n\r\n".encode()
    ]


def test_a_name_that_does_not_resolve_is_named(run):
    async def main():
        async with Client() as upstream:
            await get(upstream, "http://index.invalid/")

    with pytest.raises(UpstreamUnreachable, match=r"^index\.invalid does not resolve"):
        run(main())


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..test"])
def test_a_name_that_cannot_exist_does_not_resolve(run, host):
    async def main():
        async with Client() as upstream:
            await get(upstream, f"http://{host}/")

    with pytest.raises(UpstreamUnreachable, match="does not resolve"):
        run(main())


def test_a_port_where_nothing_listens_is_named(run):
    port = unused_port()

    async def main():
        async with Client() as upstream:
            await get(upstream, f"http://127.0.0.1:{port}/x?token=hush")

    with pytest.raises(
        UpstreamUnreachable, match=f"^nothing listens at 127.0.0.1:{port}$"
    ) as caught:
        run(main())
    assert caught.value.url == f"http://127.0.0.1:{port}/x?token=***"


def test_a_dead_first_address_delays_the_second_only_a_little(run):
    """A listener with a full backlog swallows connection attempts, as a black hole does."""

    async def main():
        with socket.socket() as hole, socket.socket() as filler, socket.socket() as more:
            hole.bind(("127.0.0.1", 0))
            hole.listen(0)
            for sock in (filler, more):
                sock.setblocking(False)
                sock.connect_ex(hole.getsockname())
            async with RawServer(says(OK)) as origin:
                infos = [
                    (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
                    for address in (hole.getsockname(), ("127.0.0.1", origin.port))
                ]
                began = asyncio.get_running_loop().time()
                sock = await connect_socket(infos)
                sock.close()
                return asyncio.get_running_loop().time() - began

    assert 0.2 < run(main()) < 2


def test_many_who_want_one_name_ask_the_resolver_once(run):
    async def main():
        asked = []
        loop = asyncio.get_running_loop()
        addresses = Addresses()

        async def look_up(host, port, **how):
            asked.append(host)
            await asyncio.sleep(0.05)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        class Loop:
            time, getaddrinfo = staticmethod(loop.time), staticmethod(look_up)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("entrepot.upstream.dial.asyncio.get_running_loop", Loop)
            await asyncio.gather(
                *(asyncio.create_task(addresses.find("index.test", 443)) for _ in range(20))
            )
        return asked

    assert run(main()) == ["index.test"]


def test_no_connection_in_time_is_a_timeout(run):
    async def main():
        async with (
            RawServer(says(then="stall")) as silent,
            Client(connect_timeout_s=0.3, ca_file=None) as upstream,
        ):
            # a peer that accepts and then says nothing to the TLS greeting
            await get(upstream, f"https://127.0.0.1:{silent.port}/")

    with pytest.raises(UpstreamTimeout, match=r"did not answer within 0\.3 s"):
        run(main())
