"""The conda part of ``warm``.

What lists and locks name, and what a solver finds for environment files, through the proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrepot import __version__
from entrepot.cli.cmd_run import RunOptions, Session
from entrepot.errors import EntrepotError, TruncatedBody, UsageError
from entrepot.links import Link
from entrepot.ports.tool import Surroundings
from entrepot.redaction import redacted_url
from entrepot.tools.conda import warming
from entrepot.tools.conda.environments import load_json
from entrepot.tools.conda.registered_environments import package_folders
from entrepot.tools.conda.solving import Solver, reason, solver
from entrepot.tools.conda.warming import Environment, Wanted
from entrepot.urls import authority_of

if TYPE_CHECKING:
    from entrepot.cli.context import Context
    from entrepot.lockfiles import Known
    from entrepot.ports.catalogue import Catalogue
    from entrepot.ports.client_setup import ProxyAddress
    from entrepot.run.child import Child, Running
    from entrepot.serving.known_files import KnownFiles
    from entrepot.serving.lookup import Entries
    from entrepot.serving.response import Handler

AT_ONCE = 8
"""Archives fetched side by side: as many as conda's own tools do, between 5 and 50."""

TRIES = 4
"""Requests for one archive that is cut off each time: what is wrong with it is told before."""

NOT_KEPT = (
    "fetched, but not kept: the store cannot be written, or is capped below what was asked for"
)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one item, of pip's or conda's kind."""

    item: str
    status: str
    """``ready``, ``failed`` or ``not needed`` (its marker or its platform excludes it here)."""
    project: str | None = None
    version: str | None = None
    filename: str | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class CondaOrder:
    """What the command line asks for of conda's kind."""

    items: tuple[Wanted, ...] = ()
    environments: tuple[Environment, ...] = ()
    platforms: tuple[str, ...] = ()
    """That environment files are solved for."""
    requirements: tuple[Path, ...] = ()
    """Files that were given with ``-r`` and are pip's."""

    @classmethod
    def of(cls, args: argparse.Namespace, around: Surroundings) -> CondaOrder:
        """Read the files that the options name.

        Raises:
            UsageError: one cannot be read, or is not what it should be.
        """
        files = {"env": list(args.env), "explicit": list(args.explicit), "lock": list(args.lock)}
        requirements: list[Path] = []
        for name in args.requirement:
            path = Path(name)
            is_explicit = path.is_file() and warming.sort_of(path) == "explicit"
            if is_explicit:
                files["explicit"].append(name)
            else:
                requirements.append(path)
        for name in args.file:
            sort = warming.sort_of(Path(name))
            if not sort:
                raise UsageError(
                    f"{name} is no environment file, explicit list or lock",
                    hint=f"entrepot warm -r {name}",
                )
            files[sort].append(name)
        named = [word for word in args.platform if warming.is_platform(word)]
        platforms = named or [warming.this_platform(around)]
        items = [
            item for name in files["explicit"] for item in warming.explicit_items(Path(name), named)
        ]
        items += [
            item for name in files["lock"] for item in warming.locked_items(Path(name), platforms)
        ]
        environments = [warming.environment(Path(name).absolute(), around) for name in files["env"]]
        return cls(
            tuple(items),
            tuple(environments),
            tuple(platforms),
            tuple(path.absolute() for path in requirements),
        )

    def __bool__(self) -> bool:
        """Whether there is anything for conda."""
        return bool(self.items) or any(each.specs for each in self.environments)

    def pip_section(self, folder: Path) -> list[Path]:
        """A requirement file of what the ``pip:`` sections list; none when they list nothing."""
        found = []
        for number, each in enumerate(self.environments):
            if each.pip:
                found.append(folder / f"pip-{number}.txt")
                found[-1].write_text("".join(f"{line}\n" for line in each.pip), encoding="utf-8")
        return found

    @property
    def hosts(self) -> tuple[str, ...]:
        """``HOST:PORT`` of everything that is named by its URL."""
        urls = [
            *(item.link.url for item in self.items),
            *(c for each in self.environments for c in each.channels if "://" in c),
        ]
        return tuple(dict.fromkeys(authority for url in urls if (authority := authority_of(url))))


