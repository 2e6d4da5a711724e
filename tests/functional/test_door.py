"""The door with real clients, and whole runs as processes.

Trust, memory, the end, what is left behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import clients
from door_world import AUTHORITY, TOKEN, USER, DoorWorld, run
from entrepot.testing.origin import Origin

LONG = f"{'a' * 60}.{'b' * 20}.test"
HOSTS = ["index.test", "127.0.0.9", "[::1]:8443", LONG]
URLLIB = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"
NOISE = re.compile(
    r"Traceback|Task was destroyed|never retrieved|Exception ignored|Fatal error|ResourceWarning"
)


def interpreter(first, last):
    return [str(clients.python(first, last)), "-c", URLLIB]


def curl():
    found = shutil.which("curl")
    if found is None:
        pytest.skip("curl is not installed")
    return [found, "-sS", "--max-time", "20"]


CLIENTS = {
    "python 3.11": lambda: interpreter((3, 11), (3, 12)),
    "python 3.13, strict": lambda: interpreter((3, 13), (3, 14)),
    "curl": curl,
    "curl, http/2 wanted": lambda: [*curl(), "--http2"],
    "curl, TLS 1.2": lambda: [*curl(), "--tls-max", "1.2"],
}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("client", CLIENTS)
def test_real_clients_trust_every_kind_of_host(client, host, tmp_path):
    command = CLIENTS[client]()
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(AUTHORITY.pem)

    async def work():
        async with DoorWorld(opened={"index.test", "127.0.0.9", "::1", LONG}) as world:
            proxy = f"http://{USER}:{TOKEN}@127.0.0.1:{world.port}"
            environ = {
                "PATH": os.environ["PATH"],
                "HTTPS_PROXY": proxy,
                "https_proxy": proxy,
                "SSL_CERT_FILE": str(bundle),
                "CURL_CA_BUNDLE": str(bundle),
                "HOME": str(tmp_path),
            }
            process = await asyncio.create_subprocess_exec(
                *command,
                f"https://{host}/a?b=1",
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            out, err = await asyncio.wait_for(process.communicate(), 40)
            return out.decode().strip(), err.decode(), world.doorman

    out, err, doorman = run(work())
    assert out == f"GET https://{host}/a?b=1 0", err
    assert (doorman.tunnels, doorman.failures, doorman.refusals) == ([], [], [])


MEMORY = """
import asyncio, resource, sys
from door_world import AUTH, DoorWorld, answer, run, streamed
from raw_origin import RawServer

TOTAL = 200 << 20
way = sys.argv[1]

def grown():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

async def pieces():
    piece = b"x" * (1 << 18)
    for _ in range(TOTAL >> 18):
        yield piece

async def handler(request):
    if request.body is None:
        return streamed(pieces(), TOTAL)
    count = 0
    async for piece in request.body:
        count += len(piece)
        if count % (1 << 22) < len(piece):
            await asyncio.sleep(0.001)  # slower than the client
    return answer(b"%d" % count)

async def pump(line):
    if way == "tunnel-down":
        async for piece in pieces():
            await line.say(piece)
        line.writer.write_eof()
        await line.reader.read(1)
    else:
        count = 0
        while data := await line.reader.read(1 << 18):
            count += len(data)
        await line.say(b"%d" % count)

async def upload(client):
    piece = b"x" * (1 << 16)
    for _ in range(TOTAL >> 16):
        client.send(piece)
        await client.writer.drain()

async def download(client):
    count = 0
    while count < TOTAL:
        data = await client.reader.read(1 << 18)
        if not data:
            break
        count += len(data)
        if count % (1 << 22) < len(data):
            await asyncio.sleep(0.001)
    return count

