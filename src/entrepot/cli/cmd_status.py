"""What is cached, where, how big it is, how much of it can go, and what is amiss.

FREEABLE counts only bytes that the disk would get back: nothing that an environment still links to.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrepot.caches import NAME
from entrepot.caches.inventory import (
    GROUPS,
    Holding,
    Sum,
    duplicates,
    holding,
    packed,
    scan_all,
    unpacked,
    wasted,
    withheld,
)
from entrepot.caches.own import OwnCache
from entrepot.cli.context import Context
from entrepot.cli.output import DONE, Align
from entrepot.cli.records import place_record, sum_record
from entrepot.errors import EntrepotError
from entrepot.ports.tool import ORPHANED, Entry, Place, Progress, Surroundings, Tool
from entrepot.sizes import show_age, show_count, show_size
from entrepot.tools.quota import NEARLY, Quota, told_by, told_by_kernel

COLUMNS: tuple[tuple[str, Align], ...] = (
    ("CACHE", "<"),
    ("WHERE", "<"),
    ("SIZE", ">"),
    ("FREEABLE", ">"),
    ("FILES", ">"),
    ("LAST USED", "<"),
    ("CAP", ">"),
)

MANY = 20_000
"""Entries from which on a cache is not counted again each time."""
COUNTED_S = 3600.0
"""Seconds for which its sums are shown as they were counted."""
FEW = 5_000
"""Entries up to which `status` looks for what is stored twice."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``status`` has only the options of every command and two more."""
    parser.add_argument(
        "--kinds",
        action="store_true",
        help="show downloads, pages, built wheels ... of each cache apart",
    )
    parser.add_argument(
        "--scan",
        action="store_true",
        help="count large caches again, however lately they were counted",
    )


def run(context: Context) -> int:
    """Show every cache that exists.

    One that cannot be read is named and makes the exit status 3.
    """
    out = context.out
    for complaint in context.settings.complaints:
        out.warn(complaint.id, complaint.text, complaint.fix)
    around = context.around.for_one_look()
    holdings, entries = _look(context, around)
    disks = _disks([h.place.path for h in holdings if h.place.path])
    quotas = _quotas(context, [h.place.path for h in holdings if h.place.path])
    savings = _savings(context)
    twice = _twice(context, around, holdings, entries)
    _table(context, holdings, kinds=context.args.kinds or out.verbose > 0)
    _below(context, holdings, disks, savings, quotas)
    if twice[0]:
        text = f"{show_size(twice[0])} is stored twice ({' and '.join(twice[2])} hold {show_count(twice[1])} equal files)"
        out.warn("stored-twice", text, "entrepot list --duplicates", shown=False)
        out.line(f"! {text}      entrepot list --duplicates")
    out.document(
        caches=[_cache_record(context, h) for h in holdings],
        disks=[
            {
                "path": str(d.path),
                "size": d.size,
                "free": d.free,
                "files": d.files,
                "files_free": d.files_free,
            }
            for d in disks
        ],
        quotas=[_quota_record(quota) for quota in quotas],
        duplicates={"wasted": twice[0], "files": twice[1], "tools": twice[2]},
        savings=savings,
    )
    return DONE


def _look(context: Context, around: Surroundings) -> tuple[list[Holding], list[Entry]]:
    """What each cache holds, and the entries of the small ones that were scanned for it."""
    holdings: list[Holding] = []
    entries: list[Entry] = []
    meter = context.out.meter()
    for tool in context.tools:
        seen: set[Path] = set()
        try:
            for place in tool.places(around):
                if (
                    place.path
                    and not place.usable
                    and (place.exists or os.path.lexists(place.path))
                ):
                    named = (
                        ""
                        if str(place.path) in place.why_not
                        else f"{context.out.place(place.path, context.around.home)}: "
                    )
                    context.out.warn("not-usable", f"{tool.name}: {named}{place.why_not}")
                if place.path and place.exists and place.path not in seen:
                    seen.add(place.path)
                    holdings.append(
                        _sum_up(context, around, tool, place, meter=meter, entries=entries)
                    )
        except (EntrepotError, OSError) as exc:
            context.complain(tool.name, exc)
    meter.close()
    return sorted(holdings, key=lambda h: -h.total.freeable), entries


