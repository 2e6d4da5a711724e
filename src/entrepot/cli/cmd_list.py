"""What is in the caches, by project and version.

A pattern is a NAME, 'NAME==1.*', 'NAME>=2,<3', a glob over names, or a file name. A star in the
KIND column marks what is unproven: no checksum was known beforehand to compare its bytes with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from entrepot.caches.inventory import duplicates, scan_all, versions, wasted
from entrepot.caches.records import entry_record, rfc3339, sum_record
from entrepot.caches.selection import Filter, find_environment, ordered
from entrepot.cli.cmd_status import ago
from entrepot.cli.context import Context
from entrepot.cli.main import Parser
from entrepot.cli.output import DONE, FAILED, Encoded, encoded
from entrepot.cli.picking import add_filter_arguments, described, make_filter
from entrepot.ports.tool import Entry, Sum
from entrepot.sizes import show_count, show_size

UNPROVEN = "*"
"""Stands behind the kind of an entry whose bytes could be compared with no checksum."""

COLUMNS = ("PROJECT", "VERSION", "KIND", "TOOL", ">SIZE", "LAST USED", "USED BY")


DETAILS = ("FILE", "KIND", ">SIZE", "LAST USED", "STATE", "CHECKSUM", "NAME", "ORIGIN")
"""With ``-v``. CHECKSUM: whether the bytes were compared with one; NAME: how the name is known."""

_CHECKSUM = {"proven": "verified", "unproven": "none known", "bad": "differs", "": "-"}
_NAME = {"proven": "certain", "hash": "by checksum", "content": "by content", "unknown": "unknown"}


def add_arguments(parser: Parser) -> None:
    """The options of ``list``."""
    parser.add_argument(
        "pattern", nargs="*", metavar="PATTERN", help="only what matches one of these"
    )
    add_filter_arguments(parser)
    parser.add_argument(
        "--used-by", metavar="ENV", help="only what this environment needs: its path, or its name"
    )
    parser.add_argument(
        "--sort",
        choices=("name", "size", "age"),
        default="name",
        help="order of the rows (default: name)",
    )
    parser.flag("--duplicates", help="what lies on disk more than once")
    parser.flag("--versions", help="one row a project, with its versions")


def run(context: Context) -> int:
    """List; exit 1 when patterns were given and nothing matches."""
    args, out = context.args, context.out
    wanted, around = make_filter(args), context.around
    if args.used_by is not None:
        used_by = find_environment(context.tools, around, args.used_by)
        wanted = replace(wanted, used_by=used_by.spellings)
        around = replace(around, environments=(used_by.path,))
    list(wanted.apply((), now=context.now))  # an invalid pattern is named before anything is read
    meter = out.meter()
    scanned = scan_all(
        context.tools, around, names=wanted.names(), progress=meter, complain=context.complain
    )
    found = ordered(wanted.apply(scanned, now=context.now), args.sort)
    meter.close()
    if args.duplicates or args.versions:
        (_duplicates if args.duplicates else _versions)(context, found)
    elif out.as_json:
        entries = Encoded(encoded(entry_record(entry)) for entry in found)
        out.document(entries=entries, total=sum_record(_summed(found)))
    else:
        _show(context, found)
    return FAILED if wanted.patterns and not found else DONE


def _summed(entries: Iterable[Entry]) -> Sum:
    total = Sum()
    for entry in entries:
        total.add(entry)
    return total


def _show(context: Context, entries: Sequence[Entry]) -> None:
    out, now = context.out, context.now
    if not entries:
        is_narrowed = make_filter(context.args) != Filter() or context.args.used_by is not None
        context.nothing_found(
            f"no entry matches {described(context.args)}" if is_narrowed else context.no_cache()
        )
        return
    text = _sum_line(_summed(entries))
    if out.verbose:
        rows = [_details(entry, now) for entry in entries]
        if out.fits(DETAILS, list(zip(*rows, strict=True))):
            out.table(DETAILS, rows)
        else:
            out.blocks(map(_block, rows))
    else:
        out.table(COLUMNS, [_row(entry, now) for entry in entries])
        if any(entry.trust == "unproven" for entry in entries):
            text += "; * no checksum known"
    out.hint(text)


def _sum_line(total: Sum) -> str:
    many = "entry" if total.entries == 1 else "entries"
    freeable = f"{show_size(total.freeable)} freeable"
    return f"{show_size(total.disk)} in {show_count(total.entries)} {many}, {freeable}"


def _row(entry: Entry, now: float) -> Sequence[str]:
    """A row of :data:`COLUMNS`."""
    return (
        _called(entry),
        entry.version or "-",
        f"{entry.kind}{UNPROVEN if entry.trust == 'unproven' else ''}",
        entry.tool,
        show_size(entry.disk),
        ago(entry.used, now),
        _used_by(entry),
    )


def _called(entry: Entry) -> str:
    """What to call an entry in a table: its project, else its file name, URL or key."""
    if entry.project or entry.filename or entry.origin:
        return entry.project or entry.filename or entry.origin
    location = entry.extra.get("location")
    return f"redirect to {location}" if location else _DIGITS.sub(r"/\1..", entry.key)


_DIGITS = re.compile(r"(?:/[0-9a-f])*/([0-9a-f]{12})[0-9a-f]{44}")
"""An entry's name in pip's cache, and the directories that repeat its digits."""


def _used_by(entry: Entry) -> str:
    if len(entry.used_by) != 1:
        return f"{len(entry.used_by)} environments" if entry.used_by else "-"
    user = entry.used_by[0]
    # how it is known stands in the JSON
    return user if "/" in user or "\\" in user else user.partition(" (")[0]


def _details(entry: Entry, now: float) -> Sequence[str]:
    """A row of :data:`DETAILS`: an entry's exact file name and all that is known of it."""
    return (
        entry.filename or _called(entry),
        str(entry.kind),
        show_size(entry.disk),
        ago(entry.used, now),
        entry.state or "-",
        _CHECKSUM[entry.trust],
        _NAME[entry.certainty],
        entry.origin or "-",
    )


