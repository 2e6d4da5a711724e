"""Compare HTTP clients for the upstream side: faults, fidelity, start-up, CPU, latency, memory.

Loopback only.

    python bench/upstream_clients.py            everything, about a minute
    python bench/upstream_clients.py faults|urls|start|speed|memory [CLIENT ...]

Clients: own (entrepot.upstream), pyreqwest, aiohttp; one that is not installed is left out. Each
measurement runs in a process of its own; the origin is another one. What was concluded:
docs/decisions/0001-upstream-client.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE.parent / "tests")]
CLIENTS = ("own", "pyreqwest", "aiohttp")
TOTAL = 200 << 20
GZ = gzip.compress(b"hello", mtime=0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


# --- the clients, each as: await get(url, method, fresh) -> (status, field lines, async iterator of
# chunks, close)


class Own:
    def __init__(self, ca=None, silence_s=2.0):
        from entrepot.upstream.client import UpstreamSettings, open_upstream

        self.upstream = open_upstream(
            UpstreamSettings(silence_timeout_s=silence_s, connect_timeout_s=2, ca_file=ca)
        )

    async def get(self, url, method="GET", headers=(), body=None):
        from entrepot.httpcache.messages import Headers, RequestHead

        answer = await self.upstream.send(RequestHead(method, url, Headers(headers)), body)
        return answer.head.status, list(answer.head.headers), answer.chunks(), answer.aclose

    async def aclose(self):
        await self.upstream.aclose()


class Pyreqwest:
    def __init__(self, ca=None, silence_s=2.0):
        from pyreqwest.client import ClientBuilder

        limit = timedelta(seconds=silence_s)
        builder = (
            ClientBuilder()
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .follow_redirects(False)
            .referer(False)
        )
        builder = builder.no_proxy().read_timeout(limit).connect_timeout(limit)
        if ca:
            builder = builder.add_root_certificate_pem(Path(ca).read_bytes())
        self.client = builder.build()

    async def get(self, url, method="GET", headers=(), body=None):
        request = self.client.request(method, url).headers(list(headers))
        request = (request.body_stream(body) if body is not None else request).build_streamed()
        response = await request.__aenter__()

        async def chunks():
            while (chunk := await response.body_reader.read_chunk()) is not None:
                yield chunk

        async def close():
            await request.__aexit__(None, None, None)

        return response.status, list(response.headers.items()), chunks(), close

    async def aclose(self):
        await self.client.close()


class Aiohttp:
    def __init__(self, ca=None, silence_s=2.0):
        import aiohttp
        import yarl

        self.url = lambda text: yarl.URL(text, encoded=True)
        context = ssl.create_default_context(cafile=ca) if ca else None
        self.session = aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=256 * 1024,
            connector=aiohttp.TCPConnector(limit=0, **({"ssl": context} if context else {})),
            skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding", "Content-Type"],
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=silence_s, sock_read=silence_s),
        )

    async def get(self, url, method="GET", headers=(), body=None):
        response = await self.session.request(
            method, self.url(url), headers=list(headers), data=body, allow_redirects=False
        )

        async def close():
            response.close() if not response.content.at_eof() else response.release()

        lines = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in response.raw_headers]
        return response.status, lines, response.content.iter_any(), close

    async def aclose(self):
        await self.session.close()


MAKE = {"own": Own, "pyreqwest": Pyreqwest, "aiohttp": Aiohttp}


# --- faults and fidelity, against the tests' raw origin


def cases():
    from raw_origin import says

    head = b"HTTP/1.1 200 OK\r\n"
    return {
        "Content-Length": (says(OK, then="again"), "200 ok"),
        "cut Content-Length": (says(head + b"Content-Length: 10\r\n\r\nabc"), "error"),
        "cut chunked": (says(head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), "error"),
        "reset before any byte": (says(b"", then="reset"), "error, 1 request"),
        "closed before any byte": (says(b""), "error, 1 request"),
        "reset in the body": (says(head + b"Content-Length: 10\r\n\r\nabc", then="reset"), "error"),
        "reset, no length": (says(head + b"\r\nabc", then="reset"), "error"),
        "stall": (says(b"", then="stall"), "error"),
        "stall in the body": (says(head + b"Content-Length: 10\r\n\r\nabc", then="stall"), "error"),
        "garbage": (says(b"SSH-2.0-x\r\n\r\n"), "error"),
        "slow head": (says(*[bytes([c]) for c in OK], pause_s=0.01), "200 ok"),
        "100": (says(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, then="again"), "200 ok"),
        "102, 103": (
            says(b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n" + OK, then="again"),
            "200 ok",
        ),
        "no length": (says(head + b"\r\nabc"), "200 abc"),
        "204 with length": (
            says(b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", then="again"),
            "204 ",
        ),
        "304 with length": (
            says(b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", then="again"),
            "304 ",
        ),
        "gzip kept": (
            says(head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(GZ) + GZ),
            f"200 {GZ!r}",
        ),
        "redirect": (
            says(b"HTTP/1.1 302 F\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", then="again"),
            "302 ",
        ),
        "obs-text": (says(head + b"X: caf\xe9\xff\r\nContent-Length: 2\r\n\r\nok"), "200 ok"),
        "folded field": (says(head + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nok"), "200 ok"),
        "both framings": (
            says(
                head
                + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
            ),
            "200 ok",
        ),
        "20 kB field": (
            says(head + b"X: " + b"a" * 20000 + b"\r\nContent-Length: 2\r\n\r\nok"),
            "200 ok",
        ),
        "150 fields": (says(head + b"X: y\r\n" * 150 + b"Content-Length: 2\r\n\r\nok"), "200 ok"),
        "order, case, repetition": (
            says(head + b"Vary: a\r\nX-Foo: 1\r\nVARY: b\r\nContent-Length: 0\r\n\r\n"),
            "[('Vary', 'a'), ('X-Foo', '1'), ('VARY', 'b'), ('Content-Length', '0')]",
        ),
    }


async def faults(name):
    from raw_origin import RawServer

    async def one(client, origin, want):
        close = None
        try:
            status, lines, chunks, close = await client.get(origin.url())
            body = b"".join([bytes(c) async for c in chunks])
            if want.startswith("["):
                return str(lines)
            text = repr(body) if body == GZ else body.decode("latin-1")
            return f"{status} {text}"
        except (Exception, TimeoutError) as exc:
            if want.startswith("error"):
                return (
                    want
                    if "," not in want or len(origin.heads) == 1
                    else f"error, {len(origin.heads)} requests"
                )
            return f"{type(exc).__name__}: {exc}"[:90]
        finally:
            if close:
                with contextlib.suppress(Exception):
                    await close()

    result = {}
    for title, (script, want) in cases().items():
        async with RawServer(script) as origin:
            client = MAKE[name](silence_s=0.5)
            got = await asyncio.wait_for(one(client, origin, want), 5)
            await client.aclose()
        result[title] = "as wanted" if got == want else got
    async with RawServer(cases()["Content-Length"][0]) as origin:
        client = MAKE[name]()
        _, _, chunks, close = await client.get(origin.url())
        [c async for c in chunks]
        await close()
        await client.aclose()
        added = [
            line
            for line in origin.heads[0].decode().split("\r\n")[1:]
            if line and not line.startswith("Host")
        ]
        result["adds no fields"] = "as wanted" if not added else str(added)
    async with RawServer(cases()["Content-Length"][0]) as origin:
        client = MAKE[name]()
        _, _, chunks, close = await client.get(
            origin.url(), headers=[("accept", "a"), ("Accept", "b")]
        )
        [c async for c in chunks]
        await close()
        await client.aclose()
        sent = [
            line
            for line in origin.heads[0].decode().split("\r\n")
            if line.lower().startswith("accept:")
        ]
        result["repeated request fields"] = (
            "as wanted" if [line[-1] for line in sent] == ["a", "b"] else str(sent)
        )

    return result


async def urls(name):
    from functional.test_upstreams_faults import TAILS
    from raw_origin import RawServer, says

    result = {}
    async with RawServer(says(OK, then="again")) as origin:
        client = MAKE[name]()
        for tail in TAILS:
            try:
                _, _, chunks, close = await client.get(origin.url(tail))
                [c async for c in chunks]
                await close()
                sent = origin.targets()[-1]
                result[tail] = "as spelled" if sent == tail else f"sent as {sent}"
            except Exception as exc:
                result[tail] = f"{type(exc).__name__}: {exc}"[:90]
        await client.aclose()
    return result


# --- cost


def start(name):
    modules = {
        "own": "entrepot.upstream.client",
        "pyreqwest": "pyreqwest.client",
        "aiohttp": "aiohttp",
    }
    code = f"import time; t = time.perf_counter(); import {modules[name]}; print(time.perf_counter() - t)"
    after = f"import asyncio, ssl, httptools, uvloop, time; t = time.perf_counter(); import {modules[name]}; print(time.perf_counter() - t)"
    environ = {"PYTHONPATH": str(HERE.parent / "src")}

    def best(text):
        return min(
            float(
                subprocess.run(
                    [sys.executable, "-c", text], env=environ, capture_output=True, check=True
                ).stdout
            )
            for _ in range(5)
        )

    return {
        "import, ms": round(best(code) * 1e3),
        "import after what the server needs anyway, ms": round(best(after) * 1e3),
    }


async def serve(tls_pem):
    import uvloop  # noqa: F401

    big = bytes(range(256)) * 4096
    small = (
        b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: "x"\r\nContent-Length: 51200\r\n\r\n'
        + bytes(51200)
    )

    async def answer(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b" /big " in head:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % TOTAL)
                    for _ in range(TOTAL // len(big)):
                        writer.write(big)
                        await writer.drain()
                elif b" /tiny " in head:
                    writer.write(OK)
                else:
                    writer.write(small)
                    await writer.drain()

    context = None
    if tls_pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls_pem)
    plain = await asyncio.start_server(answer, "127.0.0.1", 0)
    secure = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) if context else None
    print(
        json.dumps(
            [plain.sockets[0].getsockname()[1], secure.sockets[0].getsockname()[1] if secure else 0]
        ),
        flush=True,
    )
    await asyncio.sleep(600)


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def fetch(client, url):
    _, _, chunks, close = await client.get(url)
    total = 0
    async for chunk in chunks:
        total += len(chunk)
    await close()
    return total


async def speed(name, ports, ca):
    result = {}
    client = MAKE[name](ca=ca, silence_s=30)
    for label, base in (
        ("plain", f"http://127.0.0.1:{ports[0]}"),
        ("TLS", f"https://127.0.0.1:{ports[1]}"),
    ):
        await fetch(client, base + "/tiny")
        best = []
        for _ in range(3):
            began, used = time.perf_counter(), cpu()
            assert await fetch(client, base + "/big") == TOTAL
            best.append(((cpu() - used) / TOTAL * 1e9, TOTAL / (time.perf_counter() - began) / 1e6))
        result[f"{label}: CPU s/GB"] = round(min(b[0] for b in best), 2)
        result[f"{label}: MB/s"] = round(max(b[1] for b in best))
        for path, what in (("/tiny", "2 bytes"), ("/small", "50 kB")):
            used, times = cpu(), []
            for _ in range(500):
                began = time.perf_counter()
                await fetch(client, base + path)
                times.append(time.perf_counter() - began)
            result[f"{label}: {what}, one by one, median us"] = round(sorted(times)[250] * 1e6)
            result[f"{label}: {what}, CPU us"] = round((cpu() - used) / 500 * 1e6)
        began = time.perf_counter()
        await asyncio.gather(*(fetch(client, base + "/small") for _ in range(50)))
        result[f"{label}: 50 at once, ms"] = round((time.perf_counter() - began) * 1e3)
    await client.aclose()
    return result


async def memory(name, ports, ca):
    client = MAKE[name](ca=ca, silence_s=30)
    await fetch(client, f"http://127.0.0.1:{ports[0]}/tiny")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {"resident after the first request, MB": round(before / 1024)}
    _, _, chunks, close = await client.get(f"http://127.0.0.1:{ports[0]}/big")
    total = 0
    async for chunk in chunks:
        total += len(chunk)
        if total < 4 << 20:
            await asyncio.sleep(0.05)
    await close()
    result["grown by a slow reader of 200 MB, MB"] = round(
        (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    )
    await client.aclose()
    return result


# --- running it


def child(what, name, *rest):
    done = subprocess.run(
        [sys.executable, __file__, "child", what, name, *rest],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def run_child(what, name, *rest):
    import uvloop

    if what == "serve":
        uvloop.run(serve(name if name != "-" else None))
    elif what == "start":
        print(json.dumps(start(name)))
    elif what in {"faults", "urls"}:
        asyncio.run(asyncio.wait_for(_print(globals()[what](name)), 120))
    else:
        uvloop.run(_print(globals()[what](name, json.loads(rest[0]), rest[1])))


async def _print(coroutine):
    print(json.dumps(await coroutine))


def table(what, names, *rest):
    columns = {name: child(what, name, *rest) for name in names}
    rows = list(dict.fromkeys(row for column in columns.values() for row in column))
    print(f"\n### {what}\n\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for row in rows:
        cell = [str(column.get(row, "")).replace("|", "\\|") for column in columns.values()]
        print(f"| `{row}` |" if what == "urls" else f"| {row} |", " | ".join(cell), "|", flush=True)


def main(arguments):
    if arguments[:1] == ["child"]:
        run_child(*arguments[1:])
        return
    kinds = [a for a in arguments if a not in CLIENTS] or [
        "faults",
        "urls",
        "start",
        "speed",
        "memory",
    ]
    names = [a for a in arguments if a in CLIENTS] or CLIENTS
    import trustme

    with tempfile.TemporaryDirectory() as folder:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(f"{folder}/ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            f"{folder}/leaf.pem"
        )
        server = subprocess.Popen(
            [sys.executable, __file__, "child", "serve", f"{folder}/leaf.pem"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            ports = server.stdout.readline().strip()
            for what in kinds:
                table(
                    what,
                    names,
                    *((ports, f"{folder}/ca.pem") if what in {"speed", "memory"} else ()),
                )
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