def _sum_up(
    context: Context,
    around: Surroundings,
    tool: Tool,
    place: Place,
    *,
    meter: Progress,
    entries: list[Entry],
) -> Holding:
    """By the tool itself where it can do so without making its entries (``summary``), from what was counted lately, or a scan.

    The entries of a scan are added to ``entries`` while they are few.
    """
    summary = getattr(tool, "summary", None)
    if summary:
        held: Holding = summary(place, around)
        return held
    remembered = _remembered(context, tool, place)
    if remembered is not None:
        return remembered
    few: list[Entry] = []
    held = holding(
        place, withheld(place, around, _kept(tool.scan(place, around, progress=meter), few))
    )
    entries += few
    keep = getattr(tool, "keep_sums", None)
    if keep and held.total.entries >= MANY:
        keep(place, around, packed(held))
    return held


def _kept(entries: Iterable[Entry], few: list[Entry]) -> Iterator[Entry]:
    """The entries; as many of them as :func:`_twice` would look at are kept, so that it needs no scan."""
    for entry in entries:
        if len(few) <= FEW:
            few.append(entry)
        yield entry


def _remembered(context: Context, tool: Tool, place: Place) -> Holding | None:
    """The sums of a large cache that was counted within the hour.

    A look that saw a change has dropped them.
    """
    sums = getattr(tool, "sums", None)
    found = sums(place, context.around) if sums and not context.args.scan else None
    if found is None or not 0 <= context.now - found[0] <= COUNTED_S:
        return None
    return unpacked(place, found[1], found[0])


def _twice(
    context: Context, around: Surroundings, holdings: Sequence[Holding], entries: Sequence[Entry]
) -> tuple[int, int, list[str]]:
    """Bytes that several caches hold the same files in, how many files, and whose.

    Only looked for where that is quick.

    Args:
        context: of the command.
        around: as the caches were looked at.
        holdings: of all caches.
        entries: of those that were scanned; what tools summed up by themselves is scanned here.
    """
    if len(holdings) < 2 or sum(h.total.entries for h in holdings) > FEW:
        return 0, 0, []
    unscanned = [tool for tool in context.tools if hasattr(tool, "summary")]
    groups = duplicates([*scan_all(unscanned, around, complain=context.complain), *entries])
    tools = sorted({entry.tool for same in groups for entry in same})
    return sum(wasted(same) for same in groups), len(groups), tools


def _cap(context: Context, held: Holding) -> int | None:
    return context.settings.limit_total if held.place.tool == NAME else None


def _table(context: Context, holdings: Sequence[Holding], *, kinds: bool) -> None:
    out = context.out
    if not holdings:
        out.line("Nothing is cached yet.")
        out.hint(
            "entrepot run -- COMMAND runs a command with its downloads going through the cache."
        )
        return
    rows = []
    for held in holdings:
        cap = _cap(context, held)
        where = out.place(held.place.path, context.around.home) + (
            " (orphaned)" if held.place.label == ORPHANED else ""
        )
        rows.append(
            [
                held.place.tool,
                where,
                *_cells(held.total, context.now),
                show_size(cap) if cap is not None else "-",
            ]
        )
        if kinds:
            rows += [
                ["", f"  {name}", *_cells(each, context.now), ""]
                for name, each in held.groups.items()
            ]
    if len(holdings) > 1:
        whole = [
            sum(getattr(h.total, what) for h in holdings) for what in ("disk", "freeable", "files")
        ]
        whole[0] -= sum(h.linked for h in holdings)  # in another cache's size already
        rows.append(
            ["total", "", show_size(whole[0]), show_size(whole[1]), show_count(whole[2]), "", ""]
        )
    out.table(COLUMNS, rows, last=int(len(holdings) > 1))


def _cells(total: Sum, now: float) -> list[str]:
    return [
        show_size(total.disk),
        show_size(total.freeable),
        show_count(total.files),
        ago(total.used, now),
    ]


def ago(moment: float | None, now: float) -> str:
    """``today``, ``3 d ago``; ``-`` when it is not known."""
    if moment is None:
        return "-"
    age = show_age(now - moment)
    return age if age == "today" else f"{age} ago"


