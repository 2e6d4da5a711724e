"""Options that several commands read alike: what picks entries, sizes, ages, kinds, interpreters.

Words in, values out.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from entrepot.caches.inventory import Filter
from entrepot.errors import FormatError, UsageError
from entrepot.ports.tool import Kind, Surroundings
from entrepot.sizes import parse_age, parse_size


def add_filter_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command's parser."""
    parser.add_argument(
        "--kind",
        action="append",
        default=[],
        metavar="KIND",
        help=f"only this kind: {', '.join(Kind)}",
    )
    parser.add_argument(
        "--built", action="store_true", help="only wheels built on this machine (= --kind built)"
    )
    parser.add_argument(
        "--older",
        metavar="AGE",
        help="only what was not used for that long: 36h, 90d, 12w, 6mo, 1y",
    )
    parser.add_argument(
        "--stale", action="store_true", help="only what is stale by its own headers"
    )
    parser.add_argument("--unused", action="store_true", help="only what no environment links to")


def make_filter(args: argparse.Namespace) -> Filter:
    """The filter that the options mean.

    Raises:
        UsageError: a kind or an age that is none.
    """
    return Filter(
        patterns=tuple(args.pattern),
        kinds=kinds(args.kind) | ({Kind.BUILT} if args.built else set()),
        older_s=age(args.older),
        stale=args.stale,
        unused=args.unused,
    )


def kinds(words: list[str]) -> frozenset[Kind]:
    """The kinds that ``--kind`` names, repeated or with commas.

    Raises:
        UsageError: one that is none.
    """
    return frozenset(_kind(word) for each in words for word in each.split(","))


def _kind(word: str) -> Kind:
    try:
        return Kind(word)
    except ValueError as exc:
        raise UsageError(f"{word!r} is no kind of entry", hint=f"one of {', '.join(Kind)}") from exc


def age(text: str | None) -> float | None:
    """Seconds of an age option.

    Raises:
        UsageError: not an age.
    """
    try:
        return None if text is None else parse_age(text)
    except FormatError as exc:
        raise UsageError(exc.message, hint=exc.hint) from exc


def size(text: str | None) -> int | None:
    """Bytes of a size option.

    Raises:
        UsageError: not a size.
    """
    try:
        return None if text is None else parse_size(text)
    except FormatError as exc:
        raise UsageError(exc.message, hint=exc.hint) from exc


def interpreter(text: str | None, around: Surroundings) -> Path | None:
    """The interpreter that ``--python`` means.

    Its path, a virtual environment's directory, or a name on PATH.

    Raises:
        UsageError: there is none.
    """
    if text is None:
        return None
    path = around.cwd / os.path.expanduser(text)
    tries = [path, path / "bin" / "python", path / "Scripts" / "python.exe"] if text else []
    if text and os.sep not in text:
        tries += [
            Path(folder, text)
            for folder in around.environ.get("PATH", "").split(os.pathsep)
            if folder
        ]
    for found in tries:
        if os.path.isfile(found) and os.access(found, os.X_OK):
            return found
    raise UsageError(
        f"there is no interpreter at {text!r}",
        hint="--python wants one, or the directory of a virtual environment",
    )
