"""The transfers of a process: one for all who want the same, shared with other processes.

A write lock in the store decides which process fetches (``fetch.py``); the others follow it. What
waiters see of a transfer stands in ``transfer.py``. A process that gets the lock after another one
looks first whether there is anything left to fetch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial

from entrepot.errors import DigestMismatch, StoreError, TruncatedBody, UpstreamError
from entrepot.httpcache.messages import RequestHead
from entrepot.httpcache.policy import can_reuse_for
from entrepot.ports.store import Blob, PartialFile, Store
from entrepot.serving.channels import Span
from entrepot.serving.fetch import Fetcher
from entrepot.serving.known_files import Expectation, Named
from entrepot.serving.lookup import READ
from entrepot.serving.policy import REMEMBERED_S, confirmed, immutable
from entrepot.serving.transfer import NOTICED_S, FetchRequest, Phase, Progress, Resources
from entrepot.stored import Head, TransferState
from entrepot.urls import canonical_url

FOLLOW_S = 0.01
"""Seconds between looks at a download of another process."""
LAG = 0.05
"""Once it is shown, looks come further apart: by this share of the time that it has taken so far,
which nobody notices, ..."""
LAG_MOST_S = NOTICED_S - FOLLOW_S
"""... but never further apart than this: ten processes that look at each piece of a network take
more time than their clients."""


class Transfer(Progress):
    """One transfer. :meth:`run` does the work.

    Everybody else reads the attributes and waits for :meth:`changed`. ``after`` is one of the same
    name in this process that came too early to answer this one; it ends first.
    """

    def __init__(
        self, resources: Resources, fetch: FetchRequest, after: Transfer | None = None
    ) -> None:
        super().__init__(fetch.expectation.hasher(), holds=fetch.expectation.checks)
        self._resources = resources
        self._fetch = fetch
        self._after = after
        self._file: PartialFile | None = None
        self._fetcher: Fetcher | None = None
        self._began = resources.clock.now()
        self.name = fetch.name
        self.url = canonical_url(fetch.request.url)
        self.named: Named = fetch.expectation.named
        """What its body must have."""

    def serves(self, fetch: FetchRequest) -> bool:
        """Whether what it brings is what another request of the same name wants, too."""
        if self.over or self.named != fetch.expectation.named:
            return False
        # An answer that has come is not one to a request that came after it, unless its digest
        # makes it right for ever.
        return fetch.expectation.checks or not self.has_all

    def close(self) -> None:
        """Nobody reads any more."""
        super().close()
        if self._file is not None:
            self._file.close()

    async def run(self) -> None:
        """Do it all. Never raises but for cancellation: what went wrong is in ``error``."""
        try:
            while self._after is not None and not self._after.finished:
                await self._after.changed()
            self._after = None
            file = self._file = await self._resources.entries.open_partial(self._fetch.name)
            follower: Follower | None = None
            while not file.try_lock():  # another process fetches: show its progress to waiters here
                follower = follower or Follower(self._resources.entries.store, self._fetch.name)
                while follower.look():  # as long as it grows the other process lives
                    self._show(follower)
                    took = self._resources.clock.now() - self._began
                    lag = min(LAG_MOST_S, LAG * took) if self.mark else 0.0
                    await asyncio.sleep(max(FOLLOW_S, lag))
                await asyncio.sleep(FOLLOW_S)
            self._fetcher = Fetcher(self._resources, self._fetch, self, file)
            if not await self._done_by_others():
                await self._fetcher.fetch()
        except UpstreamError as exc:
            self.error, self.phase = exc, Phase.FAILED
        except StoreError as exc:
            self._resources.entries.failed(exc)
            self.error, self.phase = exc, Phase.FAILED
        finally:
            self.finished = True
            if self.phase not in {Phase.VERIFIED, Phase.LANDED, Phase.PASSED}:
                text = "the transfer was given up"
                self.error = self.error or TruncatedBody(text, url=self._fetch.redacted)
                self.phase = Phase.FAILED
            if self._fetcher is not None:
                self._fetcher.tidy()
            if self._file is not None:
                self._file.release()
            self.tell()

    def _show(self, follower: Follower) -> None:
        state = follower.state
        tell = self.tell_growth
        if state is not None and state.mark != self.mark:
            if not (self._fetch.expectation.checks or self._came_since(state.head)):
                # Upstream was asked before we were: it is no answer to this request, and we ask
                # ourselves afterwards
                return
            self.begin(state)
            self.growing, tell = follower.view, self.tell
        # right for the other process, and by the digests that are known here
        if state is not None and state.whole and confirmed(state.head, self._fetch.expectation):
            if follower.view is not None and state.total and self.phase is not Phase.VERIFIED:
                body, link = Span(follower.view.read, state.total), self._fetch.expectation.link
                self._resources.pages.learn(self._fetch.request.url, state.head, body, link)
            self.phase, self.total = Phase.VERIFIED, state.total
        tell()

    async def _done_by_others(self) -> bool:
        """Look the entry up again now that nobody else is at it."""
        request, entries = self._fetch.request, self._resources.entries
        heads = await entries.load(request.url)
        fresh = (h for h in heads if self._came_since(h) and can_reuse_for(request, h.response))
        found = immutable(heads, self._fetch.expectation) or next(fresh, None)
        if found is None:
            # Whole, and not kept. Upstream's next answer may be another one, which could not be put
            # to what waiters here have.
            return self.phase is Phase.VERIFIED
        if self.growing is not None and self.phase is not Phase.VERIFIED:
            # Waiters here have read from the file that another process has finished; its body goes
            # on where they are.
            blob = await entries.open_body(found)
            if blob is None:
                return False
            if not await asyncio.to_thread(starts_alike, self.growing, blob):
                self.generation += 1
            self.blob = blob
        self._resources.pages.learn_stored(request.url, found)
        self.entry, self.phase = found, Phase.LANDED
        return True

    def _came_since(self, head: Head) -> bool:
        """Whether upstream was asked after we were: only then is it an answer to this request."""
        return (
            confirmed(head, self._fetch.expectation)
            and not (self._resources.rules.shared and head.credentialed)
            and head.response.response_time >= self._began
            and head.response not in self._fetch.seen
        )


def starts_alike(growing: PartialFile, blob: Blob) -> bool:
    """Whether a stored body begins with what was read of a growing file; reads both."""
    size, at = growing.size(), 0
    while at < size <= blob.size:
        piece = growing.read(at, min(READ, size - at))
        if not piece or piece != blob.read(at, len(piece)):
            return False
        at += len(piece)
    return at >= size


class TransferBody:
    """The span ``[start, end)`` of a body that is coming; ``end=None``: all, whatever its length.

    ``transfer`` is joined already; :meth:`aclose` leaves it. ``rest`` gives the bytes from a
    position on without the store, when that fails under the transfer.
    """

    def __init__(
        self,
        transfer: Transfer,
        start: int,
        end: int | None,
        *,
        leave: Callable[[Transfer], None],
        rest: Callable[[int], AsyncIterator[bytes]],
    ) -> None:
        self._rest = rest
        self._transfer = transfer
        self._at, self._end = start, end
        self._leave: Callable[[Transfer], None] | None = leave
        self._generation = transfer.generation
        self.length = None if end is None else end - start

    async def chunks(self) -> AsyncIterator[bytes]:
        """Bytes as they become certain.

        Raises:
            UpstreamError, StoreError: the transfer failed; what was sent is not the whole.
        """
        transfer, end = self._transfer, self._end
        while end is None or self._at < end:
            if transfer.generation != self._generation:
                raise TruncatedBody("upstream's bytes changed in mid-transfer", received=self._at)
            limit = transfer.available()
            limit = limit if end is None else min(limit, end)
            if self._at < limit:
                piece = transfer.read(self._at, min(READ, limit - self._at))
                if not piece:
                    raise TruncatedBody("the growing file went away", received=self._at)
                self._at += len(piece)
                yield piece
            elif transfer.phase in {Phase.VERIFIED, Phase.LANDED}:
                return
            elif isinstance(transfer.error, StoreError):
                # To upstream's end also for a range: only then is the whole known to be right.
                async for piece in self._rest(self._at):
                    wanted = piece if end is None else piece[: end - self._at]
                    self._at += len(wanted)
                    if wanted:
                        yield wanted
                return
            elif transfer.over:
                raise transfer.error or TruncatedBody("the transfer ended early", received=self._at)
            else:
                await transfer.changed()

    async def aclose(self) -> None:
        """Leave the transfer."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave(self._transfer)


