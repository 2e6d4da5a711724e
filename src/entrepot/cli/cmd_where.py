"""Where each cache is and why: the setting that decided, and those that it overrides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from entrepot.caches.records import place_record
from entrepot.cli.context import Context
from entrepot.cli.main import Parser
from entrepot.cli.output import DONE, FAILED
from entrepot.cli.picking import interpreter
from entrepot.ports.tool import ORPHANED, Layer, Place, Surroundings


def add_arguments(parser: Parser) -> None:
    """The options of ``where``."""
    parser.add_argument("name", nargs="*", metavar="TOOL", help="only these tools")
    parser.flag("--path", help="print the path in use and nothing else, for scripts")
    parser.add_argument("--python", metavar="PATH", help="the interpreter whose pip is meant")


def run(context: Context) -> int:
    """Show the places; with ``--path`` exit 1 when a tool has caching switched off."""
    args = context.args
    args.tool += args.name
    around = replace(context.around, python=interpreter(args.python, context.around))
    places: list[tuple[str, Sequence[Place]]] = [
        (tool.name, tool.places(around)) for tool in context.tools
    ]
    if args.path and not context.out.as_json:
        found = [mine[0].path for _, mine in places if mine]
        for path in found:
            context.out.line(str(path) if path else "")
        return DONE if found and all(found) else FAILED
    # the one in use comes first, but a list that the tool goes through is shown in the tool's own
    # order
    places = [
        (name, [_traced(around, p) for p in sorted(mine, key=lambda place: place.rank)])
        for name, mine in places
    ]
    context.warn_of_settings()
    shown = False
    for name, mine in places:
        if mine and shown:
            context.out.line()
        shown = shown or bool(mine)
        _show(context, mine)
        if not mine and args.tool:
            context.out.note(f"{name}: not found on this machine.")
    context.out.document(places=[place_record(place) for _, mine in places for place in mine])
    return DONE


def _traced(around: Surroundings, place: Place) -> Place:
    """The place, its variables with the line of the shell's file that sets each."""
    if not any(layer.kind == "environment" for layer in place.layers):
        return place
    from entrepot.config.history import set_where

    layers = []
    for layer in place.layers:
        line = set_where(layer.source, around) if layer.kind == "environment" else ""
        note = "; ".join(filter(None, (layer.note, line and f"set in {line}")))
        layers.append(replace(layer, note=note))
    return replace(place, layers=tuple(layers))


def _show(context: Context, places: Sequence[Place]) -> None:
    for place in places:
        path = (
            context.out.place(place.path, context.around.home) if place.path else "caching is off"
        )
        context.out.line(context.out.bold(f"{place.tool}   {path}") + "   " + _condition(place))
        for number, layer in enumerate(place.layers, start=1):
            context.out.line(_layer(context, number, layer))
        for note in place.notes:
            context.out.line(f"  ! {note}")
        if place.sources:
            context.out.line(f"  from  {', '.join(place.sources)}")


def _condition(place: Place) -> str:
    label = [place.label] if place.label else []
    if place.path is None:
        return ", ".join(label)
    if not place.usable:
        return ", ".join([*label, place.why_not])
    if place.label == ORPHANED:
        return place.label
    if not place.exists:
        return " ".join([*label, "(not created yet)"])
    return place.label or "in use"


def _layer(context: Context, number: int, layer: Layer) -> str:
    source, what = (
        _short(text, str(context.around.home)) for text in (layer.source, layer.value or "-")
    )
    note = layer.note.replace(f"{context.around.home}{os.sep}", f"~{os.sep}")
    if layer.wins:
        result, note = "<- wins", f" ({note})" if note else ""
    else:
        result, note = "not used", f": {note}" if note else ""
    return f"  {number}  {what:<38} {source:<32} {result}{note}".rstrip()


def _short(text: str, home: str) -> str:
    return f"~{text[len(home) :]}" if text.startswith(f"{home}{os.sep}") else text
