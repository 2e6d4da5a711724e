"""Show and change settings: entrepot's own, or with --tool those of another tool in the file that it reads itself."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from entrepot.cli.context import Context
from entrepot.cli.output import DONE, FAILED, Align
from entrepot.cli.records import change_record
from entrepot.config import KEYS, show_value
from entrepot.config_file import TEMPLATE, OwnSettings, known_key, write_atomically
from entrepot.errors import UsageError
from entrepot.ports.tool import Change, Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs and options of ``config``."""
    parser.add_argument("verb", choices=tuple(_VERBS), help="what to do")
    parser.add_argument("key", nargs="?", metavar="KEY", help="the setting, for get, set and unset")
    parser.add_argument("value", nargs="?", metavar="VALUE", help="its value, for set")
    parser.add_argument("--origin", action="store_true", help="with list: where each value comes from, and what it overrides")


def run(context: Context) -> int:
    """Carry out one verb."""
    args = context.args
    wanted = {"get": 1, "set": 2, "unset": 1}.get(args.verb, 0)
    given = sum(value is not None for value in (args.key, args.value))
    if given != wanted:
        forms = {"get": "KEY", "set": "KEY VALUE", "unset": "KEY"}
        form = f"entrepot config {args.verb} {forms.get(args.verb, '')}".strip()
        raise UsageError(f"config {args.verb} takes {wanted or 'no'} more word{'' if wanted == 1 else 's'}", hint=form)
    return _VERBS[args.verb](context)


def _settings(context: Context) -> tuple[str, Settings]:
    """The configuration that is meant, and the tool's name; entrepot's own is reached without reading it."""
    names = context.args.tool
    if len(names) > 1:
        raise UsageError("config changes one tool at a time", hint=f"entrepot config --tool {names[0]} ...")
    if not names or names == ["entrepot"]:
        return "", OwnSettings(context.around)
    settings = context.tools[0].settings(context.around)
    if settings is None:
        raise UsageError(f"entrepot does not edit the configuration of {names[0]}")
    return names[0], settings


def _list(context: Context) -> int:
    tool, settings = _settings(context)
    if tool:
        return _list_of_tool(context, settings)
    resolved, rows, records = context.settings, [], []
    for complaint in resolved.complaints:
        context.out.warn(complaint.id, complaint.text, complaint.fix)
    for key in KEYS:
        layers = resolved.said[key.name]
        value = show_value(key, layers[0].value)
        rows.append([f"{key.name} = {value}", layers[0].source])
        rows += [[f"  (shadowed: {low.text})", low.source] for low in layers[1:]] if context.args.origin else []
        shadowed = [{"kind": s.kind, "source": s.source, "value": s.text} for s in layers[1:]]
        origin = {"kind": layers[0].kind, "source": layers[0].source}
        records.append({"key": key.name, "value": value, "origin": origin, "shadowed": shadowed})
    _show(context, rows)
    context.out.document(settings=records)
    return DONE


def _list_of_tool(context: Context, settings: Settings) -> int:
    items = list(settings.items())
    _show(context, [[f"{key} = {value}", source] for key, value, source in items])
    records = [
        {"key": key, "value": value, "origin": {"kind": "", "source": source}, "shadowed": []} for key, value, source in items
    ]
    context.out.document(settings=records)
    return DONE


def _show(context: Context, rows: list[list[str]]) -> None:
    if context.args.origin:
        columns: tuple[tuple[str, Align], ...] = (("SETTING", "<"), ("FROM", "<"))
        context.out.table(columns, rows)
    else:
        for setting, _ in rows:
            context.out.line(setting)


def _get(context: Context) -> int:
    tool, settings = _settings(context)
    key = context.args.key
    # for entrepot itself the flags count too
    value = settings.get(key) if tool else show_value(known_key(key), context.settings.said[key][0].value)
    context.out.document(key=key, value=value)
    if value is None:
        context.out.note(f"{key} is not set.")
        return FAILED
    context.out.line(value)
    return DONE


def _set(context: Context) -> int:
    _, settings = _settings(context)
    _report(context, settings.set(context.args.key, context.args.value))
    return DONE


def _unset(context: Context) -> int:
    _, settings = _settings(context)
    change = settings.unset(context.args.key)
    _report(context, change)
    return DONE


def _report(context: Context, change: Change) -> None:
    out = context.out
    before, after = (f"{value!r}" if value is not None else "not set" for value in (change.before, change.after))
    if change.before == change.after:
        out.line(f"{change.key} was {before} already")
    else:
        where = f" in {out.place(change.path, context.around.home)}" if change.path else ""
        out.line(f"{change.key}: {after} (was {before}){where}")
    if change.after is not None and change.verified and change.verified != change.after:
        out.hint(f"in force: {change.verified}")
    out.document(change=change_record(change))


def _edit(context: Context) -> int:
    import shlex
    import subprocess

    tool, settings = _settings(context)
    path = settings.file()
    if not path.exists():
        write_atomically(path, "" if tool else TEMPLATE)
    status = subprocess.run([*shlex.split(_editor(context.around.environ)), str(path)], check=False).returncode
    if status:
        context.out.note(f"The editor ended with status {status}.")
        return FAILED
    if not tool:
        for complaint in context.settings.complaints:  # raises what is wrong in it
            context.out.warn(complaint.id, complaint.text, complaint.fix)
    context.out.document(path=Path(path))
    return DONE


def _editor(environ: Mapping[str, str]) -> str:
    return environ.get("VISUAL") or environ.get("EDITOR") or ("notepad" if os.name == "nt" else "vi")


_VERBS: Mapping[str, Callable[[Context], int]] = {"get": _get, "set": _set, "unset": _unset, "list": _list, "edit": _edit}
