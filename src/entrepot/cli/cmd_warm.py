"""Fill the store before it is needed.

Fetch packages, and what builds them, so that a later install works offline.

A real pip downloads them through the proxy of a run, so what is kept is what an install asks for;
archives that conda's lists and locks name are fetched through the same proxy, with their digests
checked. Nothing is installed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.cli.cmd_run import RunOptions, Session
from entrepot.cli.conda_warming import CondaOrder, CondaWarming, Result
from entrepot.cli.output import DONE, FAILED, INTERRUPTED, PARTLY
from entrepot.cli.picking import interpreter
from entrepot.errors import UsageError
from entrepot.tools.conda.warming import is_platform, this_platform
from entrepot.tools.pip.warming import NO_CACHE, Item, Order, pin_of, pip_words, reason, sdist_words

if TYPE_CHECKING:
    from asyncio import Task

    from entrepot.cli.context import Context
    from entrepot.cli.output import Output
    from entrepot.ports.client_setup import ProxyAddress
    from entrepot.run.child import Child, Running
    from entrepot.serving.lookup import Entries
    from entrepot.serving.response import Handler
    from entrepot.serving.run_stats import RunStats

PACE_S = 0.2
"""Seconds between two times that progress is shown."""

Work = Generator[Sequence[str], int, None]
"""Commands to run one after another; told how each ended."""


_FILES = {
    "-r --requirement": "fetch what FILE lists",
    "--env": "fetch what an environment.yml asks for",
    "--explicit": "fetch the archives of an @EXPLICIT list",
    "--lock": "fetch what a conda-lock.yml or pixi.lock names",
    "-f --file": "one of these, told by its content",
}
"""Options that name a file and may be repeated."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``warm``."""
    parser.add_argument(
        "name",
        nargs="*",
        metavar="NAME",
        help="what to fetch, as pip is told: NAME, 'NAME>=2', a URL",
    )
    for flags, text in _FILES.items():
        parser.add_argument(*flags.split(), action="append", default=[], metavar="FILE", help=text)
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="the interpreter whose pip is used, and that it is fetched for",
    )
    parser.add_argument(
        "--platform",
        action="append",
        default=[],
        metavar="TAG",
        help="fetch for that platform: a wheel tag, or conda's linux-64",
    )
    parser.add_argument(
        "--with-sdists",
        action="store_true",
        help="also the source archives of what comes as wheels",
    )


def run(context: Context) -> int:
    """Fetch everything, say what came of each; 3 when some failed, 1 when all did."""
    args = context.args
    with tempfile.TemporaryDirectory(prefix="entrepot-warm-") as name:
        folder = Path(name)
        conda = CondaOrder.of(args, context.around)
        files = (
            *conda.requirements,
            *(Path(file).absolute() for file in conda.pip_section(folder)),
        )
        platforms = tuple(tag for tag in args.platform if not is_platform(tag))
        order = Order(tuple(args.name), files, platforms)
        items = order.items()
        if not items and not conda:
            raise UsageError(
                "warm needs something to fetch",
                hint="entrepot warm -r requirements.txt, or entrepot warm NAME",
            )
        if context.settings.offline:
            raise UsageError(
                "warm asks upstream, and offline is set", hint="entrepot config list --origin"
            )
        warmed = Warmed()
        if items:
            _check_platforms(args.platform, platforms, this_platform(context.around))
            around = replace(context.around, python=interpreter(args.python, context.around))
            warming = Warming(context, order, items, pip_words(around), folder)
            warming.run()
            warmed.add(warming.results, warming.files, warming.tally, warming.without_sdist)
            if warming.interrupted:
                return INTERRUPTED
        if conda:
            fetching = CondaWarming(context, conda, folder)
            fetching.run()
            warmed.add(fetching.results, fetching.files, fetching.tally)
            if fetching.interrupted:
                return INTERRUPTED
        return warmed.conclude(context.out)


def _check_platforms(named: Sequence[str], tags: Sequence[str], here: str) -> None:
    """Refuse names of platforms that only conda understands where pip fetches too.

    Raises:
        UsageError: there are conda's names of other platforms, and no wheel tag for what pip
            fetches.
    """
    others = [name for name in named if name != here]
    if others and not tags:
        raise UsageError(
            f"--platform {others[0]} is for conda; pip needs a wheel's platform tag as well",
            hint="add the tag, for example --platform macosx_11_0_arm64",
        )


@dataclass(slots=True)
class Warmed:
    """The results of all parts of one warming."""

    results: list[Result] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    without_sdist: list[str] = field(default_factory=list)
    tallies: list[RunStats] = field(default_factory=list)

    def add(
        self,
        results: Iterable[Result],
        files: Iterable[str],
        tally: RunStats,
        without_sdist: Iterable[str] = (),
    ) -> None:
        """What one part has done."""
        self.results += results
        self.files += files
        self.without_sdist += without_sdist
        self.tallies.append(tally)

    def conclude(self, out: Output) -> int:
        """Show it; the exit status."""
        columns = ("ITEM", "RESULT", "FILE")
        out.table(columns, [[r.item, r.status, r.filename or r.why or "-"] for r in self.results])
        count = len(self.files)
        lines = "; ".join(tally.last_line(offline=False) for tally in self.tallies)
        out.hint(f"{count} file{'' if count == 1 else 's'} in the store; {lines}")
        for text in self.without_sdist:
            out.warn("no-sdist", f"{text}: no source archive was found")
        for text in dict.fromkeys(text for tally in self.tallies for text in tally.all_warnings()):
            out.warn("run", text, shown=False)
        out.document(
            items=[asdict(result) for result in self.results],
            files=self.files,
            bytes_downloaded=sum(tally.bytes_downloaded for tally in self.tallies),
            bytes_from_cache=sum(tally.bytes_from_cache for tally in self.tallies),
        )
        return self._status(self.results)

    def _status(self, results: Sequence[Result]) -> int:
        failed = sum(result.status == "failed" for result in results)
        if failed and all(result.status != "ready" for result in results):
            return FAILED
        return PARTLY if failed or self.without_sdist else DONE


