"""Remove what is no longer needed: superseded layouts, left-overs, orphans, expired pages.

On request also what is old or too much.

What goes is shown first, with what the disk gets back and what it costs to get it again. Cleaning
is for space or after damage: it makes no install faster, and it never touches an environment.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from entrepot.caches.inventory import scan_all
from entrepot.caches.records import entry_record, sum_record
from entrepot.caches.removal import (
    Plan,
    Requirement,
    carry_out,
    count_emptied,
    grouped,
    plan_cleaning,
)
from entrepot.cli.context import Context
from entrepot.cli.main import Parser
from entrepot.cli.output import DONE, PARTLY
from entrepot.cli.picking import age, kinds, size
from entrepot.errors import UsageError
from entrepot.ports.tool import Entry, Kind, Removed
from entrepot.sizes import short, show_count, show_size

_DIGITS = 9
"""Of a number of versions."""

REMOVABLE = "superseded layout, stale temporary file, orphan or expired page"
"""What plain ``clean`` looks for."""

_LONG = 40
"""Rows of a plan beyond which the rest is summed up."""


def add_plan_arguments(parser: Parser) -> None:
    """The options of everything that removes."""
    parser.flag("-n", "--dry-run", help="show what would be done and change nothing")
    parser.flag("-y", "--yes", help="do not ask")
    parser.flag("--force", help="also what is fresh or looks in use")


def add_arguments(parser: Parser) -> None:
    """The options of ``clean``."""
    parser.add_argument(
        "--older",
        metavar="AGE",
        help="also what was not used for that long: 36h, 90d, 12w, 6mo, 1y",
    )
    parser.add_argument(
        "--keep-latest", metavar="N", help="also all but the newest N versions of each project"
    )
    parser.add_argument(
        "--to", metavar="SIZE", help="shrink all caches together to SIZE, oldest first"
    )
    parser.flag("--unused", help="also what no environment links to")
    parser.flag("--all", help="everything")
    parser.add_argument(
        "--kind",
        action="append",
        default=[],
        metavar="KIND",
        help=f"limit what goes to one kind: {', '.join(Kind)}",
    )
    add_plan_arguments(parser)


def run(context: Context) -> int:
    """Plan, show, ask, do; nothing to do is exit 0."""
    args, meter = context.args, context.out.meter()
    wanted = Requirement(
        everything=args.all,
        older_s=age(args.older),
        unused=args.unused,
        keep_latest=None if args.keep_latest is None else _versions(args.keep_latest),
        to_bytes=size(args.to),
        force=args.force,
        kinds=kinds(args.kind),
    )
    by_use = wanted.older_s is not None or wanted.to_bytes is not None
    entries = list(
        scan_all(
            context.tools, context.around, progress=meter, complain=context.complain, anew=by_use
        )
    )
    meter.close()
    plan = plan_cleaning(entries, wanted, now=context.now)
    if wanted.to_bytes is not None and plan.left is not None and plan.left > wanted.to_bytes:
        left, most = show_size(plan.left), show_size(wanted.to_bytes)
        text = f"{left} would be left, more than the {most} of --to"
        context.out.warn("target-not-reached", f"{text}: nothing more may go that frees space")
    if not plan.going and not plan.staying:
        context.out.line(f"Nothing to clean: no {REMOVABLE}{_also(context.args)}.")
        document(context, plan)
        return DONE
    return conclude(context, plan)


def _also(args: argparse.Namespace) -> str:
    """The options that ask for more than what is removable of itself, as they were given."""
    asked = [f"--{name}" for name in ("all", "unused") if getattr(args, name)]
    given = {"--older": args.older, "--keep-latest": args.keep_latest, "--to": args.to}
    asked += [f"{option} {value}" for option, value in given.items() if value is not None]
    return f", and nothing for {' '.join(asked)}" if asked else ""


def _versions(text: str) -> int:
    """Versions to keep. 0 would be all of them gone, which has a name of its own.

    Raises:
        UsageError: no number, or none that means something.
    """
    number = text.strip()
    if (
        not number.isascii()
        or not number.isdigit()
        or not number.strip("0")
        or len(number) > _DIGITS
    ):
        raise UsageError(
            f"--keep-latest wants a number of versions, 1 or more, not {short(text)!r}",
            hint="entrepot clean --keep-latest 2",
        )
    return int(number)


def conclude(context: Context, plan: Plan, *, every: bool = False) -> int:
    """Show a plan, ask, carry it out and say what came of it.

    Args:
        context: the invocation.
        plan: what goes.
        every: whether what stays because it is blocked counts as not done: it was named, not only
            met by a rule.

    Returns:
        0 when it was done, 3 when something that was to go had to stay.

    Raises:
        UsageError: there is nobody to ask and no ``--yes``.
    """
    out, args = context.out, context.args
    meter = out.meter()
    count_emptied(plan, context.tools, meter)
    meter.close()
    dry_run: bool = args.dry_run
    if out.as_json:
        sure = args.yes or context.settings.yes
        if not dry_run and not sure:
            raise UsageError(
                "this needs a confirmation, and JSON leaves no room for a question",
                hint="add --yes, or --dry-run to look only",
            )
    else:
        show_plan(context, plan, conditional=dry_run)
    if dry_run or not plan.going:
        why = "this was a dry run. Run without --dry-run to do it"
        if not plan.going:
            can_be_forced = any(entry.is_removable(force=True) for entry, _ in plan.staying)
            force = "; --force removes what is fresh" if can_be_forced else ""
            why = f"all of it is kept{force}"
        out.hint(f"Nothing changed: {why}.")
        document(context, plan)
        return DONE if dry_run else _outcome(plan.staying, every=every)
    if not (args.yes or context.settings.yes or out.confirm("Continue?")):
        out.note("Nothing changed: not confirmed.")
        return DONE
    meter = out.meter()
    try:
        results = carry_out(plan, context.tools, context.around, force=args.force, progress=meter)
    except KeyboardInterrupt:
        meter.close()
        out.say("\nInterrupted: what was removed before that is gone, the rest is as it was.")
        raise
    meter.close()
    kept = [pair for result in results.values() for pair in result.kept]
    for entry, reason in kept[:_LONG]:
        out.note(f"kept {entry.filename or entry.project or entry.key} ({entry.tool}): {reason}")
    if len(kept) > _LONG:
        out.note(f"and {show_count(len(kept) - _LONG)} more")
    freed, files = sum(r.freed for r in results.values()), sum(r.files for r in results.values())
    out.line(f"Freed {show_size(freed)} ({show_count(files)} file{'' if files == 1 else 's'})")
    document(context, plan, results.values())
    return _outcome([*plan.staying, *kept], every=every)


def _outcome(staying: Iterable[tuple[Entry, str]], *, every: bool) -> int:
    """3 when what was to go had to stay: anything that was named.

    Of what a rule chose only what may not be removed by us.
    """
    return PARTLY if any(every or not entry.is_permitted() for entry, _ in staying) else DONE


def document(context: Context, plan: Plan, results: Iterable[Removed] = ()) -> None:
    """The JSON of a plan, or of what came of it (docs/reference/json.md)."""
    out = context.out
    if not out.as_json:
        return
    if context.args.dry_run:
        out.document(
            dry_run=True,
            freed=plan.freed,
            left=plan.left,
            download=plan.download,
            builds=plan.builds,
            groups=[
                {"tool": tool, "reason": reason, **sum_record(total)}
                for tool, reason, total in plan.groups()
            ],
            going=[_verdict(entry, reason) for entry, reason in plan.going],
            staying=[_verdict(entry, reason) for entry, reason in plan.staying],
        )
        return
    done = list(results)
    out.document(
        dry_run=False,
        freed=sum(r.freed for r in done),
        files=sum(r.files for r in done),
        removed=[entry_record(entry) for r in done for entry in r.entries],
        staying=[
            _verdict(e, why) for e, why in [*plan.staying, *(pair for r in done for pair in r.kept)]
        ],
    )


def show_plan(context: Context, plan: Plan, *, conditional: bool) -> None:
    """Print what goes, what stays, what it gives and what it costs."""
    out = context.out
    places: dict[str, set[Path]] = {}
    for entry, _ in [*plan.going, *plan.staying]:
        places.setdefault(entry.tool, set()).add(entry.place)

    def placed(entry: Entry, reason: str) -> tuple[Entry, str]:
        """With the place too, where a tool has several in the plan."""
        if len(places[entry.tool]) == 1:
            return entry, reason
        return entry, f"{reason}, in {out.place(entry.place, context.around.home)}"

    most = None if out.verbose else _LONG
    parts = [
        (f"{'Would' if conditional else 'To'} {verb}", grouped(placed(*pair) for pair in pairs))
        for verb, pairs in (("remove", plan.going), ("keep", plan.staying))
    ]
    shown = [group for _, groups in parts for group in groups[:most]]
    tools = max((len(tool) for tool, _, _ in shown), default=0)
    reasons = max((len(reason) for _, reason, _ in shown), default=0)
    for title, groups in parts:
        if groups:
            out.line(title)
        for tool, reason, total in groups[:most]:
            files = f"{show_count(total.files)} file{'' if total.files == 1 else 's'}"
            size = show_size(total.disk)
            out.line(f"  {tool:<{tools}}  {reason:<{reasons}}  {files:>14}  {size:>8}")
        rest = [total.disk for _, _, total in groups[most or len(groups) :]]
        if rest:
            out.line(f"  and {len(rest)} more ({show_size(sum(rest))}); -v shows all")
    if not plan.going:
        return
    cost = [f"{show_size(plan.download)} download"] if plan.download else []
    if plan.builds:
        cost.append(f"{plan.builds} wheel{'' if plan.builds == 1 else 's'} to build")
    back = f" To get it back: {', '.join(cost)}." if cost else ""
    left = f" {show_size(plan.left)} stays in the caches." if plan.left is not None else ""
    out.line(f"Frees {show_size(plan.freed)}.{left}{back}")
    if any(entry.kind is Kind.UNPACKED for entry, _ in plan.going):
        out.hint("No environment is touched: its files stay, as links or copies of its own.")


def _verdict(entry: Entry, reason: str) -> dict[str, object]:
    return {"entry": entry_record(entry), "reason": reason}
