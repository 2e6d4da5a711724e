"""A cache large enough for a second process is read as by one."""

from __future__ import annotations

import os
import time

from entrepot.ports.tool import Surroundings
from entrepot.tools.pip import cache
from entrepot.tools.pip.httpentry import encode, entry_name, entry_path
from entrepot.tools.pip.tool import tool
from pip_lab import wheel_bytes


def test_two_processes_read_what_one_reads(tmp_path, monkeypatch):
    root = tmp_path / "cache"
    for number in range(30):
        filename, data = wheel_bytes(f"proj{number}", "1.0")
        path = entry_path(root, "http-v2", entry_name(f"https://index.test/{filename}"))
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = {"Date": "Mon, 01 Jun 2026 00:00:00 GMT", "ETag": '"x"'}
        response = {"body": b"", "headers": fields, "status": 200, "version": 11, "reason": "OK", "decode_content": False}
        path.write_bytes(encode({"response": response, "vary": {}}))
        path.with_name(path.name + ".body").write_bytes(data)
    world = Surroundings({"HOME": str(tmp_path), "PIP_CACHE_DIR": str(root), "PATH": ""}, tmp_path, tmp_path, "linux", os.geteuid())
    now = time.time()
    alone, both = tool(tmp_path / "a", now=lambda: now), tool(tmp_path / "b", now=lambda: now)
    place = alone.places(world)[0]
    first = list(alone.scan(place, world))
    monkeypatch.setattr(cache, "SHARDS", 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert list(both.scan(place, world)) == first
    assert {e.filename for e in first} == {f"proj{n}-1.0-py3-none-any.whl" for n in range(30)}
