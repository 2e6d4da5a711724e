"""HTTP/1.1 framing on a wire in memory: what is written for which request, and what is refused."""

from __future__ import annotations

import asyncio

import pytest

from door_world import answer, run, streamed
from entrepot.errors import UpstreamError
from entrepot.httpcache.messages import Headers, ResponseHead
from entrepot.server import http
from entrepot.server.http import HttpSide
from entrepot.serving.response import Answer, BytesBody


class MemoryWire:
    """Keeps what is written.

    Refuses to write after the end, as no transport may be relied on to.
    """

    def __init__(self):
        self.data = b""
        self.writes = 0
        self.ended = ""

    def write(self, data):
        assert not self.ended, "written after the end"
        self.data += bytes(data)
        self.writes += 1

    def close(self):
        self.ended = self.ended or "close"

    def linger(self):
        self.ended = self.ended or "linger"

    def reset(self):
        self.ended = self.ended or "reset"


class Talk:
    """One conversation: feed requests, look at what came out."""

    def __init__(self, *data: bytes, handler=None, origin="https://index.test", turns: int = 60):
        self.wire, self.requests, self.contents, self.failures, self.upgrades, self.held = (
            MemoryWire(),
            [],
            [],
            [],
            [],
            [],
        )
        self._answer = handler or self._default
        run(self._talk(data, origin, turns))

    async def _default(self, request):
        if request.body is not None:
            self.contents.append(b"".join([piece async for piece in request.body]))
        return answer()

    async def _handle(self, request):
        self.requests.append(request.head)
        return await self._answer(request)

    async def _talk(self, data, origin, turns):
        self.side = HttpSide(
            self.wire,
            origin=origin,
            handler=self._handle,
            upgrade=lambda *a: self.upgrades.append(a),
            hold=lambda: self.held.append(True),
            go_on=lambda: self.held.append(False),
            drain=lambda: None,
            reset=self.wire.reset,
            linger=self.wire.linger,
            failed=self.failures.append,
        )
        for piece in data:
            self.side.feed(piece)
            for _ in range(3):
                await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        self.side.lost()
        await asyncio.sleep(0)

    @property
    def head(self) -> list[bytes]:
        return self.wire.data.partition(b"\r\n\r\n")[0].split(b"\r\n")

    @property
    def content(self) -> bytes:
        return self.wire.data.partition(b"\r\n\r\n")[2]


GET = b"GET /a HTTP/1.1\r\nHost: index.test\r\n\r\n"
OLD = b"GET /a HTTP/1.0\r\n\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /a HTTP/1.1\r\nContent-Length: 3, 4\r\n\r\nabcd",
        b"POST /a HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc",
        b"POST /a HTTP/1.1\r\nContent-Length: -3\r\n\r\nabc",
        b"POST /a HTTP/1.1\r\nContent-Length: 0x3\r\n\r\nabc",
        b"POST /a HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nX: a\0b\r\n\r\n",
        b"GET /a HTTP/1.1\r\nX a: b\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/3.7\r\n\r\n",
        b"GET a HTTP/1.1\r\n\r\n",
        b"GET https://other.test/a HTTP/1.1\r\n\r\n",
        b"GET https://index.test.evil/a HTTP/1.1\r\n\r\n",
        b"CONNECT other.test:443 HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
    ],
    ids=repr,
)
def test_what_could_be_read_in_two_ways_is_refused_and_the_connection_ends(request_bytes):
    talk = Talk(request_bytes + GET)
    assert talk.head[0].startswith(b"HTTP/1.1 400 ")
    assert talk.wire.ended == "linger"
    assert talk.wire.data.count(b"HTTP/1.1 ") == 1, "nothing behind it may be taken for a request"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_requests_are_understood_however_they_are_cut(size):
    whole = (
        GET
        + b"PUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n"
        + GET
    )
    talk = Talk(*(whole[at : at + size] for at in range(0, len(whole), size)))
    assert [(r.method, r.url) for r in talk.requests] == [
        ("GET", "https://index.test/a"),
        ("PUT", "https://index.test/b"),
        ("GET", "https://index.test/a"),
    ]
    assert talk.contents == [b"abcde"]
    assert talk.wire.data.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert talk.wire.ended == ""


@pytest.mark.parametrize(
    ("request_bytes", "connection", "ended"),
    [
        (GET, None, ""),
        (OLD, b"close", "close"),
        (OLD[:-2] + b"Connection: keep-alive\r\n\r\n", b"keep-alive", ""),
        (GET[:-2] + b"Connection: close\r\n\r\n", b"close", "close"),
        (GET[:-2] + b"Proxy-Connection: close\r\n\r\n", b"close", "close"),
    ],
    ids=["1.1", "1.0", "1.0-keep", "1.1-close", "1.1-proxy-close"],
)
def test_a_connection_is_kept_as_its_client_wishes(request_bytes, connection, ended):
    talk = Talk(request_bytes)
    found = [line[12:] for line in talk.head if line.lower().startswith(b"connection: ")]
    assert (found[0] if found else None, talk.wire.ended) == (connection, ended)


async def two():
    yield b"abc"
    yield b""
    yield b"de"


