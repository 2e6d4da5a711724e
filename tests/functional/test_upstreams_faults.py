"""What upstream's misbehaviour looks like behind the port.

Each fault on purpose, on both event loops.
"""

from __future__ import annotations

import asyncio
import gzip
import time

import pytest

from entrepot.errors import ProtocolMisuse, TruncatedBody, UpstreamProtocolError, UpstreamTimeout
from entrepot.httpcache.messages import Headers, RequestHead
from entrepot.upstream.client import UpstreamSettings, open_upstream
from raw_origin import OK, RawServer, says
from upstream_client import LOOPS

GZ = gzip.compress(b"hello", mtime=0)


@pytest.fixture(params=LOOPS, ids=LOOPS)
def run(request):
    """Run a coroutine on one of the event loops."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner.run


async def ask(origin, *, method="GET", tail="/", headers=(), body=None, times=1, silence_s=5.0):
    """Send the same request some times through one client; the last head and body."""
    upstream = open_upstream(UpstreamSettings(silence_timeout_s=silence_s, connect_timeout_s=3))
    try:
        for _ in range(times):
            answer = await upstream.send(
                RequestHead(method, origin.url(tail), Headers(headers)), body
            )
            try:
                data = b"".join([chunk async for chunk in answer.chunks()])
            finally:
                await answer.aclose()
        return answer.head, data
    finally:
        await upstream.aclose()


async def ask_script(script, **how):
    async with RawServer(script) as origin:
        return (*await ask(origin, **how), origin)


# --- answers that are whole


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        pytest.param(OK, 200, b"ok", id="Content-Length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: r\r\n\r\n",
            200,
            b"abcde",
            id="chunked",
        ),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok", id="100 first"),
        pytest.param(
            b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: </a>\r\n\r\n" + OK,
            200,
            b"ok",
            id="102 and 103 first",
        ),
        pytest.param(
            b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            204,
            b"",
            id="204 with Content-Length",
        ),
        pytest.param(
            b'HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: "a"\r\n\r\n',
            304,
            b"",
            id="304 with Content-Length",
        ),
        pytest.param(
            b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
            302,
            b"",
            id="redirect not followed",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
            % (len(GZ), GZ),
            200,
            GZ,
            id="gzip kept",
        ),
        pytest.param(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", id="no reason"),
        pytest.param(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, b"ok", id="bare LF"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n"
            + b"".join(b"X-%d: 1\r\n" % i for i in range(300))
            + b"Content-Length: 2\r\n\r\nok",
            200,
            b"ok",
            id="300 fields",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX: " + b"a" * 60000 + b"\r\nContent-Length: 2\r\n\r\nok",
            200,
            b"ok",
            id="60 kB field",
        ),
    ],
)
def test_a_whole_answer_comes_through_and_its_connection_is_used_again(run, said, status, body):
    head, data, origin = run(ask_script(says(said, then="again"), times=3))
    assert (head.status, data) == (status, body)
    assert (origin.connections, len(origin.heads)) == (1, 3)


@pytest.mark.parametrize(
    ("said", "body"),
    [
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nabc", b"abc", id="until the connection closes"
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", id="HTTP/1.0"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
            b"abc",
            id="Connection: close",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"abc",
            id="both framings",
        ),
        pytest.param(OK + b"junk", b"ok", id="junk after the body"),
    ],
)
def test_a_whole_answer_that_ends_its_connection_is_followed_by_a_new_one(run, said, body):
    head, data, origin = run(ask_script(says(said), times=2))
    assert (head.status, data) == (200, body)
    assert origin.connections == 2


def test_the_transfer_encoding_wins_and_the_length_beside_it_is_dropped(run):
    """RFC 9112 §6.3: who passes such a message on must first remove the Content-Length."""
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    head, _, _ = run(ask_script(says(said)))
    assert "Content-Length" not in head.headers


def test_fields_keep_order_case_repetition_and_bytes(run):
    said = (
        b"HTTP/1.1 200 R\xc3\xa9\r\nVary: a\r\nX-Foo:  caf\xe9\xff \r\nVARY: b\r\nX-Empty:\r\nContent-Length: 0\r\n"
        b"set-cookie: a\r\nSet-Cookie: b\r\n\r\n"
    )
    head, _, _ = run(ask_script(says(said)))
    assert list(head.headers) == [
        ("Vary", "a"), ("X-Foo", "caf\xe9\xff"), ("VARY", "b"), ("X-Empty", ""), ("Content-Length", "0"),
        ("set-cookie", "a"), ("Set-Cookie", "b"),
    ]  # fmt: skip
    assert head.reason.encode("latin-1") == b"R\xc3\xa9"


def test_interim_fields_are_not_mixed_into_the_answer(run):
    said = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK
    head, _, _ = run(ask_script(says(said)))
    assert list(head.headers) == [("Content-Length", "2")]
    assert head.reason == "OK"


def test_a_head_that_trickles_in_is_not_silence(run):
    head, data, _ = run(ask_script(says(*[bytes([c]) for c in OK], pause_s=0.02), silence_s=0.3))
    assert (head.status, data) == (200, b"ok")


def test_head_has_no_body_and_keeps_its_length_and_connection(run):
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n"
    head, data, origin = run(ask_script(says(said, then="again"), method="HEAD", times=2))
    assert (head.headers.get("Content-Length"), data, origin.connections) == ("200000000", b"", 1)


# --- answers that are not


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize(
    ("said", "received"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 3, id="Content-Length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            3,
            id="between chunks",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabcd",
            4,
            id="inside a chunk",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
            3,
            id="before the last line",
        ),
    ],
)
def test_a_cut_body_is_truncated_and_what_came_is_counted(run, said, received, then):
    with pytest.raises(TruncatedBody, match="in the middle of the body") as caught:
        run(ask_script(says(said, then=then)))
    assert caught.value.received == received


@pytest.mark.parametrize("length", ["", "-1", "+2", "2, 3", "0x2", "99999999999999999999999"])
def test_a_length_that_is_no_number_is_a_protocol_error(run, length):
    with pytest.raises(UpstreamProtocolError, match="sent no HTTP"):
        run(ask_script(says(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nok".encode())))


def test_bytes_after_a_body_that_came_in_pieces_are_cut_off_and_end_the_connection(run):
    async def main():
        async with RawServer(
            says(
                b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
                b"ab",
                b"cdjunk",
                pause_s=0.05,
                then="again",
            )
        ) as origin:
            _, data = await ask(origin, times=2)
            return data, origin.connections

    assert run(main()) == (b"abcd", 2)


def test_a_reset_is_not_the_end_of_a_body_without_length(run):
    with pytest.raises(TruncatedBody, match="reset"):
        run(ask_script(says(b"HTTP/1.1 200 OK\r\n\r\nabc", then="reset")))


def test_what_came_before_the_cut_is_read_before_the_error(run):
    async def main():
        async with RawServer(
            says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", then="reset")
        ) as origin:
            upstream = open_upstream(UpstreamSettings())
            answer = await upstream.send(RequestHead("GET", origin.url()))
            chunks = answer.chunks()
            got = await anext(chunks)
            with pytest.raises(TruncatedBody):
                await anext(chunks)
            await upstream.aclose()
            return got

    assert run(main()) == b"abc"


def test_a_damaged_chunk_is_a_truncated_body(run):
    with pytest.raises(TruncatedBody, match="damaged"):
        run(
            ask_script(
                says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nZZ\r\n")
            )
        )


@pytest.mark.parametrize(
    ("said", "then", "text"),
    [
        pytest.param(b"", "reset", "reset the connection before it answered", id="reset before any byte"),
        pytest.param(b"", "close", "closed the connection before it answered", id="closed before any byte"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", "close", "in the middle of the head", id="cut head"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", "close", "in the middle of the head", id="interim alone"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", "close", "sent no HTTP", id="garbage"),
        pytest.param(b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n", "close", "sent no HTTP", id="space in a name"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n", "close", "NUL", id="NUL in a value"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", "close", "sent no HTTP", id="lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "close", "transfer coding", id="gzip"),
        pytest.param(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nfoo", "stall", "switched protocols", id="101"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50000, "stall", "no whole head", id="endless head"),
        pytest.param(b"HTTP/1.1 102 P\r\n\r\n" * 20000, "stall", "no whole head", id="endless interim answers"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_a_protocol_error(run, said, then, text):
    with pytest.raises(UpstreamProtocolError, match=text):
        run(ask_script(says(said, then=then)))


def test_an_origin_that_hangs_up_on_everybody_is_a_protocol_error(run):
    async def hangs_up(line):
        pass

    async def main():
        async with RawServer(hangs_up) as origin:
            for _ in range(20):
                with pytest.raises(UpstreamProtocolError, match="before it answered"):
                    await ask(origin)

    run(main())


def test_no_request_is_repeated_behind_the_callers_back(run):
    async def main():
        async with RawServer(says(b"")) as origin:
            with pytest.raises(UpstreamProtocolError):
                await ask(origin)
            await asyncio.sleep(0.05)
            return origin

    assert len(run(main()).heads) == 1


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"],
    ids=["head", "half a head", "body"],
)
def test_silence_ends_in_a_timeout_of_its_own_length(run, said):
    began = time.monotonic()
    with pytest.raises(UpstreamTimeout, match=r"sent nothing for 0\.3 s"):
        run(ask_script(says(said, then="stall"), silence_s=0.3))
    assert 0.25 < time.monotonic() - began < 20, "not the 30 s of others"


def test_errors_name_the_url_without_its_secrets(run):
    async def main():
        async with RawServer(says(b"")) as origin:
            url = origin.url("/t/tk-123/x?token=hush").replace("//", "//me:pw@")
            with pytest.raises(UpstreamProtocolError) as caught:
                await open_upstream(UpstreamSettings()).send(RequestHead("GET", url))
            return caught.value

    error = run(main())
    assert error.url.endswith("/t/<TOKEN>/x?token=***")
    assert not any(
        secret in f"{error.url} {error} {error.hint}" for secret in ("pw", "tk-123", "hush")
    )


# --- what is sent


TAILS = [
    "/a%2Fb%7E~+c", "/a[b]|c", "/a/../b/./c", "/a/%2e%2E/b", "//x//y", "/?", "/a?", "/a?x=1&&y=%20+%zz", "/%zz", "/a\\b",
    "/a'b?c'd", '/a?{x}|[y]"z<>', "/a;b=c,d!$&()*@:", "/a^`b", "/%c3%A9", "/a?b?c=/d//e",
]  # fmt: skip


def test_path_and_query_reach_the_origin_byte_for_byte(run):
    async def main():
        async with RawServer(says(OK, then="again")) as origin:
            for tail in TAILS:
                await ask(origin, tail=tail)
            return origin.targets()

    assert run(main()) == TAILS


@pytest.mark.parametrize(
    ("tail", "sent"),
    [
        ("", "/"),
        ("?q", "/?q"),
        ("/a#frag", "/a"),
        ("/é b", "/%C3%A9%20b"),
        ("/a\r\nX: y", "/a%0D%0AX:%20y"),
    ],
    ids=["empty path", "empty path and query", "fragment", "no URI characters", "line break"],
)
def test_only_what_no_request_may_carry_is_changed(run, tail, sent):
    _, _, origin = run(ask_script(says(OK), tail=tail))
    assert origin.targets() == [sent]
    assert b"\r\nX:" not in origin.heads[0]


def test_nothing_is_added_but_host(run):
    _, _, origin = run(
        ask_script(
            says(OK),
            headers=[
                ("X-Odd-CASE", "caf\xe9"),
                ("accept", "a"),
                ("Accept", "b"),
                ("host", "evil.test"),
            ],
        )
    )
    assert origin.heads == [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Odd-CASE: caf\xe9\r\naccept: a\r\nAccept: b\r\n\r\n"
        % origin.port
    ]


async def pieces(*data, wait_s=0.0):
    for piece in data:
        yield piece
        await asyncio.sleep(wait_s)


def test_a_body_of_known_length_is_streamed_plain(run):
    async def script(line):
        await line.head()
        await line.body(6)
        await line.say(OK)

    _, _, origin = run(
        ask_script(
            script,
            method="POST",
            headers=[("Content-Length", "6")],
            body=pieces(b"ab", b"", b"cdef", wait_s=0.01),
        )
    )
    assert origin.bodies == [b"abcdef"]
    assert b"Transfer-Encoding" not in origin.heads[0]


def test_a_body_of_unknown_length_is_streamed_in_chunks(run):
    async def script(line):
        assert b"Transfer-Encoding: chunked\r\n" in await line.head()
        await line.body(len(b"2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n"))
        await line.say(OK)

    _, _, origin = run(ask_script(script, method="PUT", body=pieces(b"ab", b"", b"cdef")))
    assert origin.bodies == [b"2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n"]


def test_a_post_without_body_says_so(run):
    _, _, origin = run(ask_script(says(OK), method="POST"))
    assert b"\r\nContent-Length: 0\r\n" in origin.heads[0]


@pytest.mark.parametrize("length", ["3", "9"], ids=["too long", "too short"])
def test_a_body_of_another_length_than_announced_never_counts_as_sent(run, length):
    with pytest.raises(ProtocolMisuse, match="announced"):
        run(
            ask_script(
                says(then="stall"),
                method="POST",
                headers=[("Content-Length", length)],
                body=pieces(b"abcdef"),
            )
        )


def test_a_client_that_leaves_while_sending_ends_the_request(run):
    async def leaves():
        yield b"a"
        raise RuntimeError("gone")

    async def main():
        ended = asyncio.Event()

        async def script(line):
            await line.head()
            while await line.reader.read(100):
                pass
            ended.set()

        async with RawServer(script) as origin:
            with pytest.raises(RuntimeError, match="gone"):
                await ask(origin, method="POST", body=leaves())
            await asyncio.wait_for(ended.wait(), 2)

    run(main())


def test_a_slow_client_is_not_upstreams_silence(run):
    async def script(line):
        await line.head()
        await line.body(2)
        await line.say(OK)

    head, _, _ = run(
        ask_script(
            script,
            method="POST",
            headers=[("Content-Length", "2")],
            body=pieces(b"a", b"b", wait_s=0.5),
            silence_s=0.2,
        )
    )
    assert head.status == 200


def test_an_answer_before_the_end_of_the_request_is_passed_on(run):
    head, data, _ = run(
        ask_script(
            says(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno", then="stall"),
            method="POST",
            body=pieces(b"a", b"b", wait_s=1),
        )
    )
    assert (head.status, data) == (413, b"no")


def test_a_method_or_field_that_would_break_the_message_is_not_sent(run):
    async def main():
        async with RawServer(says(OK)) as origin:
            for request in (
                RequestHead("GET", origin.url(), Headers([("X", "a\r\nY: b")])),
                RequestHead("GET", origin.url(), Headers([("X Y", "a")])),
                RequestHead("GET / HTTP/1.1\r\nX: y\r\n\r\nGET", origin.url()),
                RequestHead("GET", origin.url(), Headers([("X", "\u20ac")])),
                RequestHead("GET", "ftp://index.test/"),
                RequestHead("GET", "http://index.test:port/"),
            ):
                with pytest.raises(UpstreamProtocolError):
                    await open_upstream(UpstreamSettings()).send(request)
            return origin.connections

    assert run(main()) == 0
