"""What is answered in upstream's place: when it has failed, is in trouble, or must not be asked."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from entrepot.errors import EntrepotError, UpstreamError
from entrepot.httpcache import Decision, on_failure
from entrepot.httpcache.messages import RequestHead
from entrepot.names import classify, filename_of
from entrepot.serving.channels import Channels
from entrepot.serving.known_files import Expectation
from entrepot.serving.policy import NEGATIVES, agrees, newer, stand_in
from entrepot.serving.response import Answer
from entrepot.serving.reuse import Donations
from entrepot.serving.run_stats import Tally
from entrepot.serving.stored_response import Replies
from entrepot.stored import Head, redacted_url


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of a request while upstream is asked."""

    decision: Decision
    heads: list[Head]
    """Of all that is stored under its URL."""
    expectation: Expectation


class StandIns:
    """Finds what is served in upstream's place.

    Args:
        replies, channels, donations, tally: the service's own.
        shared: whether the store serves several users: then only what HTTP allows.
    """

    def __init__(
        self,
        replies: Replies,
        channels: Channels,
        donations: Donations,
        tally: Tally,
        *,
        shared: bool,
    ) -> None:
        self._replies = replies
        self._channels = channels
        self._donations = donations
        self._tally = tally
        self._shared = shared

    async def after_failure(
        self, request: RequestHead, error: EntrepotError | None, situation: Situation
    ) -> Answer:
        """What there is, else why upstream gave nothing."""
        stale = await self.stale(request, situation, None)
        if stale is not None:
            return stale
        assert isinstance(error, UpstreamError)
        return self._replies.failed(request, error)

    async def stale(
        self, request: RequestHead, situation: Situation, status: int | None
    ) -> Answer | None:
        """What is served when upstream fails.

        By a private cache of packages whatever there is, by a shared one what HTTP allows.

        Never an old absence, but of one form of a channel's index while another one is here: only a
        fresh 404 hands a project to the next index. Never what a known digest contradicts.

        Args:
            request: the client's.
            situation: what is known of it.
            status: with which upstream failed; ``None``: without an answer.
        """
        if self._shared:
            entry = on_failure(situation.decision, status=status)
            mine = [
                h
                for h in situation.heads
                if entry is not None and h.response.key == entry.key and not h.credentialed
            ]
            head = mine[0] if mine else None
        else:
            heads = [h for h in situation.heads if agrees(h, situation.expectation)]
            head = stand_in(request, heads)
            if head is not None and await self._channels.may_be_absent(request.url, head):
                return await self._replies.stored(request, head, "stale")
            if head is None or head.response.head.status in NEGATIVES:
                return await self._replies.as_html(request, newer(heads, head))
        if head is None or head.response.head.status in NEGATIVES:
            return None
        return await self._replies.stored(request, head, "stale")

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
        head = stand_in(request, heads)
        if (
            head is not None
            and (answer := await self._replies.stored(request, head, "stale")) is not None
        ):
            return answer
        if (answer := await self._replies.as_html(request, heads)) is not None:
            return answer
        # What proves a body has been tried before.
        taken = (
            None
            if expectation.proves
            else await self._donations.take_over(request, expectation, unproven=True)
        )
        if (
            taken is not None
            and (answer := await self._replies.stored(request, taken, "stale")) is not None
        ):
            return answer
        name = asked_for(request.url)
        owner = self._donations.wrong.get(request.url) or ("entrepot" if is_wrong else None)
        if owner is not None:
            what = "digest" if expectation.checks or expectation.any_of else "size"
            text = f"{owner}'s cached copy of {name} does not match the {what} that {expectation.by} names"
            self._tally.warn(text)
            return self._replies.gateway(request, 504, f"entrepot is offline, and {text}")
        self._tally.unseen.setdefault(name, redacted_url(request.url))
        return self._replies.gateway(request, 504, f"entrepot is offline and has never seen {name}")


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
