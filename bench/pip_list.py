"""How long `entrepot list` takes with a pip cache of 100,000 entries.

The first look, and the next ones from what was remembered.

    python bench/pip_list.py [ENTRIES] [DIRECTORY]

The cache has the layout `http-v2` with 10 entries a project: an index page, four wheels with their
metadata, an sdist. It is made once (a minute and 1.3 GB of disk blocks for 100,000) and kept when
DIRECTORY is named. Times are of whole processes, the least of three but for the first. The cache is
warm in memory: it has just been written.
"""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"
sys.path.insert(0, str(SOURCE))

from entrepot.tools.pip.httpentry import encode, entry_name  # noqa: E402

INDEX = "https://index.test/simple"
WHEELS = 4


def wheel(name: str, version: str) -> tuple[bytes, bytes]:
    """A wheel without code, and its metadata."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(
            f"{info}/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n".encode()
        )
    return buffer.getvalue(), metadata


def sdist(name: str, version: str) -> bytes:
    """A source archive with nothing but its metadata."""
    data = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo(f"{name}-{version}/PKG-INFO")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def responses(number: int) -> Iterator[tuple[str, str, bytes]]:
    """URL, content type and body of all that pip keeps of one project."""
    name = f"project{number:06d}"
    files = []
    plain = "application/octet-stream"
    for minor in range(WHEELS):
        data, metadata = wheel(name, f"1.{minor}")
        files.append((f"{name}-1.{minor}-py3-none-any.whl", data))
        yield f"{INDEX}/files/{name}-1.{minor}-py3-none-any.whl", plain, data
        yield f"{INDEX}/files/{name}-1.{minor}-py3-none-any.whl.metadata", plain, metadata
    files.append((f"{name}-1.0.tar.gz", sdist(name, "1.0")))
    yield f"{INDEX}/files/{name}-1.0.tar.gz", plain, files[-1][1]
    rows = [
        {
            "filename": f,
            "url": f"../files/{f}",
            "hashes": {"sha256": hashlib.sha256(d).hexdigest()},
            "size": len(d),
        }
        for f, d in files
    ]
    page = json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": rows}).encode()
    yield f"{INDEX}/{name}/", "application/vnd.pypi.simple.v1+json", gzip.compress(page, 1, mtime=0)


def write(root: Path, url: str, kind: str, body: bytes) -> None:
    """One entry as pip would write it."""
    headers = {
        "Date": formatdate(usegmt=True),
        "Content-Type": kind,
        "Content-Length": str(len(body)),
        "Cache-Control": "max-age=600",
    }
    if "json" in kind:
        headers["Content-Encoding"] = "gzip"
    response = {
        "body": b"",
        "headers": headers,
        "status": 200,
        "version": 11,
        "reason": "OK",
        "decode_content": False,
    }
    name = entry_name(url)
    folder = f"{root}/http-v2/{'/'.join(name[:5])}"
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103  # strings are quicker
    for path, data in (
        (f"{folder}/{name}.body", body),
        (f"{folder}/{name}", encode({"response": response, "vary": {}})),
    ):
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(data)


def make(root: Path, entries: int) -> None:
    """The whole cache."""
    for number in range(entries // (2 * WHEELS + 2)):
        for url, kind, body in responses(number):
            write(root, url, kind, body)


def timed(home: Path, root: Path, *argv: str) -> tuple[float, float, int]:
    """Seconds that a command takes by the clock and of all its processors, and the lines it printed."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(SOURCE),
        "PIP_CACHE_DIR": str(root),
    }
    environ |= {"PIP_INDEX_URL": INDEX, "PYTHONDONTWRITEBYTECODE": ""}
    begun, used = time.monotonic(), os.times()
    done = subprocess.run(
        [sys.executable, "-m", "entrepot", "--tool", "pip", *argv],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    taken, now = time.monotonic() - begun, os.times()
    if done.returncode:
        raise SystemExit(f"{argv}: {done.returncode}\n{done.stderr}")
    busy = now.children_user + now.children_system - used.children_user - used.children_system
    return taken, busy, len(done.stdout.splitlines())


def measure(home: Path, root: Path) -> None:
    """Print the figures."""
    taken, busy, lines = timed(home, root, "list")
    print(f"first list            {taken:7.2f} s {busy:7.2f} s of processor   {lines} lines")
    time.sleep(2.5)  # directories that were written in the last two seconds are looked at once more
    timed(home, root, "list")
    commands = {
        "list, all of it": ["list"],
        "list NAME": ["list", "project000007"],
        "list, last 90 days": ["list", "--older", "90d"],
        "list --json": ["list", "--json"],
        "clean --dry-run": ["clean", "--dry-run"],
        "status": ["status"],
    }
    for name, argv in commands.items():
        best = min(timed(home, root, *argv) for _ in range(3))
        print(f"next {name:<17}{best[0]:7.2f} s {best[1]:7.2f} s of processor   {best[2]} lines")


def main() -> None:
    """Make the cache, list it, print."""
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as home:
        root = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(home) / "cache"
        if not (root / "http-v2").is_dir():
            begun = time.monotonic()
            make(root, entries)
            print(f"{entries} entries made in {time.monotonic() - begun:.0f} s")
        measure(Path(home), root)


if __name__ == "__main__":
    main()
