"""An index that wants credentials works, and nothing that entrepot writes holds them.

Store, state, report, log, scratch.
"""

from __future__ import annotations

import base64
import contextlib
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

import clients
from acceptance import FILES, Lab, expected, install_command
from entrepot.testing import profiles
from entrepot.testing.origin import Origin

pytestmark = pytest.mark.slow
USER, PASSWORD = "some.one@work", "pa55 w0rd/+&=%s3cret"
PLAIN_USER, PLAIN_PASSWORD = "someone", "s3cret-pa55word"


def forms(user, password):
    """Every form in which a credential may be written down."""
    raw = password.encode()
    pair = f"{user}:{password}".encode()
    texts = {
        password,
        quote(password),
        quote(password, safe=""),
        quote(password, safe="").lower(),
        quote(password, safe="/+&=%"),
    }
    found = {text.encode() for text in texts}
    for each in (raw, pair):
        encoded = base64.b64encode(each).rstrip(b"=")
        found |= {
            encoded,
            base64.urlsafe_b64encode(each).rstrip(b"="),
            quote(encoded.decode(), safe="").encode(),
        }
    return {each for each in found if len(each) > 5}


def places(lab):
    """Every file that entrepot writes in these runs."""
    for root in (
        lab.store,
        lab.state,
        lab.root / "log.txt",
        *lab.root.glob("user-*/report.json"),
        *lab.temporary.glob("entrepot-*"),
    ):
        yield from (
            [root] if root.is_file() else [path for path in root.rglob("*") if path.is_file()]
        )


def leaks(lab, secrets):
    """``(file, secret)`` wherever one is found; in the names of files too."""
    found = []
    for path in places(lab):
        with contextlib.suppress(FileNotFoundError):
            text = str(path.relative_to(lab.root)).encode() + b"\0" + path.read_bytes()
            found += [(str(path), secret) for secret in secrets if secret in text]
    return found


def run_and_watch(lab, words, user, environ):
    """Run to the end, looking all the time; status, output, leaks, and how often it was looked."""
    found, looks = [], 0
    with subprocess.Popen(
        words,
        env=environ,
        cwd=user,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    ) as process:
        end = time.monotonic() + 100
        while process.poll() is None and time.monotonic() < end:
            found += leaks(lab, SECRETS)
            looks += 1
            time.sleep(0.05)
        if process.poll() is None:
            process.kill()
        out, err = process.communicate()
    return process.returncode, out + err, found, looks


SECRETS = forms(USER, PASSWORD) | forms(PLAIN_USER, PLAIN_PASSWORD)


def closed_origin(scheme):
    """An index that shall want credentials for every page and file."""
    return Origin(
        profile=profiles.bare, **({"tls": True, "name": "index.test"} if scheme == "https" else {})
    )


def with_user(url, user, password=None):
    """The URL with credentials in it, as people must write them."""
    scheme, _, rest = url.partition("://")
    pair = quote(user, safe="") + (f":{quote(password, safe='')}" if password is not None else "")
    return f"{scheme}://{pair}@{rest}"


def keyring(directory):
    """A ``keyring`` command that answers for our user alone."""
    script = f'#!/bin/sh\n[ "$1" = get ] && [ "$3" = {PLAIN_USER} ] && echo {PLAIN_PASSWORD} && exit 0\nexit 1\n'
    directory.mkdir(parents=True)
    path = directory / "keyring"
    path.write_text(script)
    path.chmod(0o755)
    return f"{directory}:/usr/bin:/bin"


def netrc(home, origin):
    """A .netrc that pip and uv read."""
    home.mkdir(parents=True)
    host = origin.base.partition("://")[2].partition(":")[0]
    path = home / ".netrc"
    path.write_text(f"machine {host} login {PLAIN_USER} password {PLAIN_PASSWORD}\n")
    path.chmod(0o600)


def way_url(lab, origin, tool, names, user):
    return install_command(tool, with_user(origin.index_url, USER, PASSWORD), names), {}


def way_netrc(lab, origin, tool, names, user):
    netrc(user / "home", origin)
    return install_command(tool, origin.index_url, names), {}


def way_variable(lab, origin, tool, names, user):
    url = with_user(origin.index_url, USER, PASSWORD)
    command = [
        word
        for word in install_command(tool, "INDEX", names)
        if word not in ("--index-url", "INDEX")
    ]
    return command, {"PIP_INDEX_URL": url} if tool != "uv" else {"UV_INDEX_URL": url}


def way_uv_variables(lab, origin, tool, names, user):
    command = [
        word
        for word in install_command(tool, "INDEX", names)
        if word not in ("--index-url", "INDEX")
    ]
    return command, {
        "UV_INDEX": f"own={origin.index_url}",
        "UV_INDEX_OWN_USERNAME": USER,
        "UV_INDEX_OWN_PASSWORD": PASSWORD,
    }


