"""Connections behind the port: kept, fresh, many, encrypted, named otherwise, and through the user's own proxy."""

from __future__ import annotations

import asyncio
import base64
import resource
import socket
import ssl

import pytest
import uvloop

from entrepot.errors import ConfigError, ProtocolMisuse, TruncatedBody, UpstreamProtocolError, UpstreamTimeout, UpstreamUnreachable
from entrepot.httpcache.messages import Headers, RequestHead
from entrepot.upstreams.client import UpstreamSettings, open_upstream
from entrepot.upstreams.dial import Addresses, connect_socket
from entrepot.upstreams.proxies import ProxyRules
from entrepot.upstreams.tunnel import open_tunnel
from raw_origin import OK, RawServer, proxies_to, says

trustme = pytest.importorskip("trustme")

SECRET = base64.b64encode(b"me:p@ss").decode()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine on one of the two loops."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """An authority, and its certificate as a PEM file."""
    made = trustme.CA()
    made.pem_file = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(made.pem_file)
    return made


def server_tls(authority, *names):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert(*names).configure_cert(context)
    return context


async def get(upstream, url, *, method="GET", fresh=False):
    answer = await upstream.send(RequestHead(method, url), fresh_connection=fresh)
    try:
        return answer.head.status, b"".join([chunk async for chunk in answer.chunks()])
    finally:
        await answer.aclose()


class Client:
    """``open_upstream`` that is closed at the end."""

    def __init__(self, **settings):
        self.settings = UpstreamSettings(**{"connect_timeout_s": 3, "silence_timeout_s": 5, **settings})

    async def __aenter__(self):
        self.upstream = open_upstream(self.settings)
        return self.upstream

    async def __aexit__(self, *exc):
        await self.upstream.aclose()


def unused_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


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
            answer = await upstream.send(RequestHead("POST", origin.url(), Headers([("Content-Length", "1")])), one())
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
                answers = await asyncio.gather(*(get(upstream, origin.url(f"/{i}")) for i in range(50)))
                assert answers == [(200, b"ok")] * 50
            return origin.connections

    assert run(main()) == 50


def test_closing_ends_answers_that_are_being_read_and_refuses_new_requests(run):
    async def main():
        async with RawServer(says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", then="stall")) as origin:
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
            return total, ahead, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024

    total, ahead, grown = run(main())
    assert total == 209715200
    assert ahead < 32 << 20  # the kernel's socket buffers, not ours
    assert grown < 32 << 20


# --- where to


def test_resolve_maps_a_made_up_name_and_host_keeps_it(run):
    async def main():
        async with RawServer(says(OK)) as one, RawServer(says(OK)) as two:
            resolve = {"index.test:80": ("127.0.0.1", one.port), "Index.test:8080": ("127.0.0.1", two.port)}
            async with Client(resolve=resolve) as upstream:
                await get(upstream, "http://INDEX.test/a")
                await get(upstream, "http://index.test:8080/b")
            return one.heads + two.heads

    assert run(main()) == [b"GET /a HTTP/1.1\r\nHost: index.test\r\n\r\n", b"GET /b HTTP/1.1\r\nHost: index.test:8080\r\n\r\n"]


def test_credentials_in_a_url_become_basic_authentication_and_not_part_of_host(run):
    async def main():
        async with RawServer(says(OK)) as origin, Client() as upstream:
            await get(upstream, origin.url().replace("//", "//me:p%40ss@"))
            return origin

    origin = run(main())
    assert origin.heads == [f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\nAuthorization: Basic {SECRET}\r\n\r\n".encode()]


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

    with pytest.raises(UpstreamUnreachable, match=f"^nothing listens at 127.0.0.1:{port}$") as caught:
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
            patch.setattr("entrepot.upstreams.dial.asyncio.get_running_loop", Loop)
            await asyncio.gather(*(asyncio.create_task(addresses.find("index.test", 443)) for _ in range(20)))
        return asked

    assert run(main()) == ["index.test"]


def test_no_connection_in_time_is_a_timeout(run):
    async def main():
        async with RawServer(says(then="stall")) as silent, Client(connect_timeout_s=0.3, ca_file=None) as upstream:
            # a peer that accepts and then says nothing to the TLS greeting
            await get(upstream, f"https://127.0.0.1:{silent.port}/")

    with pytest.raises(UpstreamTimeout, match=r"did not answer within 0\.3 s"):
        run(main())


# --- TLS


def test_tls_verifies_the_name_and_resolve_keeps_it(run, authority):
    async def main():
        async with RawServer(says(OK, then="again"), tls=server_tls(authority, "index.test")) as origin:
            resolve = {"index.test:443": ("127.0.0.1", origin.port)}
            async with Client(ca_file=authority.pem_file, resolve=resolve) as upstream:
                assert await get(upstream, "https://index.test/simple/") == (200, b"ok")
                assert await get(upstream, "https://index.test/simple/") == (200, b"ok")
            return origin

    origin = run(main())
    assert origin.heads[0] == b"GET /simple/ HTTP/1.1\r\nHost: index.test\r\n\r\n"
    assert origin.connections == 1


def test_a_certificate_for_another_name_is_not_trusted(run, authority):
    async def main():
        async with (
            RawServer(says(OK), tls=server_tls(authority, "other.test")) as origin,
            Client(ca_file=authority.pem_file, resolve={"index.test:443": ("127.0.0.1", origin.port)}) as upstream,
        ):
            await get(upstream, "https://index.test/")

    with pytest.raises(UpstreamUnreachable, match=r"^the certificate of index\.test:443 is not trusted: Hostname mismatch"):
        run(main())


def test_an_unknown_authority_is_not_trusted_and_the_cure_is_named(run, authority):
    async def main():
        async with RawServer(says(OK), tls=server_tls(authority, "127.0.0.1")) as origin, Client() as upstream:
            await get(upstream, origin.url())

    with pytest.raises(UpstreamUnreachable, match="is not trusted: ") as caught:
        run(main())
    assert "SSL_CERT_FILE" in caught.value.hint


def test_a_peer_that_speaks_no_tls_is_named(run):
    async def plain(line):
        await line.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main():
        async with RawServer(plain) as origin, Client() as upstream:
            await get(upstream, f"https://127.0.0.1:{origin.port}/")

    with pytest.raises(UpstreamUnreachable, match=r"^TLS with 127\.0\.0\.1:\d+ failed: "):
        run(main())


def test_a_connection_closed_during_the_handshake_is_unreachable(run):
    async def hangs_up(line):
        await line.reader.read(10)
        await line.reset()

    async def main():
        async with RawServer(hangs_up) as origin, Client() as upstream:
            await get(upstream, f"https://127.0.0.1:{origin.port}/")

    with pytest.raises(UpstreamUnreachable):
        run(main())


@pytest.mark.parametrize("content", [None, "", "no certificate\n"], ids=["missing", "empty", "no PEM"])
def test_roots_that_cannot_be_used_are_a_wrong_setting(run, tmp_path, content):
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)

    async def main():
        async with RawServer(says(OK)) as origin, Client(ca_file=bundle) as upstream:
            await get(upstream, f"https://127.0.0.1:{origin.port}/")

    with pytest.raises(ConfigError, match=r"bundle\.pem"):
        run(main())


@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_body_cut_inside_tls_is_truncated(run, authority, then):
    async def main():
        cut = says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", then=then)
        async with RawServer(cut, tls=server_tls(authority, "127.0.0.1")) as origin, Client(ca_file=authority.pem_file) as upstream:
            await get(upstream, origin.url())

    with pytest.raises(TruncatedBody) as caught:
        run(main())
    assert caught.value.received == 3


# --- the user's own proxy


def rules(port, *, user="me:p%40ss@", scheme="http", **more):
    proxy = f"{scheme}://{user}127.0.0.1:{port}"
    return ProxyRules.from_environ({"https_proxy": proxy, "http_proxy": proxy, **more})


CREDENTIALS = f"Basic {SECRET}".encode()


def test_https_goes_through_the_proxy_by_connect_with_credentials(run, authority):
    async def main():
        async with (
            RawServer(says(OK, then="again"), tls=server_tls(authority, "index.test")) as origin,
            RawServer(proxies_to({"index.test:443": origin.port}, credentials=CREDENTIALS)) as proxy,
            Client(ca_file=authority.pem_file, proxies=rules(proxy.port)) as upstream,
        ):
            assert await get(upstream, "https://index.test/a?b") == (200, b"ok")
            assert await get(upstream, "https://index.test/a?b") == (200, b"ok")
            return origin, proxy

    origin, proxy = run(main())
    assert [head.split(b"\r\n")[0] for head in proxy.heads] == [b"CONNECT index.test:443 HTTP/1.1"]
    assert b"Proxy-Authorization" not in origin.heads[0]
    assert origin.targets() == ["/a?b", "/a?b"]


def test_http_goes_through_the_proxy_in_absolute_form(run):
    async def main():
        async with (
            RawServer(says(OK)) as origin,
            RawServer(proxies_to({"index.test": origin.port}, credentials=CREDENTIALS)) as proxy,
            Client(proxies=rules(proxy.port)) as upstream,
        ):
            assert await get(upstream, "http://index.test/a/../b?c") == (200, b"ok")
            return proxy

    proxy = run(main())
    assert proxy.targets() == ["http://index.test/a/../b?c"]


def test_a_proxy_that_is_spoken_to_by_tls_serves_https_too(run, authority):
    async def main():
        async with (
            RawServer(says(OK), tls=server_tls(authority, "index.test")) as origin,
            RawServer(proxies_to({"index.test:443": origin.port}), tls=server_tls(authority, "127.0.0.1")) as proxy,
            Client(ca_file=authority.pem_file, proxies=rules(proxy.port, scheme="https")) as upstream,
        ):
            return await get(upstream, "https://index.test/")

    assert run(main()) == (200, b"ok")


def test_what_no_proxy_names_and_loopback_go_directly(run):
    async def main():
        async with RawServer(says(OK, then="again")) as origin:
            resolve = {"index.test:80": ("127.0.0.1", origin.port)}
            async with Client(proxies=rules(unused_port(), no_proxy="index.test"), resolve=resolve) as upstream:
                assert await get(upstream, "http://index.test/") == (200, b"ok")
                assert await get(upstream, origin.url()) == (200, b"ok")

    run(main())


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("me:p%40ss@", r"the proxy http://127.0.0.1:\d+ refused the way to index.test:443: 403 Forbidden by rule"),
        ("me:wrong@", r"the proxy http://127.0.0.1:\d+ wants credentials for index.test:443 \(407\)"),
    ],
    ids=["forbidden", "wrong credentials"],
)
def test_a_proxy_that_refuses_is_named_without_its_credentials(run, user, said):
    async def main():
        async with (
            RawServer(proxies_to({}, credentials=CREDENTIALS)) as proxy,
            Client(proxies=rules(proxy.port, user=user)) as upstream,
        ):
            await get(upstream, "https://index.test/")

    with pytest.raises(UpstreamUnreachable, match=said) as caught:
        run(main())
    assert not any(secret in f"{caught.value} {caught.value.hint}" for secret in ("p%40ss", "p@ss", "wrong@", SECRET))


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        (says(b"SSH-2.0\r\n\r\n"), UpstreamProtocolError, "does not speak HTTP"),
        (says(b""), UpstreamUnreachable, "closed the connection on CONNECT"),
        (says(b"HTTP/1.1 200", then="stall"), UpstreamTimeout, "the proxy .* did not answer within 0.5 s"),
        (says(b"x" * 100_000, then="stall"), UpstreamProtocolError, "does not speak HTTP"),
    ],
    ids=["other protocol", "hangs up", "silent", "endless"],
)
def test_a_broken_proxy_is_told_from_a_broken_origin(run, script, error, said):
    async def main():
        async with RawServer(script) as proxy, Client(proxies=rules(proxy.port), connect_timeout_s=0.5) as upstream:
            await get(upstream, "https://index.test/")

    with pytest.raises(error, match=said):
        run(main())


def test_an_absent_proxy_is_named(run):
    async def main():
        async with Client(proxies=rules(unused_port())) as upstream:
            await get(upstream, "https://index.test/")

    with pytest.raises(UpstreamUnreachable, match=r"^nothing listens at the proxy http://127.0.0.1:\d+$"):
        run(main())


def test_a_socks_proxy_is_refused_in_words(run):
    async def main():
        async with Client(proxies=ProxyRules.from_environ({"ALL_PROXY": "socks5://me:hush@127.0.0.1:9"})) as upstream:
            await get(upstream, "https://index.test/")

    with pytest.raises(UpstreamUnreachable, match=r"the proxy socks5://127\.0\.0\.1:9 is none that entrepot can use"):
        run(main())


# --- blind tunnels


async def echo(line):
    while data := await line.reader.read(65536):
        await line.say(data)


@pytest.mark.parametrize("through", [False, True], ids=["directly", "through the proxy"])
def test_a_tunnel_carries_bytes_both_ways_and_ends_with_either_side(run, through):
    async def main():
        async with RawServer(echo) as peer, RawServer(proxies_to({"git.test:22": peer.port}, credentials=CREDENTIALS)) as proxy:
            how = {"proxies": rules(proxy.port)} if through else {"resolve": {"git.test:22": ("127.0.0.1", peer.port)}}
            reader, writer = await open_tunnel("git.test", 22, timeout_s=3, **how)
            payload = bytes(range(256)) * 4096
            writer.write(payload)
            assert await reader.readexactly(len(payload)) == payload
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            return proxy.connections

    assert run(main()) == int(through)


def test_bytes_that_come_with_the_proxys_answer_belong_to_the_tunnel(run):
    async def main():
        async with RawServer(says(b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0 hello", then="stall")) as proxy:
            reader, writer = await open_tunnel("git.test", 22, proxies=rules(proxy.port))
            got = await reader.readexactly(13)
            writer.close()
            await writer.wait_closed()
            return got

    assert run(main()) == b"SSH-2.0 hello"


def test_a_tunnel_to_nowhere_says_so(run):
    port = unused_port()
    with pytest.raises(UpstreamUnreachable, match=f"^nothing listens at 127.0.0.1:{port}$"):
        run(open_tunnel("127.0.0.1", port))


def test_a_host_that_would_end_the_connect_line_reaches_no_proxy(run):
    async def main():
        async with RawServer(says(b"")) as proxy:
            with pytest.raises(UpstreamUnreachable, match="not HOST:PORT"):
                await open_tunnel("a\r\nX: y", 22, proxies=rules(proxy.port))
            return proxy.connections

    assert run(main()) == 0