@pytest.mark.parametrize(
    ("request_bytes", "field", "content", "ended"),
    [
        (GET, b"Transfer-Encoding: chunked", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", ""),
        (OLD, b"Connection: close", b"abcde", "close"),
        (OLD[:-2] + b"Connection: keep-alive\r\n\r\n", b"Connection: close", b"abcde", "close"),
    ],
    ids=["1.1", "1.0", "1.0-keep"],
)
def test_a_body_of_unknown_length_is_framed_for_its_client(request_bytes, field, content, ended):
    async def handler(_request):
        return streamed(two())

    talk = Talk(request_bytes, handler=handler)
    assert field in talk.head
    assert not any(line.lower().startswith(b"content-length") for line in talk.head)
    assert (talk.content, talk.wire.ended) == (content, ended)


@pytest.mark.parametrize("length", [4, 6])
def test_a_body_of_another_length_than_announced_is_a_reset(length):
    async def handler(_request):
        return streamed(two(), length)

    assert Talk(GET, handler=handler).wire.ended == "reset"


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_content_have_none(status):
    async def handler(_request):
        return Answer(
            ResponseHead(status, Headers([("ETag", '"x"'), ("Content-Length", "5")])),
            BytesBody(b"never"),
        )

    talk = Talk(GET + GET, handler=handler)
    assert talk.wire.data.count(b"HTTP/1.1 %d " % status) == 2
    assert b"never" not in talk.wire.data
    assert (b"Content-Length: 5" in talk.head) == (status == 304)
    assert b"chunked" not in talk.wire.data


def test_head_is_answered_with_the_head_that_get_would_have():
    async def handler(request):
        length = [("Content-Length", "5")] if request.method != "X" else []
        return Answer(ResponseHead(200, Headers(length)), BytesBody(b""))

    async def by_method(request):
        return await handler(request.head)

    talk = Talk(b"HEAD /a HTTP/1.1\r\n\r\n" + GET, handler=by_method)
    assert talk.head == [b"HTTP/1.1 200 OK", b"Content-Length: 5"]
    assert talk.content.startswith(b"HTTP/1.1 200 OK\r\n")


def test_status_and_reason_go_through_and_no_field_can_start_another():
    async def handler(_request):
        return answer(
            b"x",
            504,
            "offline,\r\nSet-Cookie: a never seen \u2603",
            X="a\r\nSet-Cookie: b",
            y="\xe9",
        )

    talk = Talk(GET, handler=handler)
    assert talk.head[0] == b"HTTP/1.1 504 offline,  Set-Cookie: a never seen ?"
    assert b"y: \xe9" in talk.head
    assert not any(line.startswith(b"Set-Cookie") for line in talk.head)


def test_100_continue_is_sent_when_somebody_asks_for_the_content_and_not_before():
    request = b"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    assert Talk(request, b"abc").wire.data.startswith(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
    )

    async def refuse(_request):
        return answer(b"no", 403)

    talk = Talk(request, handler=refuse)
    assert talk.wire.data.startswith(b"HTTP/1.1 403 ")
    assert talk.wire.ended == "linger"
    assert (
        b"100 Continue" not in Talk(request.replace(b"1.1", b"1.0"), b"abc").wire.data
    )  # RFC 9110 §10.1.1


def test_content_that_nobody_took_does_not_spoil_the_next_request():
    async def ignores(_request):
        return answer()

    talk = Talk(b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" + GET, handler=ignores)
    assert talk.wire.data.count(b"HTTP/1.1 200 ") == 2


def test_an_error_of_ours_has_its_reason_in_the_status_line():
    async def handler(_request):
        raise UpstreamError("nobody is there", url="https://index.test/")

    talk = Talk(GET, handler=handler)
    assert talk.head[0] == b"HTTP/1.1 502 nobody is there"
    assert talk.failures == []


def test_a_defect_is_500_without_its_details_and_is_noted():
    async def handler(_request):
        raise RuntimeError("/home/somebody/secret")

    talk = Talk(GET + GET, handler=handler)
    assert talk.wire.data.count(b"HTTP/1.1 500 ") == 2
    assert b"secret" not in talk.wire.data
    assert len(talk.failures) == 2


def test_a_body_that_cannot_be_closed_is_a_defect_not_a_hang():
    async def broken():
        raise OSError("close")

    async def handler(_request):
        made = streamed(two(), 5)
        made.body.close = broken
        return made

    talk = Talk(GET, handler=handler)
    assert len(talk.failures) == 1
    assert talk.wire.ended == "reset"


def test_a_crowd_of_pipelined_requests_holds_the_client_back_and_lets_it_go_on():
    talk = Talk(GET * 500, turns=3000)
    assert talk.wire.data.count(b"HTTP/1.1 200 ") == 500
    assert talk.held[0] is True
    assert talk.held[-1] is False


def test_an_endless_field_ends_the_connection():
    talk = Talk(b"GET /a HTTP/1.1\r\nX: ", *[b"x" * 65536] * 3)
    assert talk.head[0].startswith(b"HTTP/1.1 431 ")
    assert talk.requests == []


def test_many_small_fields_are_bounded_too():
    talk = Talk(b"GET /a HTTP/1.1\r\n" + b"X: y\r\n" * (http.MAX_HEAD // 5) + b"\r\n")
    assert talk.head[0].startswith(b"HTTP/1.1 431 ")
    assert talk.requests == []


def test_content_before_a_head_in_the_same_bytes_does_not_count_as_head():
    content = b"x" * (2 * http.MAX_HEAD)
    post = b"POST /a HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(content)
    talk = Talk(post + content[:1000], content[1000:] + b"GET /b HTTP/1.1\r\nX", b": y\r\n\r\n")
    assert [head.url for head in talk.requests] == ["https://index.test/a", "https://index.test/b"]
    talk = Talk(GET + post + content + b"GET /b HTTP/1.1\r\nX", b": y\r\n\r\n")
    assert len(talk.requests) == 3


def test_a_small_answer_is_written_at_once():
    talk = Talk(GET)
    assert talk.wire.writes == 1
    assert talk.wire.data == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
