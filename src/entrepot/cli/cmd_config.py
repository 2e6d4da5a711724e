"""Show and change settings.

Entrepot's own, or with --tool those of another tool in the file that it reads itself.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from entrepot.caches.records import change_record
from entrepot.cli.context import Context
from entrepot.cli.output import DONE, FAILED, PARTLY
from entrepot.cli.picking import interpreter
from entrepot.config.file import TEMPLATE, OwnSettings, known_key
from entrepot.config.history import (
    Mends,
    UndoJournal,
    Undone,
    holds_secret,
    may_be_secret,
    put_file_back,
    read_exactly,
    remove_made,
    set_where,
    shell_files,
    shell_line,
    shown,
)
from entrepot.config.settings import KEYS, show_value
from entrepot.errors import ChangedSince, ConfigError, UsageError
from entrepot.fs import write_atomically
from entrepot.patches import patch_of
from entrepot.ports.tool import Asking, Change, Exporting, Mending, Restoring, Settings

PLACES = ("cache-dir", "no-cache-dir", "pkgs_dirs")
"""Settings that `where` explains."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs and options of ``config``."""
    parser.add_argument("verb", nargs="?", choices=tuple(_VERBS), help="what to do")
    parser.add_argument("key", nargs="?", metavar="KEY", help="the setting, for get, set and unset")
    parser.add_argument("value", nargs="?", metavar="VALUE", help="its value, for set")
    parser.add_argument(
        "--origin",
        action="store_true",
        help="with list: where each value comes from, and what it overrides",
    )
    parser.add_argument(
        "--persist",
        choices=("config", "env"),
        default="config",
        help="with set and unset: in the file (default) or as a variable",
    )
    parser.add_argument(
        "--undo",
        action="store_true",
        help="take back the last change, alone; repeat it to go further back",
    )
    parser.add_argument(
        "--mend", action="store_true", help="make a file readable that the tool cannot read, alone"
    )
    parser.add_argument("--python", metavar="PATH", help="the interpreter whose pip is meant")


def run(context: Context) -> int:
    """Carry out one verb, or take back or mend."""
    args = context.args
    if args.undo or args.mend:
        if args.verb or (args.undo and args.mend):
            raise UsageError(
                "--undo and --mend stand alone", hint="entrepot config --tool pip --undo"
            )
        if args.persist == "env":
            raise UsageError(
                "--undo cannot unset a variable", hint="entrepot config unset KEY --persist env"
            )
        return _undo(context) if args.undo else _mend(context)
    if args.verb is None:
        raise UsageError(
            "config needs one of " + ", ".join(_VERBS), hint="entrepot config list --origin"
        )
    wanted = {"get": ["KEY"], "set": ["KEY", "VALUE"], "unset": ["KEY"]}.get(args.verb, [])
    if sum(value is not None for value in (args.key, args.value)) != len(wanted):
        needs = f"needs {' and '.join(wanted)}" if wanted else "takes no arguments"
        raise UsageError(
            f"config {args.verb} {needs}", hint=" ".join(["entrepot config", args.verb, *wanted])
        )
    return _VERBS[args.verb](context)


def _settings(context: Context) -> tuple[str, Settings]:
    """The configuration that is meant, and the tool's name.

    Entrepot's own is reached without reading it.
    """
    names = context.args.tool
    if len(names) > 1:
        raise UsageError(
            "config changes one tool at a time", hint=f"entrepot config --tool {names[0]} ..."
        )
    if not names or names == ["entrepot"]:
        return "", OwnSettings(context.around)
    around = replace(context.around, python=interpreter(context.args.python, context.around))
    tool = context.tools[0]  # whose name may be another than that which was asked for
    settings = tool.settings(around)
    if settings is None:
        raise UsageError(
            f"entrepot does not edit the configuration of {tool.name}",
            hint=f"entrepot where {tool.name} names what decides",
        )
    return tool.name, settings


def _list(context: Context) -> int:
    tool, settings = _settings(context)
    if tool:
        return _list_of_tool(context, settings)
    resolved, rows, records = context.settings, [], []
    context.warn_of_settings()
    for key in KEYS:
        layers = resolved.said[key.name]
        value = show_value(key, layers[0].value)
        rows.append([f"{key.name} = {value}", layers[0].source])
        rows += (
            [[f"  (not used: {low.text})", low.source] for low in layers[1:]]
            if context.args.origin
            else []
        )
        shadowed = [{"kind": s.kind, "source": s.source, "value": s.text} for s in layers[1:]]
        origin = {"kind": layers[0].kind, "source": layers[0].source}
        records.append({"key": key.name, "value": value, "origin": origin, "shadowed": shadowed})
    _show(context, rows)
    context.out.document(settings=records)
    return DONE


