"""What a flight is sent out for and with, and the note it leaves for others. Values alone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from entrepot.errors import FormatError
from entrepot.httpcache import Decision, Hit, Miss, unconditional
from entrepot.httpcache.messages import RequestHead, StoredResponse
from entrepot.ports.clock import Clock
from entrepot.ports.upstream import Upstream
from entrepot.serving.known_files import Expectation, Facts
from entrepot.serving.lookup import Entries
from entrepot.serving.page_readers import Readers, wants
from entrepot.serving.resume import as_it_is, as_readable
from entrepot.stored import Head, canonical_url, redacted_url


class State(Enum):
    """Where a flight is; the transitions stand in ``flight.py``."""

    ASKING = "asking"
    STREAMING = "streaming"
    VERIFIED = "verified"
    LANDED = "landed"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Means:
    """What a flight needs of the world."""

    entries: Entries
    upstream: Upstream
    clock: Clock
    facts: Facts
    readers: Readers
    shared: bool
    downloaded: Callable[[int], None]
    """Told how many bytes came from upstream."""
    warn: Callable[[str], None] = lambda _text: None
    """Told what the user should know at the end."""
    note_flaw: Callable[[str, str], None] = lambda _url, _text: None
    """Told the URL where upstream gave no index although one was asked for, and what it did."""

    async def expect(self, url: str, *, ahead: bool = False) -> Expectation:
        """What the body of this URL must be; ``ahead`` as in :meth:`Facts.expect`."""
        return await self.readers.channels.expect(url, await self.facts.expect(url, ahead=ahead))

    async def expect_anew(self, url: str) -> Expectation:
        """The same once all pages that have passed are read."""
        return await self.readers.channels.expect(url, await self.facts.expect_anew(url))


@dataclass(frozen=True, slots=True)
class Errand:
    """What a flight is for."""

    request: RequestHead
    """As the client asked."""
    forward: RequestHead
    """As it goes upstream: with validators, without the client's own conditions and range."""
    decision: Decision
    expectation: Expectation
    seen: tuple[StoredResponse, ...] = ()
    """What was stored when it was decided."""

    @property
    def name(self) -> str:
        """Equal for requests that one transfer can serve.

        URL, what may select a variant, validators and credentials.

        A body that a digest fixes has no variants.
        """
        fields = ["authorization", "cookie"]
        if not self.expectation.checks:
            fields += [
                "accept",
                "accept-encoding",
                "accept-language",
                "if-none-match",
                "if-modified-since",
            ]
        parts = [
            canonical_url(self.request.url),
            *(f"{f}={self.forward.headers.get(f)}" for f in fields),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]

    @property
    def redacted(self) -> str:
        """The URL as it may be shown and stored."""
        return redacted_url(canonical_url(self.request.url))


def errand_for(
    request: RequestHead, decision: Decision, heads: Iterable[Head], expectation: Expectation
) -> Errand:
    """What upstream is asked for on behalf of this request, and of all who ask the same.

    Args:
        request: the client's.
        decision: of the core; not a hit, which asks for nothing.
        heads: what is stored of the URL.
        expectation: what is known of its body.
    """
    assert not isinstance(decision, Hit)
    if isinstance(decision, Miss) and not decision.variants:
        # What the client has of its own does not help the next one, nor this one without a network:
        # ask for the whole. Its condition is evaluated against what is stored then.
        decision = dataclasses.replace(decision, forward=unconditional(decision.forward))
    forward = as_it_is(decision.forward) if expectation.checks else decision.forward
    if not expectation.checks and wants(request):
        forward = as_readable(forward)
    return Errand(request, forward, decision, expectation, tuple(h.response for h in heads))


@dataclass(frozen=True, slots=True)
class Note:
    """What the leader tells followers and later leaders about a growing file."""

    head: Head
    total: int | None
    mark: str
    """Another one for each beginning at byte 0, by whichever process: bytes under two marks are
    never joined."""
    holds: bool
    whole: bool = False
    """Whether all of it has arrived and is right for its leader: ``total`` is its size, the head
    says what is proven."""

    def to_bytes(self) -> bytes:
        """One JSON object."""
        told = {"total": self.total, "mark": self.mark, "holds": self.holds, "whole": self.whole}
        return json.dumps({**told, "head": self.head.to_bytes().decode()}).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Note | None:
        """Read a note; ``None`` when it is none."""
        try:
            told = json.loads(raw)
            head, whole = Head.from_bytes(told["head"].encode()), bool(told.get("whole"))
            return cls(head, told["total"], str(told["mark"]), bool(told["holds"]), whole)
        except (ValueError, KeyError, TypeError, AttributeError, FormatError):
            return None
