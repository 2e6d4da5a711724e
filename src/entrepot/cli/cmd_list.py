"""What is in the caches, by project and version.

A pattern is a NAME, 'NAME==1.*', 'NAME>=2,<3', a glob over names, or a file name. A star in the KIND column marks what is
unproven: no digest was known beforehand that its bytes could be checked against.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from entrepot.app.environments import find_environment
from entrepot.app.inventory import Filter, Sum, duplicates, ordered, scan_all, versions, wasted
from entrepot.cli.cmd_status import ago
from entrepot.cli.context import Context
from entrepot.cli.output import DONE, FAILED, Align, rfc3339
from entrepot.cli.picking import add_filter_arguments, make_filter
from entrepot.cli.records import entry_record, sum_record
from entrepot.ports.tool import Entry
from entrepot.sizes import show_count, show_size

COLUMNS: tuple[tuple[str, Align], ...] = (
    ("PROJECT", "<"),
    ("VERSION", "<"),
    ("KIND", "<"),
    ("TOOL", "<"),
    ("SIZE", ">"),
    ("LAST USED", "<"),
    ("USED BY", "<"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``list``."""
    parser.add_argument("pattern", nargs="*", metavar="PATTERN", help="only what matches one of these")
    add_filter_arguments(parser)
    parser.add_argument("--used-by", metavar="ENV", help="only what this environment needs: its path, or its name")
    parser.add_argument("--sort", choices=("name", "size", "age"), default="name", help="order of the rows (default: name)")
    parser.add_argument("--duplicates", action="store_true", help="what lies on disk more than once")
    parser.add_argument("--versions", action="store_true", help="one row a project, with its versions")


def run(context: Context) -> int:
    """List; exit 1 when patterns were given and nothing matches."""
    wanted, around = make_filter(context.args), context.around
    if context.args.used_by is not None:
        used_by = find_environment(context.tools, around, context.args.used_by)
        wanted = replace(wanted, used_by=used_by.spellings)
        around = replace(around, environments=(used_by.path,))
    meter = context.out.meter()
    everything = scan_all(context.tools, around, names=wanted.names(), progress=meter, complain=context.complain)
    found = list(wanted.apply(everything, now=context.now))
    meter.close()
    if context.args.duplicates:
        _duplicates(context, found)
    elif context.args.versions:
        _versions(context, found)
    else:
        _entries(context, ordered(found, context.args.sort))
    return FAILED if wanted.patterns and not found else DONE


def _summed(entries: Sequence[Entry]) -> Sum:
    total = Sum()
    for entry in entries:
        total.add(entry)
    return total


def _entries(context: Context, entries: Sequence[Entry]) -> None:
    out, total = context.out, _summed(entries)
    if entries:
        out.table(COLUMNS, [_cells(entry, context.now) for entry in entries])
        many = "entry" if len(entries) == 1 else "entries"
        text = f"{show_size(total.disk)} in {show_count(len(entries))} {many}, {show_size(total.freeable)} freeable"
        out.hint(text + ("; * unproven" if any(e.trust == "unproven" for e in entries) else ""))
    else:
        is_narrowed = make_filter(context.args) != Filter() or context.args.used_by is not None
        out.note("Nothing matches." if is_narrowed else "Nothing is cached.")
    if out.as_json:
        out.document(entries=[entry_record(entry) for entry in entries], total=sum_record(total))


def _cells(entry: Entry, now: float) -> list[str]:
    used_by = entry.used_by[0] if len(entry.used_by) == 1 else (f"{len(entry.used_by)} environments" if entry.used_by else "-")
    name = entry.project or entry.filename or entry.origin or entry.key
    kind = f"{entry.kind}{'*' if entry.trust == 'unproven' else ''}"
    return [name, entry.version or "-", kind, entry.tool, show_size(entry.disk), ago(entry.used, now), used_by]


def _duplicates(context: Context, entries: Sequence[Entry]) -> None:
    out, groups = context.out, duplicates(entries)
    columns: tuple[tuple[str, Align], ...] = (("FILE", "<"), ("TIMES", ">"), ("WASTED", ">"), ("IN", "<"))
    rows = []
    for same in groups:
        tools = ", ".join(dict.fromkeys(entry.tool for entry in same))
        rows.append([same[0].filename or str(same[0].digest), str(len(same)), show_size(wasted(same)), tools])
    if rows:
        out.table(columns, rows)
        out.hint(f"{show_size(sum(wasted(same) for same in groups))} is stored more than once")
    else:
        out.note("Nothing is stored more than once.")
    out.document(duplicates=[{"wasted": wasted(same), "entries": [entry_record(e) for e in same]} for same in groups])


def _versions(context: Context, entries: Sequence[Entry]) -> None:
    out, rows = context.out, versions(entries)
    columns: tuple[tuple[str, Align], ...] = (
        ("PROJECT", "<"),
        ("VERSIONS", ">"),
        ("NEWEST", "<"),
        ("SIZE", ">"),
        ("LAST USED", "<"),
    )
    cells = [
        [row.project, str(len(row.versions)), row.versions[-1], show_size(row.total.disk), ago(row.total.used, context.now)]
        for row in rows
    ]
    if cells:
        out.table(columns, cells)
    else:
        out.note("Nothing with a known version is cached.")
    out.document(
        projects=[
            {"project": r.project, "versions": list(r.versions), "disk": r.total.disk, "last_used": rfc3339(r.total.used)}
            for r in rows
        ]
    )
