"""Every exception entrepot raises, in one tree.

::

    EntrepotError
      ConfigError                   a setting is wrong: its name, its value and where it came from
        ChangedSince                what --undo would restore has been changed since
      UsageError                    the command line asks for something impossible
      FormatError(ValueError)       bytes or a name that do not follow their format
        InvalidPage, InvalidHead
        InvalidRepodata, RepodataTooLarge
      UpstreamError                 the other side failed; carries a redacted URL and `status_hint`
        UpstreamTimeout             504
        UpstreamUnreachable, UpstreamProtocolError, TruncatedBody, DigestMismatch    502
      StoreError                    our side failed
        StoreUnavailable (503), StoreFull
      Busy                          a lock was not free in time
      ProtocolMisuse                our own code asked for an illegal transition: always a bug

An error holds data; the text a person reads is made in ``cli/output.py``. Absence is never an
exception: it is ``None`` or a ``Miss``. Nothing but this module may define an exception that
crosses a layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


class EntrepotError(Exception):
    """The root; ``reference`` is a stable kebab-case name.

    ``hint`` says what the reader can do (may be empty), ``fix`` is a command that repairs it.

    Args:
        message: what went wrong and why, in one or two sentences, without a trailing newline.
        hint: what the reader can do about it.
    """

    reference: ClassVar[str] = "error"
    fix: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(EntrepotError):
    """A setting cannot be used.

    ``name``, ``value`` and ``source`` (a file with its line, a variable, a flag) say which.
    """

    reference = "bad-setting"

    def __init__(
        self,
        message: str,
        *,
        name: str = "",
        value: str = "",
        source: str = "",
        hint: str = "",
        fix: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.fix = fix
        self.name = name
        self.value = value
        self.source = source


class ChangedSince(ConfigError):
    """What ``--undo`` would restore has been changed since; nothing was done.

    Args:
        what: the key; empty: the file as a whole.
        path: the file.
        before: the lines that stood there, none of them a credential.
        after: the lines that took their place.
    """

    def __init__(self, what: str, path: Path, before: str, after: str) -> None:
        where = f"{what} in {path}" if what else f"{path}"
        told = f"put back these lines:{_shown(before)}" if before else "take these lines out:"
        if after:
            told += ("\nin place of:" if before else "") + _shown(after)
        super().__init__(
            f"{where} has been changed since: it is left alone; {told}",
            name=what,
            source=str(path),
            hint="--undo again takes back the change before it",
        )


def _shown(lines: str) -> str:
    return "".join(f"\n    {line}" for line in lines.splitlines())


class UsageError(EntrepotError):
    """The command line cannot be carried out as written; exit status 2."""

    reference = "usage"


class FormatError(EntrepotError, ValueError):
    """Bytes or a name do not follow their format.

    ``text`` is the offending piece, ``position`` its offset if known.
    """

    reference = "bad-format"

    def __init__(
        self, message: str, *, text: str = "", position: int | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.text = text
        self.position = position


class InvalidPage(FormatError):
    """An index page that is neither the JSON nor the HTML form of the simple repository API."""

    reference = "bad-page"


class InvalidRepodata(FormatError):
    """A channel's repodata or shard that cannot be read."""

    reference = "bad-repodata"


class RepodataTooLarge(InvalidRepodata):
    """Repodata of more bytes, records or nesting than are read."""

    reference = "too-large-repodata"


class InvalidHead(FormatError):
    """A stored head that cannot be read back: damaged, or written by another version."""

    reference = "bad-head"


class UpstreamError(EntrepotError):
    """The other side failed; ``url`` is redacted, ``status_hint`` is the status for a client."""

    reference = "upstream"
    status_hint: ClassVar[int] = 502

    def __init__(self, message: str, *, url: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.url = url


class UpstreamTimeout(UpstreamError):
    """No connection, or no byte for the configured number of seconds."""

    reference = "upstream-timeout"
    status_hint = 504


class UpstreamUnreachable(UpstreamError):
    """The name does not resolve, nothing listens, or TLS was refused."""

    reference = "upstream-unreachable"


class UpstreamProtocolError(UpstreamError):
    """The answer is not HTTP, or the connection broke before a whole head."""

    reference = "upstream-protocol"


class TruncatedBody(UpstreamError):
    """The body ended before its announced or known length; ``received`` bytes came."""

    reference = "truncated-body"

    def __init__(self, message: str, *, url: str = "", received: int = 0, hint: str = "") -> None:
        super().__init__(message, url=url, hint=hint)
        self.received = received


class DigestMismatch(UpstreamError):
    """A body's digest is not the one that is known for its URL; both are named."""

    reference = "digest-mismatch"

    def __init__(
        self, message: str, *, url: str = "", expected: str = "", actual: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, url=url, hint=hint)
        self.expected = expected
        self.actual = actual


class StoreError(EntrepotError):
    """The store failed. A client that upstream can serve must not notice."""

    reference = "store"


class StoreUnavailable(StoreError):
    """The store gave no answer, or may not be written; a retry may help."""

    reference = "store-unavailable"


class StoreFull(StoreError):
    """No space, no inodes or no quota left where the store lives."""

    reference = "store-full"


class Busy(EntrepotError):
    """Another process holds a lock; exit status 4."""

    reference = "busy"


class ProtocolMisuse(EntrepotError):
    """Our own code asked for an illegal transition: a bug of entrepot."""

    reference = "protocol-misuse"
