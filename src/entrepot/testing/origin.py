"""A small origin of packages for tests.

A simple index with real wheels and sdists, on loopback, with faults on purpose.

An :class:`Origin` lives in threads of its own, on an ephemeral port of an address of 127.0.0.0/8,
and writes down every request. Several can run at once. It uses nothing of entrepot outside this
package: it shall not share a mistake with what it tests.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import re
import secrets
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs

from entrepot.testing import pages, profiles
from entrepot.testing.distributions import Content, Description, make_sdist, make_wheel
from entrepot.testing.exchange import Cut, Link, Request, Response, Sender, Wire
from entrepot.testing.faults import BEFORE, IN_BODY, ON_HEAD, ON_PAGE, Fault, Faults
from entrepot.testing.journal import Journal, Seen
from entrepot.testing.listener import Listener
from entrepot.testing.profiles import Profile, Resource
from entrepot.testing.realm import Realm
from entrepot.testing.tls import TestAuthority

SIZES = (1_000, 8_000, 30_000, 60_000, 120_000)
"""Bytes of data in the wheels of :meth:`Origin.synth`, in turn."""


@dataclass(slots=True)
class _Project:
    name: str
    files: list[pages.File] = field(default_factory=list)


class Origin(Journal):
    """An index, its files, and a few endpoints to see other traffic pass through.

    ``/echo``, ``/stream``, ``/upload``.

    Args:
        host: the address to listen on; any of 127.0.0.0/8 where the system has them (Linux).
        files_host: a second address, on a port of its own, that serves the files; ``None``: files
            come from the first.
        tls: serve https with a certificate of ``authority`` (made here when not given).
        name: the host name in URLs in place of the address and port: then links say
            ``https://NAME/...`` and :attr:`resolve` tells which address is meant.
        files_name: the same for the files.
        names: more names and addresses that the certificate shall hold.
        profile: which caching fields the answers carry; see :mod:`entrepot.testing.profiles`.

    Everything that can be set afterwards is a plain attribute, and takes effect with the next
    request:

    Attributes:
        latency: seconds before each answer.
        link: ``link.rate`` is the bytes a second that all bodies share; 0: no limit.
        index_max_age: seconds that pages stay fresh, where the profile says so.
        framing: ``length``, ``chunked`` or ``close``: how the end of a body is told.
        redirect_files: answer 302 to a signed URL that holds for ``signed_s`` seconds.
        instead: gives what is sent in place of an answer, as a portal in a network does.
        serves_json, serves_metadata, compresses, relative_links, keeps_alive, accepts_ranges:
            claims about the answers.

    >>> with Origin() as origin:
    ...     file = origin.add_project("example")[0]
    ...     file.filename
    'example-1.0-py3-none-any.whl'
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        files_host: str | None = None,
        tls: bool = False,
        authority: TestAuthority | None = None,
        name: str = "",
        files_name: str = "",
        names: Sequence[str] = (),
        profile: Profile = profiles.index_like,
    ) -> None:
        super().__init__()
        self.host, self.files_host, self.tls = host, files_host, tls or authority is not None
        self.name, self.files_name, self.names = name, files_name or name, tuple(names)
        self.authority = (authority or TestAuthority()) if self.tls else None
        self.profile = profile
        self.latency, self.link, self.index_max_age = 0.0, Link(), 600
        self.framing, self.redirect_files, self.signed_s = "length", False, 300.0
        self.serves_json = self.serves_metadata = self.compresses = self.keeps_alive = (
            self.accepts_ranges
        ) = True
        self.relative_links = False
        self.instead: Callable[[Request, Response], Response] = lambda _request, response: response
        self.faults = Faults()
        self.realms: list[Realm] = []
        self._projects: dict[str, _Project] = {}
        self._at: dict[str, tuple[Content, str, pages.File | None]] = {}
        self._extra: dict[str, tuple[Response, str]] = {}
        self._secret = secrets.token_hex(8)
        self._listeners: dict[str, Listener] = {}
        self._ports: dict[str, int] = {}
        self._lock = threading.Lock()
        self._trust: tempfile.TemporaryDirectory[str] | None = None
        self._context: ssl.SSLContext | None = None

    # Life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._trust is not None:
            self._trust.cleanup()
            self._trust = None

    def start(self) -> None:
        """Listen: the first time on a free port, later on the same one again."""
        if self._listeners:
            return
        if self.authority is not None and self._context is None:
            names = [
                self.host,
                self.files_host,
                "localhost",
                self.name,
                self.files_name,
                *self.names,
            ]
            self._context = self.authority.server_context(dict.fromkeys(filter(None, names)))
        for role, host in (("index", self.host), ("files", self.files_host)):
            if host is not None:
                listener = Listener(
                    host, self._ports.get(role, 0), functools.partial(self._serve, role)
                )
                self._ports[role] = listener.port
                self._listeners[role] = listener

    def stop(self) -> None:
        """Close the ports and every connection.

        From now on connections are refused, until :meth:`start`.
        """
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()

    # Addresses

    @property
    def port(self) -> int:
        """The port of the index."""
        return self._ports["index"]

    @property
    def address(self) -> str:
        """``HOST:PORT`` of the index, as it listens."""
        return f"{self.host}:{self.port}"

    @property
    def base(self) -> str:
        """What stands before every path of the index; no slash at the end."""
        return f"{self._scheme}://{self.name or self.address}"

    @property
    def files_base(self) -> str:
        """What stands before every path of a file; no slash at the end."""
        if self.files_name:
            return f"{self._scheme}://{self.files_name}"
        return (
            f"{self._scheme}://{self.files_host}:{self._ports['files']}"
            if self.files_host
            else self.base
        )

    @property
    def index_url(self) -> str:
        """What a client is told: the address of the simple index."""
        return f"{self.base}/simple/"

    @property
    def resolve(self) -> str:
        """``NAME:PORT=ADDRESS:PORT`` for each made-up name, with commas.

        As ``ENTREPOT_RESOLVE`` wants it.
        """
        default = 443 if self.tls else 80
        files = f"{self.files_host}:{self._ports['files']}" if self.files_host else self.address
        places = (
            {self.name: self.address, self.files_name: files}
            if self.files_name != self.name
            else {self.name: self.address}
        )
        return ",".join(f"{name}:{default}={address}" for name, address in places.items() if name)

    @property
    def ca_file(self) -> Path:
        """A PEM file with the authority that clients must trust.

        Raises:
            ValueError: this origin speaks plain http.
        """
        if self.authority is None:
            raise ValueError("no TLS here")
        if self._trust is None:
            self._trust = tempfile.TemporaryDirectory(prefix="entrepot-origin-")
        path = Path(self._trust.name, "ca.pem")
        path.write_text(self.authority.pem, encoding="ascii")
        return path

    @property
    def _scheme(self) -> str:
        return "https" if self.tls else "http"

    # What it has

    def add_project(
        self,
        name: str,
        version: str = "1.0",
        *,
        requires: Sequence[str] = (),
        size: int = 1000,
        wheel: bool = True,
        sdist: bool = False,
        build_requires: Sequence[str] = (),
        requires_python: str = ">=3.6",
        yanked: bool | str = False,
        script: str = "",
        tag: str = "py3-none-any",
        build: str = "",
    ) -> list[pages.File]:
        """Add one release: a wheel, an sdist or both; its files.

        Args:
            name: the project, as its files and metadata spell it.
            version: the release.
            requires: requirements of the installed project (PEP 508).
            size: bytes of incompressible data in the file; 50 MB and more are cheap.
            wheel: whether there is a wheel.
            sdist: whether there is an sdist; its build backend is inside and needs only
                ``build_requires``.
            build_requires: what the sdist needs to be built; each is imported by its backend.
            requires_python: empty for none.
            yanked: ``True`` or the reason (PEP 592).
            script: name of a command that prints name and version.
            tag: the wheel's compatibility tag.
            build: the wheel's build number.
        """
        what = Description(name, version, tuple(requires), requires_python)
        made: list[tuple[str, Content, bytes | None]] = []
        if wheel:
            made.append((*make_wheel(what, size, script, tag, build), what.metadata()))
        if sdist:
            made.append((*make_sdist(what, build_requires, 0 if wheel else size), None))
        return [
            self.add_file(name, pages.File(*_order(item, version), requires_python, yanked))
            for item in made
        ]

    def add_file(self, name: str, file: pages.File) -> pages.File:
        """Put a finished file on a project's page and at its path."""
        with self._lock:
            project = self._projects.setdefault(pages.normalized(name), _Project(name))
            project.files.append(file)
            self._at[file.path] = (file.content, "file", file)
            if file.metadata is not None:
                self._at[f"{file.path}.metadata"] = (Content([file.metadata]), "metadata", file)
        return file

    def add(
        self,
        path: str,
        content: bytes | Content,
        kind: str = "file",
        content_type: str = "application/octet-stream",
    ) -> str:
        """Serve these bytes at a path, with the fields that the profile gives this kind.

        Its URL.
        """
        body = Content([content]) if isinstance(content, bytes) else content
        self._extra[path] = (
            Response(HTTPStatus.OK, {"Content-Type": content_type}, body, ranges=kind != "page"),
            kind,
        )
        return self.base + path

    def add_redirect(self, path: str, location: str) -> str:
        """Answer 302 to an address that may be another origin's; its URL."""
        self._extra[path] = (Response(HTTPStatus.FOUND, {"Location": location}), "file")
        return self.base + path

    def add_link_page(self, path: str = "/links.html", names: Iterable[str] = ()) -> str:
        """A page of links to the files of these projects (all if none is named), for ``--find-links``; its URL."""
        chosen = [pages.normalized(name) for name in names] or list(self._projects)
        files = [file for name in chosen for file in self._projects[name].files]
        return self.add(
            path, pages.link_page(files, self.files_base), "page", "text/html; charset=utf-8"
        )

    def synth(self, count: int, *, sdist: bool = False) -> list[str]:
        """Add ``count`` projects in groups of three, each group's first needing the other two.

        The firsts' names.

        So ten requirements, ``synth(30)``, pull thirty packages.
        """
        for i in range(count):
            needs = [f"synth-{j:04d}>=1.0" for j in (i + 1, i + 2) if i % 3 == 0 and j < count]
            for version in ("1.0", "1.1"):
                self.add_project(
                    f"synth-{i:04d}",
                    version,
                    requires=needs,
                    size=SIZES[i % len(SIZES)],
                    sdist=sdist,
                )
        return [f"synth-{i:04d}" for i in range(0, count, 3)]

    def remove_project(self, name: str) -> None:
        """Take a project's page away; its files stay where they are."""
        with self._lock:
            self._projects.pop(pages.normalized(name), None)

    def files(self, name: str) -> list[pages.File]:
        """The files of one project."""
        return list(self._projects[pages.normalized(name)].files)

    def url(self, file: pages.File) -> str:
        """Where a file lies."""
        return self.files_base + file.path

    def protect(self, user: str, password: str, prefix: str = "/", realm: str = "origin") -> None:
        """Want these credentials for every path that begins so."""
        self.realms.append(Realm(prefix, user, password, realm))

    # What it does wrong, and what it saw

    def fault(
        self,
        match: str,
        kind: str,
        times: int = 1,
        *,
        at: float = 0.5,
        value: float = 0,
        skip: int = 0,
    ) -> Fault:
        """Make the next ``times`` requests whose path and query match go wrong (-1: all).

        See :class:`Fault`.
        """
        fault = Fault(re.compile(match), kind, times, at, value, skip)
        self.faults.add(fault)
        return fault

    def reset(self) -> None:
        """Forget the log and end the faults."""
        self.log.clear()
        self.faults.clear()

    # Answers

    def _serve(self, role: str, number: int, sock: socket.socket) -> None:
        """One connection, from its first byte to its last."""
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        with sock:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            wire = Wire(sock)
            while (request := wire.request()) is not None:
                seen = Seen(
                    request.method, request.target, request.headers, number, role, time.monotonic()
                )
                self.log.append(seen)
                try:
                    self._exchange(wire, request, seen)
                except Cut as cut:
                    if cut.hard:
                        wire.reset()
                    if cut.hard or cut.broken:
                        return
                    break
                close = (
                    request.headers.get("connection", "").lower() == "close"
                    or request.version == "HTTP/1.0"
                )
                if close or not self.keeps_alive:
                    break
            if isinstance(sock, ssl.SSLSocket):
                with suppress(
                    OSError, ValueError
                ):  # say goodbye: without it an end is a truncation (RFC 8446 §6.1)
                    sock.unwrap().close()

    def _exchange(self, wire: Wire, request: Request, seen: Seen) -> None:
        before = self.faults.take(request.target, BEFORE)
        fault = (
            None
            if before is not None and before.kind == "status"
            else self.faults.take(request.target, IN_BODY)
        )
        if self.latency:
            time.sleep(self.latency)
        if before is not None:
            self._go_wrong(wire, before)
        if fault is not None and fault.kind == "reset" and not fault.at:
            raise Cut(hard=True)
        if "upgrade" in request.headers and request.path == "/echo":
            self._upgrade(wire, request, seen)
        body = wire.body(request)
        response = (
            self._upload(request, body) if request.path == "/upload" else self._answer(request)
        )
        response = self.instead(request, response)
        for _ in body:
            pass
        if before is not None and before.kind == "status":
            status = int(before.value or 500)
            response = Response(
                status, {"Content-Type": "text/plain"}, Content([b"a fault on purpose\n"])
            )
        sender = Sender(wire, request, self.link, self.framing, fault)
        try:
            seen.status = response.status
            seen.status = sender.send(response)
        finally:
            seen.sent = sender.sent
        seen.ended = time.monotonic()

    def _go_wrong(self, wire: Wire, fault: Fault) -> None:
        """What can happen before a head."""
        if fault.kind == "delay":
            time.sleep(fault.value)
        elif fault.kind == "silence":
            wire.gone()
            raise Cut
        elif fault.kind == "garbage":
            wire.sock.sendall(b"\x00\x01 this is no HTTP \xff\r\n\r\n")
            raise Cut

    def _upgrade(self, wire: Wire, request: Request, seen: Seen) -> None:
        protocol = request.headers["upgrade"]
        seen.status = HTTPStatus.SWITCHING_PROTOCOLS
        wire.sock.sendall(
            f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n".encode()
        )
        wire.echo()
        raise Cut

    def _upload(self, request: Request, body: Iterator[bytes]) -> Response:
        hasher, size = hashlib.sha256(), 0
        for part in body:
            hasher.update(part)
            size += len(part)
        answer = {"method": request.method, "sha256": hasher.hexdigest(), "bytes": size}
        return Response(
            HTTPStatus.OK,
            {"Content-Type": "application/json"},
            Content([json.dumps(answer).encode()]),
        )

    def _answer(self, request: Request) -> Response:
        path = request.path
        realm = next((realm for realm in self.realms if path.startswith(realm.prefix)), None)
        if realm is not None and not realm.admits(request):
            return Response(
                HTTPStatus.UNAUTHORIZED,
                {"WWW-Authenticate": f'Basic realm="{realm.name}"', "Content-Type": "text/plain"},
            )
        if path.startswith("/signed/"):
            return self._signed(request)
        if path in self._extra:
            return (
                self._redirect(path)
                if self.redirect_files and self._extra[path][1] == "file"
                else self._added(request, path)
            )
        if path.startswith("/simple"):
            return self._page(request)
        if path == "/stream":
            return Response(
                HTTPStatus.OK, {"Content-Type": "text/plain"}, stream=_lines(request.target)
            )
        if path in self._at:
            return self._redirect(path) if self.redirect_files else self._file(request, path)
        return self._missing(request)

    def _page(self, request: Request) -> Response:
        path = request.path
        name = path.removeprefix("/simple").strip("/")
        if not path.endswith("/") or pages.normalized(name) != name:
            proper = f"/simple/{pages.normalized(name)}/" if name else "/simple/"
            return Response(HTTPStatus.MOVED_PERMANENTLY, {"Location": proper})
        kind = pages.negotiated(request.headers.get("accept", "*/*"), with_json=self.serves_json)
        project = self._projects.get(name)
        if not name:
            body = pages.project_list(list(self._projects), kind)
        elif project is None:
            return self._missing(request)
        else:
            wrong = self.faults.take(request.target, ON_PAGE) is not None
            body = pages.project_page(
                project.name, self._listed(project), self._link_base(), kind, wrong=wrong
            )
        content_type = f"{kind}; charset=utf-8" if kind == pages.HTML else kind
        return self._dress(
            request,
            Response(HTTPStatus.OK, {"Content-Type": content_type}, Content([body])),
            "page",
        )

    def _listed(self, project: _Project) -> list[pages.File]:
        if self.serves_metadata:
            return project.files
        fields = ("filename", "version", "content", "requires_python", "yanked", "age_days")
        return [
            pages.File(**{name: getattr(file, name) for name in fields}) for file in project.files
        ]

    def _link_base(self) -> str:
        return "" if self.relative_links else self.files_base

    def _added(self, request: Request, path: str) -> Response:
        made, kind = self._extra[path]
        ranges = made.ranges and self.accepts_ranges
        return self._dress(
            request, Response(made.status, dict(made.headers), made.content, ranges=ranges), kind
        )

    def _file(self, request: Request, path: str) -> Response:
        content, kind, file = self._at[path]
        if kind == "metadata" and not self.serves_metadata:
            return self._missing(request)
        response = Response(
            HTTPStatus.OK,
            {"Content-Type": "application/octet-stream"},
            content,
            ranges=self.accepts_ranges,
        )
        return self._dress(request, response, kind, file)

    def _redirect(self, path: str) -> Response:
        """A signed, temporary address, another one each time, as object stores give them."""
        expires = f"{time.time() + self.signed_s:.3f}"
        query = f"expires={expires}&nonce={secrets.token_hex(4)}&signature={self._signature(path, expires)}"
        return Response(
            HTTPStatus.FOUND,
            {"Location": f"{self.files_base}/signed{path}?{query}", "Cache-Control": "no-store"},
        )

    def _signed(self, request: Request) -> Response:
        path = request.path.removeprefix("/signed")
        query = parse_qs(request.target.partition("?")[2])
        expires = query.get("expires", ["0"])[0]
        right = query.get("signature", [""])[0] == self._signature(path, expires)
        if right and float(expires) >= time.time() and path in self._extra:
            return self._added(request, path)
        if right and float(expires) >= time.time() and path in self._at:
            return self._file(request, path)
        return Response(
            HTTPStatus.FORBIDDEN,
            {"Content-Type": "text/plain"},
            Content([b"this address no longer holds\n"]),
        )

    def _signature(self, path: str, expires: str) -> str:
        return hashlib.sha256(f"{self._secret} {path} {expires}".encode()).hexdigest()[:32]

    def _missing(self, request: Request) -> Response:
        body = Content([b"404: there is nothing here\n"])
        return self._dress(
            request, Response(HTTPStatus.NOT_FOUND, {"Content-Type": "text/plain"}, body), "missing"
        )

    def _dress(
        self, request: Request, response: Response, kind: str, file: pages.File | None = None
    ) -> Response:
        """Compress pages for those who can read it, and add the profile's fields."""
        if (
            kind == "page"
            and self.compresses
            and "gzip" in request.headers.get("accept-encoding", "")
        ):
            response.headers["Content-Encoding"] = "gzip"
            response.content = Content([_packed(response.content.whole())])
        fields = self.profile(Resource(kind, response.content, self.index_max_age, file))
        if self.faults.take(request.target, ON_HEAD) is not None:
            fields = {
                name: value
                for name, value in fields.items()
                if name not in ("ETag", "Last-Modified")
            }
        response.headers |= fields
        return response


def _order(
    made: tuple[str, Content, bytes | None], version: str
) -> tuple[str, str, Content, bytes | None]:
    return made[0], version, made[1], made[2]


@functools.lru_cache(64)
def _packed(body: bytes) -> bytes:
    return gzip.compress(body, compresslevel=1, mtime=0)


def _lines(target: str) -> Iterator[bytes]:
    """A line each ``interval`` seconds (0.1), ``lines`` of them (10).

    Shows whether streams pass through as they come.
    """
    query = parse_qs(target.partition("?")[2])
    interval = float(query.get("interval", ["0.1"])[0])
    for i in range(int(query.get("lines", ["10"])[0])):
        yield f"line {i}\n".encode()
        time.sleep(interval)