def way_keyring(lab, origin, tool, names, user):
    path = keyring(user / "bin")
    command = install_command(
        tool, with_user(origin.index_url, PLAIN_USER), names, "--keyring-provider", "subprocess"
    )
    return command, {"PATH": path}


def way_requirement_file(lab, origin, tool, names, user):
    file = user / "in.txt"
    file.write_text(
        "\n".join([f"--index-url {with_user(origin.index_url, USER, PASSWORD)}", *names]) + "\n"
    )
    command = [
        word for word in install_command(tool, "INDEX", []) if word not in ("--index-url", "INDEX")
    ]
    return [*command, "-r", str(file)], {}


WAYS = [
    ("http", way_url, "20.3.4"),
    ("https", way_url, "26.3"),
    ("https", way_url, "uv"),
    ("https", way_netrc, "24.3.1"),
    ("http", way_netrc, "uv"),
    ("http", way_variable, "23.2.1"),
    ("http", way_variable, "uv"),
    ("https", way_uv_variables, "uv"),
    ("http", way_keyring, "25.3"),
    ("https", way_keyring, "uv"),
    ("http", way_requirement_file, "26.3"),
]


@pytest.mark.parametrize(
    ("scheme", "way", "tool"),
    WAYS,
    ids=[f"{way.__name__[4:]} {tool} {scheme}" for scheme, way, tool in WAYS],
)
def test_an_index_with_basic_authentication_works_and_no_byte_that_is_written_holds_the_secret(
    tmp_path, scheme, way, tool
):
    with closed_origin(scheme) as origin:
        install_twice_and_search(tmp_path, origin, way, tool)


def install_twice_and_search(tmp_path, origin, way, tool):
    plain = way in (way_netrc, way_keyring)
    origin.protect(*((PLAIN_USER, PLAIN_PASSWORD) if plain else (USER, PASSWORD)))
    origin.latency = 0.02
    lab, names = (
        Lab(tmp_path, (origin,), {"ENTREPOT_LOG": str(tmp_path / "log.txt")}),
        origin.synth(3),
    )
    for _ in range(2):
        user = lab.fresh()
        command, environ = way(lab, origin, tool, names, user)
        command = [word.replace("TARGET", str(user / "target")) for word in command]
        words = lab.words(command, ("--report", str(user / "report.json")))
        status, said, found, looks = run_and_watch(
            lab, words, user, lab.environment(user) | environ
        )
        assert status == 0, said.decode()
        assert found == []
        assert looks > 2
        assert {path.name for path in (user / "target").glob("synth*.dist-info")} == {
            f"{each}.dist-info" for each in expected(3)
        }
        assert leaks(lab, SECRETS) == []
        entrepots = b"".join(line for line in said.splitlines() if line.startswith(b"entrepot"))
        assert [secret for secret in SECRETS if secret in entrepots] == []
    assert len(list(places(lab))) > 10, "it was searched where something is"
    assert (tmp_path / "log.txt").stat().st_size > 0
    assert origin.count(FILES, status=200) == 3


@pytest.mark.parametrize("tool", ["26.3", "uv"])
def test_the_command_in_the_report_shows_no_credentials(tmp_path, tool):
    with Origin() as origin:
        origin.protect(USER, PASSWORD)
        lab = Lab(tmp_path, (origin,))
        names = origin.synth(3)
        ran = lab.run(
            *install_command(tool, with_user(origin.index_url, USER, PASSWORD), names)
        ).ok()
    assert ran.report["command"][-1] == names[-1]
    assert origin.index_url in ran.report["command"]


def test_wrong_credentials_get_nothing_of_what_others_have_stored(tmp_path):
    with Origin() as origin:
        origin.index_max_age = 0
        origin.protect(USER, PASSWORD)
        lab, names = Lab(tmp_path, (origin,)), origin.synth(3)
        lab.run(*install_command("uv", with_user(origin.index_url, USER, PASSWORD), names)).ok()
        refused = lab.run(*install_command("uv", with_user(origin.index_url, USER, "wrong"), names))
        assert refused.status != 0
        lab.run(*install_command("uv", with_user(origin.index_url, USER, PASSWORD), names)).ok()


ASK = """
import base64, os, socket, sys
address, host, token = sys.argv[1:4]
name, _, port = address.rpartition(":")
def status(request):
    with socket.create_connection((name, int(port)), timeout=10) as sock:
        sock.sendall(request)
        return sock.recv(4096).split(b" ")[1].decode()
field = f"Proxy-Authorization: Basic {base64.b64encode(token.encode()).decode()}\\r\\n" if token else ""
print(status(f"GET http://{host}/simple/ HTTP/1.1\\r\\nHost: {host}\\r\\n{field}\\r\\n".encode()))
print(status(f"CONNECT {host} HTTP/1.1\\r\\nHost: {host}\\r\\n{field}\\r\\n".encode()))
"""


