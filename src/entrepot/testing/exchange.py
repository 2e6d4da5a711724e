"""HTTP/1.1 on a blocking socket, as much as a made-up origin needs, and breaking it off in all the ways that faults ask for."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus

from entrepot.testing.distributions import Content
from entrepot.testing.faults import Fault

MAX_HEAD = 1 << 17
PARTS = 1 << 18


class Cut(Exception):
    """No error: the connection ends here and now.

    ``broken``: in the middle of something; ``hard``: with a reset.
    """

    def __init__(self, *, broken: bool = False, hard: bool = False) -> None:
        super().__init__()
        self.broken = broken
        self.hard = hard


@dataclass(slots=True)
class Request:
    """A request as it came; field names in lower case, lines of one name joined by a comma."""

    method: str
    target: str
    version: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


@dataclass(slots=True)
class Response:
    """What to answer. ``content`` has a length.

    ``stream`` has none and is sent in chunks as it comes.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    content: Content = field(default_factory=lambda: Content(()))
    stream: Iterable[bytes] | None = None
    ranges: bool = False
    """Whether a part of it may be asked for."""


class Link:
    """Bytes a second that all connections share; 0: no limit."""

    def __init__(self, rate: float = 0) -> None:
        self.rate = rate
        self._free = 0.0
        self._lock = threading.Lock()

    def pass_through(self, size: int) -> None:
        """Wait until the link would have carried ``size`` bytes more."""
        if not self.rate:
            return
        with self._lock:
            now = time.monotonic()
            self._free = max(now, self._free) + size / self.rate
            wait = self._free - now
        if wait > 0.001:
            time.sleep(wait)


