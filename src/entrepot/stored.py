"""Heads: what the store keeps of a response beside its body, and where it lies.

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
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, unquote_plus

from entrepot.digests import Digest
from entrepot.errors import InvalidHead
from entrepot.httpcache.messages import Headers, ResponseHead, StoredResponse

FORMAT = 1
"""Version of a head's JSON; a head of a later version is left alone."""

SECRET_QUERY = frozenset(
    (
        "token access_token auth_token private_token job_token api_key apikey key password passwd secret sig signature se sp sv "
        "x-amz-signature x-amz-credential x-amz-security-token x-goog-signature x-goog-credential awsaccesskeyid"
    ).split()
)
"""Query names whose values are credentials (signed and tokenised URLs)."""

_URL_IN_TEXT = re.compile(r"""((?:\w+\+)?)(https?://[^\s"'#;|]+)""", re.IGNORECASE)
# -- a pattern, not a password
_SECRET_NAME = r"[\w-]*(?:password|passwd|token|secret|api[-_]?key)"  # noqa: S105
_SECRET_OPTION = re.compile(rf"--?{_SECRET_NAME}", re.IGNORECASE)
_USER_OPTIONS = frozenset({"-u", "-U", "--user", "--proxy-user"})
"""curl's options that take ``USER:PASSWORD``."""
_SECRET_FIELD = re.compile(
    r"((proxy-)?authorization|cookie|private-token|x-api-key)\s*:", re.IGNORECASE
)
"""How a word begins that is a request field with a credential in it (``-H "Authorization: ..."``).
"""
_SECRET_SETTING = re.compile(
    rf"(?<![\w?&/-])((?:--)?{_SECRET_NAME})=(?!\*\*\*)[^\s\"']+", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Head:
    """A stored response: the core's view, the body's digest, and what is known of the distribution in it."""

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
        return (
            json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode(
                "utf-8", "surrogatepass"
            )
            + b"\n"
        )

    @classmethod
    def from_bytes(cls, raw: bytes, *, key: str = "") -> Head:
        """Read a head back.

        Raises:
            InvalidHead: not a head, or of a format this version does not know.
        """
        try:
            return cls._from_json(json.loads(raw), key)
        except InvalidHead:
            raise
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as exc:
            raise InvalidHead(
                f"not a head: {exc}", text=raw[:80].decode("utf-8", "replace")
            ) from exc

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


def _text_or_none(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise InvalidHead(f"{value!r} stands where a text belongs")


def _seconds(value: Any) -> float:
    seconds = float(value)
    if math.isfinite(seconds):
        return seconds
    raise InvalidHead(f"{seconds!r} is no time")


def canonical_url(url: str) -> str:
    """The URL as cache key.

    Scheme and host in lower case, default port, user and fragment dropped, empty path ``/``.

    Nothing else is touched: percent-encoding and query order are the origin's business (RFC 9110
    §4.2.3, RFC 3986 §6.2.3). Never raises; applying it twice changes nothing more.

    >>> canonical_url("HTTPS://u:p@Index.Example:443/simple/?a=B#x")
    'https://index.example/simple/?a=B'
    """
    return _canonical(url) if len(url) <= _LONGEST_CACHED else _canonical.__wrapped__(url)


_LONGEST_CACHED = 1024
"""Characters; longer URLs are taken apart each time, so that hostile ones cannot fill the memory.
"""


@lru_cache(maxsize=1024)  # one request asks twenty times
def _canonical(url: str) -> str:
    scheme, _, authority, tail = _parts(url)
    scheme = scheme or "http"
    host, port = _host_and_port(authority)
    shown = f":{port}" if port and port != _DEFAULT_PORTS.get(scheme) else ""
    return f"{scheme}://{host}{shown}{tail if tail.startswith('/') else '/' + tail}"


def authority_of(url: str) -> str:
    """``HOST:PORT`` of an http or https URL, the port always written, IPv6 in brackets.

    Empty for any other URL.

    >>> authority_of("https://u:p@Index.Example/simple/"), authority_of("http://[::1]:8080/")
    ('index.example:443', '[::1]:8080')
    """
    scheme, _, authority, _ = _parts(url)
    host, port = _host_and_port(authority)
    port = port or _DEFAULT_PORTS.get(scheme, "")
    return (
        f"{host}:{port}"
        if host and scheme in _DEFAULT_PORTS and port.isascii() and port.isdigit()
        else ""
    )


_DEFAULT_PORTS = {"http": "80", "https": "443"}


def _parts(url: str) -> tuple[str, str, str, str]:
    """Scheme in lower case (empty without one), userinfo, authority without it, path with query.

    The fragment is dropped.

    By RFC 3986 §3, without the checks for which the standard library's splitter raises.
    """
    scheme, found, rest = url.partition("://")
    if not found or any(c in scheme for c in "/?#"):
        scheme, rest = "", url
    end = min((i for i in (rest.find(c) for c in "/?#") if i >= 0), default=len(rest))
    user, _, authority = rest[:end].rpartition("@")
    return scheme.lower(), user, authority, rest[end:].partition("#")[0]


def _host_and_port(authority: str) -> tuple[str, str]:
    """Host in lower case and port without leading zeros; a port may be empty (RFC 3986 §3.2.3)."""
    host, colon, port = authority.rpartition(":")
    if not colon or "]" in port or (":" in host and not host.endswith("]")):
        return authority.lower(), ""
    if port.isascii() and port.isdigit():
        port = port.lstrip("0") or "0"
    return host.lower(), port.lower()


_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9_.~:/+!-]*").fullmatch
"""What carries no secret, unless it is a ``/t/TOKEN/``."""


def redacted_url(url: str) -> str:
    """The URL with user, password, ``/t/TOKEN/`` and secret query values masked.

    For people, heads, logs and reports.

    Never raises. The fragment is dropped.

    >>> redacted_url("https://me:pw@host/t/tk-123/conda?sig=abc&v=1")
    'https://host/t/<TOKEN>/conda?sig=***&v=1'
    """
    if _PLAIN_URL(url) and "/t/" not in url:
        return url  # most of a hundred thousand are like this
    scheme, _, authority, tail = _parts(url)
    return f"{scheme}://{authority}{_masked(tail)}" if scheme else f"{authority}{_masked(tail)}"


def redacted_words(words: Iterable[str]) -> list[str]:
    """A command line with every secret masked that its URLs carry or its options and settings name, for reports.

    >>> redacted_words(["pip", "-i", "https://me:pw@host/simple/", "TOKEN=abc", "--password", "pw"])
    ['pip', '-i', 'https://host/simple/', 'TOKEN=***', '--password', '***']
    """
    result: list[str] = []
    for word in words:
        before = result[-1] if result else ""
        if (
            _SECRET_OPTION.fullmatch(before)
            or (before in _USER_OPTIONS and ":" in word)
            or _SECRET_FIELD.match(word)
        ):
            result.append("***")
            continue
        shown = _URL_IN_TEXT.sub(lambda match: match[1] + redacted_url(match[2]), word)
        result.append(_SECRET_SETTING.sub(r"\1=***", shown))
    return result


def has_secret(url: str) -> bool:
    """Whether the URL itself carries a credential."""
    _, user, _, tail = _parts(url)
    return bool(user) or _masked(tail) != tail


def tokens_in(url: str) -> tuple[str, ...]:
    """The tokens of ``/t/TOKEN/`` in a URL's path, as written.

    >>> tokens_in("https://host/t/tk-123/conda")
    ('tk-123',)
    """
    segments = _parts(url)[3].partition("?")[0].split("/")
    return tuple(segments[i] for i in _token_places(segments))


def _token_places(segments: list[str]) -> list[int]:
    """Where tokens stand among a path's segments, last first.

    Escaped spellings count as the plain ones.
    """
    last = len(segments) - 1
    # A last segment with a dot is a file of a directory ``t``, not a token.
    return [
        i
        for i in range(last, 0, -1)
        if segments[i]
        and unquote(segments[i - 1]) == "t"
        and not (i == last and "." in segments[i])
    ]


def _masked(tail: str) -> str:
    """Path and query with every token and secret value replaced."""
    path, mark, query = tail.partition("?")
    segments = path.split("/")
    for i in _token_places(segments):
        segments[i] = "<TOKEN>"
    return "/".join(segments) + mark + "".join(map(_masked_pair, re.split("([&;])", query)))


def _masked_pair(pair: str) -> str:
    name, found, value = pair.partition("=")
    return (
        f"{name}=***"
        if found and value and unquote_plus(name).strip().lower() in SECRET_QUERY
        else pair
    )


def cache_key(url: str) -> str:
    """The directory of a URL's heads.

    ``heads/`` and the sha256 of the canonical URL, split after two digits.
    """
    value = hashlib.sha256(canonical_url(url).encode("utf-8", "surrogatepass")).hexdigest()
    return f"heads/{value[:2]}/{value[2:]}"


def variant_name(vary: tuple[tuple[str, str | None], ...]) -> str:
    """The file name of one variant.

    ``0`` without ``Vary``, else 16 hex digits of its selecting values.
    """
    if not vary:
        return "0"
    text = "\n".join(
        f"{name}:{'' if value is None else '=' + value}" for name, value in sorted(vary)
    )
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def body_key(body: Digest) -> str:
    """Where a body lies: ``bodies/sha256/ab/cdef...``."""
    return f"bodies/{body.algorithm}/{body.value[:2]}/{body.value[2:]}"


_BODY_KEY = re.compile(r"bodies/sha256/[0-9a-f]{2}/[0-9a-f]{62}")
_HEAD_KEY = re.compile(r"heads/[0-9a-f]{2}/[0-9a-f]{62}/(?:0|[0-9a-f]{16})")


def is_body_key(key: str) -> bool:
    """Whether a key is one that :func:`body_key` makes."""
    return _BODY_KEY.fullmatch(key) is not None


def is_head_key(key: str) -> bool:
    """Whether a key is one of a stored response: its cache key and the name of a variant."""
    return _HEAD_KEY.fullmatch(key) is not None
