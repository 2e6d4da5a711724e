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
from entrepot.config.history import UndoJournal, set_where, shell_files, shell_line
from entrepot.config.settings import KEYS, show_value
from entrepot.edits import holds_secret, masked, patch_of, read_bytes
from entrepot.errors import UsageError
from entrepot.fs import write_atomically
from entrepot.ports.tool import Change, Settings

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
    parser.add_argument("--python", metavar="PATH", help="the interpreter whose pip is meant")


def run(context: Context) -> int:
    """Carry out one verb, or take back the last change."""
    args = context.args
    if args.undo:
        if args.verb:
            raise UsageError("--undo stands alone", hint="entrepot config --tool pip --undo")
        if args.persist == "env":
            raise UsageError(
                "--undo cannot unset a variable", hint="entrepot config unset KEY --persist env"
            )
        return _undo(context)
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
    rows, records = [], []
    if tool:
        _complain(context, settings)
        for name, value, source in settings.items():
            rows.append([f"{name} = {' '.join(value.split())}", source])
            records.append(_setting(name, value, ("", source), []))
    else:
        said = context.settings.said
        context.warn_of_settings()
        for key in KEYS:
            first, *others = said[key.name]
            value = show_value(key, first.value)
            rows.append([f"{key.name} = {value}", first.source])
            if context.args.origin:
                rows += [[f"  (not used: {low.text})", low.source] for low in others]
            shadowed = [{"kind": s.kind, "source": s.source, "value": s.text} for s in others]
            records.append(_setting(key.name, value, (first.kind, first.source), shadowed))
    if context.args.origin:
        columns = ("SETTING", "FROM")
        context.out.table(columns, rows)
    else:
        for setting, _ in rows:
            context.out.line(setting)
    context.out.document(settings=records)
    return DONE


def _setting(
    key: str, value: str, origin: tuple[str, str], shadowed: list[dict[str, str]]
) -> dict[str, object]:
    where = {"kind": origin[0], "source": origin[1]}
    return {"key": key, "value": value, "origin": where, "shadowed": shadowed}


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


def _change(context: Context) -> int:
    """Set or unset a key."""
    tool, settings = _settings(context)
    key, value = context.args.key, context.args.value
    if context.args.persist == "env":
        return _variable(context, settings, key, value)
    change = settings.unset(key) if value is None else settings.set(key, value)
    return _report(context, tool, settings, change)


def _variable(context: Context, settings: Settings, key: str, value: str | None) -> int:
    """Print the line that sets a variable: no program can set one in the shell that started it."""
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
    out, name = context.out, tool or "entrepot"
    change = UndoJournal(context.around).undo(name)
    if change is None:
        out.note(f"Nothing to undo for {name}.")
        out.document(change=None)
        return FAILED
    if change.path and not change.key:
        out.line(f"{out.place(change.path, context.around.home)} is as it was before")
        out.document(change=change_record(change))
        return DONE
    return _report(context, tool, settings, change, undone=True)


def _complain(context: Context, settings: Settings) -> None:
    """Name the files that the tool itself cannot read, each with its line."""
    for path, text in settings.problems():
        tool = context.args.tool[0]
        edit = f"entrepot config --tool {tool} edit"
        context.out.warn("broken-settings", f"{tool} cannot read {path}: {text}", hint=edit)


def _report(
    context: Context, tool: str, settings: Settings, change: Change, *, undone: bool = False
) -> int:
    """Remember a change, ask the tool what it makes of it, and say all that.

    3 when the tool sees something else.
    """
    out = context.out
    if not undone:
        UndoJournal(context.around).add(tool or "entrepot", change)
    asked = settings.ask(change) if change.before != change.after else change
    before, after = (
        f"{masked(value, change.key)!r}" if value is not None else "not set"
        for value in (change.before, change.after)
    )
    if undone:
        out.line(f"Undone: {change.key} is {after} again")
    elif change.before == change.after:
        nothing = change.before is None
        out.line(
            f"{change.key} is {'not set: nothing to change' if nothing else f'already {before}'}"
        )
    else:
        where = f" in {out.place(change.path, context.around.home)}" if change.path else ""
        out.line(f"{change.key}: {after} (was {before}){where}")
    shown = _masked(asked)
    # empty too where a credential would have to be shown
    if tool and shown.native and change.before != change.after:
        out.hint(f"the same by hand: {shown.native}")
    if asked is not change:
        _say_answer(context, tool, asked)
    elif change.after is not None and change.verified and change.verified != change.after:
        out.hint(f"in force: {masked(change.verified, change.key)}")
    out.document(change=change_record(shown))
    return PARTLY if asked.differs else DONE


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
    before, after = (
        None if value is None else masked(value, change.key)
        for value in (change.before, change.after)
    )
    secret = any(holds_secret(value, change.key) for value in (change.before, change.after))
    return replace(
        change,
        before=before,
        after=after,
        verified=masked(change.verified, change.key),
        native="" if secret else change.native,
    )


def _edit(context: Context) -> int:
    import shlex
    import subprocess

    tool, settings = _settings(context)
    path = settings.file()
    before, made = read_bytes(path), not path.exists()
    if made:
        write_atomically(path, b"" if tool else TEMPLATE.encode())
    environ = context.around.environ
    usual = "notepad" if os.name == "nt" else "vi"
    editor = environ.get("VISUAL") or environ.get("EDITOR") or usual
    status = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode
    if status:
        context.out.note(f"The editor ended with status {status}.")
        return FAILED
    after = read_bytes(path)
    if made or before != after:
        patch = patch_of(before, after, made=made)
        edit = Change(path, "", None, None, "", patch=patch)
        if not UndoJournal(context.around).add(tool or "entrepot", edit):
            context.out.note(
                "--undo cannot take this back: the lines may hold a credential, "
                "and credentials are stored nowhere."
            )
    _complain(context, settings)
    if not tool:
        context.warn_of_settings()  # raises what is wrong in it
    context.out.document(path=Path(path))
    return DONE


_VERBS: Mapping[str, Callable[[Context], int]] = {
    "get": _get,
    "set": _change,
    "unset": _change,
    "list": _list,
    "edit": _edit,
}
