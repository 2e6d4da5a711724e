"""What is answered in upstream's place: when it has failed, is in trouble, or must not be asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from entrepot.errors import EntrepotError, FormatError, UpstreamError
from entrepot.httpcache.exchange import Decision, on_failure
from entrepot.httpcache.messages import Headers, RequestHead, ResponseHead
from entrepot.httpcache.status_field import cache_status
from entrepot.names import classify, filename_of
from entrepot.ports.store import Blob
from entrepot.redaction import redacted_url
from entrepot.serving.known_files import Expectation
from entrepot.serving.policy import NEGATIVES, agrees, fallback_variant, is_personal
from entrepot.serving.response import Answer, BytesBody, Responses
from entrepot.serving.reuse import Reuse
from entrepot.serving.transfer import Resources
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


@dataclass(frozen=True, slots=True)
class Fallback:
    """Finds what is served in upstream's place."""

    resources: Resources
    responses: Responses
    reuse: Reuse

    async def after_failure(
        self, request: RequestHead, error: EntrepotError | None, looked_up: LookupState
    ) -> Answer:
        """What there is, else why upstream gave nothing."""
        stale = await self.stale(request, looked_up, None)
        if stale is not None:
            return stale
        assert isinstance(error, UpstreamError)
        return self.responses.failed(request, error)

    async def stale(
        self, request: RequestHead, looked_up: LookupState, status: int | None
    ) -> Answer | None:
        """What is served when upstream fails.

        By a private cache of packages whatever there is, by a shared one what HTTP allows.

        Never an old absence, but of one form of a channel's index while another one is here: only a
        fresh 404 hands a project to the next index. Never what a known digest contradicts.

        ``status`` is the one with which upstream failed; ``None``: without an answer.
        """
        if self.resources.rules.shared:
            entry = on_failure(looked_up.decision, status=status)
            mine = (
                h
                for h in looked_up.heads
                if entry is not None and h.response.key == entry.key and not h.credentialed
            )
            head = next(mine, None)
        else:
            heads = [h for h in looked_up.heads if agrees(h, looked_up.expectation)]
            head = fallback_variant(request, heads)
            channels = self.resources.pages.channels
            if head is not None and await channels.may_be_absent(request.url, head):
                return await self.responses.stored(request, head, "stale")
            if head is None or head.response.head.status in NEGATIVES:
                since = head.response.response_time if head is not None else float("-inf")
                newer = [h for h in heads if h.response.response_time > since]
                return await self._as_html(request, newer)
        if head is None or head.response.head.status in NEGATIVES:
            return None
        return await self.responses.stored(request, head, "stale")

    async def offline(
        self, request: RequestHead, heads: list[Head], expectation: Expectation, *, is_wrong: bool
    ) -> Answer:
        """Whatever is stored, also absences.

        Else what another tool's cache has; else a 504 that says what was never seen. ``heads`` are
        those that no digest contradicts, ``is_wrong`` is whether there are others.
        """
        head = fallback_variant(request, heads)
        if head and (answer := await self.responses.stored(request, head, "stale")):
            return answer
        if answer := await self._as_html(request, heads):
            return answer
        if not expectation.proves:  # what proves a body has been tried before
            taken = await self.reuse.take_over(request, expectation, unproven=True)
            if taken and (answer := await self.responses.stored(request, taken, "stale")):
                return answer
        name = asked_for(request.url)
        owner = self.reuse.wrong.get(request.url) or ("entrepot" if is_wrong else None)
        if owner is not None:
            what = "digest" if expectation.checks or expectation.any_of else "size"
            copy = f"{owner}'s cached copy of {name}"
            text = f"{copy} does not match the {what} that {expectation.by} names"
            self.resources.stats.warn(text)
            return self.responses.gateway(request, 504, f"entrepot is offline, and {text}")
        self.resources.stats.unseen.setdefault(name, redacted_url(request.url))
        text = f"entrepot is offline and has never seen {name}"
        return self.responses.gateway(request, 504, text)

    async def _as_html(self, request: RequestHead, heads: Iterable[Head]) -> Answer | None:
        """The newest page that a newer tool has seen, for a client that reads HTML alone."""
        if not acceptable(request.headers.get("accept"), HTML_TYPE) or "range" in request.headers:
            return None
        for head in sorted(heads, key=lambda each: each.response.response_time, reverse=True):
            headers = head.response.head.headers
            is_json = page_class(headers.get("content-type") or "") == "json"
            if head.response.head.status != 200 or is_personal(head) or not is_json:
                continue
            coding = headers.get("content-encoding")

            def written(blob: Blob, coding: str | None = coding) -> bytes:
                return html_page(decode(blob.read(0, blob.size), coding))

            try:
                page = await self.resources.entries.read_body(head, written)
            except FormatError:
                continue
            if page is not None:
                self.resources.entries.used(head)
                self.responses.given(request, head)
                response = ResponseHead(200, Headers([("Content-Type", HTML_TYPE)]), "OK")
                body = BytesBody(page if request.method == "GET" else b"")
                stamp = cache_status(hit=True, fwd="stale")
                return self.responses.made(request, response, body, "stale", stamp, head=head)
        return None


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
