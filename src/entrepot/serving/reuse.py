"""Reuse of what is here already, in place of asking upstream for it once more.

Files of other tools' caches: online only what a digest proves is taken; offline also pages, because
a stale page that a tool has seen beats none. What was found by its name alone is never taken
without a digest.

A wheel's ``.metadata`` sibling (PEP 658): made from the stored wheel when a digest shows it to be
the same. pip before 23.2 reads metadata out of whole wheels and leaves no sibling behind. Wheels
are remote input: what is read of them is bounded and nothing is unpacked to disk.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence

from entrepot.digests import Hasher
from entrepot.errors import Busy, StoreError
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead, StoredResponse
from entrepot.httpcache.policy import is_storable
from entrepot.names import classify, filename_of
from entrepot.ports.reuse import ReuseSource
from entrepot.ports.store import Blob
from entrepot.redaction import redacted_url
from entrepot.serving.integrity import fed
from entrepot.serving.known_files import NOTHING, Expectation
from entrepot.serving.lookup import Entries
from entrepot.serving.policy import draft_head
from entrepot.stored import Head, body_key


class Reuse:
    """What is taken over from other tools' caches, which ``find`` finds, once and in a thread.

    In a shared store nothing that needed credentials is taken.
    """

    def __init__(
        self, find: Callable[[], Sequence[ReuseSource]], entries: Entries, *, shared: bool
    ) -> None:
        self._find = find
        self._search: asyncio.Task[Sequence[ReuseSource]] | None = None
        self._entries = entries
        self._shared = shared
        self.wrong: dict[str, str] = {}
        """URL -> the tool whose copy of it turned out not to be what was expected."""

    async def take_over(
        self, request: RequestHead, expectation: Expectation, *, unproven: bool = False
    ) -> Head | None:
        """The stored head of what a cache had for this URL; ``None`` when none had what is wanted.

        When the expectation proves nothing, any body will do, and the caches are asked only if
        ``unproven`` is set.
        """
        if not (expectation.proves or unproven):
            return None
        for source in await asyncio.shield(self.sought()):
            found = source(request.url)
            if found is None or found.head.status != 200:
                continue
            if self._shared and found.credentialed:
                continue
            if found.needs_proof and not expectation.proves:
                continue
            hasher = expectation.hasher()

            def check(
                read: Callable[[int, int], bytes], size: int, hasher: Hasher = hasher
            ) -> str | None:
                right = fed(hasher, read, size).size == size
                right = right and expectation.mismatch(hasher) is None
                right = right and (bool(expectation.proven_by(hasher)) or not expectation.proves)
                # as check_length has it
                right = right and (expectation.checks or expectation.size in {None, size})
                return body_key(hasher.digest()) if right else None

            try:
                if await self._entries.adopt(found, check):
                    stored = StoredResponse(
                        found.head, found.vary, found.stored, found.stored, size=hasher.size
                    )
                    reserve = is_storable(request, found.head, shared=self._shared) is not None
                    draft = draft_head(
                        request, stored, expectation, shared=self._shared, reserve=reserve
                    )
                    head = dataclasses.replace(
                        draft,
                        body=hasher.digest(),
                        proven=expectation.proven_by(hasher),
                        credentialed=draft.credentialed or found.credentialed,
                    )
                    return await self._entries.keep(request.url, head, None)
            except (StoreError, Busy) as exc:
                self._entries.failed(exc)
                return None
            if hasher.size == found.size and expectation != NOTHING:
                self.wrong[request.url] = found.tool
        return None

    def sought(self) -> asyncio.Task[Sequence[ReuseSource]]:
        """The search for them, begun now if it was not before.

        It takes longer than many a download, so it is made once, however many ask at the same time,
        and is begun while the first page comes whose files may be asked for next.
        """
        if self._search is None:
            self._search = asyncio.create_task(asyncio.to_thread(self._find))
        return self._search


MAX_METADATA = 16 << 20
"""Bytes of a METADATA file; larger ones are left to upstream. The longest descriptions have under
one megabyte."""
MAX_DIRECTORY = 4 << 20
"""Bytes of a wheel's central directory, which is read whole; that is some 40,000 members."""
_END, _LOCATOR = 22, 20
"""Bytes of a zip file's end record, and of zip64's locator before it (APPNOTE 4.3.15, 4.3.16)."""
_TAIL = _END + 0xFFFF
"""Bytes from a zip file's end in which its end record begins (APPNOTE 4.3.16)."""