class Wire:
    """One connection: buffered reading, whole requests, bodies with or without a known length."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = bytearray()

    def request(self) -> Request | None:
        """The next request's head; ``None`` when the client is gone.

        Raises:
            ValueError: what came is no HTTP.
        """
        head = self._head()
        if head is None:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Request(method, target, version, headers)

    def body(self, request: Request) -> Iterator[bytes]:
        """The request's body in parts; must be read to its end before the next request."""
        if request.headers.get("expect", "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in request.headers.get("transfer-encoding", "").lower():
            while size := int(self._line().split(b";")[0], 16):
                yield self._exactly(size)
                self._line()
            while self._line():
                pass
            return
        left = int(request.headers.get("content-length", "0"))
        while left:
            part = self._exactly(min(left, PARTS))
            left -= len(part)
            yield part

    def echo(self) -> None:
        """Send back every byte until the client ends."""
        data = bytes(self._buffer)
        self._buffer.clear()
        while data or (data := self.sock.recv(65536)):
            self.sock.sendall(data)
            data = b""

    def gone(self) -> None:
        """Wait until the client, or the origin's end, closes the connection."""
        select.select([self.sock], [], [])

    def reset(self) -> None:
        """Make the closing of this socket a reset in place of an end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _head(self) -> bytes | None:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD:
                raise ValueError("no end of the head")
            if not self._more():
                return None
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return head

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if not self._more():
                raise Cut
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._more():
                raise Cut
        part = bytes(self._buffer[:size])
        del self._buffer[:size]
        return part

    def _more(self) -> bool:
        data = self.sock.recv(65536)
        self._buffer += data
        return bool(data)


@dataclass(slots=True)
class Sender:
    """Writes one response: the range that was asked for, the framing, the fault."""

    wire: Wire
    request: Request
    link: Link
    framing: str = "length"
    fault: Fault | None = None
    sent: int = 0
    """Bytes of the body that went out."""

    def send(self, response: Response) -> int:
        """Send it all; the status that went out.

        Raises:
            Cut: the connection must end now, for a fault or because the end is the body's.
        """
        if _not_modified(self.request, response):
            self._head(
                HTTPStatus.NOT_MODIFIED,
                {k: v for k, v in response.headers.items() if k not in _OF_CONTENT},
            )
            return HTTPStatus.NOT_MODIFIED
        if response.stream is not None:
            return self._stream(response)
        status, headers, start, stop = self._select(response)
        cut = start + int((stop - start) * self.fault.at) if self.fault else stop
        if self.fault and self.fault.kind == "short":
            stop = cut
        self._head(status, headers | self._framing(stop - start))
        if self.request.method != "HEAD" and stop >= start:
            self._body(response.content, start, stop, cut)
        return status

    def _select(self, response: Response) -> tuple[int, dict[str, str], int, int]:
        """The status, the fields and the half-open span to send."""
        size, headers = response.content.size, dict(response.headers)
        if not response.ranges:
            return response.status, headers, 0, size
        headers["Accept-Ranges"] = "bytes"
        span = _span(self.request, headers, size)
        if span is None:
            return response.status, headers, 0, size
        start, stop = span
        if start >= stop:
            return (
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                headers | {"Content-Range": f"bytes */{size}"},
                0,
                0,
            )
        return (
            HTTPStatus.PARTIAL_CONTENT,
            headers | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"},
            start,
            stop,
        )

    def _framing(self, size: int) -> dict[str, str]:
        if self.framing == "chunked" and self.request.version != "HTTP/1.0":
            return {"Transfer-Encoding": "chunked"}
        if self.framing == "close":
            return {"Connection": "close"}
        return {"Content-Length": str(size)}

    def _head(self, status: int, headers: dict[str, str]) -> None:
        phrase = _PHRASES.get(status, "")
        fields = {"Date": formatdate(usegmt=True), "Server": "origin"} | headers
        lines = [
            f"HTTP/1.1 {status} {phrase}",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        self.wire.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def _body(self, content: Content, start: int, stop: int, cut: int) -> None:
        kind = self.fault.kind if self.fault else ""
        slow = Link(self.fault.value or 10_000) if self.fault and kind == "slow" else None
        step = 16_384 if self.link.rate or slow else PARTS
        position = start
        for piece in content.read(
            start, stop, min(step, max(256, int(slow.rate / 10))) if slow else step
        ):
            part = piece
            if kind in ("truncate", "reset", "stall") and position + len(part) > cut:
                self._write(part[: max(cut - position, 0)])
                self._break_off(kind)
            if kind == "corrupt" and position <= cut < position + len(part):
                flipped = bytes([part[cut - position] ^ 0xFF])
                part = part[: cut - position] + flipped + part[cut - position + 1 :]
            (slow or self.link).pass_through(len(part))
            self._write(part)
            position += len(part)
        self._end()

    def _break_off(self, kind: str) -> None:
        if kind == "stall":
            self.wire.gone()
        raise Cut(broken=True, hard=kind == "reset")

    def _write(self, part: bytes) -> None:
        if not part:
            return
        if self._chunked:
            self.wire.sock.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        else:
            self.wire.sock.sendall(part)
        self.sent += len(part)

    def _end(self) -> None:
        if self._chunked:
            self.wire.sock.sendall(b"0\r\n\r\n")
        elif self.framing == "close":
            raise Cut

    @property
    def _chunked(self) -> bool:
        return self.framing == "chunked" and self.request.version != "HTTP/1.0"

    def _stream(self, response: Response) -> int:
        self.framing = "chunked"
        self._head(response.status, response.headers | self._framing(0))
        if self.request.method != "HEAD":
            for part in response.stream or ():
                self._write(part)
            self._end()
        return response.status


_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_OF_CONTENT = frozenset({"Content-Type", "Content-Encoding", "Content-Length"})


def _not_modified(request: Request, response: Response) -> bool:
    """RFC 9110 §13.2.2: If-None-Match first; If-Modified-Since only without it."""
    if response.status != HTTPStatus.OK or request.method not in ("GET", "HEAD"):
        return False
    asked = request.headers.get("if-none-match")
    if asked is not None:
        tags = {tag.strip().removeprefix("W/") for tag in asked.split(",")}
        return "*" in tags or response.headers.get("ETag", "").removeprefix("W/") in tags - {""}
    modified = response.headers.get("Last-Modified")
    return modified is not None and request.headers.get("if-modified-since") == modified


def _span(request: Request, headers: dict[str, str], size: int) -> tuple[int, int] | None:
    """The half-open span of a single range.

    Empty when it lies past the end; ``None``: send the whole (RFC 9110 §14.2).
    """
    unit, _, text = request.headers.get("range", "").partition("=")
    first, dash, last = text.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or "," in text or not (first + last).isdigit():
        return None
    condition = request.headers.get("if-range")
    if condition is not None and condition not in (
        headers.get("ETag"),
        headers.get("Last-Modified"),
    ):
        return None
    if first and last and int(last) < int(first):
        return None
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size
