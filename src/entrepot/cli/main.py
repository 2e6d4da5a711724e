"""The command line: find the command, import it, run it, turn what it raises into an exit status.

A command is a module ``cmd_NAME`` with ``add_arguments(parser)`` and ``run(context) -> int``. Only
the one that is asked for is imported, so what stands here must stay light
(``tests/functional/test_startup.py``).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import NoReturn

from entrepot.cli.output import DONE, INTERRUPTED, PARTLY, Output, discard
from entrepot.errors import UsageError


@dataclass(frozen=True, slots=True)
class Command:
    """A command as ``--help`` knows it without importing it."""

    name: str
    group: str
    help: str
    aliases: tuple[str, ...] = ()
    takes_command: bool = False
    """Whether it runs another command: ``args.child`` is then what follows the first ``--`` (or the
    first word that is no option)."""
    failure: int | None = None
    """The exit status when entrepot itself fails; ``None``: what the error says."""

    @property
    def module(self) -> str:
        """The module that carries it out."""
        return f"entrepot.cli.cmd_{self.name}"


COMMANDS = (
    Command("status", "See", "what is cached, how big it is and what can go (the default)"),
    Command("where", "See", "where each cache is, and why there"),
    Command("list", "See", "what is in the caches, by project and version"),
    Command(
        "clean",
        "Free",
        "remove what is no longer needed, or old, or too much",
        ("prune", "gc", "purge"),
    ),
    Command("remove", "Free", "remove what matches a pattern"),
    Command("verify", "Trust", "check what is cached, and remove what is damaged"),
    Command(
        "run",
        "Use",
        "run a command with its downloads going through the cache",
        takes_command=True,
        failure=125,  # as `env` and `timeout` have it
    ),
    Command("warm", "Use", "fetch packages into the store, so that a later install works offline"),
    Command("config", "Other", "show and change settings, entrepot's own or a tool's"),
)

_ALIASED = {"purge": ["--all"]}
"""What an alias adds to the arguments."""

_WITH_VALUE = frozenset(("--tool", "--color", "--store"))

_DESCRIPTION = "One package cache for pip and conda, and for uv, mamba and pixi."


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong command line is an exception like any other."""

    def error(self, message: str) -> NoReturn:
        """Raise in place of exiting.

        Raises:
            UsageError: always.
        """
        raise UsageError(message, hint=f"{self.prog} --help")

    def flag(self, *names: str, help: str) -> None:  # noqa: A002 - as argparse calls it
        """An option without a value."""
        self.add_argument(*names, action="store_true", help=help)


def add_globals(parser: argparse.ArgumentParser) -> None:
    """The options that every command has."""
    options = parser.add_argument_group("options of every command")
    options.add_argument("-h", "--help", action="help", help="show this and exit")
    options.add_argument(
        "--tool",
        action="append",
        metavar="NAME",
        help="only this tool; several with commas or repeated",
    )
    options.add_argument("--json", action="store_true", help="answer with one JSON object")
    options.add_argument("-q", "--quiet", action="count", default=0, help="say less")
    options.add_argument("-v", "--verbose", action="count", default=0, help="say more")
    options.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colour the text (default: auto)",
    )
    options.add_argument("--no-progress", action="store_true", help="show no progress")
    options.add_argument("--store", metavar="DIR", help="directory of entrepot's own cache")
    options.add_argument(
        "--debug", action="store_true", help="show a traceback when something fails"
    )


