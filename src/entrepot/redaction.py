"""Secrets in URLs and command lines: found, and masked for people, heads, logs and reports.

No I/O; nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote, unquote_plus

from entrepot.urls import split_url

SECRET_QUERY = frozenset(
    (
        "token access_token auth_token private_token job_token api_key apikey key password passwd "
        "secret sig signature se sp sv awsaccesskeyid x-amz-signature x-amz-credential "
        "x-amz-security-token x-goog-signature x-goog-credential"
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


_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9_.~:/+!-]*").fullmatch
"""What carries no secret, unless it is a ``/t/TOKEN/``."""


def redacted_url(url: str) -> str:
    """The URL with user, password, ``/t/TOKEN/`` and secret query values masked.

    The fragment is dropped. Never raises.

    >>> redacted_url("https://me:pw@host/t/tk-123/conda?sig=abc&v=1")
    'https://host/t/<TOKEN>/conda?sig=***&v=1'
    """
    if _PLAIN_URL(url) and "/t/" not in url:
        return url  # most of a hundred thousand are like this
    scheme, _, authority, tail = split_url(url)
    return f"{scheme}://{authority}{_masked(tail)}" if scheme else f"{authority}{_masked(tail)}"


def redacted_words(words: Iterable[str]) -> list[str]:
    """A command line with the secrets in its URLs, options and settings masked, for reports.

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
    _, user, _, tail = split_url(url)
    return bool(user) or _masked(tail) != tail


def tokens_in(url: str) -> tuple[str, ...]:
    """The tokens of ``/t/TOKEN/`` in a URL's path, as written.

    >>> tokens_in("https://host/t/tk-123/conda")
    ('tk-123',)
    """
    segments = split_url(url)[3].partition("?")[0].split("/")
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
