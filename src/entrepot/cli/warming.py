"""What ``warm`` does: pip downloads, solvers answer and archives are fetched through one proxy."""

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
from entrepot.tools.conda.entry import load_json
from entrepot.tools.conda.environments import package_folders
from entrepot.tools.conda.warming import Environment, Wanted
from entrepot.tools.pip.warming import NO_CACHE, Item, Order, pin_of, reason, sdist_words
from entrepot.urls import authority_of

if TYPE_CHECKING:
    from entrepot.cli.context import Context
    from entrepot.httpcache.messages import ResponseHead
    from entrepot.lockfiles import Known
    from entrepot.ports.catalogue import Catalogue
    from entrepot.ports.client_setup import ProxyAddress
    from entrepot.run.child import Child, Running
    from entrepot.serving.known_files import KnownFiles
    from entrepot.serving.lookup import Entries
    from entrepot.serving.response import Handler

PACE_S = 0.2
"""Seconds between two times that pip's progress is shown."""

AT_ONCE = 8
"""Archives fetched side by side: as many as conda's own tools do, between 5 and 50."""

TRIES = 4
"""Requests for one archive that is cut off each time: what is wrong with it is told before."""

NOT_KEPT = (
    "fetched, but not kept: the store cannot be written, or is capped below what was asked for"
)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one item."""

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
            if path.is_file() and warming.sort_of(path) == "explicit":
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


class Warming(Session):
    """A session that fetches: first what pip is asked for, then what conda's files name.

    pip and the solvers are its children; archives it fetches itself, behind its own proxy.

    Args:
        context: settings and surroundings.
        pip: the words that start pip.
        order: what pip is to fetch.
        conda: what is to be fetched of conda's kind.
        folder: a private directory that goes afterwards.

    Raises:
        UsageError: something must be solved, and nothing can.
    """

    def __init__(
        self,
        context: Context,
        pip: Sequence[str],
        order: Order,
        conda: CondaOrder,
        folder: Path,
    ) -> None:
        self._solver: warming.Solver | None = None
        if any(each.specs for each in conda.environments):
            has_rattler = importlib.util.find_spec("rattler") is not None
            self._solver = warming.solver(context.around, has_rattler=has_rattler)
        self._pip, self._order, self._items = pip, order, order.items()
        self._conda, self._folder = conda, folder
        self._files, self._sources = folder / "files", folder / "sources"
        argv = [self._solver.program if self._solver else "entrepot"]
        if self._items:
            argv = order.words(pip, self._files)
        super().__init__(context, argv, RunOptions(hosts=conda.hosts))
        self.results: list[Result] = []
        self.without_sdist: list[str] = []
        """What came as a wheel and has no source archive, though these were asked for."""
        self.interrupted = False
        self._proxy: ProxyAddress | None = None
        self._handle: Handler | None = None
        self._known: KnownFiles | None = None
        self._child: Child | None = None
        self._fetched: dict[int, str] = {}
        """The URL of each result that the session has fetched itself."""

    @property
    def files(self) -> list[str]:
        """Names of all files that are ready."""
        archives = {self.results[number].filename for number in self._fetched}
        return sorted({name for name in archives if name} | self._downloaded())

    # -- the session -------------------------------------------------------------------------------

    def start(self, proxy: ProxyAddress) -> Running:
        """Nothing yet: the work is done once the proxy is served."""
        self._proxy = proxy
        return self

    def behind(self, handle: Handler) -> None:
        """See :class:`Session`."""
        self._handle = handle

    def facts(self, catalogue: Catalogue) -> KnownFiles:
        """See :class:`Session`."""
        self._known = super().facts(catalogue)
        return self._known

    async def landed(self, entries: Entries) -> None:
        """Take back what is not true by now.

        A store may refuse what was fetched, or evict it for what came later.
        """
        for number, url in list(self._fetched.items()):
            if not any(head.response.head.status == 200 for head in await entries.load(url)):
                del self._fetched[number]
                self.results[number] = replace(
                    self.results[number], status="failed", filename=None, why=NOT_KEPT
                )

    def finish(self, status: int) -> None:
        """Nothing: the command says it, item by item."""

    async def wait(self) -> int:
        """Download, solve, then fetch; as a :class:`~entrepot.run.child.Running`."""
        if self._items:
            await self._download()
        wanted = list(self._conda.items)
        for number, each in enumerate(self._conda.environments):
            for platform in self._conda.platforms if each.specs else ():
                if not self.interrupted:
                    folder = self._folder / f"{number}-{platform}"
                    wanted += map(Wanted, await self._solved(each, platform, folder))
        if wanted and not self.interrupted:
            await self._fetch_all(wanted)
        return 0

    def stop(self) -> None:
        """See :class:`~entrepot.run.child.Running`."""
        if self._child is not None:
            self._child.stop()

    async def _run(
        self, argv: Sequence[str], environ: Mapping[str, str], folder: Path, *, split: bool = False
    ) -> tuple[int, str, str]:
        """Run a command behind the proxy: its status, its answer, and what it said of it.

        Args:
            argv: the command.
            environ: variables on top of those that lead it to the proxy.
            folder: for its output.
            split: its standard output is its answer, and no part of what it says.
        """
        from entrepot.run.child import CannotStart, Child

        assert self._proxy is not None
        words, led = self.pointed_at(self._proxy, argv)
        with (folder / "answer").open("wb") as answer, (folder / "log").open("wb") as log:
            # with -v all of it goes to stderr: stdout is for the command's own answer
            errors = 2 if self._context.out.verbose else log.fileno()
            output = answer.fileno() if split else errors
            try:
                self._child = Child(words, {**led, **environ}, output=output, errors=errors)
            except CannotStart as exc:
                return 1, "", exc.message
            status = await self._child.wait()
        if status >= 128:  # ended by a signal: the user wants it to stop
            self.interrupted = True
        answered, logged = (
            (folder / name).read_text("utf-8", "replace") for name in ("answer", "log")
        )
        return status, answered, logged

    # -- pip ---------------------------------------------------------------------------------------

    async def _download(self) -> None:
        """One pip for everything, and when that fails one for each item."""
        out = self._context.out
        meter = out.meter()

        async def show_progress() -> None:
            while not out.verbose:  # then pip tells enough
                await asyncio.sleep(PACE_S)
                meter(self.stats.bytes_downloaded, None, "bytes")

        shown = asyncio.create_task(show_progress())
        try:
            status, log = await self._run_pip(self._order.words(self._pip, self._files))
            if status == 0:
                self.results = [self._found(item) for item in self._items]
            elif len(self._items) == 1:
                self.results = [self._failed(self._items[0], log)]
            for item in self._items if not self.results else ():
                if self.interrupted:
                    return
                file = self._folder / "item.txt"
                words = self._order.words_alone(self._pip, self._files, item, file)
                status, log = await self._run_pip(words)
                self.results.append(self._found(item) if status == 0 else self._failed(item, log))
                meter.close()
                out.note(f"{self.results[-1].status:<8} {item.text}")
            if self._context.args.with_sdists and not self.interrupted:
                await self._download_sdists()
        finally:
            shown.cancel()
            meter.close()

    async def _run_pip(self, argv: Sequence[str]) -> tuple[int, str]:
        status, _, log = await self._run(argv, NO_CACHE, self._folder)
        return status, log

    async def _download_sdists(self) -> None:
        wheels = {pin_of(name) for name in self._downloaded() if name.endswith(".whl")}
        pins = sorted(pin for pin in wheels if pin)
        if not pins:
            return
        words = sdist_words(self._pip, self._sources, pins, self._order.files)
        status, _ = await self._run_pip(words)
        for pin in pins if status else ():
            if self.interrupted:
                return
            words = sdist_words(self._pip, self._sources, [pin], self._order.files)
            status, _ = await self._run_pip(words)
            if status:
                self.without_sdist.append("==".join(pin))

    def _downloaded(self) -> set[str]:
        folders = (self._files, self._sources)
        return {path.name for each in folders if each.is_dir() for path in each.iterdir()}

    def _found(self, item: Item) -> Result:
        for name in sorted(self._downloaded()):
            pin = pin_of(name)
            if pin and pin[0] == item.project:
                return Result(item.text, "ready", *pin, name)
        named = item.project is not None and ";" in item.text
        return Result(item.text, "not needed" if named else "ready", item.project)

    def _failed(self, item: Item, log: str) -> Result:
        why = reason(log) if log else "pip says why above"
        return Result(item.text, "failed", item.project, why=why)

    # -- conda: solving ----------------------------------------------------------------------------

    async def _solved(self, wanted: Environment, platform: str, folder: Path) -> list[Link]:
        """The archives that a solver chooses; none, and a result that says why, when it fails."""
        assert self._solver is not None
        await asyncio.to_thread(folder.mkdir)
        name = wanted.path.name
        self._context.out.note(f"{self._solver.name} solves {name} for {platform}")
        if len(self._conda.platforms) > 1:
            name = f"{name} ({platform})"
        answer, environ = "", self._solver.environment(platform, folder)
        try:
            for argv in self._solver.commands(wanted, platform, folder):
                status, answer, log = await self._run(argv, environ, folder, split=True)
                if self.interrupted:
                    return []
                if status:
                    raise UsageError(warming.reason(self._solver.name, answer, log))
            return self._solver.links(answer, folder, self._record_of)
        except EntrepotError as exc:
            self.results.append(Result(name, "failed", why=exc.message))
            return []

    def _record_of(self, stem: str) -> dict[str, Any]:
        records = (
            load_json(folder / stem / "info/repodata_record.json")
            for folder in package_folders(self._context.around)
        )
        return next((record for record in records if record.get("url")), {})

    # -- conda: fetching ---------------------------------------------------------------------------

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
                self._fetched[len(self.results)] = link.url
            self.results.append(result)

    async def _fetch(self, item: Wanted) -> Result:
        """Ask behind the proxy as a client would, to the last byte.

        As clients do, it asks again when it was cut off: a client that has part of a file whose
        download starts again gets no other sign.
        """
        link, why = item.link, ""
        text = link.filename or redacted_url(link.url)
        if item.unneeded:
            return Result(text, "not needed", link.project, link.version, why=item.unneeded)
        for _ in range(TRIES):
            try:
                head = await self._drained(link.url)
                why = "" if head.status == 200 else head.reason or f"upstream answers {head.status}"
                break
            except EntrepotError as exc:
                why = exc.message
                if not isinstance(exc, TruncatedBody):
                    break
        if why:
            return Result(text, "failed", link.project, link.version, why=why)
        return Result(text, "ready", link.project, link.version, link.filename)

    async def _drained(self, url: str) -> ResponseHead:
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
        return answer.head


async def _known(links: Sequence[Link]) -> list[Known]:
    from entrepot.lockfiles import Known

    return [Known(tuple(link for link in links if link.digests))]