def _list_of_tool(context: Context, settings: Settings) -> int:
    _complain(context, settings)
    items = list(settings.items())
    _show(context, [[f"{key} = {' '.join(value.split())}", source] for key, value, source in items])
    records = [
        {"key": key, "value": value, "origin": {"kind": "", "source": source}, "shadowed": []}
        for key, value, source in items
    ]
    context.out.document(settings=records)
    return DONE


def _show(context: Context, rows: list[list[str]]) -> None:
    if context.args.origin:
        columns = ("SETTING", "FROM")
        context.out.table(columns, rows)
    else:
        for setting, _ in rows:
            context.out.line(setting)


def _get(context: Context) -> int:
    tool, settings = _settings(context)
    key = context.args.key
    # for entrepot itself the flags count too
    value = (
        settings.get(key)
        if tool
        else show_value(known_key(key), context.settings.said[key][0].value)
    )
    context.out.document(key=key, value=value)
    if value is None:
        context.out.note(f"{key} is not set.")
        return FAILED
    context.out.line(value)
    return DONE


def _set(context: Context) -> int:
    tool, settings = _settings(context)
    key, value = context.args.key, context.args.value
    if context.args.persist == "env":
        return _variable(context, settings, key, value)
    return _report(context, tool, settings, settings.set(key, value))


def _unset(context: Context) -> int:
    tool, settings = _settings(context)
    if context.args.persist == "env":
        return _variable(context, settings, context.args.key, None)
    return _report(context, tool, settings, settings.unset(context.args.key))


def _variable(context: Context, settings: Settings, key: str, value: str | None) -> int:
    """Print the line that sets a variable: no program can set one in the shell that started it."""
    if not isinstance(settings, Exporting):
        raise UsageError("no variable stands for a setting of this tool", hint="--persist config")
    variable, change = settings.export(key, value)
    around, out = context.around, context.out
    line = shell_line(variable, value, around.platform, around.environ.get("SHELL", ""))
    out.line(line)
    found = set_where(variable, around)
    if found:
        out.note(f"{variable} is set in {found}: change it there.")
    elif value is not None and around.platform != "win32" and not line.startswith("set -U"):
        out.note(f"Add this line to {out.place(shell_files(around)[0], around.home)}.")
    out.document(change=change_record(replace(change, native=line)))
    return DONE


def _undo(context: Context) -> int:
    tool, settings = _settings(context)
    journal, name = UndoJournal(context.around), tool or "entrepot"
    last = journal.last(name)
    if last is None:
        context.out.note(f"Nothing to undo for {name}.")
        context.out.document(change=None)
        return FAILED
    if last.secret or not isinstance(settings, Restoring):
        journal.drop(name)
        why = (
            "a value held a credential, and credentials are stored nowhere"
            if last.secret
            else f"entrepot cannot undo changes of {name}"
        )
        raise ConfigError(
            f"{last.change.key} in {last.change.path} cannot be put back: {why}",
            name=last.change.key,
        )
    try:
        if not last.change.key:
            return _put_file_back(context, last, journal)
        change = settings.restore(last.change)
    except ChangedSince as exc:
        journal.drop(name)  # else it would stand in the way of those before it
        exc.hint = "--undo again takes back the change before it"
        raise
    remove_made(last.change)
    journal.drop(name)
    return _report(context, tool, settings, change, remember=False)


def _put_file_back(context: Context, last: Undone, journal: UndoJournal) -> int:
    put_file_back(last)
    remove_made(last.change)
    journal.drop(last.tool)
    path = last.change.path
    assert path is not None
    context.out.line(f"{context.out.place(path, context.around.home)} is as it was before")
    context.out.document(change=change_record(last.change))
    return DONE


def _mend(context: Context) -> int:
    tool, settings = _settings(context)
    if not isinstance(settings, Mending):
        if tool:
            raise UsageError(
                f"--mend cannot repair the settings of {tool}",
                hint=f"entrepot config --tool {tool} edit",
            )
        raise UsageError("--mend is for other tools' files; fix yours with entrepot config edit")
    out, home = context.out, context.around.home
    mends = Mends(path for path, _ in settings.problems())
    try:
        done = settings.mend()
    finally:
        kept = mends.remember(tool, UndoJournal(context.around))
    for path, sentences in done:
        for sentence in sentences:
            out.line(f"{out.place(path, home)}: {sentence}")
        if copy := kept.get(path):
            out.note(
                f"The old file is kept as {out.place(copy, home)}: it may hold a credential, "
                "which the journal never does."
            )
    left = settings.problems()
    if not done and not left:
        context.nothing_found(f"{tool} can read its settings")
    _complain(context, settings)
    out.document(
        mended=[
            {"path": path, "done": list(sentences), "kept": kept.get(path)}
            for path, sentences in done
        ]
    )
    return FAILED if left else DONE