def _block(row: Sequence[str]) -> list[str]:
    """A row of :data:`DETAILS` in lines.

    Few terminals are wide enough for all its cells side by side.
    """
    file, kind, size, used, state, checksum, name, origin = row
    told = [
        kind,
        size,
        f"last used {used}",
        state,
        "" if checksum == "-" else f"checksum {checksum}",
        f"name {name}",
    ]
    return [
        file,
        ", ".join(word for word in told if word not in ("", "-")),
        *([] if origin == "-" else [origin]),
    ]


def _duplicates(context: Context, entries: Sequence[Entry]) -> None:
    out, groups = context.out, duplicates(entries)
    columns = ("FILE", ">TIMES", ">WASTED", "IN")
    rows = []
    for same in groups:
        name, tools = same[0].filename or str(same[0].digest), dict.fromkeys(e.tool for e in same)
        rows.append([name, str(len(same)), show_size(wasted(same)), ", ".join(tools)])
    if rows:
        out.table(columns, rows)
        out.hint(f"{show_size(sum(wasted(same) for same in groups))} is stored more than once")
    else:
        context.nothing_found("no file is stored more than once")
    out.document(
        duplicates=[
            {"wasted": wasted(same), "entries": [entry_record(e) for e in same]} for same in groups
        ]
    )


def _versions(context: Context, entries: Sequence[Entry]) -> None:
    out, rows = context.out, versions(entries)
    columns = ("PROJECT", ">VERSIONS", "NEWEST", ">SIZE", "LAST USED")
    cells = [
        [
            row.project,
            str(len(row.versions)),
            row.versions[-1],
            show_size(row.total.disk),
            ago(row.total.used, context.now),
        ]
        for row in rows
    ]
    if cells:
        out.table(columns, cells)
    else:
        context.nothing_found("no entry with a known version")
    out.document(
        projects=[
            {
                "project": r.project,
                "versions": list(r.versions),
                "disk": r.total.disk,
                "last_used": rfc3339(r.total.used),
            }
            for r in rows
        ]
    )