class Transfers:
    """All transfers of this process, by name."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._running: dict[str, Transfer] = {}
        self._tasks: dict[Transfer, asyncio.Task[None]] = {}
        self._aside: set[asyncio.Task[None]] = set()
        self._wrong: dict[tuple[str, Named], tuple[float, DigestMismatch]] = {}

    def join(self, fetch: FetchRequest) -> Transfer:
        """The transfer for this request, begun now if there is none; :meth:`leave` it after."""
        transfer = self.growing(fetch)
        if transfer is None:
            transfer = self._running[fetch.name] = Transfer(
                self._resources, fetch, after=self._running.get(fetch.name)
            )
            task = self._tasks[transfer] = asyncio.get_running_loop().create_task(transfer.run())
            task.add_done_callback(partial(self._ended, transfer))
        transfer.waiters += 1
        return transfer

    def growing(self, fetch: FetchRequest) -> Transfer | None:
        """The transfer that serves this request, if there is one already."""
        transfer = self._running.get(fetch.name)
        return transfer if transfer is not None and transfer.serves(fetch) else None

    def refresh(self, fetch: FetchRequest) -> None:
        """Have it done with nobody waiting for it (RFC 5861 §3)."""

        async def see_off(transfer: Transfer) -> None:
            while not transfer.over:
                await transfer.changed()
            self.leave(transfer)

        self._set_aside(see_off(self.join(fetch)))

    def _set_aside(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    def refused(self, request: RequestHead, expectation: Expectation) -> DigestMismatch | None:
        """Why this URL is not asked right now: it has just brought wrong bytes twice.

        Nor is a range: who puts it together with what came before has the wrong file whole.
        """
        until, error = self._wrong.get((canonical_url(request.url), expectation.named), (0.0, None))
        return error if until > self._resources.clock.monotonic() else None

    def _remember(self, transfer: Transfer) -> None:
        if isinstance(transfer.error, DigestMismatch) and transfer.named:
            now = self._resources.clock.monotonic()
            self._wrong = {key: each for key, each in self._wrong.items() if each[0] > now}
            self._wrong.setdefault(
                (transfer.url, transfer.named), (now + REMEMBERED_S, transfer.error)
            )

    def leave(self, transfer: Transfer) -> None:
        """One waiter fewer; what a transfer has that nobody waits for stays to be resumed.

        It stops, but not after a wrong digest: a client that had begun to read was cut off, and
        comes again for what the second try brings.
        """
        self._remember(transfer)  # before this client can come again
        transfer.waiters -= 1
        if transfer.waiters > 0 or (transfer.has_all and not transfer.over):
            return
        if transfer.over:
            self._let_go(transfer)
            return
        if transfer.generation and transfer.named:
            return  # its waiters had to be left; what it tries once more is for those who ask again
        self._tasks[transfer].cancel()
        self._forget(transfer)

    def _ended(self, transfer: Transfer, _task: asyncio.Task[None]) -> None:
        del self._tasks[transfer]
        self._forget(transfer)
        self._remember(transfer)
        if transfer.waiters == 0:
            self._let_go(transfer)

    def _let_go(self, transfer: Transfer) -> None:
        transfer.close()
        answer = transfer.claim()  # that nobody took
        if answer is not None:
            self._set_aside(answer.aclose())

    def _forget(self, transfer: Transfer) -> None:
        if self._running.get(transfer.name) is transfer:
            del self._running[transfer.name]

    async def landed(self, url: str, *, but_joined: bool = False) -> None:
        """Wait until what has come of this URL is kept, so that its entries are all there.

        ``but_joined``: not for bodies with a digest, which requests that come meanwhile join.
        """
        tasks = [
            task
            for transfer, task in self._tasks.items()
            if transfer.url == url and transfer.has_all and not (but_joined and transfer.named)
        ]
        if tasks:
            await asyncio.wait(tasks)

    async def aclose(self, patience_s: float = 10.0) -> None:
        """Let what is complete become durable; stop the rest."""
        for transfer, task in self._tasks.items():
            if not transfer.has_all:
                task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=patience_s)
        if self._aside:
            await asyncio.wait(list(self._aside), timeout=patience_s)


class Follower:
    """What is seen of another process's transfer.

    That process may begin again at byte 0, in another file; so may the next one. Each beginning has
    a mark of its own in the state, and a view is taken only of a file that certainly is the
    state's.

    Raises:
        StoreError: from every method.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._raw = b""
        self._size = 0
        self.view: PartialFile | None = None
        """The file of :attr:`state`; open as long as somebody may read from it."""
        self.state: TransferState | None = None

    def look(self) -> bool:
        """Look again; ``True`` when there is more to see, or something else."""
        here = self.view or self._store.open_partial(self._name)
        raw = here.state() or b""
        if not raw or raw == self._raw:
            size = self.view.size() if self.view is not None else 0
            grown, self._size = size != self._size, size
            return grown
        # View the file of this state: the one that lies there before and after it was read.
        state = TransferState.from_bytes(raw)
        view = self._store.open_partial(self._name)
        size = view.size()
        if state is None or not size or view.state() != raw or not view.is_current():
            view.close()
            return False  # it is just being begun, or replaced: it will be there at the next look
        self.view, self.state, self._raw, self._size = view, state, raw, size
        return True