def wheel_of(url: str) -> str | None:
    """The URL of the wheel that a ``.metadata`` URL stands beside; ``None`` when it is no such URL.

    >>> wheel_of("https://files.test/a/x-1.0-py3-none-any.whl.metadata")
    'https://files.test/a/x-1.0-py3-none-any.whl'
    """
    return url.removesuffix(".metadata") if url.endswith(".whl.metadata") else None


def is_metadata(data: bytes) -> bool:
    """Whether these bytes begin as a METADATA file does: with its mandatory header fields.

    Source: the core metadata specification; the format is that of mail (RFC 822).
    """
    fields = _HEADER(data.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n"))
    names = {name.lower() for name in _FIELD(fields[0])} if fields is not None else set()
    return {b"metadata-version", b"name", b"version"} <= names


_HEADER = re.compile(rb"(?>[A-Za-z][A-Za-z0-9-]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z))+").match
_FIELD = re.compile(rb"^([A-Za-z][A-Za-z0-9-]*):", re.MULTILINE).findall


async def made_from_wheel(
    url: str, expectation: Expectation, entries: Entries, now: float, *, shared: bool
) -> Head | None:
    """The head of a ``.metadata`` URL, made from the stored wheel: now stored and proven.

    ``None`` when there is no such wheel, or what it holds has another digest; without a strong
    digest nothing is made. In a shared store nothing is made of a wheel that came for somebody's
    credentials.
    """
    wheel_url = wheel_of(url)
    if wheel_url is None or not expectation.proves:
        return None
    for wheel in await entries.load(wheel_url):
        if wheel.response.head.status != 200 or (shared and wheel.credentialed):
            continue
        data = await entries.read_body(wheel, read_metadata)
        hasher = expectation.hasher()
        hasher.feed(data or b"")
        if data and expectation.mismatch(hasher) is None:
            named = classify(filename_of(url))
            lines = Headers([("Content-Type", "application/octet-stream")])
            head = dataclasses.replace(
                wheel,
                url=redacted_url(url),
                response=StoredResponse(ResponseHead(200, lines, "OK"), (), now, now, len(data)),
                body=hasher.digest(),
                shared=shared,
                reserve=False,
                proven=expectation.proven_by(hasher),
                filename=named.filename if named else None,
                kind="metadata",
            )
            try:
                return await entries.keep(url, head, data)
            except (StoreError, Busy) as exc:
                entries.failed(exc)
                return None
    return None


def read_metadata(wheel: Blob) -> bytes | None:
    """The METADATA file of a wheel, byte for byte.

    ``None`` when there is not exactly one, or the wheel cannot be read.

    Source: the binary distribution format (PEP 427): one ``NAME-VERSION.dist-info`` directory at
    the top.
    """
    try:
        if not _is_modest(wheel):
            return None
        with zipfile.ZipFile(_Reader(wheel)) as archive:
            found = [i for i in archive.infolist() if _IS_METADATA_NAME(i.filename)]
            if len(found) != 1 or found[0].file_size > MAX_METADATA:
                return None
            with archive.open(found[0]) as member:
                data = member.read(MAX_METADATA + 1)
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        LookupError,
        NotImplementedError,
        RuntimeError,
    ):
        return None
    return data if len(data) <= MAX_METADATA else None


_IS_METADATA_NAME = re.compile(r"[^/]*\.dist-info/METADATA").fullmatch


def _is_modest(wheel: Blob) -> bool:
    """Whether the central directory is of a size that may be read whole.

    Archives in zip64's form are left alone.
    """
    tail = wheel.read(max(0, wheel.size - _TAIL), _TAIL)
    at = len(tail) - _END  # as zipfile looks for it
    if at < 0 or not (tail.startswith(b"PK\x05\x06", at) and tail.endswith(b"\0\0")):
        at = tail.rfind(b"PK\x05\x06")
    is_zip64 = at >= _LOCATOR and tail.startswith(b"PK\x06\x07", at - _LOCATOR)
    return (
        at >= 0
        and not is_zip64
        and int.from_bytes(tail[at + 12 : at + 16], "little") <= MAX_DIRECTORY
    )


class _Reader(io.RawIOBase):
    """A stored object as a file to read."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._blob.size}[whence]
        if start + offset < 0:
            raise OSError("before the start")
        self._at = start + offset
        return self._at

    # What RawIOBase really passes
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._blob.read(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
