"""TLS, the user's own proxy, and blind tunnels, with certificates made for the test and a small proxy of its own."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from entrepot.errors import (
    ConfigError,
    TruncatedBody,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from entrepot.upstream.proxies import ProxyRules
from entrepot.upstream.trust import merged_bundle
from entrepot.upstream.tunnel import open_tunnel
from raw_origin import OK, RawServer, proxies_to, says
from upstream_client import LOOPS, SECRET, Client, get, unused_port

trustme = pytest.importorskip("trustme")


@pytest.fixture(params=LOOPS, ids=LOOPS)
def run(request):
    """Run a coroutine on one of the event loops."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner.run


@pytest.fixture(scope="module")
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


# --- TLS


def test_tls_verifies_the_name_and_resolve_keeps_it(run, authority):
    async def main():
        async with RawServer(
            says(OK, then="again"), tls=server_tls(authority, "index.test")
        ) as origin:
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
            Client(
                ca_file=authority.pem_file, resolve={"index.test:443": ("127.0.0.1", origin.port)}
            ) as upstream,
        ):
            await get(upstream, "https://index.test/")

    with pytest.raises(
        UpstreamUnreachable,
        match=r"^the certificate of index\.test:443 is not trusted: Hostname mismatch",
    ):
        run(main())


def test_an_unknown_authority_is_not_trusted_and_the_cure_is_named(run, authority):
    async def main():
        async with (
            RawServer(says(OK), tls=server_tls(authority, "127.0.0.1")) as origin,
            Client() as upstream,
        ):
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


def test_the_users_merged_bundle_feeds_upstream_as_text(run, authority):
    bundle = merged_bundle({"REQUESTS_CA_BUNDLE": str(authority.pem_file)})

    async def main():
        async with (
            RawServer(says(OK), tls=server_tls(authority, "127.0.0.1")) as origin,
            Client(ca_pem=bundle.pem) as upstream,
        ):
            return await get(upstream, origin.url())

    assert run(main()) == (200, b"ok")


def test_an_empty_bundle_is_a_wrong_setting_and_never_the_default_roots(run):
    async def main():
        async with Client(ca_pem="") as upstream, RawServer(says(OK)) as origin:
            await get(upstream, f"https://127.0.0.1:{origin.port}/")

    with pytest.raises(ConfigError, match="the merged bundle"):
        run(main())


@pytest.mark.parametrize(
    "content", [None, "", "no certificate\n"], ids=["missing", "empty", "no PEM"]
)
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
        async with (
            RawServer(cut, tls=server_tls(authority, "127.0.0.1")) as origin,
            Client(ca_file=authority.pem_file) as upstream,
        ):
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
            RawServer(
                proxies_to({"index.test:443": origin.port}, credentials=CREDENTIALS)
            ) as proxy,
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
            RawServer(
                proxies_to({"index.test:443": origin.port}), tls=server_tls(authority, "127.0.0.1")
            ) as proxy,
            Client(
                ca_file=authority.pem_file, proxies=rules(proxy.port, scheme="https")
            ) as upstream,
        ):
            return await get(upstream, "https://index.test/")

    assert run(main()) == (200, b"ok")


def test_what_no_proxy_names_and_loopback_go_directly(run):
    async def main():
        async with RawServer(says(OK, then="again")) as origin:
            resolve = {"index.test:80": ("127.0.0.1", origin.port)}
            async with Client(
                proxies=rules(unused_port(), no_proxy="index.test"), resolve=resolve
            ) as upstream:
                assert await get(upstream, "http://index.test/") == (200, b"ok")
                assert await get(upstream, origin.url()) == (200, b"ok")

    run(main())


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (
            "me:p%40ss@",
            r"the proxy http://127.0.0.1:\d+ refused the way to index.test:443: 403 Forbidden by rule",
        ),
        (
            "me:wrong@",
            r"the proxy http://127.0.0.1:\d+ wants credentials for index.test:443 \(407\)",
        ),
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
    assert not any(
        secret in f"{caught.value} {caught.value.hint}"
        for secret in ("p%40ss", "p@ss", "wrong@", SECRET)
    )


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        (says(b"SSH-2.0\r\n\r\n"), UpstreamProtocolError, "does not speak HTTP"),
        (says(b""), UpstreamUnreachable, "closed the connection on CONNECT"),
        (
            says(b"HTTP/1.1 200", then="stall"),
            UpstreamTimeout,
            "the proxy .* did not answer within 0.5 s",
        ),
        (says(b"x" * 100_000, then="stall"), UpstreamProtocolError, "does not speak HTTP"),
    ],
    ids=["other protocol", "hangs up", "silent", "endless"],
)
def test_a_broken_proxy_is_told_from_a_broken_origin(run, script, error, said):
    async def main():
        async with (
            RawServer(script) as proxy,
            Client(proxies=rules(proxy.port), connect_timeout_s=0.5) as upstream,
        ):
            await get(upstream, "https://index.test/")

    with pytest.raises(error, match=said):
        run(main())


def test_an_absent_proxy_is_named(run):
    async def main():
        async with Client(proxies=rules(unused_port())) as upstream:
            await get(upstream, "https://index.test/")

    with pytest.raises(
        UpstreamUnreachable, match=r"^nothing listens at the proxy http://127.0.0.1:\d+$"
    ):
        run(main())


def test_a_socks_proxy_is_refused_in_words(run):
    async def main():
        async with Client(
            proxies=ProxyRules.from_environ({"ALL_PROXY": "socks5://me:hush@127.0.0.1:9"})
        ) as upstream:
            await get(upstream, "https://index.test/")

    with pytest.raises(
        UpstreamUnreachable,
        match=r"the proxy socks5://127\.0\.0\.1:9 is none that entrepot can use",
    ):
        run(main())


# --- blind tunnels


async def echo(line):
    while data := await line.reader.read(65536):
        await line.say(data)


@pytest.mark.parametrize("through", [False, True], ids=["directly", "through the proxy"])
def test_a_tunnel_carries_bytes_both_ways_and_ends_with_either_side(run, through):
    async def main():
        async with (
            RawServer(echo) as peer,
            RawServer(proxies_to({"git.test:22": peer.port}, credentials=CREDENTIALS)) as proxy,
        ):
            how = (
                {"proxies": rules(proxy.port)}
                if through
                else {"resolve": {"git.test:22": ("127.0.0.1", peer.port)}}
            )
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


@pytest.mark.parametrize("through", [False, True], ids=["directly", "through the proxy"])
def test_a_relay_speaks_tls_to_its_peer(run, authority, through):
    async def main():
        async with (
            RawServer(echo, tls=server_tls(authority, "index.test")) as peer,
            RawServer(proxies_to({"index.test:443": peer.port})) as proxy,
        ):
            how = (
                {"proxies": rules(proxy.port)}
                if through
                else {"resolve": {"index.test:443": ("127.0.0.1", peer.port)}}
            )
            reader, writer = await open_tunnel(
                "index.test", 443, timeout_s=3, ca_file=authority.pem_file, tls=True, **how
            )
            writer.write(b"hello")
            got = await reader.readexactly(5)
            writer.close()
            await writer.wait_closed()
            with pytest.raises(UpstreamUnreachable, match="is not trusted"):
                await open_tunnel("index.test", 443, timeout_s=3, tls=True, **how)
            return got

    assert run(main()) == b"hello"


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