def split(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The command's word, ``None`` when there is none, and the arguments without it."""
    skip = False
    for number, word in enumerate(argv):
        if skip:
            skip = False
        elif word == "--":
            break
        elif word.startswith("-"):
            skip = word in _WITH_VALUE
        else:
            return word, [*argv[:number], *argv[number + 1 :]]
    return None, list(argv)


def find_command(word: str) -> Command:
    """The command of that name or alias.

    Raises:
        UsageError: there is none; the nearest is in the hint.
    """
    for command in COMMANDS:
        if word == command.name or word in command.aliases:
            return command
    import difflib

    names = [command.name for command in COMMANDS]
    close = difflib.get_close_matches(word, names, n=1)
    raise UsageError(
        f"unknown command {word!r}",
        hint=f"did you mean `entrepot {close[0]}`?" if close else "entrepot --help",
    )


def build_parser(command: Command, module: ModuleType) -> Parser:
    """The parser of one command."""
    description = (module.__doc__ or "").strip().partition("\n\n")[0]
    parser = Parser(
        prog=f"entrepot {command.name}", description=description, add_help=False, allow_abbrev=False
    )
    module.add_arguments(parser)
    add_globals(parser)
    if command.takes_command:
        parser.usage = f"{parser.prog} [options] -- COMMAND..."
        parser.add_argument(
            "child",
            nargs=argparse.REMAINDER,
            metavar="-- COMMAND...",
            help="the command and its arguments",
        )
    return parser


def build_top_parser() -> Parser:
    """The parser that knows no command: for ``--help`` and ``--version``."""
    lines = []
    for group in dict.fromkeys(command.group for command in COMMANDS):
        lines.append(f"{group.lower()}:")
        lines += [
            f"  {command.name:<9} {command.help}" for command in COMMANDS if command.group == group
        ]
    parser = Parser(
        prog="entrepot",
        usage="entrepot [COMMAND] [options]",
        description=_DESCRIPTION,
        epilog="\n".join([*lines, "", "`entrepot COMMAND --help` says more."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    add_globals(parser)
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    return parser


def parse(argv: Sequence[str]) -> tuple[Command, ModuleType, argparse.Namespace]:
    """Find the command and parse its arguments.

    Raises:
        UsageError: the command line is wrong.
        SystemExit: ``--help`` was shown.
    """
    word, rest = split(argv)
    if word is None:
        args, unknown = build_top_parser().parse_known_args(rest)
        if args.version:
            from entrepot import __version__

            print(f"entrepot {__version__}")
            raise SystemExit(0)
        word, rest = "status", rest if unknown else list(argv)
    command = find_command(word)
    module = importlib.import_module(command.module)
    parser = build_parser(command, module)
    rest = [*_ALIASED.get(word, []), *rest]
    if command.takes_command and "--" in rest:
        # argparse has changed its mind about "--" and REMAINDER several times: decide here
        cut = rest.index("--")
        args = parser.parse_args(rest[:cut])
        args.child = [*args.child, "--", *rest[cut + 1 :]] if args.child else rest[cut + 1 :]
    else:
        args = parser.parse_args(rest)
    named = args.tool or ()
    args.tool = []
    for text in named:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if not names:  # `--tool "$UNSET"` must not come to mean every tool
            raise UsageError(
                f"--tool {text!r} names no tool", hint="leave it out to mean every tool"
            )
        args.tool += names
    return command, module, args


def main(argv: Sequence[str] | None = None) -> int:
    """Run entrepot.

    Args:
        argv: the arguments; the process's own when ``None``.

    Returns:
        The exit status.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    _open_streams()
    ours = argv[: argv.index("--")] if "--" in argv else argv
    out = Output(sys.stdout, sys.stderr, os.environ, as_json="--json" in ours)
    failure: int | None = None
    try:
        command, module, args = parse(argv)
        failure = command.failure
        out = Output(
            sys.stdout,
            sys.stderr,
            os.environ,
            command=command.name,
            as_json=args.json,
            quiet=args.quiet,
            verbose=args.verbose,
            color=args.color,
            progress=not args.no_progress,
        )
        from entrepot.cli.context import Context, surroundings

        context = Context(args, out, surroundings())
        try:
            status: int = module.run(context)
            out.flush()
            return PARTLY if status == DONE and context.incomplete else status
        finally:
            context.close()
    except SystemExit as exc:  # --help, --version
        try:
            out.flush()
        except BrokenPipeError:
            return _broken_pipe()
        return exc.code if isinstance(exc.code, int) else 0
    except BrokenPipeError:
        return _broken_pipe()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as exc:  # the edge: whatever it is, it becomes a sentence and an exit status
        if "--debug" in ours:
            raise
        status = out.error(exc)
        return status if failure is None else failure


def _open_streams() -> None:
    """A process may be started without standard output or error (``>&-``).

    What is written there then goes nowhere.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # As long as the process lives
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _broken_pipe() -> int:
    """The reader has gone (``entrepot list | head``): nothing may be flushed into it at exit."""
    discard(sys.stdout)
    return 0
