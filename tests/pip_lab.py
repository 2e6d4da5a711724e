"""Real pips of several versions, a tiny https index, and distributions of every shape.

What the tests of pip's room stand on.

The pips are those of :mod:`clients`, each in a virtual environment of its own; where one cannot be
had the tests are skipped with the reason.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import ssl
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from clients import PIPS, pip_python

VERSIONS = tuple(PIPS)

__all__ = ["pip_python"]


# distributions


def wheel_bytes(
    name: str, version: str, tags: str = "py3-none-any", *, build: str = "", size: int = 300
) -> tuple[str, bytes]:
    """A real wheel with RECORD; its file name is what a real builder would give."""
    python, abi, platforms = tags.split("-")
    listed = [
        f"{p}-{a}-{q}"
        for p in python.split(".")
        for a in abi.split(".")
        for q in platforms.split(".")
    ]
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"VERSION = {version!r}\n".encode() + b"#" * size,
        f"{info}/METADATA": metadata(name, version),
        f"{info}/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: lab\nRoot-Is-Purelib: true\n"
            + (f"Build: {build}\n" if build else "")
            + "".join(f"Tag: {tag}\n" for tag in listed)
        ).encode(),
    }
    record = (
        "".join(
            f"{path},sha256={_record_digest(data)},{len(data)}\n" for path, data in files.items()
        )
        + f"{info}/RECORD,,\n"
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in {**files, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(
                zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED
            )
    return f"{name}-{version}-{build + '-' if build else ''}{tags}.whl", buffer.getvalue()


def _record_digest(data: bytes) -> str:
    import base64

    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def metadata(name: str, version: str) -> bytes:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: of the lab\n\ntext\n".encode()


BACKEND = """
import base64, hashlib, zipfile
NAME, VERSION = {name!r}, {version!r}
def _files():
    info = NAME + "-" + VERSION + ".dist-info"
    return info, {{
        NAME + "/__init__.py": b"",
        info + "/METADATA": ("Metadata-Version: 2.1\\nName: " + NAME + "\\nVersion: " + VERSION + "\\n").encode(),
        info + "/WHEEL": b"Wheel-Version: 1.0\\nGenerator: lab\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
def build_wheel(directory, config_settings=None, metadata_directory=None):
    info, files = _files()
    name = NAME + "-" + VERSION + "-py3-none-any.whl"
    with zipfile.ZipFile(directory + "/" + name, "w") as z:
        record = ""
        for path, data in files.items():
            z.writestr(path, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += path + ",sha256=" + digest + "," + str(len(data)) + "\\n"
        z.writestr(info + "/RECORD", record + info + "/RECORD,,\\n")
    return name
"""
PYPROJECT = b'[build-system]\nrequires = []\nbuild-backend = "lab_backend"\nbackend-path = ["."]\n'


def source_files(name: str, version: str) -> dict[str, bytes]:
    return {
        "PKG-INFO": metadata(name, version),
        "pyproject.toml": PYPROJECT,
        "lab_backend.py": BACKEND.format(name=name, version=version).encode(),
    }


def sdist_bytes(name: str, version: str, suffix: str = ".tar.gz") -> tuple[str, bytes]:
    root = f"{name}-{version}"
    buffer = io.BytesIO()
    files = {f"{root}/{path}": data for path, data in source_files(name, version).items()}
    if suffix == ".zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in files.items():
                archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), data)
    else:
        with tarfile.open(
            fileobj=buffer,
            mode="w:" + {".tar.gz": "gz", ".tar.bz2": "bz2", ".tar.xz": "xz"}[suffix],
        ) as archive:
            for path, data in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return root + suffix, buffer.getvalue()


# the index


@dataclass
class Index:
    """What the origin serves.

    Files by project, at ``/files/`` (absolute links) or beside the page (relative ones).
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    relative: bool = False
    cache_control: str = "max-age=600, public"
    metadata: bool = True
    gzip_pages: bool = True
    hashes: bool = True
    date: float | None = None
    log: list[str] = field(default_factory=list)
    extra_headers: dict[str, str] = field(default_factory=dict)
    base: str = ""

    def add(self, filename: str, data: bytes) -> str:
        project = re.sub(r"[-_.]+", "-", filename.split("-", maxsplit=1)[0]).lower()
        self.files.setdefault(project, {})[filename] = data
        return filename

    def answer(self, path: str, accept: str) -> tuple[int, dict[str, str], bytes]:
        path = path.partition("?")[0]
        if path.startswith("/moved/"):
            return 301, {"Location": f"{self.base}/simple/{path[7:]}"}, b""
        if path.startswith("/simple/"):
            project = path[len("/simple/") :].strip("/")
            if project in self.files:
                return self._page(project, accept)
        name = unquote(path.rpartition("/")[2])
        for files in self.files.values():
            for filename, data in files.items():
                if name == filename:
                    return 200, {"Content-Type": "application/octet-stream"}, data
                if name == f"{filename}.metadata" and filename.endswith(".whl"):
                    return (
                        200,
                        {"Content-Type": "application/octet-stream"},
                        self._metadata_of(data),
                    )
        return 404, {"Content-Type": "text/plain"}, b"no"

    @staticmethod
    def _metadata_of(data: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.read(
                next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
            )

    def _url(self, project: str, filename: str) -> str:
        name = filename.replace("+", "%2B")
        return (
            f"../../files/{project}/{name}"
            if self.relative
            else f"{self.base}/files/{project}/{name}"
        )

    def _page(self, project: str, accept: str) -> tuple[int, dict[str, str], bytes]:
        rows = []
        for filename, data in self.files[project].items():
            digest = hashlib.sha256(data).hexdigest()
            own = (
                hashlib.sha256(self._metadata_of(data)).hexdigest()
                if filename.endswith(".whl") and self.metadata
                else ""
            )
            rows.append((filename, self._url(project, filename), digest, own, len(data)))
        if "json" in accept:
            kind = "application/vnd.pypi.simple.v1+json"
            files = [
                {"filename": f, "url": u, "hashes": {"sha256": d} if self.hashes else {}, "size": s}
                | ({"core-metadata": {"sha256": o}} if o else {})
                for f, u, d, o, s in rows
            ]
            body = json.dumps(
                {"meta": {"api-version": "1.1"}, "name": project, "files": files}
            ).encode()
        else:
            kind = "text/html"
            lines = [
                f'<a href="{u}{"#sha256=" + d if self.hashes else ""}"'
                + (
                    f' data-core-metadata="sha256={o}" data-dist-info-metadata="sha256={o}"'
                    if o
                    else ""
                )
                + f">{f}</a><br>"
                for f, u, d, o, s in rows
            ]
            body = f"<!DOCTYPE html><html><head><title>Links for {project}</title></head><body>{''.join(lines)}</body></html>".encode()
        headers = {"Content-Type": kind, "Vary": "Accept, Accept-Encoding"}
        if self.gzip_pages:
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, mtime=0)
        return 200, headers, body


class Origin:
    """The index behind https on a loopback port."""

    def __init__(self, index: Index, folder: Path) -> None:
        import trustme

        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                index.log.append(self.path)
                status, headers, body = index.answer(self.path, self.headers.get("Accept", ""))
                tag = '"' + hashlib.sha256(body).hexdigest()[:16] + '"'
                if status == 200 and self.headers.get("If-None-Match") == tag:
                    status, body = 304, b""
                self.send_response_only(status)
                self.send_header("Date", formatdate(index.date, usegmt=True))
                if status in (200, 304):
                    self.send_header("ETag", tag)
                    if index.cache_control:
                        self.send_header("Cache-Control", index.cache_control)
                for name, value in {**headers, **index.extra_headers}.items():
                    self.send_header(name, value)
                if status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        index.base = self.base = f"https://localhost:{self.server.server_port}"
        self.index = index
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


def clean_environ(home: Path, **more: str) -> dict[str, str]:
    """An environment in which no setting of this machine is seen."""
    keep = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "TMPDIR")}
    return {
        **keep,
        "HOME": str(home),
        "XDG_CONFIG_DIRS": str(home / "xdg"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        **more,
    }


def run_pip(
    version: str, *words: str, environ: dict[str, str], cwd: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run one real pip to its end."""
    done = subprocess.run(
        [str(pip_python(version)), "-m", "pip", *words],
        env=environ,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if check and done.returncode:
        raise AssertionError(
            f"pip {version} {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done


FORKS = r"""
import importlib, json, os, sys, traceback

def call(case, extra=""):
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with os.fdopen(reading) as said:
            text = said.read()
        return {"said": text, "status": os.waitpid(child, 0)[1] >> 8}
    status = 1
    try:
        os.environ.clear()
        os.environ.update(case["environ"])
        os.chdir(case["cwd"])
        for number in (1, 2):
            os.dup2(writing, number)
        sys.argv = ["pip", *case["words"]]
        from pip._internal.cli.main import main
        status = main(case["words"])
        if extra:
            print("\n".join(name for name in sys.modules if "_internal" not in name))
    except SystemExit as exc:
        status = exc.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)

first = json.loads(sys.stdin.readline())
for name in call(first, extra="modules")["said"].split():
    try:
        importlib.import_module(name)
    except Exception:
        pass
for line in sys.stdin:
    answer = call(json.loads(line))
    print(json.dumps(answer), file=sys.stdout, flush=True)
"""
"""Real pip commands, each in a fork of one interpreter that has loaded everything but pip's own
modules, which look at the environment when they are imported."""


class ForkedPip:
    """Many commands of one real pip, for a fifth of what starting an interpreter for each costs.

    A context manager.
    """

    def __init__(
        self, version: str, folder: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        script = (
            folder / "forks" / "pip"
        )  # its command line is a pip's: that is how a pip at work is seen
        script.parent.mkdir(exist_ok=True)
        # Several are started at once: none may read what another is just writing.
        new = script.with_name(f"{threading.get_ident()}.new")
        new.write_text(FORKS)
        new.replace(script)
        self._process = subprocess.Popen(
            [str(pip_python(version)), str(script), "install"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environ(folder) if environ is None else dict(environ),
        )
        self._send(["cache", "dir"], clean_environ(folder), folder)

    def __enter__(self) -> ForkedPip:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def _send(self, words: Sequence[str], environ: Mapping[str, str], cwd: Path) -> None:
        self._process.stdin.write(
            json.dumps({"words": [*words], "environ": dict(environ), "cwd": str(cwd)}) + "\n"
        )
        self._process.stdin.flush()

    def run(self, *words: str, environ: Mapping[str, str], cwd: Path) -> tuple[int, str]:
        """Its exit status, and what it printed on both streams."""
        self._send(words, environ, cwd)
        answer = json.loads(self._process.stdout.readline())
        return answer["status"], answer["said"]