class Warming(Session):
    """A session with several children: one for everything, and when that fails one for each item.

    Args:
        context: settings and surroundings.
        order: what to fetch.
        items: the same, one by one.
        pip: the words that start pip.
        folder: a private directory that goes afterwards.
    """

    def __init__(
        self,
        context: Context,
        order: Order,
        items: Sequence[Item],
        pip: Sequence[str],
        folder: Path,
    ) -> None:
        super().__init__(context, order.words(pip, folder / "files"), RunOptions())
        self.results: list[Result] = []
        self.without_sdist: list[str] = []
        self.interrupted = False
        self._order, self._items, self._pip, self._folder = order, items, pip, folder
        self._files, self._sources, self._log_file = (
            folder / "files",
            folder / "sources",
            folder / "log",
        )
        self._proxy: ProxyAddress | None = None
        self._work = self._steps()
        self._meter = context.out.meter()
        self._shown: Task[None] | None = None

    @property
    def files(self) -> list[str]:
        """Names of all files that were fetched for the items and their dependencies."""
        folders = (self._files, self._sources)
        return sorted(
            {path.name for folder in folders if folder.is_dir() for path in folder.iterdir()}
        )

    def start(self, proxy: ProxyAddress) -> Running:
        """Start the first child; the others follow it through the same proxy."""
        from entrepot.run.child import Succession

        self._proxy = proxy
        return Succession(self._child(next(self._work)), self._following)

    def behind(self, handle: Handler) -> None:
        """Show how much has come as long as the children are at it.

        With ``-v`` pip tells enough.
        """
        del handle
        import asyncio

        if not self._context.out.verbose:
            self._shown = asyncio.get_running_loop().create_task(self._show_progress())

    async def _show_progress(self) -> None:
        import asyncio

        while True:
            await asyncio.sleep(PACE_S)
            self._meter(self.tally.bytes_downloaded, None, "bytes")

    async def landed(self, entries: Entries) -> None:
        """Nothing more comes."""
        del entries
        if self._shown is not None:
            self._shown.cancel()
        self._meter.close()

    def finish(self, status: int) -> None:
        """Nothing yet: the command says it, item by item."""

    def _following(self, status: int) -> Child | None:
        if status >= 128:  # ended by a signal: the user wants it to stop
            self.interrupted = True
            return None
        try:
            return self._child(self._work.send(status))
        except StopIteration:
            return None

    def _child(self, argv: Sequence[str]) -> Child:
        from entrepot.run.child import Child

        assert self._proxy is not None
        words, led = self.lead(self._proxy, argv)
        environ = {**led, **NO_CACHE}
        if self._context.out.verbose:
            return Child(words, environ, output=2)  # all of it to stderr: stdout is for the answer
        with self._log_file.open("wb") as log:
            return Child(words, environ, output=log.fileno())

    def _steps(self) -> Work:
        status = yield self._order.words(self._pip, self._files)
        if status == 0:
            self.results = [self._found(item) for item in self._items]
        elif len(self._items) == 1:
            self.results = [self._failed(self._items[0])]
        else:
            for item in self._items:
                status = yield self._order.words_alone(
                    self._pip, self._files, item, self._folder / "item.txt"
                )
                self.results.append(self._found(item) if status == 0 else self._failed(item))
                self._meter.close()
                self._context.out.note(f"{self.results[-1].status:<8} {item.text}")
        if self._context.args.with_sdists:
            yield from self._fetch_sdists()

    def _fetch_sdists(self) -> Work:
        wheels = {pin for name in self.files if name.endswith(".whl") and (pin := pin_of(name))}
        pins = sorted(wheels)
        if not pins:
            return
        status = yield sdist_words(self._pip, self._sources, pins, self._order.files)
        for pin in pins if status else ():
            status = yield sdist_words(self._pip, self._sources, [pin], self._order.files)
            if status:
                self.without_sdist.append("==".join(pin))

    def _found(self, item: Item) -> Result:
        for name in self.files:
            pin = pin_of(name)
            if pin and pin[0] == item.project:
                return Result(item.text, "ready", *pin, name)
        named = item.project is not None and ";" in item.text
        return Result(item.text, "not needed" if named else "ready", item.project)

    def _failed(self, item: Item) -> Result:
        log = self._log_file.read_text("utf-8", "replace") if self._log_file.exists() else ""
        return Result(
            item.text, "failed", item.project, why=reason(log) if log else "pip says why above"
        )
