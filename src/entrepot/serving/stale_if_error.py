"""What is answered in upstream's place: when it has failed, is in trouble, or must not be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from entrepot.errors import EntrepotError, FormatError, UpstreamError
from entrepot.httpcache.exchange import Decision, on_failure
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead
from entrepot.httpcache.status_field import cache_status
from entrepot.names import classify, filename_of
from entrepot.redaction import redacted_url
from entrepot.serving.channels import Channels
from entrepot.serving.known_files import Expectation
from entrepot.serving.lookup import Entries
from entrepot.serving.policy import NEGATIVES, agrees, fallback_variant, newer
from entrepot.serving.response import Answer, BytesBody, Responses, stamped
from entrepot.serving.reuse import Reuse
from entrepot.serving.run_stats import RunStats
from entrepot.simple.negotiate import acceptable, decode, page_class
from entrepot.simple.page import HTML_TYPE, html_page
from entrepot.stored import Head


@dataclass(frozen=True, slots=True)
class LookupState:
    """What is known of a request while upstream is asked."""

    decision: Decision
    heads: list[Head]
    """Of all that is stored under its URL."""
    expectation: Expectation


class Fallback:
    """Finds what is served in upstream's place.

    Args:
        entries, responses, channels, reuse, stats: the service's own.
        shared: whether the store serves several users: then only what HTTP allows.
    """

    def __init__(
        self,
        entries: Entries,
        responses: Responses,
        channels: Channels,
        reuse: Reuse,
        stats: RunStats,
        *,
        shared: bool,
    ) -> None:
        self._entries = entries
        self._responses = responses
        self._channels = channels
        self._reuse = reuse
        self._stats = stats
        self._shared = shared

    async def after_failure(
        self, request: RequestHead, error: EntrepotError | None, looked_up: LookupState
    ) -> Answer:
        """What there is, else why upstream gave nothing."""
        stale = await self.stale(request, looked_up, None)
        if stale is not None:
            return stale
        assert isinstance(error, UpstreamError)
        return self._responses.failed(request, error)

    async def stale(
        self, request: RequestHead, looked_up: LookupState, status: int | None
    ) -> Answer | None:
        """What is served when upstream fails.

        By a private cache of packages whatever there is, by a shared one what HTTP allows.

        Never an old absence, but of one form of a channel's index while another one is here: only a
        fresh 404 hands a project to the next index. Never what a known digest contradicts.

        Args:
            request: the client's.
            looked_up: what is known of it.
            status: with which upstream failed; ``None``: without an answer.
        """
        if self._shared:
            entry = on_failure(looked_up.decision, status=status)
            mine = [
                h
                for h in looked_up.heads
                if entry is not None and h.response.key == entry.key and not h.credentialed
            ]
            head = mine[0] if mine else None
        else:
            heads = [h for h in looked_up.heads if agrees(h, looked_up.expectation)]
            head = fallback_variant(request, heads)
            if head is not None and await self._channels.may_be_absent(request.url, head):
                return await self._responses.stored(request, head, "stale")
            if head is None or head.response.head.status in NEGATIVES:
                return await self._as_html(request, newer(heads, head))
        if head is None or head.response.head.status in NEGATIVES:
            return None
        return await self._responses.stored(request, head, "stale")

    async def offline(
        self, request: RequestHead, heads: list[Head], expectation: Expectation, *, is_wrong: bool
    ) -> Answer:
        """Whatever is stored, also absences.

        Else what another tool's cache has; else a 504 that says what was never seen.

        Args:
            request: the client's.
            heads: what is stored of it and no digest contradicts.
            expectation: what is known of it, which holds offline as it does else.
            is_wrong: whether something is stored that a digest contradicts.
        """
        head = fallback_variant(request, heads)
        if head and (answer := await self._responses.stored(request, head, "stale")):
            return answer
        if answer := await self._as_html(request, heads):
            return answer
        # What proves a body has been tried before.
        taken = (
            None
            if expectation.proves
            else await self._reuse.take_over(request, expectation, unproven=True)
        )
        if (
            taken is not None
            and (answer := await self._responses.stored(request, taken, "stale")) is not None
        ):
            return answer
        name = asked_for(request.url)
        owner = self._reuse.wrong.get(request.url) or ("entrepot" if is_wrong else None)
        if owner is not None:
            what = "digest" if expectation.checks or expectation.any_of else "size"
            copy = f"{owner}'s cached copy of {name}"
            text = f"{copy} does not match the {what} that {expectation.by} names"
            self._stats.warn(text)
            return self._responses.gateway(request, 504, f"entrepot is offline, and {text}")
        self._stats.unseen.setdefault(name, redacted_url(request.url))
        return self._responses.gateway(
            request, 504, f"entrepot is offline and has never seen {name}"
        )

    async def _as_html(self, request: RequestHead, heads: list[Head]) -> Answer | None:
        """A page that a newer tool has seen, for a client that reads HTML alone."""
        found = await written_as_html(request, heads, self._entries)
        if found is None:
            return None
        head, response, page = found
        self._entries.used(head)
        self._responses.given(request, head)
        self._responses.note(request, response.status, "stale", len(page), head)
        return Answer(stamped(response, cache_status(hit=True, fwd="stale")), BytesBody(page))


def asked_for(url: str) -> str:
    """What a URL asks for, in a word for people: a project's name, a file's name, else the URL.

    >>> asked_for("https://index.test/simple/some-project/")
    'some-project'
    """
    parts = urlsplit(redacted_url(url))
    filename = filename_of(url)
    if filename and classify(filename) is not None:
        return filename
    last = [p for p in parts.path.split("/") if p]
    return last[-1] if last else f"{parts.scheme}://{parts.netloc}/"


Found = tuple[Head, ResponseHead, bytes]


async def written_as_html(
    request: RequestHead, heads: Iterable[Head], entries: Entries
) -> Found | None:
    """The newest page that is stored in JSON.

    Its head, and the answer in HTML, without content for a HEAD.

    ``None`` if there is none or the client takes no HTML.
    """
    if not acceptable(request.headers.get("accept"), HTML_TYPE) or "range" in request.headers:
        return None
    pages = [
        head
        for head in heads
        if head.response.head.status == 200 and not _is_personal(head) and _is_json(head)
    ]
    for head in sorted(pages, key=lambda each: each.response.response_time, reverse=True):
        blob = await entries.open_body(head)
        if blob is None:
            continue
        try:
            raw = blob.read(0, blob.size)
        finally:
            blob.close()
        try:
            page = await asyncio.to_thread(
                _html, raw, head.response.head.headers.get("content-encoding")
            )
        except FormatError:
            continue
        answer = ResponseHead(200, Headers([("Content-Type", HTML_TYPE)]), "OK")
        return head, answer, page if request.method == "GET" else b""
    return None


def _html(raw: bytes, coding: str | None) -> bytes:
    return html_page(decode(raw, coding))


def _is_json(head: Head) -> bool:
    return page_class(head.response.head.headers.get("content-type") or "") == "json"


def _is_personal(head: Head) -> bool:
    return any(name in {"authorization", "cookie"} for name, _ in head.response.vary)
