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
from entrepot.cli.output import DONE, PARTLY
from entrepot.cli.picking import age, kinds, size
from entrepot.errors import UsageError
from entrepot.ports.tool import Entry, Kind, Removed, Sum
from entrepot.sizes import short, show_count, show_size

_DIGITS = 9
"""Of a number of versions."""

LITTER = "superseded layout, stale temporary file, orphan or expired page"
"""What plain ``clean`` looks for."""

_LONG = 40
"""Rows of a plan beyond which the rest is summed up."""


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of everything that removes."""
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="show what would be done and change nothing"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument("--force", action="store_true", help="also what is fresh or looks in use")


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument("--unused", action="store_true", help="also what no environment links to")
    parser.add_argument("--all", action="store_true", help="everything")
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
    wanted = _requirement(context.args)
    meter = context.out.meter()
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
        context.out.line(f"Nothing to clean: no {LITTER}{_also(context.args)}.")
        document(context, plan)
        return DONE
    return conclude(context, plan)


def _requirement(args: argparse.Namespace) -> Requirement:
    return Requirement(
        everything=args.all,
        older_s=age(args.older),
        unused=args.unused,
        keep_latest=None if args.keep_latest is None else _versions(args.keep_latest),
        to_bytes=size(args.to),
        force=args.force,
        kinds=kinds(args.kind),
    )


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
    if dry_run:
        out.hint(
            "Nothing changed: this was a dry run. Run without --dry-run to do it."
            if plan.going
            else _all_kept(plan)
        )
        document(context, plan)
        return DONE
    if not plan.going:
        out.hint(_all_kept(plan))
        document(context, plan)
        return _outcome(plan.staying, every=every)
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


def _all_kept(plan: Plan) -> str:
    force = any(entry.is_removable(force=True) for entry, _ in plan.staying)
    return (
        f"Nothing changed: all of it is kept{'; --force removes what is fresh' if force else ''}."
    )


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
        out.document(dry_run=True, **_planned(plan))
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
    going, staying = (
        grouped(_with_places(context, plan, pairs)) for pairs in (plan.going, plan.staying)
    )
    shown = [
        group
        for groups in (going, staying)
        for group in (groups if out.verbose else groups[:_LONG])
    ]
    wide = (
        max((len(tool) for tool, _, _ in shown), default=0),
        max((len(reason) for _, reason, _ in shown), default=0),
    )
    if going:
        out.line("Would remove" if conditional else "To remove")
        _rows(context, going, wide)
    if staying:
        out.line("Would keep" if conditional else "To keep")
        _rows(context, staying, wide)
    if not plan.going:
        return
    cost = [f"{show_size(plan.download)} download"] if plan.download else []
    cost += (
        [f"{plan.builds} wheel{'' if plan.builds == 1 else 's'} to build"] if plan.builds else []
    )
    back = f" To get it back: {', '.join(cost)}." if cost else ""
    left = f" {show_size(plan.left)} stays in the caches." if plan.left is not None else ""
    out.line(f"Frees {show_size(plan.freed)}.{left}{back}")
    if any(entry.kind is Kind.UNPACKED for entry, _ in plan.going):
        out.hint("No environment is touched: its files stay, as links or copies of its own.")


def _with_places(
    context: Context, plan: Plan, pairs: list[tuple[Entry, str]]
) -> Iterable[tuple[Entry, str]]:
    """Entries with their reasons; with their place too where a tool has several in the plan."""
    places: dict[str, set[Path]] = {}
    for entry, _ in [*plan.going, *plan.staying]:
        places.setdefault(entry.tool, set()).add(entry.place)
    for entry, reason in pairs:
        several = len(places[entry.tool]) > 1
        yield (
            entry,
            f"{reason}, in {context.out.place(entry.place, context.around.home)}"
            if several
            else reason,
        )


def _rows(context: Context, groups: list[tuple[str, str, Sum]], wide: tuple[int, int]) -> None:
    shown = groups if context.out.verbose else groups[:_LONG]
    for tool, reason, total in shown:
        files = f"{show_count(total.files)} file{'' if total.files == 1 else 's'}"
        context.out.line(
            f"  {tool:<{wide[0]}}  {reason:<{wide[1]}}  {files:>14}  {show_size(total.disk):>8}"
        )
    if len(shown) < len(groups):
        rest = [total.disk for _, _, total in groups[len(shown) :]]
        context.out.line(f"  and {len(rest)} more ({show_size(sum(rest))}); -v shows all")


def _planned(plan: Plan) -> dict[str, object]:
    return {
        "freed": plan.freed,
        "left": plan.left,
        "download": plan.download,
        "builds": plan.builds,
        "groups": [
            {"tool": tool, "reason": reason, **sum_record(total)}
            for tool, reason, total in plan.groups()
        ],
        "going": [_verdict(entry, reason) for entry, reason in plan.going],
        "staying": [_verdict(entry, reason) for entry, reason in plan.staying],
    }


def _verdict(entry: Entry, reason: str) -> dict[str, object]:
    return {"entry": entry_record(entry), "reason": reason}
