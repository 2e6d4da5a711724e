"""What is cached, where, how big it is, how much of it can go, and what is wrong.

FREEABLE counts only bytes that the disk would get back: nothing that an environment still links to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrepot.caches import NAME
from entrepot.caches.inventory import GROUPS, stored_twice, summed_up
from entrepot.caches.own import OwnCache
from entrepot.caches.records import place_record, sum_record
from entrepot.cli.context import Context
from entrepot.cli.main import Parser
from entrepot.cli.output import DONE, Output
from entrepot.errors import EntrepotError
from entrepot.ports.tool import ORPHANED, CacheTotal, Entry, Sum, Surroundings, Tool
from entrepot.sizes import show_age, show_count, show_size

if TYPE_CHECKING:
    from entrepot.cli.wiring import Quota

COLUMNS = ("CACHE", "WHERE", ">SIZE", ">FREEABLE", ">FILES", "LAST USED", ">CAP")

NEARLY = 0.9
"""The part of a quota from which on there is a warning."""


def add_arguments(parser: Parser) -> None:
    """``status`` has only the options of every command and one more."""
    parser.flag("--kinds", help="show downloads, pages, built wheels ... of each cache apart")


def run(context: Context) -> int:
    """Show every cache that exists.

    One that cannot be read is named and makes the exit status 3.
    """
    out = context.out
    context.warn_of_settings()
    around = context.around.for_one_look()
    totals, entries, unscanned = _count(context, around)
    disks = _disks([each.place.path for each in totals if each.place.path])
    quotas = _quotas(context)
    savings = _savings(context)
    twice = stored_twice(unscanned, around, totals, entries, complain=context.complain)
    _table(context, totals, kinds=context.args.kinds or out.verbose > 0)
    _below(context, totals, disks, savings, quotas)
    if twice[0]:
        files = "1 identical file" if twice[1] == 1 else f"{show_count(twice[1])} identical files"
        holds = "holds" if len(twice[2]) == 1 else "hold"
        text = f"{show_size(twice[0])} is stored twice ({' and '.join(twice[2])} {holds} {files})"
        _warn(out, "stored-twice", text, "entrepot list --duplicates")
    out.document(
        caches=[_cache_record(context, each) for each in totals],
        disks=[asdict(disk) for disk in disks],
        quotas=[asdict(quota) for quota in quotas],
        duplicates={"wasted": twice[0], "files": twice[1], "tools": twice[2]},
        savings=savings,
    )
    return DONE


def _count(
    context: Context, around: Surroundings
) -> tuple[list[CacheTotal], list[Entry], list[Tool]]:
    """What each cache holds; the entries of small ones that were scanned for it; the other tools.

    The largest freeable size comes first.
    """
    totals, entries, unscanned = list[CacheTotal](), list[Entry](), list[Tool]()
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
                    total, found = summed_up(tool, place, around, progress=meter)
                    totals.append(total)
                    entries += found or ()
                    if found is None and tool not in unscanned:
                        unscanned.append(tool)
        except (EntrepotError, OSError) as exc:
            context.complain(tool.name, exc)
    meter.close()
    return sorted(totals, key=lambda each: -each.total.freeable), entries, unscanned


def _cap(context: Context, held: CacheTotal) -> int | None:
    return context.settings.limit_total if held.place.tool == NAME else None


def _table(context: Context, totals: Sequence[CacheTotal], *, kinds: bool) -> None:
    out = context.out
    if not totals:
        out.line(f"Nothing found: {context.no_cache()}.")
        out.hint(
            "entrepot run -- COMMAND runs a command with its downloads going through the cache."
        )
        return
    rows = []
    for held in totals:
        cap = _cap(context, held)
        orphaned = " (orphaned)" if held.place.label == ORPHANED else ""
        where = f"{out.place(held.place.path, context.around.home)}{orphaned}"
        limit = "-" if cap is None else show_size(cap)
        rows.append([held.place.tool, where, *_cells(held.total, context.now), limit])
        if kinds:
            rows += [
                ["", f"  {name}", *_cells(each, context.now), ""]
                for name, each in held.groups.items()
            ]
    if len(totals) > 1:
        # what another cache holds as well is in its size already
        disk = sum(each.total.disk - each.linked for each in totals)
        freeable = sum(each.total.freeable for each in totals)
        files = sum(each.total.files for each in totals)
        rows.append(["total", "", show_size(disk), show_size(freeable), show_count(files), "", ""])
    out.table(COLUMNS, rows, last=int(len(totals) > 1))


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
    totals: Sequence[CacheTotal],
    disks: Sequence[_Disk],
    savings: Mapping[str, int],
    quotas: Sequence[Quota],
) -> None:
    out = context.out
    out.line() if totals else None
    for disk in disks:
        where = out.place(disk.path, context.around.home)
        free = 100 * disk.files_free // disk.files if disk.files else 0
        inodes = f", {free} % of its inodes free" if disk.files else ""
        out.line(
            f"Disk holding {where}: {show_size(disk.free)} of {show_size(disk.size)} free{inodes}"
        )
        if disk.free < disk.size // 20:
            text = f"less than 5 % of the disk holding {where} is free"
            _warn(out, "disk-nearly-full", text, "entrepot clean")
    for quota in quotas:
        _show_quota(context, quota)
    if savings.get("bytes_from_cache"):
        hits = savings.get("hits", 0)
        out.line(
            f"Saved so far: {show_size(savings['bytes_from_cache'])} "
            f"({show_count(hits)} request{'' if hits == 1 else 's'} answered from the store)"
        )
    for held in totals:
        for reason, total in held.removable.items():
            text = f"{held.place.tool}: {reason} ({show_size(total.freeable)})"
            _warn(out, "litter", text, f"entrepot clean --tool {held.place.tool}")
        cap = _cap(context, held)
        if cap is not None and (counted := held.total.disk - held.overhead) > cap:
            text = f"{held.place.tool} takes {show_size(counted)}, its cap is {show_size(cap)}"
            _warn(out, "over-cap", text, f"entrepot clean --tool {held.place.tool} --to {cap}")


def _warn(out: Output, ident: str, text: str, command: str) -> None:
    """A line of the answer for something wrong, with the command for it; kept for the JSON too."""
    out.warn(ident, text, command, shown=False)
    out.line(f"! {text}      {command}")


def _quotas(context: Context) -> list[Quota]:
    """The user's limits; a command that fails is only named."""
    from entrepot.cli.wiring import quotas

    try:
        return quotas(context.settings, context.around)
    except EntrepotError as exc:
        context.out.warn(exc.reference, exc.message, hint="entrepot config get quota.command")
        return []