def _below(
    context: Context,
    holdings: Sequence[Holding],
    disks: Sequence[_Disk],
    savings: Mapping[str, int],
    quotas: Sequence[Quota],
) -> None:
    out = context.out
    out.line() if holdings else None
    for disk in disks:
        where = out.place(disk.path, context.around.home)
        inodes = (
            f", {show_count(disk.files_free)} of {show_count(disk.files)} files"
            if disk.files
            else ""
        )
        out.line(f"Disk of {where}: {show_size(disk.free)} free of {show_size(disk.size)}{inodes}")
        if disk.free < disk.size // 20:
            out.warn(
                "disk-nearly-full",
                f"the disk of {where} is nearly full",
                "entrepot clean --dry-run",
                shown=False,
            )
            out.line(f"! less than 5 % of the disk of {where} is free{' ' * 6}entrepot clean")
    for quota in quotas:
        _show_quota(context, quota)
    if savings.get("bytes_from_cache"):
        hits = savings.get("hits", 0)
        out.line(
            f"Spared so far: {show_size(savings['bytes_from_cache'])} of downloads, {show_count(hits)} answers from the store"
        )
    for held in holdings:
        if held.counted is not None:
            out.hint(
                f"{held.place.tool}: as counted {ago(held.counted, context.now)}; entrepot status --scan counts again"
            )
        for reason, total in held.litter.items():
            text = f"{held.place.tool}: {reason} ({show_size(total.freeable)})"
            out.warn("litter", text, "entrepot clean", shown=False)
            out.line(f"! {text}      entrepot clean --tool {held.place.tool}")
        cap = _cap(context, held)
        if cap is not None and (counted := held.total.disk - held.overhead) > cap:
            text = f"{held.place.tool} takes {show_size(counted)}, its cap is {show_size(cap)}"
            out.warn(
                "over-cap", text, f"entrepot clean --tool {held.place.tool} --to {cap}", shown=False
            )
            out.line(f"! {text}      entrepot clean --tool {held.place.tool} --to {cap}")


def _quotas(context: Context, paths: Sequence[Path]) -> list[Quota]:
    """The limits on the home directory and on the caches.

    A command that fails is told and does no other harm.
    """
    command = context.settings.quota_command
    if not command:
        return told_by_kernel([context.around.home, *paths], context.around.euid)
    try:
        return told_by(command, context.around.environ)
    except EntrepotError as exc:
        context.out.warn(exc.reference, exc.message, "entrepot config get quota.command")
        return []


def _show_quota(context: Context, quota: Quota) -> None:
    out = context.out
    where = (
        out.place(Path(quota.where), context.around.home)
        if quota.whose != "command"
        else quota.where
    )
    name = (
        f"{'Group quota' if quota.whose == 'group' else 'Quota'}{f' of {where}' if where else ''}"
    )
    parts = []
    if quota.limit:
        parts.append(
            f"{show_size(quota.used)} of {show_size(quota.limit)} used ({100 * quota.used // quota.limit} %)"
        )
    if quota.files_limit and quota.files is not None:
        parts.append(f"{show_count(quota.files)} of {show_count(quota.files_limit)} files")
    out.line(f"{name}: {', '.join(parts)}")
    if quota.share >= NEARLY:
        text = f"{name[0].lower()}{name[1:]} is nearly used up ({100 * quota.share:.0f} %)"
        out.warn("quota-nearly-full", text, "entrepot clean --dry-run", shown=False)
        out.line(f"! {text}      entrepot clean")


@dataclass(frozen=True, slots=True)
class _Disk:
    path: Path
    size: int
    free: int
    """Bytes that this user may still write."""
    files: int
    """Inodes there are; 0 where the file system does not count them."""
    files_free: int


def _disks(paths: Sequence[Path]) -> list[_Disk]:
    """The disks that the caches lie on, each once, under the first cache's name."""
    found: dict[int, _Disk] = {}
    for path in paths:
        try:
            device, room = path.stat().st_dev, os.statvfs(path)
        except (OSError, AttributeError):
            continue
        found.setdefault(
            device,
            _Disk(
                path,
                room.f_frsize * room.f_blocks,
                room.f_frsize * room.f_bavail,
                room.f_files,
                room.f_favail,
            ),
        )
    return list(found.values())


def _savings(context: Context) -> dict[str, int]:
    for tool in context.tools:
        if isinstance(tool, OwnCache) and any(
            place.exists for place in tool.places(context.around)
        ):
            try:
                return dict(tool.counters())
            except EntrepotError as exc:
                context.out.warn("unreadable", exc.message, exc.hint)
    return {}


def _quota_record(quota: Quota) -> dict[str, Any]:
    return {
        "where": quota.where,
        "whose": quota.whose,
        "used": quota.used,
        "limit": quota.limit,
        "files": quota.files,
        "files_limit": quota.files_limit,
    }


def _cache_record(context: Context, held: Holding) -> dict[str, Any]:
    return {
        **place_record(held.place),
        **sum_record(held.total),
        "cap": _cap(context, held),
        "overhead": held.overhead,
        "groups": {name: sum_record(held.groups[name]) for name in GROUPS if name in held.groups},
        "litter": {reason: sum_record(total) for reason, total in held.litter.items()},
    }