class CondaWarming(Session):
    """A session that fetches through its own proxy.

    Environment files are solved first, by children that are pointed at it.

    Args:
        context: settings and surroundings.
        order: what to fetch.
        folder: a private directory that goes afterwards.

    Raises:
        UsageError: something must be solved, and nothing can.
    """

    def __init__(self, context: Context, order: CondaOrder, folder: Path) -> None:
        self._solver: Solver | None = None
        if any(each.specs for each in order.environments):
            self._solver = solver(
                context.around, has_rattler=importlib.util.find_spec("rattler") is not None
            )
        program = self._solver.program if self._solver else "entrepot"
        super().__init__(context, [program], RunOptions(hosts=order.hosts))
        self.results: list[Result] = []
        self.interrupted = False
        self._order, self._folder = order, folder
        self._proxy: ProxyAddress | None = None
        self._handle: Handler | None = None
        self._ready: dict[int, str] = {}
        self._known: KnownFiles | None = None
        self._child: Child | None = None

    @property
    def files(self) -> list[str]:
        """Names of all files that are ready."""
        return sorted({r.filename for r in self.results if r.status == "ready" and r.filename})

    def start(self, proxy: ProxyAddress) -> Running:
        """Nothing yet: the work is done once the proxy is served."""
        self._proxy = proxy
        return self

    def behind(self, handle: Handler) -> None:
        """See :class:`Session`."""
        self._handle = handle

    async def landed(self, entries: Entries) -> None:
        """Take back what is not true by now.

        A store may refuse what was fetched, or evict it for what came later.
        """
        for number, result in enumerate(self.results):
            url = self._ready.get(number)
            if url and not any(
                head.response.head.status == 200 for head in await entries.load(url)
            ):
                self.results[number] = replace(result, status="failed", filename=None, why=NOT_KEPT)

    def facts(self, catalogue: Catalogue) -> KnownFiles:
        """See :class:`Session`."""
        self._known = super().facts(catalogue)
        return self._known

    def finish(self, status: int) -> None:
        """Nothing: the command says it, item by item."""

    async def wait(self) -> int:
        """Solve, then fetch; as a :class:`~entrepot.run.child.Running`."""
        wanted = list(self._order.items)
        for number, each in enumerate(self._order.environments):
            for platform in self._order.platforms if each.specs else ():
                wanted += [
                    Wanted(link)
                    for link in await self._solved(
                        each, platform, self._folder / f"{number}-{platform}"
                    )
                ]
        if not self.interrupted:
            await self._fetch_all(wanted)
        return 0

    def stop(self) -> None:
        """See :class:`~entrepot.run.child.Running`."""
        if self._child is not None:
            self._child.stop()

    # solving

    async def _solved(self, wanted: Environment, platform: str, folder: Path) -> list[Link]:
        assert self._solver is not None
        await asyncio.to_thread(folder.mkdir)
        self._context.out.note(f"{self._solver.name} solves {wanted.path.name} for {platform}")
        name = (
            wanted.path.name
            if len(self._order.platforms) == 1
            else f"{wanted.path.name} ({platform})"
        )
        answer = ""
        for argv in self._solver.commands(wanted, platform, folder):
            status, answer, log = await self._run_child(
                argv, self._solver.environment(platform, folder), folder
            )
            if status >= 128:  # ended by a signal: the user wants it to stop
                self.interrupted = True
                return []
            if status:
                self.results.append(
                    Result(name, "failed", why=reason(self._solver.name, answer, log))
                )
                return []
        try:
            return self._solver.links(answer, folder, self._record_of)
        except EntrepotError as exc:
            self.results.append(Result(name, "failed", why=exc.message))
            return []

    async def _run_child(
        self, argv: Sequence[str], environ: Mapping[str, str], folder: Path
    ) -> tuple[int, str, str]:
        from entrepot.run.child import CannotStart, Child

        assert self._proxy is not None
        words, led = self.pointed_at(self._proxy, argv)
        with (folder / "answer").open("wb") as answer, (folder / "log").open("wb") as log:
            errors = 2 if self._context.out.verbose else log.fileno()
            try:
                self._child = Child(
                    words, {**led, **environ}, output=answer.fileno(), errors=errors
                )
            except CannotStart as exc:
                return 1, "", exc.message
            status = await self._child.wait()
        answered, logged = (
            (folder / name).read_text("utf-8", "replace") for name in ("answer", "log")
        )
        return status, answered, logged

    def _record_of(self, stem: str) -> dict[str, Any]:
        records = (
            load_json(folder / stem / "info/repodata_record.json")
            for folder in package_folders(self._context.around)
        )
        return next((record for record in records if record.get("url")), {})

    # fetching

    async def _fetch_all(self, wanted: Iterable[Wanted]) -> None:
        assert self._known is not None
        each_once = {
            item.link.url: item for item in sorted(wanted, key=lambda item: not item.unneeded)
        }
        links = [item.link for item in each_once.values()]
        self._known.learn_beforehand(_known(links))
        turns = asyncio.Semaphore(AT_ONCE)
        meter, done = self._context.out.meter(), 0

        async def fetched(item: Wanted) -> Result:
            nonlocal done
            async with turns:
                result = await self._fetch(item)
            done += 1
            meter(done, len(links), "archives")
            return result

        results = await asyncio.gather(*(fetched(item) for item in each_once.values()))
        meter.close()
        for result, link in zip(results, links, strict=True):
            if result.status == "ready":
                self._ready[len(self.results)] = link.url
            self.results.append(result)

    async def _fetch(self, item: Wanted) -> Result:
        link = item.link
        text = link.filename or redacted_url(link.url)
        if item.unneeded:
            return Result(text, "not needed", link.project, link.version, why=item.unneeded)
        why = await self._drained(link.url)
        if why:
            return Result(text, "failed", link.project, link.version, why=why)
        return Result(text, "ready", link.project, link.version, link.filename)

    async def _drained(self, url: str) -> str:
        """Ask behind the proxy as a client would, to the last byte.

        Why it failed, empty when it did not.

        As clients do, it asks again when it was cut off: a client that has part of a file whose
        download starts again gets no other sign.
        """
        why = ""
        for _ in range(TRIES):
            try:
                return await self._asked(url)
            except TruncatedBody as exc:
                why = exc.message
            except EntrepotError as exc:
                return exc.message
        return why

    async def _asked(self, url: str) -> str:
        from entrepot.httpcache.messages import Headers, RequestHead
        from entrepot.serving.response import Request

        assert self._handle is not None
        fields = Headers([("User-Agent", f"entrepot/{__version__}"), ("Accept", "*/*")])
        answer = await self._handle(Request(RequestHead("GET", url, fields)))
        try:
            async for _ in answer.body.chunks():
                pass
        finally:
            await answer.body.aclose()
        status = answer.head.status
        return "" if status == 200 else answer.head.reason or f"upstream answers {status}"


async def _known(links: Sequence[Link]) -> list[Known]:
    from entrepot.lockfiles import Known

    return [Known(tuple(link for link in links if link.digests))]
