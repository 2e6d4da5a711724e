"""What is in the caches, by project and version.

A pattern is a NAME, 'NAME==1.*', 'NAME>=2,<3', a glob over names, or a file name. A star in the
KIND column marks what is unproven: no checksum was known beforehand to compare its bytes with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from entrepot.caches.inventory import (
    Sum,
    duplicates,
    existing,
    scan_all,
    versions,
    wasted,
)
from entrepot.caches.listing import (
    NEVER,
    UNPROVEN,
    Lines,
    by,
    called,
    kept_lines,
    line,
    lined,
    lines_of,
    picked,
    summed,
    together,
)
from entrepot.caches.records import entry_record, rfc3339, sum_record
from entrepot.caches.selection import Filter, find_environment, ordered
from entrepot.cli.cmd_status import ago
from entrepot.cli.context import Context
from entrepot.cli.main import Parser
from entrepot.cli.output import DONE, FAILED, Encoded, encoded
from entrepot.cli.picking import add_filter_arguments, described, make_filter
from entrepot.ports.tool import Entry
from entrepot.sizes import DAY, show_count, show_size

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
    wanted, around = make_filter(context.args), context.around
    if context.args.used_by is not None:
        used_by = find_environment(context.tools, around, context.args.used_by)
        wanted = replace(wanted, used_by=used_by.spellings)
        around = replace(around, environments=(used_by.path,))
    args = context.args
    apart = (
        wanted.patterns
        or wanted.stale
        or wanted.unused
        or wanted.used_by
        or args.duplicates
        or args.versions
    )
    if not (apart or context.out.verbose or context.out.as_json):
        _plain(context, wanted)
        return DONE
    list(wanted.apply((), now=context.now))  # an invalid pattern is named before anything is read
    meter = context.out.meter()
    scanned = scan_all(
        context.tools, around, names=wanted.names(), progress=meter, complain=context.complain
    )
    found = ordered(wanted.apply(scanned, now=context.now), args.sort)
    meter.close()
    if args.duplicates or args.versions:
        (_duplicates if args.duplicates else _versions)(context, found)
    elif context.out.as_json:
        entries = Encoded(encoded(entry_record(entry)) for entry in found)
        context.out.document(entries=entries, total=sum_record(_summed(found)))
    elif context.out.verbose:
        cells: list[Sequence[Any]] = list(zip(*map(_details, found), strict=True))
        if cells:
            cells[3] = _ages(cells[3], context.now)
        _show(context, DETAILS, cells, _summed(found))
    else:
        _show(context, COLUMNS, _listed(lined(map(line, found)), context.now), _summed(found))
    return FAILED if wanted.patterns and not found else DONE


def _summed(entries: Iterable[Entry]) -> Sum:
    total = Sum()
    for entry in entries:
        total.add(entry)
    return total


def _plain(context: Context, wanted: Filter) -> None:
    """The plain listing, from what was kept of large caches that have not changed."""
    meter, now = context.out.meter(), context.now
    found, total, around = [], Sum(), context.around.for_one_look()
    for tool, place in existing(context.tools, around):
        entries: list[Entry] = []
        try:
            lines = kept_lines(tool, place, around, now=now, progress=meter)
            if isinstance(lines, Lines):
                lines = picked(lines, wanted, now=now)
                found.append(lines)
                total.merge(summed(lines))
            else:
                entries.extend(wanted.apply(lines, now=now))
        except OSError as exc:
            context.complain(tool.name, exc)
        if entries:
            total.merge(_summed(entries))
            found.append(lines_of(entries))
    meter.close()
    _show(context, COLUMNS, _listed(by(together(found), context.args.sort), now), total)


def _show(
    context: Context,
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    total: Sum,
) -> None:
    out = context.out
    if not total.entries:
        is_narrowed = make_filter(context.args) != Filter() or context.args.used_by is not None
        context.nothing_found(
            f"no entry matches {described(context.args)}" if is_narrowed else context.no_cache()
        )
        return
    if columns is DETAILS and not out.fits(columns, cells):
        out.blocks(map(_block, zip(*cells, strict=True)))
    else:
        out.columns(columns, cells)
    unproven = columns is COLUMNS and any(kind.endswith(UNPROVEN) for kind in set(cells[2]))
    out.hint(_sum_line(total) + ("; * no checksum known" if unproven else ""))


def _sum_line(total: Sum) -> str:
    many = "entry" if total.entries == 1 else "entries"
    freeable = f"{show_size(total.freeable)} freeable"
    return f"{show_size(total.disk)} in {show_count(total.entries)} {many}, {freeable}"


def _listed(lines: Lines, now: float) -> list[Sequence[str]]:
    """The cells of :data:`COLUMNS`."""
    return [
        lines.names,
        lines.versions,
        lines.kinds,
        lines.tools,
        lines.sizes,
        _ages(lines.used, now),
        lines.used_by,
    ]


def _details(entry: Entry) -> tuple[Any, ...]:
    """A row of :data:`DETAILS`: an entry's exact file name and all that is known of it."""
    return (
        entry.filename or called(entry),
        str(entry.kind),
        show_size(entry.disk),
        NEVER if entry.used is None else entry.used,
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


def _ages(used: Sequence[float], now: float) -> list[str]:
    """How long ago each was; said once for each day."""
    days = [None if moment == NEVER else (now - moment) // DAY for moment in used]
    words = {day: ago(None if day is None else now - day * DAY, now) for day in set(days)}
    return list(map(words.__getitem__, days))


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
