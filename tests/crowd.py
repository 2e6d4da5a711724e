"""A crowd of clients for one file: many connections in one process, each body compared as it comes.

Also a script of its own.

    python tests/crowd.py PLAN.json RESULT.json

The plan: ``url``; ``body`` (a file with the bytes that are right); ``clients``; ``leave`` (how many
go away half-way); ``page`` (asked for before, alone); ``ready`` (a file to make then) and ``gate``
(a file to wait for before the crowd sets out); ``flowing`` (a file to make when every client has
its first byte); ``direct`` (past the proxy). It goes through ``http_proxy``; the result has a row a
client, the crowd's own processor time, and that and the memory of the parent process, which is
`entrepot run`.
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
        self._head = bytearray()
        there, where = urlsplit(url), urlsplit(proxy or url)
        self.sock = socket.create_connection((where.hostname, where.port))
        lines = [
            f"GET {url if proxy else there.path} HTTP/1.1",
            f"Host: {there.netloc}",
            "Connection: close",
        ]
        if proxy:
            user = f"{unquote(where.username or '')}:{unquote(where.password or '')}"
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(user.encode()).decode()}")
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.sock.setblocking(False)

    def take(self, data: bytearray, count: int) -> bool:
        """Some bytes, or none: the end. Whether to go on."""
        if not count:
            self.complete = self.length is not None and self.got == self.length
            return False
        if self.length is None:
            self._head += data[:count]
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return True
            lines = self._head[:end].decode("latin-1").split("\r\n")
            self.status = int(lines[0].split()[1])
            fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
            self.length = int(fields.get("content-length", -1))
            data = self._head[end + 4 :]
            count = len(data)
        if count:
            self.first = self.first or time.monotonic()
            if self.status == 200:
                # a hundred times as fast as comparing views: fifty clients must not be what takes
                # the time
                self.wrong |= not data.startswith(self.right[self.got : self.got + count])
            self.got += count
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


def download(
    url: str,
    right: memoryview,
    clients: int,
    proxy: str | None,
    leave: int = 0,
    flowing: str | None = None,
) -> list[dict]:
    """Let so many clients download at once."""
    selector = selectors.DefaultSelector()
    all_of_them = [Client(url, proxy, right, leaves=i < leave) for i in range(clients)]
    for each in all_of_them:
        selector.register(each.sock, selectors.EVENT_READ, each)
    buffer = bytearray(1 << 18)
    while selector.get_map():
        for key, _ in selector.select():
            client = key.data
            try:
                go_on = client.take(buffer, client.sock.recv_into(buffer))
            except OSError:
                go_on = False
            if not go_on:
                client.ended = time.monotonic()
                selector.unregister(client.sock)
                client.sock.close()
        if flowing and all(each.first for each in all_of_them):
            Path(flowing).touch()
            flowing = None
    return [each.row() for each in all_of_them]


def peak_kb(pid: int) -> int | None:
    """The most memory a process has had since :func:`forget_peak`, in kB.

    ``None`` of one that has been killed.

    Its sockets are closed, so that its clients notice, before it is gone from the table of
    processes; then it has no memory.
    """
    try:
        told = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = told.partition("VmHWM:")[2].split()
    return int(found[0]) if found else None


def seconds_used(pid: int) -> float:
    """Processor seconds of a process and its threads; 0 of one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    with (
        Path(plan["body"]).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        right = memoryview(mapped)
        if plan.get("page"):
            download(plan["page"], memoryview(b""), 1, proxy)
        if plan.get("gate"):
            Path(plan["ready"]).touch()
            while not Path(plan["gate"]).exists():
                time.sleep(0.005)
        parent = os.getppid()
        before = peak_kb(parent) if proxy and forget_peak(parent) else None
        began, used = time.process_time(), seconds_used(parent)
        rows = download(
            plan["url"], right, plan["clients"], proxy, plan.get("leave", 0), plan.get("flowing")
        )
        cpu, run_cpu = time.process_time() - began, seconds_used(parent) - used
        peak = peak_kb(parent) if before is not None else None
        result = {"rows": rows, "cpu": cpu, "run_cpu": run_cpu, "peak_kb": peak and peak - before}
        right.release()
    unnamed = Path(result_file + ".new")
    unnamed.write_text(json.dumps(result))
    unnamed.replace(result_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
