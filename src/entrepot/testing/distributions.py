"""Wheels and sdists made up on the spot.

Installable, the same bytes for the same arguments, big ones cheap in memory.

Nothing here is read back by entrepot itself; real clients install what is made here.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import struct
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

BLOCK = 1 << 20
"""Bytes in one of the blocks that all big files are made of."""
BLOCKS = 8
MADE = 1_735_689_600
"""The date of every file: 2025-01-01, in seconds since the epoch."""


class Content:
    """Bytes as pieces that may be shared between files, so that ten files of 50 MB take no 500 MB."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = tuple(pieces)
        self._starts = (0, *accumulate(map(len, self.pieces)))
        self.size = self._starts[-1]

    @functools.cached_property
    def sha256(self) -> str:
        """Hexadecimal."""
        return self._digest("sha256")

    @functools.cached_property
    def md5(self) -> str:
        """Hexadecimal; serves as entity tag."""
        return self._digest("md5")

    @functools.cached_property
    def blake2b(self) -> str:
        """Hexadecimal, of 32 bytes: what the default index puts into a file's path."""
        hasher = hashlib.blake2b(digest_size=32)
        for piece in self.pieces:
            hasher.update(piece)
        return hasher.hexdigest()

    def read(self, start: int = 0, stop: int | None = None, step: int = 1 << 18) -> Iterator[bytes]:
        """The bytes of ``[start, stop)`` in parts of at most ``step``."""
        stop = self.size if stop is None else stop
        for begin, piece in zip(self._starts, self.pieces, strict=False):
            low, high = max(start - begin, 0), min(stop - begin, len(piece))
            for offset in range(low, high, step):
                yield piece[offset : min(offset + step, high)]

    def whole(self) -> bytes:
        """All of it as one object."""
        return b"".join(self.pieces)

    def _digest(self, algorithm: str) -> str:
        hasher = hashlib.new(algorithm, usedforsecurity=False)
        for piece in self.pieces:
            hasher.update(piece)
        return hasher.hexdigest()


@functools.cache
def _block(number: int) -> bytes:
    return hashlib.shake_256(b"block %d" % number).digest(BLOCK)


def payload(seed: str, size: int) -> Content:
    """Incompressible bytes that depend on ``seed``; from 1 MiB on made of shared blocks."""
    if size < BLOCK:
        return Content([hashlib.shake_256(seed.encode()).digest(size)])
    first = zlib.crc32(seed.encode()) % BLOCKS
    head = hashlib.shake_256(seed.encode()).digest(64)
    full, rest = divmod(size - len(head), BLOCK)
    blocks = [_block((first + i) % BLOCKS) for i in range(full)]
    return Content([head, *blocks, _block(first)[:rest]])


