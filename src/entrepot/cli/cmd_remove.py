"""Remove what matches a pattern, from every tool's cache, downloads included.

A pattern is a NAME, 'NAME==1.*', 'NAME>=2,<3', a glob over names, or a file name. What goes is
shown first.
"""

from __future__ import annotations

from entrepot.caches.inventory import scan_all
from entrepot.caches.removal import plan_removal
from entrepot.caches.selection import without_match
from entrepot.cli.cmd_clean import add_plan_arguments, conclude, document
from entrepot.cli.context import Context
from entrepot.cli.main import Parser
from entrepot.cli.output import DONE, FAILED
from entrepot.cli.picking import add_filter_arguments, described, make_filter


def add_arguments(parser: Parser) -> None:
    """The options of ``remove``."""
    parser.add_argument("pattern", nargs="+", metavar="PATTERN", help="what to remove")
    add_filter_arguments(parser)
    add_plan_arguments(parser)
    parser.flag("--ignore-missing", help="exit 0 also when nothing matches")


def run(context: Context) -> int:
    """Plan, show, ask, do; exit 1 when nothing matches, 3 when something that does had to stay."""
    wanted = make_filter(context.args)
    meter = context.out.meter()
    entries = list(
        scan_all(
            context.tools,
            context.around,
            names=wanted.names(),
            progress=meter,
            complain=context.complain,
        )
    )
    meter.close()
    plan = plan_removal(entries, wanted, now=context.now, force=context.args.force)
    if not plan.going and not plan.staying:
        context.nothing_found(f"no entry matches {described(context.args)}")
        document(context, plan)
        return DONE if context.args.ignore_missing else FAILED
    for pattern in without_match(
        wanted.patterns, [*plan.entries, *(entry for entry, _ in plan.staying)]
    ):
        context.nothing_found(f"no entry matches {pattern}")
    return conclude(context, plan, every=True)
