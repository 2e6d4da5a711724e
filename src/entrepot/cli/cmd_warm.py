"""Fill the store before it is needed.

Fetch packages, and what builds them, so that a later install works offline.

A real pip downloads them through the proxy of a run, so what is kept is what an install asks for;
archives that conda's lists and locks name are fetched through the same proxy, with their digests
checked. Nothing is installed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.cli.output import DONE, FAILED, INTERRUPTED, PARTLY
from entrepot.cli.picking import interpreter
from entrepot.cli.warming import CondaOrder, Warming
from entrepot.errors import UsageError
from entrepot.tools.conda.warming import is_platform, this_platform
from entrepot.tools.pip.warming import Order, pip_words

if TYPE_CHECKING:
    from entrepot.cli.context import Context
    from entrepot.cli.output import Output

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
        pip: list[str] = []
        if items:
            _check_platforms(args.platform, platforms, this_platform(context.around))
            around = replace(context.around, python=interpreter(args.python, context.around))
            pip = pip_words(around)
        warming = Warming(context, pip, order, conda, folder)
        warming.run()
        return INTERRUPTED if warming.interrupted else _conclude(warming, context.out)


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


def _conclude(warming: Warming, out: Output) -> int:
    """Show what came of it; the exit status."""
    results, files, stats = warming.results, warming.files, warming.stats
    columns = ("ITEM", "RESULT", "FILE")
    out.table(columns, [[r.item, r.status, r.filename or r.why or "-"] for r in results])
    count = len(files)
    line = stats.last_line(offline=False)
    out.hint(f"{count} file{'' if count == 1 else 's'} in the store; {line}")
    for text in warming.without_sdist:
        out.warn("no-sdist", f"{text}: no source archive was found")
    for text in dict.fromkeys(stats.all_warnings()):
        out.warn("run", text, shown=False)
    out.document(
        items=[asdict(result) for result in results],
        files=files,
        bytes_downloaded=stats.bytes_downloaded,
        bytes_from_cache=stats.bytes_from_cache,
    )
    failed = any(result.status == "failed" for result in results)
    if failed and all(result.status != "ready" for result in results):
        return FAILED
    return PARTLY if failed or warming.without_sdist else DONE
