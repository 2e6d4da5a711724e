"""Programs below the child that talk to other servers keep working.

Loopback, uploads, streams, WebSocket, git.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

import clients
from entrepot.testing import profiles
from entrepot.testing.origin import Origin
from entrepot.testing.tls import TestAuthority
from running import Desk

pytestmark = pytest.mark.slow
AUTHORITY = TestAuthority("the tests' own")
PIP = "download -q -d out -i"
SUITE = """
import hashlib, http.server, json, os, threading, urllib.request

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps([self.path, sorted(self.headers.keys())]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        body = hashlib.sha256(self.rfile.read(int(self.headers["Content-Length"]))).hexdigest().encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for host in ("127.0.0.1", "localhost"):
    url = f"http://{host}:{server.server_port}/api?q=1"
    path, names = json.load(urllib.request.urlopen(url))
    assert path == "/api?q=1", path
    assert not [name for name in names if name.lower().startswith(("proxy", "via"))], names
    answer = urllib.request.urlopen(urllib.request.Request(url, data=b"x" * 300_000))
    assert (answer.status, answer.read().decode()) == (201, hashlib.sha256(b"x" * 300_000).hexdigest())
print("the suite is fine")
"""


@pytest.fixture
def index():
    """An index under a made-up name."""
    with Origin(
        tls=True, authority=AUTHORITY, name="index.test", files_name="files.test"
    ) as running:
        running.add_project("demo", script="demo")
        yield running


@pytest.fixture(params=["http", "https"])
def loopback_index(request):
    """An index that stands on loopback, so that all loopback traffic comes to the proxy."""
    with Origin(
        tls=request.param == "https", authority=AUTHORITY if request.param == "https" else None
    ) as running:
        running.add_project("demo", script="demo")
        if running.tls:
            running.name = running.files_name = f"localhost:{running.port}"
        yield running


def desk_for(path: Path, *origins: Origin, **environ: str) -> Desk:
    resolve = ",".join(origin.resolve for origin in origins if "localhost" not in origin.name)
    return Desk.under(
        path, *origins, **{"PIP_NO_CACHE_DIR": "1", "ENTREPOT_RESOLVE": resolve, **environ}
    )


# A test suite with a server of its own


@pytest.mark.parametrize("below", ["python", "tox", "nox"])
def test_a_suite_with_a_loopback_server_of_its_own_goes_to_it_directly(index, tmp_path, below):
    desk = desk_for(tmp_path / "desk", index)
    tox = f"[tox]\nskipsdist=true\n[testenv]\nskip_install=true\ndeps=demo\ncommands=python suite.py\nsetenv=PIP_INDEX_URL={index.index_url}\n"
    nox = (
        "import nox\nnox.options.default_venv_backend = 'none'\n@nox.session\ndef tests(s):\n"
        f"    s.run({sys.executable!r}, 'suite.py')\n"
    )
    desk.write({"suite.py": SUITE, "tox.ini": tox, "noxfile.py": nox})
    command = {
        "python": [sys.executable, "suite.py"],
        "tox": [*clients.tox(), "-e", "py"],
        "nox": clients.nox(),
    }[below]
    ran = desk.run(*command)
    assert ran.status == 0, ran.said
    assert "the suite is fine" in ran.stdout
    assert ran.report["uncached_hosts"] == {}
    assert not [url for url in ran.urls() if "127.0.0.1" in url or "localhost" in url]
    assert index.count("whl$") == (below == "tox")


# An index on loopback: what is no index there is passed on untouched


def both(desk, index, *command, host: bool = False):
    """First pip from the loopback index, then a command, in one run.

    The proxy sees all loopback traffic.
    """
    pip = shlex.join([*clients.pip("26.3"), *PIP.split(), index.index_url, "demo"])
    ran = desk.run("sh", "-c", f"{pip} && {shlex.join(map(str, command))}")
    assert ran.status == 0, ran.said
    assert ran.urls("miss"), ran.said
    assert ran.report["uncached_hosts"] == {}, ran.said
    return ran


def test_beside_an_index_on_loopback_a_suites_own_server_works(loopback_index, tmp_path):
    desk = desk_for(tmp_path / "desk", loopback_index)
    desk.write({"suite.py": SUITE})
    ran = both(desk, loopback_index, sys.executable, "suite.py")
    assert "the suite is fine" in ran.stdout
    assert all(url.startswith(loopback_index.base) for url in ran.urls()), ran.said


@pytest.fixture(params=["http", "https"])
def neighbour(request):
    """A server on loopback that is no index."""
    with Origin(
        tls=request.param == "https", authority=AUTHORITY if request.param == "https" else None
    ) as running:
        if running.tls:
            running.name = running.files_name = f"localhost:{running.port}"
        yield running


STREAM = """
import sys, time, urllib.request
start = time.monotonic()
answer = urllib.request.urlopen(sys.argv[1])
times = []
for line in answer:
    times.append(time.monotonic() - start)
print(len(times), round(times[-1] - times[0], 2))
assert len(times) == 4, times
assert times[-1] - times[0] > 0.6, times
"""


def streams(desk, url):
    desk.write({"stream.py": STREAM})
    return [sys.executable, "stream.py", f"{url}/stream?lines=4&interval=0.3"]


def test_a_stream_beside_an_index_on_loopback_arrives_piece_by_piece(
    loopback_index, neighbour, tmp_path
):
    desk = desk_for(tmp_path / "desk", loopback_index, neighbour)
    both(desk, loopback_index, *streams(desk, neighbour.base))
    assert neighbour.count("stream") == 1


def test_a_stream_of_the_indexs_own_host_arrives_piece_by_piece(index, tmp_path):
    desk = desk_for(tmp_path / "desk", index)
    ran = desk.run(*streams(desk, index.base), options=["--host", "index.test"])
    assert ran.status == 0, ran.said
    assert ran.urls() == [f"{index.base}/stream?lines=4&interval=0.3"]


POSTS = {
    "multipart": ["curl", "-sSf", "-F", "name=demo", "-F", "content=@large.bin"],
    "chunked": [
        "curl",
        "-sSf",
        "-H",
        "Transfer-Encoding: chunked",
        "-H",
        "Expect:",
        "--data-binary",
        "@large.bin",
    ],
    "100-continue": ["curl", "-sSf", "-H", "Expect: 100-continue", "--data-binary", "@large.bin"],
    "PUT": ["curl", "-sSf", "-T", "large.bin"],
}


@pytest.mark.parametrize("way", POSTS)
def test_an_upload_to_an_index_arrives_whole_and_is_not_stored(index, tmp_path, way):
    desk = desk_for(tmp_path / "desk", index)
    (desk.project / "large.bin").write_bytes(os.urandom(3_000_000))
    ran = desk.run(
        clients.curl()[0], *POSTS[way][1:], f"{index.base}/upload", options=["--host", "index.test"]
    )
    assert ran.status == 0, ran.said
    answer = json.loads(ran.stdout)
    assert answer["method"] == ("PUT" if way == "PUT" else "POST")
    assert answer["bytes"] >= 3_000_000
    if way != "multipart":
        assert (
            answer["sha256"]
            == clients.run(["sha256sum", desk.project / "large.bin"], {}).stdout.split()[0]
        )
    assert ran.urls("bypass") == [f"{index.base}/upload"]
    assert ran.report["uncached_hosts"] == {}
    assert not list(desk.store.glob("heads/*/*"))


def test_an_upload_beside_an_index_on_loopback_arrives_whole(loopback_index, neighbour, tmp_path):
    desk = desk_for(tmp_path / "desk", loopback_index, neighbour)
    (desk.project / "large.bin").write_bytes(os.urandom(3_000_000))
    ran = both(desk, loopback_index, *POSTS["multipart"], f"{neighbour.base}/upload")
    assert json.loads(ran.stdout)["bytes"] >= 3_000_000
    assert neighbour.count("/upload", method="POST") == 1


def test_a_form_that_requests_uploads_arrives_whole(index, tmp_path):
    desk = desk_for(tmp_path / "desk", index)
    code = (
        "import requests, sys\n"
        "files = {'content': ('demo-1.0.whl', b'w' * 500_000)}\n"
        f"print(requests.post('{index.base}/upload', data={{':action': 'file_upload'}}, files=files).json()['bytes'])\n"
    )
    desk.write({"upload.py": code})
    ran = desk.run(*clients.requests(), "upload.py", options=["--host", "index.test"])
    assert ran.status == 0, ran.said
    assert int(ran.stdout) > 500_000


# Upgrades

UPGRADE = """
import base64, os, socket, ssl, sys
from urllib.parse import urlsplit
url, proxy = urlsplit(sys.argv[1]), urlsplit(os.environ["HTTPS_PROXY"])
sock = socket.create_connection((proxy.hostname, proxy.port))
token = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
authorization = f"Proxy-Authorization: Basic {token}\\r\\n"
port = url.port or (443 if url.scheme == "https" else 80)
target = sys.argv[1]
if url.scheme == "https":
    sock.sendall(f"CONNECT {url.hostname}:{port} HTTP/1.1\\r\\n{authorization}\\r\\n".encode())
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        head += sock.recv(1)
    assert b" 200 " in head, head
    sock = ssl.create_default_context().wrap_socket(sock, server_hostname=url.hostname)
    target, authorization = url.path, ""
request = f"GET {target} HTTP/1.1\\r\\nHost: {url.netloc}\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n{authorization}\\r\\n"
sock.sendall(request.encode())
head = b""
while b"\\r\\n\\r\\n" not in head:
    head += sock.recv(1)
assert b" 101 " in head, head
for size in (1, 100, 70_000):
    sock.sendall(b"z" * size)
    back = b""
    while len(back) < size:
        back += sock.recv(65536)
    assert back == b"z" * size
print("echoed")
"""


def test_an_upgraded_connection_to_the_indexs_own_host_is_relayed_both_ways(
    loopback_index, tmp_path
):
    desk = desk_for(tmp_path / "desk", loopback_index)
    desk.write({"upgrade.py": UPGRADE})
    ran = both(desk, loopback_index, sys.executable, "upgrade.py", f"{loopback_index.base}/echo")
    assert "echoed" in ran.stdout
    (seen,) = loopback_index.seen("/echo")
    assert seen.headers["upgrade"] == "echo"
    assert not [name for name in seen.headers if name.startswith("proxy")]


def test_an_upgraded_connection_beside_it_is_relayed_both_ways(loopback_index, neighbour, tmp_path):
    desk = desk_for(tmp_path / "desk", loopback_index, neighbour)
    desk.write({"upgrade.py": UPGRADE})
    assert (
        "echoed"
        in both(desk, loopback_index, sys.executable, "upgrade.py", f"{neighbour.base}/echo").stdout
    )
    assert not [name for name in neighbour.seen("/echo")[0].headers if name.startswith("proxy")]


WEBSOCKET = """
import asyncio, sys
import aiohttp
from aiohttp import web

async def talk(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data[::-1])
    return socket

async def main():
    app = web.Application()
    app.router.add_get("/ws", talk)
    runner = web.AppRunner(app)
    await runner.setup()
    context = None
    if sys.argv[1] == "wss":
        from entrepot.testing.tls import TestAuthority
        authority = TestAuthority()
        context, trusted = authority.server_context(["localhost"]), authority.client_context()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession(trust_env=True) as session:
        url = f"{sys.argv[1]}://localhost:{port}/ws"
        async with session.ws_connect(url, ssl=trusted if context else True) as socket:
            for text in ("hello", "x" * 100_000):
                await socket.send_str(text)
                assert await socket.receive_str() == text[::-1]
    await runner.cleanup()
    print("talked")

asyncio.run(main())
"""


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_websockets_of_a_suite_work_beside_an_index_on_loopback(loopback_index, tmp_path, scheme):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    desk = desk_for(tmp_path / "desk", loopback_index)
    desk.write({"talk.py": WEBSOCKET})
    assert "talked" in both(desk, loopback_index, sys.executable, "talk.py", scheme).stdout


# git

SETUP = {
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    '[project]\nname = "mine"\nversion = "1"\n',
    "backend.py": "import zipfile\n\n\ndef build_wheel(where, *_):\n    name = 'mine-1-py3-none-any.whl'\n"
    "    info = 'mine-1.dist-info'\n    with zipfile.ZipFile(where + '/' + name, 'w') as archive:\n"
    "        archive.writestr('mine.py', open('VALUE').read())\n"
    "        archive.writestr(info + '/METADATA', 'Metadata-Version: 2.1\\nName: mine\\nVersion: 1\\n')\n"
    "        archive.writestr(info + '/WHEEL', 'Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
    "        archive.writestr(info + '/RECORD', 'mine.py,,\\n%s/METADATA,,\\n%s/WHEEL,,\\n%s/RECORD,,\\n' % (info, info, info))\n"
    "    return name\n",
}


class Repository:
    """A git repository, served as plain files (git's dumb protocol)."""

    def __init__(self, root: Path, origin: Origin) -> None:
        self._work, self._bare, self._origin = root / "work", root / "repo.git", origin
        self._git = clients.git()[0]
        self._call("init", "-q", "-b", "main", self._work)
        for name, text in SETUP.items():
            (self._work / name).write_text(text)

    def commit(self, value: str) -> str:
        """A new commit, served from now on; its id."""
        (self._work / "VALUE").write_text(value)
        self._call("-C", self._work, "add", ".")
        self._call(
            "-C",
            self._work,
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
            "commit",
            "-q",
            "-m",
            value,
        )
        shutil.rmtree(self._bare, ignore_errors=True)
        self._call("clone", "-q", "--bare", self._work, self._bare)
        self._call("-C", self._bare, "update-server-info")
        for path in self._bare.rglob("*"):
            if path.is_file():
                self._origin.add(
                    f"/repo.git/{path.relative_to(self._bare)}",
                    path.read_bytes(),
                    "git",
                    "text/plain",
                )
        return self._call("-C", self._work, "rev-parse", "HEAD").stdout.strip()

    def _call(self, *words):
        environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self._work.parent),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        done = clients.run([self._git, *words], environ)
        assert done.returncode == 0, done.stderr
        return done


@pytest.mark.parametrize("client", ["pip", "uv"])
@pytest.mark.parametrize("host", ["git.test", "index.test"])
def test_a_requirement_from_git_over_https_installs_what_was_just_pushed(
    index, tmp_path, client, host
):
    """From a host of its own, which is tunnelled, and from the index's host, which is opened.

    Refs are never taken from the cache.
    """
    with Origin(host="127.0.0.2", tls=True, authority=AUTHORITY, name="git.test") as forge:
        served = forge if host == "git.test" else index
        served.profile = profiles.validators_only
        repository = Repository(_made(tmp_path / "git"), served)
        desk = desk_for(tmp_path / "desk", index, forge)
        program = [*clients.uv(), "pip"] if client == "uv" else clients.pip("26.3")
        options = ["--default-index"] if client == "uv" else ["-i"]
        requirement = f"mine @ git+https://{host}/repo.git@main"
        for turn, value in enumerate(("value = 1\n", "value = 2\n")):
            commit = repository.commit(value)
            words = [
                "install",
                "-q",
                "--target",
                f"out{turn}",
                *options,
                index.index_url,
                requirement,
                "demo",
            ]
            ran = desk.run(*program, *words)
            assert ran.status == 0, ran.said
            out = desk.project / f"out{turn}"
            assert (out / "mine.py").read_text() == value
            assert commit in (out / "mine-1.dist-info" / "direct_url.json").read_text()
            assert (out / "demo").is_dir()
            hosts = ["git.test"] if host == "git.test" else []
            assert list(ran.report["uncached_hosts"]) == hosts, ran.said


def test_git_itself_clones_through_a_tunnel(index, tmp_path):
    with Origin(host="127.0.0.2", tls=True, authority=AUTHORITY, name="git.test") as forge:
        Repository(_made(tmp_path / "git"), forge).commit("value = 1\n")
        desk = desk_for(tmp_path / "desk", index, forge)
        ran = desk.run(*clients.git(), "clone", "-q", "https://git.test/repo.git", "copy")
        assert ran.status == 0, ran.said
        assert (desk.project / "copy" / "VALUE").exists()
        assert list(ran.report["uncached_hosts"]) == ["git.test"]


def _made(path: Path) -> Path:
    path.mkdir()
    return path
