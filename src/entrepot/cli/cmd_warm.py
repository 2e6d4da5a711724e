"""Fill the store before it is needed: fetch packages, and what builds them, so that a later install works offline.

A real pip downloads them through the door of a run, so what is kept is what an install asks for. Nothing is installed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.cli.cmd_run import Session, Wishes
from entrepot.cli.output import DONE, FAILED, INTERRUPTED, PARTLY, Align
from entrepot.errors import UsageError
from entrepot.tools.pip.warming import NO_CACHE, Item, Order, pin_of, pip_words, reason, sdist_words

if TYPE_CHECKING:
    from entrepot.cli.context import Context
    from entrepot.ports.guide import Door
    from entrepot.server.child import Child, Running

Work = Generator[Sequence[str], int, None]
"""Commands to run one after another; told how each ended."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``warm``."""
    parser.add_argument("name", nargs="*", metavar="NAME", help="what to fetch, as pip is told: NAME, 'NAME>=2', a URL")
    parser.add_argument("-r", "--requirement", action="append", default=[], metavar="FILE", help="fetch what FILE lists")
    parser.add_argument("--python", metavar="PATH", help="the interpreter whose pip is used, and that it is fetched for")
    parser.add_argument("--platform", action="append", default=[], metavar="TAG", help="fetch wheels for that platform")
    parser.add_argument("--with-sdists", action="store_true", help="also the source archives of what comes as wheels")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one item."""

    text: str
    status: str
    """``ready``, ``failed`` or ``not needed`` (its marker excludes it here)."""
    project: str | None = None
    version: str | None = None
    filename: str | None = None
    why: str = ""


def run(context: Context) -> int:
    """Fetch everything, say what came of each; 3 when some failed, 1 when all did."""
    args = context.args
    order = Order(tuple(args.name), tuple(Path(file).absolute() for file in args.requirement), tuple(args.platform))
    items = order.items()
    if not items:
        raise UsageError("warm needs something to fetch", hint="entrepot warm -r requirements.txt, or entrepot warm NAME")
    if context.settings.offline:
        raise UsageError("warm asks upstream, and offline is set", hint="entrepot config list --origin")
    around = replace(context.around, python=Path(args.python)) if args.python else context.around
    with tempfile.TemporaryDirectory(prefix="entrepot-warm-") as folder:
        warming = Warming(context, order, items, pip_words(around), Path(folder))
        warming.run()
        return INTERRUPTED if warming.interrupted else _conclude(context, warming)


class Warming(Session):
    """A session with several children: one for everything, and when that fails one for each item.

    Args:
        context: settings and surroundings.
        order: what to fetch.
        items: the same, one by one.
        pip: the words that start pip.
        folder: a private directory that goes afterwards.
    """

    def __init__(self, context: Context, order: Order, items: Sequence[Item], pip: Sequence[str], folder: Path) -> None:
        super().__init__(context, order.words(pip, folder / "files"), Wishes())
        self.results: list[Result] = []
        self.without_sdist: list[str] = []
        self.interrupted = False
        self._order, self._items, self._pip, self._folder = order, items, pip, folder
        self._files, self._sources, self._log_file = folder / "files", folder / "sources", folder / "log"
        self._door: Door | None = None
        self._work = self._steps()

    @property
    def files(self) -> list[str]:
        """Names of all files that were fetched for the items and their dependencies."""
        folders = (self._files, self._sources)
        return sorted({path.name for folder in folders if folder.is_dir() for path in folder.iterdir()})

    def start(self, door: Door) -> Running:
        """Start the first child; the others follow it through the same door."""
        from entrepot.server.child import Succession

        self._door = door
        return Succession(self._child(next(self._work)), self._following)

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
        from entrepot.server.child import Child

        assert self._door is not None
        words, led = self.lead(self._door, argv)
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
                status = yield self._order.words_alone(self._pip, self._files, item, self._folder / "item.txt")
                self.results.append(self._found(item) if status == 0 else self._failed(item))
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
        return Result(item.text, "failed", item.project, why=reason(log) if log else "pip says why above")


def _conclude(context: Context, warming: Warming) -> int:
    out, results, tally = context.out, warming.results, warming.tally
    columns: tuple[tuple[str, Align], ...] = (("ITEM", "<"), ("RESULT", "<"), ("FILE", "<"))
    out.table(columns, [[r.text, r.status, r.filename or r.why or "-"] for r in results])
    files = len(warming.files)
    out.hint(f"{files} file{'' if files == 1 else 's'} in the store; {tally.last_line(offline=False)}")
    for text in warming.without_sdist:
        out.warn("no-sdist", f"{text}: its source archive cannot be had")
    for text in tally.warnings:
        out.warn("run", text, shown=False)
    out.document(
        items=[
            {"item": r.text, "status": r.status, "project": r.project, "version": r.version, "filename": r.filename, "why": r.why}
            for r in results
        ],
        files=warming.files,
        bytes_downloaded=tally.bytes_downloaded,
        bytes_from_cache=tally.bytes_from_cache,
    )
    failed = sum(r.status == "failed" for r in results)
    if failed == len(results):
        return FAILED
    return PARTLY if failed or warming.without_sdist else DONE
