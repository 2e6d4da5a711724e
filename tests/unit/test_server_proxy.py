"""The door on raw sockets over loopback: CONNECT, the token, plain HTTP, tunnels, what breaks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct

import pytest

from door_world import AUTH, DoorWorld, answer, run, streamed, until
from entrepot.errors import TruncatedBody
from entrepot.httpcache.messages import Headers
from entrepot.server import proxy as doors
from entrepot.server.http import MAX_HEAD
from raw_origin import RawServer, says

GET = b"GET http://index.test/a HTTP/1.1\r\nHost: index.test\r\n%s\r\n" % AUTH


def talk(data: bytes, *, handler=None, finish: bool = False, **doorman):
    """Send bytes, return all that comes back until the door closes, and the world."""

    async def work():
        async with DoorWorld(handler, **doorman) as world:
            client = await world.connect()
            client.send(data)
            if finish:
                client.writer.write_eof()
            got = await client.rest()
            await client.close()
            return got, world

    return run(work())


# CONNECT


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT index.test HTTP/1.1",
        b"CONNECT index.test: HTTP/1.1",
        b"CONNECT index.test:0 HTTP/1.1",
        b"CONNECT index.test:65536 HTTP/1.1",
        b"CONNECT index.test:-1 HTTP/1.1",
        b"CONNECT index.test:" + b"4" * 5000 + b" HTTP/1.1",
        b"CONNECT index.test:\xb2 HTTP/1.1",
        b"CONNECT :443 HTTP/1.1",
        b"CONNECT user@index.test:443 HTTP/1.1",
        b"CONNECT index.test/a:443 HTTP/1.1",
        b"CONNECT http://index.test:443 HTTP/1.1",
        b"CONNECT ::1::443 HTTP/1.1",
        b"CONNECT [::1:443 HTTP/1.1",
        b"CONNECT [::g]:443 HTTP/1.1",
        b"CONNECT [2a]:8 HTTP/1.1",
        b"CONNECT []:443 HTTP/1.1",
        b"CONNECT index\xc3\xa9.test:443 HTTP/1.1",
        b"CONNECT index.test:443",
        b"CONNECT index.test:443 HTTP/2",
        b"CONNECT  index.test:443 HTTP/1.1",
        b"CONNECT index.test:443 HTTP/1.1 x",
        b"CONNECT a\0b:443 HTTP/1.1",
        b"CONNECT a\rb:443 HTTP/1.1",
    ],
    ids=repr,
)
def test_a_connect_line_that_is_none_is_refused_and_nobody_is_dialled(line):
    got, world = talk(line + b"\r\n" + AUTH + b"\r\n")
    assert got.startswith(b"HTTP/1.1 400 ")
    assert world.doorman.dialled == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"\0\0\0\0",
        b"HELO there\r\n\r\n",
        b"GET /only/a/path HTTP/1.1\r\n\r\n",
        b"GET ftp://a.test/ HTTP/1.1\r\n\r\n",
        b"GET http:///x HTTP/1.1\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\n\r\n",
        b"GET http://a:99999/ HTTP/1.1\r\n\r\n",
        b"connect a.test:443 HTTP/1.1\r\n\r\n",
    ],
    ids=repr,
)
def test_what_no_proxy_takes_is_answered_400_and_closed(garbage):
    got, world = talk(garbage)
    assert got.startswith(b"HTTP/1.1 400 ")
    assert world.requests == []


@pytest.mark.parametrize("ended", [False, True], ids=["endless", "whole"])
@pytest.mark.parametrize("size", [MAX_HEAD + 4096, 2 * MAX_HEAD, 4 * MAX_HEAD])
@pytest.mark.parametrize("way", ["connect", "plain", "tls"])
def test_a_head_that_is_too_large_is_answered_431_wherever_it_comes(way, size, ended):
    async def work():
        async with DoorWorld(opened={"index.test"}) as world:
            client = await (world.tunnel() if way == "tls" else world.connect())
            line = {
                "connect": b"CONNECT a.test:443",
                "plain": b"GET http://a.test/",
                "tls": b"GET /",
            }[way]
            client.send(
                line
                + b" HTTP/1.1\r\n"
                + AUTH
                + b"X: "
                + b"x" * size
                + (b"\r\n\r\n" if ended else b"")
            )
            status, text = await client.response()
            await client.close()
            return status, text, world

    status, text, world = run(work())
    assert (status, text) == (431, b"the request's head is larger than 128 KiB\n")
    assert (world.requests, world.doorman.dialled) == ([], [])


@pytest.mark.parametrize("way", ["connect", "plain", "tls"])
def test_a_head_that_is_just_small_enough_is_answered(way):
    async def work():
        async with DoorWorld(opened={"index.test"}) as world:
            client = await (world.tunnel() if way == "tls" else world.connect())
            line = {
                "connect": b"CONNECT index.test:443",
                "plain": b"GET http://a.test/",
                "tls": b"GET /",
            }[way]
            client.send(
                line + b" HTTP/1.1\r\n" + AUTH + b"X: " + b"x" * (MAX_HEAD - 4096) + b"\r\n\r\n"
            )
            head = await client.head()
            await client.close()
            return head

    assert run(work()).startswith(b"HTTP/1.1 200 ")


def test_a_connect_in_single_bytes_is_understood():
    async def work():
        async with (
            RawServer(says(b"pong")) as origin,
            DoorWorld(ports={"o.test": origin.port}) as world,
        ):
            client = await world.connect()
            for byte in b"\r\nCONNECT o.test:443 HTTP/1.1\r\n" + AUTH + b"\r\n":
                client.send(bytes([byte]))
                await asyncio.sleep(0)
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            client.send(b"ping\r\n\r\n")
            assert await client.exactly(4) == b"pong"
            await client.close()

    run(work())


@pytest.mark.parametrize("target", [b"[::1]:443", b"::1:443", b"O.Test:443"])
@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_the_tunnel_stays_open_for_both_versions_and_kinds_of_hosts(target, version):
    async def work():
        async with (
            RawServer(says(b"pong")) as origin,
            DoorWorld(ports={"::1": origin.port, "o.test": origin.port}) as world,
        ):
            client = await world.connect()
            client.send(
                b"CONNECT %s %s\r\n%s\r\nping\r\n\r\n" % (target, version, AUTH)
            )  # without waiting for the answer
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            assert await client.exactly(4) == b"pong"
            assert world.doorman.dialled == [
                (target.decode().lower().rpartition(":")[0].strip("[]"), 443, False)
            ]
            await client.close()

    run(work())


def test_an_unreachable_host_is_said_in_the_reason():
    got, _ = talk(b"CONNECT gone.test:443 HTTP/1.1\r\n" + AUTH + b"\r\n")
    assert got.startswith(b"HTTP/1.1 502 ")
    assert b"gone.test is not there" in got


# the token


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"Proxy-Authorization: Basic d3Jvbmc=\r\n",
        b"Proxy-Authorization: Bearer x\r\n",
        b"Proxy-Authorization: Basic \xff\xfe\r\n",
        AUTH + AUTH,
    ],
    ids=["none", "wrong", "scheme", "bytes", "twice"],
)
@pytest.mark.parametrize(
    "request_line", [b"CONNECT a.test:443", b"GET http://a.test/"], ids=["connect", "get"]
)
def test_without_the_token_there_is_407_and_nothing_else(field, request_line):
    async def work():
        async with DoorWorld(opened={"a.test"}) as world:
            client = await world.connect()
            client.send(request_line + b" HTTP/1.1\r\nHost: a.test\r\n" + field + b"\r\n")
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 407 ")
            assert b'Proxy-Authenticate: Basic realm="entrepot"' in head
            assert (world.requests, world.doorman.dialled, world.doorman.failures) == ([], [], [])
            await client.close()

    run(work())


def test_after_407_the_same_connection_may_ask_again_with_the_token():
    """git sends its credentials only after it was asked for them."""

    async def work():
        async with (
            RawServer(says(b"pong")) as origin,
            DoorWorld(ports={"o.test": origin.port}) as world,
        ):
            client = await world.connect()
            bare = b"CONNECT o.test:443 HTTP/1.1\r\n\r\n"
            client.send(bare + bare)
            assert (await client.response())[0] == 407
            assert (await client.response())[0] == 407
            client.send(bare[:-2] + AUTH + b"\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            await client.close()

    run(work())


def test_a_plain_request_may_ask_again_after_407_too():
    async def work():
        async with DoorWorld() as world:
            client = await world.connect()
            client.send(b"POST http://a.test/ HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
            assert (await client.response())[0] == 407
            client.send(GET)
            assert await client.response() == (200, b"GET http://index.test/a 0")
            await client.close()

    run(work())


def test_a_refused_upload_can_read_its_answer_while_it_is_still_sending():
    async def work():
        async with DoorWorld() as world:
            client = await world.connect()
            client.send(b"PUT http://a.test/ HTTP/1.1\r\nContent-Length: 9000000\r\n\r\n")
            for _ in range(40):
                client.send(b"x" * 100_000)
                await client.writer.drain()
                await asyncio.sleep(0.001)
            assert (await client.rest()).startswith(b"HTTP/1.1 407 ")
            await client.close()

    run(work())


@pytest.mark.parametrize("inside", [False, True], ids=["plain", "tls"])
def test_the_token_never_reaches_the_handler(inside):
    async def work():
        async with DoorWorld(opened={"index.test"}) as world:
            client = await (world.tunnel() if inside else world.connect())
            client.send(b"GET /a HTTP/1.1\r\nHost: index.test\r\n%s\r\n" % AUTH if inside else GET)
            assert (await client.response())[0] == 200
            await client.close()
            from entrepot.httpcache.fields import forwardable

            headers: Headers = world.requests[0].head.headers
            assert "proxy-authorization" not in (forwardable(headers) if inside else headers)

    run(work())


# plain HTTP


def test_pipelined_requests_are_answered_in_their_order():
    async def work():
        async def handler(request):
            await asyncio.sleep(0.02 if request.head.url.endswith("/0") else 0)
            return answer(request.head.url.encode())

        async with DoorWorld(handler) as world:
            client = await world.connect()
            for number in range(100):
                client.send(b"GET http://a.test/%d HTTP/1.1\r\n%s\r\n" % (number, AUTH))
            assert [(await client.response())[1] for _ in range(100)] == [
                b"http://a.test/%d" % n for n in range(100)
            ]
            await client.close()

    run(work())


def test_a_client_that_has_finished_sending_is_still_answered():
    got, _ = talk(GET * 3, finish=True)
    assert got.count(b"HTTP/1.1 200 ") == 3


def test_a_client_that_breaks_off_in_mid_request_leaves_nobody_waiting():
    async def work():
        gone = asyncio.Event()

        async def handler(request):
            try:
                return answer(b"".join([piece async for piece in request.body]))
            except asyncio.CancelledError:
                gone.set()
                raise

        async with DoorWorld(handler) as world:
            client = await world.connect()
            client.send(b"PUT http://a.test/ HTTP/1.1\r\n%sContent-Length: 10\r\n\r\nabc" % AUTH)
            await until(lambda: world.requests)
            client.writer.write_eof()
            await asyncio.wait_for(gone.wait(), 5)
            await client.close()

    run(work())


@pytest.mark.parametrize("inside", [False, True], ids=["plain", "tls"])
def test_the_work_for_a_client_that_went_away_is_cancelled_and_its_body_closed(inside):
    async def work():
        closed: list[bool] = []
        ended: list[bool] = []

        async def endless():
            try:
                while True:
                    yield b"x" * 65536
                    await asyncio.sleep(0)
            finally:
                ended.append(True)

        async def handler(_request):
            return streamed(endless(), None, closed)

        async with DoorWorld(handler, opened={"index.test"}) as world:
            client = await (world.tunnel() if inside else world.connect())
            client.send(b"GET /a HTTP/1.1\r\n\r\n" if inside else GET)
            await client.exactly(1000)
            client.writer.transport.abort()
            await until(lambda: closed and ended and not world.house.doors)

    run(work())


def test_an_unexpected_exception_is_500_and_the_connection_goes_on():
    async def work():
        async def handler(request):
            if request.head.url.endswith("/a"):
                raise KeyError("no")
            return answer(b"fine")

        async with DoorWorld(handler) as world:
            client = await world.connect()
            client.send(GET + b"GET http://a.test/b HTTP/1.1\r\n%s\r\n" % AUTH)
            assert (await client.response())[0] == 500
            assert await client.response() == (200, b"fine")
            assert [type(exc) for exc in world.doorman.failures] == [KeyError]
            await client.close()

    run(work())


@pytest.mark.parametrize("inside", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "error",
    [TruncatedBody("cut", url="u", received=3), RuntimeError("a defect")],
    ids=["cut", "defect"],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_body_that_fails_half_way_never_looks_whole(inside, error, version):
    async def work():
        async def pieces():
            yield b"abc"
            await asyncio.sleep(0.05)
            raise error

        async def handler(_request):
            return streamed(pieces())

        async with DoorWorld(handler, opened={"index.test"}) as world:
            client = await (world.tunnel() if inside else world.connect())
            request = b"GET /a HTTP/1.1\r\n\r\n" if inside else GET
            client.send(request.replace(b"HTTP/1.1", b"HTTP/" + version))
            await client.head()
            # inside TLS the end without close_notify, and outside the reset, say that something is
            # missing
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await client.exactly(1000)
            assert len(world.doorman.failures) == isinstance(error, RuntimeError)
            await client.close()

    run(work())


def test_inside_tls_a_failed_body_ends_with_a_reset_and_no_close_notify():
    async def work():
        async def pieces():
            yield b"abc"
            raise TruncatedBody("cut", url="u", received=3)

        async def handler(_request):
            return streamed(pieces())

        async with DoorWorld(handler, opened={"index.test"}) as world:
            client = await world.tunnel()
            client.send(b"GET /a HTTP/1.0\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                await client.rest()
            await client.close()

    run(work())


@pytest.mark.parametrize("inside", [False, True], ids=["plain", "tls"])
def test_a_body_shorter_than_announced_is_a_reset(inside):
    async def work():
        async def pieces():
            yield b"abc"

        async def handler(_request):
            return streamed(pieces(), 5)

        async with DoorWorld(handler, opened={"index.test"}) as world:
            client = await (world.tunnel() if inside else world.connect())
            client.send(b"GET /a HTTP/1.1\r\n\r\n" if inside else GET)
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await client.response()
            await client.close()

    run(work())


@pytest.mark.parametrize("inside", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_upload_is_held_back_at_the_pace_of_its_reader(inside, chunked):
    async def work():
        go, seen = asyncio.Event(), []

        async def handler(request):
            await go.wait()
            async for piece in request.body:
                seen.append(len(piece))
            return answer(b"%d" % sum(seen))

        async with DoorWorld(handler, opened={"index.test"}) as world:
            client = await (world.tunnel() if inside else world.connect())
            target = b"/a" if inside else b"http://index.test/a"
            total = 24 << 20
            framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % total
            client.send(b"PUT %s HTTP/1.1\r\n%s%s\r\n\r\n" % (target, AUTH, framing))
            sent = 0

            async def upload():
                nonlocal sent
                piece = b"x" * (1 << 16)
                while sent < total:
                    client.send(b"10000\r\n%s\r\n" % piece if chunked else piece)
                    sent += len(piece)
                    await client.writer.drain()
                client.send(b"0\r\n\r\n" if chunked else b"")

            task = asyncio.ensure_future(upload())
            await asyncio.sleep(0.3)
            incoming = next(iter(world.house.doors))._http._current
            assert sent < total // 2, "the client was not held back"
            assert incoming._size < (1 << 20)
            go.set()
            await task
            assert await client.response() == (200, b"%d" % total)
            await client.close()

    run(work())


def test_a_slow_reader_holds_the_body_back():
    async def work():
        given = 0

        async def pieces():
            nonlocal given
            for _ in range(1000):
                given += 1 << 17
                yield b"x" * (1 << 17)

        async def handler(_request):
            return streamed(pieces(), 1000 << 17)

        async with DoorWorld(handler, opened={"index.test"}) as world:
            for client in (await world.connect(), await world.tunnel()):
                given = 0
                client.send(GET if len(world.requests) == 0 else b"GET /a HTTP/1.1\r\n\r\n")
                await asyncio.sleep(0.3)
                assert 0 < given < 30 << 20  # what the kernel's buffers and the test's own take
                client.writer.transport.abort()
                await asyncio.sleep(0.05)

    run(work())


# opened tunnels and blind ones


def test_a_first_byte_that_is_no_tls_is_relayed_blindly():
    async def work():
        async with (
            RawServer(says(b"HTTP/1.1 204 X\r\n\r\n")) as origin,
            DoorWorld(opened={"o.test"}, ports={"o.test": origin.port}) as world,
        ):
            client = await world.tunnel("o.test", tls=False)
            client.send(b"GET / HTTP/1.1\r\nHost: o.test\r\n\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 204 X")
            assert (world.doorman.tunnels, world.requests) == (["o.test"], [])
            assert AUTH.split()[-1] not in origin.heads[0]
            await client.close()

    run(work())


def test_a_server_that_speaks_first_is_heard_after_a_while(monkeypatch):
    monkeypatch.setattr(doors, "PEEK_S", 0.05)

    async def greet(line):
        await line.say(b"220 ready\r\n")
        await line.reader.read(1)

    async def work():
        async with (
            RawServer(greet) as origin,
            DoorWorld(opened={"o.test"}, ports={"o.test": origin.port}) as world,
        ):
            client = await world.tunnel("o.test", tls=False)
            assert await client.exactly(11) == b"220 ready\r\n"
            await client.close()

    run(work())


def test_another_name_in_tls_than_in_connect_is_left_to_that_other_server():
    """curl --connect-to and its like.

    The certificate of the CONNECT host would be refused, its cache the wrong one.
    """

    async def work():
        from entrepot.server.authority import Authority

        theirs = Authority()
        async with RawServer(says(b"theirs"), tls=theirs.context("other.test")) as origin:
            async with DoorWorld(opened={"o.test"}, ports={"o.test": origin.port}) as world:
                client = await world.tunnel("o.test", tls=False)
                from door_world import trusting

                await client.start_tls("other.test", trusting(theirs))
                client.send(b"hello\r\n\r\n")
                assert await client.exactly(6) == b"theirs"
                assert world.doorman.tunnels == ["o.test"]
                await client.close()

    run(work())


def test_half_closed_connections_are_relayed_in_both_directions():
    async def reads_to_the_end(line):
        data = await line.reader.read(-1)
        await line.say(b"got %d" % len(data))

    async def work():
        async with (
            RawServer(reads_to_the_end) as origin,
            DoorWorld(ports={"o.test": origin.port}, pause_s=0.03) as world,
        ):
            client = await world.connect()
            client.send(b"CONNECT o.test:22 HTTP/1.1\r\n" + AUTH + b"\r\n" + b"x" * 1000)
            client.writer.write_eof()  # before anybody was dialled
            assert await client.rest() == b"HTTP/1.1 200 OK\r\n\r\ngot 1000"
            await client.close()
            await until(lambda: not world.house.doors)

    run(work())


def test_a_server_that_finished_first_still_hears_the_client():
    heard = []

    async def finishes(line):
        line.writer.write_eof()
        heard.append(await line.reader.read(-1))

    async def work():
        async with RawServer(finishes) as origin, DoorWorld(ports={"o.test": origin.port}) as world:
            client = await world.connect()
            client.send(b"CONNECT o.test:22 HTTP/1.1\r\n" + AUTH + b"\r\n")
            await client.head()
            assert await client.rest() == b""
            client.send(b"late words")
            client.writer.write_eof()
            await until(lambda: heard)
            assert heard == [b"late words"]
            await client.close()
            await until(lambda: not world.house.doors)

    run(work())


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_tunnel_is_held_back_by_its_slower_end(direction):
    async def work():
        count = 0

        async def source(line):
            nonlocal count
            for _ in range(1000):
                await line.say(b"x" * 65536)
                count += 65536

        async def sink(line):
            await asyncio.sleep(60)

        script = source if direction == "down" else sink
        async with RawServer(script) as origin, DoorWorld(ports={"o.test": origin.port}) as world:
            client = await world.connect()
            client.send(b"CONNECT o.test:22 HTTP/1.1\r\n" + AUTH + b"\r\n")
            await client.head()
            if direction == "up":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        while count < 60 << 20:
                            client.send(b"x" * 65536)
                            await client.writer.drain()
                            count += 65536
            else:
                client.reader._limit = 1
                await asyncio.sleep(0.3)
            assert 0 < count < 24 << 20  # of 62 MB: kernel buffers and ours, no more
            door = next(iter(world.house.doors))
            assert door._transport.get_write_buffer_size() < 2 << 20
            assert door._upstream.transport.get_write_buffer_size() < 1 << 20
            client.writer.transport.abort()

    run(work())


def test_an_upstream_that_resets_resets_the_client():
    async def work():
        async with (
            RawServer(says(b"ab", then="reset")) as origin,
            DoorWorld(ports={"o.test": origin.port}) as world,
        ):
            client = await world.connect()
            client.send(b"CONNECT o.test:22 HTTP/1.1\r\n" + AUTH + b"\r\nx\r\n\r\n")
            await client.head()
            with pytest.raises(ConnectionResetError):
                await client.rest()
            await client.close()

    run(work())


def test_a_defect_in_deciding_resets_the_client_and_is_noted():
    async def work():
        async with DoorWorld(breaks=RuntimeError("the catalogue")) as world:
            client = await world.connect()
            client.send(b"CONNECT o.test:443 HTTP/1.1\r\n" + AUTH + b"\r\n")
            with pytest.raises(ConnectionResetError):
                await client.rest()
            assert [str(exc) for exc in world.doorman.failures] == ["the catalogue"]
            await client.close()

    run(work())


# Upgrade


@pytest.mark.parametrize("inside", [False, True], ids=["plain", "tls"])
def test_an_upgrade_is_relayed_raw_without_the_token(inside, tmp_path):
    async def echo(line):
        await line.head()
        await line.say(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n")
        while data := await line.reader.read(65536):
            await line.say(data.upper())

    async def work():
        from door_world import trusting
        from entrepot.server.authority import Authority

        theirs = Authority()
        trusted = trusting(theirs)
        trusted.set_alpn_protocols(["http/1.1"])
        async with RawServer(echo, tls=theirs.context("o.test") if inside else None) as origin:
            async with DoorWorld(
                opened={"o.test"}, ports={"o.test": origin.port}, trusted=trusted, pause_s=0.02
            ) as world:
                client = await (world.tunnel("o.test") if inside else world.connect())
                target = b"/ws?x=1" if inside else b"http://o.test/ws?x=1"
                client.send(
                    b"GET %s HTTP/1.1\r\nHost: o.test\r\n%sConnection: Upgrade\r\nUpgrade: websocket\r\nX-Key: Abc\r\n\r\nearly"
                    % (target, AUTH)
                )
                await asyncio.sleep(0.005)
                client.send(b" and while dialling")
                assert (await client.head()).startswith(b"HTTP/1.1 101 ")
                assert await client.exactly(24) == b"EARLY AND WHILE DIALLING"
                client.send(b"later")
                assert await client.exactly(5) == b"LATER"
                assert origin.heads[0].startswith(b"GET /ws?x=1 HTTP/1.1\r\nHost: o.test\r\n")
                assert b"X-Key: Abc" in origin.heads[0]
                assert b"proxy-authorization" not in origin.heads[0].lower()
                await client.close()

    run(work())


def test_an_upgrade_waits_for_the_answers_before_it():
    async def work():
        async def handler(_request):
            await asyncio.sleep(0.05)
            return answer(b"first")

        switching = says(b"HTTP/1.1 101 S\r\n\r\n")
        async with (
            RawServer(switching) as origin,
            DoorWorld(handler, ports={"o.test": origin.port}) as world,
        ):
            client = await world.connect()
            client.send(
                GET
                + b"GET http://o.test/ws HTTP/1.1\r\n%sConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                % AUTH
            )
            assert await client.response() == (200, b"first")
            assert (await client.head()).startswith(b"HTTP/1.1 101")
            await client.close()

    run(work())


def test_an_upgrade_with_content_is_relayed_as_it_came():
    async def work():
        async with (
            RawServer(says(b"ok", then="stall")) as origin,
            DoorWorld(ports={"o.test": origin.port}) as world,
        ):
            client = await world.connect()
            fields = b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 9"
            client.send(
                b"POST http://o.test/ HTTP/1.1\r\n%s%s\r\n\r\nabc\r\n\r\n+-" % (AUTH, fields)
            )
            assert await client.exactly(2) == b"ok"
            assert origin.heads == [b"POST / HTTP/1.1\r\n%s\r\n\r\n" % fields]
            await client.close()

    run(work())


def test_http_2_is_not_changed_over_to():
    async def work():
        async with DoorWorld() as world:
            client = await world.connect()
            client.send(
                b"GET http://a.test/ HTTP/1.1\r\n%sConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
                % AUTH
                + GET
            )
            assert await client.response() == (200, b"GET http://a.test/ 0")
            assert (await client.response())[0] == 200
            await client.close()

    run(work())


def test_an_upgrade_without_the_token_is_407():
    got, world = talk(
        b"GET http://a.test/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    assert got.startswith(b"HTTP/1.1 407 ")
    assert world.doorman.dialled == []


# TLS


def test_inside_tls_http_1_1_is_all_that_is_offered_and_no_client_certificate_is_asked_for():
    async def work():
        async with DoorWorld(opened={"index.test"}) as world:
            client = await world.tunnel()
            tls = client.writer.get_extra_info("ssl_object")
            assert tls.selected_alpn_protocol() == "http/1.1"
            assert world.house.authority.context("index.test").verify_mode.name == "CERT_NONE"
            client.send(b"GET https://index.test/x HTTP/1.1\r\n\r\n")
            assert await client.response() == (200, b"GET https://index.test/x 0")
            client.send(b"GET https://other.test/x HTTP/1.1\r\n\r\n")
            assert (await client.response())[0] == 400
            await client.close()

    run(work())


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("host", ["127.0.0.1", "index.test", f"{'a' * 60}.{'b' * 60}.test"])
def test_every_kind_of_host_shakes_hands(version, host):
    async def work():
        from door_world import trusting

        async with DoorWorld(opened={host}) as world:
            client = await world.tunnel(host, 8443, tls=False)
            context = trusting()
            context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
            await client.start_tls(host, context)
            client.send(b"GET /x HTTP/1.1\r\n\r\n")
            assert await client.response() == (200, f"GET https://{host}:8443/x 0".encode())
            await client.close()

    run(work())


def test_a_client_that_does_not_trust_us_is_counted():
    def distrust(port, version):
        context = ssl.create_default_context()
        context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"CONNECT index.test:443 HTTP/1.1\r\n" + AUTH + b"\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
            with pytest.raises(ssl.SSLCertVerificationError):
                context.wrap_socket(sock, server_hostname="index.test")

    async def work():
        async with DoorWorld(opened={"index.test"}) as world:
            for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
                await asyncio.to_thread(distrust, world.port, version)
            await until(lambda: len(world.doorman.refusals) == 2)
            assert all(
                host == "index.test" and "UNKNOWN_CA" in reason
                for host, reason in world.doorman.refusals
            )

    run(work())


@pytest.mark.parametrize(
    "garbage",
    [b"\x16" + b"\0" * 100, b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\xff\xff" + b"x" * 70000],
    ids=["zeros", "short", "long"],
)
def test_what_only_begins_like_tls_ends_the_connection(garbage):
    async def work():
        async with DoorWorld(opened={"index.test"}) as world:
            client = await world.tunnel(tls=False)
            client.send(garbage)
            client.writer.write_eof()
            with contextlib.suppress(ConnectionResetError):
                await client.rest()
            await client.close()
            await until(lambda: not world.house.doors)
            assert world.doorman.failures == []

    run(work())


# crowds and the end


def test_200_idle_connections_disturb_nobody_and_end_with_the_run():
    async def work():
        async with (
            RawServer(says(b"x", then="stall")) as origin,
            DoorWorld(opened={"index.test"}, ports={"o.test": origin.port}) as world,
        ):
            idle = [await world.connect() for _ in range(190)]
            idle += [await world.tunnel() for _ in range(5)]
            tunnels = [await world.connect() for _ in range(5)]
            for client in tunnels:
                client.send(b"CONNECT o.test:22 HTTP/1.1\r\n" + AUTH + b"\r\nx\r\n\r\n")
                await client.head()
            client = await world.connect()
            client.send(GET)
            assert (await client.response())[0] == 200
            assert len(world.house.doors) == 201
            begun = asyncio.get_running_loop().time()
            world.server.close()
            await world.house.close()
            await until(lambda: not world.house.doors)
            assert asyncio.get_running_loop().time() - begun < 0.5
            for each in [*idle, *tunnels, client]:
                each.writer.transport.abort()

    run(work())


def test_the_end_of_the_run_stops_what_is_being_answered():
    async def work():
        stopped = []

        async def handler(_request):
            try:
                await asyncio.sleep(60)
            finally:
                stopped.append(True)

        async with DoorWorld(handler) as world:
            client = await world.connect()
            client.send(GET)
            await until(lambda: world.requests)
            await world.house.close()
            assert stopped
            await client.close()

    run(work())


def test_a_client_that_resets_at_any_moment_leaves_nothing_behind():
    async def work():
        async with DoorWorld(opened={"index.test"}) as world:
            whole = b"CONNECT index.test:443 HTTP/1.1\r\n" + AUTH + b"\r\n\x16\x03\x01"
            for cut in range(0, len(whole), 5):
                sock = socket.create_connection(("127.0.0.1", world.port))
                sock.sendall(whole[:cut])
                await asyncio.sleep(0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            await until(lambda: not world.house.doors)
            assert world.doorman.failures == []

    run(work())