def _complain(context: Context, settings: Settings) -> None:
    """Name the files that the tool itself cannot read, each with its line."""
    if isinstance(settings, Mending):
        for path, text in settings.problems():
            mending = (
                "" if context.args.mend else f"entrepot config --tool {context.args.tool[0]} --mend"
            )
            context.out.warn(
                "broken-settings", f"{context.args.tool[0]} cannot read {path}: {text}", mending
            )


def _report(
    context: Context, tool: str, settings: Settings, change: Change, *, remember: bool = True
) -> int:
    """Remember a change, ask the tool what it makes of it, and say all that.

    3 when the tool sees something else.
    """
    out = context.out
    if remember:
        UndoJournal(context.around).add(tool or "entrepot", change)
    if isinstance(settings, Asking) and change.before != change.after:
        change = settings.ask(change)
    before, after = (
        f"{shown(value, change.key)!r}" if value is not None else "not set"
        for value in (change.before, change.after)
    )
    if change.before == change.after:
        nothing = change.before is None
        out.line(
            f"{change.key} is {'not set: nothing to change' if nothing else f'already {before}'}"
        )
    elif not remember:
        out.line(f"Undone: {change.key} is {after} again")
    else:
        where = f" in {out.place(change.path, context.around.home)}" if change.path else ""
        out.line(f"{change.key}: {after} (was {before}){where}")
    by_hand = _masked(change).native  # empty too where a credential would have to be shown
    if tool and by_hand and change.before != change.after:
        out.hint(f"the same by hand: {by_hand}")
    if isinstance(settings, Asking):
        _say_answer(context, tool, change)
    elif change.after is not None and change.verified and change.verified != change.after:
        out.hint(f"in force: {shown(change.verified, change.key)}")
    out.document(change=change_record(_masked(change)))
    return PARTLY if change.differs else DONE


def _say_answer(context: Context, tool: str, change: Change) -> None:
    if change.differs:
        asks = (
            f"where {tool}"
            if change.key.rpartition(".")[2] in PLACES
            else f"config --tool {tool} list --origin"
        )
        text = f"saved, but not in force: {change.verified}"
        context.out.warn("not-in-force", text, hint=f"entrepot {asks}")
    elif change.verified:
        context.out.hint(f"{tool} confirms: {change.verified}")


def _masked(change: Change) -> Change:
    """The change as it may be shown: no credential."""
    if not any(holds_secret(value, change.key) for value in (change.before, change.after)):
        return change
    before, after = (
        None if value is None else shown(value, change.key)
        for value in (change.before, change.after)
    )
    return replace(change, before=before, after=after, native="")


def _edit(context: Context) -> int:
    import shlex
    import subprocess

    tool, settings = _settings(context)
    path = settings.file()
    before, made = read_exactly(path), not path.exists()
    if made:
        write_atomically(path, b"" if tool else TEMPLATE.encode())
    status = subprocess.run(
        [*shlex.split(_editor(context.around.environ)), str(path)], check=False
    ).returncode
    if status:
        context.out.note(f"The editor ended with status {status}.")
        return FAILED
    patch = patch_of(before, read_exactly(path), made=made)
    if may_be_secret(patch.before + patch.after):
        context.out.note(
            "--undo cannot take this back: the lines may hold a credential, "
            "and credentials are stored nowhere."
        )
    elif made or patch.before != patch.after:
        UndoJournal(context.around).add_file(tool or "entrepot", path, patch)
    _complain(context, settings)
    if not tool:
        context.warn_of_settings()  # raises what is wrong in it
    context.out.document(path=Path(path))
    return DONE


def _editor(environ: Mapping[str, str]) -> str:
    return (
        environ.get("VISUAL") or environ.get("EDITOR") or ("notepad" if os.name == "nt" else "vi")
    )


_VERBS: Mapping[str, Callable[[Context], int]] = {
    "get": _get,
    "set": _set,
    "unset": _unset,
    "list": _list,
    "edit": _edit,
}