def _show_quota(context: Context, quota: Quota) -> None:
    out = context.out
    where = quota.where
    if quota.whose != "command":
        where = out.place(Path(where), context.around.home)
    name = "Group quota" if quota.whose == "group" else "Quota"
    name += f" of {where}" if where else ""
    parts = []
    if quota.limit:
        parts.append(
            f"{show_size(quota.used)} of {show_size(quota.limit)} used "
            f"({100 * quota.used // quota.limit} %)"
        )
    if quota.files_limit and quota.files is not None:
        parts.append(f"{show_count(quota.files)} of {show_count(quota.files_limit)} files")
    out.line(f"{name}: {', '.join(parts)}")
    if quota.share >= NEARLY:
        text = f"{name[0].lower()}{name[1:]} is nearly used up ({100 * quota.share:.0f} %)"
        _warn(out, "quota-nearly-full", text, "entrepot clean")


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
                context.out.warn("unreadable", exc.message, hint=exc.hint)
    return {}


def _cache_record(context: Context, held: CacheTotal) -> dict[str, Any]:
    return {
        **place_record(held.place),
        **sum_record(held.total),
        "cap": _cap(context, held),
        "overhead": held.overhead,
        "groups": {name: sum_record(held.groups[name]) for name in GROUPS if name in held.groups},
        "litter": {reason: sum_record(total) for reason, total in held.removable.items()},
    }