@dataclass(frozen=True, slots=True)
class Description:
    """What is said of one release: the fields of its core metadata that installers look at."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    requires_python: str = ">=3.6"

    @property
    def stem(self) -> str:
        """The first part of a file name, and the name of the module."""
        return self.name.replace("-", "_").replace(".", "_").lower()

    def metadata(self) -> bytes:
        """The METADATA file (core metadata 2.1)."""
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {self.name}",
            f"Version: {self.version}",
            "Summary: made for a test",
        ]
        lines += [f"Requires-Python: {self.requires_python}"] if self.requires_python else []
        lines += [f"Requires-Dist: {requirement}" for requirement in self.requires]
        return ("\n".join(lines) + "\n\nMade for a test.\n").encode()


def make_wheel(
    what: Description, size: int, script: str = "", tag: str = "py3-none-any", build: str = ""
) -> tuple[str, Content]:
    """A wheel of one module and ``size`` bytes of data.

    ``script`` is a command that prints name and version.
    """
    module, info = what.stem, f"{what.stem}-{what.version}.dist-info"
    members = {
        f"{module}/__init__.py": Content([_module(what)]),
        f"{module}/data.bin": payload(f"{what.name} {what.version}", size),
        f"{info}/METADATA": Content([what.metadata()]),
        f"{info}/WHEEL": Content(
            [f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()]
        ),
    }
    if script:
        members[f"{info}/entry_points.txt"] = Content(
            [f"[console_scripts]\n{script} = {module}:main\n".encode()]
        )
    record = (
        "".join(_record_line(path, content) for path, content in members.items())
        + f"{info}/RECORD,,\n"
    )
    members[f"{info}/RECORD"] = Content([record.encode()])
    number = f"-{build}" if build else ""
    return f"{module}-{what.version}{number}-{tag}.whl", zip_stored(members)


def _module(what: Description) -> bytes:
    return f'__version__ = "{what.version}"\n\n\ndef main():\n    print("{what.name}", __version__)\n'.encode()


def _record_line(path: str, content: Content) -> str:
    digest = base64.urlsafe_b64encode(bytes.fromhex(content.sha256)).rstrip(b"=").decode()
    return f"{path},sha256={digest},{content.size}\n"


_DATE = (2025 - 1980) << 9 | 1 << 5 | 1
"""2025-01-01 as a zip file has dates."""


def zip_stored(members: dict[str, Content]) -> Content:
    """A zip archive without compression whose pieces are the members' own.

    Written by hand because ``zipfile`` copies what it writes, and because each local header must
    hold the sizes: clients that unpack while they download cannot read stored members otherwise.
    """
    pieces: list[bytes] = []
    central: list[bytes] = []
    offset = 0
    for path, content in members.items():
        name = path.encode()
        crc = functools.reduce(lambda value, piece: zlib.crc32(piece, value), content.pieces, 0)
        common = struct.pack(
            "<HHHHHIIIHH", 20, 0, 0, 0, _DATE, crc, content.size, content.size, len(name), 0
        )
        local = b"PK\x03\x04" + common + name
        central.append(b"PK\x01\x02" + struct.pack("<H", 3 << 8 | 20) + common)
        central.append(struct.pack("<HHHII", 0, 0, 0, 0o100644 << 16, offset) + name)
        pieces += [local, *content.pieces]
        offset += len(local) + content.size
    directory = b"".join(central)
    count = len(members)
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), offset, 0)
    tail = directory + end
    whole = Content([*pieces, tail])
    return whole if whole.size >= BLOCK else Content([whole.whole()])


_BACKEND = '''"""A build backend that needs nothing but Python."""
import base64, hashlib, os, zipfile
{imports}

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    stem, version = open("STEM").read().split()
    info = "%s-%s.dist-info" % (stem, version)
    wheel = b"Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    files = {{stem + "/__init__.py": open("module.py", "rb").read(), info + "/WHEEL": wheel}}
    files[info + "/METADATA"] = open("PKG-INFO", "rb").read()
    record = ""
    name = "%s-%s-py3-none-any.whl" % (stem, version)
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += "%s,sha256=%s,%d\\n" % (path, digest, len(data))
        archive.writestr(info + "/RECORD", record + info + "/RECORD,,\\n")
    return name


def build_sdist(sdist_directory, config_settings=None):
    raise NotImplementedError
'''


def make_sdist(
    what: Description, build_requires: Sequence[str] = (), size: int = 0
) -> tuple[str, Content]:
    """An sdist that carries its own build backend.

    What it needs to be built is imported by it, so it must really be there.
    """
    root = f"{what.stem}-{what.version}"
    needed = [
        requirement.split("=")[0].strip("<>!~ ").replace("-", "_") for requirement in build_requires
    ]
    backend = _BACKEND.format(imports="".join(f"import {module}\n" for module in needed))
    listed = ", ".join(f'"{requirement}"' for requirement in build_requires)
    system = (
        f'[build-system]\nrequires = [{listed}]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    files = {
        "PKG-INFO": what.metadata(),
        "STEM": f"{what.stem} {what.version}".encode(),
        "pyproject.toml": system.encode(),
        "backend.py": backend.encode(),
        "module.py": _module(what),
        "data.bin": payload(f"sdist {what.name} {what.version}", size).whole(),
    }
    raw = make_tar({f"{root}/{path}": data for path, data in files.items()})
    return f"{root}.tar.gz", Content([gzip.compress(raw, compresslevel=1, mtime=MADE)])


def make_tar(files: dict[str, bytes]) -> bytes:
    """An uncompressed tar archive of plain files."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mtime, member.mode = len(data), MADE, 0o644
            archive.addfile(member, io.BytesIO(data))
    return raw.getvalue()