@contextlib.contextmanager
def waiting(lab, index_url):
    """A run whose child waits; gives the proxy's URL as the child sees it."""
    child = "import os, sys; print(os.environ['HTTPS_PROXY'], flush=True); sys.stdin.read()"
    user = lab.fresh()
    words = lab.words([sys.executable, "-c", child, "--index-url", index_url])
    with subprocess.Popen(
        words,
        env=lab.environment(user),
        cwd=user,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as run:
        try:
            yield run.stdout.readline().strip()
        finally:
            run.stdin.close()
            run.wait(20)


def asked(address, host, token, **settings):
    """What the port says to a plain request and to CONNECT."""
    return clients.run(
        ["/usr/bin/env", "python3", "-c", ASK, address, host, token],
        {"PATH": "/usr/bin:/bin"},
        **settings,
    ).stdout.split()


@pytest.mark.root
def test_another_user_of_the_machine_who_connects_to_the_port_gets_407(tmp_path, other_user):
    with Origin() as origin:
        lab = Lab(tmp_path, (origin,))
        with waiting(lab, origin.index_url) as proxy:
            token, _, address = proxy.partition("://")[2].rpartition("@")
            seen = len(origin.log)
            settings = {"user": other_user.uid, "group": other_user.gid, "extra_groups": []}
            assert asked(address, origin.address, "", **settings) == ["407", "407"]
            assert asked(address, origin.address, "entrepot:guessed", **settings) == ["407", "407"]
            assert len(origin.log) == seen, "nobody was asked on their behalf"
            assert asked(address, origin.address, token) == ["200", "200"], (
                "the child itself is let in"
            )
            for path in (lab.runtime, *lab.runtime.iterdir(), lab.store):
                look = clients.run(["ls", path], {"PATH": "/usr/bin:/bin"}, **settings)
                assert look.returncode != 0, f"{path} is open to others"


def test_without_the_token_the_port_says_407(tmp_path):
    with Origin() as origin:
        lab = Lab(tmp_path, (origin,))
        with waiting(lab, origin.index_url) as proxy:
            token, _, address = proxy.partition("://")[2].rpartition("@")
            assert asked(address, origin.address, "") == ["407", "407"]
            assert asked(address, origin.address, token.replace("entrepot", "someone")) == [
                "407",
                "407",
            ]


TOKEN = "tk-4f8a91c0d7e2-b65310"


def token_index(origin):
    """An index and files below ``/t/TOKEN/``, and links with signed queries."""
    file = origin.add_project("plain")[0]
    other = origin.add_project("signed")[0]
    origin.add(f"/t/{TOKEN}/files/{file.filename}", file.content)
    origin.add(f"/get/{other.filename}", other.content)
    own = f'<a href="/t/{TOKEN}/files/{file.filename}#sha256={file.content.sha256}">{file.filename}</a>'
    query = f"X-Amz-Signature={TOKEN}&amp;v=1"
    signed = f'<a href="/get/{other.filename}?{query}#sha256={other.content.sha256}">{other.filename}</a>'
    origin.add(
        f"/t/{TOKEN}/simple/plain/",
        f"<!DOCTYPE html><title>Links for plain</title>{own}".encode(),
        "page",
        "text/html",
    )
    origin.add(
        f"/t/{TOKEN}/simple/signed/",
        f"<!DOCTYPE html><title>Links for signed</title>{signed}".encode(),
        "page",
        "text/html",
    )
    return f"{origin.base}/t/{TOKEN}/simple/"


@pytest.mark.parametrize("tool", ["20.3.4", "26.3", "uv"])
def test_tokens_in_paths_and_signed_queries_are_written_nowhere_and_their_files_are_fetched_once(
    tmp_path, tool
):
    with Origin(profile=profiles.validators_only) as origin:
        url = token_index(origin)
        lab = Lab(tmp_path, (origin,), {"ENTREPOT_LOG": str(tmp_path / "log.txt")})
        for _ in range(2):
            ran = lab.run(*install_command(tool, url, ["plain", "signed"])).ok()
            assert (
                leaks(
                    lab, {TOKEN.encode(), quote(TOKEN).encode(), base64.b64encode(TOKEN.encode())}
                )
                == []
            )
            assert TOKEN not in ran.last_line
        assert [path.name for path in Path(lab.store, "bodies").rglob("*") if path.is_file()], (
            "something was stored"
        )
        assert {seen.method for seen in origin.seen(r"plain-1.0.*whl")} <= {"GET", "HEAD"}
        assert (
            origin.bytes_sent(r"/files/plain-.*whl$") <= 2 * origin.files("plain")[0].content.size
        )
        last = origin.seen(r"whl", method="GET")
        assert len(last) == len({seen.target for seen in last}) or tool == "uv"
