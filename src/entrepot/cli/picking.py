"""Options that several commands read alike: what picks entries, sizes, ages, kinds, interpreters.

Words in, values out.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from entrepot.caches.selection import Filter
from entrepot.cli.main import Parser
from entrepot.errors import FormatError, UsageError
from entrepot.ports.tool import Kind, Surroundings
from entrepot.sizes import parse_age, parse_size

T = TypeVar("T")


def add_filter_arguments(parser: Parser) -> None:
    """Add the options to a command's parser."""
    parser.add_argument(
        "--kind",
        action="append",
        default=[],
        metavar="KIND",
        help=f"only this kind: {', '.join(Kind)}",
    )
    parser.flag("--built", help="only wheels built on this machine (= --kind built)")
    parser.add_argument(
        "--older",
        metavar="AGE",
        help="only what was not used for that long: 36h, 90d, 12w, 6mo, 1y",
    )
    parser.flag("--stale", help="only what is stale by its own headers")
    parser.flag("--unused", help="only what no environment links to")


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


def described(args: argparse.Namespace) -> str:
    """What :func:`make_filter` was asked for, as it was given on the command line."""
    parts = [*args.pattern, *(f"--kind {word}" for word in args.kind)]
    parts += [f"--{name}" for name in ("built", "stale", "unused") if getattr(args, name)]
    for name in ("older", "used_by"):
        if (value := getattr(args, name, None)) is not None:
            parts.append(f"--{name.replace('_', '-')} {value}")
    return " ".join(parts)


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
        raise UsageError(f"unknown kind {word!r}", hint=f"one of {', '.join(Kind)}") from exc


def age(text: str | None) -> float | None:
    """Seconds of an age option.

    Raises:
        UsageError: not an age.
    """
    return None if text is None else _parsed(parse_age, text)


def size(text: str | None) -> int | None:
    """Bytes of a size option.

    Raises:
        UsageError: not a size.
    """
    return None if text is None else _parsed(parse_size, text)


def _parsed(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
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
