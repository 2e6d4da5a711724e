"""A crowd of clients for one file: many connections in one process, each body compared as it comes. Also a script of its own.

    python tests/crowd.py PLAN.json RESULT.json

The plan: ``url``; ``body`` (a file with the bytes that are right); ``clients``; ``leave`` (how many go away half-way);
``page`` (asked for before, alone); ``direct`` (past the proxy). It goes through ``http_proxy``; the result has a row a client,
and the memory of the parent process, which is `entrepot run`.
"""

from __future__ import annotations

import base64
import json
import mmap
import os
import selectors
import socket
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Client:
    """One connection that downloads a file and compares it with what is right."""

    def __init__(self, url: str, proxy: str | None, right: memoryview, *, leaves: bool) -> None:
        self.right, self.leaves = right, leaves
        self.started = time.monotonic()
        self.first: float | None = None
        self.ended: float | None = None
        self.got = self.status = 0
        self.length: int | None = None
        self.wrong = self.complete = False
        self._head = b""
        there, where = urlsplit(url), urlsplit(proxy or url)
        self.sock = socket.create_connection((where.hostname, where.port))
        lines = [f"GET {url if proxy else there.path} HTTP/1.1", f"Host: {there.netloc}", "Connection: close"]
        if proxy:
            user = f"{unquote(where.username or '')}:{unquote(where.password or '')}"
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(user.encode()).decode()}")
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.sock.setblocking(False)

    def take(self, data: memoryview) -> bool:
        """Some bytes, or none: the end. Whether to go on."""
        if not data:
            self.complete = self.length is not None and self.got == self.length
            return False
        if self.length is None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return True
            lines = self._head[:end].decode("latin-1").split("\r\n")
            self.status = int(lines[0].split()[1])
            fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
            self.length = int(fields.get("content-length", -1))
            data = memoryview(self._head)[end + 4 :]
        if data:
            self.first = self.first or time.monotonic()
            if self.status == 200:
                self.wrong |= data != self.right[self.got : self.got + len(data)]
            self.got += len(data)
        self.complete = self.got == self.length
        return not self.complete and not (self.leaves and self.got > len(self.right) // 2)

    def row(self) -> dict:
        """What became of it; times in seconds from its start."""
        return {
            "status": self.status,
            "complete": self.complete,
            "right": self.complete and not self.wrong and self.got == len(self.right),
            "wrong": self.wrong,
            "left": self.leaves,
            "got": self.got,
            "first": self.first and self.first - self.started,
            "total": (self.ended or time.monotonic()) - self.started,
        }


def download(url: str, right: memoryview, clients: int, proxy: str | None, leave: int = 0) -> list[dict]:
    """Let so many clients download at once."""
    selector = selectors.DefaultSelector()
    all_of_them = [Client(url, proxy, right, leaves=i < leave) for i in range(clients)]
    for each in all_of_them:
        selector.register(each.sock, selectors.EVENT_READ, each)
    buffer = bytearray(1 << 18)
    view = memoryview(buffer)
    while selector.get_map():
        for key, _ in selector.select():
            client = key.data
            try:
                go_on = client.take(view[: client.sock.recv_into(buffer)])
            except OSError:
                go_on = False
            if not go_on:
                client.ended = time.monotonic()
                selector.unregister(client.sock)
                client.sock.close()
    return [each.row() for each in all_of_them]


def peak_kb(pid: int) -> int:
    """The most memory a process has had since :func:`forget_peak`, in kB."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0])


def forget_peak(pid: int) -> bool:
    """Count the peak of a process anew; whether that can be done (Linux, the same user)."""
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def main(plan_file: str, result_file: str) -> None:
    """Carry out a plan."""
    plan = json.loads(Path(plan_file).read_text())
    proxy = None if plan.get("direct") else os.environ["http_proxy"]
    with Path(plan["body"]).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        right = memoryview(mapped)
        if plan.get("page"):
            download(plan["page"], memoryview(b""), 1, proxy)
        parent = os.getppid()
        before = peak_kb(parent) if proxy and forget_peak(parent) else None
        started = time.time()
        rows = download(plan["url"], right, plan["clients"], proxy, plan.get("leave", 0))
        result = {"cpu": time.process_time(), "rows": rows, "started": started, "before_kb": before}
        if before is not None and os.getppid() == parent:
            result["peak_kb"] = peak_kb(parent)
        right.release()
    unnamed = Path(result_file + ".new")
    unnamed.write_text(json.dumps(result))
    unnamed.replace(result_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