async def work():
    async with RawServer(pump) as origin, DoorWorld(handler, opened={"index.test"}, ports={"o.test": origin.port}) as world:
        if way.startswith("tunnel"):
            client = await world.connect()
            client.send(b"CONNECT o.test:22 HTTP/1.1\\r\\n" + AUTH + b"\\r\\n")
            await client.head()
        else:
            client = await (world.tunnel() if "tls" in way else world.connect())
        before = grown()
        target = b"/a" if "tls" in way else b"http://index.test/a"
        if way.startswith("upload"):
            client.send(b"PUT %s HTTP/1.1\\r\\n%sContent-Length: %d\\r\\n\\r\\n" % (target, AUTH, TOTAL))
            await upload(client)
            assert (await client.response())[1] == b"%d" % TOTAL
        elif way == "tunnel-up":
            await upload(client)
            client.writer.write_eof()
            assert await client.rest() == b"%d" % TOTAL
        else:
            if way.startswith("download"):
                client.send(b"GET %s HTTP/1.1\\r\\n%s\\r\\n" % (target, AUTH))
                await client.head()
            assert await download(client) == TOTAL
        await client.close()
        print(grown() - before)

run(work())
"""


@pytest.mark.parametrize(
    "way", ["upload", "upload-tls", "download", "download-tls", "tunnel-up", "tunnel-down"]
)
def test_200_megabytes_leave_the_memory_where_it_was(way):
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, way],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 24, "MB more than before"


# whole runs


@pytest.fixture
def running(tmp_path, environment):
    """The words and the environment of ``entrepot run`` with a store of its own, and where its runtime directory is."""
    state = tmp_path / "state"
    environ = {
        **environment,
        "XDG_STATE_HOME": str(state),
        "ENTREPOT_STORE": str(tmp_path / "store"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return [sys.executable, "-X", "dev", "-m", "entrepot", "run"], environ, state / "entrepot/run"


def carry_out(running, *command, options=(), **more):
    words, environ, _ = running
    return subprocess.run(
        [*words, *options, "--", *command],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **more,
    )


@pytest.mark.parametrize(
    ("command", "status"), [("exit 7", 7), ("kill -TERM $$", 143), ("exit 0", 0)]
)
def test_a_run_ends_as_its_command_does_and_leaves_nothing_behind(running, command, status):
    done = carry_out(running, "sh", "-c", command)
    assert done.returncode == status
    assert not NOISE.search(done.stderr), done.stderr
    assert list(running[2].iterdir()) == []


def test_a_command_that_is_not_there_is_127(running):
    done = carry_out(running, "no-such-command-here")
    assert done.returncode == 127
    assert "no-such-command-here: command not found" in done.stderr
    assert list(running[2].iterdir()) == []


def test_the_bundle_can_be_read_and_its_directory_belongs_to_the_user_alone(running):
    code = "D=$(dirname $SSL_CERT_FILE); stat -c %a $SSL_CERT_FILE $D; grep -c BEGIN.CERT $SSL_CERT_FILE; grep -rl PRIVATE $D"
    done = carry_out(running, "sh", "-c", code)
    assert done.stdout.split()[:2] == ["644", "700"]
    assert int(done.stdout.split()[2]) >= 1
    assert len(done.stdout.split()) == 3, "no file with a key"


def test_ctrl_c_ends_the_command_and_leaves_nothing_behind(running):
    words, environ, runtime = running
    process = subprocess.Popen(
        [*words, "--", "sh", "-c", "echo on; exec sleep 30"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "on\n"
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert not NOISE.search(err), err
    assert list(runtime.iterdir()) == []


def test_what_a_killed_run_left_goes_with_the_next(running):
    words, environ, runtime = running
    process = subprocess.Popen(
        [*words, "--", "sh", "-c", "echo $$; exec sleep 30"],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    os.kill(child, signal.SIGTERM)
    assert len(list(runtime.iterdir())) == 1
    carry_out(running, "true")
    assert list(runtime.iterdir()) == []


def test_the_end_is_quick_and_quiet_though_tunnels_are_open(running):
    """A grandchild that outlives the command keeps its connections.

    They are closed, not waited for.
    """
    code = (
        "import os, socket, sys, time, urllib.parse\n"
        "address = urllib.parse.urlsplit(os.environ['HTTPS_PROXY'])\n"
        "open_ = [socket.create_connection((address.hostname, address.port)) for _ in range(20)]\n"
        "import base64\n"
        "basic = base64.b64encode(f'{address.username}:{address.password}'.encode()).decode()\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "for number, each in enumerate(open_):\n"
        "    host = f'127.0.0.1:{listener.getsockname()[1]}' if number % 2 else 'index.test:443'\n"
        "    each.sendall(f'CONNECT {host} HTTP/1.1\\r\\nProxy-Authorization: Basic {basic}\\r\\n\\r\\n'.encode())\n"
        "    assert each.recv(100).startswith(b'HTTP/1.1 200'), number\n"
        "if os.fork() == 0:\n"
        "    os.close(1); os.close(2); [each.recv(1) for each in open_]; os._exit(0)\n"
        "print(time.time(), flush=True)\n"
        "os._exit(3)\n"
    )
    done = carry_out(running, sys.executable, "-c", code, options=["--host", "index.test"])
    ended = time.time()
    assert done.returncode == 3, done.stderr
    assert not NOISE.search(done.stderr), done.stderr
    assert (
        ended - float(done.stdout) < 3
    )  # development mode, the tidying of the store included, on a busy machine


def test_a_client_without_trust_is_named_in_the_last_line(running):
    code = (
        "import ssl, sys, urllib.request, urllib.error\n"
        "context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\n"
        "handlers = [urllib.request.ProxyHandler(), urllib.request.HTTPSHandler(context=context)]\n"
        "try: urllib.request.build_opener(*handlers).open('https://index.test/')\n"
        "except urllib.error.URLError as exc: print('CERTIFICATE_VERIFY_FAILED' in str(exc))\n"
    )
    done = carry_out(running, sys.executable, "-c", code, options=["--host", "index.test"])
    assert done.stdout == "True\n"
    assert "refused entrepot's certificate for index.test" in done.stderr


def test_a_store_that_cannot_be_opened_stops_the_run_before_the_command(running, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    done = carry_out(running, "echo", "started", options=["--store", str(file / "store")])
    assert (done.returncode, done.stdout) == (125, "")
    assert not NOISE.search(done.stderr), done.stderr


def test_what_is_fetched_through_tls_is_kept_and_served(running):
    with Origin(tls=True, name="index.test") as origin_tls:
        _fetch_twice(running, origin_tls)


def _fetch_twice(running, origin_tls):
    environ = running[1]
    environ["SSL_CERT_FILE"] = str(origin_tls.ca_file)
    environ["ENTREPOT_RESOLVE"] = f"index.test:443=127.0.0.1:{origin_tls.port}"
    origin_tls.synth(1)
    report = Path(environ["XDG_STATE_HOME"]).parent / "report.json"
    for _ in range(2):
        done = carry_out(
            running,
            sys.executable,
            "-c",
            URLLIB,
            "https://index.test/simple/",
            options=["--host", "index.test", "--report", str(report)],
        )
        assert done.returncode == 0, done.stderr
        assert not NOISE.search(done.stderr), done.stderr
    assert "<a " in done.stdout
    found = json.loads(report.read_text())
    assert (found["requests"], found["hits"] + found["revalidated"], found["uncached_hosts"]) == (
        1,
        1,
        {},
    )


def test_the_command_is_started_before_a_server_is_loaded(running):
    """0.3 s from one start to the other are kept by what is not imported (bench/run_startup.py measures them)."""
    code = (
        "import sys\n"
        "late = {'asyncio', 'uvloop', 'httptools', 'cryptography.x509', 'entrepot.serving.service', 'entrepot.server.proxy'}\n"
        "def hook(event, args):\n"
        "    if event == 'subprocess.Popen': print(sorted(late & set(sys.modules)), file=sys.stderr)\n"
        "sys.addaudithook(hook)\n"
        "from entrepot.cli.main import main\n"
        "sys.exit(main(['run', '--', 'true']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=running[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == "[]"
