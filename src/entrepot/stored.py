"""What the store keeps of a response beside its body, or beside the part of one, and its keys.

A head is one small JSON object under ``heads/ab/cdef.../VARIANT``; its body is
``bodies/sha256/ab/cdef...``. Heads are self-contained: the catalogue can be made again from them
alone. This module turns heads into bytes and back and makes their keys; it reads and writes
nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import Any

from entrepot.digests import Digest
from entrepot.errors import FormatError, InvalidHead
from entrepot.httpcache.messages import Headers, ResponseHead, StoredResponse
from entrepot.urls import canonical_url

FORMAT = 1
"""Version of a head's JSON; a head of a later version is left alone."""
HEADS, BODIES = "heads", "bodies"
"""What the keys of each begin with."""


@dataclass(frozen=True, slots=True)
class Head:
    """A stored response: the core's view, the body's digest, and which distribution it is."""

    url: str
    """The canonical upstream URL, redacted: never with user, password, token or signature in it."""
    method: str
    response: StoredResponse
    body: Digest | None
    """sha256 of the stored body; ``None`` when the response has no body worth keeping (a 404, a
    redirect)."""
    shared: bool = False
    """Stored by a shared cache (RFC 9111 §1)."""
    credentialed: bool = False
    """The request carried credentials; never given to others unless upstream accepts theirs."""
    reserve: bool = False
    """Kept for failure and offline alone, because HTTP would not let it be stored for reuse."""
    proven: tuple[Digest, ...] = ()
    """Digests that were known beforehand and that the body was checked against; empty: *unproven*.
    """
    project: str | None = None
    """Normalized name (PEP 503), or a conda package's name."""
    version: str | None = None
    filename: str | None = None
    kind: str = "other"
    """A value of ``ports.tool.Kind``."""
    upload_time: str | None = None

    @property
    def is_immutable(self) -> bool:
        """Content fixed by a digest that was known before it came: fresh for ever."""
        return bool(self.proven) and self.body is not None and self.response.head.status == 200

    def to_bytes(self) -> bytes:
        """The JSON form, one object with short keys, ended by a newline."""
        r = self.response
        data: dict[str, Any] = {
            "format": FORMAT,
            "url": self.url,
            "method": self.method,
            "status": r.head.status,
            "reason": r.head.reason,
            "headers": [list(line) for line in r.head.headers],
            "vary": [list(pair) for pair in r.vary],
            "request_time": r.request_time,
            "response_time": r.response_time,
            "size": r.size,
            "body": str(self.body) if self.body else None,
            "proven": [str(d) for d in self.proven],
            "project": self.project,
            "version": self.version,
            "filename": self.filename,
            "kind": self.kind,
            "upload_time": self.upload_time,
        }
        for flag, value in (
            ("invalidated", r.invalidated),
            ("shared", self.shared),
            ("credentialed", self.credentialed),
            ("reserve", self.reserve),
        ):
            if value:
                data[flag] = True
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass") + b"\n"

    @classmethod
    def from_bytes(cls, raw: bytes, *, key: str = "") -> Head:
        """Read a head back.

        Raises:
            InvalidHead: not a head, or of a format this version does not know.
        """
        wrong = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
        try:
            return cls._from_json(json.loads(raw), key)
        except InvalidHead:
            raise
        except wrong as exc:
            text = raw[:80].decode("utf-8", "replace")
            raise InvalidHead(f"not a head: {exc}", text=text) from exc

    @classmethod
    def _from_json(cls, data: dict[str, Any], key: str) -> Head:
        if data["format"] != FORMAT:
            raise InvalidHead(f"a head of format {data['format']!r}; this version reads {FORMAT}")
        response = StoredResponse(
            head=ResponseHead(
                int(data["status"]),
                Headers((str(n), str(v)) for n, v in data["headers"]),
                str(data["reason"]),
            ),
            vary=tuple((str(n), _text_or_none(v)) for n, v in data["vary"]),
            request_time=_seconds(data["request_time"]),
            response_time=_seconds(data["response_time"]),
            size=None if data["size"] is None else int(data["size"]),
            invalidated=bool(data.get("invalidated")),
            key=key,
        )
        return cls(
            url=str(data["url"]),
            method=str(data["method"]),
            response=response,
            body=None if data["body"] is None else Digest.parse(data["body"]),
            shared=bool(data.get("shared")),
            credentialed=bool(data.get("credentialed")),
            reserve=bool(data.get("reserve")),
            proven=tuple(Digest.parse(d) for d in data["proven"]),
            project=_text_or_none(data["project"]),
            version=_text_or_none(data["version"]),
            filename=_text_or_none(data["filename"]),
            kind=str(data["kind"]),
            upload_time=_text_or_none(data["upload_time"]),
        )


@dataclass(frozen=True, slots=True)
class TransferState:
    """What a process leaves beside a partial file for those who follow it or resume it."""

    head: Head
    total: int | None
    mark: str
    """Another one for each beginning at byte 0, by whichever process: bytes under two marks are
    never joined."""
    holds: bool
    whole: bool = False
    """Whether all of it has arrived and is right for who wrote it: ``total`` is its size, the head
    says what is proven."""

    def to_bytes(self) -> bytes:
        """One JSON object."""
        told = {"total": self.total, "mark": self.mark, "holds": self.holds, "whole": self.whole}
        return json.dumps({**told, "head": self.head.to_bytes().decode()}).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> TransferState | None:
        """What :meth:`to_bytes` gave; ``None`` for anything else."""
        try:
            told = json.loads(raw)
            head, whole = Head.from_bytes(told["head"].encode()), bool(told.get("whole"))
            return cls(head, told["total"], str(told["mark"]), bool(told["holds"]), whole)
        except (ValueError, KeyError, TypeError, AttributeError, FormatError):
            return None


def _text_or_none(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise InvalidHead(f"{value!r} stands where a text belongs")


def _seconds(value: Any) -> float:
    seconds = float(value)
    if math.isfinite(seconds):
        return seconds
    raise InvalidHead(f"{seconds!r} is no time")


def cache_key(url: str) -> str:
    """The folder of a URL's heads, named by the sha256 of its canonical form."""
    value = hashlib.sha256(canonical_url(url).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{HEADS}/{value[:2]}/{value[2:]}"


def variant_name(vary: tuple[tuple[str, str | None], ...]) -> str:
    """The name of a variant: ``0`` without ``Vary``, else 16 hex digits of its selecting values."""
    if not vary:
        return "0"
    text = "\n".join(
        f"{name}:{'' if value is None else '=' + value}" for name, value in sorted(vary)
    )
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def body_key(body: Digest) -> str:
    """Where a body lies: ``bodies/sha256/ab/cdef...``."""
    return f"{BODIES}/{body.algorithm}/{body.value[:2]}/{body.value[2:]}"


_BODY_KEY = re.compile(r"bodies/sha256/[0-9a-f]{2}/[0-9a-f]{62}")
_HEAD_KEY = re.compile(r"heads/[0-9a-f]{2}/[0-9a-f]{62}/(?:0|[0-9a-f]{16})")


def is_body_key(key: str) -> bool:
    """Whether a key is one that :func:`body_key` makes."""
    return _BODY_KEY.fullmatch(key) is not None


def is_head_key(key: str) -> bool:
    """Whether a key is one of a stored response: its cache key and the name of a variant."""
    return _HEAD_KEY.fullmatch(key) is not None
